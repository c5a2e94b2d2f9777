//! What a store must be able to do beyond `object_store`'s own traits: multipart uploads that any process can go on
//! with, and completion that depends on what the destination is.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use object_store::{ObjectStore, PutPayload, path::Path};
use url::Url;

use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// A bucket with multipart uploads. Implemented for the remote stores, for memory and for a local directory.
#[async_trait]
pub trait Bucket: std::fmt::Debug + Send + Sync {
    /// Plain objects: put (create if absent, compare-and-swap, overwrite), get, head, list, delete.
    fn objects(&self) -> &dyn ObjectStore;

    /// Whether an aborted upload is gone for good.
    fn forgets_uploads(&self) -> bool {
        true
    }

    /// Whether no condition is sent to the store from now on, and each is held by looking before instead: enough for one process. Says
    /// nothing to kinds of stores of which every one holds them.
    fn work_alone(&self, _alone: bool) {}

    /// What parts it takes. The usual answer is safe for every store.
    fn cutting(&self) -> Cutting {
        Cutting::Alike
    }

    /// Begins a multipart upload to `path`; the published object will name `session` where the store keeps metadata.
    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error>;

    /// Stores a part; storing the same part again is harmless.
    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error>;

    /// Stores a part that is copied from another object of the bucket without passing through here. `None` where the store has no such
    /// request, or not for this object: its bytes have to be read and stored.
    async fn copy_part(
        &self,
        _from: &Path,
        _to: &Path,
        _upload: &UploadId,
        _part: PartRange,
    ) -> Result<Option<PartId>, Error> {
        Ok(None)
    }

    /// Whether [`Bucket::copy_whole`] does anything here.
    fn copies_whole(&self) -> bool {
        false
    }

    /// Makes the object `to`, which names `session`, of the object `from` in one request, if `to` still is what the terms say. `None` where
    /// the store has no such request that takes a condition.
    async fn copy_whole(
        &self,
        _from: &Path,
        _to: &Path,
        _session: SessionId,
        _size: u64,
        _terms: Terms<'_>,
    ) -> Result<Option<ObjectTag>, CompleteError> {
        Ok(None)
    }

    /// A URL by which whoever has it may do this with the object, and nothing else, for as long as it says.
    async fn signed_url(&self, _method: Method, _path: &Path, _lasts: Duration) -> Result<Option<Url>, Error> {
        Ok(None)
    }

    /// The file that is the object, where it is one on this machine.
    fn file(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    /// Makes it possible that somebody else writes the file that is the object.
    async fn make_way(&self, _path: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Makes safe what somebody else wrote as the file that is the object.
    async fn adopt(&self, _path: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// What the published object will be known by, where that can be told before completion.
    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error>;

    /// Publishes the parts as one object, if the destination still is what the terms say and it is not too late to begin. Repeating it
    /// after a lost answer is harmless: an object that is this session's own counts as success.
    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError>;

    /// Forgets an upload and its parts; one that is unknown counts as forgotten.
    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error>;

    /// Removes what the publication of an ended session may have left beside its file. Nothing is left by most kinds of stores.
    async fn tidy(&self, _path: &Path, _session: SessionId) -> Result<(), Error> {
        Ok(())
    }

    /// The unfinished uploads to `path` and when they began, where the store can tell.
    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error>;
}
