//! Making files appear, replacing and removing them: in one step, and safe against a power cut before it is told.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::disk::Disk;
use super::fault::Fault;
use super::file::{self, Facts};
use super::root::Root;
use crate::clock::Deadline;

/// How often directories are made anew that others tidy away in the same moment.
const ATTEMPTS: usize = 64;

/// What has to be true of a name when a file gets it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    /// There is no file. Holds against other programs, too.
    Absent,
    /// The file that is there has this tag. Holds among the users of this adapter.
    Unchanged(&'a str),
    /// Nothing.
    Any,
}

impl Root {
    /// Makes a file of `content` appear at `path`, if `condition` holds.
    pub(super) fn write(
        &self,
        path: &Path,
        content: impl IntoIterator<Item = Bytes>,
        session: Option<&str>,
        condition: Condition<'_>,
        by: Deadline,
    ) -> Result<Facts, Fault> {
        // A hint that saves the writing; what counts is asked again in the end.
        let there = Facts::at(path)?;
        if matches!(condition, Condition::Absent) && there.is_some() {
            return Err(Fault::Exists);
        }
        let disk = self.disk();
        let mut temporary = Temporary {
            disk,
            path: self.temporary(),
            has_moved: false,
        };
        let file = disk
            .create(&temporary.path)
            .map_err(Fault::when("cannot create", &temporary.path))?;
        let mut offset = 0;
        for chunk in content {
            disk.write(&file, &chunk, offset)
                .map_err(Fault::when("cannot write", &temporary.path))?;
            offset += chunk.len() as u64;
        }
        if let Some(session) = session {
            file::note_session(disk, &file, session);
        }
        let facts = file::stamp(disk, &file, &temporary.path)?;
        disk.sync_file(&file)
            .map_err(Fault::when("cannot sync", &temporary.path))?;
        self.publish(&temporary.path, path, condition, by)?;
        temporary.has_moved = true;
        Ok(facts)
    }

    /// Gives the synced file at `from` the name `to`, if `condition` holds and `by` has not passed. After an error the file may have appeared
    /// all the same, but then [`Root::settled`] fails for it until it is safe.
    pub(super) fn publish(&self, from: &Path, to: &Path, condition: Condition<'_>, by: Deadline) -> Result<(), Fault> {
        let publication = self.unsettled.begin(to);
        let mut attempts = 0;
        loop {
            let held = self.hold(to);
            if let Condition::Unchanged(tag) = condition {
                let there = Facts::at(to)?.ok_or(Fault::Changed)?;
                if there.etag() != tag {
                    return Err(Fault::Changed);
                }
            }
            // Last, because to write and to sync may have taken long.
            if by.has_passed() {
                return Err(Fault::TooLate);
            }
            let links = matches!(condition, Condition::Absent) && !self.renames_without_replacing;
            let moved = match condition {
                Condition::Absent if links => self.disk().link(from, to),
                Condition::Absent => self.disk().rename_without_replacing(from, to),
                Condition::Unchanged(_) | Condition::Any => self.disk().rename(from, to),
            };
            drop(held);
            match moved {
                Ok(()) => {
                    publication.settle()?;
                    if links {
                        // Not before the new name is safe: a power cut could leave the file without any. A crash in between leaves it
                        // with both. That of a temporary file is removed at the next start; a staging file is recognised by the next
                        // completion.
                        let _ = self.disk().remove_file(from);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => {
                    attempts += 1;
                    publication.make_directories()?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // It may be no file at all.
                    Facts::at(to)?;
                    return Err(Fault::Exists);
                }
                Err(error) => return Err(Fault::when("cannot move a file to", to)(error)),
            }
        }
    }

    /// Creates the file `path` and writes nothing to it; its name is safe afterwards.
    pub(super) fn create(&self, path: &Path) -> Result<File, Fault> {
        let publication = self.unsettled.begin(path);
        let mut attempts = 0;
        let file = loop {
            match self.disk().create(path) {
                Ok(file) => break file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => {
                    attempts += 1;
                    publication.make_directories()?;
                }
                Err(error) => return Err(Fault::when("cannot create", path)(error)),
            }
        };
        publication.settle()?;
        Ok(file)
    }

    /// Makes the directory in which another program is going to write the file `path`.
    pub(super) fn make_way(&self, path: &Path) -> Result<(), Fault> {
        let publication = self.unsettled.begin(path);
        publication.make_directories()?;
        publication.settle()
    }

    /// Makes the file `path` safe that another program wrote, if it did.
    pub(super) fn adopt(&self, path: &Path) -> Result<(), Fault> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Fault::when("cannot open", path)(error)),
        };
        self.disk().sync_file(&file).map_err(Fault::when("cannot sync", path))?;
        self.unsettled.begin(path).settle()
    }

    /// Removes the file `path` and the directories that it leaves empty, except the topmost: that may be the admin's.
    pub(super) fn remove(&self, path: &Path) -> Result<(), Fault> {
        let held = self.hold(path);
        match self.disk().remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::NotFound),
            Err(_) if path.is_dir() => return Err(Fault::Obstructed("a directory has it")),
            Err(error) => return Err(Fault::when("cannot remove", path)(error)),
        }
        drop(held);
        let below = path
            .strip_prefix(self.path())
            .ok()
            .and_then(|below| below.iter().next());
        if let (Some(directory), Some(topmost)) = (path.parent(), below) {
            self.tidy(directory, &self.path().join(topmost));
        }
        Ok(())
    }

    /// Waits until what is seen at `path` would survive a power cut.
    pub(super) fn settled(&self, path: &Path) -> Result<(), Fault> {
        self.unsettled.settled(|file| file == path)
    }
}

/// A file that is removed unless it was published.
#[derive(Debug)]
struct Temporary<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    has_moved: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.has_moved {
            // What is left is cleared at the next start.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::local::disk::MachineDisk;

    fn x() -> [Bytes; 1] {
        [Bytes::from_static(b"x")]
    }

    #[test]
    fn a_file_system_without_careful_renames_is_helped_by_links() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open_without_careful_renames(place.path());
        let file = place.path().join("a/b/file");
        root.write(&file, x(), None, Condition::Absent, Deadline::NEVER)
            .unwrap();
        assert!(matches!(
            root.write(&file, x(), None, Condition::Absent, Deadline::NEVER),
            Err(Fault::Exists)
        ));
        let staged = root.temporary();
        fs::write(&staged, "y").unwrap();
        assert!(matches!(
            root.publish(&staged, &file, Condition::Absent, Deadline::NEVER),
            Err(Fault::Exists)
        ));
        root.publish(&staged, &place.path().join("other"), Condition::Absent, Deadline::NEVER)
            .unwrap();
        assert!(!staged.exists());
        assert_eq!(root.temporary().parent().unwrap().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_could_not_be_written_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(std::sync::Arc::new(MachineDisk), place.path()).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let below = place.path().join("file/below");
        let temporary = root.temporary();
        fs::write(&temporary, "z").unwrap();
        assert!(matches!(
            root.publish(&temporary, &below, Condition::Absent, Deadline::NEVER),
            Err(Fault::Obstructed(_))
        ));
        assert!(matches!(
            root.write(&below, x(), None, Condition::Any, Deadline::NEVER),
            Err(Fault::Obstructed(_))
        ));
        let missing = root.publish(
            &root.temporary(),
            &place.path().join("new/file"),
            Condition::Any,
            Deadline::NEVER,
        );
        assert!(matches!(missing, Err(Fault::Io { .. })));
        root.settled(&below).unwrap();
        assert_eq!(root.temporary().parent().unwrap().read_dir().unwrap().count(), 1);
    }
}
