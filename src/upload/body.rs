//! The body of a fragment, as the front desk hands it over.

use std::future::Future;

use bytes::Bytes;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyBroken {
    /// The connection is gone: nobody will read an answer.
    #[error("the connection was lost")]
    Disconnected,
    /// Nothing came for the read time-out.
    #[error("the client stopped sending")]
    TimedOut,
    /// The framing broke, or the length is not that of the range.
    #[error("the body is not what its headers announce")]
    Malformed,
}

/// A body that is read piece by piece, never held whole.
pub trait Body: Send {
    /// The next piece, never empty; `None` at the end. Of `wanted` bytes there is room for all; a piece may be larger where it is there
    /// already.
    ///
    /// Dropping the future loses nothing, but what came of the piece is to be asked for then.
    fn next(&mut self, wanted: u64) -> impl Future<Output = Result<Option<Bytes>, BodyBroken>> + Send;

    /// What came of the piece that was not waited for to its end.
    fn so_far(&mut self) -> Option<Bytes> {
        None
    }
}
