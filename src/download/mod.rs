//! (room of its own)
