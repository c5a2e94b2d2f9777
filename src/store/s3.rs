//! S3 and everything that speaks like it.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{Method, Request};
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequestBody};
use object_store::multipart::MultipartStore;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{ObjectStore, PutMultipartOptions, PutPayload, path::Path};

use super::bucket::Bucket;
use super::objects::attributes;
use super::records::bare;
use super::remote::{self, Answer, Attempt, Publication};
use super::{CompleteError, Error, xml};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};

/// How long a signed request of ours may take to arrive.
const SIGNATURE: Duration = Duration::from_secs(300);

/// A bucket on S3.
#[derive(Debug)]
pub(super) struct S3Bucket {
    store: AmazonS3,
    /// The connections that the store uses too.
    client: HttpClient,
    /// Requests go without a signature.
    anonymous: bool,
}

impl S3Bucket {
    pub(super) const fn new(store: AmazonS3, client: HttpClient, anonymous: bool) -> Self {
        Self {
            store,
            client,
            anonymous,
        }
    }

    /// Makes a request that `object_store` has no call for.
    async fn request(
        &self,
        method: Method,
        path: &Path,
        query: &[(&str, &str)],
        headers: HeaderMap,
        body: String,
    ) -> Result<Answer, Error> {
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        options.signed_headers = headers.clone();
        let mut url = self
            .store
            .signed_url_opts(method.clone(), path, SIGNATURE, &options)
            .await?;
        if self.anonymous {
            url.set_query(None);
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(remote::unbuilt)?;
        *request.headers_mut() = headers;
        remote::send(&self.client, request).await
    }

    /// One attempt at CompleteMultipartUpload.
    async fn attempt(
        &self,
        path: &Path,
        upload: &UploadId,
        condition: (HeaderName, HeaderValue),
        body: String,
        size: u64,
    ) -> Result<ObjectTag, Attempt> {
        let headers = HeaderMap::from_iter([condition]);
        let query = [("uploadId", upload.0.as_str())];
        let answer = self.request(Method::POST, path, &query, headers, body).await?;
        if answer.status == 400 && INVALID_PART.iter().any(|code| answer.body.contains(code)) {
            return Err(Attempt::InvalidPart(
                xml::element(&answer.body, "Code").unwrap_or_default(),
            ));
        }
        let answer = answer.accepted()?;
        // S3 begins to answer 200 before it knows how it will end, so that an error may come in the body.
        if let Some(code) = xml::elements(&answer.body, "Error")
            .next()
            .and_then(|error| xml::element(error, "Code"))
        {
            return Err(embedded(&code).into());
        }
        let Some(etag) = xml::element(&answer.body, "ETag") else {
            return Err(Error::Unavailable("the answer to a completion was cut off".to_owned()).into());
        };
        Ok(ObjectTag {
            etag: Some(etag),
            version: answer.header("x-amz-version-id"),
            size,
        })
    }
}

/// Codes that speak of the parts: no repeat helps.
const INVALID_PART: [&str; 4] = [
    "<Code>InvalidPart",
    "<Code>EntityTooSmall",
    "<Code>InvalidRequest",
    "<Code>MalformedXML",
];

/// An error that came with 200.
fn embedded(code: &str) -> Error {
    match code {
        "NoSuchUpload" => Error::UnknownUpload,
        "PreconditionFailed" | "ConditionalRequestConflict" => Error::Conflict,
        "AccessDenied" => Error::Denied(code.to_owned()),
        _ => Error::Unavailable(format!("the store answers 200 with the error {code}")),
    }
}

/// The header that makes a publication depend on what the destination is.
fn condition(before: &Before) -> Result<(HeaderName, HeaderValue), Error> {
    match before {
        Before::Absent => Ok((IF_NONE_MATCH, HeaderValue::from_static("*"))),
        Before::Present(tag) => {
            let etag = tag.etag.as_deref().unwrap_or_default();
            let etag = HeaderValue::from_str(&format!("\"{}\"", bare(etag))).map_err(remote::unbuilt)?;
            Ok((IF_MATCH, etag))
        }
    }
}

/// The body of CompleteMultipartUpload.
fn list_of(parts: &[RecordedPart]) -> String {
    let parts = (1..).zip(parts).map(|(number, part): (u32, _)| {
        let etag = xml::escape(&format!("\"{}\"", bare(&part.id().0)));
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    let parts: String = parts.collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

/// The uploads that a page of ListMultipartUploads shows: key, id, and when it began. GCS speaks the same.
pub(super) fn listed_uploads(page: &str) -> impl Iterator<Item = (String, String, Timestamp)> {
    xml::elements(page, "Upload").filter_map(|upload| {
        let began = xml::moment(&xml::element(upload, "Initiated")?)?;
        Some((xml::element(upload, "Key")?, xml::element(upload, "UploadId")?, began))
    })
}

/// Where the next page of ListMultipartUploads begins.
pub(super) fn next_uploads(page: &str) -> Option<(String, String)> {
    if xml::element(page, "IsTruncated")? != "true" {
        return None;
    }
    let marker = (
        xml::element(page, "NextKeyMarker")?,
        xml::element(page, "NextUploadIdMarker").unwrap_or_default(),
    );
    (!marker.0.is_empty()).then_some(marker)
}

#[async_trait]
impl Bucket for S3Bucket {
    fn objects(&self) -> &dyn ObjectStore {
        &self.store
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let options = PutMultipartOptions {
            attributes: attributes(session),
            ..PutMultipartOptions::default()
        };
        let id = super::patience::briefly(self.store.create_multipart_opts(path, options)).await?;
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let etag = remote::put_part(&self.store, path, &upload.0, part, payload).await?;
        // The quotes come back at completion: a record with 200 parts is small without them.
        Ok(PartId(bare(&etag).to_owned()))
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
        before: &Before,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let condition = condition(before)?;
        let body = list_of(parts);
        let mut publication = Publication::new(&self.store, path, session, size, before);
        loop {
            match self.attempt(path, upload, condition.clone(), body.clone(), size).await {
                Ok(tag) => return Ok(tag),
                Err(failed) => {
                    if let Some(tag) = publication.judge(failed).await? {
                        return Ok(tag);
                    }
                }
            }
        }
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        remote::abort(&self.store, path, upload).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let mut found = Vec::new();
        let mut marker = (String::new(), String::new());
        loop {
            let mut query = vec![("uploads", ""), ("prefix", path.as_ref())];
            if !marker.0.is_empty() {
                query.extend([
                    ("key-marker", marker.0.as_str()),
                    ("upload-id-marker", marker.1.as_str()),
                ]);
            }
            let answer = self
                .request(Method::GET, &Path::ROOT, &query, HeaderMap::new(), String::new())
                .await?;
            let page = answer.accepted()?.body;
            let of_key = listed_uploads(&page).filter(|(key, ..)| key == path.as_ref());
            found.extend(of_key.map(|(_, id, began)| (UploadId(id), began)));
            match next_uploads(&page) {
                // The list is in order of keys, so another key means that this one is done.
                Some(next) if next.0 == path.as_ref() && next != marker => marker = next,
                _ => return Ok(found),
            }
        }
    }
}
