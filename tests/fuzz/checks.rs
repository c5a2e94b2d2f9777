//! What must hold for any input at all: called by the fuzz targets with what they make up, and by `tests/corpus` with the
//! committed corpus. Each check answers whether the input was accepted.

use bits_gateway::bits::{BodyLength, ContentRange, Malformed, Packet, PacketKind, SentSessionId, offers_protocol};
use bits_gateway::download::{MAX_RANGES, Ranges, Selection};
use bits_gateway::session::{Gone, Input, Limits, ObjectTag, Record, Session, Staged, Tails, step};
use bits_gateway::store::Key;

/// Answers whether the input was accepted; panics when something does not hold.
pub type Check = fn(&[u8]) -> bool;

/// Every check by its name, which is also the name of its fuzz target and of its folder of the corpus.
pub const CHECKS: &[(&str, Check)] = &[
    ("content_range", content_range),
    ("packet_head", packet_head),
    ("path_to_key", path_to_key),
    ("protocol_list", protocol_list),
    ("range", range),
    ("stored_record", stored_record),
];

/// The head of a request: header lines, `Name: value`, one a line.
pub fn packet_head(data: &[u8]) -> bool {
    let Some(headers) = headers(data) else { return false };
    let kind = PacketKind::of(&headers);
    let parsed = BodyLength::of(&headers).and_then(|length| Packet::parse(&headers, length));
    match &parsed {
        Ok(packet) => {
            assert_eq!(packet.kind(), kind);
            assert_eq!(packet.sent_session().is_some(), kind.has_session());
            if let Some(session) = packet.sent_session() {
                assert_eq!(SentSessionId::find(&headers).as_ref(), Some(session));
                assert_eq!(session.id.to_string().parse(), Ok(session.id));
            }
            if let Packet::Fragment(fragment) = packet {
                assert_sound(fragment.range);
            }
        }
        Err(malformed) => assert_is_an_answer(malformed),
    }
    parsed.is_ok()
}

/// The value of `Content-Range`.
pub fn content_range(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    match ContentRange::parse(text, None) {
        Ok(range) => {
            assert_sound(range);
            assert_eq!(ContentRange::parse(text, Some(range.len())), Ok(range));
            assert!(ContentRange::parse(text, Some(range.len() ^ 1)).is_err());
            if !range.is_empty() {
                let written = format!("bytes {}-{}/{}", range.first(), range.end() - 1, range.total());
                assert_eq!(ContentRange::parse(&written, None), Ok(range));
            }
            true
        }
        Err(malformed) => {
            assert_is_an_answer(&malformed);
            false
        }
    }
}

/// The value of `BITS-Supported-Protocols`.
pub fn protocol_list(data: &[u8]) -> bool {
    let offered = offers_protocol(data);
    // The rule once more, in other words.
    let text = String::from_utf8_lossy(data).to_ascii_lowercase();
    let entries = text.split([' ', '\t', ',']).filter(|entry| !entry.is_empty());
    let guid = "7df0354d-249b-430f-820d-3d2a9bef4931";
    let expected = entries
        .take(100)
        .any(|entry| entry == guid || entry == format!("{{{guid}}}"));
    assert_eq!(offered, expected);
    offered
}

/// The path of a request below the prefix of its route.
pub fn path_to_key(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Ok(key) = Key::from_request(text) else { return false };
    let name = key.as_str();
    assert!(!name.is_empty() && name.len() <= 1024);
    assert!(!name.starts_with(".bits-gateway/") && !name.contains(['\\', '\0', ':']) && !name.contains("%2e"));
    assert!(name.chars().all(|c| !c.is_control()));
    for segment in name.split('/') {
        assert!(!segment.is_empty() && segment != "." && segment != ".." && segment.len() <= 255);
        assert!(!segment.ends_with(['.', ' ']));
    }
    // What a record holds, and what a client could send for it, is the same key.
    assert_eq!(Key::parse(name).as_ref(), Ok(&key));
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b'/' => "/".to_owned(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    assert_eq!(Key::from_request(&escaped).as_ref(), Ok(&key));
    true
}

/// The value of `Range`, against files of several sizes.
pub fn range(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Some(ranges) = Ranges::parse(text) else {
        return false;
    };
    for size in [0, 1, 2, 1_000, u64::from(u32::MAX) + 1, u64::MAX] {
        let found = match ranges.select(size) {
            Selection::Whole | Selection::Unsatisfiable => continue,
            Selection::One(one) => vec![one],
            Selection::Several(several) => {
                assert!(several.len() >= 2);
                several
            }
        };
        assert!(found.len() <= MAX_RANGES);
        assert!(found.iter().all(|range| range.start < range.end && range.end <= size));
    }
    true
}

/// A stored record, as anybody who may write the bucket could have left it.
pub fn stored_record(data: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<Record>(data) else {
        return false;
    };
    assert_reads_back(&record);
    let total = record.total.unwrap_or(100);
    let session = Session {
        record,
        tails: Tails::none(),
    };
    let end = session.end();
    let limits = Limits {
        max_fragment_size: 64 << 20,
        max_part_size: 128 << 20,
        alike: false,
    };
    let fragments = [
        (0, 1, 1),
        (0, 1, total),
        (end, end.saturating_add(1), total),
        (0, total, total),
        (0, 0, 0),
    ];
    let inputs = fragments
        .into_iter()
        .filter_map(|(first, end, total)| ContentRange::new(first, end, total))
        .map(Input::Fragment)
        .chain([
            Input::Received {
                upto: end.saturating_add(1).min(total),
                total,
                staged: Staged::default(),
                hashed: session.record.hashed.clone(),
            },
            Input::Received {
                upto: total,
                total,
                staged: Staged::default(),
                hashed: session.record.hashed.clone(),
            },
            Input::Published {
                tag: ObjectTag {
                    size: total,
                    ..ObjectTag::default()
                },
                sha256: None,
            },
            Input::Displaced,
            Input::UploadGone(Gone::Lately),
            Input::UploadGone(Gone::LongAgo),
            Input::UploadGone(Gone::Outlived),
            Input::PartsRefused,
            Input::Close,
            Input::Cancel { settled: false },
            Input::Cancel { settled: true },
            Input::Silent,
            Input::StillSilent,
        ]);
    for input in inputs {
        if let Some(saved) = step(&session, input, &limits).save {
            assert_eq!(saved.id, session.record.id);
            assert_eq!(saved.unknown, session.record.unknown);
            assert_reads_back(&saved);
        }
    }
    true
}

fn headers(data: &[u8]) -> Option<http::HeaderMap> {
    let mut headers = http::HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = http::HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

fn assert_sound(range: ContentRange) {
    assert_eq!(
        ContentRange::new(range.first(), range.end(), range.total()),
        Some(range)
    );
    assert_eq!(range.len(), range.end() - range.first());
}

fn assert_is_an_answer(malformed: &Malformed) {
    let (status, code) = malformed.status();
    assert!([400, 411, 500].contains(&status) && code.is_some());
}

fn assert_reads_back(record: &Record) {
    let written = serde_json::to_vec(record).expect("every record can be written");
    let read: Record = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(read, *record);
}
