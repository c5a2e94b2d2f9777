//! Why work on files failed, and what that means to the rest of the room.

use std::io;
use std::path::{Path, PathBuf};

use object_store::path::Path as Name;
use rustix::io::Errno;

use crate::store::Error;

/// The name under which this store appears in `object_store`'s errors.
const STORE: &str = "LocalDirectory";

/// Why work on files failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// There must not be a file, but there is one.
    #[error("there is a file of this name already")]
    Exists,
    /// The file is not the one that the condition names.
    #[error("the file is not the one that the condition names")]
    Changed,
    /// No file can have this name here, whatever is tried.
    #[error("no file can have this name: {0}")]
    Obstructed(&'static str),
    /// The file system said no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot write".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The file would have got its name after its deadline.
    #[error("it was too late to begin")]
    TooLate,
    /// The process is ending, or a thread of its pool is gone.
    #[error("the work was not done: {0}")]
    Stopped(String),
}

impl Fault {
    /// Turns an error of the file system into what it means, for `map_err`.
    pub(super) fn when<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| {
            let source = error.into();
            match Errno::from_io_error(&source) {
                Some(Errno::NOTDIR) => Self::Obstructed("a file has the name of one of its directories"),
                Some(Errno::ISDIR) => Self::Obstructed("a directory has it"),
                Some(Errno::NAMETOOLONG) => Self::Obstructed("it is too long for the file system"),
                Some(Errno::ILSEQ) => Self::Obstructed("the file system does not take its characters"),
                Some(Errno::LOOP) => Self::Obstructed("its symbolic links lead in a circle"),
                _ => Self::Io {
                    doing,
                    path: path.to_owned(),
                    source,
                },
            }
        }
    }

    /// The same for `object_store`'s callers, about the object called `name`.
    pub(super) fn about(self, name: &Name) -> object_store::Error {
        let path = name.to_string();
        match &self {
            Self::NotFound => object_store::Error::NotFound {
                path,
                source: self.into(),
            },
            Self::Exists => object_store::Error::AlreadyExists {
                path,
                source: self.into(),
            },
            Self::Changed => object_store::Error::Precondition {
                path,
                source: self.into(),
            },
            Self::Io { source, .. } if kind(source) == Kind::Denied => object_store::Error::PermissionDenied {
                path,
                source: self.into(),
            },
            _ => object_store::Error::Generic {
                store: STORE,
                source: self.into(),
            },
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}

impl From<&Fault> for Error {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::NotFound => Self::NotFound,
            Fault::Exists | Fault::Changed => Self::Conflict,
            Fault::Obstructed(_) => Self::BadName(fault.to_string()),
            Fault::Stopped(_) | Fault::TooLate => Self::Unavailable(fault.to_string()),
            Fault::Io { source, .. } => match kind(source) {
                Kind::Full => Self::Full(fault.to_string()),
                Kind::Denied => Self::Denied(fault.to_string()),
                Kind::Other => Self::Unavailable(fault.to_string()),
            },
        }
    }
}

/// What `error` means when a local directory gave it: a full disk and the like have no variant of their own in
/// `object_store`. `None` when another store gave it.
pub(in crate::store) fn meaning(error: &object_store::Error) -> Option<Error> {
    fault(error).map(Error::from)
}

fn fault(error: &object_store::Error) -> Option<&Fault> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault);
        }
        cause = error.source();
    }
    None
}

#[derive(Eq, PartialEq)]
enum Kind {
    Full,
    Denied,
    Other,
}

fn kind(error: &io::Error) -> Kind {
    match Errno::from_io_error(error) {
        // FBIG: the file system (FAT: 4 GiB) or the limits of the process allow no file of this size.
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Kind::Full,
        // XDEV: a directory below the root is another file system, where nothing can be moved to in one step.
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::XDEV) => Kind::Denied,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(errno: Errno) -> Fault {
        Fault::when("cannot write", Path::new("/data/file"))(errno)
    }

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_told_from_trouble_that_passes() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(matches!(Error::from(failing(errno)), Error::Full(_)));
        }
        assert!(matches!(Error::from(failing(Errno::IO)), Error::Unavailable(_)));
    }

    #[test]
    fn what_only_an_admin_can_mend_is_denied() {
        for errno in [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::XDEV] {
            assert!(matches!(Error::from(failing(errno)), Error::Denied(_)));
        }
    }

    #[test]
    fn the_meaning_survives_the_way_through_object_store() {
        let name = Name::from("file");
        let error = failing(Errno::NOSPC).about(&name);
        assert!(matches!(meaning(&error), Some(Error::Full(text)) if text.contains("/data/file")));
        assert!(matches!(
            meaning(&failing(Errno::ACCESS).about(&name)),
            Some(Error::Denied(_))
        ));
        assert!(
            meaning(&object_store::Error::NotImplemented {
                operation: String::new(),
                implementer: String::new()
            })
            .is_none()
        );
    }

    #[test]
    fn a_name_that_no_file_can_have_is_told_from_everything_else() {
        let name = Name::from("file");
        for errno in [
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::NAMETOOLONG,
            Errno::ILSEQ,
            Errno::LOOP,
        ] {
            assert!(matches!(meaning(&failing(errno).about(&name)), Some(Error::BadName(_))));
        }
        assert!(!matches!(
            meaning(&failing(Errno::IO).about(&name)),
            Some(Error::BadName(_))
        ));
        assert!(!matches!(meaning(&Fault::Exists.about(&name)), Some(Error::BadName(_))));
    }
}
