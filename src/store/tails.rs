//! Tails: acknowledged bytes beyond the last recorded part, created once and never changed.

use bytes::Bytes;
use futures::stream::TryStreamExt;
use object_store::{GetOptions, ObjectMeta, PutMode, PutPayload};

use super::content::content;
use super::keys::Name;
use super::patience::{Patience, Unclear, briefly, worn_out};
use super::{Error, Store};
use crate::bits::SessionId;
use crate::session::Tails;

impl Store {
    /// Stores `bytes` as the tail that begins at the offset `from`, unless there is one.
    ///
    /// After an unclear answer the stored tail is read and compared: a tail of exactly these bytes is as good as one's own, whoever
    /// wrote it, because nobody ever changes it; anything else is somebody else's. No mark in the object could be surer, and
    /// not every store keeps marks.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there is a tail of other bytes; else trouble with the store.
    pub async fn create_tail(&self, id: SessionId, from: u64, bytes: Vec<Bytes>) -> Result<(), Error> {
        let path = self.layout().object(id, &Name::Tail(from));
        let payload: PutPayload = bytes.into_iter().collect();
        let mut patience = Patience::new();
        loop {
            let put = self.sessions().put_opts(&path, payload.clone(), PutMode::Create.into());
            let mut last = match put.await.map_err(|error| Unclear::from(Error::from(error))) {
                Ok(_) => return Ok(()),
                Err(Unclear::Failed(error)) => return Err(error),
                Err(Unclear::Look(error)) => error,
            };
            match self.holds(id, from, &payload).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(Error::Conflict),
                // Nothing is there: the condition still holds.
                Ok(None) => {}
                Err(error) => last = error,
            }
            if !patience.again().await {
                return Err(worn_out(last));
            }
        }
    }

    /// Whether the tail at `from` holds exactly `payload`; `None` when there is no tail.
    async fn holds(&self, id: SessionId, from: u64, payload: &PutPayload) -> Result<Option<bool>, Error> {
        match self.tail_length(id, from).await? {
            None => return Ok(None),
            Some(length) if length != payload.content_length() as u64 => return Ok(Some(false)),
            Some(_) => {}
        }
        match self.read_tail(id, from).await {
            Ok(found) => Ok(Some(same_bytes(&found, payload.as_ref()))),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many bytes the tail at `from` has; `None` when there is none.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn tail_length(&self, id: SessionId, from: u64) -> Result<Option<u64>, Error> {
        let path = self.layout().object(id, &Name::Tail(from));
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match briefly(self.sessions().get_opts(&path, options)).await {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the tail at `from`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none any more: a part covers it by now.
    pub async fn read_tail(&self, id: SessionId, from: u64) -> Result<Vec<Bytes>, Error> {
        let path = self.layout().object(id, &Name::Tail(from));
        let found = self.sessions().get_opts(&path, GetOptions::default()).await?;
        content(found).try_collect().await
    }

    /// Removes tails; those that are gone already count as removed.
    ///
    /// # Errors
    /// The first trouble with the store.
    pub async fn remove_tails(&self, id: SessionId, tails: Vec<u64>) -> Result<(), Error> {
        self.remove(id, tails.into_iter().map(Name::Tail).collect()).await
    }

    /// Lists the tails of a session: one request per 1,000.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn list_tails(&self, id: SessionId) -> Result<Tails, Error> {
        let objects = self.sessions().list(Some(&self.layout().tails(id)));
        let found: Vec<ObjectMeta> = briefly(objects.try_collect()).await?;
        let ranges = found
            .iter()
            .filter_map(|meta| match self.layout().parse(&meta.location)? {
                (_, Name::Tail(from)) => Some((from, from.saturating_add(meta.size))),
                _ => None,
            });
        Ok(ranges.collect())
    }
}

/// Whether two runs of chunks hold the same bytes, wherever each one is cut.
pub(super) fn same_bytes(one: &[Bytes], other: &[Bytes]) -> bool {
    let flat = |chunks: &[Bytes]| chunks.iter().map(Bytes::len).sum::<usize>();
    flat(one) == flat(other) && {
        let mut other = other.iter().flat_map(|chunk| chunk.iter());
        one.iter()
            .flat_map(|chunk| chunk.iter())
            .all(|byte| Some(byte) == other.next())
    }
}
