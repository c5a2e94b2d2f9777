//! What must hold for any input, however hostile. The fuzz targets call these, and `tests/corpus` feeds them the corpus.

// Each target uses one of them.
#![allow(dead_code)]

use bits_gateway::bits::{
    Ack, BodyLength, ContentRange, ErrorContext, Malformed, PROTOCOL, Packet, PacketKind, SentSessionId, header,
    offers_protocol,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A check, under the name of its target and of its folder in the corpus.
pub type Check = (&'static str, fn(&[u8]));

/// All of them.
pub const CHECKS: &[Check] = &[
    ("content_range", content_range),
    ("packet_head", packet_head),
    ("protocol_list", protocol_list),
];

/// The value of a `Content-Range`.
pub fn content_range(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(range) = ContentRange::parse(text, None) else {
        return;
    };
    assert_eq!(
        ContentRange::new(range.first(), range.end(), range.total()),
        Some(range)
    );
    assert_eq!(range.first().checked_add(range.len()), Some(range.end()));
    assert_eq!(ContentRange::parse(&range.to_string(), Some(range.len())), Ok(range));
    assert_eq!(ContentRange::parse(text, Some(range.len())), Ok(range));
    let body = range.len() ^ 1;
    let refused = Malformed::RangeLength {
        range: range.len(),
        body,
    };
    assert_eq!(ContentRange::parse(text, Some(body)), Err(refused));
}

/// The header lines of a packet, one to a line.
pub fn packet_head(input: &[u8]) {
    let headers = read_headers(input);
    let sent = SentSessionId::find(&headers);
    let parsed = BodyLength::of(&headers).and_then(|body| Ok((Packet::parse(&headers, body)?, body)));
    match parsed {
        Ok((packet, body)) => {
            assert_eq!(packet.kind(), PacketKind::of(&headers));
            assert_ne!(packet.kind(), PacketKind::Other);
            assert_eq!(
                packet.sent_session(),
                sent.as_ref().filter(|_| packet.kind().has_session())
            );
            match (&packet, body) {
                (Packet::Fragment(fragment), BodyLength::Known(length)) => assert_eq!(fragment.range.len(), length),
                (Packet::Fragment(_), body) => assert_eq!(body, BodyLength::Chunked),
                (_, body) => assert!(matches!(body, BodyLength::Absent | BodyLength::Known(0))),
            }
            if let Some(session) = packet.sent_session() {
                assert_clean(&Ack::fragment(session, u64::MAX));
            }
        }
        Err(reason) => {
            let (status, code) = reason.status();
            assert!(matches!(status, 400 | 411 | 500), "{reason:?}");
            let ack = Ack::refused(status, code.map(|code| (code, ErrorContext::RemoteFile))).about(sent.as_ref());
            assert!(ack.error().is_some(), "{reason:?}");
            assert_clean(&ack);
        }
    }
}

/// The value of `BITS-Supported-Protocols`.
pub fn protocol_list(input: &[u8]) {
    let offered = offers_protocol(input);
    assert_eq!(offers_protocol(&[b", ,", input].concat()), offered);
    assert_eq!(offers_protocol(&[input, b",\t "].concat()), offered);
    assert!(offers_protocol(&[PROTOCOL.as_bytes(), b" ", input].concat()));
    if offered {
        assert!(offers_protocol(&[input, b" {later}"].concat()));
        let lower = input.to_ascii_lowercase();
        let guid = PROTOCOL.trim_matches(['{', '}']).as_bytes();
        assert!(lower.windows(guid.len()).any(|window| window == guid));
    }
}

/// No answer carries more than its own lines.
fn assert_clean(ack: &Ack) {
    let mut types = 0;
    for (name, value) in ack.headers() {
        assert!(
            value.as_bytes().iter().all(|byte| matches!(byte, 0x20..=0x7E)),
            "{name}: {value:?}"
        );
        types += usize::from(name == header::PACKET_TYPE);
    }
    assert_eq!(types, 1);
}

/// As a server reads them, but that it skips what is no header line.
fn read_headers(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // Full after some 24,000 lines: the rest is left out.
            let _ = headers.try_append(name, value);
        }
    }
    headers
}
