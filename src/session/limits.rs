//! The numbers that the rules compare with.

use std::time::Duration;

/// Limits of a route, as the rules need them. What is fixed at Create-Session is in the record instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest fragment, in bytes.
    pub max_fragment_size: u64,
    /// Largest part, in bytes: a quarter of the memory budget. A file that needs larger ones is too large.
    pub max_part_size: u64,
    /// Whether the store wants all parts of a file to be alike: then the first fragment says how long they are.
    pub alike: bool,
}

impl Limits {
    /// How long after the record said `publishing` an unknown multipart upload counts as completed: far beyond the
    /// longest turn and the client's five minutes.
    pub const PUBLISHING_SETTLES: Duration = Duration::from_secs(15 * 60);

    /// How long a session that was noted as expiring has to stir before it ends: far beyond the oldest view that a replica acts on, and
    /// the longest turn.
    pub const EXPIRING_LASTS: Duration = Duration::from_secs(3600);
}
