//! Where the bytes of a download come from.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::store::{Error, Key, Store};

/// The bytes of a range, in pieces of any size.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, Error>>;

/// One destination in a store. A seam of its own, because only a double can replace a file between a look and a read.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// What is there; `None` when nothing is.
    async fn look(&self) -> Result<Option<(ObjectTag, Timestamp)>, Error>;

    /// Opens `range` of the object that `tag` names; [`Error::Conflict`] when another one is there by now.
    async fn read(&self, range: Range<u64>, tag: &ObjectTag) -> Result<Pieces, Error>;
}

/// A destination in a route's store.
pub(super) struct Destination {
    pub(super) store: Store,
    pub(super) key: Key,
}

#[async_trait]
impl Source for Destination {
    async fn look(&self) -> Result<Option<(ObjectTag, Timestamp)>, Error> {
        let seen = self.store.look(&self.key).await?;
        Ok(seen.map(|seen| (seen.tag, seen.modified)))
    }

    async fn read(&self, range: Range<u64>, tag: &ObjectTag) -> Result<Pieces, Error> {
        let read = self.store.read(&self.key, Some(range), Some(tag)).await?;
        Ok(read.stream)
    }
}
