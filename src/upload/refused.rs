//! Why a packet was not carried out.

use std::time::Duration;

use super::BodyBroken;
use crate::bits::Hresult;

/// Why a packet was not carried out. Which status and HRESULT each one gets is the front desk's to say.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// No such session, none of this client's, or an ended one: 500 + 0x8020001F (MC-BUP 3.2.5.2.3).
    #[error("no such session")]
    SessionNotFound,
    /// The destination exists and may not be replaced: 403 + 0x80070005 (MC-BUP 2.2.1.2).
    #[error("the destination exists")]
    Exists,
    /// The packet contradicts the session: 400 + 0x80070057.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// The file is larger than the route allows: 500 + 0x80200020.
    #[error("the file is larger than allowed")]
    TooLarge,
    /// The fragment is larger than the route allows: 413.
    #[error("the fragment is larger than allowed")]
    FragmentTooLarge,
    /// The fragment begins beyond the next offset: 416.
    #[error("the fragment is not the next one")]
    OutOfStep,
    /// The session lost what it stood on and was given up: 500 + 0x8020001F, the client starts again by itself.
    #[error("the session was given up: {0}")]
    Lost(&'static str),
    /// Momentary trouble: 503 with `Retry-After`.
    #[error("{why}")]
    Busy {
        /// When to come back.
        retry_after: Duration,
        /// What is in the way, for the log.
        why: String,
    },
    /// The store is full: 500 + 0x80070070.
    #[error("the store is full: {0}")]
    Full(String),
    /// The server application did not take the file: its status, or what stands for one, with context 0x7 (MC-BUP 3.2.5.1.3).
    #[error("{why}")]
    Application {
        /// The status.
        status: u16,
        /// The error code.
        code: Hresult,
        /// For the log.
        why: String,
    },
    /// The body broke off or was not what its headers announced.
    #[error(transparent)]
    Body(#[from] BodyBroken),
}
