//! Sessions as those see them who run the gateway: what is told of one, and which ones are asked for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rules;
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{Before, Limits, Outcome, Phase, Record, Session, Tails};
use crate::staging::{Sha256, UploadId};
use crate::store::{Error, Listed, ListedSession, Name, Stored};

/// Where a session stands: its phase, or why it has none.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Receiving fragments.
    Open,
    /// Silent past its time-out; ends unless it stirs.
    Expiring,
    /// All bytes are there, the file is being put together.
    Publishing,
    /// The file is there, the client has not closed the session yet.
    Published,
    /// The file is whole, the server application has not taken it yet.
    Sealed,
    /// The server application has spoken, the client has not closed the session yet.
    Told,
    /// Ended: a tombstone is left.
    Closed,
    /// Its record says that only a newer version of this program may read it.
    Newer,
    /// Its record cannot be understood.
    Unreadable,
    /// There are objects, but no record: what a crash left, or a session that is just being created or cleared away.
    Orphaned,
}

impl Standing {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Expiring,
        Self::Publishing,
        Self::Published,
        Self::Sealed,
        Self::Told,
        Self::Closed,
        Self::Newer,
        Self::Unreadable,
        Self::Orphaned,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Expiring => "expiring",
            Self::Publishing => "publishing",
            Self::Published => "published",
            Self::Sealed => "sealed",
            Self::Told => "told",
            Self::Closed => "closed",
            Self::Newer => "newer",
            Self::Unreadable => "unreadable",
            Self::Orphaned => "orphaned",
        }
    }

    const fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Open(_) => Self::Open,
            Phase::Expiring(_) => Self::Expiring,
            Phase::Publishing { .. } => Self::Publishing,
            Phase::Published { .. } => Self::Published,
            Phase::Sealed { .. } => Self::Sealed,
            Phase::Told { .. } => Self::Told,
            Phase::Closed { .. } => Self::Closed,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|standing| standing.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Which sessions are asked for. Without anything: those that have not ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// Those of this route.
    pub route: Option<String>,
    /// Those whose key begins like this.
    pub prefix: Option<String>,
    /// Those that stand like this.
    pub standings: Vec<Standing>,
    /// Also those that have ended.
    pub all: bool,
    /// Those without progress for at least this long.
    pub silent_for: Option<Duration>,
    /// Those with progress within this time.
    pub active_within: Option<Duration>,
    /// No more than this many.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether a session with its last progress at `newest` may be meant; what its record says is not known yet.
    pub(super) fn admits_age(&self, newest: Timestamp, now: Timestamp) -> bool {
        let silent = now.since(newest);
        self.silent_for.is_none_or(|least| silent >= least) && self.active_within.is_none_or(|most| silent <= most)
    }

    /// Whether the session is meant.
    pub(super) fn admits(&self, overview: &Overview) -> bool {
        let stands = if self.standings.is_empty() {
            self.all || overview.phase != Standing::Closed
        } else {
            self.standings.contains(&overview.phase)
        };
        let is = |wanted: &Option<String>, found: &Option<String>, fits: fn(&str, &str) -> bool| match wanted {
            None => true,
            Some(wanted) => found.as_deref().is_some_and(|found| fits(found, wanted)),
        };
        stands
            && is(&self.route, &overview.route, |found, wanted| found == wanted)
            && is(&self.prefix, &overview.key, |found, wanted| found.starts_with(wanted))
    }
}

/// What is told of every session. Moments are written as RFC 3339; those without another word are by the clock of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The session.
    pub id: SessionId,
    /// Where it is kept.
    pub store: String,
    /// Where it stands.
    pub phase: Standing,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Its route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Its destination, below the store of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The size of the file, once a fragment told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The next offset: every byte below it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The SHA-256 of the file, when it is whole and its route wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// How many objects are kept for it, its record included; parts of an unfinished multipart upload are none.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// When it was created, by the clock of whoever created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When something was stored for it last.
    pub progress: String,
    /// For how many seconds nothing was.
    pub silent_seconds: u64,
    /// From when on a sweep takes it to the next step of its end, if nothing comes: a live session is noted as expiring, an expiring one
    /// ends, the tombstone of an ended one is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why its record could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Everything that is told of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// What is told of every session.
    #[serde(flatten)]
    pub overview: Overview,
    /// What its record says beyond that, if it could be read.
    #[serde(flatten)]
    pub more: Option<More>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct More {
    /// The URL of its Create-Session.
    pub url: String,
    /// Bytes of every part but the last.
    pub part_size: u64,
    /// The largest file that was allowed when it was created.
    pub max_upload_size: u64,
    /// Whether it may replace an existing file.
    pub overwrite: bool,
    /// What its destination was when it was created.
    pub before: Before,
    /// How many parts are recorded.
    pub parts: u64,
    /// The offset at which the last of them ends.
    pub recorded: u64,
    /// How many tails there are.
    pub tails: u64,
    /// Bytes in them.
    pub tail_bytes: u64,
    /// Its multipart upload, by the name that the store gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadId>,
    /// When its record was written.
    pub record_modified: String,
    /// The same, by the clock of whoever wrote it.
    pub record_written: String,
    /// The format of the record.
    pub format: u32,
    /// The oldest format whose readers may read it.
    pub min_reader: u32,
    /// Fields of a newer version, kept and not understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_fields: Vec<String>,
}

