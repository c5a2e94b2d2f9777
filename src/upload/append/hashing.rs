//! The digest of a file, taken while its parts are on their way into the store.

use bytes::Bytes;
use futures::future::OptionFuture;
use tokio::sync::oneshot;

use super::Receiving;
use crate::staging::{Hashed, Hasher, PartRange, Sha256};

/// Bytes that are hashed at once, about 0.6 ms of a worker: then others have their turn.
const PIECE: usize = 1 << 20;

/// What a part did to the digest. It holds only for a file whose bytes before the part are those of `before`.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) before: Hashed,
    pub(super) after: Hashed,
}

/// A digest that is on its way.
pub(super) struct Hashing {
    /// The offset that it will have reached.
    at: u64,
    then: oneshot::Receiver<Hasher>,
}

/// Where the digest of a part goes on.
enum Start {
    /// Where the record says.
    Recorded(Hasher),
    /// At the end of the part before, which may still be at it.
    After(oneshot::Receiver<Hasher>),
}

impl Receiving<'_, '_> {
    /// Hashes a part, after the one before it. Nothing is done, and nothing awaited, where no digest is wanted or where the bytes before the
    /// part were hashed by nobody.
    pub(super) fn hash(&mut self, part: PartRange, chunks: &[Bytes]) -> impl Future<Output = Option<Stretch>> + use<> {
        let work = self.start(part).map(|start| {
            let (hand_on, then) = oneshot::channel();
            self.hashing = Some(Hashing { at: part.to, then });
            stretch(start, chunks.to_vec(), hand_on)
        });
        async { OptionFuture::from(work).await.flatten() }
    }

    fn start(&mut self, part: PartRange) -> Option<Start> {
        let running = self.hashing.take();
        let record = &self.work.turn.view.as_ref()?.session.record;
        let recorded = record.hashed.as_ref()?;
        if recorded.at() == part.from {
            return recorded.hasher().map(Start::Recorded);
        }
        let running = running.filter(|hashing| hashing.at == part.from)?;
        Some(Start::After(running.then))
    }
}

async fn stretch(start: Start, chunks: Vec<Bytes>, hand_on: oneshot::Sender<Hasher>) -> Option<Stretch> {
    let mut hasher = match start {
        Start::Recorded(hasher) => hasher,
        Start::After(then) => then.await.ok()?,
    };
    let before = hasher.hashed();
    take(&mut hasher, &chunks).await;
    let after = hasher.hashed();
    // Nobody waits for it after the last part.
    let _ = hand_on.send(hasher);
    Some(Stretch { before, after })
}

/// The digest of a whole file.
pub(super) async fn digest_of(chunks: &[Bytes]) -> Sha256 {
    let mut hasher = Hasher::default();
    take(&mut hasher, chunks).await;
    hasher.finish()
}

async fn take(hasher: &mut Hasher, chunks: &[Bytes]) {
    let mut since = 0;
    for piece in chunks.iter().flat_map(|chunk| chunk.chunks(PIECE)) {
        hasher.update(piece);
        since += piece.len();
        if since >= PIECE {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
}
