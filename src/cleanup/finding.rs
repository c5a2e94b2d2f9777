//! What a sweep tells of what it does.

use serde::{Deserialize, Serialize};

use crate::bits::SessionId;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Sessions that were listed.
    pub sessions: u64,
    /// Sessions that were noted as expiring.
    pub expiring: u64,
    /// Sessions that ended for want of progress.
    pub expired: u64,
    /// Tombstones that were removed.
    pub forgotten: u64,
    /// Objects without a session that were removed.
    pub orphans: u64,
    /// Multipart uploads that no record named and that were aborted.
    pub aborted: u64,
    /// Tombstones that are kept longer, because somebody is still to be told of what they stand for.
    #[serde(default)]
    pub waiting: u64,
    /// Sessions that could not be dealt with this time.
    pub failed: u64,
}

/// Something that a sweep does to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Notes it as expiring: it was silent for longer than its time-out, and has another hour.
    Expiring,
    /// Takes that back: something was stored since.
    Revived,
    /// Notes that its file is at its destination: its process died before it could.
    Published,
    /// Ends it for want of progress, and removes what is staged.
    Expired,
    /// Closes it in the place of its client: its file is published.
    Completed,
    /// Removes what a crash left beside its tombstone.
    Cleared,
    /// Removes its tombstone: it ended long enough ago.
    Forgotten,
    /// Removes objects that no record stands for.
    Orphans,
    /// Aborts multipart uploads to its key that no record names.
    Aborted,
    /// Keeps its tombstone although its time is over: not all of its events are delivered.
    Waits,
    /// Nothing, because of trouble: the next sweep tries again.
    Failed,
}

/// What a sweep does, or would do, to which session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub deed: Deed,
    /// The session.
    pub session: SessionId,
    /// The destination, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many objects or uploads go, where that is more than the session itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What was in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
