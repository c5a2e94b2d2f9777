//! Azure Blob Storage: parts are blocks, and completing is committing a list of them.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request, Uri};
use object_store::azure::{AzureAuthorizer, MicrosoftAzure};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::signer::Signer;
use object_store::{ObjectStore, PutPayload, path::Path};
use url::Url;

use super::bucket::Bucket;
use super::objects::{CONTENT_DISPOSITION, CONTENT_TYPE, SESSION_METADATA};
use super::records::bare;
use super::remote::{self, Answer, Attempt, Publication};
use super::{CompleteError, Error, Terms, xml};
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{Before, ObjectTag};
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// A container on Azure.
#[derive(Debug)]
pub(super) struct AzureBucket {
    store: MicrosoftAzure,
    /// The connections that the store uses too.
    client: HttpClient,
    account: String,
    /// The URL of the container.
    container: Url,
}

impl AzureBucket {
    pub(super) const fn new(store: MicrosoftAzure, client: HttpClient, account: String, container: Url) -> Self {
        Self {
            store,
            client,
            account,
            container,
        }
    }

    /// Where the list of the blocks of a blob is.
    fn block_list(&self, path: &Path, query: &str) -> Result<Uri, Error> {
        let mut url = self.container.clone();
        // A URL with a host has segments.
        url.path_segments_mut()
            .map_err(|()| remote::unbuilt("no path"))?
            .extend(path.as_ref().split('/'));
        url.set_query(Some(query));
        url.as_str().parse().map_err(remote::unbuilt)
    }

    /// Makes a request that `object_store` has no call for.
    async fn send(&self, mut request: HttpRequest) -> Result<Answer, Error> {
        let credential = self.store.credentials().get_credential().await?;
        let authorizer = AzureAuthorizer::new(&credential, &self.account);
        authorizer.try_authorize(&mut request)?;
        remote::send(&self.client, request).await
    }

    /// Put Block List, not yet authorised. The session is named with the commit: blocks have no metadata.
    fn commit(&self, path: &Path, session: SessionId, terms: Terms<'_>, body: String) -> Result<HttpRequest, Error> {
        let condition = match terms.before {
            Before::Absent => (IF_NONE_MATCH, "*".to_owned()),
            Before::Present(tag) => (
                IF_MATCH,
                format!("\"{}\"", bare(tag.etag.as_deref().unwrap_or_default())),
            ),
        };
        let headers = [
            condition,
            (CONTENT_LENGTH, body.len().to_string()),
            (
                HeaderName::from_static("x-ms-blob-content-type"),
                CONTENT_TYPE.to_owned(),
            ),
            (
                HeaderName::from_static("x-ms-blob-content-disposition"),
                CONTENT_DISPOSITION.to_owned(),
            ),
            (
                HeaderName::try_from(format!("x-ms-meta-{SESSION_METADATA}")).map_err(remote::unbuilt)?,
                session.as_key(),
            ),
        ];
        let mut request = Request::new(HttpRequestBody::from(body));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = self.block_list(path, "comp=blocklist")?;
        request.extensions_mut().insert(terms.by);
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(name, HeaderValue::try_from(value).map_err(remote::unbuilt)?);
        }
        Ok(request)
    }

    /// One attempt at Put Block List.
    async fn attempt(
        &self,
        path: &Path,
        parts: &[RecordedPart],
        request: HttpRequest,
        size: u64,
    ) -> Result<ObjectTag, Attempt> {
        let answer = self.send(request).await?;
        // Another commit to the blob, or a week: Azure drops blocks for both. Ours drops them, too.
        if answer.status == 400 && answer.body.contains("InvalidBlockList") {
            return Err(if self.some_wait(path, parts).await? {
                Attempt::InvalidPart("InvalidBlockList".to_owned())
            } else {
                Error::UnknownUpload.into()
            });
        }
        if answer.status == 400 && answer.body.contains("InvalidBlockId") {
            return Err(Attempt::InvalidPart("InvalidBlockId".to_owned()));
        }
        let answer = answer.accepted()?;
        // Something between the store and us may answer in its place.
        let Some(etag) = answer.header("etag") else {
            return Err(Error::Unavailable(format!("HTTP {} without an ETag", answer.status)).into());
        };
        Ok(ObjectTag {
            etag: Some(etag),
            version: answer.header("x-ms-version-id"),
            size,
        })
    }

    /// Whether some of the parts still wait for a commit. A commit leaves none behind: then these parts were never committed, and those
    /// that are missing were dropped before the last one came. Nothing else tells: a block is taken whether there are others or not.
    async fn some_wait(&self, path: &Path, parts: &[RecordedPart]) -> Result<bool, Error> {
        let mut request = Request::new(HttpRequestBody::empty());
        *request.uri_mut() = self.block_list(path, "comp=blocklist&blocklisttype=uncommitted")?;
        let waiting = match self.send(request).await?.accepted() {
            Ok(answer) => answer.body,
            Err(Error::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        };
        let waiting: HashSet<_> = xml::elements(&waiting, "Name").collect();
        Ok(parts
            .iter()
            .any(|part| waiting.contains(base64(part.id().0.as_bytes()).as_str())))
    }
}

/// The body of Put Block List.
fn list_of(parts: &[RecordedPart]) -> String {
    let blocks = parts.iter().map(|part| {
        let id = base64(part.id().0.as_bytes());
        format!("<Uncommitted>{id}</Uncommitted>")
    });
    let blocks: String = blocks.collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>")
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            // Six bits index an alphabet of 64.
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[async_trait]
impl Bucket for AzureBucket {
    fn objects(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn forgets_uploads(&self) -> bool {
        false
    }

    fn cutting(&self) -> Cutting {
        Cutting::Free
    }

    async fn begin(&self, _path: &Path, _session: SessionId) -> Result<UploadId, Error> {
        // Azure has no such thing: blocks are named when they are committed. A name of our own keeps two uploads apart in the record.
        Ok(UploadId(random_id().simple().to_string()))
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        Ok(PartId(
            remote::put_part(&self.store, path, &upload.0, part, payload)
                .await?
                .into(),
        ))
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
        _upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let request = self.commit(path, session, terms, list_of(parts))?;
        let mut publication = Publication::new(&self.store, path, session, size, terms);
        loop {
            match self.attempt(path, parts, request.clone(), size).await {
                Ok(tag) => return Ok(tag),
                Err(failed) => {
                    if let Some(tag) = publication.judge(failed).await? {
                        return Ok(tag);
                    }
                }
            }
        }
    }

    async fn abort(&self, _path: &Path, _upload: &UploadId) -> Result<(), Error> {
        // Uncommitted blocks can't be removed without touching the blob; Azure drops them after a week.
        Ok(())
    }

    async fn uploads(&self, _path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_rfc_says() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "+//+");
    }
}
