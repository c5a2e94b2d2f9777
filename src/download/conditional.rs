//! Conditional requests (RFC 9110 section 13): which conditions count, in which order, and what they say. Pure.

use std::time::{Duration, SystemTime};

use http::header::{
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

use crate::clock::Timestamp;

/// The first second that an HTTP-date cannot name: 10000-01-01.
const END_OF_DATES: u64 = 253_402_300_800;

/// What a file is known by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Validators {
    /// The tag, unless the store has none that may be sent.
    pub etag: Option<EntityTag>,
    /// The time of its last modification, unless no HTTP-date can name it.
    pub modified: Option<LastModified>,
}

/// An entity tag of ours (RFC 9110 8.8.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EntityTag {
    weak: bool,
    opaque: String,
}

/// A time of last modification: whole seconds, as HTTP-dates have them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct LastModified(SystemTime);

/// What the conditions of a request say (RFC 9110 13.2.2, steps 1 to 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// All of them hold, or there are none.
    Holds,
    /// The client has the file already: 304.
    NotModified,
    /// The file is not what the client takes it for: 412.
    Failed,
}

impl EntityTag {
    /// The tag that a store gave an object, with or without quotes. `None` when it cannot be sent as an entity tag.
    pub(super) fn from_store(text: &str) -> Option<Self> {
        let (weak, quoted) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let opaque = match quoted.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => quoted,
        };
        // The etagc of RFC 9110 8.8.3, without the bytes above ASCII.
        let sendable = !opaque.is_empty() && opaque.bytes().all(|byte| byte == 0x21 || (0x23..0x7F).contains(&byte));
        sendable.then(|| Self {
            weak,
            opaque: opaque.to_owned(),
        })
    }

    /// The form in which it is sent.
    pub(super) fn to_wire(&self) -> String {
        format!("{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque)
    }

    /// RFC 9110 8.8.3.2: equal, and neither is weak.
    fn matches_strongly(&self, other: Sent<'_>) -> bool {
        !self.weak && !other.weak && self.opaque.as_bytes() == other.opaque
    }

    /// RFC 9110 8.8.3.2: equal.
    fn matches_weakly(&self, other: Sent<'_>) -> bool {
        self.opaque.as_bytes() == other.opaque
    }
}

