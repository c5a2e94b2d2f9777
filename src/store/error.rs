//! Why a store did not do what it was asked, as far as somebody acts differently on it.

/// Why a request to the store failed.
///
/// After [`Error::Unavailable`] a write may have been carried out or not. After [`Error::Conflict`] it may have been carried out and
/// been replaced since; what is there now is not its author's. After the others it was not carried out.
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
    /// No object can have this name in this store, whatever is tried: a directory has it, it is reserved, it is too long. The client's
    /// mistake.
    #[error("{0}")]
    BadName(String),
    /// No space, or a quota is used up.
    #[error("the store is full: {0}")]
    Full(String),
    /// What is stored cannot be understood.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
    /// What is stored says of itself that this version of the program must not read it.
    #[error("stored data cannot be read: {0}")]
    Newer(String),
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

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&object_store::Error> for Error {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error as Cause;
        if let Some(error) = super::local::meaning(error) {
            return error;
        }
        let text = told(error);
        match error {
            Cause::NotFound { .. } if speaks_of(&text, &UNKNOWN_UPLOAD) => Self::UnknownUpload,
            Cause::NotFound { .. } if speaks_of(&text, &NO_BUCKET) => Self::Unavailable(text),
            Cause::NotFound { .. } => Self::NotFound,
            Cause::AlreadyExists { .. } | Cause::Precondition { .. } | Cause::NotModified { .. } => Self::Conflict,
            // Some stores tell of a used-up quota with 403.
            _ if speaks_of(&text, &FULL) => Self::Full(text),
            Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => Self::Denied(text),
            _ if speaks_of(&text, &UNKNOWN_UPLOAD) => Self::UnknownUpload,
            _ => Self::Unavailable(text),
        }
    }
}

impl Error {
    /// What an answer other than success means, by its status and what its body says.
    pub(super) fn from_answer(status: u16, body: &str) -> Self {
        let text = cut(&format!("HTTP {status}: {body}"));
        match status {
            _ if speaks_of(body, &UNKNOWN_UPLOAD) => Self::UnknownUpload,
            404 if !speaks_of(body, &NO_BUCKET) => Self::NotFound,
            409 | 412 => Self::Conflict,
            _ if status == 507 || speaks_of(body, &FULL) => Self::Full(text),
            401 | 403 => Self::Denied(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// What stores say when they don't know a multipart upload (S3 and GCS).
const UNKNOWN_UPLOAD: [&str; 1] = ["NoSuchUpload"];

/// What stores say when the bucket or the container is missing: nothing that a client can mend.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"];

/// What stores say when they are full: HTTP 507, the codes of S3, MinIO, Ceph, SeaweedFS and Azure, and our own store in memory.
const FULL: [&str; 6] = [
    "507 Insufficient Storage",
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioStorageFull",
    "AccountQuotaExceeded",
    super::memory::FULL,
];

fn speaks_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// The text of an error and of its causes, as far as they say something new, on one line and cut to a bearable length.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|&at| line.is_char_boundary(at))
            .unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    line
}
