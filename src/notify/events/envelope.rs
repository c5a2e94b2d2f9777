//! An event as CloudEvents 1.0 writes it: in JSON, and in both forms of its HTTP binding. Pure.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use super::Mode;
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{EventKind, Record};

/// Before the name of an event in the attribute `type`.
const TYPES: &str = "bits-gateway.session.";

/// What the HTTP binding escapes in headers (3.1.3.2): all but what prints in ASCII, and of that three.
const IN_HEADERS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What no URI holds as it is (RFC 3986 2).
const IN_URIS: &AsciiSet = &IN_HEADERS
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Something that became of a session. Written down twice it is the same to the byte, whoever writes it.
#[derive(Clone, Debug)]
pub struct Event {
    id: String,
    kind: EventKind,
    source: String,
    time: Timestamp,
    data: Data,
}

/// What receivers work with. Everything that the attributes say is in it too, so that the signature of a body vouches for it.
#[derive(Clone, Debug, Serialize)]
struct Data {
    event: EventKind,
    session: SessionId,
    route: String,
    key: String,
    store: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// The JSON event format (CloudEvents JSON format 1.0, 3.2).
#[derive(Serialize)]
struct Document<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'a str,
    data: &'a Data,
}

impl Event {
    /// The event `kind` of a session, whose file lies in `store`; `None` when its record tells of no such event.
    pub fn of(record: &Record, kind: EventKind, store: &str, source: Option<&str>) -> Option<Self> {
        let events = record.events.as_ref()?;
        let end = match kind {
            EventKind::Created => None,
            _ => Some(record.end().filter(|end| end.kind == kind)?),
        };
        let time = end.as_ref().map_or(record.created, |end| end.at);
        let ended = end.as_ref().map(|end| end.at.to_string());
        let (size, etag, sha256) = end.map_or((None, None, None), |end| (end.size, end.etag, end.sha256));
        let source = source.map_or_else(|| source_of(&record.target.route), str::to_owned);
        Some(Self {
            id: format!("{}-{}", record.id.as_key(), kind.as_str()),
            kind,
            source: utf8_percent_encode_once(&source),
            time,
            data: Data {
                event: kind,
                session: record.id,
                route: record.target.route.clone(),
                key: record.target.key.clone(),
                store: store.to_owned(),
                size,
                etag,
                sha256,
                principal: record.principal.as_str().to_owned(),
                client: events.client.clone(),
                created: record.created.to_string(),
                ended,
            },
        })
    }

    /// What tells it from all others, and is the same each time that it is sent.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The head and the body of a request that carries it.
    pub(super) fn request(&self, mode: Mode) -> (HeaderMap, Vec<u8>) {
        let kind = format!("{TYPES}{}", self.kind.as_str());
        let time = self.time.to_string();
        let document = Document {
            specversion: "1.0",
            id: &self.id,
            source: &self.source,
            r#type: &kind,
            subject: &self.data.key,
            time: &time,
            datacontenttype: "application/json",
            data: &self.data,
        };
        let mut headers = HeaderMap::new();
        let body = match mode {
            Mode::Structured | Mode::Off => {
                let structured = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
                headers.insert(CONTENT_TYPE, structured);
                serde_json::to_vec(&document)
            }
            Mode::Binary => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                for (name, value) in [
                    ("ce-specversion", document.specversion),
                    ("ce-id", document.id),
                    ("ce-source", document.source),
                    ("ce-type", document.r#type),
                    ("ce-subject", document.subject),
                    ("ce-time", document.time),
                ] {
                    headers.insert(HeaderName::from_static(name), escaped(value));
                }
                serde_json::to_vec(&self.data)
            }
        };
        // Texts and numbers always are JSON.
        (headers, body.unwrap_or_default())
    }
}

/// The relative reference (RFC 3986 4.2) that the name of a route is: of one that is bound to a host, the host comes first.
fn source_of(route: &str) -> String {
    if route.starts_with('/') {
        route.to_owned()
    } else {
        format!("//{route}")
    }
}

/// `text` as a URI, where it is not one yet: its escapes are left alone.
fn utf8_percent_encode_once(text: &str) -> String {
    let pieces = text
        .split('%')
        .map(|piece| utf8_percent_encode(piece, IN_URIS).to_string());
    pieces.collect::<Vec<_>>().join("%")
}

