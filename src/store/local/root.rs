//! One open root directory: what lies where, who may open it, and what its file system must be able to do.
//!
//! Only one process works on a root. Routes of one process that name the same root share it.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use object_store::path::Path as Name;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use super::disk::{self, Disk};
use super::durable::Unsettled;
use super::fault::Fault;
use super::file;
use crate::clock::random_id;

/// The folder below the root that is this adapter's own: `lock`, `tmp/` and `uploads/`. No object is ever in it.
const PRIVATE: &str = ".bits-gateway/local";

/// Locks for names: a collision makes two names wait for each other for the time of a rename.
const SHARDS: usize = 64;

/// What the lock file says while somebody uses the root. Left behind by a process that was killed.
const IN_USE: &[u8] = b"in use\n";

/// Why a directory can't be used as a store.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum OpenFailure {
    /// It is not there and can't be made, or is not writable.
    #[error(
        "cannot use the directory {}: {doing} {}: {source}; create it, and let the user that this process runs as write to it",
        directory.display(),
        path.display()
    )]
    Unusable {
        /// The root.
        directory: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// On what, in or above the root.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error(
        "the directory {} is in use by another process; stop that one, or give each a directory of its own (to run several replicas, use an object store)",
        directory.display()
    )]
    InUse {
        /// The root.
        directory: PathBuf,
    },
    /// Its file system can't do what safe uploads need.
    #[error(
        "the file system of the directory {} cannot {lacks}; use a directory on a local file system such as ext4, XFS or Btrfs",
        directory.display()
    )]
    Unsuitable {
        /// The root.
        directory: PathBuf,
        /// What it can't do.
        lacks: &'static str,
    },
}

/// A root directory that this process has to itself.
#[derive(Debug)]
pub(super) struct Root {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    private: PathBuf,
    identity: Identity,
    /// Locked while it is open; the kernel unlocks it when the process is killed.
    lock: File,
    /// Whether the file system can rename without replacing. If not, hard links do it in two steps.
    pub(super) renames_without_replacing: bool,
    pub(super) unsettled: Unsettled,
    names: Vec<Mutex<()>>,
    uploads: Vec<RwLock<()>>,
}

/// Device and inode: the same by whatever path somebody came.
type Identity = (u64, u64);

/// The roots that this process has open.
static OPEN: Mutex<Option<HashMap<Identity, Weak<Root>>>> = Mutex::new(None);
static CLOSED: Condvar = Condvar::new();

impl Root {
    /// Opens `directory` on `disk`, which is made if it is missing; shares it if this process has it open already.
    pub(super) fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Arc<Self>, OpenFailure> {
        let opening = Opening { disk, directory };
        disk::make_directories(&*opening.disk, directory, disk::USUAL)
            .map_err(opening.unusable("cannot create", directory))?;
        let path = directory
            .canonicalize()
            .map_err(opening.unusable("cannot find", directory))?;
        let metadata = path.metadata().map_err(opening.unusable("cannot look at", &path))?;
        let identity = (metadata.dev(), metadata.ino());

        let mut open = registry();
        loop {
            match open.get_or_insert_default().get(&identity).map(Weak::upgrade) {
                Some(Some(root)) => return Ok(root),
                // The last user is about to unlock it.
                Some(None) => open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner),
                None => break,
            }
        }
        let root = Arc::new(opening.claim(path, identity)?);
        open.get_or_insert_default().insert(identity, Arc::downgrade(&root));
        Ok(root)
    }

    /// Through which everything in it is changed.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that holds the object called `name`: its plain name, nothing encoded.
    pub(super) fn file(&self, name: &Name) -> Result<PathBuf, Fault> {
        if name.is_root() {
            return Err(Fault::Obstructed("it is empty"));
        }
        // A `Name` has no empty, `.` or `..` segments and no control characters.
        let path = self.path.join(name.as_ref());
        if self.is_private(&path) {
            return Err(Fault::Obstructed("it is reserved"));
        }
        Ok(path)
    }

    /// Whether `path` lies in the folder in which no object can be.
    pub(super) fn is_private(&self, path: &Path) -> bool {
        path.starts_with(&self.private)
    }

    /// A name for a file that is being written and nobody needs after a crash.
    pub(super) fn temporary(&self) -> PathBuf {
        self.private.join("tmp").join(random_id().simple().to_string())
    }

    /// Where the directories of unfinished uploads begin.
    pub(super) fn all_uploads(&self) -> PathBuf {
        self.private.join("uploads")
    }

    /// The directory of the unfinished uploads to the object called `name`.
    pub(super) fn uploads_to(&self, name: &Name) -> PathBuf {
        self.all_uploads().join(name.as_ref())
    }

    /// The staging file of an upload to `name`.
    pub(super) fn staging(&self, name: &Name, upload: Uuid) -> PathBuf {
        self.uploads_to(name).join(upload.simple().to_string())
    }

    /// Held from looking at what `path` is until it is replaced or removed.
    pub(super) fn hold(&self, path: &Path) -> MutexGuard<'_, ()> {
        // The lock guards no data that a panic could leave half done.
        self.names[shard(path)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shared by whoever writes to the staging file of `upload`; exclusive for whoever moves it or takes it away, so
    /// that no straggler writes to a published file.
    pub(super) fn upload(&self, upload: Uuid) -> &RwLock<()> {
        &self.uploads[shard(&upload)]
    }

    /// Removes `directory` and those above it as long as they are empty, but neither `above` nor what it lies in.
    pub(super) fn tidy(&self, directory: &Path, above: &Path) {
        let below = directory
            .ancestors()
            .take_while(|directory| *directory != above && directory.starts_with(above));
        for directory in below {
            // The kernel removes none that is not empty. One that comes back after a power cut does no harm.
            if self.disk.remove_directory(directory).is_err() {
                return;
            }
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let mut open = registry();
        // What could not be made safe is left to the next one to open the root. If this fails, that one syncs more than it has to.
        if self.unsettled.is_empty() {
            let _ = self.disk.set_length(&self.lock, 0);
        }
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
        open.get_or_insert_default().remove(&self.identity);
        CLOSED.notify_all();
    }
}

fn registry() -> MutexGuard<'static, Option<HashMap<Identity, Weak<Root>>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shard(key: &(impl Hash + ?Sized)) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // Less than SHARDS, so it fits.
    (hasher.finish() % SHARDS as u64) as usize
}

