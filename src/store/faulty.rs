//! A bucket in memory that several replicas reach, each over a bad line of its own: requests that fail, answers that get lost,
//! requests that are carried out long after they were given up, conflicts that are none. A seed decides which, and in which order.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::bucket::Bucket;
use super::keys::{DEFAULT_RESERVED, Layout};
use super::memory::MemoryBucket;
use super::{CompleteError, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::ObjectTag;
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};

/// Dice that fall the same way for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to and without `bound`; 0 when `bound` is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or_default()
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// The bucket that all replicas share.
#[derive(Clone, Debug)]
pub(crate) struct Depot(Arc<ClockedBucket>);

impl Depot {
    pub(crate) fn memory() -> Self {
        Self(Arc::default())
    }

    /// The store over a line without faults.
    pub(crate) fn store(&self) -> Store {
        Self::open(Arc::<ClockedBucket>::clone(&self.0))
    }

    /// The store over `line`.
    pub(crate) fn over(&self, line: &Line) -> Store {
        Self::open(Arc::new(FaultyBucket {
            inner: Arc::<ClockedBucket>::clone(&self.0),
            line: line.clone(),
        }))
    }

    /// Moves the clock of the bucket on.
    pub(crate) fn advance(&self, by: Duration) {
        self.0.times().ahead += by;
    }

    fn open(bucket: Arc<dyn Bucket>) -> Store {
        let layout = Layout::new("", "", DEFAULT_RESERVED).unwrap();
        Store::over("memory:///".to_owned(), Arc::clone(&bucket), bucket, layout)
    }

    /// The names of all objects.
    pub(crate) async fn names(&self) -> Vec<String> {
        let objects: Vec<ObjectMeta> = self.0.objects().list(None).try_collect().await.unwrap();
        objects.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    /// Somebody who knows nothing of sessions puts an object.
    pub(crate) async fn put(&self, key: &Key, bytes: Vec<u8>) {
        let path = Path::parse(key.as_str()).unwrap();
        self.0.objects().put(&path, bytes.into()).await.unwrap();
    }

    /// Somebody who knows nothing of sessions takes an object away.
    pub(crate) async fn take(&self, key: &Key) {
        self.0
            .objects()
            .delete(&Path::parse(key.as_str()).unwrap())
            .await
            .unwrap();
    }
}

/// A bucket in memory whose clock runs ahead as far as it is told to.
#[derive(Debug, Default)]
struct ClockedBucket {
    inner: MemoryBucket,
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

impl ClockedBucket {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap()
    }

    fn date(&self, mut meta: ObjectMeta) -> ObjectMeta {
        meta.last_modified += self.times().objects.get(&meta.location).copied().unwrap_or_default();
        meta
    }
}

#[async_trait]
impl Bucket for ClockedBucket {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let id = self.inner.begin(path, session).await?;
        let mut times = self.times();
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
        self.inner.put_part(path, upload, part, payload).await
    }

    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error> {
        self.inner.mark(path, upload).await
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
        self.inner.complete(path, session, upload, parts, terms, mark).await
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        self.inner.abort(path, upload).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let uploads = self.inner.uploads(path).await?;
        let times = self.times();
        let dated = uploads.into_iter().map(|(id, began)| {
            let ahead = times.uploads.get(&id).copied().unwrap_or_default();
            (id, began.plus(ahead))
        });
        Ok(dated.collect())
    }
}

#[async_trait]
impl ObjectStore for ClockedBucket {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, payload, options).await?;
        let mut times = self.times();
        let ahead = times.ahead;
        times.objects.insert(path.clone(), ahead);
        Ok(put)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.inner.get_opts(path, options).await?;
        got.meta = self.date(got.meta);
        Ok(got)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // The map in memory lists at once, and gives the list away piece by piece.
        let listed = self.inner.list(prefix).try_collect::<Vec<_>>().now_or_never();
        let listed = listed.unwrap().map(|found| {
            let dated: Vec<_> = found.into_iter().map(|meta| Ok(self.date(meta))).collect();
            futures::stream::iter(dated)
        });
        futures::stream::once(futures::future::ready(listed))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for ClockedBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

