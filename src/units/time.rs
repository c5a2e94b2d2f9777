//! Spans of time, written with units.

use std::time::Duration;

/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Far beyond any sensible setting, and far from every overflow of a clock: 100 years.
const LONGEST: u64 = 100 * 365 * 24 * 3_600_000;

/// Reads a span of time: whole numbers with units, longest unit first: `"30s"`, `"14d"`, `"1h30m"`, `"250ms"`.
///
/// # Errors
/// A sentence that quotes `text` and says what is wrong with it. Spans above 100 years are refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = 0u64;
    let mut shorter_than = u64::MAX;
    while !rest.is_empty() {
        let after_number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &rest[..rest.len() - after_number.len()];
        let after_unit = after_number.trim_start_matches(|c: char| !c.is_ascii_digit());
        let unit = &after_number[..after_number.len() - after_unit.len()];
        if number.is_empty() {
            break;
        }
        if unit.is_empty() {
            return Err(format!(
                "{text:?} has no unit: write \"{text}s\", \"{text}m\", \"{text}h\" …"
            ));
        }
        let Some((_, factor)) = UNITS.into_iter().find(|(name, _)| *name == unit.trim()) else {
            return Err(format!(
                "{text:?} is not a duration: {unit:?} is none of ms, s, m, h, d, w"
            ));
        };
        if factor >= shorter_than {
            return Err(format!(
                "{text:?} is not a duration: each unit once, the longest first, as in \"1h30m\""
            ));
        }
        shorter_than = factor;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .and_then(|millis| total.checked_add(millis))
            .filter(|millis| *millis <= LONGEST)
            .ok_or_else(|| format!("{text:?} is too long: at most 100 years"))?;
        rest = after_unit;
    }
    if text.is_empty() || !rest.is_empty() {
        return Err(format!(
            "{text:?} is not a duration: whole numbers with units, such as \"30s\", \"14d\" or \"1h30m\""
        ));
    }
    Ok(Duration::from_millis(total))
}

/// Writes a span of time as [`parse_duration`] reads it, in the longest unit that divides it evenly. Less than a millisecond is lost.
pub fn show_duration(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    // Weeks are read but not written: "14d" is what everybody writes.
    let units = UNITS.into_iter().skip(1);
    match units
        .into_iter()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
    {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_add_up() {
        for (text, seconds) in [
            ("30s", 30),
            ("0s", 0),
            ("1h30m", 5_400),
            ("14d", 14 * 86_400),
            ("2w", 14 * 86_400),
            ("1d 6h", 30 * 3_600),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("1s250ms"), Ok(Duration::from_millis(1_250)));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, reason) in [
            (
                "",
                "\"\" is not a duration: whole numbers with units, such as \"30s\", \"14d\" or \"1h30m\"",
            ),
            (
                "-3s",
                "\"-3s\" is not a duration: whole numbers with units, such as \"30s\", \"14d\" or \"1h30m\"",
            ),
            ("30", "\"30\" has no unit: write \"30s\", \"30m\", \"30h\" …"),
            (
                "30sec",
                "\"30sec\" is not a duration: \"sec\" is none of ms, s, m, h, d, w",
            ),
            ("1.5h", "\"1.5h\" is not a duration: \".\" is none of ms, s, m, h, d, w"),
            (
                "30m1h",
                "\"30m1h\" is not a duration: each unit once, the longest first, as in \"1h30m\"",
            ),
            (
                "1s1s",
                "\"1s1s\" is not a duration: each unit once, the longest first, as in \"1h30m\"",
            ),
            ("101000d", "\"101000d\" is too long: at most 100 years"),
            (
                "99999999999999999999s",
                "\"99999999999999999999s\" is too long: at most 100 years",
            ),
        ] {
            assert_eq!(parse_duration(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn a_span_is_shown_in_one_unit() {
        for text in ["0s", "250ms", "90s", "150s", "1m", "90m", "1h", "14d", "100d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(millis in 0..LONGEST) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(span)), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
