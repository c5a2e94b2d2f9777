//! A local directory as a bucket: plain files, each under its plain name.
//!
//! `object_store`'s own local store has no compare-and-swap, no uploads that another process can go on with, refuses
//! some names, and leaves files behind when it is killed; so every file is read and written here.
//!
//! What holds, on every file system that passes the examination at the start:
//! - A file appears at once and whole. Kill the process at any point and there is the old file or the new one.
//! - What was answered `Ok`, and what was read or listed, survives a power cut.
//! - A tag is never given to two contents of a name.
//! - One process per directory; within it, all conditions hold between all users. Of other programs only "if absent" is
//!   safe.

mod durable;
mod fault;
mod file;
mod multipart;
mod objects;
mod publish;
mod root;
mod walk;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path as Name;
use object_store::{ObjectStore, PutPayload};
use tokio::sync::Semaphore;

use self::fault::Fault;
pub(super) use self::fault::meaning;
pub(super) use self::root::OpenFailure;
use self::root::Root;
use super::bucket::Bucket;
use super::{CompleteError, Error};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};

/// Permits for reads and lists, one each: how many threads of the runtime's pool they may keep busy.
const READS: u32 = 32;

/// Permits for writes. A disk is fastest with many small writers (their syncs share a commit of the journal), but with
/// few large ones; so a write costs more the larger it is.
const WRITES: u32 = 64;

/// Bytes per permit.
const BYTES_PER_PERMIT: usize = 2 * 1024 * 1024;

/// Permits of the largest write: as many run at once as a disk likes, eight.
const MOST_PERMITS: u32 = WRITES / 8;

/// A directory on this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LocalDirectory {
    root: Arc<Root>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl LocalDirectory {
    /// Opens `root`, which is made if it is missing. Blocks.
    pub(super) fn open(root: &Path) -> Result<Self, OpenFailure> {
        Ok(Self {
            root: Root::open(root)?,
            reads: Arc::new(Semaphore::new(READS as usize)),
            writes: Arc::new(Semaphore::new(WRITES as usize)),
        })
    }

    async fn read<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.work(&self.reads, 1, work).await
    }

    async fn write<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permits = u32::try_from(bytes / BYTES_PER_PERMIT)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        self.work(&self.writes, permits.min(MOST_PERMITS), work).await
    }

    async fn work<T: Send + 'static, E: From<Fault> + Send + 'static>(
        &self,
        gate: &Arc<Semaphore>,
        permits: u32,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permit = gate.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|closed| Fault::Stopped(closed.to_string()))?;
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&root);
            // Given back when the work is done, not when somebody stops waiting for it.
            drop(permit);
            result
        });
        done.await.map_err(|failed| Fault::Stopped(failed.to_string()))?
    }
}

#[async_trait]
impl Bucket for LocalDirectory {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    async fn begin(&self, path: &Name, session: SessionId) -> Result<UploadId, Error> {
        let path = path.clone();
        self.write(0, move |root| root.begin_upload(&path, session)).await
    }

    async fn put_part(
        &self,
        path: &Name,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.write(payload.content_length(), move |root| {
            root.write_part(&path, &upload, part, &payload)
        })
        .await
    }

    async fn mark(&self, path: &Name, upload: &UploadId) -> Result<Option<String>, Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.read(move |root| root.mark_of(&path, &upload).map(Some)).await
    }

    async fn complete(
        &self,
        path: &Name,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        before: &Before,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let (path, upload, parts) = (path.clone(), upload.clone(), parts.to_vec());
        let (before, mark) = (before.clone(), mark.map(ToOwned::to_owned));
        let completed = self.write(0, move |root| {
            Ok::<_, Fault>(root.complete_upload(&path, session, &upload, &parts, &before, mark.as_deref()))
        });
        completed.await.map_err(|fault| CompleteError::Store(fault.into()))?
    }

    async fn abort(&self, path: &Name, upload: &UploadId) -> Result<(), Error> {
        let (path, upload) = (path.clone(), upload.clone());
        self.write(0, move |root| root.abort_upload(&path, &upload)).await
    }

    async fn uploads(&self, path: &Name) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let path = path.clone();
        self.read(move |root| root.uploads(&path)).await
    }
}
