//! What the server application is told, and in which words (MC-BUP 2.2.12).

use bytes::Bytes;
use futures::stream::BoxStream;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::signature::{self, Signed};
use crate::bits::{SessionId, header};
use crate::clock::Timestamp;
use crate::units::Secret;

/// The session, the same for every request about it, in the words of an IETF draft that frameworks know.
const IDEMPOTENCY: &str = "Idempotency-Key";
/// The bucket of both objects; a header of ours.
const BUCKET: &str = "X-Bits-Gateway-Bucket";
/// The name of the object that holds the file; a header of ours.
const DATA_OBJECT: &str = "X-Bits-Gateway-Request-Object";
/// The name of the object that becomes the reply; a header of ours.
const REPLY_OBJECT: &str = "X-Bits-Gateway-Response-Object";
/// Bytes of the file, in both modes; a header of ours.
const SIZE: &str = "X-Bits-Gateway-Size";
/// That all of this is ours; a header of ours.
const SIGNATURE: &str = "X-Bits-Gateway-Signature";

/// A finished upload to tell of.
pub struct Letter {
    /// The session.
    pub session: SessionId,
    /// The URL of its Create-Session, absolute.
    pub original_url: String,
    /// Bytes in the file.
    pub size: u64,
    /// The file.
    pub content: Content,
}

/// The file, or where it is.
pub enum Content {
    /// All of it, in pieces.
    Value(BoxStream<'static, Result<Bytes, String>>),
    /// Where it lies, and where the reply shall be.
    Reference {
        /// Where it lies.
        request: Place,
        /// Where the reply shall be.
        response: Place,
    },
}

/// Where an object can be reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// A path or a URL: whoever reads it may do so.
    pub name: String,
    /// The bucket.
    pub bucket: String,
    /// The name of the object in it.
    pub object: String,
}

impl Letter {
    /// The head of the request to `url`.
    pub(super) fn headers(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        key: Option<&Secret>,
        now: Timestamp,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let session = self.session.to_string();
        let length = match &self.content {
            Content::Value(_) => self.size,
            Content::Reference { .. } => 0,
        };
        let mut say = |name: &str, value: &str| {
            // The names are constants, and names.
            if let Ok(name) = HeaderName::try_from(name) {
                headers.insert(name, plain(value));
            }
        };
        say(header::ORIGINAL_REQUEST_URL, &self.original_url);
        if let Content::Reference { request, response } = &self.content {
            say(header::REQUEST_DATA_FILE, &request.name);
            say(header::RESPONSE_DATA_FILE, &response.name);
            say(BUCKET, &request.bucket);
            say(DATA_OBJECT, &request.object);
            say(REPLY_OBJECT, &response.object);
        }
        say(header::SESSION_ID, &session);
        say(IDEMPOTENCY, &session);
        say(SIZE, &self.size.to_string());
        if matches!(self.content, Content::Value(_)) {
            say("Content-Type", "application/octet-stream");
        }
        say(header::CONTENT_LENGTH, &length.to_string());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(key) = key {
            let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap_or_default());
            let signed = Signed {
                path: url.path(),
                query: url.query().unwrap_or_default(),
                session: &session,
                original_url: text(header::ORIGINAL_REQUEST_URL),
                size: self.size,
                places: [
                    header::REQUEST_DATA_FILE,
                    header::RESPONSE_DATA_FILE,
                    BUCKET,
                    DATA_OBJECT,
                    REPLY_OBJECT,
                ]
                .map(text),
            };
            let signature = plain(&signature::sign(key, now, &signed));
            headers.extend(HeaderName::try_from(SIGNATURE).map(|name| (name, signature)));
        }
        headers
    }
}

/// `text` as the value of a header; whatever is not plain ASCII is escaped as in a URL, so that nothing ends a line.
fn plain(text: &str) -> HeaderValue {
    let escaped = percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string();
    // Without control characters and in ASCII it is one.
    HeaderValue::try_from(escaped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter")
            .field("session", &self.session)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use uuid::Uuid;

    use super::*;

    fn letter(content: Content) -> Letter {
        Letter {
            session: SessionId::new(Uuid::nil()),
            original_url: "http://h/up/f.bin?ACCOUNT=873112".to_owned(),
            size: 7,
            content,
        }
    }

    fn place(name: &str) -> Place {
        Place {
            name: name.to_owned(),
            bucket: "s3://bucket".to_owned(),
            object: format!("p/{name}"),
        }
    }

    fn lines(letter: &Letter) -> Vec<String> {
        let url = Url::parse("http://app/in?x").unwrap();
        let headers = letter.headers(&url, None, None, Timestamp::from_millis(0));
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn by_value_names_no_place() {
        assert_eq!(
            lines(&letter(Content::Value(futures::stream::empty().boxed()))),
            [
                "bits-original-request-url: http://h/up/f.bin?ACCOUNT=873112",
                "bits-session-id: {00000000-0000-0000-0000-000000000000}",
                "idempotency-key: {00000000-0000-0000-0000-000000000000}",
                "x-bits-gateway-size: 7",
                "content-type: application/octet-stream",
                "content-length: 7",
            ]
        );
    }

    #[test]
    fn by_reference_names_two_places_and_has_no_body() {
        let reference = Content::Reference {
            request: place("entity"),
            response: place("reply"),
        };
        assert_eq!(
            lines(&letter(reference)),
            [
                "bits-original-request-url: http://h/up/f.bin?ACCOUNT=873112",
                "bits-request-datafile-name: entity",
                "bits-response-datafile-name: reply",
                "x-bits-gateway-bucket: s3://bucket",
                "x-bits-gateway-request-object: p/entity",
                "x-bits-gateway-response-object: p/reply",
                "bits-session-id: {00000000-0000-0000-0000-000000000000}",
                "idempotency-key: {00000000-0000-0000-0000-000000000000}",
                "x-bits-gateway-size: 7",
                "content-length: 0",
            ]
        );
    }

    #[test]
    fn every_word_of_a_reference_is_signed() {
        let url = Url::parse("http://app/in?x").unwrap();
        let key = Secret::inline("a key of 16 bytes or more");
        let signature = |change: fn(&mut Place, &mut Place)| {
            let (mut request, mut response) = (place("entity"), place("reply"));
            change(&mut request, &mut response);
            let letter = letter(Content::Reference { request, response });
            let headers = letter.headers(&url, None, Some(&key), Timestamp::from_millis(0));
            headers["x-bits-gateway-signature"].clone()
        };
        let ours = signature(|_, _| {});
        for change in [
            |request: &mut Place, _: &mut Place| request.name.push('x'),
            |_: &mut Place, response: &mut Place| response.name.push('x'),
            |request: &mut Place, _: &mut Place| request.bucket.push('x'),
            |request: &mut Place, _: &mut Place| request.object.push('x'),
            |_: &mut Place, response: &mut Place| response.object.push('x'),
        ] {
            assert_ne!(signature(change), ours);
        }
    }

    #[test]
    fn nothing_that_a_client_writes_ends_a_line() {
        let mut letter = letter(Content::Value(futures::stream::empty().boxed()));
        letter.original_url = "http://h/a\r\nX-Evil: 1\u{0}ü".to_owned();
        assert_eq!(
            lines(&letter)[0],
            "bits-original-request-url: http://h/a%0D%0AX-Evil: 1%00%C3%BC"
        );
    }
}
