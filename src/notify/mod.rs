//! The messenger to the server application: one POST for each finished upload (MC-BUP 2.2.12, 2.2.13, 3.3). And [`events`]: the herald, who
//! tells others of what becomes of sessions.
//!
//! It carries what it is given and says what it heard. Whether somebody is to be told, and what follows from the answer, is decided by the
//! rules of sessions; where the file comes from and the reply goes to is the upload room's business. Nothing is held here but
//! the piece of a body that is on its way.

mod answer;
mod connection;
pub mod events;
mod letter;
mod messenger;
pub mod settings;
mod signature;
mod target;

pub use answer::{Heard, Replied};
pub use connection::Setup;
pub use events::{Herald, Settings as EventSettings};
pub use letter::{Content, Letter, Place};
pub use messenger::{Messenger, Pieces};
pub use settings::{Mode, Settings};
pub use target::Target;

use std::time::Duration;

use crate::bits::Hresult;

/// The longest `BITS-Reply-URL` in characters (MC-BUP 2.2.1.2).
pub const LONGEST_REPLY_URL: usize = 2200;

/// Why the server application did not take a file. The session stays as it is, and the next fragment tells the application again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It did not answer in time (MC-BUP 3.3.6).
    #[error("the server application did not answer within {0:?}")]
    TimedOut(Duration),
    /// It can't be reached, or broke off.
    #[error("the server application: {0}")]
    Unreachable(String),
    /// It said no. The win32 documentation tells which of these are final to a client.
    #[error("the server application answered {0}")]
    Status(u16),
    /// Its answer is not one: a body whose end can't be told from a broken connection (MC-BUP 3.3.5.3.2).
    #[error("the answer of the server application has a body and tells no length of it")]
    Malformed,
    /// The URL of its reply is longer than a client takes.
    #[error("the URL of the reply has {0} characters, at most {LONGEST_REPLY_URL}")]
    UrlTooLong(usize),
    /// It sends clients where it may not send them.
    #[error("the server application sends clients to {0:?}, which notify.static_reply_origins does not list")]
    Elsewhere(String),
    /// Its reply is larger than the route allows.
    #[error("the reply of the server application is larger than notify.max_reply_size")]
    TooLarge,
}

impl Failure {
    /// The status that the client is told, and the error code with it: that of the application where it gave one.
    ///
    /// To a client 4xx is final, all but 408 and 409, and 5xx passes, all but 501 and 505 (win32 documentation, handling server
    /// application errors); so what an admin can put right is 5xx.
    pub const fn verdict(&self) -> (u16, Hresult) {
        let status = match self {
            Self::TimedOut(_) => 408,
            Self::Unreachable(_) | Self::Elsewhere(_) => 502,
            Self::Status(status) => return (as_told(*status), Hresult::of_status(*status)),
            Self::Malformed => return (411, Hresult::INVALID_ARGUMENT),
            Self::UrlTooLong(_) => return (400, Hresult::INVALID_ARGUMENT),
            Self::TooLarge => return (400, Hresult::TOO_LARGE),
        };
        (status, Hresult::of_status(status))
    }
}

/// The status of the application as an Ack may carry it.
const fn as_told(status: u16) -> u16 {
    match status {
        // In an Ack these speak of the fragment: the client would go back to another offset, or send smaller pieces, for ever.
        413 | 416 => 400,
        // The client would ask its user for a password to the gateway.
        401 | 407 => 403,
        300..=599 => status,
        _ => 502,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// win32 documentation, handling server application errors.
    #[test]
    fn what_is_final_to_a_client_stays_final_and_what_passes_passes() {
        let is_final = |status: u16| match status {
            300..=305 | 307 | 501 | 505 => true,
            408 | 409 => false,
            400..=499 => true,
            _ => false,
        };
        for status in 100..=999 {
            let (told, code) = Failure::Status(status).verdict();
            assert_eq!(is_final(told), is_final(status), "{status} is told as {told}");
            assert_eq!(code, Hresult::of_status(status));
            assert!(
                !matches!(told, 0..=299 | 401 | 407 | 413 | 416),
                "{status} is told as {told}"
            );
        }
    }

    #[test]
    fn what_an_admin_can_put_right_is_not_final() {
        let failures = [
            Failure::TimedOut(Duration::from_secs(1)),
            Failure::Unreachable("refused".to_owned()),
            Failure::Elsewhere("http://h".to_owned()),
        ];
        for failure in failures {
            assert!(matches!(failure.verdict().0, 408 | 502), "{failure}");
        }
    }
}
