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
use url::Url;

use super::alone::Alone;
use super::bucket::Bucket;
use super::objects::attributes;
use super::records::bare;
use super::remote::{self, Answer, Attempt, Publication};
use super::{CompleteError, Error, Terms, xml};
use crate::bits::SessionId;
use crate::clock::{Deadline, Timestamp};
use crate::session::{Before, ObjectTag};
use crate::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};

/// How long a signed request of ours may take to arrive.
const SIGNATURE: Duration = Duration::from_secs(300);

/// A bucket on S3.
#[derive(Debug)]
pub(super) struct S3Bucket {
    store: Alone<AmazonS3>,
    /// The connections that the store uses too.
    client: HttpClient,
    /// Its name, which copies name their source by.
    bucket: String,
    /// Requests go without a signature.
    anonymous: bool,
    /// All parts of an object have to be alike.
    alike: bool,
}

impl S3Bucket {
    pub(super) fn new(store: AmazonS3, client: HttpClient, bucket: &str, anonymous: bool, alike: bool) -> Self {
        Self {
            store: Alone::new(store),
            client,
            bucket: bucket.to_owned(),
            anonymous,
            alike,
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
        by: Deadline,
    ) -> Result<Answer, Error> {
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        options.signed_headers = headers.clone();
        let mut url = self
            .store
            .objects()
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
        request.extensions_mut().insert(by);
        remote::send(&self.client, request).await
    }

    /// One attempt at CompleteMultipartUpload.
    async fn attempt(
        &self,
        path: &Path,
        upload: &UploadId,
        condition: Option<(HeaderName, HeaderValue)>,
        body: String,
        size: u64,
        by: Deadline,
    ) -> Result<ObjectTag, Attempt> {
        let headers = HeaderMap::from_iter(condition);
        let query = [("uploadId", upload.0.as_str())];
        let answer = self.request(Method::POST, path, &query, headers, body, by).await?;
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

/// What is escaped in the source of a copy: everything that is not plain in a path.
const OF_COPY_SOURCE: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Codes that speak of the parts (the first one begins another one, too): no repeat helps.
const INVALID_PART: [&str; 2] = ["<Code>InvalidPart", "<Code>EntityTooSmall"];

/// What S3 says to a part whose checksum is not of the kind that its upload was begun with.
const OTHER_CHECKSUM: &str = "Checksum Type mismatch";

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

    fn work_alone(&self, alone: bool) {
        self.store.look(alone);
    }

    fn cutting(&self) -> Cutting {
        if self.alike { Cutting::Alike } else { Cutting::Claimed }
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let options = PutMultipartOptions {
            attributes: attributes(session),
            ..PutMultipartOptions::default()
        };
        let id = super::patience::briefly(self.store.objects().create_multipart_opts(path, options)).await?;
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let put = remote::put_part(self.store.objects(), path, &upload.0, part, payload).await;
        let named = put.map_err(|error| match error {
            // What was begun with a checksum goes on with it, and what was not does not: the setting was changed in between.
            Error::Unavailable(why) if why.contains(OTHER_CHECKSUM) => Error::UnknownUpload,
            other => other,
        })?;
        // With a checksum, the library tells the ETag among other things.
        let etag = xml::element(&named, "e_tag").unwrap_or(named);
        // The quotes come back at completion: a record with 200 parts is small without them.
        Ok(PartId(bare(&etag).into()))
    }

    async fn copy_part(
        &self,
        from: &Path,
        to: &Path,
        upload: &UploadId,
        part: PartRange,
    ) -> Result<Option<PartId>, Error> {
        if part.is_empty() {
            return Ok(None);
        }
        let source = percent_encoding::utf8_percent_encode(from.as_ref(), OF_COPY_SOURCE);
        let source = HeaderValue::try_from(format!("/{}/{source}", self.bucket)).map_err(remote::unbuilt)?;
        let range = HeaderValue::try_from(format!("bytes={}-{}", part.from, part.to - 1)).map_err(remote::unbuilt)?;
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-amz-copy-source"), source),
            (HeaderName::from_static("x-amz-copy-source-range"), range),
        ]);
        let number = (u64::from(part.index) + 1).to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload.0.as_str())];
        let request = self.request(Method::PUT, to, &query, headers, String::new(), Deadline::NEVER);
        let answer = request.await?.accepted()?;
        // As with a completion, an error may come with 200.
        match xml::element(&answer.body, "ETag") {
            Some(etag) => Ok(Some(PartId(bare(&etag).into()))),
            None => Err(Error::Unavailable("the answer to a copy was cut off".to_owned())),
        }
    }

    async fn signed_url(&self, method: Method, path: &Path, lasts: Duration) -> Result<Option<Url>, Error> {
        if self.anonymous {
            return Ok(None);
        }
        Ok(Some(self.store.objects().signed_url(method, path, lasts).await?))
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
        let condition = condition(terms.before)?;
        // Who publishes has looked already where the store holds no conditions (`Store::complete`).
        let condition = (!self.store.looks()).then_some(condition);
        let body = list_of(parts);
        let mut publication = Publication::new(&self.store, path, session, size, terms);
        loop {
            let attempt = self.attempt(path, upload, condition.clone(), body.clone(), size, terms.by);
            match attempt.await {
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
        remote::abort(self.store.objects(), path, upload).await
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
                .request(
                    Method::GET,
                    &Path::ROOT,
                    &query,
                    HeaderMap::new(),
                    String::new(),
                    Deadline::NEVER,
                )
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http::Response;
    use object_store::ClientOptions;
    use object_store::client::{HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};

    use super::*;
    use crate::clock::{Uptime, random_id};
    use crate::store::open::{Connector, s3};

    /// A server that writes down what it is asked and answers what it was told to.
    #[derive(Clone, Debug, Default)]
    struct Script {
        asked: Arc<Mutex<Vec<HttpRequest>>>,
        answers: Arc<Mutex<Vec<(u16, &'static str)>>>,
        /// How long each answer takes.
        pace: Duration,
    }

    #[async_trait]
    #[expect(
        clippy::disallowed_methods,
        reason = "the time that an answer takes, on a clock that the test holds"
    )]
    impl HttpService for Script {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.asked.lock().unwrap().push(request);
            if !self.pace.is_zero() {
                tokio::time::sleep(self.pace).await;
            }
            let (status, body) = self.answers.lock().unwrap().remove(0);
            let answer = Response::builder()
                .status(status)
                .header("etag", "\"tag\"")
                .header("content-length", "9");
            Ok(answer.body(Bytes::from(body).into()).unwrap())
        }
    }

    impl HttpConnector for Script {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    impl Script {
        fn answering(answers: &[(u16, &'static str)]) -> Self {
            let script = Self::default();
            *script.answers.lock().unwrap() = answers.to_vec();
            script
        }

        fn bucket(&self, options: &[(&str, &str)]) -> S3Bucket {
            let keys = [("aws_access_key_id", "key"), ("aws_secret_access_key", "very secret")];
            let options = keys
                .iter()
                .chain(options)
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            s3(
                "bucket",
                &options.collect::<BTreeMap<_, _>>(),
                &Connector::over(self.clone()),
            )
            .unwrap()
        }

        fn request(&self, index: usize) -> (String, HeaderMap, String) {
            let asked = self.asked.lock().unwrap();
            let body = asked[index].body().as_bytes().cloned().unwrap_or_default();
            let body = String::from_utf8(body.to_vec()).unwrap();
            (asked[index].uri().to_string(), asked[index].headers().clone(), body)
        }
    }

    fn path() -> Path {
        Path::parse("dir/a b&c").unwrap()
    }

    fn session() -> SessionId {
        SessionId::new(random_id())
    }

    fn parts() -> Vec<RecordedPart> {
        [("abc", 5), ("def", 8)]
            .map(|(id, end)| RecordedPart(PartId(id.into()), end))
            .to_vec()
    }

    #[test]
    fn only_the_store_that_refuses_unequal_parts_gets_equal_ones() {
        for (endpoint, cutting) in [
            ("https://s3.example.com", Cutting::Claimed),
            ("https://0123.eu.r2.cloudflarestorage.com", Cutting::Alike),
        ] {
            let bucket = Script::default().bucket(&[("aws_endpoint", endpoint)]);
            assert_eq!(bucket.cutting(), cutting, "{endpoint}");
        }
    }

    const COMPLETED: &str =
        "<CompleteMultipartUploadResult><ETag>&quot;whole-2&quot;</ETag></CompleteMultipartUploadResult>";

    #[tokio::test]
    async fn a_completion_lists_the_parts_and_says_what_must_be_there() {
        let script = Script::answering(&[(200, COMPLETED), (200, COMPLETED)]);
        let bucket = script.bucket(&[]);
        let upload = UploadId("id+/=".to_owned());
        let tag = bucket
            .complete(
                &path(),
                session(),
                &upload,
                &parts(),
                Terms::whenever(&Before::Absent),
                None,
            )
            .await
            .unwrap();
        assert_eq!((tag.etag.as_deref(), tag.size), (Some("\"whole-2\""), 8));
        let (url, headers, body) = script.request(0);
        assert!(
            url.starts_with("https://s3.us-east-1.amazonaws.com/bucket/dir/a%20b%26c?uploadId=id%2B%2F%3D&"),
            "{url}"
        );
        assert!(url.contains("X-Amz-SignedHeaders=host%3Bif-none-match"), "{url}");
        assert_eq!(headers[IF_NONE_MATCH], "*");
        assert!(
            body.contains("<Part><PartNumber>1</PartNumber><ETag>&quot;abc&quot;</ETag></Part>"),
            "{body}"
        );
        assert!(
            body.contains("<Part><PartNumber>2</PartNumber><ETag>&quot;def&quot;</ETag></Part>"),
            "{body}"
        );

        let before = ObjectTag {
            etag: Some("\"old\"".to_owned()),
            ..ObjectTag::default()
        };
        bucket
            .complete(
                &path(),
                session(),
                &upload,
                &parts(),
                Terms::whenever(&Before::Present(before)),
                None,
            )
            .await
            .unwrap();
        assert_eq!(script.request(1).1[IF_MATCH], "\"old\"");
    }

    #[tokio::test]
    async fn an_upload_names_its_session_and_is_nothing_that_a_browser_would_run() {
        let begun = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
        let script = Script::answering(&[(200, begun), (200, "")]);
        let (bucket, session) = (script.bucket(&[]), session());
        let upload = bucket.begin(&path(), session).await.unwrap();
        let (_, headers, _) = script.request(0);
        assert_eq!(headers["x-amz-meta-bitssession"], session.as_key());
        assert_eq!(headers["content-type"], "application/octet-stream");
        assert_eq!(headers["content-disposition"], "attachment");
        let part = PartRange {
            index: 4,
            from: 0,
            to: 3,
        };
        let id = bucket.put_part(&path(), &upload, part, "abc".into()).await.unwrap();
        assert_eq!(&*id.0, "tag", "without quotes: 200 of them have to fit into a record");
        let (url, headers, _) = script.request(1);
        assert!(url.contains("partNumber=5&uploadId=id"), "{url}");
        assert_eq!(
            headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD",
            "TLS protects it already"
        );
        // Of "abc".
        assert_eq!(headers["x-amz-checksum-crc64nvme"], "BeXKuz/B+us=");
        assert_eq!(script.request(0).1["x-amz-checksum-algorithm"], "CRC64NVME");
    }

    #[tokio::test]
    async fn a_checksum_goes_to_amazon_and_to_whoever_is_known_to_take_it() {
        let endpoint = ("aws_endpoint", "https://minio.example.com");
        let wanted = ("aws_checksum_algorithm", "CRC64NVME");
        let unwanted = ("aws_checksum_algorithm", "none");
        for (options, is_sent) in [
            (&[][..], true),
            (&[endpoint], false),
            (&[endpoint, wanted], true),
            (&[unwanted], false),
        ] {
            let script = Script::answering(&[(200, "")]);
            let part = PartRange {
                index: 0,
                from: 0,
                to: 3,
            };
            let upload = UploadId("id".to_owned());
            let id = script
                .bucket(options)
                .put_part(&path(), &upload, part, "abc".into())
                .await;
            assert_eq!(&*id.unwrap().0, "tag", "{options:?}");
            let (_, headers, _) = script.request(0);
            assert_eq!(headers.contains_key("x-amz-checksum-crc64nvme"), is_sent, "{options:?}");
        }
    }

    /// From memory of what S3 answers: no server here does.
    #[tokio::test]
    async fn an_upload_that_was_begun_under_another_setting_is_given_up() {
        let body = "<Error><Code>InvalidRequest</Code><Message>Checksum Type mismatch occurred, expected checksum Type: null, actual \
                    checksum Type: crc64nvme</Message></Error>";
        let script = Script::answering(&[(400, body)]);
        let part = PartRange {
            index: 0,
            from: 0,
            to: 3,
        };
        let upload = UploadId("id".to_owned());
        let refused = script.bucket(&[]).put_part(&path(), &upload, part, "abc".into()).await;
        assert!(matches!(refused, Err(Error::UnknownUpload)), "{refused:?}");
    }

    #[tokio::test]
    async fn what_goes_over_plain_http_is_signed() {
        let script = Script::answering(&[(200, "")]);
        let bucket = script.bucket(&[("aws_endpoint", "http://127.0.0.1:1")]);
        let part = PartRange {
            index: 0,
            from: 0,
            to: 3,
        };
        bucket
            .put_part(&path(), &UploadId("id".to_owned()), part, "abc".into())
            .await
            .unwrap();
        let (url, headers, _) = script.request(0);
        assert!(url.starts_with("http://127.0.0.1:1/bucket/"), "{url}");
        assert_eq!(headers["x-amz-content-sha256"].len(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_the_store_refuses_are_told_apart() {
        for code in ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"] {
            let body: &'static str = format!("<Error><Code>{code}</Code></Error>").leak();
            let script = Script::answering(&[(400, body), (404, "")]);
            let upload = UploadId("id".to_owned());
            let result = script
                .bucket(&[])
                .complete(
                    &path(),
                    session(),
                    &upload,
                    &parts(),
                    Terms::whenever(&Before::Absent),
                    None,
                )
                .await;
            assert!(
                matches!(&result, Err(CompleteError::InvalidPart(why)) if why == code),
                "{result:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_200_may_hold_any_error() {
        let error = |code: &str| -> &'static str { format!("<?xml?>\n  <Error><Code>{code}</Code></Error>").leak() };
        let upload = UploadId("id".to_owned());
        let complete = async |script: &Script| {
            script
                .bucket(&[])
                .complete(
                    &path(),
                    session(),
                    &upload,
                    &parts(),
                    Terms::whenever(&Before::Absent),
                    None,
                )
                .await
        };
        let script = Script::answering(&[
            (200, error("SlowDown")),
            (404, ""),
            (200, "cut o"),
            (404, ""),
            (200, COMPLETED),
        ]);
        complete(&script).await.unwrap();
        let script = Script::answering(&[(200, error("NoSuchUpload")), (404, "")]);
        assert!(matches!(complete(&script).await, Err(CompleteError::UnknownUpload)));
        let script = Script::answering(&[(200, error("PreconditionFailed")), (200, "")]);
        assert!(matches!(complete(&script).await, Err(CompleteError::Changed)));
        let script = Script::answering(&[(200, error("AccessDenied")), (404, "")]);
        assert!(matches!(
            complete(&script).await,
            Err(CompleteError::Store(Error::Denied(_)))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_that_publishes_is_sent_after_its_deadline() {
        // Each answer comes after the deadline: neither we nor the library may ask for the same once more.
        let slow = |answers: &[(u16, &'static str)]| Script {
            pace: Duration::from_secs(25),
            ..Script::answering(answers)
        };
        let terms = || Terms {
            before: &Before::Absent,
            by: Deadline::after(Uptime::now(), Duration::from_secs(20)),
        };
        let script = slow(&[(503, "")]);
        let put = script.bucket(&[]).store;
        let put = put.put_opts(&path(), "abc".into(), terms().put(session())).await;
        assert!(put.unwrap_err().to_string().contains("too late"));

        // The second one is the look at the destination.
        let script = slow(&[(503, ""), (404, "")]);
        let upload = UploadId("id".to_owned());
        let completed = script
            .bucket(&[])
            .complete(&path(), session(), &upload, &parts(), terms(), None)
            .await;
        assert!(
            matches!(completed, Err(CompleteError::Store(Error::Unavailable(_)))),
            "{completed:?}"
        );
        assert_eq!(script.asked.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn uploads_are_listed_page_by_page_and_for_one_key_only() {
        let page = |key: &str, id: &str, next: &str| -> &'static str {
            format!(
                "<ListMultipartUploadsResult><NextKeyMarker>{next}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>\
                 <IsTruncated>true</IsTruncated><Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
                 <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload></ListMultipartUploadsResult>"
            )
            .leak()
        };
        let key = "dir/a b&amp;c";
        let script = Script::answering(&[
            (200, page(key, "one", key)),
            (200, page(key, "two", key)),
            (200, page("dir/a b&amp;cd", "three", "dir/a b&amp;cd")),
        ]);
        let found = script.bucket(&[]).uploads(&path()).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.0.as_str()).collect();
        assert_eq!(ids, ["one", "two"]);
        assert_eq!(found[0].1, Timestamp::from_millis(1_289_422_113_000));
        let (url, ..) = script.request(2);
        assert!(url.contains("key-marker=dir%2Fa%20b%26c&upload-id-marker=two"), "{url}");
    }

    #[tokio::test]
    async fn requests_without_a_signature_show_none() {
        let script = Script::answering(&[(200, COMPLETED)]);
        let bucket = script.bucket(&[("aws_skip_signature", "true")]);
        let upload = UploadId("id".to_owned());
        bucket
            .complete(
                &path(),
                session(),
                &upload,
                &parts(),
                Terms::whenever(&Before::Absent),
                None,
            )
            .await
            .unwrap();
        let (url, headers, _) = script.request(0);
        assert!(url.ends_with("/dir/a%20b%26c?uploadId=id"), "{url}");
        assert!(!headers.contains_key("authorization"));
    }
}
