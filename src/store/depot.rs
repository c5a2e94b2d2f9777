//! A bucket in memory whose clock is moved on by hand, and that several replicas reach: for tests of what takes days, and of a store that
//! hangs. Everything else that can go wrong on the way to a store is tried in tests/simulation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::bucket::Bucket;
use super::memory::MemoryBucket;
use super::{CompleteError, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// The bucket that all replicas share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Depot(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    objects: MemoryBucket,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    ahead: Duration,
    /// How far the clock was ahead when each object was put.
    objects: HashMap<Path, Duration>,
    /// And when each upload began.
    uploads: HashMap<UploadId, Duration>,
}

impl Depot {
    pub(crate) fn memory() -> Self {
        Self::default()
    }

    /// The store over a line at which nothing is wrong.
    pub(crate) fn store(&self) -> Store {
        self.over(&Line::new())
    }

    /// The store over `line`.
    pub(crate) fn over(&self, line: &Line) -> Store {
        let bucket = Reached {
            shared: Arc::clone(&self.0),
            line: line.clone(),
        };
        Store::over_bucket("memory:///".to_owned(), Arc::new(bucket), None)
    }

    /// Moves the clock of the bucket on.
    pub(crate) fn advance(&self, by: Duration) {
        self.0.times().ahead += by;
    }

    /// The names of all objects.
    pub(crate) async fn names(&self) -> Vec<String> {
        let objects: Vec<ObjectMeta> = self.0.objects.list(None).try_collect().await.unwrap();
        objects.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    /// Somebody who knows nothing of sessions puts an object.
    pub(crate) async fn put(&self, key: &Key, bytes: Vec<u8>) {
        let path = Path::parse(key.as_str()).unwrap();
        self.0.objects.put(&path, bytes.into()).await.unwrap();
    }

    /// Somebody who knows nothing of sessions takes an object away.
    pub(crate) async fn take(&self, key: &Key) {
        self.0
            .objects
            .delete(&Path::parse(key.as_str()).unwrap())
            .await
            .unwrap();
    }
}

impl Shared {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap()
    }

    fn date(&self, mut meta: ObjectMeta) -> ObjectMeta {
        meta.last_modified += self.times().objects.get(&meta.location).copied().unwrap_or_default();
        meta
    }
}

/// The way to the bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Line(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_cut: bool,
    /// How many more requests come through, if they are counted.
    left: Option<u64>,
    is_held: bool,
    delay: Duration,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// Nothing comes through any more.
    pub(crate) fn cut(&self) {
        self.0.send_modify(|state| state.is_cut = true);
    }

    /// So many more requests come through, and nothing after them.
    pub(crate) fn cut_after(&self, requests: u64) {
        self.0.send_modify(|state| state.left = Some(requests));
    }

    /// While it is held, what was sent and what will be neither arrives nor comes back.
    pub(crate) fn hold(&self, is_held: bool) {
        self.0.send_modify(|state| state.is_held = is_held);
    }

    /// How long every request takes from now on until it arrives.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.0.send_modify(|state| state.delay = delay);
    }

    /// A request on its way.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time that a line takes, on a clock that the test holds"
    )]
    async fn travel(&self) -> Result<()> {
        let mut state = self.0.subscribe();
        let state = *state.wait_for(|state| !state.is_held).await.unwrap();
        self.0.send_if_modified(|state| {
            state.left = state.left.map(|left| left.saturating_sub(1));
            false
        });
        if state.is_cut || state.left == Some(0) {
            return Err(object_store::Error::Generic {
                store: "depot",
                source: "no answer".into(),
            });
        }
        if !state.delay.is_zero() {
            tokio::time::sleep(state.delay).await;
        }
        Ok(())
    }
}

/// The bucket at the end of a line.
#[derive(Clone, Debug)]
struct Reached {
    shared: Arc<Shared>,
    line: Line,
}

impl Reached {
    /// The bucket, when the request has arrived.
    async fn arrive(&self) -> Result<&MemoryBucket> {
        self.line.travel().await?;
        Ok(&self.shared.objects)
    }
}

#[async_trait]
impl Bucket for Reached {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    fn cutting(&self) -> Cutting {
        self.shared.objects.cutting()
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let id = self.arrive().await?.begin(path, session).await?;
        let mut times = self.shared.times();
        let ahead = times.ahead;
        times.uploads.insert(id.clone(), ahead);
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        self.arrive().await?.put_part(path, upload, part, payload).await
    }

    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error> {
        self.arrive().await?.mark(path, upload).await
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
        let bucket = self.arrive().await.map_err(Error::from)?;
        bucket.complete(path, session, upload, parts, terms, mark).await
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        self.arrive().await?.abort(path, upload).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let uploads = self.arrive().await?.uploads(path).await?;
        let times = self.shared.times();
        let dated = uploads.into_iter().map(|(id, began)| {
            let ahead = times.uploads.get(&id).copied().unwrap_or_default();
            (id, began.plus(ahead))
        });
        Ok(dated.collect())
    }
}

#[async_trait]
impl ObjectStore for Reached {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.arrive().await?.put_opts(path, payload, options).await?;
        let mut times = self.shared.times();
        let ahead = times.ahead;
        times.objects.insert(path.clone(), ahead);
        Ok(put)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.arrive().await?.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.arrive().await?.get_opts(path, options).await?;
        got.meta = self.shared.date(got.meta);
        Ok(got)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deletion = move |path: Result<Path>| {
            let this = this.clone();
            async move {
                let path = path?;
                this.arrive().await?.delete(&path).await?;
                Ok(path)
            }
        };
        paths.then(deletion).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let found = this
                .arrive()
                .await?
                .list(prefix.as_ref())
                .try_collect::<Vec<_>>()
                .await?;
            let dated: Vec<_> = found.into_iter().map(|meta| Ok(this.shared.date(meta))).collect();
            Ok::<_, object_store::Error>(futures::stream::iter(dated))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.arrive().await?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.arrive().await?.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.shared.objects, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_of_the_bucket_is_moved_on_by_hand() {
        let depot = Depot::memory();
        let (store, id) = (depot.store(), SessionId::new(uuid::Uuid::from_u128(1)));
        store.create_tail(id, 0, vec![Bytes::from_static(b"a")]).await.unwrap();
        let before = store.now().await.unwrap();
        depot.advance(Duration::from_secs(3600));
        assert!(store.now().await.unwrap().since(before) >= Duration::from_secs(3600));
        let listed = store.list_session(id).await.unwrap();
        assert!(listed[0].modified.since(before) < Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_over_a_line_that_is_cut() {
        let depot = Depot::memory();
        let line = Line::new();
        let (store, id) = (depot.over(&line), SessionId::new(uuid::Uuid::from_u128(1)));
        store.create_tail(id, 0, vec![Bytes::from_static(b"a")]).await.unwrap();
        assert_eq!(depot.store().tail_length(id, 0).await.unwrap(), Some(1));
        line.cut();
        store.tail_length(id, 0).await.unwrap_err();
        let lost = store.create_tail(id, 1, vec![Bytes::from_static(b"b")]).await;
        lost.unwrap_err();
        assert_eq!(depot.store().tail_length(id, 1).await.unwrap(), None);
    }
}
