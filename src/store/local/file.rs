//! What one file says about itself: its tag, its mark, the session that wrote it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::disk::Disk;
use super::fault::Fault;

/// The extended attribute that names the session which wrote a file.
const SESSION: &str = "user.bits-session";

/// What tells one file, and one content of it, from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    device: u64,
    inode: u64,
    /// Bytes.
    pub(super) size: u64,
    /// When the content was written.
    pub(super) modified: SystemTime,
    born: Option<SystemTime>,
}

impl Facts {
    /// Of an open file.
    pub(super) fn of(file: &File, path: &Path) -> Result<Self, Fault> {
        let metadata = file.metadata().map_err(Fault::when("cannot look at", path))?;
        Self::new(&metadata)
    }

    /// Of the file at `path`, if there is anything. Errors when what is there is no file.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, Fault> {
        match path.metadata() {
            Ok(metadata) => Self::new(&metadata).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    Err(Fault::Obstructed("a symbolic link that leads nowhere has it"))
                }
                // Came in between.
                Ok(metadata) => Self::new(&metadata).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Fault::when("cannot look at", path)(error)),
            },
            Err(error) => Err(Fault::when("cannot look at", path)(error)),
        }
    }

    /// From the answer of the file system. Errors when it is no file.
    pub(super) fn new(metadata: &Metadata) -> Result<Self, Fault> {
        if metadata.is_dir() {
            return Err(Fault::Obstructed("a directory has it"));
        }
        if !metadata.is_file() {
            return Err(Fault::Obstructed("something that is not a file has it"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            born: metadata.created().ok(),
        })
    }

    /// Changes with every content: [`stamp`] sees to it that two never have the same time of modification.
    pub(super) fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.inode, nanos(self.modified), self.size)
    }

    /// The same before and after the file is moved or the machine is started again, and no other file's: the time of birth tells it from
    /// one that got the number of a deleted one. Without the device, whose number may be another one after each start; a file does not
    /// leave it.
    pub(super) fn mark(&self) -> String {
        match self.born {
            Some(born) => format!("{:x}:{:x}", self.inode, nanos(born)),
            None => format!("{:x}", self.inode),
        }
    }

    /// When the file was made, or, where the file system does not know, written to.
    pub(super) fn began(&self) -> SystemTime {
        self.born.unwrap_or(self.modified)
    }

    /// Whether both are one file, whatever its name and content.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Opens `path` to be read. Errors with [`Fault::NotFound`], and with [`Fault::Obstructed`] when it is no file.
pub(super) fn open(path: &Path) -> Result<(File, Facts), Fault> {
    // Without NONBLOCK, opening a pipe would wait for somebody to write to it; for files it means nothing.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(Fault::NotFound),
        Err(Errno::NXIO) => return Err(Fault::Obstructed("something that is not a file has it")),
        Err(errno) => return Err(Fault::when("cannot open", path)(errno)),
    };
    let facts = Facts::of(&file, path)?;
    Ok((file, facts))
}

/// Gives `file` a time of modification that no other file of this process has: its own, moved on by microseconds if need
/// be. The clock that file systems use stands still for milliseconds, and they use the numbers of deleted files again,
/// so that without this a tag could come back.
pub(super) fn stamp(disk: &dyn Disk, file: &File, path: &Path) -> Result<Facts, Fault> {
    let facts = Facts::of(file, path)?;
    let unique = SystemTime::UNIX_EPOCH + Duration::from_micros(unique(nanos(facts.modified) / 1000));
    disk.set_modified(file, unique)
        .map_err(Fault::when("cannot set the time of", path))?;
    Ok(Facts {
        modified: unique,
        ..facts
    })
}

fn unique(micros: u64) -> u64 {
    /// A clock that was put back further than this is followed, or the times of files would stand still until it is
    /// where it has been.
    const DRIFT: u64 = 1_000_000;
    static LAST: Mutex<u64> = Mutex::new(0);

    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = if micros > *last || micros.saturating_add(DRIFT) < *last {
        micros
    } else {
        *last + 1
    };
    *last
}

