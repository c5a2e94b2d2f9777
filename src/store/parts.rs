//! Multipart uploads: parts that any process can go on with, and their publication as one object.

use bytes::Bytes;

use super::objects::{Standing, look_at, standing};
use super::{CompleteError, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};

impl Store {
    /// Begins a multipart upload to `key`; the published object will name `session` where the store keeps metadata.
    ///
    /// # Errors
    /// Trouble with the store. An upload may have begun all the same: nobody knows its id, the sweep clears it away.
    pub async fn begin(&self, key: &Key, session: SessionId) -> Result<UploadId, Error> {
        self.bucket_of(key).begin(&self.path(key)?, session).await
    }

    /// Stores a part; storing the same one again is harmless.
    ///
    /// # Errors
    /// [`Error::UnknownUpload`] when the upload was completed, aborted or dropped by the store; else trouble with the store.
    pub async fn put_part(
        &self,
        key: &Key,
        upload: &UploadId,
        part: PartRange,
        bytes: Vec<Bytes>,
    ) -> Result<PartId, Error> {
        let payload = bytes.into_iter().collect();
        self.bucket_of(key)
            .put_part(&self.path(key)?, upload, part, payload)
            .await
    }

    /// What the published object will be known by, on stores that can tell before completion (the local directory).
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn mark(&self, key: &Key, upload: &UploadId) -> Result<Option<String>, Error> {
        self.bucket_of(key).mark(&self.path(key)?, upload).await
    }

    /// Publishes the parts as one object if the destination still is what the terms say and it is not too late to begin. It may be repeated after
    /// a lost answer: an object of this session's own counts as success.
    ///
    /// # Errors
    /// [`CompleteError`].
    pub async fn complete(
        &self,
        key: &Key,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let path = self.path(key)?;
        let only = self.only_publisher(&path).await;
        if only.is_some() {
            let size = parts.last().map_or(0, RecordedPart::end);
            match standing(
                look_at(self.objects_at(key), &path).await?.as_ref(),
                session,
                size,
                terms.before,
            ) {
                Standing::Ours(tag) => return Ok(tag),
                Standing::AsBefore => {}
                Standing::Changed => return Err(CompleteError::Changed),
            }
        }
        self.bucket_of(key)
            .complete(&path, session, upload, parts, terms, mark)
            .await
    }

    /// Forgets an upload and its parts; one that is unknown counts as forgotten.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn abort(&self, key: &Key, upload: &UploadId) -> Result<(), Error> {
        self.bucket_of(key).abort(&self.path(key)?, upload).await
    }

    /// Removes what the publication of an ended session may have left beside its file.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn tidy(&self, key: &Key, session: SessionId) -> Result<(), Error> {
        match self.path(key) {
            Ok(path) => self.bucket_of(key).tidy(&path, session).await,
            // Nothing was ever published there.
            Err(_) => Ok(()),
        }
    }

    /// The unfinished uploads to `key` and when they began, by the clock of the store; empty where it can't tell.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn list_uploads(&self, key: &Key) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        self.bucket_of(key).uploads(&self.path(key)?).await
    }
}