/// The steps of opening `directory`.
struct Opening<'a> {
    disk: Arc<dyn Disk>,
    directory: &'a Path,
}

impl Opening<'_> {
    fn claim(&self, path: PathBuf, identity: Identity) -> Result<Root, OpenFailure> {
        let private = path.join(PRIVATE);
        let (tmp, uploads) = (private.join("tmp"), private.join("uploads"));
        for directory in [&tmp, &uploads] {
            // What clients have sent so far is nobody else's business.
            let made = disk::make_directories(&*self.disk, directory, disk::OURS);
            made.map_err(self.unusable("cannot create", directory))?;
        }
        let lock = self.lock(&private.join("lock"))?;
        for directory in [&private, path.join(PRIVATE).parent().unwrap_or(&path), &path] {
            let synced = self.disk.sync_directory(directory);
            synced.map_err(|_| self.unsuitable("sync a directory"))?;
        }
        self.sync_above(&path, identity)?;
        self.clear(&tmp)?;
        self.drop_empty(&uploads)?;
        let renames_without_replacing = self.examine(&tmp)?;
        Ok(Root {
            disk: Arc::clone(&self.disk),
            path,
            private,
            identity,
            lock,
            renames_without_replacing,
            unsettled: Unsettled::on(Arc::clone(&self.disk)),
            names: (0..SHARDS).map(|_| Mutex::default()).collect(),
            uploads: (0..SHARDS).map(|_| RwLock::default()).collect(),
        })
    }

    /// Makes the name of the root safe, and the names of the directories above it: they may have been made a moment ago, by us or by a
    /// process that was killed before it came this far.
    fn sync_above(&self, root: &Path, (device, _): Identity) -> Result<(), OpenFailure> {
        for directory in root.ancestors().skip(1) {
            // What another file system is mounted on was there before.
            if directory.metadata().is_ok_and(|metadata| metadata.dev() != device) {
                break;
            }
            match self.disk.sync_directory(directory) {
                // Who may not even read it is not the one who made something in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(|_| self.unsuitable("sync a directory"))?,
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<File, OpenFailure> {
        let open = self.disk.open_or_create(path);
        let mut file = open.map_err(self.unusable("cannot open", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(OpenFailure::InUse {
                    directory: self.directory.to_owned(),
                });
            }
            Err(_) => return Err(self.unsuitable("lock files")),
        }
        let mut left = Vec::new();
        file.read_to_end(&mut left)
            .map_err(self.unusable("cannot read", path))?;
        if left.is_empty() {
            let written = self.disk.write(&file, IN_USE, 0);
            written.map_err(self.unusable("cannot write", path))?;
        } else {
            // The last process was killed: files that it has just made can be seen, and a power cut could still undo them.
            let synced = self.disk.sync_everything(&file);
            synced.map_err(self.unusable("cannot sync the file system of", path))?;
        }
        Ok(file)
    }

    /// Removes what was being written when the last process ended.
    fn clear(&self, tmp: &Path) -> Result<(), OpenFailure> {
        for entry in tmp.read_dir().map_err(self.unusable("cannot read", tmp))? {
            let path = entry.map_err(self.unusable("cannot read", tmp))?.path();
            let removed = self.disk.remove_file(&path);
            removed.map_err(self.unusable("cannot remove", &path))?;
        }
        Ok(())
    }

    /// Removes directories without uploads. The uploads stay: a record may name them.
    fn drop_empty(&self, directory: &Path) -> Result<(), OpenFailure> {
        for entry in directory.read_dir().map_err(self.unusable("cannot read", directory))? {
            let entry = entry.map_err(self.unusable("cannot read", directory))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.drop_empty(&entry.path())?;
                // The kernel removes none that is not empty.
                let _ = self.disk.remove_directory(&entry.path());
            }
        }
        Ok(())
    }

    /// Tries out what cannot be done without, and tells whether files can be renamed without replacing others.
    fn examine(&self, tmp: &Path) -> Result<bool, OpenFailure> {
        let disk = &*self.disk;
        let (one, two) = (Scratch::make(disk, tmp), Scratch::make(disk, tmp));
        let one = one.map_err(self.unusable("cannot write to", tmp))?;
        let two = two.map_err(self.unusable("cannot write to", tmp))?;
        let stamped = file::stamp(disk, &one.file, &one.path).ok();
        if stamped.is_none() || stamped != file::Facts::at(&one.path).ok().flatten() {
            return Err(self.unsuitable("keep the time of a file to the microsecond"));
        }
        match disk.rename_without_replacing(&one.path, &two.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
            Ok(()) => return Err(self.unsuitable("create a file only if it is absent")),
            Err(_) => {}
        }
        let linked = Scratch::name(tmp);
        let linking = disk.link(&one.path, &linked);
        let _ = disk.remove_file(&linked);
        let taken = disk.link(&one.path, &two.path).map_err(|error| error.kind());
        if linking.is_ok() && taken == Err(io::ErrorKind::AlreadyExists) {
            Ok(false)
        } else {
            Err(self.unsuitable("create a file only if it is absent"))
        }
    }

    fn unusable(&self, doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenFailure {
        let (directory, path) = (self.directory.to_owned(), path.to_owned());
        move |source| OpenFailure::Unusable {
            directory,
            doing,
            path,
            source,
        }
    }

    fn unsuitable(&self, lacks: &'static str) -> OpenFailure {
        OpenFailure::Unsuitable {
            directory: self.directory.to_owned(),
            lacks,
        }
    }
}

/// A file to try things out with, removed when it is dropped.
struct Scratch<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    file: File,
}

impl<'a> Scratch<'a> {
    fn name(tmp: &Path) -> PathBuf {
        tmp.join(random_id().simple().to_string())
    }

    fn make(disk: &'a dyn Disk, tmp: &Path) -> io::Result<Self> {
        let path = Self::name(tmp);
        let file = disk.create(&path)?;
        Ok(Self { disk, path, file })
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // If it fails, the next one to open the root clears it away.
        let _ = self.disk.remove_file(&self.path);
    }
}

#[cfg(test)]
impl Root {
    /// As on a file system that can't rename without replacing. Nobody shares it.
    pub(super) fn open_without_careful_renames(directory: &Path) -> Self {
        let metadata = directory.metadata().unwrap();
        let opening = Opening {
            disk: Arc::new(disk::MachineDisk),
            directory,
        };
        let mut root = opening
            .claim(directory.to_owned(), (metadata.dev(), metadata.ino()))
            .unwrap();
        root.renames_without_replacing = false;
        root
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::local::disk::MachineDisk;

    fn open(directory: &Path) -> Result<Arc<Root>, OpenFailure> {
        Root::open(Arc::new(MachineDisk), directory)
    }

    #[test]
    fn the_root_is_made_when_it_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let root = open(&place.path().join("a/b")).unwrap();
        assert!(root.path().join(PRIVATE).is_dir());
    }

    #[test]
    fn a_root_is_shared_within_a_process_by_whatever_path() {
        let place = tempfile::tempdir().unwrap();
        let (direct, link) = (place.path().join("direct"), place.path().join("link"));
        std::os::unix::fs::symlink("direct", &link).unwrap();
        let first = open(&direct).unwrap();
        let second = open(&link).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = open(&direct.join("below")).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn a_root_can_be_opened_again_and_again_by_many_threads() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(open(place.path()).unwrap())));
            }
        });
        assert!(
            !registry()
                .get_or_insert_default()
                .values()
                .any(|root| { root.upgrade().is_some_and(|root| root.path() == place.path()) })
        );
    }

    #[test]
    fn a_root_that_somebody_else_has_locked_is_refused_until_he_lets_go() {
        let place = tempfile::tempdir().unwrap();
        drop(open(place.path()).unwrap());
        // Another open file is another owner, in whatever process it is.
        let theirs = File::open(place.path().join(PRIVATE).join("lock")).unwrap();
        rustix::fs::flock(&theirs, FlockOperation::LockExclusive).unwrap();
        let refused = open(place.path()).unwrap_err();
        assert!(matches!(refused, OpenFailure::InUse { .. }));
        assert!(refused.to_string().contains(place.path().to_str().unwrap()));
        drop(theirs);
        open(place.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_refused_by_name() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = open(&file.join("below")).unwrap_err();
        assert!(matches!(&refused, OpenFailure::Unusable { directory, .. } if *directory == file.join("below")));
    }

    #[test]
    fn opening_clears_what_was_being_written_and_keeps_uploads() {
        let place = tempfile::tempdir().unwrap();
        let private = place.path().join(PRIVATE);
        fs::create_dir_all(private.join("tmp")).unwrap();
        fs::create_dir_all(private.join("uploads/empty/emptier")).unwrap();
        fs::create_dir_all(private.join("uploads/some/file")).unwrap();
        let (temporary, staging) = (private.join("tmp/abc"), private.join("uploads/some/file/def"));
        fs::write(&temporary, "half").unwrap();
        fs::write(&staging, "parts").unwrap();
        fs::write(private.join("lock"), IN_USE).unwrap();
        let _root = open(place.path()).unwrap();
        assert!(!temporary.exists());
        assert!(!private.join("uploads/empty").exists());
        assert_eq!(fs::read(&staging).unwrap(), b"parts");
        assert_eq!(private.join("tmp").read_dir().unwrap().count(), 0);
    }

    #[test]
    fn the_lock_file_tells_whether_the_root_was_closed_in_peace() {
        let place = tempfile::tempdir().unwrap();
        let lock = place.path().join(PRIVATE).join("lock");
        let root = open(place.path()).unwrap();
        assert_eq!(fs::read(&lock).unwrap(), IN_USE);
        drop(root);
        assert_eq!(fs::read(&lock).unwrap(), b"");
    }

    #[test]
    fn a_root_that_was_closed_with_files_that_are_not_safe_is_synced_by_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let lock = place.path().join(PRIVATE).join("lock");
        let root = open(place.path()).unwrap();
        // A file where a directory should be makes the sync fail.
        fs::write(place.path().join("obstacle"), "").unwrap();
        let publication = root.unsettled.begin(&place.path().join("obstacle/below/file"));
        publication.settle().unwrap_err();
        drop(root);
        assert_eq!(fs::read(&lock).unwrap(), IN_USE);
    }

    #[test]
    fn the_private_folder_is_nobodys_object() {
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path()).unwrap();
        for name in ["", PRIVATE, ".bits-gateway/local/lock"] {
            assert!(
                matches!(root.file(&Name::parse(name).unwrap()), Err(Fault::Obstructed(_))),
                "{name}"
            );
        }
        for name in [
            ".bits-gateway",
            ".bits-gateway/sessions/x",
            ".bits-gateway/locality",
            "x/.bits-gateway/local",
        ] {
            root.file(&Name::parse(name).unwrap()).unwrap();
        }
    }

    #[test]
    fn tidying_removes_empty_directories_and_stops_at_its_bound() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keep/a/b/c");
        fs::create_dir_all(&path).unwrap();
        fs::create_dir(place.path().join("keep/a/other")).unwrap();
        let root = open(place.path()).unwrap();
        root.tidy(&path, &place.path().join("keep"));
        assert!(!place.path().join("keep/a/b").exists());
        assert!(place.path().join("keep/a/other").exists());
        root.tidy(&place.path().join("keep/a/other"), &place.path().join("keep"));
        assert!(!place.path().join("keep/a").exists());
        assert!(place.path().join("keep").exists());
    }
}
