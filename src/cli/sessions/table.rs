//! Sessions as people read them.

use indicatif::BinaryBytes;
use serde_json::Value;

use crate::admin::line;
use crate::cleanup::{Deed, Finding, Report, Told};
use crate::upload::{Detail, Overview};

/// In which order the fields of a session are told; what is not among them comes last.
const ORDER: [&str; 31] = [
    "id",
    "phase",
    "outcome",
    "problem",
    "route",
    "key",
    "url",
    "principal",
    "next",
    "total",
    "sha256",
    "recorded",
    "parts",
    "part_size",
    "tails",
    "tail_bytes",
    "upload",
    "created",
    "progress",
    "silent_seconds",
    "expires",
    "overwrite",
    "before",
    "max_upload_size",
    "store",
    "objects",
    "bytes",
    "record_modified",
    "record_written",
    "format",
    "min_reader",
];

/// The names of the columns. What is as long as it likes comes last.
pub(super) fn header() -> String {
    columns("SESSION", "PHASE", "STORED", "OF", "SILENT", "KEY")
}

/// One session in one line.
pub(super) fn row(overview: &Overview) -> String {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| BinaryBytes(bytes).to_string());
    let key = match (&overview.route, &overview.key, &overview.problem) {
        (Some(route), Some(key), _) => format!("{route}{key}"),
        (_, _, Some(problem)) => format!("({problem})"),
        _ => "-".to_owned(),
    };
    columns(
        &overview.id.as_key(),
        overview.phase.as_str(),
        &size(overview.next),
        &size(overview.total),
        &span(overview.silent_seconds),
        &plain(&key),
    )
}

fn columns(id: &str, phase: &str, stored: &str, total: &str, silent: &str, key: &str) -> String {
    format!("{id:<36}  {phase:<10}  {stored:>10}  {total:>10}  {silent:>8}  {key}\n")
}

/// Everything about one session, a line each.
pub(super) fn detail(detail: &Detail) -> String {
    let fields: Value = serde_json::from_str(&line(detail)).unwrap_or_default();
    let Some(fields) = fields.as_object() else {
        return String::new();
    };
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| place(name));
    let said = fields.into_iter().map(|(name, value)| {
        let value = match (name.as_str(), value) {
            ("silent_seconds", Value::Number(seconds)) => span(seconds.as_u64().unwrap_or_default()),
            (_, Value::String(text)) => plain(text),
            (_, value) => plain(&value.to_string()),
        };
        let name = match name.as_str() {
            "silent_seconds" => "silent for".to_owned(),
            name => name.replace('_', " "),
        };
        format!("{name:<16}  {value}\n")
    });
    said.collect()
}

/// What became of a session that was to be cancelled.
pub(super) fn cancelled(overview: &Overview) -> String {
    let how = overview.outcome.map(|outcome| line(&outcome));
    let how = how.as_deref().unwrap_or("closed").trim_matches(['"', '\n']).to_owned();
    let key = overview.key.as_deref().unwrap_or("-");
    format!("{}  {how}  {}\n", overview.id.as_key(), plain(key))
}

/// A line of a sweep.
pub(super) fn swept(told: &Told, dry_run: bool) -> String {
    match told {
        Told::Found(finding) => found(finding, dry_run),
        Told::Swept { store, report } => summary(store, report, dry_run),
        // It is said as an error.
        Told::Failed { .. } => String::new(),
    }
}

fn found(finding: &Finding, dry_run: bool) -> String {
    let (did, would) = match finding.deed {
        Deed::Expiring => ("noted as expiring", "would be noted as expiring"),
        Deed::Revived => ("stirred since: lives on", "stirred since: would live on"),
        Deed::Published => (
            "found to be published: its file is there",
            "would be noted as published: its file is there",
        ),
        Deed::Expired => ("expired", "would expire"),
        Deed::Completed => (
            "published, closed in the place of its client",
            "published, would be closed in the place of its client",
        ),
        Deed::Cleared => (
            "cleared of what was left beside its tombstone",
            "would be cleared of what is left beside its tombstone",
        ),
        Deed::Forgotten => ("forgotten: it ended long ago", "would be forgotten: it ended long ago"),
        Deed::Orphans => ("removed: it has no record", "would be removed: it has no record"),
        Deed::Aborted => (
            "uploads aborted that no record names",
            "uploads would be aborted that no record names",
        ),
        Deed::Waits => (
            "kept: its events are not delivered yet",
            "would be kept: its events are not delivered yet",
        ),
        Deed::Failed => ("left to the next sweep", "could not be looked at"),
    };
    let what = if dry_run { would } else { did };
    let count = finding.count.map(|count| format!(" ({count})")).unwrap_or_default();
    let why = finding
        .why
        .as_ref()
        .map(|why| format!(": {}", plain(why)))
        .unwrap_or_default();
    let key = plain(finding.key.as_deref().unwrap_or("-"));
    format!("{}  {key}  {what}{count}{why}\n", finding.session.as_key())
}

fn summary(store: &str, report: &Report, dry_run: bool) -> String {
    let Report {
        sessions,
        expiring,
        expired,
        forgotten,
        orphans,
        aborted,
        waiting,
        failed,
    } = report;
    let would = if dry_run { "would be " } else { "" };
    let waiting = match waiting {
        0 => String::new(),
        waiting => format!(", kept for events that are not delivered yet {waiting}"),
    };
    format!(
        "{store}: of {sessions} sessions {would}noted as expiring {expiring}, ended {expired}, forgotten {forgotten}{waiting}; objects without a \
         record {would}removed {orphans}, uploads {would}aborted {aborted}; failed {failed}\n"
    )
}

/// How long something was, in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

/// Without what would move the cursor of a terminal, or worse: whoever may write the store could put it there.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (3_600, "1h00m"),
            (90_061, "1d01h"),
            (14 * 86_400, "14d00h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn nothing_in_a_store_can_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }
}
