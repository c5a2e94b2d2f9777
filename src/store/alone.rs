//! Objects of a store that knows no conditions, for one process: it looks before it writes, and lets nobody else write meanwhile.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::records::bare;

/// Locks for names: a collision makes two writes wait for each other.
const SHARDS: usize = 64;

/// The right to be the only writer of a name.
pub(super) struct Locks(Vec<Arc<Mutex<()>>>);

impl Default for Locks {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Arc::default()).collect())
    }
}

impl Locks {
    /// Waits for whoever writes `path`.
    pub(super) async fn only(&self, path: &Path) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        // Less than SHARDS, so it fits.
        let lock = &self.0[(hasher.finish() % SHARDS as u64) as usize];
        Arc::clone(lock).lock_owned().await
    }
}

/// Objects whose conditions are the store's business until it is told otherwise.
pub(super) struct Alone<S> {
    objects: Arc<S>,
    looks: AtomicBool,
    names: Locks,
}

impl<S: ObjectStore> Alone<S> {
    pub(super) fn new(objects: S) -> Self {
        Self {
            objects: Arc::new(objects),
            looks: AtomicBool::new(false),
            names: Locks::default(),
        }
    }

    /// The objects, as the store has them.
    pub(super) fn objects(&self) -> &S {
        &self.objects
    }

    /// Whether conditions are held by looking from now on. None is sent to the store then.
    pub(super) fn look(&self, looks: bool) {
        self.looks.store(looks, Ordering::Relaxed);
    }

    pub(super) fn looks(&self) -> bool {
        self.looks.load(Ordering::Relaxed)
    }

    async fn holds(&self, path: &Path, mode: &PutMode) -> Result<()> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let found = match self.objects.get_opts(path, options).await {
            Ok(found) => Some(found.meta),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match (mode, found) {
            (PutMode::Overwrite, _) | (PutMode::Create, None) => Ok(()),
            (PutMode::Update(version), Some(meta)) if is_at(&meta, version) => Ok(()),
            (PutMode::Create, Some(_)) => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "it is there".into(),
            }),
            (PutMode::Update(_), _) => Err(Error::Precondition {
                path: path.to_string(),
                source: "it has changed".into(),
            }),
        }
    }
}

fn is_at(meta: &ObjectMeta, version: &UpdateVersion) -> bool {
    match (&meta.e_tag, &version.e_tag) {
        (Some(now), Some(then)) => bare(now) == bare(then),
        _ => false,
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Alone<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if !self.looks() || matches!(options.mode, PutMode::Overwrite) {
            return self.objects.put_opts(location, payload, options).await;
        }
        let only_one = self.names.only(location).await;
        self.holds(location, &options.mode).await?;
        options.mode = PutMode::Overwrite;
        let (objects, location) = (Arc::clone(&self.objects), location.clone());
        // To stop waiting for it would not stop the store: a write that nobody waits for any more keeps its name until it has ended, or it
        // could undo one that came after it.
        let put = tokio::spawn(async move {
            let put = objects.put_opts(&location, payload, options).await;
            drop(only_one);
            put
        });
        put.await.map_err(|ended| Error::Generic {
            store: "alone",
            source: ended.into(),
        })?
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

impl<S: fmt::Debug> fmt::Debug for Alone<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.objects, f)
    }
}

