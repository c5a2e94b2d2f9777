//! Listing: every file below a directory, in batches, so that no more than a batch is held.

use std::fs::{DirEntry, ReadDir};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::path::Path as Name;

use super::fault::Fault;
use super::file::Facts;
use super::root::Root;

/// Files in a batch, at most.
const BATCH: usize = 1000;

/// A walk that has got somewhere.
#[derive(Debug)]
pub(super) struct Walk {
    root: Arc<Root>,
    start: PathBuf,
    deep: bool,
    begun: bool,
    /// The directories being read, the deepest last.
    open: Vec<(PathBuf, ReadDir)>,
}

/// What a walk comes across.
#[derive(Debug)]
pub(super) enum Found {
    /// A file.
    File(Name, Facts),
    /// A directory, which the walk does not enter.
    Directory(Name),
}

impl Walk {
    /// Through everything below `prefix`, directories and all. Links to directories are not followed: they might lead
    /// in a circle.
    pub(super) fn everything(root: Arc<Root>, prefix: Option<&Name>) -> Self {
        Self::new(root, prefix, true)
    }

    /// Through what is directly in `prefix`.
    pub(super) fn directory(root: Arc<Root>, prefix: Option<&Name>) -> Self {
        Self::new(root, prefix, false)
    }

    fn new(root: Arc<Root>, prefix: Option<&Name>, deep: bool) -> Self {
        let start = prefix.map_or_else(|| root.path().to_owned(), |prefix| root.path().join(prefix.as_ref()));
        Self {
            root,
            start,
            deep,
            begun: false,
            open: Vec::new(),
        }
    }

    /// The next files, in no order, and the rest of the walk unless it is over. Every one of them would survive a power
    /// cut.
    pub(super) fn batch(mut self) -> Result<(Vec<Found>, Option<Self>), Fault> {
        if !self.begun {
            self.begun = true;
            self.enter(self.start.clone())?;
        }
        let mut found = Vec::new();
        while found.len() < BATCH {
            let Some((directory, entries)) = self.open.last_mut() else {
                break;
            };
            match entries.next() {
                None => drop(self.open.pop()),
                Some(Ok(entry)) => found.extend(self.look_at(&entry)?),
                Some(Err(error)) => return Err(Fault::when("cannot read the directory", directory)(error)),
            }
        }
        self.root.unsettled.settled(|file| file.starts_with(&self.start))?;
        let over = self.open.is_empty();
        Ok((found, (!over).then_some(self)))
    }

    fn enter(&mut self, directory: PathBuf) -> Result<(), Fault> {
        if self.root.is_private(&directory) {
            return Ok(());
        }
        match directory.read_dir() {
            Ok(entries) => self.open.push((directory, entries)),
            // Never there, gone since, or a file: nothing is below it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Fault::when("cannot read the directory", &directory)(error)),
        }
        Ok(())
    }

    fn look_at(&mut self, entry: &DirEntry) -> Result<Option<Found>, Fault> {
        let path = entry.path();
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::when("cannot look at", &path)(error)),
        };
        if kind.is_dir() {
            if self.deep {
                self.enter(path)?;
                return Ok(None);
            }
            let visible = !self.root.is_private(&path);
            return Ok(self.name(&path).filter(|_| visible).map(Found::Directory));
        }
        match Facts::at(&path) {
            Ok(Some(facts)) => Ok(self.name(&path).map(|name| Found::File(name, facts))),
            // Gone since, or something that is no file.
            Ok(None) | Err(Fault::Obstructed(_)) => Ok(None),
            // Leaving out what can't be looked at would hide bytes that were acknowledged.
            Err(fault) => Err(fault),
        }
    }

    /// The name of an object at `path`; none when no object can be there, because the file's name is no Unicode, or
    /// has control characters.
    fn name(&self, path: &Path) -> Option<Name> {
        Name::parse(path.strip_prefix(self.root.path()).ok()?.to_str()?).ok()
    }
}
