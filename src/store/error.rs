//! Why a store did not do what it was asked, as far as somebody acts differently on it.

/// Why a request to the store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// A conditional write met something else than its condition says, and that something is not the writer's own.
    #[error("somebody else was first")]
    Conflict,
    /// The store does not know the multipart upload: aborted, completed, or expired by the store itself.
    #[error("the store does not know the multipart upload")]
    UnknownUpload,
    /// It may work later: time-outs, lost connections, 5xx, throttling.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Credentials or permissions: an admin has to act.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// No space, or a quota is used up.
    #[error("the store is full: {0}")]
    Full(String),
    /// What is stored cannot be understood, or needs a newer version of this program.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
}

/// Why a multipart upload was not completed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompleteError {
    /// The destination is neither what it was at Create-Session nor this session's file.
    #[error("the destination was changed by somebody else")]
    Changed,
    /// The store does not know the upload, and the destination is not this session's file.
    #[error("the store does not know the multipart upload")]
    UnknownUpload,
    /// A part is not what the record says.
    #[error("the store refuses a part: {0}")]
    InvalidPart(String),
    /// Anything else.
    #[error(transparent)]
    Store(#[from] Error),
}
