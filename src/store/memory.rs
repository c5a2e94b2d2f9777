//! A bucket in memory: for tests and for trying things out. Everything is gone with the process. It can be given a size, beyond
//! which it is full as a disk is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{BoxStream, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, path::Path,
};

use super::bucket::Bucket;
use super::objects::{Standing, look_at, standing};
use super::terms::TooLate;
use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::clock::{Clock, SystemClock, Timestamp, random_id};
use crate::session::ObjectTag;
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};
use crate::units::ByteSize;

/// What a bucket that is full says.
pub(super) const FULL: &str = "no space left";

/// A bucket in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryBucket {
    objects: InMemory,
    uploads: Mutex<HashMap<UploadId, Upload>>,
    /// None: as large as the memory of the machine.
    room: Option<Room>,
}

/// How many bytes there may be, in objects and in parts.
#[derive(Debug)]
struct Room {
    bytes: u64,
    /// No fewer than there are: what is deleted counts until there seems to be no room left.
    used: tokio::sync::Mutex<u64>,
}

/// Room for bytes that are about to be stored; until they are, nobody else stores any.
struct Claim<'a> {
    used: tokio::sync::MutexGuard<'a, u64>,
    bytes: u64,
}

impl Claim<'_> {
    /// The bytes are stored.
    fn keep(mut self) {
        *self.used += self.bytes;
    }
}

#[derive(Debug)]
struct Upload {
    path: Path,
    began: Timestamp,
    parts: BTreeMap<u32, (PartId, PutPayload)>,
}