/// What a list tells of a session's objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    newest: Timestamp,
    count: u64,
    bytes: u64,
    tails: Tails,
    tail_bytes: u64,
    tail_count: u64,
}

impl From<&ListedSession> for Objects {
    fn from(listed: &ListedSession) -> Self {
        Self {
            newest: listed.newest,
            count: listed.objects,
            bytes: listed.bytes,
            tails: listed.tails.clone(),
            ..Self::default()
        }
    }
}

impl From<&[Listed]> for Objects {
    fn from(listed: &[Listed]) -> Self {
        let mut objects = Self::default();
        for object in listed {
            if let Name::Event(_) = object.name {
                continue;
            }
            objects.newest = objects.newest.max(object.modified);
            objects.count += 1;
            objects.bytes += object.size;
            if let Name::Tail(from) = object.name {
                objects.tails.insert(from, from.saturating_add(object.size));
                objects.tail_count += 1;
                objects.tail_bytes += object.size;
            }
        }
        objects
    }
}

/// What is told of the session `id`, of which `objects` were listed and of which the record was read after that.
pub(super) fn overview(
    id: SessionId,
    store: String,
    objects: &Objects,
    record: Result<Option<&Stored>, &Error>,
    rules: Option<&Rules>,
    now: Timestamp,
) -> Overview {
    let (phase, problem) = match &record {
        Ok(Some(stored)) => (Standing::of(&stored.record.phase), None),
        Ok(None) => (Standing::Orphaned, None),
        Err(error @ Error::Newer(_)) => (Standing::Newer, Some(error.to_string())),
        Err(error) => (Standing::Unreadable, Some(error.to_string())),
    };
    let stored = record.ok().flatten();
    let record = stored.map(|stored| &stored.record);
    let newest = objects
        .newest
        .max(stored.map(|stored| stored.modified).unwrap_or_default());
    Overview {
        id,
        store,
        phase,
        outcome: record.and_then(outcome),
        route: record.map(|record| record.target.route.clone()),
        key: record.map(|record| record.target.key.clone()),
        principal: record.map(|record| record.principal.as_str().to_owned()),
        total: record.and_then(|record| record.total),
        next: record.and_then(|record| {
            let session = Session {
                record: record.clone(),
                tails: objects.tails.clone(),
            };
            session.next()
        }),
        sha256: record.and_then(|record| record.sha256),
        objects: objects.count,
        bytes: objects.bytes,
        created: record.map(|record| record.created.to_string()),
        progress: newest.to_string(),
        silent_seconds: now.since(newest).as_secs(),
        expires: stored
            .zip(rules)
            .map(|(stored, rules)| expiry(stored, rules, newest).to_string()),
        problem,
    }
}

const fn outcome(record: &Record) -> Option<Outcome> {
    match &record.phase {
        Phase::Closed { outcome, .. } => Some(*outcome),
        Phase::Open(_)
        | Phase::Expiring(_)
        | Phase::Publishing { .. }
        | Phase::Published { .. }
        | Phase::Sealed { .. }
        | Phase::Told { .. } => None,
    }
}

/// From when on a sweep takes the next step; the rules of the sweep, for people.
fn expiry(stored: &Stored, rules: &Rules, newest: Timestamp) -> Timestamp {
    match stored.record.phase {
        Phase::Open(_)
        | Phase::Publishing { .. }
        | Phase::Published { .. }
        | Phase::Sealed { .. }
        | Phase::Told { .. } => newest.plus(rules.session_timeout),
        Phase::Expiring(_) => stored.modified.plus(Limits::EXPIRING_LASTS),
        Phase::Closed { .. } => stored.modified.plus(rules.closed_session_memory),
    }
}

/// What the record says beyond an overview.
pub(super) fn more(stored: &Stored, objects: &Objects) -> More {
    let record = &stored.record;
    let staged = record.staged();
    More {
        url: record.url.clone(),
        part_size: record.part_size,
        max_upload_size: record.max_upload_size,
        overwrite: record.overwrite,
        before: record.before.clone(),
        parts: staged.map_or(0, |staged| staged.count() as u64),
        recorded: staged.map_or(0, |staged| staged.end()),
        tails: objects.tail_count,
        tail_bytes: objects.tail_bytes,
        upload: record.upload().cloned(),
        record_modified: stored.modified.to_string(),
        record_written: record.written.to_string(),
        format: record.version,
        min_reader: record.min_reader,
        unknown_fields: record.unknown.keys().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_called_in_a_filter_as_it_is_in_a_list() {
        for standing in Standing::ALL {
            let listed = serde_json::to_value(standing).unwrap();
            assert_eq!(listed, standing.as_str());
            assert_eq!(standing.as_str().parse(), Ok(standing));
        }
        assert!("half".parse::<Standing>().unwrap_err().contains("orphaned"));
    }
}
