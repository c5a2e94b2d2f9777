//! The body of an answer, while it is being sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;

use super::plan::Piece;
use super::source::{Pieces, Source};
use crate::budget::Reservation;
use crate::session::ObjectTag;
use crate::store::Error;

/// The body ended before its Content-Length. Its head has been sent, so all that is left is to close the connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the download broke off: {0}")]
pub struct Broken(String);

/// The body of an answer. Dropping it ends all reading.
pub struct Body {
    source: Arc<dyn Source>,
    /// What every piece of the file is read of: never of two objects in one answer.
    tag: ObjectTag,
    pieces: VecDeque<Piece>,
    /// The first range of the file, opened before the head was sent.
    opened: Option<Pieces>,
    reading: Option<Reading>,
    /// The memory in which pieces wait, for as long as any can.
    _held: Vec<Reservation>,
}

/// A range of the file that is being read.
struct Reading {
    stream: Pieces,
    /// Bytes that are still to come.
    left: u64,
}

impl Body {
    /// A body of `pieces`, with the ranges taken of the object that `tag` names. It comes back as soon as the store has agreed to the
    /// first of them.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::NotFound`] when there is another object by now, or none; else trouble with the store.
    pub(super) async fn open(
        source: Arc<dyn Source>,
        tag: ObjectTag,
        pieces: Vec<Piece>,
        held: Vec<Reservation>,
    ) -> Result<Self, Error> {
        let first = pieces.iter().find_map(|piece| match piece {
            Piece::File(range) => Some(range.clone()),
            Piece::Text(_) => None,
        });
        let opened = match first {
            Some(range) => Some(source.read(range, &tag).await?),
            None => None,
        };
        Ok(Self {
            source,
            tag,
            pieces: pieces.into(),
            opened,
            reading: None,
            _held: held,
        })
    }

    /// The next bytes, never empty; `None` at the end. It may be cancelled and called again.
    ///
    /// # Errors
    /// [`Broken`] when the rest cannot be had; what was handed out before then is no whole body.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(reading) = &mut self.reading {
                if let Some(bytes) = reading.next().await? {
                    return Ok(Some(bytes));
                }
                self.reading = None;
            }
            // A piece leaves the queue only once it is taken over: the future may be dropped at the await.
            if let Some(Piece::File(range)) = self.pieces.front() {
                let stream = match self.opened.take() {
                    Some(stream) => stream,
                    None => self.source.read(range.clone(), &self.tag).await.map_err(broken)?,
                };
                let left = range.end.saturating_sub(range.start);
                self.reading = Some(Reading { stream, left });
                self.pieces.pop_front();
                continue;
            }
            return Ok(match self.pieces.pop_front() {
                Some(Piece::Text(text)) => Some(text),
                Some(Piece::File(_)) | None => None,
            });
        }
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        while self.left > 0 {
            let Some(bytes) = self.stream.try_next().await.map_err(broken)? else {
                return Err(Broken(format!("the store ended {} bytes early", self.left)));
            };
            let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                return Err(Broken("the store sent more than it was asked for".to_owned()));
            };
            self.left = left;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("tag", &self.tag)
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

fn broken(error: Error) -> Broken {
    Broken(match error {
        Error::Conflict | Error::NotFound => "the file was replaced between two of its ranges".to_owned(),
        other => other.to_string(),
    })
}
