//! What the Range header of a request selects of a file (RFC 9110 14.1.2, 14.2). Pure.

use std::ops::Range;

/// A request for more ranges than this is answered with the whole file: every range costs a request to the store.
/// A BITS client that meets a 200 here falls back to one range per request.
pub const MAX_RANGES: usize = 100;

/// Ranges that overlap may add up to this many times the file and no further, else the answer is the whole file.
/// Twice, because two ranges may overlap as they like: RFC 9110 14.2 names more than two as the mark of an attack.
const MAX_REPETITION: u128 = 2;

/// The ranges of bytes that a request asks for, in its order. Parsed, but not yet held against the size of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ranges(Vec<Asked>);

/// One range as it was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    /// `first-` or `first-last`, both ends included.
    From { first: u64, last: Option<u64> },
    /// `-length`: the last bytes of the file.
    Suffix { length: u64 },
}

/// What [`Ranges`] are in a file of a known size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// The header is not to be followed: the whole file is the answer.
    Whole,
    /// One range, not empty and within the file.
    One(Range<u64>),
    /// At least two ranges, none empty and all within the file, in the order of the request (MC-BUP 3.5.5.1).
    Several(Vec<Range<u64>>),
    /// Nothing of what was asked for exists.
    Unsatisfiable,
}

impl Ranges {
    /// Reads the value of a Range header. `None` when it has to be ignored: another unit than bytes, broken grammar, a range that
    /// ends before it begins, or more than [`MAX_RANGES`].
    ///
    /// Positions beyond 64 bits count as the end of the scale, which is beyond the end of any file.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, set) = text.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut asked = Vec::new();
        // RFC 9110 5.6.1.2: empty elements of a list are skipped.
        for element in set.split(',').map(trim).filter(|element| !element.is_empty()) {
            if asked.len() == MAX_RANGES {
                return None;
            }
            asked.push(Asked::parse(element)?);
        }
        (!asked.is_empty()).then_some(Self(asked))
    }

    /// What these ranges are in a file of `size` bytes.
    pub fn select(&self, size: u64) -> Selection {
        // No Content-Range can name a range of nothing, so "the last five bytes" of an empty file are the file.
        if size == 0
            && self
                .0
                .iter()
                .any(|asked| matches!(asked, Asked::Suffix { length: 1.. }))
        {
            return Selection::Whole;
        }
        let mut found: Vec<_> = self.0.iter().filter_map(|asked| asked.within(size)).collect();
        let total: u128 = found.iter().map(|range| u128::from(range.end - range.start)).sum();
        if total > u128::from(size) * MAX_REPETITION {
            return Selection::Whole;
        }
        match found.len() {
            0 => Selection::Unsatisfiable,
            1 => Selection::One(found.remove(0)),
            _ => Selection::Several(found),
        }
    }
}

