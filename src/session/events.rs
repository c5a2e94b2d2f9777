//! What is announced of a session, and what of that is still owed: the record is the outbox.
//!
//! A session that is to be announced says so from Create-Session on. Every later state of its record tells which events there are by then,
//! because the state itself is what they announce: whoever reads the record knows them, and no crash can come between the two. That an event
//! was delivered is a mark beside the record, so that no writer of the record waits for it, and none meets another one there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Outcome, Phase, Record};
use crate::clock::Timestamp;

/// What is announced.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The session exists.
    Created,
    /// The file is at its destination, whole.
    Completed,
    /// The session was given up by its client, or by who runs the gateway.
    Cancelled,
    /// It was silent for longer than its time-out.
    Expired,
    /// What it stands on was taken away; its client starts again.
    Lost,
}

/// What a session announces, fixed at Create-Session like all of its rules.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Announced {
    /// Which events are wanted.
    pub kinds: Vec<EventKind>,
    /// After how many seconds an event that nobody took is given up.
    pub max_age: u64,
    /// The address that the Create-Session came from, as far as that is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// How it came out, noted with the state that says so: the tombstone keeps nothing else of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// How a session came out. Of these every session has one at most.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Its last event.
    pub kind: EventKind,
    /// When, by the clock of who noted it.
    pub at: Timestamp,
    /// Bytes of the file, where it is at its destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The ETag of the file, as the store wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The SHA-256 of the file in hexadecimal digits, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl EventKind {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Created,
        Self::Completed,
        Self::Cancelled,
        Self::Expired,
        Self::Lost,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Lost => "lost",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl Announced {
    /// After how long an event that nobody took is given up.
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(self.max_age)
    }
}

impl Record {
    /// The same session, but it is announced.
    #[must_use]
    pub fn announced(mut self, events: Announced) -> Self {
        self.events = Some(events);
        self
    }

    /// The same record; if it is the first one that says how its session came out, that is noted, as of `now`.
    #[must_use]
    pub fn noting_end(mut self, now: Timestamp) -> Self {
        let end = self.end_by_phase(now);
        if let Some(events) = &mut self.events
            && events.end.is_none()
        {
            events.end = end;
        }
        self
    }

    /// How the session came out, if it did and is announced. A version that knew nothing of events may have written that state: then the phase
    /// tells what it can.
    pub fn end(&self) -> Option<End> {
        let events = self.events.as_ref()?;
        events.end.clone().or_else(|| self.end_by_phase(self.written))
    }

    fn end_by_phase(&self, at: Timestamp) -> Option<End> {
        let (kind, tag) = match &self.phase {
            Phase::Open(_)
            | Phase::Expiring(_)
            | Phase::Publishing { .. }
            | Phase::Sealed { .. }
            // What a server application took is not at its destination: its sessions tell how they end only.
            | Phase::Told { .. } => return None,
            Phase::Published { tag } => (EventKind::Completed, Some(tag)),
            Phase::Closed { outcome, .. } => (EventKind::of(*outcome), None),
        };
        let (size, sha256) = match kind {
            EventKind::Completed => (tag.map(|tag| tag.size).or(self.total), self.sha256),
            EventKind::Created | EventKind::Cancelled | EventKind::Expired | EventKind::Lost => (None, None),
        };
        Some(End {
            kind,
            at,
            size,
            etag: tag.and_then(|tag| tag.etag.clone()),
            sha256: sha256.map(|digest| digest.to_string()),
        })
    }

    /// The events that are there by now, wanted and not among those `delivered`, in their order.
    pub fn owed(&self, delivered: &[EventKind]) -> Vec<EventKind> {
        let Some(events) = &self.events else { return Vec::new() };
        let there = [Some(EventKind::Created), self.end().map(|end| end.kind)];
        there
            .into_iter()
            .flatten()
            .filter(|kind| events.kinds.contains(kind) && !delivered.contains(kind))
            .collect()
    }

    /// The event that this record brought, compared with the one that it replaced.
    pub fn news(&self, before: &Self) -> Option<EventKind> {
        let known = before.owed(&[]);
        self.owed(&known).pop()
    }
}

impl EventKind {
    const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Expired => Self::Expired,
            Outcome::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::bits::SessionId;
    use crate::session::{Before, ObjectTag, Principal, Staged, Target};
    use crate::staging::Hasher;

