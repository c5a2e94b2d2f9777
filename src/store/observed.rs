//! Counts and times every request to a bucket.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use http::Method;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use super::bucket::Bucket;
use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::metrics::{Metrics, StoreOperation, StoreOutcome};
use crate::session::ObjectTag;
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// A bucket whose requests are counted. What `object_store` repeats by itself counts as one request; so does a list of several
/// pages, and a deletion of several objects at once as one per object.
#[derive(Debug)]
pub(super) struct Observed {
    objects: Objects,
}

/// The plain objects of an observed bucket.
#[derive(Debug)]
struct Objects {
    bucket: Arc<dyn Bucket>,
    watch: Watch,
}

/// Where it is counted.
#[derive(Clone)]
struct Watch(Metrics);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Counts a request of which `outcome` says how it ended.
    async fn over<T, E>(
        &self,
        operation: StoreOperation,
        request: impl Future<Output = Result<T, E>>,
        outcome: impl FnOnce(&E) -> StoreOutcome,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let result = request.await;
        let outcome = result.as_ref().err().map_or(StoreOutcome::Ok, outcome);
        self.0.store_request(operation, outcome, begin.elapsed());
        result
    }

    /// Counts a stream once: at its end, or when nobody wants the rest.
    fn until_done(&self, stream: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut listing = Listing {
            watch: self.clone(),
            begin: Instant::now(),
            outcome: StoreOutcome::Ok,
        };
        // The listing is counted when the stream is dropped, and is kept by it until then.
        stream.inspect(move |item| listing.saw(item)).boxed()
    }
}

/// A list on its way.
struct Listing {
    watch: Watch,
    begin: Instant,
    outcome: StoreOutcome,
}

impl Listing {
    fn saw(&mut self, item: &Result<ObjectMeta>) {
        if let Err(error) = item {
            self.outcome = of_store(error);
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.watch
            .0
            .store_request(StoreOperation::List, self.outcome, self.begin.elapsed());
    }
}

/// How an error of the store counts.
fn of_store(error: &object_store::Error) -> StoreOutcome {
    of_error(&Error::from(error))
}

/// How an error of ours counts.
fn of_error(error: &Error) -> StoreOutcome {
    match error {
        Error::NotFound | Error::UnknownUpload => StoreOutcome::NotFound,
        Error::Conflict => StoreOutcome::Conflict,
        Error::Unavailable(_) => StoreOutcome::Unavailable,
        Error::Denied(_) => StoreOutcome::Denied,
        Error::Full(_) => StoreOutcome::Full,
        Error::BadName(_) | Error::Corrupt(_) | Error::Newer(_) => StoreOutcome::Failed,
    }
}

fn of_completion(error: &CompleteError) -> StoreOutcome {
    match error {
        CompleteError::Changed => StoreOutcome::Conflict,
        CompleteError::UnknownUpload => StoreOutcome::NotFound,
        CompleteError::InvalidPart(_) => StoreOutcome::Failed,
        CompleteError::Store(error) => of_error(error),
    }
}

impl Observed {
    pub(super) fn new(bucket: Arc<dyn Bucket>, metrics: Metrics) -> Self {
        let watch = Watch(metrics);
        Self {
            objects: Objects { bucket, watch },
        }
    }

    fn bucket(&self) -> &dyn Bucket {
        &*self.objects.bucket
    }

    async fn over<T>(
        &self,
        operation: StoreOperation,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.objects.watch.over(operation, request, of_error).await
    }
}

#[async_trait]
impl Bucket for Observed {
    fn objects(&self) -> &dyn ObjectStore {
        &self.objects
    }

    fn forgets_uploads(&self) -> bool {
        self.bucket().forgets_uploads()
    }

    fn work_alone(&self, alone: bool) {
        self.bucket().work_alone(alone);
    }

    fn cutting(&self) -> Cutting {
        self.bucket().cutting()
    }

    async fn tidy(&self, path: &Path, session: SessionId) -> Result<(), Error> {
        // Like what is left over, what it takes belongs to the completion, which is counted as one.
        self.bucket().tidy(path, session).await
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        self.over(StoreOperation::BeginMultipart, self.bucket().begin(path, session))
            .await
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        self.over(
            StoreOperation::PutPart,
            self.bucket().put_part(path, upload, part, payload),
        )
        .await
    }

