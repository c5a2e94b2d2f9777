//! A bucket that keeps the sessions and forgets the files: what is left of an upload is the work of the gateway.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bits_gateway::bits::SessionId;
use bits_gateway::clock::Timestamp;
use bits_gateway::session::ObjectTag;
use bits_gateway::staging::{PartId, PartRange, RecordedPart, UploadId};
use bits_gateway::store::{Bucket, CompleteError, DEFAULT_RESERVED, Error, Terms};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::role::TALLY;

/// As long as the longest object that is kept in parts, or forgotten.
const LONGEST: usize = 64 << 20;

/// The bucket. Objects of more than one piece are kept as those pieces: `InMemory` would copy them into one, and a stand-in of the same
/// length takes their place there.
#[derive(Debug)]
pub(crate) struct Nothing {
    objects: InMemory,
    pieces: Arc<Mutex<HashMap<Path, PutPayload>>>,
    zeros: Bytes,
    uploads: AtomicU64,
}

impl Nothing {
    pub(crate) fn new() -> Self {
        Self {
            objects: InMemory::new(),
            pieces: Arc::default(),
            zeros: Bytes::from(vec![0; LONGEST]),
            uploads: AtomicU64::new(0),
        }
    }

    fn pieces(&self) -> MutexGuard<'_, HashMap<Path, PutPayload>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(from: u64, payload: &PutPayload) {
        let mut at = from;
        for piece in payload {
            TALLY.look(at, piece);
            at += piece.len() as u64;
        }
    }
}

#[async_trait]
impl Bucket for Nothing {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    async fn begin(&self, _path: &Path, _session: SessionId) -> Result<UploadId, Error> {
        Ok(UploadId(self.uploads.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    async fn put_part(
        &self,
        _path: &Path,
        _upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        if payload.content_length() as u64 != part.len() {
            return Err(Error::Corrupt(format!("{part:?} is not as long as its range")));
        }
        Self::look(part.from, &payload);
        Ok(PartId(part.index.to_string().into()))
    }

    async fn mark(&self, _path: &Path, _upload: &UploadId) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn complete(
        &self,
        _path: &Path,
        _session: SessionId,
        _upload: &UploadId,
        parts: &[RecordedPart],
        _terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let listed = (0..).zip(parts).all(|(index, part)| *part.id().0 == *index.to_string());
        if !listed {
            return Err(CompleteError::InvalidPart("a part is missing".to_owned()));
        }
        let size = parts.last().map_or(0, RecordedPart::end);
        TALLY.count(size);
        Ok(ObjectTag {
            etag: Some("0".to_owned()),
            version: None,
            size,
        })
    }

    async fn abort(&self, _path: &Path, _upload: &UploadId) -> Result<(), Error> {
        Ok(())
    }

    async fn uploads(&self, _path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ObjectStore for Nothing {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let stand_in = PutPayload::from(self.zeros.slice(..payload.content_length()));
        if !path.as_ref().starts_with(DEFAULT_RESERVED) {
            Self::look(0, &payload);
            TALLY.count(payload.content_length() as u64);
            return self.objects.put_opts(path, stand_in, options).await;
        }
        if payload.iter().count() < 2 {
            return self.objects.put_opts(path, payload, options).await;
        }
        let put = self.objects.put_opts(path, stand_in, options).await?;
        self.pieces().insert(path.clone(), payload);
        Ok(put)
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.objects.get_opts(path, options).await?;
        if let Some(payload) = self.pieces().get(path) {
            let pieces = cut(payload, &found.range);
            found.payload = GetResultPayload::Stream(stream::iter(pieces.into_iter().map(Ok)).boxed());
        }
        Ok(found)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let pieces = Arc::clone(&self.pieces);
        let forget = move |path: &Path| drop(pieces.lock().unwrap_or_else(PoisonError::into_inner).remove(path));
        self.objects.delete_stream(paths.inspect_ok(forget).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("null store")
    }
}

fn cut(payload: &PutPayload, range: &Range<u64>) -> Vec<Bytes> {
    let mut at = 0;
    let mut found = Vec::new();
    for piece in payload {
        let (from, to) = (at, at + piece.len() as u64);
        at = to;
        let (begin, end) = (range.start.max(from), range.end.min(to));
        if begin < end {
            // Both lie within this piece.
            found.push(piece.slice((begin - from) as usize..(end - from) as usize));
        }
    }
    found
}
