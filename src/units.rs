//! Byte sizes, durations, secrets.
