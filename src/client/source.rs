//! Where the bytes of an upload come from: a file, or made-up bytes for tests and benches.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::sizes::Dice;

/// What to upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A regular file, read piece by piece.
    File(PathBuf),
    /// These bytes.
    Bytes(Bytes),
    /// Bytes that are made up on the way: a large upload without a large file.
    Pattern(Pattern),
}

/// Made-up bytes: the byte at an offset depends on the seed and the offset only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pattern {
    /// Another seed, other bytes.
    pub seed: u64,
    /// How many bytes there are.
    pub length: u64,
}

impl Pattern {
    /// Writes the bytes from `offset` on into `bytes`, whether or not they lie within the length.
    pub fn fill(&self, offset: u64, bytes: &mut [u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = Dice::new(self.seed ^ (at / 8).wrapping_mul(0xD134_2543_DE82_EF95))
                .next()
                .to_le_bytes();
            let within = usize::try_from(at % 8).unwrap_or(0);
            let now = rest.len().min(word.len() - within);
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(now);
            head.copy_from_slice(&word[within..within + now]);
            rest = tail;
            at = at.wrapping_add(now as u64);
        }
    }
}

/// What tells one state of a file from another: the two that Windows looks at (win32 page "File transfer consistency").
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970; zero when the machine can't say.
    pub modified: i64,
}

/// Why the bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file can't be opened, or is no regular file.
    #[error("{path} can't be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not what it was when the upload began (BG_E_LOCAL_FILE_CHANGED).
    #[error(
        "the local file has changed since the upload began, so what the server holds is no part of it any more (0x8020001D, BG_E_LOCAL_FILE_CHANGED)"
    )]
    Changed,
    /// Reading failed.
    #[error("the local file can't be read: {0}")]
    Read(#[from] io::Error),
}

/// A source that can be read.
#[derive(Debug)]
pub(super) struct Opened {
    bytes: Readable,
    identity: Identity,
    name: Option<String>,
}

#[derive(Debug)]
enum Readable {
    /// With the position of the file.
    File(File, u64),
    Bytes(Bytes),
    Pattern(Pattern),
}

impl Source {
    /// Opens it.
    ///
    /// # Errors
    /// `Unreadable` when that is not possible.
    pub(super) async fn open(&self) -> Result<Opened, SourceError> {
        let (bytes, identity, name) = match self {
            Self::File(path) => {
                let unreadable = |reason: &dyn ToString| SourceError::Unreadable {
                    path: path.clone(),
                    reason: reason.to_string(),
                };
                // Looked at first: opening a pipe would wait for its other end.
                let metadata = tokio::fs::metadata(path).await.map_err(|error| unreadable(&error))?;
                if !metadata.is_file() {
                    return Err(unreadable(&"it is not a regular file"));
                }
                let file = File::open(path).await.map_err(|error| unreadable(&error))?;
                let identity = identity(&file).await.map_err(|error| unreadable(&error))?;
                let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
                (Readable::File(file, 0), identity, name)
            }
            Self::Bytes(bytes) => (
                Readable::Bytes(bytes.clone()),
                Identity {
                    size: bytes.len() as u64,
                    modified: 0,
                },
                None,
            ),
            Self::Pattern(pattern) => (
                Readable::Pattern(*pattern),
                Identity {
                    size: pattern.length,
                    modified: 0,
                },
                None,
            ),
        };
        Ok(Opened { bytes, identity, name })
    }
}

impl Opened {
    /// What the source was when it was opened.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// The name of the file, without its path.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Makes sure that it still is what it was.
    ///
    /// # Errors
    /// `Changed` when it is not, `Read` when that can't be told.
    pub(super) async fn unchanged(&self) -> Result<(), SourceError> {
        match &self.bytes {
            Readable::File(file, _) if identity(file).await? != self.identity => Err(SourceError::Changed),
            _ => Ok(()),
        }
    }

    /// Appends up to `most` bytes from `offset` on to `out`, at least one, and says how many.
    ///
    /// # Errors
    /// `Changed` when there is none, `Read` when reading fails.
    pub(super) async fn read(&mut self, offset: u64, most: usize, out: &mut Vec<u8>) -> Result<usize, SourceError> {
        let read = match &mut self.bytes {
            Readable::File(file, position) => {
                if *position != offset {
                    file.seek(io::SeekFrom::Start(offset)).await?;
                    *position = offset;
                }
                let read = file.take(most as u64).read_buf(out).await?;
                *position += read as u64;
                read
            }
            Readable::Bytes(bytes) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| bytes.get(offset..))
                    .unwrap_or_default();
                let read = most.min(rest.len());
                out.extend_from_slice(&rest[..read]);
                read
            }
            Readable::Pattern(pattern) => {
                let read = most.min(usize::try_from(pattern.length.saturating_sub(offset)).unwrap_or(most));
                let from = out.len();
                out.resize(from + read, 0);
                pattern.fill(offset, &mut out[from..]);
                read
            }
        };
        match read {
            0 => Err(SourceError::Changed),
            _ => Ok(read),
        }
    }
}

async fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata().await?;
    let modified = metadata
        .modified()
        .map_or(0, |time| match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        });
    Ok(Identity {
        size: metadata.len(),
        modified,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pattern_is_the_same_however_it_is_cut(seed: u64, offset in 0_u64..1 << 50, cut in 0_usize..100, length in 0_usize..100) {
            let pattern = Pattern { seed, length: u64::MAX };
            let mut whole = vec![0; cut + length];
            pattern.fill(offset, &mut whole);
            let mut pieces = vec![0; cut + length];
            pattern.fill(offset, &mut pieces[..cut]);
            pattern.fill(offset + cut as u64, &mut pieces[cut..]);
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn patterns_of_different_seeds_and_offsets_differ() {
        let fill = |seed, offset| {
            let mut bytes = [0; 64];
            Pattern { seed, length: 0 }.fill(offset, &mut bytes);
            bytes
        };
        assert_ne!(fill(1, 0), fill(2, 0));
        assert_ne!(fill(1, 0), fill(1, 64));
        assert_eq!(fill(1, 0)[8..], fill(1, 8)[..56]);
    }

    #[tokio::test]
    async fn a_file_is_read_from_any_offset_and_found_changed_when_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.bin");
        std::fs::write(&path, b"0123456789").unwrap();
        let mut opened = Source::File(path.clone()).open().await.unwrap();
        assert_eq!((opened.identity().size, opened.name()), (10, Some("f.bin")));

        let mut out = Vec::new();
        for offset in [7, 0, 3] {
            let mut wanted = 3;
            while wanted > 0 {
                wanted -= opened.read(offset + 3 - wanted as u64, wanted, &mut out).await.unwrap();
            }
        }
        assert_eq!(out, b"789012345");
        opened.unchanged().await.unwrap();

        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, b"x"))
            .unwrap();
        assert!(matches!(opened.unchanged().await, Err(SourceError::Changed)));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(opened.read(5, 1, &mut out).await, Err(SourceError::Changed)));
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            assert!(matches!(
                Source::File(path).open().await,
                Err(SourceError::Unreadable { .. })
            ));
        }
    }
}