/// A line to the bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug)]
struct State {
    dice: Mutex<Dice>,
    /// Of a thousand requests, so many meet a fault.
    trouble: AtomicU64,
    /// The process at this end is dead.
    cut: AtomicBool,
    /// Nothing moves.
    is_held: watch::Sender<bool>,
    /// Whether a publication that was given up may still be carried out later.
    late_publications: bool,
    /// Requests that were given up and are still to be carried out, by all lines that share it.
    late: Arc<AtomicUsize>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Fine,
    /// It never arrives.
    Lost,
    /// It is carried out, and nobody learns of it.
    AnswerLost,
    /// It is given up, and carried out later.
    Late,
    /// It is carried out, repeated by the client library, and the repetition is refused.
    Echo,
    /// It is refused although its condition holds.
    Refused,
}

impl Line {
    pub(crate) fn new(dice: Dice, trouble: u64, late_publications: bool, late: &Arc<AtomicUsize>) -> Self {
        Self(Arc::new(State {
            dice: Mutex::new(dice),
            trouble: AtomicU64::new(trouble),
            cut: AtomicBool::new(false),
            is_held: watch::Sender::new(false),
            late_publications,
            late: Arc::clone(late),
        }))
    }

    /// From now on so many of a thousand requests meet a fault.
    pub(crate) fn set_trouble(&self, per_mille: u64) {
        self.0.trouble.store(per_mille, Ordering::Relaxed);
    }

    /// Nothing comes through any more, but what was given up may still be carried out.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::Relaxed);
    }

    /// While it is held, what was sent and what will be neither arrives nor comes back.
    pub(crate) fn hold(&self, is_held: bool) {
        self.0.is_held.send_replace(is_held);
    }

    fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    fn dice<T>(&self, cast: impl FnOnce(&mut Dice) -> T) -> T {
        cast(&mut self.0.dice.lock().unwrap())
    }

    /// A request or an answer on its way.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time that a line takes, on a clock that the test holds"
    )]
    async fn travel(&self) {
        let mut is_held = self.0.is_held.subscribe();
        is_held.wait_for(|is_held| !is_held).await.unwrap();
        let millis = self.dice(|dice| match dice.below(20) {
            0 => dice.below(3000),
            1..=9 => dice.below(15),
            _ => 0,
        });
        match millis {
            0 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    fn fate(&self, kind: Kind) -> Fate {
        if self.is_cut() {
            return Fate::Lost;
        }
        let trouble = self.0.trouble.load(Ordering::Relaxed);
        self.dice(|dice| {
            if !dice.chance(trouble) {
                return Fate::Fine;
            }
            let fates: &[Fate] = match kind {
                Kind::Question => &[Fate::Lost],
                Kind::Write => &[Fate::Lost, Fate::AnswerLost, Fate::Late],
                Kind::ConditionalWrite => &[
                    Fate::Lost,
                    Fate::AnswerLost,
                    Fate::Late,
                    Fate::Echo,
                    Fate::Echo,
                    Fate::Refused,
                ],
                Kind::Publication if self.0.late_publications => {
                    &[Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Echo]
                }
                Kind::Publication => &[Fate::Lost, Fate::AnswerLost, Fate::Echo],
            };
            *dice.pick(fates)
        })
    }

    /// Carries out a request as its fate says.
    async fn carry<T: Send + 'static, E: Trouble>(
        &self,
        kind: Kind,
        request: impl FnOnce() -> BoxFuture<'static, Result<T, E>>,
    ) -> Result<T, E> {
        self.travel().await;
        match self.fate(kind) {
            Fate::Lost => Err(E::lost()),
            Fate::Refused => Err(E::refused()),
            Fate::Fine => {
                let answer = request().await;
                self.travel().await;
                answer
            }
            Fate::AnswerLost => {
                let _ = request().await;
                self.travel().await;
                Err(E::lost())
            }
            Fate::Echo => {
                request().await?;
                self.travel().await;
                Err(E::refused())
            }
            Fate::Late => {
                let (line, request) = (self.clone(), request());
                line.0.late.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    for _ in 0..line.dice(|dice| dice.below(6)) {
                        line.travel().await;
                    }
                    let _ = request.await;
                    line.0.late.fetch_sub(1, Ordering::Relaxed);
                });
                Err(E::lost())
            }
        }
    }
}

/// What kind of request it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Question,
    Write,
    ConditionalWrite,
    /// A conditional write to a destination.
    Publication,
}

/// What a client library says of a request that failed.
trait Trouble: Send + 'static {
    fn lost() -> Self;
    fn refused() -> Self;
}

impl Trouble for object_store::Error {
    fn lost() -> Self {
        Self::Generic {
            store: "faulty",
            source: "no answer".into(),
        }
    }

    fn refused() -> Self {
        Self::AlreadyExists {
            path: "some".to_owned(),
            source: "409".into(),
        }
    }
}

