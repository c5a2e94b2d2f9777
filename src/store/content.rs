//! The bytes of an object that was asked for, as they come.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::{GetResult, GetResultPayload};
use tokio::task::JoinHandle;

use super::Error;

/// Bytes of a local file that are read at once; one more piece of it is read ahead.
const PIECE: u64 = 1 << 20;

/// The bytes of what a store found: a local file in large pieces, anything else as the store sends it.
pub(super) fn content(found: GetResult) -> BoxStream<'static, Result<Bytes, Error>> {
    let GetResult { payload, range, .. } = found;
    match payload {
        // What the crate would make of a file are pieces of 8 KiB, each of them a task of its own.
        GetResultPayload::File(file, _) => pieces(file, range),
        GetResultPayload::Stream(stream) => stream.map(|piece| Ok(piece?)).boxed(),
    }
}

/// The bytes of a range of a local file, in large pieces, the next one being read while the last one is sent.
fn pieces(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
    struct Pieces {
        file: Arc<File>,
        next: Option<JoinHandle<io::Result<Bytes>>>,
        at: u64,
        end: u64,
    }

    impl Pieces {
        /// Begins to read the next piece, if there is one.
        fn ahead(mut self) -> Self {
            let length = PIECE.min(self.end - self.at);
            self.next = (length > 0).then(|| {
                let (file, at) = (Arc::clone(&self.file), self.at);
                // At most `PIECE`, which fits. Made here and not by the thread that fills it: an allocator keeps for each thread what was
                // given back by others until that thread asks again, and those that wait for a disk are many and seldom ask.
                let room = Vec::with_capacity(length as usize);
                tokio::task::spawn_blocking(move || read_piece(&file, at, length, room))
            });
            self.at += length;
            self
        }
    }

    let begin = Pieces {
        file: Arc::new(file),
        next: None,
        at: range.start,
        end: range.end.max(range.start),
    };
    stream::try_unfold(begin.ahead(), |mut pieces| async move {
        let Some(reading) = pieces.next.take() else {
            return Ok(None);
        };
        let piece = reading.await.map_err(|error| Error::Unavailable(error.to_string()))?;
        let piece = piece.map_err(|error| Error::Unavailable(format!("reading a file: {error}")))?;
        Ok(Some((piece, pieces.ahead())))
    })
    .boxed()
}

fn read_piece(mut file: &File, at: u64, length: u64, mut piece: Vec<u8>) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut piece)?;
    if piece.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures::TryStreamExt as _;

    use super::*;

    /// A file that holds `length` bytes, each of them what its offset makes of it.
    fn file(length: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn a_file_comes_in_large_pieces() {
        let length = 2 * PIECE + 7;
        let read: Vec<Bytes> = pieces(file(length as usize), 3..length - 1)
            .try_collect()
            .await
            .unwrap();
        let lengths: Vec<u64> = read.iter().map(|piece| piece.len() as u64).collect();
        assert_eq!(lengths, [PIECE, PIECE, 3]);
        let read = read.concat();
        assert!(
            read.iter()
                .enumerate()
                .all(|(at, byte)| *byte == ((at + 3) % 251) as u8)
        );
    }

    #[tokio::test]
    async fn nothing_of_a_file_is_nothing() {
        let read: Vec<Bytes> = pieces(file(7), 3..3).try_collect().await.unwrap();
        assert_eq!(read, [] as [Bytes; 0]);
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_is_an_error() {
        let read: Result<Vec<Bytes>, Error> = pieces(file(7), 3..9).try_collect().await;
        assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    }
}
