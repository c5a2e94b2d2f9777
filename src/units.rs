//! Quantities as people write them, secrets that can't be printed, and the vocabulary in which every room states its settings.
//!
//! A leaf: the `Settings` of every room are made of what is here, and nothing here knows any of them.

mod http_origin;
pub mod knob;
mod secret;
mod size;
mod time;

pub use http_origin::HttpOrigin;
pub use secret::{Secret, SecretOr, SecretSource};
pub use size::ByteSize;
pub use time::{parse_duration, show_duration};
