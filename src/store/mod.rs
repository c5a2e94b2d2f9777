//! The warehouse: records, parts, tails and objects in a bucket. The only room that names `object_store`.

mod azure;
mod bucket;
mod error;
mod google;
mod keys;
mod memory;
mod objects;
mod parts;
mod patience;
mod records;
mod remote;
mod s3;
mod tails;
mod xml;

pub use error::{CompleteError, Error};
pub use keys::{DEFAULT_RESERVED, Key, KeyRefused, Name};
pub use objects::{ObjectRead, Seen};
pub use records::{LARGEST_RECORD, Listed, ListedRecord, ListedSession, Loaded, Stored, Version};

use std::fmt;
use std::sync::Arc;

use object_store::{ObjectStore, path::Path};

use bucket::Bucket;
use keys::Layout;
use memory::MemoryBucket;

/// One route's store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// How it is called in logs: its URL.
    name: String,
    /// Where files are published.
    destination: Arc<dyn Bucket>,
    /// Where sessions are kept: the same bucket, unless the route has a staging URL of its own.
    sessions: Arc<dyn Bucket>,
    layout: Layout,
}

impl Store {
    /// A store in memory, empty, with the default reserved prefix.
    pub fn memory() -> Self {
        let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
        Self(Arc::new(Inner {
            name: "memory:///".to_owned(),
            destination: Arc::clone(&bucket),
            sessions: bucket,
            // The literals hold nothing that a prefix must not hold.
            layout: Layout::new("", "", DEFAULT_RESERVED).expect("a plain prefix"),
        }))
    }

    /// Whether `key` may be used in this store: [`Key`] knows the default reserved prefix and the longest name only, not the
    /// configured ones. Every other method refuses such a key too, as [`Error::Denied`].
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

    fn path(&self, key: &Key) -> Result<Path, Error> {
        self.layout()
            .destination(key)
            .map_err(|refused| Error::Denied(refused.to_string()))
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
