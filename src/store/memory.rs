//! A bucket in memory: for tests and for trying things out. Everything is gone with the process.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutOptions, PutPayload, path::Path};

use super::bucket::Bucket;
use super::objects::{Standing, attributes, look_at, mode_of, standing};
use super::{CompleteError, Error};
use crate::bits::SessionId;
use crate::clock::{Clock, SystemClock, Timestamp, random_id};
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};

/// A bucket in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryBucket {
    objects: InMemory,
    uploads: Mutex<HashMap<UploadId, Upload>>,
}

#[derive(Debug)]
struct Upload {
    path: Path,
    began: Timestamp,
    parts: BTreeMap<u32, (PartId, PutPayload)>,
}

impl MemoryBucket {
    fn uploads(&self) -> MutexGuard<'_, HashMap<UploadId, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of the listed parts, or why they can't be had.
    fn assemble(&self, path: &Path, upload: &UploadId, parts: &[RecordedPart]) -> Result<PutPayload, CompleteError> {
        let uploads = self.uploads();
        let found = uploads.get(upload).filter(|found| found.path == *path);
        let found = found.ok_or(CompleteError::UnknownUpload)?;
        let mut chunks = Vec::new();
        let mut from = 0;
        for (index, part) in (0..).zip(parts) {
            let (id, payload) = found.parts.get(&index).ok_or_else(|| invalid(index))?;
            if id != part.id() || from + payload.content_length() as u64 != part.end() {
                return Err(invalid(index));
            }
            chunks.extend(payload.iter().cloned());
            from = part.end();
        }
        Ok(chunks.into_iter().collect())
    }
}

fn invalid(index: u32) -> CompleteError {
    CompleteError::InvalidPart(format!("part {index} is not the one that was stored"))
}

#[async_trait]
impl Bucket for MemoryBucket {
    fn objects(&self) -> &dyn ObjectStore {
        &self.objects
    }

    async fn begin(&self, path: &Path, _session: SessionId) -> Result<UploadId, Error> {
        let id = UploadId(random_id().simple().to_string());
        let upload = Upload {
            path: path.clone(),
            began: SystemClock.now(),
            parts: BTreeMap::new(),
        };
        self.uploads().insert(id.clone(), upload);
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        // As on S3: the same bytes get the same id, so that a part that is stored twice stays the one that the record lists.
        let mut hasher = DefaultHasher::new();
        payload.iter().for_each(|chunk| hasher.write(chunk));
        let id = PartId(format!("{:016x}", hasher.finish()));
        let mut uploads = self.uploads();
        let found = uploads.get_mut(upload).filter(|found| found.path == *path);
        let found = found.ok_or(Error::UnknownUpload)?;
        found.parts.insert(part.index, (id.clone(), payload));
        Ok(id)
    }

    async fn mark(&self, _path: &Path, _upload: &UploadId) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        before: &Before,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let payload = match self.assemble(path, upload, parts) {
            Ok(payload) => payload,
            Err(CompleteError::UnknownUpload) => {
                let seen = look_at(&self.objects, path).await?;
                return match standing(seen.as_ref(), session, size, before) {
                    Standing::Ours(tag) => Ok(tag),
                    Standing::AsBefore | Standing::Changed => Err(CompleteError::UnknownUpload),
                };
            }
            Err(error) => return Err(error),
        };
        let options = PutOptions {
            mode: mode_of(before),
            attributes: attributes(session),
            ..PutOptions::default()
        };
        // The map of objects checks the condition and stores under one lock of its own.
        let result = match self.objects.put_opts(path, payload, options).await.map_err(Error::from) {
            Ok(result) => result,
            Err(Error::Conflict) => {
                let seen = look_at(&self.objects, path).await?;
                return match standing(seen.as_ref(), session, size, before) {
                    Standing::Ours(tag) => Ok(tag),
                    Standing::AsBefore | Standing::Changed => Err(CompleteError::Changed),
                };
            }
            Err(error) => return Err(error.into()),
        };
        self.uploads().remove(upload);
        Ok(ObjectTag {
            etag: result.e_tag,
            version: result.version,
            size,
        })
    }

    async fn abort(&self, _path: &Path, upload: &UploadId) -> Result<(), Error> {
        self.uploads().remove(upload);
        Ok(())
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let uploads = self.uploads();
        let of_path = uploads.iter().filter(|(_, upload)| upload.path == *path);
        Ok(of_path.map(|(id, upload)| (id.clone(), upload.began)).collect())
    }
}