impl Trouble for Error {
    fn lost() -> Self {
        Self::Unavailable("no answer".to_owned())
    }

    fn refused() -> Self {
        Self::Conflict
    }
}

impl Trouble for CompleteError {
    fn lost() -> Self {
        Self::Store(Error::lost())
    }

    // A store looks before it says that the destination was changed.
    fn refused() -> Self {
        Self::lost()
    }
}

/// The bucket at the end of a line.
#[derive(Clone, Debug)]
struct FaultyBucket {
    inner: Arc<dyn Bucket>,
    line: Line,
}

#[async_trait]
impl Bucket for FaultyBucket {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        let request = || -> BoxFuture<'static, _> { Box::pin(async move { inner.begin(&path, session).await }) };
        self.line.carry(Kind::Write, request).await
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let (inner, path, upload) = (Arc::clone(&self.inner), path.clone(), upload.clone());
        let request = || -> BoxFuture<'static, _> {
            Box::pin(async move { inner.put_part(&path, &upload, part, payload).await })
        };
        self.line.carry(Kind::Write, request).await
    }

    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error> {
        self.inner.mark(path, upload).await
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
        let (inner, path, upload) = (Arc::clone(&self.inner), path.clone(), upload.clone());
        let (parts, before, mark) = (parts.to_vec(), terms.before.clone(), mark.map(ToOwned::to_owned));
        let by = terms.by;
        let request = || -> BoxFuture<'static, _> {
            Box::pin(async move {
                let terms = Terms { before: &before, by };
                inner
                    .complete(&path, session, &upload, &parts, terms, mark.as_deref())
                    .await
            })
        };
        self.line.carry(Kind::Publication, request).await
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        let (inner, path, upload) = (Arc::clone(&self.inner), path.clone(), upload.clone());
        let request = || -> BoxFuture<'static, _> { Box::pin(async move { inner.abort(&path, &upload).await }) };
        self.line.carry(Kind::Write, request).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        let request = || -> BoxFuture<'static, _> { Box::pin(async move { inner.uploads(&path).await }) };
        self.line.carry(Kind::Question, request).await
    }
}

#[async_trait]
impl ObjectStore for FaultyBucket {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let kind = match options.mode {
            PutMode::Overwrite => Kind::Write,
            PutMode::Create | PutMode::Update(_) if path.as_ref().starts_with(DEFAULT_RESERVED) => {
                Kind::ConditionalWrite
            }
            PutMode::Create | PutMode::Update(_) => Kind::Publication,
        };
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        let request = || -> BoxFuture<'static, _> {
            Box::pin(async move { inner.objects().put_opts(&path, payload, options).await })
        };
        self.line.carry(kind, request).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.objects().put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        let request =
            || -> BoxFuture<'static, _> { Box::pin(async move { inner.objects().get_opts(&path, options).await }) };
        self.line.carry(Kind::Question, request).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deletion = move |path: Result<Path>| {
            let this = this.clone();
            async move {
                let path = path?;
                let (inner, gone) = (Arc::clone(&this.inner), path.clone());
                let request =
                    || -> BoxFuture<'static, _> { Box::pin(async move { inner.objects().delete(&gone).await }) };
                this.line.carry(Kind::Write, request).await?;
                Ok(path)
            }
        };
        paths.then(deletion).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let inner = Arc::clone(&this.inner);
            let request = || -> BoxFuture<'static, _> {
                Box::pin(async move { inner.objects().list(prefix.as_ref()).try_collect::<Vec<_>>().await })
            };
            let found = this.line.carry(Kind::Question, request).await?;
            Ok::<_, object_store::Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.objects().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.objects().copy_opts(from, to, options).await
    }
}

impl fmt::Display for FaultyBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner.objects(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_fall_the_same_way_for_the_same_seed() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.below(100)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }

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
    async fn a_line_loses_what_it_is_told_to_lose() {
        let depot = Depot::memory();
        let late = Arc::default();
        let line = Line::new(Dice::new(1), 0, true, &late);
        let (store, id) = (depot.over(&line), SessionId::new(uuid::Uuid::from_u128(1)));
        store.create_tail(id, 0, vec![Bytes::from_static(b"a")]).await.unwrap();
        assert_eq!(depot.store().tail_length(id, 0).await.unwrap(), Some(1));
        line.cut();
        store.tail_length(id, 0).await.unwrap_err();
        store
            .create_tail(id, 1, vec![Bytes::from_static(b"b")])
            .await
            .unwrap_err();
        assert_eq!(depot.store().tail_length(id, 1).await.unwrap(), None);
    }
}
