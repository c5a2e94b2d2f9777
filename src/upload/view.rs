//! What this process remembers of a session: a cache that may be stale.

use crate::budget::Reservation;
use crate::clock::{Timestamp, Uptime};
use crate::session::Session;
use crate::staging::Piece;
use crate::store::{Loaded, Version};

/// Bytes of the unfinished part, kept so that completing it needs no read. They count against the memory budget and are
/// given back whenever somebody else needs it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) piece: Piece,
    pub(super) memory: Reservation,
}

/// A session as this process knows it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) session: Session,
    pub(super) version: Version,
    /// When the store last modified the record, by its own clock; unknown after a write of ours.
    pub(super) modified: Option<Timestamp>,
    /// When the request began by which the record was last read or written: since then it may have changed.
    pub(super) looked: Uptime,
    /// When a packet was last at work on it.
    pub(super) used: Uptime,
    /// When the request began by which the tails were last listed.
    pub(super) listed: Uptime,
    /// Whether anything but the record may lie in the session's folder.
    pub(super) littered: bool,
    /// Whether acknowledged bytes are in `held` only (`durability = "part"`): without them this view is worth nothing.
    pub(super) volatile: bool,
    pub(super) held: Option<Held>,
}

impl View {
    /// The view of a session that was created by a request that began at `asked`.
    pub(super) fn created(session: Session, version: Version, asked: Uptime) -> Self {
        Self {
            session,
            version,
            modified: None,
            looked: asked,
            listed: asked,
            used: asked,
            littered: false,
            volatile: false,
            held: None,
        }
    }

    /// The view of a session that was loaded by requests of which the first began at `asked`.
    pub(super) fn loaded(loaded: Loaded, asked: Uptime) -> Self {
        Self {
            session: Session {
                record: loaded.stored.record,
                tails: loaded.tails,
            },
            version: loaded.stored.version,
            modified: Some(loaded.stored.modified),
            looked: asked,
            listed: asked,
            used: asked,
            littered: true,
            volatile: false,
            held: None,
        }
    }
}
