//! The few operations that change the disk, or make a change safe against a power cut. Everything else in this adapter only looks.
//!
//! They go through a trait so that a test can put a disk under the adapter that forgets what was not synced.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, XattrFlags};

/// Access of a directory that only this user may enter.
pub(super) const OURS: u32 = 0o700;

/// Access of a directory as the user's own settings have it.
pub(super) const USUAL: u32 = 0o777;

/// A disk to write to. What it does can be seen at once; what survives a power cut is what was synced.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Creates the file `path`, to write to it. Errors when there is anything of this name.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Opens the file `path` to read and write it, and creates it if it is missing.
    fn open_or_create(&self, path: &Path) -> io::Result<File>;

    /// Writes all of `content` to its place in `file`, at `offset` bytes.
    fn write(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts `file` off, or fills it up with zeros, to be of `length` bytes.
    fn set_length(&self, file: &File, length: u64) -> io::Result<()>;

    /// Sets the time at which `file` was modified.
    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()>;

    /// Sets an extended attribute of `file`. Errors where the file system keeps none.
    fn set_attribute(&self, file: &File, name: &str, value: &[u8]) -> io::Result<()>;

    /// Makes the content and the size of `file` safe; not its name, time and attributes.
    fn sync_content(&self, file: &File) -> io::Result<()>;

    /// Makes everything that is in `file` safe, with its time and attributes; not its name.
    fn sync_file(&self, file: &File) -> io::Result<()>;

    /// Gives the file `from` the name `to` instead, whatever file had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The same, but errors when there is anything called `to`, and where the file system can't do it.
    fn rename_without_replacing(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `from` the second name `to`. Errors when there is anything of this name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes the name `path` from a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory `path`, with `access` as far as the user's own settings allow.
    fn make_directory(&self, path: &Path, access: u32) -> io::Result<()>;

    /// Removes the directory `path`. Errors when it is not empty.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the directory `path` safe; not those of the directory itself, and not what is in the files.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes everything safe that is on the file system of `file`.
    fn sync_everything(&self, file: &File) -> io::Result<()>;
}

/// Makes the directory `path` and those above it that are missing.
pub(super) fn make_directories(disk: &dyn Disk, path: &Path, access: u32) -> io::Result<()> {
    let missing = match disk.make_directory(path, access) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        made => return made.or_else(|error| if path.is_dir() { Ok(()) } else { Err(error) }),
    };
    // The parent of a plain name is empty: the directory that the process is in.
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    make_directories(disk, above.ok_or(missing)?, access)?;
    let made = disk.make_directory(path, access);
    // Another program may have made it meanwhile.
    made.or_else(|error| if path.is_dir() { Ok(()) } else { Err(error) })
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct MachineDisk;

impl Disk for MachineDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn open_or_create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path)
    }

    fn write(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(content, offset)
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        file.set_modified(time)
    }

    fn set_attribute(&self, file: &File, name: &str, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
    }

    fn sync_content(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_without_replacing(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path, access: u32) -> io::Result<()> {
        DirBuilder::new().mode(access).create(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_everything(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_everything(&self, _: &File) -> io::Result<()> {
        rustix::fs::sync();
        Ok(())
    }
}
