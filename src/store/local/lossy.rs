//! A machine whose disk forgets what was not synced when its power fails.
//!
//! Everything happens in a temporary directory, so that whoever looks sees what a kernel would show. A model beside it knows what is
//! safe: of a file, what was in it when it was last synced; of a directory, its names when it was last synced. A power cut leaves that,
//! and of whatever came later what the dice say:
//! - of the bytes, any blocks of 4 KiB, torn at any sector; the size before or after any write; zeros where nothing arrived;
//! - the time of modification and each attribute for itself;
//! - of the names, any of the changes, in whatever order they were made and whatever is in the files that they name. But the changes
//!   of one name come in their order, no file loses its old name by a rename before it can be found under its new one, and a directory
//!   that is gone was empty.
//!
//! A file keeps its inode over the cut, and so its tag and its mark, as it does on a real disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::io::Errno;

use super::LocalDirectory;
use super::disk::{Disk, MachineDisk};
use super::root::OpenFailure;
use crate::store::Store;
use crate::store::bucket::Bucket;
use crate::store::dice::Dice;
use crate::store::keys::{DEFAULT_RESERVED, Layout};

/// What a disk writes at once at best.
const BLOCK: usize = 4096;

/// What a disk writes at once in any case.
const SECTOR: usize = 512;

/// A machine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    place: tempfile::TempDir,
    dice: Dice,
    /// How often the power came back.
    boots: u64,
    /// The one process that may write.
    process: u64,
    is_off: bool,
    /// Operations until the power fails.
    left: Option<u64>,
    /// The number of the next change.
    next: u64,
    /// What kind of file system it is.
    habits: Habits,
    /// By inode.
    files: HashMap<u64, Content>,
    /// By inode. The open file keeps its number from being used again.
    directories: HashMap<u64, (File, BTreeMap<OsString, u64>)>,
    /// What was done to names and is not safe yet, in order.
    changes: Vec<Change>,
}

/// What kind of file system it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// It can rename without replacing.
    pub(crate) careful_renames: bool,
    /// It keeps extended attributes.
    pub(crate) attributes: bool,
    /// Threads give way to each other at every operation.
    pub(crate) restless: bool,
}

/// What is in a file.
#[derive(Debug)]
struct Content {
    /// As it would be found after a power cut at worst.
    safe: Vec<u8>,
    /// The writes since then.
    writes: Vec<Write>,
    safe_modified: SystemTime,
    attributes: BTreeMap<String, Vec<u8>>,
    safe_attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A name that was given to something else, or taken away.
#[derive(Clone, Debug)]
struct Change {
    number: u64,
    directory: u64,
    name: OsString,
    to: Option<u64>,
    /// The changes that it cannot be safe without.
    after: Vec<u64>,
}

impl Machine {
    pub(crate) fn new(dice: Dice, habits: Habits) -> Self {
        let place = place();
        fs::create_dir(place.path().join("vault")).unwrap();
        let probe = File::open(place.path()).unwrap();
        let habits = Habits {
            attributes: habits.attributes && MachineDisk.set_attribute(&probe, "user.probe", b"x").is_ok(),
            ..habits
        };
        let mut state = State {
            place,
            dice,
            boots: 0,
            process: 0,
            is_off: false,
            left: None,
            next: 0,
            habits,
            files: HashMap::new(),
            directories: HashMap::new(),
            changes: Vec::new(),
        };
        fs::create_dir(state.top()).unwrap();
        state.know(&state.top(), BTreeMap::new());
        Self(Arc::new(Mutex::new(state)))
    }

    /// What is to be opened as a store. It is not there at first, nor is the directory that it lies in.
    pub(crate) fn root(&self) -> PathBuf {
        self.state().top().join("srv/data")
    }

    /// Ends the process that had the disk, whatever it is doing, and starts another one.
    pub(crate) fn start(&self) -> Arc<LossyDisk> {
        let mut state = self.state();
        state.process += 1;
        state.is_off = false;
        Arc::new(LossyDisk {
            machine: self.clone(),
            process: state.process,
        })
    }

    /// The next `operations` succeed, then the power fails.
    pub(crate) fn fail_after(&self, operations: Option<u64>) {
        self.state().left = operations;
    }

    /// Whether the power has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Whether it keeps extended attributes, and so does the file system that it lies on.
    pub(crate) fn keeps_attributes(&self) -> bool {
        self.state().habits.attributes
    }

