//! Google Cloud Storage, where the completion of a multipart upload takes no condition.
//!
//! So a file of several parts is assembled under a name of our own, which no URL reaches, and then given its name by a rewrite within
//! the bucket that is conditional on the generation of the destination: a change of metadata on the side of the store, without bytes
//! being moved, and as atomic as a conditional put. That holds against every other writer, ours or not, for new files and for
//! replaced ones. (A claim object that only our own replicas respect would hold against those alone, and every small file would
//! have to take it too.) The price: one request to rewrite, one to delete, and on buckets with soft delete or a minimum storage
//! duration the assembled object is billed for that long.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Request};
use object_store::client::{HttpClient, HttpRequestBody};
use object_store::gcp::GoogleCloudStorage;
use object_store::multipart::{MultipartStore, PartId as StorePartId};
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload, path::Path};
use url::Url;

use super::bucket::Bucket;
use super::keys::Assembly;
use super::objects::{attributes, look_at};
use super::patience::briefly;
use super::records::bare;
use super::remote::{self, Answer, Attempt, Publication};
use super::s3::{listed_uploads, next_uploads};
use super::{CompleteError, Error, Terms};
use crate::bits::SessionId;
use crate::clock::{Deadline, Timestamp};
use crate::session::{Before, ObjectTag};
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// A bucket on GCS.
#[derive(Debug)]
pub(super) struct GoogleBucket {
    store: GoogleCloudStorage,
    /// The connections that the store uses too.
    client: HttpClient,
    base: Url,
    bucket: String,
    assembly: Assembly,
}

impl GoogleBucket {
    pub(super) const fn new(
        store: GoogleCloudStorage,
        client: HttpClient,
        base: Url,
        bucket: String,
        assembly: Assembly,
    ) -> Self {
        Self {
            store,
            client,
            base,
            bucket,
            assembly,
        }
    }

    /// Makes a request that `object_store` has no call for.
    async fn request(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        by: Deadline,
    ) -> Result<Answer, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| remote::unbuilt("no path"))?
            .pop_if_empty()
            .extend(segments);
        url.query_pairs_mut().extend_pairs(query);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let token = self.store.credentials().get_credential().await?;
        let token = HeaderValue::try_from(format!("Bearer {}", token.bearer)).map_err(remote::unbuilt)?;
        headers.insert(AUTHORIZATION, token);
        let mut request = Request::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(remote::unbuilt)?;
        *request.headers_mut() = headers;
        request.extensions_mut().insert(by);
        remote::send(&self.client, request).await
    }

    /// One attempt to publish.
    async fn attempt(
        &self,
        assembled: &Path,
        upload: &str,
        parts: &[RecordedPart],
        path: &Path,
        session: SessionId,
        terms: Terms<'_>,
    ) -> Result<ObjectTag, Attempt> {
        let size = parts.last().map_or(0, RecordedPart::end);
        self.assemble(assembled, upload, parts, session, size).await?;
        self.rewrite(assembled, path, terms, size).await
    }

    /// Assembles the parts under the name of our own. It is enough that the assembled object is there: an upload completes once.
    async fn assemble(
        &self,
        assembled: &Path,
        upload: &str,
        parts: &[RecordedPart],
        session: SessionId,
        size: u64,
    ) -> Result<(), Attempt> {
        let ids = parts.iter().map(|part| StorePartId {
            content_id: format!("\"{}\"", bare(&part.id().0)),
        });
        let failed = match self
            .store
            .complete_multipart(assembled, &upload.to_owned(), ids.collect())
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let ours = |seen: super::Seen| seen.session == Some(session) && seen.tag.size == size;
        if look_at(&self.store, assembled).await?.is_some_and(ours) {
            return Ok(());
        }
        let text = super::error::told(&failed);
        if text.contains("InvalidPart") || text.contains("EntityTooSmall") {
            return Err(Attempt::InvalidPart(text));
        }
        Err(match Error::from(failed) {
            // Nothing here is conditional: a conflict is trouble of the store, and a lost upload has a word of its own.
            Error::Conflict | Error::NotFound => Error::Unavailable(text).into(),
            error => error.into(),
        })
    }

    async fn disassemble(&self, assembled: &Path) -> Result<(), Error> {
        match briefly(self.store.delete(assembled)).await {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the assembled object its name, if the destination is what `before` says. Large objects may take several calls, of
    /// which the last one counts.
    async fn rewrite(&self, assembled: &Path, path: &Path, terms: Terms<'_>, size: u64) -> Result<ObjectTag, Attempt> {
        let generation = match terms.before {
            Before::Absent => "0",
            Before::Present(tag) => tag.version.as_deref().unwrap_or_default(),
        };
        let (from, to) = (assembled.as_ref(), path.as_ref());
        let bucket = self.bucket.as_str();
        let segments = [
            "storage",
            "v1",
            "b",
            bucket,
            "o",
            from,
            "rewriteTo",
            "b",
            bucket,
            "o",
            to,
        ];
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("ifGenerationMatch", generation)];
            query.extend(token.as_deref().map(|token| ("rewriteToken", token)));
            let answer = self.request(Method::POST, &segments, &query, terms.by).await?;
            let answer = match answer.accepted() {
                // The assembled object is gone: another turn gave it its name, or a clean-up came by.
                Err(Error::NotFound) => return Err(Error::UnknownUpload.into()),
                other => other?,
            };
            match serde_json::from_str(&answer.body) {
                Ok(Rewrite {
                    done: true, resource, ..
                }) => {
                    // The JSON API has ETags of another kind; the generation says which object it is.
                    return Ok(ObjectTag {
                        etag: None,
                        version: resource.and_then(|resource| resource.generation),
                        size,
                    });
                }
                Ok(Rewrite {
                    rewrite_token: Some(next),
                    ..
                }) => token = Some(next),
                _ => return Err(Error::Unavailable("the answer to a rewrite can't be read".to_owned()).into()),
            }
        }
    }
}

