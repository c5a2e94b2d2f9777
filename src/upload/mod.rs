//! The floor: carries out what `session` decides, one packet at a time per session.

mod body;
mod place;
mod refused;
mod settings;

pub use body::{Body, BodyBroken};
pub use place::{Asked, Coordination, Durability, Place, Rules};
pub use refused::Refused;
pub use settings::{MemorySettings, Settings};

use std::sync::Arc;

use crate::bits::{ContentRange, SessionId};

/// Every upload of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads {}

/// What became of a fragment.
#[derive(Debug)]
pub struct Fragmented {
    /// The true next offset, when the session is known: every Ack of a fragment carries it (protocol digest, part 0).
    pub next: Option<u64>,
    /// Whether the fragment was taken.
    pub verdict: Result<(), Refused>,
}

impl Uploads {
    /// Begins a session.
    ///
    /// # Errors
    /// [`Refused::Exists`], or trouble with the store.
    pub async fn create(&self, _place: &Arc<Place>, _asked: Asked) -> Result<SessionId, Refused> {
        Err(Refused::SessionNotFound)
    }

    /// Takes a fragment. The body is read only as far as the fragment is wanted: draining the rest is the caller's.
    pub async fn fragment(
        &self,
        _place: &Arc<Place>,
        _asked: &Asked,
        _id: SessionId,
        _range: ContentRange,
        _body: &mut impl Body,
    ) -> Fragmented {
        Fragmented {
            next: None,
            verdict: Err(Refused::SessionNotFound),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn close(&self, _place: &Arc<Place>, _asked: &Asked, _id: SessionId) -> Result<(), Refused> {
        Err(Refused::SessionNotFound)
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn cancel(&self, _place: &Arc<Place>, _asked: &Asked, _id: SessionId) -> Result<(), Refused> {
        Err(Refused::SessionNotFound)
    }

    /// The next offset of a session that `asked` may know of: for the Acks of fragments that were refused before they came here.
    pub async fn next_offset(&self, _place: &Arc<Place>, _asked: &Asked, _id: SessionId) -> Option<u64> {
        None
    }
}
