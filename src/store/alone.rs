//! Objects of a store that knows no conditions, for one process: it looks before it writes, and lets nobody else write meanwhile.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
};
use tokio::sync::Mutex;

use super::records::bare;

/// Locks for names: a collision makes two writes wait for each other.
const SHARDS: usize = 64;

/// Objects whose conditions are the store's business until it is told otherwise.
pub(super) struct Alone<S> {
    objects: S,
    looks: AtomicBool,
    names: Vec<Mutex<()>>,
}

impl<S: ObjectStore> Alone<S> {
    pub(super) fn new(objects: S) -> Self {
        Self {
            objects,
            looks: AtomicBool::new(false),
            names: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The objects, as the store has them.
    pub(super) const fn objects(&self) -> &S {
        &self.objects
    }

    /// Whether conditions are held by looking from now on. None is sent to the store then.
    pub(super) fn look(&self, looks: bool) {
        self.looks.store(looks, Ordering::Relaxed);
    }

    pub(super) fn looks(&self) -> bool {
        self.looks.load(Ordering::Relaxed)
    }

    /// The lock of a name. A write that nobody waits for any more gives it back before the store is done with it: what comes of it then
    /// is told by the next look, as after an answer that was lost.
    fn name(&self, path: &Path) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        // Less than SHARDS, so it fits.
        &self.names[(hasher.finish() % SHARDS as u64) as usize]
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
        let _only_one = self.name(location).lock().await;
        self.holds(location, &options.mode).await?;
        options.mode = PutMode::Overwrite;
        self.objects.put_opts(location, payload, options).await
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
    use futures::future::join_all;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    /// A store that knows no conditions.
    #[derive(Debug)]
    struct Deaf(InMemory);

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
            self.0.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            tokio::task::yield_now().await;
            self.0.get_opts(location, options).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.0.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }

    fn looking() -> Alone<Deaf> {
        let alone = Alone::new(Deaf(InMemory::new()));
        alone.look(true);
        alone
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
        let update = |put: &PutResult| {
            PutMode::Update(UpdateVersion {
                e_tag: put.e_tag.clone(),
                version: None,
            })
        };
        let first = alone.put(&path, "first".into()).await.unwrap();
        let second = alone
            .put_opts(&path, "second".into(), update(&first).into())
            .await
            .unwrap();
        let stale = alone.put_opts(&path, "stale".into(), update(&first).into()).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })));
        assert_eq!(alone.get(&path).await.unwrap().bytes().await.unwrap(), "second");
        alone.delete(&path).await.unwrap();
        let gone = alone.put_opts(&path, "late".into(), update(&second).into()).await;
        assert!(matches!(gone, Err(Error::Precondition { .. })));
    }
}
