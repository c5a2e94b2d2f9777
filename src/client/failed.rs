//! How an upload fails, told so that the reader knows what to do.

use std::fmt;
use std::time::Duration;

use super::event::{Failure, Refusal, Trouble};
use super::source::SourceError;
use super::state::StateError;
use super::tls::TrustError;
use crate::bits::{ErrorContext, PacketKind};

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
            Self::Unavailable { .. } => 69,
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
            Self::Unavailable { .. } => "The same command goes on where this one stopped.",
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
            write!(f, ", 0x{:08X}", error.0)?;
        }
        match self.context {
            Some(ErrorContext::RemoteFile) => f.write_str(", found by the server (context 0x5)"),
            Some(ErrorContext::RemoteApplication) => f.write_str(", reported by the server application (context 0x7)"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    fn advice(&self) -> Option<String> {
        let sentence = match self.status {
            401 | 407 => "The server asks for credentials, which this client can't send.",
            403 => "The file may be there already and may not be overwritten, or uploading to this URL is not allowed.",
            404 => "Check the URL: there is no place for uploads.",
            413 => {
                "The server takes no fragment of a size that BITS sends; its limit, or that of a proxy before it, is too low."
            }
            501 => "Uploads are disabled at this URL.",
            300..=399 => "Use the URL that the server redirects to: uploads are not redirected.",
            _ => return None,
        };
        Some(sentence.to_owned())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}
