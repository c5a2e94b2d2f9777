//! What can be seen but might not survive a power cut yet.
//!
//! A file appears to everybody the moment it is renamed, and is safe only when its directory has been synced. Whoever
//! acts on what he saw in between (acknowledges it to a client, say) would build on sand. So each publication is
//! listed here until it is safe, and readers wait for those they may have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{self, Disk};
use super::fault::Fault;

/// The publications of one root that are not safe yet.
#[derive(Debug)]
pub(super) struct Unsettled {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: PathBuf,
    /// Directories that were made on the way. They are listed before they are made, so that nobody finds one that is
    /// neither listed nor safe.
    fresh: BTreeSet<PathBuf>,
    /// The sync failed: whoever comes across the file has to try it again before he may believe it.
    failed: bool,
}

impl Unsettled {
    /// None yet, of what is going to be on `disk`.
    pub(super) fn on(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether everything is safe that can be seen.
    pub(super) fn is_empty(&self) -> bool {
        self.state().entries.is_empty()
    }

    /// Announces that `file` is going to appear.
    pub(super) fn begin(&self, file: &Path) -> Publication<'_> {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.entries.insert(
            id,
            Entry {
                file: file.to_owned(),
                fresh: BTreeSet::new(),
                failed: false,
            },
        );
        Publication {
            unsettled: self,
            id,
            appeared: false,
        }
    }

    /// Returns once every file that is `seen`, and appeared before this call, is safe. Errors when one can't be made so.
    pub(super) fn settled(&self, seen: impl Fn(&Path) -> bool) -> Result<(), Fault> {
        let mut state = self.state();
        let now = state.next;
        loop {
            let found = state.entries.range(..now).find(|(_, entry)| seen(&entry.file));
            let Some((&id, entry)) = found else { return Ok(()) };
            if entry.failed {
                drop(state);
                self.sync_for(id)?;
                state = self.state();
                state.entries.remove(&id);
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Syncs what has to be synced for entry `id`.
    fn sync_for(&self, id: u64) -> Result<(), Fault> {
        let mut synced = BTreeSet::new();
        loop {
            // Asked again, because meanwhile somebody else may have tidied one of them away and made it anew.
            let directories = self.state().directories(id);
            let missing: BTreeSet<_> = directories.difference(&synced).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            self.sync(&missing)?;
            synced.extend(missing);
        }
    }

    fn sync(&self, directories: &BTreeSet<PathBuf>) -> Result<(), Fault> {
        // From the top: no name is safer than the directory that it is in.
        directories
            .iter()
            .try_for_each(|directory| self.sync_directory(directory))
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), Fault> {
        for there in directory.ancestors() {
            match self.disk.sync_directory(there) {
                // Emptied and tidied away by somebody else since. That it is gone must be safe then: if it came back, so would what was
                // in it before, which is older than what was answered.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                synced => return synced.map_err(Fault::when("cannot sync the directory", there)),
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves an entry behind at worst, never half an entry.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The directories that must be synced before the file of entry `id` is safe.
    fn directories(&self, id: u64) -> BTreeSet<PathBuf> {
        let Some(own) = self.entries.get(&id) else {
            return BTreeSet::new();
        };
        // Somebody else may have made a directory of ours and not be done with it.
        let fresh = self.entries.values().flat_map(|entry| &entry.fresh);
        let shaky = fresh.filter(|directory| own.fresh.contains(*directory) || own.file.starts_with(directory));
        shaky
            .map(PathBuf::as_path)
            .chain([own.file.as_path()])
            .filter_map(Path::parent)
            .map(Path::to_owned)
            .collect()
    }
}

/// A file that is about to appear. Dropping it makes safe what has been done so far.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    unsettled: &'a Unsettled,
    id: u64,
    appeared: bool,
}

impl Publication<'_> {
    /// Makes the directories above the file that are missing.
    pub(super) fn make_directories(&self) -> Result<(), Fault> {
        let file = match self.unsettled.state().entries.get(&self.id) {
            Some(entry) => entry.file.clone(),
            None => return Ok(()),
        };
        let mut missing: Vec<&Path> = Vec::new();
        for directory in file.ancestors().skip(1) {
            match directory.metadata() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(directory),
                Err(error) => return Err(Fault::when("cannot look at", directory)(error)),
            }
        }
        for directory in missing.into_iter().rev() {
            if let Some(entry) = self.unsettled.state().entries.get_mut(&self.id) {
                entry.fresh.insert(directory.to_owned());
            }
            match self.unsettled.disk.make_directory(directory, disk::USUAL) {
                // Gone again: a directory above it was empty and tidied away. The caller tries anew.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Fault::when("cannot create the directory", directory)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the file, which has appeared, safe against a power cut.
    pub(super) fn settle(mut self) -> Result<(), Fault> {
        self.appeared = true;
        self.finish()
    }

    fn finish(&self) -> Result<(), Fault> {
        {
            let mut state = self.unsettled.state();
            if !self.appeared && state.entries.get(&self.id).is_none_or(|entry| entry.fresh.is_empty()) {
                state.entries.remove(&self.id);
                self.unsettled.changed.notify_all();
                return Ok(());
            }
        }
        let synced = self.unsettled.sync_for(self.id);
        let mut state = self.unsettled.state();
        match &synced {
            Ok(()) => drop(state.entries.remove(&self.id)),
            Err(_) => {
                if let Some(entry) = state.entries.get_mut(&self.id) {
                    entry.failed = true;
                }
            }
        }
        self.unsettled.changed.notify_all();
        synced
    }
}

impl Drop for Publication<'_> {
    fn drop(&mut self) {
        let pending = self
            .unsettled
            .state()
            .entries
            .get(&self.id)
            .is_some_and(|entry| !entry.failed);
        if pending {
            // A failure stays in the list, where the next one who needs these directories meets it.
            let _ = self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::store::local::disk::MachineDisk;

    fn unsettled() -> Unsettled {
        Unsettled::on(Arc::new(MachineDisk))
    }

    #[test]
    fn a_reader_waits_for_a_file_that_has_appeared_and_is_not_safe_yet() {
        let root = tempfile::tempdir().unwrap();
        let unsettled = unsettled();
        let file = root.path().join("file");
        let publication = unsettled.begin(&file);
        File::create(&file).unwrap();
        let (told, tells) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unsettled.settled(|seen| seen == file).unwrap();
                told.send(()).unwrap();
            });
            unsettled.settled(|seen| seen == Path::new("another")).unwrap();
            assert!(tells.try_recv().is_err());
            publication.settle().unwrap();
            tells.recv_timeout(Duration::from_secs(30)).unwrap();
        });
    }

    #[test]
    fn a_reader_does_not_wait_for_what_appears_after_it_began() {
        let unsettled = unsettled();
        let file = Path::new("/nowhere/file");
        unsettled.settled(|seen| seen == file).unwrap();
        let publication = unsettled.begin(file);
        drop(publication);
        unsettled.settled(|seen| seen == file).unwrap();
        assert!(unsettled.state().entries.is_empty());
    }

    #[test]
    fn a_failed_sync_is_tried_again_by_whoever_comes_across_the_file() {
        let root = tempfile::tempdir().unwrap();
        let unsettled = unsettled();
        // A file where a directory should be makes the sync fail with something else than "not found".
        let obstacle = root.path().join("obstacle");
        File::create(&obstacle).unwrap();
        let file = obstacle.join("below").join("file");
        unsettled.begin(&file).settle().unwrap_err();
        unsettled.settled(|seen| seen == file).unwrap_err();
        std::fs::remove_file(&obstacle).unwrap();
        std::fs::create_dir_all(obstacle.join("below")).unwrap();
        unsettled.settled(|seen| seen == file).unwrap();
        assert!(unsettled.state().entries.is_empty());
    }

    #[test]
    fn a_directory_that_somebody_else_is_making_is_synced_by_everybody_who_uses_it() {
        let root = tempfile::tempdir().unwrap();
        let unsettled = unsettled();
        let directory = root.path().join("new");
        let first = unsettled.begin(&directory.join("first"));
        first.make_directories().unwrap();
        assert!(directory.is_dir());

        let second = unsettled.begin(&directory.join("second"));
        let expected = BTreeSet::from([root.path().to_owned(), directory.clone()]);
        assert_eq!(unsettled.state().directories(second.id), expected);
        drop(first);
        assert_eq!(unsettled.state().directories(second.id), BTreeSet::from([directory]));
    }

    #[test]
    fn directories_that_were_made_for_nothing_are_made_safe_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let unsettled = unsettled();
        let publication = unsettled.begin(&root.path().join("a/b/file"));
        publication.make_directories().unwrap();
        drop(publication);
        assert!(unsettled.state().entries.is_empty());
        assert!(root.path().join("a/b").is_dir());
    }
}