    /// The power comes back, and there is what the disk has kept. Nobody may have a file open that he could write to.
    pub(crate) fn lose_power(&self) {
        self.state().lose_power();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn top(&self) -> PathBuf {
        self.place.path().join(self.boots.to_string())
    }

    /// A second name of each file, so that its inode stays what it is when its last name goes.
    fn vault(&self, inode: u64) -> PathBuf {
        self.place.path().join("vault").join(inode.to_string())
    }

    fn know(&mut self, directory: &Path, names: BTreeMap<OsString, u64>) -> u64 {
        let file = File::open(directory).unwrap();
        let inode = file.metadata().unwrap().ino();
        self.directories.insert(inode, (file, names));
        inode
    }

    /// A file has come at `path`.
    fn created(&mut self, file: &File, path: &Path) {
        let metadata = file.metadata().unwrap();
        fs::hard_link(path, self.vault(metadata.ino())).unwrap();
        let content = Content {
            safe: Vec::new(),
            writes: Vec::new(),
            safe_modified: metadata.modified().unwrap(),
            attributes: BTreeMap::new(),
            safe_attributes: BTreeMap::new(),
        };
        self.files.insert(metadata.ino(), content);
        self.change(path, Some(metadata.ino()), Vec::new());
    }

    /// The name `path` means something else from now on.
    fn change(&mut self, path: &Path, to: Option<u64>, after: Vec<u64>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.changes.push(Change {
            number,
            directory: inode(path.parent().unwrap()).unwrap(),
            name: path.file_name().unwrap().to_owned(),
            to,
            after,
        });
        number
    }

    /// The changes that made the directories above `path` what they are, as far as they are not safe yet.
    fn ways(&self, path: &Path) -> Vec<u64> {
        let directories = path.ancestors().skip(1).map_while(|directory| inode(directory).ok());
        let directories: Vec<_> = directories.collect();
        let made = |change: &&Change| change.to.is_some_and(|to| directories.contains(&to));
        self.changes.iter().filter(made).map(|change| change.number).collect()
    }

    fn content(&mut self, file: &File) -> &mut Content {
        let inode = file.metadata().unwrap().ino();
        self.files.get_mut(&inode).expect("every file is known")
    }

    fn sync_file(&mut self, inode: u64, wholly: bool) {
        let path = self.vault(inode);
        let content = self.files.get_mut(&inode).expect("every file is known");
        content.safe = fs::read(&path).unwrap();
        content.writes.clear();
        if wholly {
            content.safe_modified = path.metadata().unwrap().modified().unwrap();
            content.safe_attributes = content.attributes.clone();
        }
    }

    /// Makes changes of names safe, and those that they cannot be safe without.
    fn keep(&mut self, mut chosen: BTreeSet<usize>) {
        let needs = |one: &Change, other: &Change| {
            one.after.contains(&other.number) || (one.directory, &one.name) == (other.directory, &other.name)
        };
        for at in (0..self.changes.len()).rev() {
            if chosen.contains(&at) {
                let earlier = (0..at).filter(|&earlier| needs(&self.changes[at], &self.changes[earlier]));
                chosen.extend(earlier.collect::<Vec<_>>());
            }
        }
        for (at, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            if !chosen.contains(&at) {
                self.changes.push(change);
                continue;
            }
            let (_, names) = self
                .directories
                .get_mut(&change.directory)
                .expect("every directory is known");
            match change.to {
                Some(inode) => names.insert(change.name, inode),
                None => names.remove(&change.name),
            };
        }
    }

    fn lose_power(&mut self) {
        self.process += 1;
        self.is_off = true;
        let often = *self.dice.pick(&[0, 100, 500, 900, 1000]);
        // What is worst for whoever removes an old thing before the new one is safe.
        let only_removals = self.dice.chance(200);
        let mut chosen = BTreeSet::new();
        for (at, change) in self.changes.iter().enumerate() {
            if self.dice.chance(often) && !(only_removals && change.to.is_some()) {
                chosen.insert(at);
            }
        }
        self.keep(chosen);
        self.changes.clear();

        let (old, top) = (self.top(), inode(&self.top()).unwrap());
        self.boots += 1;
        let mut found = HashSet::new();
        let directories = std::mem::take(&mut self.directories);
        self.restore(&directories, top, &self.top(), &mut found);
        fs::remove_dir_all(old).unwrap();
        for lost in self.files.keys().filter(|inode| !found.contains(*inode)) {
            fs::remove_file(self.vault(*lost)).unwrap();
        }
        self.files.retain(|inode, _| found.contains(inode));
    }

    /// Makes `directory` anew at `path`, with all that is below it.
    fn restore(
        &mut self,
        directories: &HashMap<u64, (File, BTreeMap<OsString, u64>)>,
        directory: u64,
        path: &Path,
        found: &mut HashSet<u64>,
    ) {
        fs::create_dir(path).unwrap();
        let mut names = BTreeMap::new();
        for (name, &inode) in &directories[&directory].1 {
            let path = path.join(name);
            if directories.contains_key(&inode) {
                self.restore(directories, inode, &path, found);
                names.insert(name.clone(), self::inode(&path).unwrap());
            } else {
                if found.insert(inode) {
                    self.restore_file(inode);
                }
                fs::hard_link(self.vault(inode), &path).unwrap();
                names.insert(name.clone(), inode);
            }
        }
        self.know(path, names);
    }

    fn restore_file(&mut self, inode: u64) {
        let path = self.vault(inode);
        let content = self.files.get_mut(&inode).expect("every file is known");
        let bytes = content.after_a_cut(&mut self.dice);
        let modified = if self.dice.chance(500) {
            path.metadata().unwrap().modified().unwrap()
        } else {
            content.safe_modified
        };
        let written = std::mem::take(&mut content.attributes);
        content.attributes = content.safe_attributes.clone();
        for (name, value) in written {
            if self.dice.chance(500) {
                content.attributes.insert(name.clone(), value);
            } else if content.safe_attributes.get(&name) != Some(&value) {
                rustix::fs::removexattr(&path, name.as_str()).unwrap();
            }
        }
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        // In this order: some file systems write a file out at once that was truncated before.
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (name, value) in &content.attributes {
            MachineDisk.set_attribute(&file, name, value).unwrap();
        }
        file.set_modified(modified).unwrap();
        self.sync_file(inode, true);
    }
}

impl Content {
    fn after_a_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        let mut sizes = vec![bytes.len()];
        let often = *dice.pick(&[0, 100, 500, 900, 1000]);
        // Once a write to a block got lost, so did the later ones: they are in the same page.
        let mut lost = HashSet::new();
        let mut length = bytes.len();
        for write in &self.writes {
            match write {
                Write::Length(to) => length = *to,
                Write::Bytes { offset, bytes: written } => {
                    let end = offset + written.len();
                    length = length.max(end);
                    bytes.resize(bytes.len().max(end), 0);
                    for block in offset / BLOCK..end.div_ceil(BLOCK) {
                        let (from, to) = ((block * BLOCK).max(*offset), ((block + 1) * BLOCK).min(end));
                        if lost.contains(&block) {
                            continue;
                        }
                        let mut torn = to;
                        if !dice.chance(often) {
                            lost.insert(block);
                            let sectors = dice.below((BLOCK / SECTOR) as u64 + 1);
                            torn = (block * BLOCK + usize::try_from(sectors).unwrap() * SECTOR).clamp(from, to);
                        }
                        bytes[from..torn].copy_from_slice(&written[from - offset..torn - offset]);
                    }
                }
            }
            sizes.push(length);
        }
        bytes.resize(*dice.pick(&sizes), 0);
        bytes
    }
}

/// The disk, as one process has it: dead for it as soon as the power fails or another one is started.
#[derive(Debug)]
pub(crate) struct LossyDisk {
    machine: Machine,
    process: u64,
}

impl LossyDisk {
    /// Opens the directory of the machine. `None` when the power fails meanwhile.
    pub(in crate::store) fn open(self: &Arc<Self>) -> Option<LocalDirectory> {
        let disk: Arc<dyn Disk> = self.clone();
        let opened: Result<_, OpenFailure> = LocalDirectory::on(disk, &self.machine.root());
        match opened {
            Ok(directory) => Some(directory),
            Err(_) if self.is_dead() => None,
            Err(failure) => panic!("the store cannot be opened: {failure}"),
        }
    }