impl LastModified {
    /// The second in which `time` lies; `None` after the year 9999.
    pub(super) fn new(time: Timestamp) -> Option<Self> {
        let seconds = time.as_millis() / 1000;
        (seconds < END_OF_DATES).then(|| Self(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    /// The form in which it is sent: IMF-fixdate (RFC 9110 5.6.7).
    pub(super) fn to_wire(self) -> String {
        // `new` has seen to it that the year has four digits: the formatter panics on others.
        httpdate::fmt_http_date(self.0)
    }
}

/// What the conditions in `headers` say of a file that exists, for GET and HEAD alike (RFC 9110 13.2.2, steps 1 to 4).
pub(super) fn judge(headers: &HeaderMap, file: &Validators) -> Verdict {
    let holds = if headers.contains_key(IF_MATCH) {
        any_matches(headers, &IF_MATCH, file, EntityTag::matches_strongly)
    } else {
        match (file.modified, date(headers, &IF_UNMODIFIED_SINCE)) {
            (Some(modified), Some(since)) => modified <= since,
            _ => true,
        }
    };
    if !holds {
        return Verdict::Failed;
    }
    let changed = if headers.contains_key(IF_NONE_MATCH) {
        !any_matches(headers, &IF_NONE_MATCH, file, EntityTag::matches_weakly)
    } else {
        match (file.modified, date(headers, &IF_MODIFIED_SINCE)) {
            (Some(modified), Some(since)) => modified > since,
            _ => true,
        }
    };
    if changed { Verdict::Holds } else { Verdict::NotModified }
}

/// Whether the Range header of the same request counts (RFC 9110 13.1.5, and 13.2.2 step 5): there is no If-Range, or it names the
/// file as it is. One that cannot be read names nothing.
///
/// A date must be the very Last-Modified. Whether it is a strong validator only the client can tell (RFC 9110 8.8.2.2), and
/// 13.1.5 forbids it to send one that is not.
pub(super) fn range_counts(headers: &HeaderMap, file: &Validators) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = single(headers, &IF_RANGE) else {
        return false;
    };
    if let Some((tag, rest)) = Sent::parse(value.as_bytes()) {
        return rest.is_empty() && file.etag.as_ref().is_some_and(|etag| etag.matches_strongly(tag));
    }
    match (file.modified, date(headers, &IF_RANGE)) {
        (Some(modified), Some(date)) => modified == date,
        _ => false,
    }
}

/// Whether the field `name` is `*`, or lists a tag that `matches` the file's.
fn any_matches(
    headers: &HeaderMap,
    name: &HeaderName,
    file: &Validators,
    matches: fn(&EntityTag, Sent<'_>) -> bool,
) -> bool {
    if single(headers, name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
        return true;
    }
    let Some(etag) = &file.etag else {
        return false;
    };
    headers
        .get_all(name)
        .iter()
        .any(|line| Tags(line.as_bytes()).any(|tag| matches(etag, tag)))
}

/// The value of a field that came once. RFC 9110 13.1.3 and 13.1.4: a date with company is ignored.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next()?;
    lines.next().is_none().then_some(value)
}

/// The date in the field `name`, in any of the three forms of RFC 9110 5.6.7. One that cannot be read counts as not sent.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<LastModified> {
    let text = single(headers, name)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok().map(LastModified)
}

/// An entity tag in a request; its bytes may lie above ASCII.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sent<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> Sent<'a> {
    /// The tag at the beginning of `text`, and what follows it.
    fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // RFC 9110 8.8.3: the W is case-sensitive.
        let (weak, quoted) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        let rest = quoted.strip_prefix(b"\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        let (opaque, rest) = rest.split_at(end);
        let legal = opaque.iter().all(|byte| *byte > 0x20 && *byte != 0x7F);
        legal.then_some((Self { weak, opaque }, rest.get(1..).unwrap_or_default()))
    }
}