    async fn copy_part(
        &self,
        from: &Path,
        to: &Path,
        upload: &UploadId,
        part: PartRange,
    ) -> Result<Option<PartId>, Error> {
        self.over(
            StoreOperation::CopyPart,
            self.bucket().copy_part(from, to, upload, part),
        )
        .await
    }

    async fn copy_whole(
        &self,
        from: &Path,
        to: &Path,
        session: SessionId,
        size: u64,
        terms: Terms<'_>,
    ) -> Result<Option<ObjectTag>, CompleteError> {
        if !self.bucket().copies_whole() {
            return Ok(None);
        }
        let request = self.bucket().copy_whole(from, to, session, size, terms);
        self.objects
            .watch
            .over(StoreOperation::CopyPart, request, of_completion)
            .await
    }

    fn copies_whole(&self) -> bool {
        self.bucket().copies_whole()
    }

    async fn signed_url(&self, method: Method, path: &Path, lasts: Duration) -> Result<Option<Url>, Error> {
        // Made here: the store is not asked.
        self.bucket().signed_url(method, path, lasts).await
    }

    fn file(&self, path: &Path) -> Option<PathBuf> {
        self.bucket().file(path)
    }

    async fn make_way(&self, path: &Path) -> Result<(), Error> {
        self.bucket().make_way(path).await
    }

    async fn adopt(&self, path: &Path) -> Result<(), Error> {
        self.bucket().adopt(path).await
    }

    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error> {
        // No store that is asked over a network has one.
        self.bucket().mark(path, upload).await
    }

    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let request = self.bucket().complete(path, session, upload, parts, terms, mark);
        self.objects
            .watch
            .over(StoreOperation::CompleteMultipart, request, of_completion)
            .await
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        self.over(StoreOperation::AbortMultipart, self.bucket().abort(path, upload))
            .await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        self.over(StoreOperation::ListMultipart, self.bucket().uploads(path))
            .await
    }
}

impl Objects {
    fn inner(&self) -> &dyn ObjectStore {
        self.bucket.objects()
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let request = self.inner().put_opts(location, payload, options);
        self.watch.over(StoreOperation::Put, request, of_store).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner().put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head {
            StoreOperation::Head
        } else {
            StoreOperation::Get
        };
        self.watch
            .over(operation, self.inner().get_opts(location, options), of_store)
            .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (watch, mut last) = (self.watch.clone(), Instant::now());
        let deletions = self.inner().delete_stream(locations).inspect(move |result| {
            let outcome = result.as_ref().err().map_or(StoreOutcome::Ok, of_store);
            watch.0.store_request(StoreOperation::Delete, outcome, last.elapsed());
            last = Instant::now();
        });
        deletions.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch.until_done(self.inner().list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.watch
            .over(StoreOperation::List, self.inner().list_with_delimiter(prefix), of_store)
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner().copy_opts(from, to, options).await
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream::TryStreamExt;

    use super::*;
    use crate::clock::random_id;
    use crate::store::{Key, Store};

    #[tokio::test]
    async fn every_request_is_counted_by_what_it_was_and_how_it_ended() {
        let metrics = Metrics::new([]);
        let store = Store::memory().observed(String::new(), &metrics);
        let (key, id) = (Key::parse("file").unwrap(), SessionId::new(random_id()));
        assert!(store.look(&key).await.unwrap().is_none());
        store
            .create_tail(id, 0, vec![Bytes::from_static(b"abc")])
            .await
            .unwrap();
        store
            .create_tail(id, 0, vec![Bytes::from_static(b"other")])
            .await
            .unwrap_err();
        store.list_tails(id).await.unwrap();
        let _: Vec<_> = store.list_records().try_collect().await.unwrap();
        store.remove_tails(id, vec![0]).await.unwrap();
        let upload = store.begin(&key, id).await.unwrap();
        store.abort(&key, &upload).await.unwrap();
        let text = metrics.render();
        for line in [
            r#"{operation="head",outcome="not_found"} 1"#,
            r#"{operation="head",outcome="ok"} 1"#,
            r#"{operation="put",outcome="ok"} 1"#,
            r#"{operation="put",outcome="conflict"} 1"#,
            r#"{operation="list",outcome="ok"} 2"#,
            r#"{operation="delete",outcome="ok"} 1"#,
            r#"{operation="begin_multipart",outcome="ok"} 1"#,
            r#"{operation="abort_multipart",outcome="ok"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
