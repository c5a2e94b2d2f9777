//! What happens during an upload, and how it ends when it does not end well. Pure.

use std::fmt;
use std::time::Duration;

use super::machine::Outgoing;
use crate::bits::{ErrorContext, Hresult, PacketKind};

/// What happens during an upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A session of an earlier run is taken up.
    Resumed {
        /// Its id.
        session: String,
        /// The offset of the next byte, as far as is known.
        offset: u64,
    },
    /// This packet is about to be sent.
    Sending(Outgoing),
    /// The bytes of the body before this offset of the file were handed to the network. That says nothing of their fate.
    Sent {
        /// Offset in the file.
        offset: u64,
    },
    /// The server answered.
    Answered {
        /// What it answered.
        packet: PacketKind,
        /// Its HTTP status.
        status: u16,
    },
    /// A session was created.
    Created {
        /// Its id.
        session: String,
    },
    /// The server answered a Ping.
    Reached,
    /// The server holds the bytes before `offset`, as expected.
    Stored {
        /// Offset of the next byte.
        offset: u64,
    },
    /// The server wants another offset than the client expected.
    Moved {
        /// What the client expected.
        from: u64,
        /// What the server wants.
        to: u64,
    },
    /// The server found the fragment too large.
    Shrunk {
        /// The largest fragment from now on, in bytes.
        most: u64,
    },
    /// The server does not know the session any more.
    SessionLost,
    /// Trouble that may pass: the upload goes on later.
    Troubled {
        /// What it was.
        trouble: Trouble,
        /// How long the client waits now.
        wait: Duration,
        /// The client goes back from the host that the server named to the host of the URL.
        back_to_origin: bool,
    },
    /// The session is closed.
    Closed,
    /// The upload can't go on.
    GivenUp,
}

/// Why a request brought no progress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// No whole answer came.
    Transport(String),
    /// The server answered with an error that may pass.
    Answered(Refusal),
    /// The answer breaks a rule of the protocol, so it is discarded (MC-BUP 3.1.5.2.2 to 3.1.5.2.6).
    Unusable(&'static str),
    /// The server keeps asking for offsets that lead nowhere.
    Stuck,
    /// The server lost the session again.
    Forgetful,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(text) => f.write_str(text),
            Self::Answered(refusal) => refusal.fmt(f),
            Self::Unusable(why) => write!(f, "the answer is not usable: {why}"),
            Self::Stuck => f.write_str("the server keeps asking for bytes that it was sent before"),
            Self::Forgetful => f.write_str("the server keeps forgetting the session"),
        }
    }
}

/// An answer that says no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was answered.
    pub packet: PacketKind,
    /// The HTTP status.
    pub status: u16,
    /// The code in `BITS-Error` or `BITS-Error-Code`.
    pub error: Option<Hresult>,
    /// Who found the error.
    pub context: Option<ErrorContext>,
}

/// Why an upload ended before its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The server refused, and would refuse again.
    Refused(Refusal),
    /// What answered the Create-Session does not speak the protocol.
    NotBits(&'static str),
    /// The trouble lasted too long.
    Exhausted {
        /// The last of it.
        trouble: Trouble,
        /// How long no byte was acknowledged.
        idle: Duration,
    },
}
