//! `Content-Range` of a fragment (MC-BUP 2.2.6, RFC 2616 14.16).

use std::fmt;

use super::Malformed;

/// The bytes that a fragment carries: `first..end` of a file of `total` bytes. Empty only when the whole file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentRange {
    first: u64,
    end: u64,
    total: u64,
}

impl ContentRange {
    /// The range of the bytes `first..end` of `total`; `None` unless `first < end <= total`, or all three are zero.
    pub const fn new(first: u64, end: u64, total: u64) -> Option<Self> {
        if (first < end && end <= total) || (first == 0 && end == 0 && total == 0) {
            Some(Self { first, end, total })
        } else {
            None
        }
    }

    /// Reads the value of a `Content-Range` header: `bytes FIRST-LAST/TOTAL`, the unit in any letter case, blanks
    /// allowed around every number. `body_length` is the length of the body in bytes; `None` when its framing does
    /// not tell it beforehand.
    ///
    /// HTTP has no range for a file of no bytes, and what Windows sends for one is nowhere written down. The four
    /// texts that a client could arrive at are taken: `*/0`, `0-0/0`, `0--1/0` and `0-18446744073709551615/0`.
    ///
    /// # Errors
    /// One of the `Range…` reasons of [`Malformed`].
    pub fn parse(text: &str, body_length: Option<u64>) -> Result<Self, Malformed> {
        let (bytes, total) = strip_unit(trim(text))?.split_once('/').ok_or(Malformed::RangeSyntax)?;
        let range = parse_bytes(trim(bytes), trim(total))?;
        match body_length {
            Some(body) if body != range.len() => Err(Malformed::RangeLength {
                range: range.len(),
                body,
            }),
            _ => Ok(range),
        }
    }

    /// Offset of the first byte.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Offset of the first byte after the range.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Size of the whole file in bytes.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes in the range.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Whether this is the one fragment of a file of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// As a client writes it: `bytes FIRST-LAST/TOTAL`, and `bytes */0` for the file of no bytes.
impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end.checked_sub(1) {
            Some(last) => write!(f, "bytes {}-{last}/{}", self.first, self.total),
            None => f.write_str("bytes */0"),
        }
    }
}

/// What follows `bytes` and at least one blank.
fn strip_unit(text: &str) -> Result<&str, Malformed> {
    let unit = text.get(..UNIT.len()).unwrap_or_default();
    let rest = text.get(UNIT.len()..).unwrap_or_default();
    if !unit.eq_ignore_ascii_case(UNIT) || rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Malformed::RangeUnit);
    }
    rest.strip_prefix(BLANKS).ok_or(Malformed::RangeSyntax)
}

fn parse_bytes(bytes: &str, total: &str) -> Result<ContentRange, Malformed> {
    const EMPTY: ContentRange = ContentRange {
        first: 0,
        end: 0,
        total: 0,
    };
    if total == "*" {
        return Err(Malformed::RangeOpen);
    }
    let total = parse_number(total)?;
    if bytes == "*" {
        return if total == 0 {
            Ok(EMPTY)
        } else {
            Err(Malformed::RangeOpen)
        };
    }
    let (first, last) = bytes.split_once('-').ok_or(Malformed::RangeSyntax)?;
    let (first, last) = (parse_number(trim(first))?, trim(last));
    // Zero minus one, by clients that compute the last byte with a sign or without.
    let nothing = total == 0 && first == 0;
    if nothing && last == "-1" {
        return Ok(EMPTY);
    }
    let last = parse_number(last)?;
    if nothing && (last == 0 || last == u64::MAX) {
        return Ok(EMPTY);
    }
    if first > last {
        return Err(Malformed::RangeBackwards);
    }
    let end = last
        .checked_add(1)
        .filter(|end| *end <= total)
        .ok_or(Malformed::RangeBeyondTotal)?;
    Ok(ContentRange { first, end, total })
}

