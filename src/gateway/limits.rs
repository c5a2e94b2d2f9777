//! How long the front desk waits, and for how many.

use std::time::Duration;

/// The bounds on what a client may take from this process.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; one more is answered 503 and closed.
    pub connections: usize,
    /// Time for a whole head, from its first byte on (from the accept on for the first one). No client needs seconds for it,
    /// and the engine itself only bounds the time between two reads.
    pub header_timeout: Duration,
    /// Time that a connection may be silent between two requests.
    pub idle_timeout: Duration,
    /// Time that a body may be silent. Windows gives up after two minutes: to give up first would turn its pauses into errors.
    pub body_timeout: Duration,
    /// Bytes per second that a body must bring on average over `body_timeout`; 0 = any.
    pub body_min_rate: u64,
    /// Time that a client may take no byte of what is sent to it.
    pub write_timeout: Duration,
    /// Bytes of an unread body that are read and thrown away to keep the connection.
    pub drain_bytes: u64,
    /// Time that this may take.
    pub drain_timeout: Duration,
    /// Time in which a client that was told to go away gets to read why, before unread bytes of it make the kernel reset the
    /// connection and the answer with it (RFC 9112 9.6).
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(120),
            body_timeout: Duration::from_secs(180),
            body_min_rate: 1024,
            write_timeout: Duration::from_secs(180),
            drain_bytes: 16 << 20,
            drain_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}
