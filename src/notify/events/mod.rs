//! The herald: tells an HTTP endpoint what becomes of sessions, as CloudEvents 1.0.
//!
//! What there is to tell, and whether it was told, is kept in the store (`session::Announced`); who tells it, and when again, is decided by
//! those who call. Here are the envelope, the request, and the pauses between two tries.

mod backoff;
mod envelope;
mod herald;
pub mod settings;

pub use backoff::Backoff;
pub use envelope::Event;
pub use herald::Herald;
pub use settings::{Mode, Settings};

use std::time::Duration;

/// Why an event was not taken. It is told again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untaken {
    /// The endpoint did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It can't be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// It answered something else than 2xx.
    #[error("answered {0}")]
    Status(u16),
}
