//! One process-wide budget of buffered bytes.