    fn record(kinds: &[EventKind]) -> Record {
        let target = Target {
            route: "/".to_owned(),
            key: "f".to_owned(),
            query: None,
        };
        let (id, nobody, now) = (SessionId::new(Uuid::nil()), Principal::anonymous(), at(1));
        let url = "http://h/f".to_owned();
        Record::begin(id, nobody, target, url, 1, 1, false, Before::Absent, now).announced(Announced {
            kinds: kinds.to_vec(),
            max_age: 60,
            client: None,
            end: None,
        })
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn tag() -> ObjectTag {
        ObjectTag {
            etag: Some("\"e\"".to_owned()),
            version: None,
            size: 7,
        }
    }

    fn phases() -> Vec<(Phase, Option<EventKind>)> {
        let closed = |outcome| Phase::Closed { outcome, upload: None };
        vec![
            (Phase::Open(Staged::default()), None),
            (Phase::Expiring(Staged::default()), None),
            (
                Phase::Publishing {
                    staged: Staged::default(),
                    mark: None,
                },
                None,
            ),
            (Phase::Published { tag: tag() }, Some(EventKind::Completed)),
            (closed(Outcome::Completed), Some(EventKind::Completed)),
            (closed(Outcome::Cancelled), Some(EventKind::Cancelled)),
            (closed(Outcome::Expired), Some(EventKind::Expired)),
            (closed(Outcome::Lost), Some(EventKind::Lost)),
        ]
    }

    fn in_phase(phase: &Phase, kinds: &[EventKind]) -> Record {
        let mut record = record(kinds);
        record.phase = phase.clone();
        record
    }

    /// Every phase, every choice of events, everything that may be delivered: what is owed is what is there, wanted and not delivered.
    #[test]
    fn what_is_owed_is_what_is_there_and_wanted_and_was_not_delivered() {
        let subsets = || {
            (0..1_u32 << EventKind::ALL.len()).map(|bits| -> Vec<EventKind> {
                let chosen = EventKind::ALL.iter().enumerate();
                chosen
                    .filter(|(at, _)| bits & (1 << at) != 0)
                    .map(|(_, kind)| *kind)
                    .collect()
            })
        };
        for (phase, end) in phases() {
            for wanted in subsets() {
                let record = in_phase(&phase, &wanted);
                for delivered in subsets() {
                    let mut expected = vec![EventKind::Created];
                    expected.extend(end);
                    expected.retain(|kind| wanted.contains(kind) && !delivered.contains(kind));
                    assert_eq!(record.owed(&delivered), expected, "{phase:?}");
                }
            }
        }
    }

    /// From every phase to every other: an end is news once, and never taken back or changed.
    #[test]
    fn the_end_of_a_session_is_news_once() {
        for (from, had) in phases() {
            for (to, end) in phases() {
                let before = in_phase(&from, EventKind::ALL).noting_end(at(5));
                let mut after = before.clone();
                after.phase = to.clone();
                let after = after.noting_end(at(9));
                let expected = if had.is_none() { end } else { None };
                assert_eq!(after.news(&before), expected, "{from:?} to {to:?}");
                let noted = after.events.as_ref().and_then(|events| events.end.as_ref());
                assert_eq!(noted.map(|end| end.at), had.map(|_| at(5)).or(end.map(|_| at(9))));
            }
        }
    }

    #[test]
    fn a_tombstone_remembers_the_file() {
        let mut published = in_phase(&Phase::Published { tag: tag() }, EventKind::ALL);
        let digest = Hasher::default().finish();
        published.sha256 = Some(digest);
        let published = published.stamped(Uuid::nil(), at(3));
        let mut closed = published.clone();
        closed.phase = Phase::Closed {
            outcome: Outcome::Completed,
            upload: None,
        };
        let closed = closed.stamped(Uuid::nil(), at(8));
        let end = End {
            kind: EventKind::Completed,
            at: at(3),
            size: Some(7),
            etag: Some("\"e\"".to_owned()),
            sha256: Some(digest.to_string()),
        };
        assert_eq!(closed.end(), Some(end));
        assert_eq!(closed.news(&published), None);
    }

    #[test]
    fn what_a_version_without_events_wrote_is_announced_all_the_same() {
        let mut closed = record(EventKind::ALL);
        closed.total = Some(7);
        closed.written = at(4);
        closed.phase = Phase::Closed {
            outcome: Outcome::Completed,
            upload: None,
        };
        let end = closed.end().unwrap();
        assert_eq!((end.kind, end.at, end.size), (EventKind::Completed, at(4), Some(7)));
    }

    #[test]
    fn a_session_that_is_not_announced_owes_nothing() {
        for (phase, _) in phases() {
            let mut silent = in_phase(&phase, EventKind::ALL);
            silent.events = None;
            let silent = silent.noting_end(at(1));
            assert_eq!((silent.end(), silent.owed(&[])), (None, vec![]));
            assert!(serde_json::to_value(&silent).unwrap().get("events").is_none());
        }
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::named(kind.as_str()), Some(*kind));
            let stored = serde_json::to_value(kind).unwrap();
            assert_eq!(stored, serde_json::Value::from(kind.as_str()));
        }
        assert_eq!(EventKind::named("Created"), None);
    }
}