/// The answer to a rewrite.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewrite {
    done: bool,
    #[serde(default)]
    rewrite_token: Option<String>,
    #[serde(default)]
    resource: Option<Resource>,
}

#[derive(serde::Deserialize)]
struct Resource {
    #[serde(default)]
    generation: Option<String>,
}

#[async_trait]
impl Bucket for GoogleBucket {
    fn objects(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn cutting(&self) -> Cutting {
        Cutting::Claimed
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let options = PutMultipartOptions {
            attributes: attributes(session),
            ..PutMultipartOptions::default()
        };
        let assembled = self.assembly.path(path, session);
        let id = briefly(self.store.create_multipart_opts(&assembled, options)).await?;
        Ok(Assembly::upload(session, &id))
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let (assembled, id) = self.assembly.split(path, upload).ok_or(Error::UnknownUpload)?;
        let etag = remote::put_part(&self.store, &assembled, id, part, payload).await?;
        Ok(PartId(bare(&etag).into()))
    }

    fn copies_whole(&self) -> bool {
        true
    }

    async fn copy_whole(
        &self,
        from: &Path,
        to: &Path,
        session: SessionId,
        size: u64,
        terms: Terms<'_>,
    ) -> Result<Option<ObjectTag>, CompleteError> {
        // What names the session is copied with the object.
        let mut publication = Publication::new(&self.store, to, session, size, terms);
        loop {
            match self.rewrite(from, to, terms, size).await {
                Ok(tag) => return Ok(Some(tag)),
                Err(failed) => {
                    if let Some(tag) = publication.judge(failed).await? {
                        return Ok(Some(tag));
                    }
                }
            }
        }
    }

    async fn signed_url(&self, method: Method, path: &Path, lasts: Duration) -> Result<Option<Url>, Error> {
        Ok(Some(self.store.signed_url(method, path, lasts).await?))
    }

    async fn mark(&self, _path: &Path, _upload: &UploadId) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let (assembled, id) = self.assembly.split(path, upload).ok_or(CompleteError::UnknownUpload)?;
        let mut publication = Publication::new(&self.store, path, session, size, terms);
        let published = loop {
            match self.attempt(&assembled, id, parts, path, session, terms).await {
                Ok(tag) => break tag,
                Err(failed) => {
                    if let Some(tag) = publication.judge(failed).await? {
                        break tag;
                    }
                }
            }
        };
        // What is left over when this fails goes when the session is cleared away.
        let _ = briefly(self.store.delete(&assembled)).await;
        Ok(published)
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        let Some((assembled, id)) = self.assembly.split(path, upload) else {
            return Ok(());
        };
        remote::abort(&self.store, &assembled, &UploadId(id.to_owned())).await?;
        self.disassemble(&assembled).await
    }

    async fn tidy(&self, path: &Path, session: SessionId) -> Result<(), Error> {
        self.disassemble(&self.assembly.path(path, session)).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let prefix = self.assembly.prefix(path);
        let mut found = Vec::new();
        let mut marker = (String::new(), String::new());
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix.as_str())];
            if !marker.0.is_empty() {
                query.extend([
                    ("key-marker", marker.0.as_str()),
                    ("upload-id-marker", marker.1.as_str()),
                ]);
            }
            let page = self
                .request(Method::GET, &[&self.bucket], &query, Deadline::NEVER)
                .await?
                .accepted()?
                .body;
            let of_path = listed_uploads(&page).filter_map(|(key, id, began)| {
                let session = key.strip_prefix(&prefix)?.parse().ok()?;
                Some((Assembly::upload(session, &id), began))
            });
            found.extend(of_path);
            match next_uploads(&page) {
                Some(next) if next != marker => marker = next,
                _ => return Ok(found),
            }
        }
    }
}
