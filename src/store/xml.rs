//! The little XML that stores speak, as far as our own requests need it.

use std::borrow::Cow;

use crate::clock::Timestamp;

/// The text of every `<name>` in `text`, in order, not unescaped. Elements of one name must not nest.
pub(super) fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let begin = rest.find(&open)? + open.len();
            rest = &rest[begin..];
            // A longer name that begins alike is another element.
            if !rest.starts_with(['>', ' ', '/', '\n', '\r', '\t']) {
                continue;
            }
            let (attributes, content) = rest.split_once('>')?;
            if attributes.ends_with('/') {
                rest = content;
                return Some("");
            }
            let (inner, after) = content.split_once(close.as_str())?;
            rest = after;
            return Some(inner);
        }
    })
}

/// The unescaped text of the first `<name>`.
pub(super) fn element(text: &str, name: &str) -> Option<String> {
    Some(unescape(elements(text, name).next()?).into_owned())
}

/// Undoes the escapes of XML; what is none is kept.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        match after
            .split_once(';')
            .and_then(|(entity, after)| Some((character(entity)?, after)))
        {
            Some((character, after)) => {
                plain.push(character);
                rest = after;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain.into()
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Escapes what must not stand in text.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A moment as S3 and GCS write it: `2010-11-10T20:48:33.000Z`.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(str::parse::<u64>);
    let (hours, minutes, seconds) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Years that begin in March make leap days the last of their year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days.checked_sub(719_468)?;
    Some(Timestamp::from_millis(
        (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + millis,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_order_and_by_their_whole_name() {
        let text = "<a><Key>one</Key><KeyMarker>no</KeyMarker><Key x=\"1\">two &amp; three</Key><Key/></a>";
        assert_eq!(
            elements(text, "Key").collect::<Vec<_>>(),
            ["one", "two &amp; three", ""]
        );
        assert_eq!(element(text, "KeyMarker").as_deref(), Some("no"));
        assert_eq!(element(text, "Missing"), None);
        assert_eq!(elements("<Key>never closed", "Key").next(), None);
    }

    #[test]
    fn escapes_go_both_ways() {
        let odd = "a&b<c>d\"e'f";
        assert_eq!(unescape(&escape(odd)), odd);
        assert_eq!(unescape("&#65;&#x42;&apos;&unknown;&"), "AB'&unknown;&");
    }

    #[test]
    fn moments_are_read_to_the_millisecond() {
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(Timestamp::from_millis(0)));
        assert_eq!(
            moment("2010-11-10T20:48:33.000Z"),
            Some(Timestamp::from_millis(1_289_422_113_000))
        );
        assert_eq!(
            moment("2024-02-29T23:59:59.5Z"),
            Some(Timestamp::from_millis(1_709_251_199_500))
        );
        assert_eq!(
            moment("2000-03-01T00:00:00.123456Z"),
            Some(Timestamp::from_millis(951_868_800_123))
        );
        for bad in [
            "",
            "now",
            "2010-11-10",
            "2010-13-10T20:48:33Z",
            "2010-11-10T25:48:33Z",
            "1950-01-01T00:00:00Z",
        ] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }
}
