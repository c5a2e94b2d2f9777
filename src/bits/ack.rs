//! The answers (MC-BUP 2.2.3 to 2.2.11). H1 owns this file.

/// Where the client shall send the rest of its session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostId {
    /// Host name or address.
    pub host: String,
    /// After how many seconds of failure the client goes back to the original host.
    pub fallback_timeout: Option<std::time::Duration>,
}

/// An answer to a packet: status and headers. Its body is always empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ack {}
