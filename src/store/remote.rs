//! What the remote stores share: requests that `object_store` lacks, and the loop around a publication.

use http::HeaderMap;
use object_store::client::{HttpClient, HttpRequest};
use object_store::multipart::{MultipartStore, PartId as StorePartId};
use object_store::{ObjectStore, PutPayload, path::Path};
use tracing::warn;

use super::objects::{Standing, look_at, standing};
use super::patience::{Patience, worn_out};
use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::session::ObjectTag;
use crate::staging::{PartRange, UploadId};

/// Why one attempt to complete a multipart upload failed.
#[derive(Debug)]
pub enum Attempt {
    /// A part is not what the record says.
    InvalidPart(String),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A conditional publication that is attempted until it is certain what became of it. Whatever an attempt says, the destination decides: an
/// object of this session's own is success, and while the destination is what the condition says, the attempt is made again.
pub struct Publication<'a> {
    objects: &'a dyn ObjectStore,
    path: &'a Path,
    session: SessionId,
    size: u64,
    terms: Terms<'a>,
    patience: Patience,
}

impl<'a> Publication<'a> {
    /// The first attempt is about to be made.
    pub fn new(objects: &'a dyn ObjectStore, path: &'a Path, session: SessionId, size: u64, terms: Terms<'a>) -> Self {
        Self {
            objects,
            path,
            session,
            size,
            terms,
            patience: Patience::until(terms.by),
        }
    }

    /// What a failed attempt means: the object that is the session's own after all, or `None` when the attempt is to be made again.
    ///
    /// # Errors
    /// [`CompleteError`] when no further attempt can change it, or when there were enough.
    pub async fn judge(&mut self, failed: Attempt) -> Result<Option<ObjectTag>, CompleteError> {
        let now = match look_at(self.objects, self.path).await {
            Ok(seen) => Some(standing(seen.as_ref(), self.session, self.size, self.terms.before)),
            Err(_) => None,
        };
        let last = match (now, failed) {
            (Some(Standing::Ours(tag)), _) => return Ok(Some(tag)),
            (Some(_), Attempt::Failed(Error::UnknownUpload)) => return Err(CompleteError::UnknownUpload),
            (Some(Standing::Changed), Attempt::Failed(Error::Conflict | Error::NotFound)) => {
                return Err(CompleteError::Changed);
            }
            (Some(_), Attempt::InvalidPart(why)) => return Err(CompleteError::InvalidPart(why)),
            (
                Some(_),
                Attempt::Failed(error @ (Error::Denied(_) | Error::Full(_) | Error::Corrupt(_) | Error::Newer(_))),
            ) => return Err(error.into()),
            // Unclear, or refused although the condition holds: S3 answers 409 while another write to the key is under way.
            (_, Attempt::Failed(error)) => error,
            (None, Attempt::InvalidPart(why)) => Error::Unavailable(why),
        };
        if self.patience.again().await {
            Ok(None)
        } else {
            Err(worn_out(last).into())
        }
    }
}

/// What S3 says of bytes that are not those that were sent.
const DAMAGED: [&str; 3] = ["BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"];

/// How often a part is sent that arrives damaged: a client that had to send it again would wait for ten minutes first.
const SENT: usize = 3;

/// Stores a part and returns the store's name for it.
pub(super) async fn put_part(
    parts: &dyn MultipartStore,
    path: &Path,
    upload: &str,
    part: PartRange,
    payload: PutPayload,
) -> Result<String, Error> {
    let (index, upload) = (part.index as usize, upload.to_owned());
    let mut sent = 0;
    loop {
        sent += 1;
        let put = parts.put_part(path, &upload, index, payload.clone());
        return match put.await.map_err(Error::from) {
            Ok(StorePartId { content_id }) => Ok(content_id),
            // A 404 that does not speak of the upload: something between the store and us.
            Err(Error::NotFound) => Err(Error::Unavailable("the store answers 404 to a part".to_owned())),
            Err(Error::Unavailable(why)) if sent < SENT && DAMAGED.iter().any(|word| why.contains(word)) => {
                warn!(why, "a part was damaged on its way into the store");
                continue;
            }
            Err(error) => Err(error),
        };
    }
}

/// Forgets an upload; one that is unknown counts as forgotten.
pub(super) async fn abort(parts: &dyn MultipartStore, path: &Path, upload: &UploadId) -> Result<(), Error> {
    match parts.abort_multipart(path, &upload.0).await.map_err(Error::from) {
        Ok(()) | Err(Error::UnknownUpload | Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// An answer to a request of our own.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    /// Success as it is, anything else as an error.
    pub(super) fn accepted(self) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(Error::from_answer(self.status, &self.body))
        }
    }
}

/// Makes a request of our own over the connections that `object_store` uses.
pub(super) async fn send(client: &HttpClient, request: HttpRequest) -> Result<Answer, Error> {
    let unavailable = |error: object_store::client::HttpError| Error::Unavailable(super::error::told(&error));
    let (head, body) = client.execute(request).await.map_err(unavailable)?.into_parts();
    let body = body.bytes().await.map_err(unavailable)?;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// A request that could not even be built.
pub(super) fn unbuilt(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("the request could not be built: {error}"))
}