/// The tags of a list (RFC 9110 5.6.1). It ends at the first thing that is none: after a broken quote nothing can be trusted.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = Sent<'a>;

    fn next(&mut self) -> Option<Sent<'a>> {
        let start = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let (tag, rest) = Sent::parse(&self.0[start..])?;
        let separated = rest.trim_ascii_start();
        self.0 = if separated.is_empty() || separated.starts_with(b",") {
            separated
        } else {
            &[]
        };
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEFORE: &str = "Tue, 03 Mar 2026 10:19:59 GMT";
    const EXACT: &str = "Tue, 03 Mar 2026 10:20:00 GMT";
    const AFTER: &str = "Tue, 03 Mar 2026 10:20:01 GMT";

    /// Tagged `"a"`, last modified at [`EXACT`] and 999 ms.
    fn file() -> Validators {
        let exact = httpdate::parse_http_date(EXACT).unwrap();
        Validators {
            etag: EntityTag::from_store("a"),
            modified: LastModified::new(Timestamp::from(exact).plus(Duration::from_millis(999))),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            map.append(name, value);
        }
        map
    }

    #[track_caller]
    fn expect(verdict: Verdict, lines: &[(&'static str, &str)]) {
        assert_eq!(judge(&headers(lines), &file()), verdict, "{lines:?}");
    }

    /// RFC 9110 13.2.2, steps 1 to 4: every combination of every outcome of the four fields.
    #[test]
    fn conditions_take_precedence_as_the_rfc_orders_them() {
        let if_match = [None, Some(("\"a\"", true)), Some(("\"b\"", false))];
        let if_unmodified = [None, Some((EXACT, true)), Some((BEFORE, false))];
        let if_none_match = [None, Some(("\"b\"", true)), Some(("\"a\"", false))];
        let if_modified = [None, Some((BEFORE, true)), Some((EXACT, false))];
        for step_1 in if_match {
            for step_2 in if_unmodified {
                for step_3 in if_none_match {
                    for step_4 in if_modified {
                        let mut lines = Vec::new();
                        lines.extend(step_1.map(|(value, _)| ("if-match", value)));
                        lines.extend(step_2.map(|(value, _)| ("if-unmodified-since", value)));
                        lines.extend(step_3.map(|(value, _)| ("if-none-match", value)));
                        lines.extend(step_4.map(|(value, _)| ("if-modified-since", value)));
                        let held = |step: Option<(&str, bool)>| step.is_none_or(|(_, holds)| holds);
                        let verdict = if !held(step_1.or(step_2)) {
                            Verdict::Failed
                        } else if !held(step_3.or(step_4)) {
                            Verdict::NotModified
                        } else {
                            Verdict::Holds
                        };
                        expect(verdict, &lines);
                    }
                }
            }
        }
    }

    #[test]
    fn if_match_compares_strongly_and_if_none_match_weakly() {
        expect(Verdict::Holds, &[("if-match", "\"a\"")]);
        expect(Verdict::Failed, &[("if-match", "W/\"a\"")]);
        expect(Verdict::NotModified, &[("if-none-match", "\"a\"")]);
        expect(Verdict::NotModified, &[("if-none-match", "W/\"a\"")]);
        let weak = Validators {
            etag: EntityTag::from_store("W/\"a\""),
            ..file()
        };
        assert_eq!(judge(&headers(&[("if-match", "W/\"a\"")]), &weak), Verdict::Failed);
        assert_eq!(
            judge(&headers(&[("if-none-match", "\"a\"")]), &weak),
            Verdict::NotModified
        );
        assert!(!range_counts(&headers(&[("if-range", "W/\"a\"")]), &weak));
    }

    #[test]
    fn a_star_is_any_file() {
        for value in ["*", " * "] {
            expect(Verdict::Holds, &[("if-match", value)]);
            expect(Verdict::NotModified, &[("if-none-match", value)]);
        }
        let bare = Validators {
            etag: None,
            modified: None,
        };
        assert_eq!(judge(&headers(&[("if-match", "*")]), &bare), Verdict::Holds);
        assert_eq!(judge(&headers(&[("if-none-match", "*")]), &bare), Verdict::NotModified);
    }

    #[test]
    fn tags_are_found_anywhere_in_a_list_and_on_any_line() {
        for list in [
            "\"b\", \"a\"",
            "\"b\",\"a\",\"c\"",
            ",, \"a\"",
            "\"x,y\" ,\t\"a\"",
            "\"\",\"a\"",
            "W/\"a\", \"a\"",
        ] {
            expect(Verdict::Holds, &[("if-match", list)]);
            expect(Verdict::NotModified, &[("if-none-match", list)]);
        }
        expect(Verdict::Holds, &[("if-match", "\"b\""), ("if-match", "\"a\"")]);
        expect(
            Verdict::NotModified,
            &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
        );
    }

    #[test]
    fn what_is_no_list_of_tags_matches_nothing() {
        for list in [
            "",
            ",",
            "a",
            "\"a",
            "a\"",
            "w/\"a\"",
            "\"x\"\"a\"",
            "b \"a\"",
            "\"x,\"a\"",
            "*, \"b\"",
            "**",
        ] {
            expect(Verdict::Failed, &[("if-match", list)]);
            expect(Verdict::Holds, &[("if-none-match", list)]);
        }
    }

    #[test]
    fn dates_are_compared_in_whole_seconds_and_in_all_three_forms() {
        for exact in [EXACT, "Tuesday, 03-Mar-26 10:20:00 GMT", "Tue Mar  3 10:20:00 2026"] {
            expect(Verdict::NotModified, &[("if-modified-since", exact)]);
            expect(Verdict::Holds, &[("if-unmodified-since", exact)]);
        }
        expect(Verdict::Holds, &[("if-modified-since", BEFORE)]);
        expect(Verdict::NotModified, &[("if-modified-since", AFTER)]);
        expect(Verdict::Failed, &[("if-unmodified-since", BEFORE)]);
        expect(Verdict::Holds, &[("if-unmodified-since", AFTER)]);
    }

    #[test]
    fn dates_that_cannot_be_read_and_dates_that_came_twice_are_ignored() {
        for date in [
            "",
            "yesterday",
            "0",
            "Tue, 03 Mar 2026 10:20:00 CET",
            "Tue, 31 Feb 2026 10:20:00 GMT",
        ] {
            expect(Verdict::Holds, &[("if-modified-since", date)]);
            expect(Verdict::Holds, &[("if-unmodified-since", date)]);
        }
        expect(
            Verdict::Holds,
            &[("if-modified-since", AFTER), ("if-modified-since", AFTER)],
        );
        expect(
            Verdict::Holds,
            &[("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)],
        );
    }

    #[test]
    fn without_a_date_of_the_file_dates_are_ignored() {
        let undated = Validators {
            modified: None,
            ..file()
        };
        assert_eq!(
            judge(&headers(&[("if-modified-since", AFTER)]), &undated),
            Verdict::Holds
        );
        assert_eq!(
            judge(&headers(&[("if-unmodified-since", BEFORE)]), &undated),
            Verdict::Holds
        );
        assert!(!range_counts(&headers(&[("if-range", EXACT)]), &undated));
    }

    #[test]
    fn if_range_lets_the_range_count_for_the_same_file_only() {
        for (value, counts) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("\"a\", \"b\"", false),
            ("*", false),
            ("a", false),
            ("", false),
            (EXACT, true),
            (BEFORE, false),
            (AFTER, false),
            ("Tue Mar  3 10:20:00 2026", true),
        ] {
            assert_eq!(
                range_counts(&headers(&[("if-range", value)]), &file()),
                counts,
                "{value}"
            );
        }
        assert!(range_counts(&headers(&[]), &file()));
        assert!(!range_counts(
            &headers(&[("if-range", "\"a\""), ("if-range", "\"a\"")]),
            &file()
        ));
    }

    #[test]
    fn a_tag_of_the_store_is_sent_in_quotes() {
        for (store, wire) in [
            ("abc", Some("\"abc\"")),
            ("\"abc-2\"", Some("\"abc-2\"")),
            ("W/\"abc\"", Some("W/\"abc\"")),
            ("0", Some("\"0\"")),
            ("", None),
            ("\"\"", None),
            ("\"abc", None),
            ("a\"b", None),
            ("a b", None),
            ("a\nb", None),
            ("ä", None),
        ] {
            assert_eq!(
                EntityTag::from_store(store).map(|tag| tag.to_wire()).as_deref(),
                wire,
                "{store}"
            );
        }
    }

    #[test]
    fn a_time_that_no_date_can_name_is_not_sent() {
        let last = Timestamp::from_millis(END_OF_DATES * 1000 - 1);
        assert_eq!(
            LastModified::new(last).unwrap().to_wire(),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
        assert_eq!(LastModified::new(last.plus(Duration::from_millis(1))), None);
        assert_eq!(LastModified::new(Timestamp::from_millis(u64::MAX)), None);
        assert_eq!(
            LastModified::new(Timestamp::default()).unwrap().to_wire(),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    proptest! {
        #[test]
        fn no_condition_makes_the_judge_panic(values in prop::collection::vec(("[ -~\\x80-\\u{ff}]{0,40}", 0..5_usize), 0..6)) {
            let names = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE];
            let mut map = HeaderMap::new();
            for (value, name) in &values {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    map.append(&names[*name], value);
                }
            }
            judge(&map, &file());
            range_counts(&map, &file());
        }

        #[test]
        fn a_tag_that_was_sent_is_recognised(tag in "[!#-~]{1,30}", other in "[!#-~]{1,30}") {
            let file = Validators { etag: EntityTag::from_store(&format!("\"{tag}\"")), modified: None };
            let sent = file.etag.as_ref().unwrap().to_wire();
            let list = format!("\"{other}\", {sent}");
            prop_assert_eq!(judge(&headers(&[("if-match", &list)]), &file), Verdict::Holds);
            prop_assert_eq!(judge(&headers(&[("if-none-match", &list)]), &file), Verdict::NotModified);
            prop_assert!(range_counts(&headers(&[("if-range", &sent)]), &file));
            prop_assert_eq!(judge(&headers(&[("if-match", &format!("\"{other}\""))]), &file) == Verdict::Holds, tag == other);
        }
    }
}
