//! Why a head did not parse.

/// A message that breaks a rule of MC-BUP 2.2; `bits::Ack` knows which status each one gets (protocol digest, part 0).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The session id is not a GUID.
    #[error("the session id is not a GUID")]
    SessionId,
    // H1 completes the list
}