impl<S: fmt::Display> fmt::Display for Alone<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.objects, f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::{join, join_all};
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use tokio::sync::Notify;

    use super::*;
    use crate::bits::SessionId;
    use crate::clock::{Timestamp, random_id};
    use crate::session::{Before, ObjectTag};
    use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};
    use crate::store::bucket::Bucket;
    use crate::store::memory::MemoryBucket;
    use crate::store::objects::look_at;
    use crate::store::{self, CompleteError, Key, Store, Terms};

    /// A store that knows no conditions.
    #[derive(Debug)]
    struct Deaf {
        objects: InMemory,
        /// Until then it is at work on what is called slow.
        done: Arc<Notify>,
    }

    impl fmt::Display for Deaf {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("deaf")
        }
    }

    #[async_trait]
    impl ObjectStore for Deaf {
        async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            assert!(matches!(options.mode, PutMode::Overwrite), "a condition was sent");
            // Others have their turn meanwhile.
            tokio::task::yield_now().await;
            if payload.iter().any(|chunk| chunk == "slow") {
                self.done.notified().await;
            }
            self.objects.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.objects.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            tokio::task::yield_now().await;
            self.objects.get_opts(location, options).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.objects.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.objects.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.objects.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.objects.copy_opts(from, to, options).await
        }
    }

    fn looking() -> Alone<Deaf> {
        let alone = Alone::new(Deaf {
            objects: InMemory::new(),
            done: Arc::default(),
        });
        alone.look(true);
        alone
    }

    fn over(put: &PutResult) -> PutMode {
        PutMode::Update(UpdateVersion {
            e_tag: put.e_tag.clone(),
            version: None,
        })
    }

    #[tokio::test]
    async fn of_several_that_create_one_succeeds() {
        let (alone, path) = (looking(), Path::from("x"));
        let puts = (0..8).map(|number| {
            let put = alone.put_opts(&path, format!("{number}").into(), PutMode::Create.into());
            async move { (number, put.await) }
        });
        let puts = join_all(puts).await;
        let winners: Vec<_> = puts.iter().filter(|(_, put)| put.is_ok()).collect();
        assert_eq!(winners.len(), 1);
        let stays = alone.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(stays, format!("{}", winners[0].0));
        let losers = puts.iter().filter_map(|(_, put)| put.as_ref().err());
        assert!(
            losers
                .into_iter()
                .all(|error| matches!(error, Error::AlreadyExists { .. }))
        );
    }

    #[tokio::test]
    async fn an_object_is_replaced_only_at_the_version_that_was_read() {
        let (alone, path) = (looking(), Path::from("x"));
        let first = alone.put(&path, "first".into()).await.unwrap();
        let second = alone
            .put_opts(&path, "second".into(), over(&first).into())
            .await
            .unwrap();
        let stale = alone.put_opts(&path, "stale".into(), over(&first).into()).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })));
        assert_eq!(alone.get(&path).await.unwrap().bytes().await.unwrap(), "second");
        alone.delete(&path).await.unwrap();
        let gone = alone.put_opts(&path, "late".into(), over(&second).into()).await;
        assert!(matches!(gone, Err(Error::Precondition { .. })));
    }
    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_waits_for_any_more_undoes_none_that_comes_later() {
        let (alone, path) = (looking(), Path::from("x"));
        let brief = |put| tokio::time::timeout(Duration::from_secs(1), put);
        let first = alone.put(&path, "first".into()).await.unwrap();
        let slow = brief(alone.put_opts(&path, "slow".into(), over(&first).into())).await;
        assert!(slow.is_err(), "it was given up");
        let later = brief(alone.put_opts(&path, "later".into(), over(&first).into())).await;
        assert!(later.is_err(), "nobody writes while the store is at it");
        alone.objects().done.notify_one();
        let later = alone.put_opts(&path, "later".into(), over(&first).into()).await;
        assert!(matches!(later, Err(Error::Precondition { .. })));
        assert_eq!(alone.get(&path).await.unwrap().bytes().await.unwrap(), "slow");
    }

    /// A bucket that completes uploads whatever the destination is.
    #[derive(Debug, Default)]
    struct Blind(MemoryBucket);

    #[async_trait]
    impl Bucket for Blind {
        fn objects(&self) -> &dyn ObjectStore {
            &self.0
        }

        fn cutting(&self) -> Cutting {
            self.0.cutting()
        }

        async fn begin(&self, path: &Path, session: SessionId) -> std::result::Result<UploadId, store::Error> {
            self.0.begin(path, session).await
        }

        async fn put_part(
            &self,
            path: &Path,
            upload: &UploadId,
            part: PartRange,
            payload: PutPayload,
        ) -> std::result::Result<PartId, store::Error> {
            self.0.put_part(path, upload, part, payload).await
        }

        async fn mark(&self, path: &Path, upload: &UploadId) -> std::result::Result<Option<String>, store::Error> {
            self.0.mark(path, upload).await
        }

        async fn complete(
            &self,
            path: &Path,
            session: SessionId,
            upload: &UploadId,
            parts: &[RecordedPart],
            terms: Terms<'_>,
            mark: Option<&str>,
        ) -> std::result::Result<ObjectTag, CompleteError> {
            // Others have their turn meanwhile.
            tokio::task::yield_now().await;
            let there = look_at(&self.0, path).await?;
            let before = there.map_or(Before::Absent, |there| Before::Present(there.tag));
            let terms = Terms {
                before: &before,
                by: terms.by,
            };
            self.0.complete(path, session, upload, parts, terms, mark).await
        }

        async fn abort(&self, path: &Path, upload: &UploadId) -> std::result::Result<(), store::Error> {
            self.0.abort(path, upload).await
        }

        async fn uploads(&self, path: &Path) -> std::result::Result<Vec<(UploadId, Timestamp)>, store::Error> {
            self.0.uploads(path).await
        }
    }

    /// Publishes a file of one part to `key`, where nothing was.
    async fn complete(store: &Store, key: &Key) -> std::result::Result<ObjectTag, CompleteError> {
        let session = SessionId::new(random_id());
        let part = PartRange {
            index: 0,
            from: 0,
            to: 5,
        };
        let upload = store.begin(key, session).await?;
        let id = store
            .put_part(key, &upload, part, vec![Bytes::from_static(b"parts")])
            .await?;
        let parts = [RecordedPart(id, part.to)];
        store
            .complete(key, session, &upload, &parts, Terms::whenever(&Before::Absent), None)
            .await
    }

    #[tokio::test]
    async fn of_two_sessions_that_race_for_a_name_one_publishes_where_the_store_completes_without_a_condition() {
        let store = Store::over_bucket("blind".to_owned(), Arc::new(Blind::default()), None);
        store.take_care(true);
        let key = Key::parse("parts").unwrap();
        let (one, other) = join(complete(&store, &key), complete(&store, &key)).await;
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        let key = Key::parse("small").unwrap();
        let bytes = vec![Bytes::from_static(b"small")];
        let put = store.put_file(
            &key,
            SessionId::new(random_id()),
            bytes,
            Terms::whenever(&Before::Absent),
        );
        let (one, other) = join(complete(&store, &key), put).await;
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
}
