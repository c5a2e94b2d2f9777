//! The file in which an upload remembers its session, so that the same command goes on after its own death.

use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::machine::{HostId, Memory};
use super::source::Identity;

/// Why the state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading, writing or removing the file failed.
    #[error("the state file {path} can't be {what}: {error}")]
    File {
        /// The state file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// It is not one of ours.
    #[error("{path} is not a state file that this client understands; remove it to upload from the start ({reason})")]
    Foreign {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs to an upload to another place.
    #[error(
        "{path} belongs to an upload to {url}; finish that one first, forget it with --restart, or name another file with --state"
    )]
    OtherUrl {
        /// The state file.
        path: PathBuf,
        /// Where that upload goes.
        url: String,
    },
}

/// An upload as the file knows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Of this format: 1.
    version: u32,
    url: String,
    file: Identity,
    session: String,
    offset: u64,
    delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    host_fallback_seconds: Option<u64>,
}

const VERSION: u32 = 1;

/// The state file of one upload.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    url: String,
}

impl StateFile {
    pub(super) fn new(path: &Path, url: &str) -> Self {
        Self {
            path: path.to_owned(),
            url: url.to_owned(),
        }
    }

    /// What an earlier run left, and of which file; `None` when it left nothing.
    ///
    /// # Errors
    /// When there is something that can't be used.
    pub(super) async fn load(&self) -> Result<Option<(Memory, Identity)>, StateError> {
        let bytes = match tokio::fs::read(&self.path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        let foreign = |reason: String| StateError::Foreign {
            path: self.path.clone(),
            reason,
        };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
        if saved.version != VERSION {
            return Err(foreign(format!("its version is {}", saved.version)));
        }
        if saved.url != self.url {
            return Err(StateError::OtherUrl {
                path: self.path.clone(),
                url: saved.url,
            });
        }
        let host = match saved.host.as_deref().map(Authority::parse) {
            None => None,
            Some(Some(authority)) => Some(HostId {
                authority,
                fallback_timeout: saved.host_fallback_seconds.map(Duration::from_secs),
            }),
            Some(None) => return Err(foreign("its host is none".to_owned())),
        };
        let memory = Memory {
            session: saved.session,
            offset: saved.offset,
            delivered: saved.delivered,
            host,
        };
        Ok(Some((memory, saved.file)))
    }

    /// Puts `memory` in the place of what was there, at once or not at all, also for a machine that loses its power.
    ///
    /// # Errors
    /// When that is not possible.
    pub(super) async fn save(&self, memory: &Memory, file: Identity) -> Result<(), StateError> {
        let saved = Saved {
            version: VERSION,
            url: self.url.clone(),
            file,
            session: memory.session.clone(),
            offset: memory.offset,
            delivered: memory.delivered,
            host: memory.host.as_ref().map(|host| host.authority.to_string()),
            host_fallback_seconds: memory
                .host
                .as_ref()
                .and_then(|host| host.fallback_timeout)
                .map(|time| time.as_secs()),
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &serde_json::to_vec_pretty(&saved)?)).await;
        written
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            .map_err(|error| self.failed("written", error))
    }

    /// Forgets the upload.
    ///
    /// # Errors
    /// When the file is there and can't be removed.
    pub(super) async fn remove(&self) -> Result<(), StateError> {
        match tokio::fs::remove_file(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("removed", error)),
            _ => Ok(()),
        }
    }

    /// Forgets whatever upload the file is about, unless it is no state file at all.
    ///
    /// # Errors
    /// As for [`StateFile::load`] and [`StateFile::remove`].
    pub(super) async fn forget(&self) -> Result<(), StateError> {
        match self.load().await {
            Ok(_) | Err(StateError::OtherUrl { .. }) => self.remove().await,
            Err(error) => Err(error),
        }
    }

    fn failed(&self, what: &'static str, error: io::Error) -> StateError {
        StateError::File {
            path: self.path.clone(),
            what,
            error,
        }
    }
}

/// Writes a file next to `path`, to the disk, and renames it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // Who knows the id of a session can add to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory {
            session: "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}".to_owned(),
            offset: 1 << 40,
            delivered: false,
            host: Some(HostId {
                authority: Authority::parse("NODE1:81").unwrap(),
                fallback_timeout: Some(Duration::from_secs(110)),
            }),
        }
    }

    const FILE: Identity = Identity {
        size: 1 << 41,
        modified: 1_700_000_000_123_456_789,
    };

    #[tokio::test]
    async fn what_was_saved_is_loaded_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.bits-upload");
        let state = StateFile::new(&path, "http://h/up/f");
        assert_eq!(state.load().await.unwrap(), None);
        let plain = Memory {
            host: None,
            delivered: true,
            ..memory()
        };
        for memory in [memory(), plain] {
            state.save(&memory, FILE).await.unwrap();
            assert_eq!(state.load().await.unwrap(), Some((memory, FILE)));
        }
        state.remove().await.unwrap();
        assert_eq!(state.load().await.unwrap(), None);
        state.remove().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_state_of_another_upload_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        StateFile::new(&path, "http://h/one")
            .save(&memory(), FILE)
            .await
            .unwrap();
        assert!(matches!(
            StateFile::new(&path, "http://h/two").load().await,
            Err(StateError::OtherUrl { .. })
        ));
        StateFile::new(&path, "http://h/two").forget().await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_state_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for text in [
            "",
            "my diary",
            "{}",
            r#"{"version":2,"url":"u","file":{"size":0,"modified":0},"session":"s","offset":0,"delivered":false}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(StateFile::new(&path, "u").load().await, Err(StateError::Foreign { .. })),
                "{text}"
            );
            assert!(StateFile::new(&path, "u").forget().await.is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn a_state_that_can_not_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFile::new(&folder.path().join("none").join("state"), "u");
        assert!(matches!(
            state.save(&memory(), FILE).await,
            Err(StateError::File { what: "written", .. })
        ));
    }
}