/// Notes on `file` which session wrote it, where the file system keeps such notes.
pub(super) fn note_session(disk: &dyn Disk, file: &File, session: &str) {
    // Without the note, a file is recognised by its mark.
    let _ = disk.set_attribute(file, SESSION, session.as_bytes());
}

/// Which session wrote `file`, if that is noted.
pub(super) fn noted_session(file: &File) -> Option<String> {
    let mut value = [0; 64];
    let length = rustix::fs::fgetxattr(file, SESSION, &mut value[..]).ok()?;
    Some(std::str::from_utf8(value.get(..length)?).ok()?.to_owned())
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rustix::fs::XattrFlags;

    use super::*;
    use crate::store::local::disk::MachineDisk;

    #[test]
    fn no_two_stamps_are_alike_even_when_the_clock_stands_still() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let file = File::create(&path).unwrap();
        let mut tags = std::collections::HashSet::new();
        for _ in 0..1000 {
            stamp(&MachineDisk, &file, &path).unwrap();
            assert!(tags.insert(Facts::of(&file, &path).unwrap().etag()));
        }
    }

    #[test]
    fn a_stamp_is_what_the_file_says_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let file = File::create(&path).unwrap();
        let stamped = stamp(&MachineDisk, &file, &path).unwrap();
        assert_eq!(Facts::at(&path).unwrap(), Some(stamped));
    }

    #[test]
    fn a_stamp_stays_near_the_clock() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let file = File::create(&path).unwrap();
        let before = Facts::of(&file, &path).unwrap().modified;
        let after = stamp(&MachineDisk, &file, &path).unwrap().modified;
        let off = after.duration_since(before).unwrap_or_else(|error| error.duration());
        assert!(off < Duration::from_secs(2), "{off:?}");
    }

    #[test]
    fn the_mark_of_a_file_outlives_writing_and_moving() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        std::fs::write(&old, "content").unwrap();
        let mark = Facts::at(&old).unwrap().unwrap().mark();
        std::fs::write(&old, "other content").unwrap();
        std::fs::rename(&old, &new).unwrap();
        assert_eq!(Facts::at(&new).unwrap().unwrap().mark(), mark);
        std::fs::write(&old, "other content").unwrap();
        assert_ne!(Facts::at(&old).unwrap().unwrap().mark(), mark);
    }

    #[test]
    fn the_mark_of_a_file_outlives_a_start_that_gives_the_disk_another_number() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let facts = Facts::at(&path).unwrap().unwrap();
        let later = Facts {
            device: facts.device + 1,
            ..facts
        };
        assert_eq!(later.mark(), facts.mark());
    }

    #[test]
    fn what_is_not_a_file_is_told_from_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("name");
        assert_eq!(Facts::at(&path).unwrap(), None);
        assert!(matches!(open(&path), Err(Fault::NotFound)));

        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(matches!(Facts::at(&path), Err(Fault::Obstructed(_))));
        std::fs::remove_file(&path).unwrap();

        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(Facts::at(&path), Err(Fault::Obstructed(_))));
        assert!(matches!(open(&path), Err(Fault::Obstructed(_))));
        std::fs::remove_file(&path).unwrap();

        std::fs::create_dir(&path).unwrap();
        assert!(matches!(open(&path), Err(Fault::Obstructed(_))));
        assert!(matches!(open(&path.join("below")), Err(Fault::NotFound)));
    }

    #[test]
    fn a_file_that_comes_and_goes_is_never_taken_for_something_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2000 {
                    std::fs::write(&path, "").unwrap();
                    std::fs::remove_file(&path).unwrap();
                }
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                Facts::at(&path).unwrap();
            }
        });
    }

    #[test]
    fn a_noted_session_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let file = File::create(&path).unwrap();
        assert_eq!(noted_session(&file), None);
        note_session(&MachineDisk, &file, "some-session");
        let supported = rustix::fs::fsetxattr(&file, "user.other", b"x", XattrFlags::empty()).is_ok();
        assert_eq!(noted_session(&file).is_some(), supported);
        std::fs::rename(&path, root.path().join("moved")).unwrap();
        assert_eq!(
            noted_session(&File::open(root.path().join("moved")).unwrap()).is_some(),
            supported
        );
    }
}
