//! From the head of a request and what is known of a file to the answer (RFC 9110 9.3.1, 9.3.2, 15.3.7; MC-BUP 2.3, 3.5). Pure.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, RANGE};
use uuid::Uuid;

use super::conditional::{self, EntityTag, LastModified, Validators, Verdict};
use super::multipart::{Multipart, content_range};
use super::range::{Ranges, Selection};
use crate::clock::Timestamp;

/// Every file is sent as this, whatever it is: what somebody uploaded must never run in somebody else's browser.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";

/// The two methods that read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// GET.
    Get,
    /// HEAD: the head that GET would get, without the body (RFC 9110 9.3.2).
    Head,
}

impl Verb {
    /// The verb that `method` is; `None` when it does not read.
    pub fn of(method: &http::Method) -> Option<Self> {
        match *method {
            http::Method::GET => Some(Self::Get),
            http::Method::HEAD => Some(Self::Head),
            _ => None,
        }
    }
}

/// A file as the store shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileSeen {
    /// Bytes.
    pub size: u64,
    /// The ETag as the store spells it, with or without quotes.
    pub etag: Option<String>,
    /// When it was published, by the clock of the store.
    pub modified: Timestamp,
}

/// An answer that still has to be filled with the bytes of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// 200, 206, 304, 412 or 416.
    pub status: u16,
    /// Names in the spelling of the wire. Content-Length is among them on all but 304.
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// The body, in order; empty for HEAD.
    pub pieces: Vec<Piece>,
}

/// A piece of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// These bytes.
    Text(Bytes),
    /// These bytes of the file; never an empty range.
    File(Range<u64>),
}

impl Piece {
    /// Bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end.saturating_sub(range.start),
        }
    }
}

impl Plan {
    /// Bytes of the body.
    pub fn length(&self) -> u64 {
        // At most twice the file and a hundred short texts: only a file near 2^63 could get here, and none is.
        self.pieces.iter().map(Piece::length).fold(0, u64::saturating_add)
    }
}

/// Plans the answer to a request with these `headers` for a file that is there. `boundary` is asked for a random id when several
/// ranges are sent.
pub fn plan(verb: Verb, headers: &HeaderMap, file: &FileSeen, boundary: impl FnOnce() -> Uuid) -> Plan {
    let validators = Validators {
        etag: file.etag.as_deref().and_then(EntityTag::from_store),
        modified: LastModified::new(file.modified),
    };
    match conditional::judge(headers, &validators) {
        Verdict::Holds => {}
        Verdict::NotModified => return not_modified(&validators),
        Verdict::Failed => return refusal(412, None),
    }
    let mut plan = match selection(verb, headers, &validators, file.size) {
        Selection::Whole => whole(file.size),
        Selection::One(range) => one(range, file.size),
        Selection::Several(ranges) => several(Multipart {
            ranges,
            size: file.size,
            boundary: boundary(),
        }),
        Selection::Unsatisfiable => return refusal(416, Some(file.size)),
    };
    let length = HeaderValue::from(plan.length());
    plan.headers.push(("Content-Length", length));
    plan.headers.push(("Accept-Ranges", HeaderValue::from_static("bytes")));
    plan.headers.extend(validator_headers(&validators));
    plan.headers
        .push(("Content-Disposition", HeaderValue::from_static("attachment")));
    plan.headers
        .push(("X-Content-Type-Options", HeaderValue::from_static("nosniff")));
    if verb == Verb::Head {
        plan.pieces.clear();
    }
    plan
}

/// What the Range header of the request selects, if it counts.
fn selection(verb: Verb, headers: &HeaderMap, validators: &Validators, size: u64) -> Selection {
    // RFC 9110 14.2: only GET has ranges.
    if verb != Verb::Get || !conditional::range_counts(headers, validators) {
        return Selection::Whole;
    }
    let mut lines = headers.get_all(RANGE).iter();
    // Two lines would join to something that is no range-set: ignored like all that is malformed.
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Selection::Whole;
    };
    let ranges = line.to_str().ok().and_then(Ranges::parse);
    ranges.map_or(Selection::Whole, |ranges| ranges.select(size))
}

fn whole(size: u64) -> Plan {
    Plan {
        status: 200,
        headers: vec![("Content-Type", HeaderValue::from_static(CONTENT_TYPE))],
        pieces: if size == 0 {
            Vec::new()
        } else {
            vec![Piece::File(0..size)]
        },
    }
}

fn one(range: Range<u64>, size: u64) -> Plan {
    Plan {
        status: 206,
        headers: vec![
            ("Content-Type", HeaderValue::from_static(CONTENT_TYPE)),
            ("Content-Range", text(content_range(&range, size))),
        ],
        pieces: vec![Piece::File(range)],
    }
}