fn escaped(text: &str) -> HeaderValue {
    let escaped = utf8_percent_encode(text, IN_HEADERS).to_string();
    // Of what prints in ASCII one can always be made.
    HeaderValue::try_from(escaped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::session::{Announced, Before, ObjectTag, Phase, Principal, Target};

    fn record(key: &str) -> Record {
        let target = Target {
            route: "/my files/".to_owned(),
            key: key.to_owned(),
            query: Some("token=secret".to_owned()),
        };
        let id = SessionId::new(Uuid::from_u128(0x1111_2222));
        let created = Timestamp::from_millis(1_764_000_000_000);
        let url = format!("http://h/my%20files/{key}?token=secret");
        let nobody = Principal::anonymous();
        let mut record =
            Record::begin(id, nobody, target, url, 1, 1, false, Before::Absent, created).announced(Announced {
                kinds: EventKind::ALL.to_vec(),
                max_age: 60,
                client: Some("192.0.2.7".to_owned()),
                end: None,
            });
        record.phase = Phase::Published {
            tag: ObjectTag {
                etag: Some("\"e\"".to_owned()),
                version: None,
                size: 300_000,
            },
        };
        record.stamped(Uuid::nil(), Timestamp::from_millis(1_764_000_060_999))
    }

    fn event(kind: EventKind) -> Event {
        Event::of(&record("a/Größe \"5\"%.bin"), kind, "s3://bucket/p", None).unwrap()
    }

    const DATA: &str = r#"{"event":"completed","session":"{00000000-0000-0000-0000-000011112222}","route":"/my files/","key":"a/Größe \"5\"%.bin","store":"s3://bucket/p","size":300000,"etag":"\"e\"","principal":"anonymous","client":"192.0.2.7","created":"2025-11-24T16:00:00Z","ended":"2025-11-24T16:01:00Z"}"#;

    #[test]
    fn a_structured_event_is_one_document() {
        let (headers, body) = event(EventKind::Completed).request(Mode::Structured);
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(lines, [("content-type", "application/cloudevents+json; charset=utf-8")]);
        let expected = format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-0000-0000-000011112222-completed","source":"/my%20files/","type":"bits-gateway.session.completed","subject":"a/Größe \"5\"%.bin","time":"2025-11-24T16:01:00Z","datacontenttype":"application/json","data":{DATA}}}"#
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    /// CloudEvents HTTP binding 1.0, 3.1.
    #[test]
    fn a_binary_event_has_its_attributes_in_the_head() {
        let (headers, body) = event(EventKind::Completed).request(Mode::Binary);
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            lines,
            [
                ("content-type", "application/json"),
                ("ce-specversion", "1.0"),
                ("ce-id", "00000000-0000-0000-0000-000011112222-completed"),
                ("ce-source", "/my%2520files/"),
                ("ce-type", "bits-gateway.session.completed"),
                ("ce-subject", "a/Gr%C3%B6%C3%9Fe%20%225%22%25.bin"),
                ("ce-time", "2025-11-24T16:01:00Z"),
            ]
        );
        assert_eq!(String::from_utf8(body).unwrap(), DATA);
    }

    #[test]
    fn the_beginning_of_a_session_tells_nothing_of_its_end() {
        let created = event(EventKind::Created);
        assert_eq!(created.id(), "00000000-0000-0000-0000-000011112222-created");
        let (_, body) = created.request(Mode::Binary);
        let data: serde_json::Value = serde_json::from_slice(&body).unwrap();
        for missing in ["size", "etag", "sha256", "ended"] {
            assert_eq!(data.get(missing), None, "{missing}");
        }
        assert_eq!(data["created"], "2025-11-24T16:00:00Z");
    }

    #[test]
    fn there_is_no_event_that_the_record_does_not_tell_of() {
        let record = record("f");
        for kind in EventKind::ALL {
            let is_there = matches!(kind, EventKind::Created | EventKind::Completed);
            assert_eq!(Event::of(&record, *kind, "s", None).is_some(), is_there, "{kind:?}");
        }
        let silent = Record { events: None, ..record };
        assert!(Event::of(&silent, EventKind::Created, "s", None).is_none());
    }

    #[test]
    fn a_digest_is_told_where_the_record_has_one() {
        let mut record = record("f");
        if let Some(end) = record.events.as_mut().and_then(|events| events.end.as_mut()) {
            end.sha256 = Some("ab".repeat(32));
        }
        let (_, body) = Event::of(&record, EventKind::Completed, "s", None)
            .unwrap()
            .request(Mode::Binary);
        let data: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(data["sha256"], "ab".repeat(32));
    }

    #[test]
    fn what_a_client_asked_for_beyond_the_name_is_nobody_elses_business() {
        for kind in [EventKind::Created, EventKind::Completed] {
            for mode in [Mode::Structured, Mode::Binary] {
                let (headers, body) = event(kind).request(mode);
                assert!(!format!("{headers:?}").contains("secret"));
                assert!(!String::from_utf8(body).unwrap().contains("secret"));
            }
        }
    }

    #[test]
    fn a_source_that_is_configured_is_told_as_it_was_written() {
        let event = Event::of(&record("f"), EventKind::Created, "s", Some("https://h/a%20b?c#d")).unwrap();
        assert_eq!(event.source, "https://h/a%20b?c#d");
    }
}
