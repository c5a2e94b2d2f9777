//! Sizes in bytes, written with a unit.

use std::fmt;
use std::str::FromStr;

/// The units, largest first: the first one that divides a size evenly is the one it is shown in.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes: `"64MiB"` is 67,108,864 of them, `"100KB"` is 100,000.
///
/// Read as a whole number and a unit (`B`, `KB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`, in any letter case, one space
/// between them allowed); shown in the largest unit that divides it evenly.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many times 1,048,576 bytes; at most 2^44 of them.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// This many times 1,073,741,824 bytes; at most 2^34 of them.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        if number.is_empty() {
            return Err(format!(
                "{text:?} is not a size: a whole number and a unit, such as \"64MiB\""
            ));
        }
        if unit.is_empty() {
            return Err(format!(
                "{text:?} has no unit: write \"{text}B\", \"{text}KB\", \"{text}MiB\" …"
            ));
        }
        let Some((_, factor)) = UNITS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
            return Err(format!(
                "{text:?} is not a size: {unit:?} is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"
            ));
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large: sizes end at 2^64 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        assert_eq!("100KB".parse(), Ok(ByteSize::new(100_000)));
        assert_eq!("100KiB".parse(), Ok(ByteSize::new(102_400)));
        assert_eq!("64 MiB".parse(), Ok(ByteSize::mib(64)));
        assert_eq!("512gib".parse(), Ok(ByteSize::gib(512)));
        assert_eq!("0B".parse(), Ok(ByteSize::new(0)));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "\"\" is not a size: a whole number and a unit, such as \"64MiB\""),
            (
                "MiB",
                "\"MiB\" is not a size: a whole number and a unit, such as \"64MiB\"",
            ),
            (
                "-1MiB",
                "\"-1MiB\" is not a size: a whole number and a unit, such as \"64MiB\"",
            ),
            ("64", "\"64\" has no unit: write \"64B\", \"64KB\", \"64MiB\" …"),
            (
                "64MB!",
                "\"64MB!\" is not a size: \"MB!\" is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
            ),
            (
                "1.5GiB",
                "\"1.5GiB\" is not a size: \".5GiB\" is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
            ),
            ("99999999TiB", "\"99999999TiB\" is too large: sizes end at 2^64 bytes"),
            (
                "99999999999999999999B",
                "\"99999999999999999999B\" is too large: sizes end at 2^64 bytes",
            ),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(reason.to_owned()));
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_even_unit() {
        for text in ["0B", "1B", "1023B", "64MiB", "100KB", "512GiB", "1MB", "5TiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(bytes: u64) {
            let size = ByteSize::new(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