fn several(parts: Multipart) -> Plan {
    Plan {
        status: 206,
        // No Content-Range: each part has its own (RFC 9110 15.3.7.2).
        headers: vec![("Content-Type", text(parts.content_type()))],
        pieces: parts.pieces(),
    }
}

/// RFC 9110 15.4.5: what the client's copy is known by, and nothing of what it has already, its length neither.
fn not_modified(validators: &Validators) -> Plan {
    Plan {
        status: 304,
        headers: validator_headers(validators).collect(),
        pieces: Vec::new(),
    }
}

/// An answer without a body. `unsatisfied` is the size of the file that a range was not in (RFC 9110 15.5.17).
fn refusal(status: u16, unsatisfied: Option<u64>) -> Plan {
    let mut headers = vec![
        ("Content-Length", HeaderValue::from_static("0")),
        ("Accept-Ranges", HeaderValue::from_static("bytes")),
    ];
    headers.extend(unsatisfied.map(|size| ("Content-Range", text(format!("bytes */{size}")))));
    Plan {
        status,
        headers,
        pieces: Vec::new(),
    }
}

fn validator_headers(validators: &Validators) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let etag = validators.etag.as_ref().map(|etag| ("ETag", text(etag.to_wire())));
    // The store's time of publication (MC-BUP 3.5.4.1): it stays as long as the content does.
    let modified = validators
        .modified
        .map(|modified| ("Last-Modified", text(modified.to_wire())));
    etag.into_iter().chain(modified)
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value)
        .expect("built of numbers, dates, hexadecimal ids and tags that were checked: visible ASCII")
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Tue, 03 Mar 2026 10:20:00 GMT";
    const LATER: &str = "Tue, 03 Mar 2026 10:20:01 GMT";

    fn file(size: u64) -> FileSeen {
        FileSeen {
            size,
            etag: Some("\"tag\"".to_owned()),
            modified: httpdate::parse_http_date(MODIFIED).unwrap().into(),
        }
    }

    fn planned(verb: Verb, size: u64, lines: &[(&'static str, &str)]) -> Plan {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        plan(verb, &headers, &file(size), || Uuid::from_u128(0xB0))
    }

    fn header<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
        let mut found = plan
            .headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.to_str().unwrap());
        assert!(found.next().is_none(), "{name} is sent once");
        value
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    /// Covers: BUP-157
    #[test]
    fn get_without_a_range_is_answered_with_the_whole_file() {
        let plan = planned(Verb::Get, 10_240, &[("accept-encoding", "gzip, br")]);
        assert_eq!(plan.status, 200);
        assert_eq!(plan.pieces, [Piece::File(0..10_240)]);
        assert_eq!(
            lines(&plan),
            [
                "Content-Type: application/octet-stream",
                "Content-Length: 10240",
                "Accept-Ranges: bytes",
                "ETag: \"tag\"",
                "Last-Modified: Tue, 03 Mar 2026 10:20:00 GMT",
                "Content-Disposition: attachment",
                "X-Content-Type-Options: nosniff",
            ]
        );
    }

    /// Covers: BUP-150
    #[test]
    fn head_is_get_without_its_body() {
        for lines in [
            vec![],
            vec![("if-none-match", "\"tag\"")],
            vec![("if-match", "\"other\"")],
            vec![("if-modified-since", MODIFIED)],
        ] {
            let (get, head) = (planned(Verb::Get, 10_240, &lines), planned(Verb::Head, 10_240, &lines));
            assert_eq!((head.status, &head.headers), (get.status, &get.headers));
            assert_eq!(head.pieces, []);
        }
    }

    #[test]
    fn head_has_no_ranges() {
        for value in ["bytes=0-9", "bytes=0-9,20-29", "bytes=99999-"] {
            let plan = planned(Verb::Head, 10_240, &[("range", value), ("if-range", "\"other\"")]);
            assert_eq!(
                (plan.status, header(&plan, "Content-Length")),
                (200, Some("10240")),
                "{value}"
            );
        }
    }

    /// Covers: BUP-151
    #[test]
    fn a_range_is_answered_with_its_bytes_and_the_total() {
        let plan = planned(Verb::Get, 10_240, &[("range", "bytes=0-9976")]);
        assert_eq!(plan.status, 206);
        assert_eq!(plan.pieces, [Piece::File(0..9977)]);
        assert_eq!(header(&plan, "Content-Range"), Some("bytes 0-9976/10240"));
        assert_eq!(header(&plan, "Content-Length"), Some("9977"));
        assert_eq!(header(&plan, "Content-Type"), Some("application/octet-stream"));
        assert_eq!(header(&plan, "Last-Modified"), Some(MODIFIED));
        assert_eq!(header(&plan, "ETag"), Some("\"tag\""));
    }

    /// Covers: BUP-152
    #[test]
    fn a_range_beyond_the_end_is_answered_416_with_the_size() {
        for (value, size, total) in [("bytes=10240-", 10_240, "bytes */10240"), ("bytes=0-0", 0, "bytes */0")] {
            let plan = planned(Verb::Get, size, &[("range", value)]);
            assert_eq!(plan.status, 416);
            assert_eq!(plan.pieces, []);
            assert_eq!(header(&plan, "Content-Range"), Some(total));
            assert_eq!(header(&plan, "Content-Length"), Some("0"));
        }
    }

    /// Covers: BUP-153
    #[test]
    fn several_ranges_are_answered_in_the_order_of_the_request() {
        let plan = planned(Verb::Get, 10_240, &[("range", "bytes=500-999,0-9,10-19")]);
        assert_eq!(plan.status, 206);
        let of_file: Vec<_> = plan
            .pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::File(_)))
            .cloned()
            .collect();
        assert_eq!(
            of_file,
            [Piece::File(500..1000), Piece::File(0..10), Piece::File(10..20)]
        );
        assert_eq!(
            header(&plan, "Content-Type"),
            Some("multipart/byteranges; boundary=000000000000000000000000000000b0")
        );
        assert_eq!(header(&plan, "Content-Range"), None);
        assert_eq!(
            header(&plan, "Content-Length"),
            Some(plan.length().to_string().as_str())
        );
        assert_eq!(header(&plan, "Last-Modified"), Some(MODIFIED));
    }

    /// Covers: BUP-154
    #[test]
    fn parts_have_no_further_headers_and_nothing_precedes_the_first_boundary() {
        let plan = planned(Verb::Get, u64::MAX / 2, &[("range", "bytes=0-0,1-1,-1")]);
        let mut texts = Vec::new();
        for piece in &plan.pieces {
            match piece {
                Piece::Text(text) => texts.push(String::from_utf8(text.to_vec()).unwrap()),
                Piece::File(_) => {}
            }
        }
        let boundary = "--000000000000000000000000000000b0";
        assert!(
            texts[0].starts_with(boundary),
            "the blank line after the headers is all that precedes it"
        );
        let (last, heads) = texts.split_last().unwrap();
        for head in heads {
            let names: Vec<_> = head
                .trim_start()
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .collect();
            let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, ["Content-Type", "Content-Range"]);
        }
        assert_eq!(last, &format!("\r\n{boundary}--\r\n"));
    }

    /// Covers: BUP-155
    #[test]
    fn nothing_is_compressed_or_chunked_whatever_the_client_accepts() {
        for accepted in ["identity", "gzip, deflate, br, zstd", "*", "identity;q=0"] {
            for range in [None, Some(("range", "bytes=1-2")), Some(("range", "bytes=1-2,4-5"))] {
                let mut lines = vec![("accept-encoding", accepted), ("te", "trailers, chunked")];
                lines.extend(range);
                let plan = planned(Verb::Get, 100, &lines);
                assert_eq!(
                    header(&plan, "Content-Length"),
                    Some(plan.length().to_string().as_str())
                );
                assert_eq!(header(&plan, "Content-Encoding"), None);
                assert_eq!(header(&plan, "Transfer-Encoding"), None);
            }
        }
    }

    /// Covers: BUP-156
    #[test]
    fn last_modified_changes_with_the_file_and_only_with_it() {
        let of = |file: &FileSeen| {
            let plan = plan(Verb::Get, &HeaderMap::new(), file, Uuid::nil);
            header(&plan, "Last-Modified").unwrap().to_owned()
        };
        assert_eq!(of(&file(1)), MODIFIED);
        assert_eq!(of(&file(1)), MODIFIED);
        let replaced = FileSeen {
            modified: file(1).modified.plus(std::time::Duration::from_secs(1)),
            ..file(1)
        };
        assert_eq!(of(&replaced), LATER);
    }

    #[test]
    fn an_empty_file_has_an_empty_body() {
        for lines in [vec![], vec![("range", "bytes=-5")]] {
            let plan = planned(Verb::Get, 0, &lines);
            assert_eq!((plan.status, header(&plan, "Content-Length")), (200, Some("0")));
            assert_eq!(plan.pieces, []);
        }
    }

    #[test]
    fn conditions_come_before_ranges() {
        for (condition, status) in [
            (("if-none-match", "\"tag\""), 304),
            (("if-modified-since", MODIFIED), 304),
            (("if-match", "\"other\""), 412),
            (("if-unmodified-since", "Tue, 03 Mar 2026 10:19:59 GMT"), 412),
            (("if-match", "\"tag\""), 206),
            (("if-none-match", "\"other\""), 206),
        ] {
            assert_eq!(
                planned(Verb::Get, 100, &[condition, ("range", "bytes=0-9")]).status,
                status,
                "{condition:?}"
            );
        }
        let unsatisfiable = ("range", "bytes=100-");
        assert_eq!(
            planned(Verb::Get, 100, &[("if-none-match", "\"tag\""), unsatisfiable]).status,
            304
        );
        assert_eq!(
            planned(Verb::Get, 100, &[("if-match", "\"other\""), unsatisfiable]).status,
            412
        );
    }

    #[test]
    fn an_if_range_of_another_file_is_answered_with_the_whole_file() {
        for (if_range, range, status) in [
            ("\"tag\"", "bytes=0-9", 206),
            (MODIFIED, "bytes=0-9", 206),
            ("\"tag\"", "bytes=100-", 416),
            ("\"other\"", "bytes=0-9", 200),
            (LATER, "bytes=0-9", 200),
            ("\"other\"", "bytes=100-", 200),
            ("W/\"tag\"", "bytes=0-9", 200),
        ] {
            let plan = planned(Verb::Get, 100, &[("if-range", if_range), ("range", range)]);
            assert_eq!(plan.status, status, "{if_range} {range}");
        }
        assert_eq!(planned(Verb::Get, 100, &[("if-range", "\"other\"")]).status, 200);
    }

    #[test]
    fn not_modified_tells_what_the_copy_is_known_by_and_nothing_else() {
        let plan = planned(Verb::Get, 100, &[("if-none-match", "*")]);
        assert_eq!(plan.status, 304);
        assert_eq!(
            lines(&plan),
            ["ETag: \"tag\"".to_owned(), format!("Last-Modified: {MODIFIED}")]
        );
        assert_eq!(plan.pieces, []);
    }

    #[test]
    fn a_failed_condition_has_no_body() {
        let plan = planned(Verb::Get, 100, &[("if-match", "\"other\"")]);
        assert_eq!((plan.status, header(&plan, "Content-Length")), (412, Some("0")));
        assert_eq!(plan.pieces, []);
    }

    #[test]
    fn ranges_that_cannot_be_followed_are_answered_with_the_whole_file() {
        for value in ["bytes=9-1", "bytes=x", "items=0-1", "bytes=0-,0-,0-", ""] {
            assert_eq!(planned(Verb::Get, 100, &[("range", value)]).status, 200, "{value}");
        }
        assert_eq!(
            planned(Verb::Get, 100, &[("range", "bytes=0-1"), ("range", "bytes=2-3")]).status,
            200
        );
    }

    #[test]
    fn a_store_without_usable_tags_is_served_without_them() {
        for etag in [None, Some("spaces are illegal".to_owned())] {
            let seen = FileSeen { etag, ..file(100) };
            let plan = plan(Verb::Get, &HeaderMap::new(), &seen, Uuid::nil);
            assert_eq!((plan.status, header(&plan, "ETag")), (200, None));
            assert_eq!(header(&plan, "Last-Modified"), Some(MODIFIED));
        }
    }

    #[test]
    fn only_get_and_head_read() {
        assert_eq!(Verb::of(&Method::GET), Some(Verb::Get));
        assert_eq!(Verb::of(&Method::HEAD), Some(Verb::Head));
        for method in [
            Method::POST,
            Method::from_bytes(b"BITS_POST").unwrap(),
            Method::from_bytes(b"get").unwrap(),
        ] {
            assert_eq!(Verb::of(&method), None);
        }
    }

    proptest! {
        #[test]
        fn the_pieces_add_up_to_the_content_length(
            size in prop_oneof![0..200_u64, 0..u64::MAX / 4],
            range in "bytes=([0-9]{0,3}-[0-9]{0,3},){0,5}[0-9]{0,3}-[0-9]{0,3}",
        ) {
            let plan = planned(Verb::Get, size, &[("range", &range)]);
            prop_assert!([200, 206, 416].contains(&plan.status));
            let sum: u128 = plan.pieces.iter().map(|piece| u128::from(piece.length())).sum();
            prop_assert_eq!(header(&plan, "Content-Length").unwrap(), sum.to_string());
            for piece in &plan.pieces {
                if let Piece::File(range) = piece {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
