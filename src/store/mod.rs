//! The warehouse: records, parts, tails and objects in a bucket. The only room that names `object_store`.

mod alone;
mod azure;
mod bucket;
mod content;
mod copy;
#[cfg(test)]
pub(crate) mod depot;
#[cfg(test)]
pub(crate) mod dice;
mod entrust;
mod error;
mod events;
#[cfg(test)]
mod faults;
mod google;
mod keys;
mod local;
mod memory;
mod objects;
mod observed;
mod open;
mod parts;
mod patience;
mod probe;
mod records;
mod remote;
mod s3;
mod settings;
mod sidecar;
mod tails;
mod terms;
mod xml;

pub use bucket::Bucket;
pub use copy::Copied;
pub use entrust::Entrusted;
pub use error::{CompleteError, Error};
pub use events::Settled;
pub use keys::{DEFAULT_RESERVED, Key, KeyRefused, Name};
pub use objects::{Filed, ObjectRead, Seen, Standing, attributes, mode_of};
pub use open::OpenError;
pub use probe::{Capabilities, ProbeError};
pub use records::{LARGEST_RECORD, Listed, ListedRecord, ListedSession, Loaded, Stored, Version};
pub use remote::{Attempt, Publication};
pub use settings::{PartSizes, Settings};
pub use terms::Terms;

#[cfg(test)]
pub(crate) use local::lossy;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::{ObjectStore, path::Path};
use tokio::sync::OwnedMutexGuard;

use alone::Locks;
use keys::Layout;
use memory::MemoryBucket;
use observed::Observed;

use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::staging::Cutting;

/// How wrong the clock of a replica may be.
const A_DAY_OFF: Duration = Duration::from_secs(24 * 3600);

/// One route's store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// How it is called in logs: its URL.
    name: String,
    /// Where its sessions are kept, however its URL is written: stores that say the same here share them.
    home: String,
    /// Where files are published.
    destination: Arc<dyn Bucket>,
    /// Where sessions are kept: the same bucket, unless the route has a staging URL of its own.
    sessions: Arc<dyn Bucket>,
    /// Whether these two are one.
    is_one_bucket: bool,
    layout: Layout,
    /// After how long the store ends unfinished multipart uploads by itself, where that is known.
    multipart_lifetime: Option<Duration>,
    /// What the settings say of the lengths of parts.
    part_sizes: Option<PartSizes>,
    /// The store was found to complete uploads whatever the destination is: it is looked at before.
    careful: AtomicBool,
    /// Then nobody else of this process publishes there meanwhile.
    publishing: Locks,
}

impl Store {
    /// A store in memory, empty, with the default reserved prefix.
    pub fn memory() -> Self {
        Self::in_memory(MemoryBucket::default())
    }

    /// The same, but it is full when it holds this many bytes: in files, in parts of unfinished ones, and in sessions (600 bytes each).
    pub fn memory_of(bytes: u64) -> Self {
        Self::in_memory(MemoryBucket::of(bytes))
    }

    fn in_memory(bucket: MemoryBucket) -> Self {
        Self::over_bucket("memory:///".to_owned(), Arc::new(bucket), None)
    }

    /// A store over any bucket, with sessions and files side by side and the default reserved prefix; `name` is what logs call it, and
    /// `multipart_lifetime` says after how long it ends unfinished uploads by itself, if it does. This is how a kind of store that this program
    /// does not know is served.
    pub fn over_bucket(name: String, bucket: Arc<dyn Bucket>, multipart_lifetime: Option<Duration>) -> Self {
        // The literals hold nothing that a prefix must not hold.
        let layout = Layout::new("", "", DEFAULT_RESERVED).expect("a plain prefix");
        Self::over(name, Arc::clone(&bucket), bucket, layout, multipart_lifetime, None)
    }

    /// A store over these buckets, which may be one.
    fn over(
        name: String,
        destination: Arc<dyn Bucket>,
        sessions: Arc<dyn Bucket>,
        layout: Layout,
        multipart_lifetime: Option<Duration>,
        part_sizes: Option<PartSizes>,
    ) -> Self {
        Self(Arc::new(Inner {
            home: name.clone(),
            is_one_bucket: Arc::ptr_eq(&destination, &sessions),
            name,
            destination,
            sessions,
            layout,
            multipart_lifetime,
            part_sizes,
            careful: AtomicBool::new(false),
            publishing: Locks::default(),
        }))
    }