impl Asked {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return Some(Self::Suffix { length: number(last)? });
        }
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        // RFC 9110 14.1.1: such a range makes the whole header invalid.
        if last.is_some_and(|last| last < first) {
            return None;
        }
        Some(Self::From { first, last })
    }

    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From { first, last } => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Suffix { length } => size.saturating_sub(length)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits only: the sign that `u64::from_str` would take is no part of the grammar.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // All digits: what does not fit is too large.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Without the optional white space of RFC 9110 5.6.3 around it.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(text: &str, size: u64) -> Selection {
        Ranges::parse(text).map_or(Selection::Whole, |ranges| ranges.select(size))
    }

    #[test]
    fn a_single_range_is_what_rfc_9110_says_it_is() {
        for (text, size, expected) in [
            ("bytes=0-499", 10_000, 0..500),
            ("bytes=500-999", 10_000, 500..1000),
            ("bytes=9500-", 10_000, 9500..10_000),
            ("bytes=-500", 10_000, 9500..10_000),
            ("bytes=0-0", 10_000, 0..1),
            ("bytes=-1", 10_000, 9999..10_000),
            ("bytes=0-", 10_000, 0..10_000),
            ("bytes=0-9976", 10_240, 0..9977),
            ("bytes=9999-10000", 10_000, 9999..10_000),
            ("bytes=-20000", 10_000, 0..10_000),
            ("BYTES=1-2", 10_000, 1..3),
            ("bytes= \t1-2 ", 10_000, 1..3),
            ("bytes=,, 1-2,,", 10_000, 1..3),
            ("bytes=00000000000000000000001-2", 10_000, 1..3),
            ("bytes=5-99999999999999999999999", 10_000, 5..10_000),
            ("bytes=-99999999999999999999999", 10_000, 0..10_000),
            (
                "bytes=18446744073709551614-18446744073709551615",
                u64::MAX,
                u64::MAX - 1..u64::MAX,
            ),
        ] {
            assert_eq!(select(text, size), Selection::One(expected), "{text}");
        }
    }

    #[test]
    fn ranges_beyond_the_end_cannot_be_satisfied() {
        for (text, size) in [
            ("bytes=10000-", 10_000),
            ("bytes=10000-10001", 10_000),
            ("bytes=-0", 10_000),
            ("bytes=99999999999999999999999-", 10_000),
            ("bytes=10000-, -0, 20000-20001", 10_000),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=-0", 0),
        ] {
            assert_eq!(select(text, size), Selection::Unsatisfiable, "{text}");
        }
    }

    #[test]
    fn a_header_that_breaks_the_grammar_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= ",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=0-1,2-1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=--1",
            "bytes=1 - 2",
            "bytes =1-2",
            "bytes:1-2",
            "items=0-1",
            "bytes=0x1-2",
            "bytes=1-2;3-4",
            "bytes=0-1, bytes=2-3",
            "=0-1",
            "bytes=٣-٤",
            "bytes=0-1,x",
            "bytes=\u{a0}0-1",
        ] {
            assert_eq!(Ranges::parse(text), None, "{text}");
        }
    }

    #[test]
    fn several_ranges_keep_the_order_of_the_request_and_are_never_merged() {
        assert_eq!(
            select("bytes=500-600,0-9,601-700", 1000),
            Selection::Several(vec![500..601, 0..10, 601..701])
        );
        assert_eq!(select("bytes=0-9,5-14", 10_240), Selection::Several(vec![0..10, 5..15]));
        assert_eq!(select("bytes=0-0,-1", 10), Selection::Several(vec![0..1, 9..10]));
    }

    #[test]
    fn what_does_not_exist_is_left_out_of_several_ranges() {
        assert_eq!(
            select("bytes=0-9,2000-,20-29", 1000),
            Selection::Several(vec![0..10, 20..30])
        );
        assert_eq!(select("bytes=2000-,20-29", 1000), Selection::One(20..30));
    }

    #[test]
    fn the_end_of_an_empty_file_is_the_whole_file() {
        assert_eq!(select("bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn two_ranges_may_overlap_wholly_and_three_may_not() {
        assert_eq!(select("bytes=0-,0-", 10), Selection::Several(vec![0..10, 0..10]));
        assert_eq!(select("bytes=0-,0-,0-0", 10), Selection::Whole);
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let ranges = |count: usize| format!("bytes={}", vec!["1-1"; count].join(","));
        assert!(Ranges::parse(&ranges(MAX_RANGES)).is_some());
        assert_eq!(Ranges::parse(&ranges(MAX_RANGES + 1)), None);
    }

    /// Positions that lie about the borders of the file, and any others.
    fn asked(size: u64) -> impl Strategy<Value = String> {
        let position = prop_oneof![0..=size.saturating_add(3), any::<u64>()];
        prop_oneof![
            (position.clone(), position.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            position.clone().prop_map(|first| format!("{first}-")),
            position.prop_map(|length| format!("-{length}")),
        ]
    }

    fn request() -> impl Strategy<Value = (u64, String)> {
        prop_oneof![0..40_u64, any::<u64>()].prop_flat_map(|size| {
            let set = prop::collection::vec(asked(size), 1..8);
            (Just(size), set.prop_map(|set| format!("bytes={}", set.join(","))))
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", size in any::<u64>()) {
            let _ = select(&text, size);
        }

        #[test]
        fn no_text_that_resembles_a_range_makes_the_parser_panic(text in "(bytes=)?[-0-9, \t=]{0,60}", size in any::<u64>()) {
            let _ = select(&text, size);
        }

        #[test]
        fn what_is_selected_is_in_the_file_and_not_too_much((size, text) in request()) {
            let ranges = match select(&text, size) {
                Selection::One(range) => vec![range],
                Selection::Several(ranges) => { prop_assert!(ranges.len() > 1); ranges }
                Selection::Whole | Selection::Unsatisfiable => Vec::new(),
            };
            for range in &ranges {
                prop_assert!(range.start < range.end && range.end <= size);
            }
            let total: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
            prop_assert!(total <= u128::from(size) * MAX_REPETITION);
        }

        #[test]
        fn a_small_file_is_selected_byte_by_byte_as_an_oracle_does(size in 0_u64..30, first in 0_u64..40, length in 0_u64..40) {
            let bytes: Vec<u64> = (0..size).collect();
            let of = |selection| match selection {
                Selection::One(range) => range.collect(),
                Selection::Unsatisfiable => Vec::new(),
                Selection::Whole => bytes.clone(),
                Selection::Several(_) => unreachable!("one range was asked for"),
            };
            let oracle: Vec<u64> = bytes.iter().copied().filter(|at| (first..=first + length).contains(at)).collect();
            prop_assert_eq!(of(select(&format!("bytes={first}-{}", first + length), size)), oracle);
            let oracle: Vec<u64> = bytes.iter().copied().filter(|at| *at >= first).collect();
            prop_assert_eq!(of(select(&format!("bytes={first}-"), size)), oracle);
            let oracle: Vec<u64> = bytes.iter().copied().filter(|at| at + length >= size).collect();
            prop_assert_eq!(of(select(&format!("bytes=-{length}"), size)), oracle);
        }
    }
}