/// Decimal digits and nothing else: no sign, which `u64::from_str` would take.
fn parse_number(digits: &str) -> Result<u64, Malformed> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed::RangeSyntax);
    }
    digits.parse().map_err(|_| Malformed::RangeOverflow)
}

fn trim(text: &str) -> &str {
    text.trim_matches(BLANKS)
}

const UNIT: &str = "bytes";
const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, end: u64, total: u64) -> ContentRange {
        ContentRange::new(first, end, total).unwrap()
    }

    #[test]
    fn reads_what_windows_sends() {
        assert_eq!(
            ContentRange::parse("bytes 0-4891/4892", Some(4892)),
            Ok(range(0, 4892, 4892))
        );
        assert_eq!(ContentRange::parse("bytes 0-0/1", Some(1)), Ok(range(0, 1, 1)));
    }

    #[test]
    fn is_lenient_about_letter_case_blanks_and_leading_zeros() {
        for text in [
            "Bytes 128-212/300",
            "BYTES 128-212/300",
            "  bytes\t128-212/300 ",
            "bytes   128 - 212 / 300",
            "bytes 0128-0212/0300",
            "bytes 00000000000000000000000128-212/300",
        ] {
            assert_eq!(
                ContentRange::parse(text, Some(85)),
                Ok(range(128, 213, 300)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn takes_offsets_up_to_the_last_of_64_bits() {
        assert_eq!(
            ContentRange::parse("bytes 4294967296-4294967296/4294967297", Some(1)),
            Ok(range(1 << 32, (1 << 32) + 1, (1 << 32) + 1))
        );
        assert_eq!(
            ContentRange::parse("bytes 0-18446744073709551614/18446744073709551615", Some(u64::MAX)),
            Ok(range(0, u64::MAX, u64::MAX))
        );
    }

    #[test]
    fn takes_every_text_that_may_mean_the_file_of_no_bytes() {
        for text in [
            "bytes */0",
            "bytes 0-0/0",
            "bytes 0--1/0",
            "bytes 0-18446744073709551615/0",
            "BYTES * / 0",
            "bytes 0 - -1 / 0",
        ] {
            assert_eq!(ContentRange::parse(text, Some(0)), Ok(range(0, 0, 0)), "{text:?}");
            assert_eq!(ContentRange::parse(text, None), Ok(range(0, 0, 0)), "{text:?}");
            let refused = ContentRange::parse(text, Some(1));
            assert_eq!(refused, Err(Malformed::RangeLength { range: 0, body: 1 }), "{text:?}");
        }
    }

    #[test]
    fn names_the_rule_that_a_malformed_text_breaks() {
        use Malformed::{RangeBackwards, RangeBeyondTotal, RangeOpen, RangeOverflow, RangeSyntax, RangeUnit};
        for (text, reason) in [
            ("", RangeUnit),
            ("lines 0-1/2", RangeUnit),
            ("byte 0-1/2", RangeUnit),
            ("bytess 0-1/2", RangeUnit),
            ("bytes0-1/2", RangeUnit),
            ("0-1/2", RangeUnit),
            ("bÿtes 0-1/2", RangeUnit),
            ("byteÿ 0-1/2", RangeUnit),
            ("bytes", RangeSyntax),
            ("bytes ", RangeSyntax),
            ("bytes=0-1/2", RangeSyntax),
            ("bytes /", RangeSyntax),
            ("bytes 0-1", RangeSyntax),
            ("bytes 0/2", RangeSyntax),
            ("bytes -1/2", RangeSyntax),
            ("bytes 0-/2", RangeSyntax),
            ("bytes 0-1/", RangeSyntax),
            ("bytes a-b/c", RangeSyntax),
            ("bytes 0x0-0x1/0x2", RangeSyntax),
            ("bytes +0-+1/+2", RangeSyntax),
            ("bytes 0-1/-2", RangeSyntax),
            ("bytes 0--1/2", RangeSyntax),
            ("bytes 1--1/0", RangeSyntax),
            ("bytes 0-1-2/3", RangeSyntax),
            ("bytes 0-1/2/3", RangeSyntax),
            ("bytes 0-1/2,", RangeSyntax),
            ("bytes 0-1/2, 3-4/5", RangeSyntax),
            ("bytes 0 1/2", RangeSyntax),
            ("bytes 1 0-11/20", RangeSyntax),
            ("bytes 0-1/2\n", RangeSyntax),
            ("bytes 0-٣/4", RangeSyntax),
            ("bytes **/0", RangeSyntax),
            ("bytes *-1/0", RangeSyntax),
            ("bytes */10", RangeOpen),
            ("bytes 0-9/*", RangeOpen),
            ("bytes */*", RangeOpen),
            ("bytes 5-1/10", RangeBackwards),
            ("bytes 1-0/0", RangeBackwards),
            ("bytes 0-10/10", RangeBeyondTotal),
            ("bytes 0-5/0", RangeBeyondTotal),
            ("bytes 9-10/10", RangeBeyondTotal),
            ("bytes 0-18446744073709551615/10", RangeBeyondTotal),
            ("bytes 0-18446744073709551615/18446744073709551615", RangeBeyondTotal),
            ("bytes 0-18446744073709551616/10", RangeOverflow),
            ("bytes 18446744073709551616-18446744073709551617/10", RangeOverflow),
            ("bytes 0-1/18446744073709551616", RangeOverflow),
            ("bytes 0-1/99999999999999999999999999999999", RangeOverflow),
        ] {
            assert_eq!(ContentRange::parse(text, None), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn the_body_must_be_as_long_as_the_range() {
        for body in [0, 1, 9, 11, u64::MAX] {
            let refused = ContentRange::parse("bytes 0-9/10", Some(body));
            assert_eq!(refused, Err(Malformed::RangeLength { range: 10, body }));
        }
        assert_eq!(ContentRange::parse("bytes 0-9/10", None), Ok(range(0, 10, 10)));
    }

    #[test]
    fn only_ranges_that_hold_something_or_nothing_of_nothing_exist() {
        assert_eq!(ContentRange::new(0, 0, 1), None);
        assert_eq!(ContentRange::new(1, 1, 1), None);
        assert_eq!(ContentRange::new(2, 1, 3), None);
        assert_eq!(ContentRange::new(0, 2, 1), None);
        assert!(range(0, 0, 0).is_empty());
        assert!(!range(0, 1, 1).is_empty());
    }

    prop_compose! {
        fn any_range()(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) -> ContentRange {
            let mut sorted = [a, b, c];
            sorted.sort_unstable();
            let [first, end, total] = sorted;
            ContentRange::new(first, end, total).unwrap_or(ContentRange { first: 0, end: 0, total: 0 })
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(range in any_range()) {
            let text = range.to_string();
            prop_assert_eq!(ContentRange::parse(&text, Some(range.len())), Ok(range));
            prop_assert_eq!(ContentRange::parse(&text, None), Ok(range));
        }

        #[test]
        fn what_is_read_is_a_range(text in "(bytes|BYTES)[ \t]{0,2}[0-9*+-]{0,21}-?[0-9 ]{0,21}/[0-9*]{0,21}", body in any::<Option<u64>>()) {
            if let Ok(range) = ContentRange::parse(&text, body) {
                prop_assert_eq!(ContentRange::new(range.first(), range.end(), range.total()), Some(range));
                prop_assert_eq!(range.first() + range.len(), range.end());
                prop_assert_eq!(range.is_empty(), range.first() == range.end());
                if let Some(body) = body {
                    prop_assert_eq!(range.len(), body);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), body in any::<Option<u64>>()) {
            let _ = ContentRange::parse(&text, body);
            let _ = ContentRange::parse(&format!("bytes {text}"), body);
        }
    }
}
