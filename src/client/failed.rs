//! How an upload fails, told so that the reader knows what to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::event::{Failure, Refusal, Trouble};
use super::source::SourceError;
use super::state::StateError;
use super::tls::TrustError;
use crate::bits::{ErrorContext, Hresult, PacketKind};

/// Why an upload was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was asked for something that can't be.
    #[error("{0}")]
    Usage(String),
    /// The local bytes.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The reply of the server application. The session is still open: the same command goes on with it.
    #[error("the reply at {url} can't be fetched: {why}")]
    Reply {
        /// Where it is.
        url: String,
        /// What is in the way.
        why: String,
        /// Whether it may work later.
        passes: bool,
    },
    /// The file for the reply.
    #[error("{} can't be written: {why}", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The certificates to believe.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server's certificate.
    #[error("{host} can't be trusted: {reason}")]
    Untrusted {
        /// The server.
        host: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The server refused, and would refuse again.
    #[error("{0}")]
    Refused(Refusal),
    /// What answered does not speak the protocol.
    #[error(
        "the server does not speak the BITS upload protocol at this URL: {0} (0x80200022, BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH)"
    )]
    NotBits(&'static str),
    /// Trouble that may pass did not.
    #[error("no progress for {}: {trouble}", seconds(*idle))]
    Unavailable {
        /// The last of it.
        trouble: Trouble,
        /// How long no byte was acknowledged.
        idle: Duration,
    },
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::NotBits(why) => Self::NotBits(why),
            Failure::Exhausted { trouble, idle } => Self::Unavailable { trouble, idle },
        }
    }
}

impl Failed {
    /// The exit code of a command that failed so: 64 for a mistake in what was asked, 69 when it may work later, else 1.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Source(SourceError::Unreadable { .. }) | Self::Trust(_) => 64,
            Self::State(StateError::OtherUrl { .. }) => 64,
            Self::Unavailable { .. } | Self::Reply { passes: true, .. } => 69,
            Self::Reply { .. } | Self::Unwritten { .. } => 1,
            Self::Source(_) | Self::State(_) | Self::Untrusted { .. } | Self::Refused(_) | Self::NotBits(_) => 1,
        }
    }

    /// What the user can do about it, as a sentence.
    pub fn advice(&self) -> Option<String> {
        let sentence = match self {
            Self::Source(SourceError::Changed) => "Upload it from the start: the same command with --restart.",
            Self::Untrusted { .. } => {
                "If its certificate comes from an authority of your own, name that with --ca-file."
            }
            Self::NotBits(_) => "Check the URL: the path must lie below a route of the gateway that takes uploads.",
            Self::Unavailable { trouble, .. } => {
                let meaning = match trouble {
                    Trouble::Answered(refusal) => refusal.advice(),
                    _ => None,
                };
                let resume = "The same command goes on where this one stopped.";
                return Some(meaning.map_or_else(|| resume.to_owned(), |meaning| format!("{meaning} {resume}")));
            }
            Self::Reply { .. } | Self::Unwritten { .. } => {
                "The upload itself is done, and the session is still open: the same command fetches the reply."
            }
            Self::Refused(refusal) => return refusal.advice(),
            Self::Usage(_) | Self::Source(_) | Self::State(_) | Self::Trust(_) => return None,
        };
        Some(sentence.to_owned())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = match self.packet {
            PacketKind::Ping => "Ping",
            PacketKind::CreateSession => "Create-Session",
            PacketKind::Fragment => "Fragment",
            PacketKind::CloseSession => "Close-Session",
            PacketKind::CancelSession => "Cancel-Session",
            PacketKind::Other => "request",
        };
        write!(f, "the server answered the {packet} with HTTP {}", self.status)?;
        if let Some(reason) = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
        {
            write!(f, " {reason}")?;
        }
        if let Some(error) = self.error {
            write!(f, ", {error}")?;
            if let Some(explanation) = error.explain() {
                write!(f, " {}", explanation.name)?;
            }
        }
        match self.context {
            Some(ErrorContext::RemoteFile) => f.write_str(", found by the server (context 0x5)"),
            Some(ErrorContext::RemoteApplication) => f.write_str(", reported by the server application (context 0x7)"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// What it means, and what somebody can do about it.
    fn advice(&self) -> Option<String> {
        if matches!(self.status, 300..=399) {
            return Some("Use the URL that the server redirects to: uploads do not follow redirects.".to_owned());
        }
        let code = self.error.filter(|error| error.explain().is_some());
        let explanation = code.unwrap_or(Hresult::of_status(self.status)).explain()?;
        Some(format!("{} {}", explanation.sentence, explanation.admin))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}