impl MemoryBucket {
    /// A bucket that is full when it holds this many bytes.
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            room: Some(Room {
                bytes,
                used: tokio::sync::Mutex::default(),
            }),
            ..Self::default()
        }
    }

    /// A bucket with these options: `memory_size` says, with a unit, how many bytes it holds; without it, what the machine has.
    pub(super) fn with(options: &BTreeMap<String, String>) -> Result<Self, String> {
        const SIZE: &str = "memory_size";
        if let Some(other) = options.keys().find(|key| *key != SIZE) {
            return Err(format!("memory takes the option `{SIZE}` only, but there is `{other}`"));
        }
        match options.get(SIZE) {
            Some(size) => Ok(Self::of(size.parse::<ByteSize>()?.bytes())),
            None => Ok(Self::default()),
        }
    }

    /// Room for `payload`. Replacing an object takes room for both, as it does on a disk.
    async fn room_for(&self, payload: &PutPayload) -> object_store::Result<Option<Claim<'_>>> {
        let Some(room) = &self.room else { return Ok(None) };
        let bytes = payload.content_length() as u64;
        let mut used = room.used.lock().await;
        if used.saturating_add(bytes) > room.bytes {
            *used = self.count().await?;
        }
        if used.saturating_add(bytes) > room.bytes {
            return Err(object_store::Error::Generic {
                store: "memory",
                source: format!("{FULL} for {bytes} bytes: {used} of {} are used", room.bytes).into(),
            });
        }
        Ok(Some(Claim { used, bytes }))
    }

    /// How many bytes there are.
    async fn count(&self) -> object_store::Result<u64> {
        let objects: Vec<ObjectMeta> = self.objects.list(None).try_collect().await?;
        let in_objects: u64 = objects.iter().map(|object| object.size).sum();
        let in_parts: usize = self
            .uploads()
            .values()
            .flat_map(|upload| upload.parts.values())
            .map(|(_, payload)| payload.content_length())
            .sum();
        Ok(in_objects + in_parts as u64)
    }

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
        self
    }

    fn cutting(&self) -> Cutting {
        Cutting::Claimed
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
        let claim = self.room_for(&payload).await?;
        // As on S3: the same bytes get the same id, so that a part that is stored twice stays the one that the record lists.
        let mut hasher = DefaultHasher::new();
        payload.iter().for_each(|chunk| hasher.write(chunk));
        let id = PartId(format!("{:016x}", hasher.finish()).into());
        let mut uploads = self.uploads();
        let found = uploads.get_mut(upload).filter(|found| found.path == *path);
        let found = found.ok_or(Error::UnknownUpload)?;
        found.parts.insert(part.index, (id.clone(), payload));
        drop(uploads);
        claim.into_iter().for_each(Claim::keep);
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
        terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let payload = match self.assemble(path, upload, parts) {
            Ok(payload) => payload,
            Err(CompleteError::UnknownUpload) => {
                let seen = look_at(&self.objects, path).await?;
                return match standing(seen.as_ref(), session, size, terms.before) {
                    Standing::Ours(tag) => Ok(tag),
                    Standing::AsBefore | Standing::Changed => Err(CompleteError::UnknownUpload),
                };
            }
            Err(error) => return Err(error),
        };
        let options = terms.put(session);
        TooLate::check(&options.extensions).map_err(Error::from)?;
        // The map of objects checks the condition and stores under one lock of its own. No room is claimed: the bytes of the parts
        // become those of the object.
        let result = match self.objects.put_opts(path, payload, options).await.map_err(Error::from) {
            Ok(result) => result,
            Err(Error::Conflict) => {
                let seen = look_at(&self.objects, path).await?;
                return match standing(seen.as_ref(), session, size, terms.before) {
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

/// The plain objects. Only a put has more to do than the map of objects has: nobody here copies, nor uploads in parts this way.
#[async_trait]
impl ObjectStore for MemoryBucket {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let claim = self.room_for(&payload).await?;
        TooLate::check(&options.extensions)?;
        let result = self.objects.put_opts(path, payload, options).await?;
        claim.into_iter().for_each(Claim::keep);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

impl fmt::Display for MemoryBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::session::Before;
    use crate::staging::PartPlan;

    fn full<T>(result: Result<T, impl Into<Error>>) -> bool {
        matches!(result.map_err(Into::into), Err(Error::Full(_)))
    }

    fn bytes(length: usize) -> PutPayload {
        PutPayload::from(Bytes::from(vec![7; length]))
    }

    #[tokio::test]
    async fn a_bucket_is_full_at_its_size_and_not_before() {
        let bucket = MemoryBucket::of(100);
        let (one, other) = (Path::from("one"), Path::from("other"));
        bucket.put(&one, bytes(100)).await.unwrap();
        assert!(full(bucket.put(&other, bytes(1)).await));
        bucket.put(&other, bytes(0)).await.unwrap();
        bucket.delete(&one).await.unwrap();
        bucket.put(&other, bytes(100)).await.unwrap();
    }

    #[tokio::test]
    async fn parts_take_room_until_they_are_given_up() {
        let bucket = MemoryBucket::of(100);
        let (path, session) = (Path::from("file"), SessionId::new(random_id()));
        let part = PartPlan::new(60, 120).part_at(0);
        let upload = bucket.begin(&path, session).await.unwrap();
        bucket.put_part(&path, &upload, part, bytes(60)).await.unwrap();
        assert!(full(bucket.put(&Path::from("other"), bytes(60)).await));
        let second = PartPlan::new(60, 120).part_at(60);
        assert!(full(bucket.put_part(&path, &upload, second, bytes(60)).await));
        bucket.abort(&path, &upload).await.unwrap();
        bucket.put(&Path::from("other"), bytes(100)).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_just_fits_can_be_published_from_its_parts() {
        let bucket = MemoryBucket::of(100);
        let (path, session) = (Path::from("file"), SessionId::new(random_id()));
        let part = PartPlan::new(100, 100).part_at(0);
        let upload = bucket.begin(&path, session).await.unwrap();
        let id = bucket.put_part(&path, &upload, part, bytes(100)).await.unwrap();
        let parts = [RecordedPart(id, 100)];
        let done = bucket
            .complete(&path, session, &upload, &parts, Terms::whenever(&Before::Absent), None)
            .await;
        assert_eq!(done.unwrap().size, 100);
        assert!(full(bucket.put(&Path::from("other"), bytes(1)).await));
    }

    #[tokio::test]
    async fn what_was_refused_for_another_reason_takes_no_room() {
        let bucket = MemoryBucket::of(100);
        let path = Path::from("file");
        let create = || PutOptions::from(object_store::PutMode::Create);
        bucket.put_opts(&path, bytes(10), create()).await.unwrap();
        for _ in 0..20 {
            let again = bucket.put_opts(&path, bytes(10), create()).await.map_err(Error::from);
            assert!(matches!(again, Err(Error::Conflict)));
        }
        bucket.put(&Path::from("other"), bytes(90)).await.unwrap();
    }

    #[test]
    fn its_size_is_its_only_option() {
        let with = |key: &str, value: &str| MemoryBucket::with(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let room = with("memory_size", "2KiB").unwrap().room.map(|room| room.bytes);
        assert_eq!(room, Some(2048));
        assert!(MemoryBucket::with(&BTreeMap::new()).unwrap().room.is_none());
        assert!(with("memory_size", "2").unwrap_err().contains("no unit"));
        assert!(with("aws_region", "x").unwrap_err().contains("aws_region"));
    }
}
