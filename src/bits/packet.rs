//! The five packets (MC-BUP 2.2.2 to 2.2.10).

use super::{ContentRange, Malformed, SessionId};

/// A session id, and the text in which the client sent it: Acks echo the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentSessionId {
    /// What the text means.
    pub id: SessionId,
    /// The text as it came, at most 4,096 bytes.
    pub text: String,
}

/// How the length of the request's body was told by its framing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// A `Content-Length`.
    Known(u64),
    /// `Transfer-Encoding: chunked` alone.
    Chunked,
    /// Neither of them.
    Absent,
}

/// A fragment of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fragment {
    /// The session it belongs to.
    pub session: SentSessionId,
    /// The bytes that the body holds.
    pub range: ContentRange,
}

/// A request of the protocol, parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// Is somebody there? Touches nothing.
    Ping,
    /// Begin a session; the list of protocols held ours.
    CreateSession,
    /// Bytes of the file.
    Fragment(Fragment),
    /// The upload is done, or given up before its end.
    CloseSession(SentSessionId),
    /// Forget the upload.
    CancelSession(SentSessionId),
}

/// Which kind a packet is: known even when the rest of it did not parse.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PacketKind {
    /// Ping.
    Ping,
    /// Create-Session.
    CreateSession,
    /// Fragment.
    Fragment,
    /// Close-Session.
    CloseSession,
    /// Cancel-Session.
    CancelSession,
    /// Anything else, or nothing.
    Other,
}

impl Packet {
    /// Reads a request with the method `BITS_POST`.
    ///
    /// # Errors
    /// The first rule of MC-BUP 2.2 that the head breaks.
    pub fn parse(_headers: &http::HeaderMap, _body: BodyLength) -> Result<Self, Malformed> {
        Err(Malformed::SessionId)
    }
}
