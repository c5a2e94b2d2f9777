//! Marks beside a record: which of its events were delivered.

use object_store::{PutMode, PutPayload};

use super::keys::Name;
use super::patience::briefly;
use super::{Error, Store};
use crate::bits::SessionId;
use crate::session::EventKind;

/// What became of an event. It is the content of its mark, for people: that the mark is there is what counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// Somebody took it.
    Delivered,
    /// Nobody took it for as long as it was worth trying.
    Dropped,
}

impl Store {
    /// Marks an event as settled: from then on nobody delivers it. Who marks it a second time changes nothing.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn settle_event(&self, id: SessionId, kind: EventKind, how: Settled) -> Result<(), Error> {
        let path = self.layout().object(id, &Name::Event(kind));
        let body = match how {
            Settled::Delivered => PutPayload::from_static(b"delivered\n"),
            Settled::Dropped => PutPayload::from_static(b"dropped\n"),
        };
        briefly(self.sessions().put_opts(&path, body, PutMode::Overwrite.into())).await?;
        Ok(())
    }

    /// Forgets which events of a session were settled: once nobody remembers the session either.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn forget_events(&self, id: SessionId, kinds: &[EventKind]) -> Result<(), Error> {
        if kinds.is_empty() {
            return Ok(());
        }
        self.remove(id, kinds.iter().map(|kind| Name::Event(*kind)).collect())
            .await
    }
}