    /// The same store, its requests counted, its sessions at `home`.
    fn observed(&self, home: String, metrics: &Metrics) -> Self {
        let watch = |bucket: &Arc<dyn Bucket>| -> Arc<dyn Bucket> {
            Arc::new(Observed::new(Arc::clone(bucket), metrics.clone()))
        };
        let Inner {
            name,
            destination,
            sessions,
            layout,
            multipart_lifetime,
            part_sizes,
            ..
        } = &*self.0;
        Self(Arc::new(Inner {
            name: name.clone(),
            home,
            is_one_bucket: self.0.is_one_bucket,
            destination: watch(destination),
            sessions: watch(sessions),
            layout: layout.clone(),
            multipart_lifetime: *multipart_lifetime,
            part_sizes: *part_sizes,
            careful: AtomicBool::new(false),
            publishing: Locks::default(),
        }))
    }

    /// Whether the sessions of both are the same ones: routes may share a bucket, and write its URL in different ways.
    pub fn shares_sessions_with(&self, other: &Self) -> bool {
        self.0.home == other.0.home
    }

    /// Whether `key` may be used in this store: [`Key`] knows the default reserved prefix and the longest name only, not the
    /// configured ones. Every other method refuses such a key too, as [`Error::BadName`].
    ///
    /// # Errors
    /// [`KeyRefused::Reserved`] or [`KeyRefused::TooLong`].
    pub fn admits(&self, key: &Key) -> Result<(), KeyRefused> {
        self.0.layout.admits(key)
    }

    /// Whether an aborted upload is gone for good. Azure has no such thing: its blocks stay for a week, so a completion that was
    /// under way when the session was cancelled can still succeed.
    pub fn forgets_uploads(&self) -> bool {
        self.0.destination.forgets_uploads()
    }

    /// What parts the object of `key` may be put together of.
    pub fn cutting(&self, key: &Key) -> Cutting {
        match (self.0.part_sizes, self.bucket_of(key).cutting()) {
            (Some(PartSizes::Equal), _) => Cutting::Alike,
            (Some(PartSizes::Any), Cutting::Alike) => Cutting::Claimed,
            (Some(PartSizes::Any) | None, cutting) => cutting,
        }
    }

    /// Whether the store may have ended an upload by itself that began after `begun`, which a replica noted: its clock may be a day off.
    pub fn may_have_ended_uploads(&self, begun: Timestamp, now: Timestamp) -> bool {
        self.0
            .multipart_lifetime
            .is_some_and(|lifetime| now.since(begun) + A_DAY_OFF >= lifetime)
    }

    /// What the probe found: whether a destination has to be looked at before something is published there.
    fn take_care(&self, careful: bool) {
        self.0.careful.store(careful, Ordering::Relaxed);
    }

    /// Whether conditions are held by this process, because the store holds none.
    fn work_alone(&self, alone: bool) {
        self.0.destination.work_alone(alone);
        self.0.sessions.work_alone(alone);
    }

    /// The right to be the only one of this process that publishes at `path`, where that takes a look first.
    async fn only_publisher(&self, path: &Path) -> Option<OwnedMutexGuard<()>> {
        if self.is_careful() {
            Some(self.0.publishing.only(path).await)
        } else {
            None
        }
    }

    fn is_careful(&self) -> bool {
        self.0.careful.load(Ordering::Relaxed)
    }

    fn layout(&self) -> &Layout {
        &self.0.layout
    }

    fn sessions(&self) -> &dyn ObjectStore {
        self.0.sessions.objects()
    }

    fn destination(&self) -> &dyn Bucket {
        &*self.0.destination
    }

    fn destinations(&self) -> &dyn ObjectStore {
        self.0.destination.objects()
    }

    /// The bucket that holds the object of `key`.
    fn bucket_of(&self, key: &Key) -> &dyn Bucket {
        if key.is_own() {
            &*self.0.sessions
        } else {
            &*self.0.destination
        }
    }

    /// Whether sessions and destinations lie in the same bucket.
    fn is_one_bucket(&self) -> bool {
        self.0.is_one_bucket
    }

    fn objects_at(&self, key: &Key) -> &dyn ObjectStore {
        self.bucket_of(key).objects()
    }

    fn path(&self, key: &Key) -> Result<Path, Error> {
        self.layout()
            .destination(key)
            .map_err(|refused| Error::BadName(refused.to_string()))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.name).finish()
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}
