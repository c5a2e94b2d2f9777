//! A stand-in for Google Cloud Storage: no emulator that installs here knows both the XML API that object_store speaks and its conditions.
//! Written from the documentation: the XML API for objects, lists and multipart uploads, which know no conditions, and `rewrite` of
//! the JSON API, which does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bits_gateway::store::Settings;
use bits_gateway::units::SecretOr;
use percent_encoding::percent_decode_str;

use super::http::{Answer, Request, Server, answer};

const BUCKET: &str = "bucket";

/// Calls that a rewrite of a larger object takes at least two of.
const ONE_CALL: usize = 4 << 20;

#[derive(Default)]
struct State {
    next: u64,
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
}

#[derive(Clone)]
struct Object {
    generation: u64,
    bytes: Vec<u8>,
    /// Headers that are stored with it.
    kept: Vec<(String, String)>,
}

struct Upload {
    key: String,
    kept: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// A running stand-in.
pub(crate) struct Google {
    pub(crate) server: Server,
    state: Arc<Mutex<State>>,
}

impl Google {
    pub(crate) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| {
            let answer = shared.lock().unwrap().answer(&request);
            async move { answer }
        })
        .await;
        Self { server, state }
    }

    /// The names of all objects, for tests that nothing is left over.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

/// Settings of a store that is reached at `port`, below `prefix`.
pub(crate) fn settings(port: u16, prefix: &str) -> Settings {
    let options = [
        ("google_base_url", format!("http://127.0.0.1:{port}")),
        ("google_bearer_token", "test-token".to_owned()),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), SecretOr::Plain(value)));
    Settings {
        url: format!("gs://{BUCKET}/{prefix}"),
        options: BTreeMap::from(options),
        ..Settings::default()
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn etag(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn refuse(status: u16, code: &str) -> Answer {
    answer(status, &[], format!("<Error><Code>{code}</Code></Error>").as_bytes())
}

/// The headers of a request that are stored with an object.
fn kept(request: &Request) -> Vec<(String, String)> {
    let keep = |name: &str| name.starts_with("x-goog-meta-") || matches!(name, "content-type" | "content-disposition");
    request.headers.iter().filter(|(name, _)| keep(name)).cloned().collect()
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        if request.header("authorization") != Some("Bearer test-token") {
            return refuse(401, "AuthenticationRequired");
        }
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(&value.replace('+', "%20"))))
            .collect();
        if let Some(json) = path.strip_prefix("/storage/v1/b/") {
            return self.rewrite(json, &query);
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if bucket != BUCKET {
            return refuse(404, "NoSuchBucket");
        }
        let key = decode(key);
        let upload = query.get("uploadId").cloned();
        match (request.method.as_str(), key.is_empty(), upload) {
            ("GET", true, _) if query.contains_key("uploads") => self.list_uploads(&query),
            ("GET", true, _) => self.list(&query),
            ("POST", false, None) if query.contains_key("uploads") => self.begin(key, request),
            ("PUT", false, Some(upload)) => self.put_part(&upload, &query["partNumber"], request),
            ("POST", false, Some(upload)) => self.complete(&upload, &key, request),
            ("DELETE", false, Some(upload)) => match self.uploads.remove(&upload) {
                Some(_) => answer(204, &[], b""),
                None => refuse(404, "NoSuchUpload"),
            },
            ("PUT", false, None) => self.put(key, request),
            ("GET" | "HEAD", false, None) => self.get(&key, request),
            ("DELETE", false, None) => match self.objects.remove(&key) {
                Some(_) => answer(204, &[], b""),
                None => refuse(404, "NoSuchKey"),
            },
            _ => refuse(400, "InvalidArgument"),
        }
    }

    fn generation(&self, key: &str) -> u64 {
        self.objects.get(key).map_or(0, |object| object.generation)
    }

    fn store(&mut self, key: String, bytes: Vec<u8>, kept: Vec<(String, String)>) -> u64 {
        self.next += 1;
        let generation = self.next;
        let object = Object {
            generation,
            bytes,
            kept,
        };
        self.objects.insert(key, object);
        generation
    }

    fn put(&mut self, key: String, request: &Request) -> Answer {
        let asked = request.header("x-goog-if-generation-match");
        if asked.is_some_and(|asked| asked != self.generation(&key).to_string()) {
            return refuse(412, "PreconditionFailed");
        }
        let tag = etag(&request.body);
        let generation = self.store(key, request.body.clone(), kept(request));
        answer(
            200,
            &[("etag", tag), ("x-goog-generation", generation.to_string())],
            b"",
        )
    }

    fn get(&self, key: &str, request: &Request) -> Answer {
        let Some(object) = self.objects.get(key) else {
            return refuse(404, "NoSuchKey");
        };
        let tag = etag(&object.bytes);
        if request.header("if-match").is_some_and(|asked| asked != tag) {
            return refuse(412, "PreconditionFailed");
        }
        let size = object.bytes.len();
        let mut headers = vec![
            ("etag", tag),
            ("x-goog-generation", object.generation.to_string()),
            ("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT".to_owned()),
        ];
        headers.extend(object.kept.iter().map(|(name, value)| (name.as_str(), value.clone())));
        if request.method == "HEAD" {
            headers.push(("content-length", size.to_string()));
            return answer(200, &headers, b"");
        }
        let range = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range else {
            return answer(200, &headers, &object.bytes);
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let end = size.min(last + 1);
        headers.push(("content-range", format!("bytes {first}-{}/{size}", end - 1)));
        answer(206, &headers, &object.bytes[first..end])
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let contents = self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, object)| {
            format!(
                "<Contents><Key>{}</Key><Size>{}</Size><ETag>{}</ETag><LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>",
                escape(key),
                object.bytes.len(),
                escape(&etag(&object.bytes)),
            )
        });
        let contents: String = contents.collect();
        answer(
            200,
            &[],
            format!("<ListBucketResult>{contents}</ListBucketResult>").as_bytes(),
        )
    }

    fn begin(&mut self, key: String, request: &Request) -> Answer {
        self.next += 1;
        let id = format!("upload-{}", self.next);
        let upload = Upload {
            key,
            kept: kept(request),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        let body = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        answer(200, &[], body.as_bytes())
    }

    fn put_part(&mut self, upload: &str, number: &str, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get_mut(upload) else {
            return refuse(404, "NoSuchUpload");
        };
        upload.parts.insert(number.parse().unwrap(), request.body.clone());
        answer(200, &[("etag", etag(&request.body))], b"")
    }

    /// Publishes the parts whatever the destination is: conditions are not known here.
    fn complete(&mut self, id: &str, key: &str, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get(id).filter(|upload| upload.key == key) else {
            return refuse(404, "NoSuchUpload");
        };
        let body = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
        let mut bytes = Vec::new();
        for part in body.split("<Part>").skip(1) {
            let between = |open: &str, close: &str| part.split_once(open)?.1.split_once(close).map(|(inner, _)| inner);
            let number = between("<PartNumber>", "</PartNumber>").and_then(|number| number.parse().ok());
            let stored = number.and_then(|number: u32| upload.parts.get(&number));
            match stored {
                Some(stored) if between("<ETag>", "</ETag>") == Some(etag(stored).as_str()) => bytes.extend(stored),
                _ => return refuse(400, "InvalidPart"),
            }
        }
        let kept = upload.kept.clone();
        let key = key.to_owned();
        self.uploads.remove(id);
        let tag = escape(&etag(&bytes));
        let generation = self.store(key, bytes, kept);
        let body = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
        answer(200, &[("x-goog-generation", generation.to_string())], body.as_bytes())
    }

    fn list_uploads(&self, query: &BTreeMap<String, String>) -> Answer {
        let uploads = self
            .uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(&query["prefix"]));
        let uploads = uploads.map(|(id, upload)| {
            let key = escape(&upload.key);
            format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2015-10-21T07:28:00.000Z</Initiated></Upload>")
        });
        let uploads: String = uploads.collect();
        let body = format!(
            "<ListMultipartUploadsResult>{uploads}<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
        );
        answer(200, &[], body.as_bytes())
    }

    fn rewrite(&mut self, path: &str, query: &BTreeMap<String, String>) -> Answer {
        let names: Vec<String> = path.split('/').map(decode).collect();
        let [_, _, from, _, _, _, _, to] = names.as_slice() else {
            return refuse(400, "bad path");
        };
        let Some(object) = self.objects.get(from).cloned() else {
            return answer(404, &[], br#"{"error":{"code":404}}"#);
        };
        let asked = query.get("ifGenerationMatch");
        if asked.is_some_and(|asked| *asked != self.generation(to).to_string()) {
            return answer(412, &[], br#"{"error":{"code":412}}"#);
        }
        if object.bytes.len() > ONE_CALL && query.get("rewriteToken").is_none_or(|token| token != "go on/+") {
            return answer(
                200,
                &[],
                br#"{"kind":"storage#rewriteResponse","done":false,"rewriteToken":"go on/+"}"#,
            );
        }
        let size = object.bytes.len();
        let generation = self.store(to.clone(), object.bytes, object.kept);
        let body = format!(
            r#"{{"kind":"storage#rewriteResponse","done":true,"objectSize":"{size}","resource":{{"generation":"{generation}","etag":"CAE="}}}}"#
        );
        answer(200, &[], body.as_bytes())
    }
}