    /// The same as a store.
    pub(crate) fn store(self: &Arc<Self>) -> Option<Store> {
        let bucket: Arc<dyn Bucket> = Arc::new(self.open()?);
        let layout = Layout::new("", "", DEFAULT_RESERVED).unwrap();
        Some(Store::over(
            "lossy".to_owned(),
            Arc::clone(&bucket),
            bucket,
            layout,
            None,
            None,
        ))
    }

    /// Whether nothing that this process does has any effect.
    pub(crate) fn is_dead(&self) -> bool {
        let state = self.machine.state();
        state.is_off || state.process != self.process
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.machine.state();
        if state.habits.restless {
            for _ in 0..state.dice.below(4) {
                drop(state);
                std::thread::yield_now();
                state = self.machine.state();
            }
        }
        if state.left == Some(0) {
            state.is_off = true;
        }
        if state.is_off || state.process != self.process {
            return Err(Errno::IO.into());
        }
        state.left = state.left.map(|left| left - 1);
        Ok(state)
    }

    fn renamed(state: &mut State, from: &Path, to: &Path, file: u64) {
        let mut needed = state.ways(to);
        needed.push(state.change(to, Some(file), Vec::new()));
        state.change(from, None, needed);
    }
}

impl Disk for LossyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.operation()?;
        let file = MachineDisk.create(path)?;
        state.created(&file, path);
        Ok(file)
    }

    fn open_or_create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.operation()?;
        let is_new = !path.exists();
        let file = MachineDisk.open_or_create(path)?;
        if is_new {
            state.created(&file, path);
        }
        Ok(file)
    }

    fn write(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.operation()?;
        MachineDisk.write(file, content, offset)?;
        state.content(file).writes.push(Write::Bytes {
            offset: usize::try_from(offset).unwrap(),
            bytes: content.to_vec(),
        });
        Ok(())
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        let mut state = self.operation()?;
        MachineDisk.set_length(file, length)?;
        let length = Write::Length(usize::try_from(length).unwrap());
        state.content(file).writes.push(length);
        Ok(())
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        let _state = self.operation()?;
        MachineDisk.set_modified(file, time)
    }

    fn set_attribute(&self, file: &File, name: &str, value: &[u8]) -> io::Result<()> {
        let mut state = self.operation()?;
        if !state.habits.attributes {
            return Err(Errno::OPNOTSUPP.into());
        }
        MachineDisk.set_attribute(file, name, value)?;
        let attributes = &mut state.content(file).attributes;
        attributes.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn sync_content(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.operation()?.sync_file(inode, false);
        Ok(())
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.operation()?.sync_file(inode, true);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let file = inode(from)?;
        MachineDisk.rename(from, to)?;
        Self::renamed(&mut state, from, to, file);
        Ok(())
    }

    fn rename_without_replacing(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        if !state.habits.careful_renames {
            return Err(Errno::INVAL.into());
        }
        let file = inode(from)?;
        MachineDisk.rename_without_replacing(from, to)?;
        Self::renamed(&mut state, from, to, file);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        MachineDisk.link(from, to)?;
        state.change(to, Some(inode(from)?), Vec::new());
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        MachineDisk.remove_file(path)?;
        state.change(path, None, Vec::new());
        Ok(())
    }

    fn make_directory(&self, path: &Path, access: u32) -> io::Result<()> {
        let mut state = self.operation()?;
        MachineDisk.make_directory(path, access)?;
        let directory = state.know(path, BTreeMap::new());
        state.change(path, Some(directory), Vec::new());
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let directory = inode(path)?;
        MachineDisk.remove_directory(path)?;
        let emptied = state.changes.iter().filter(|change| change.directory == directory);
        let emptied = emptied.map(|change| change.number).collect();
        state.change(path, None, emptied);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        // Those above the machine's own are there for good, and match nothing.
        let directory = inode(path)?;
        let changes = state.changes.iter().enumerate();
        let own = changes.filter(|(_, change)| change.directory == directory);
        let own = own.map(|(at, _)| at).collect();
        state.keep(own);
        Ok(())
    }

    fn sync_everything(&self, _: &File) -> io::Result<()> {
        let mut state = self.operation()?;
        for inode in state.files.keys().copied().collect::<Vec<_>>() {
            state.sync_file(inode, true);
        }
        let all = (0..state.changes.len()).collect();
        state.keep(all);
        Ok(())
    }
}

/// In memory where that is possible: nothing of it has to survive anything, and a real disk makes the tests wait for others that use it.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(path.symlink_metadata()?.ino())
}
