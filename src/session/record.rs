//! A session as the bucket knows it: the stored record.
//!
//! Strict in nothing: unknown fields of a newer version are kept through a rewrite, and only `min_reader` refuses. What is kept are
//! fields of [`Record`] itself: a version that adds one further inside, or a phase, raises `min_reader`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::staging::{RecordedPart, UploadId};

/// The version of the record's format that this program writes.
pub const RECORD_VERSION: u32 = 1;

/// Who a client is. On routes without authentication everybody is [`Principal::anonymous`].
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(String);

impl Principal {
    /// The one principal of routes that ask nobody for a name.
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// The principal with this canonical name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The canonical name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client asked for: the route, the decoded key below the route's store prefix, the raw query.
/// Every packet of a session must name the same target; scheme, host and port don't count.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The path prefix of the route, as configured.
    pub route: String,
    /// The destination key below the prefix of the route's store, decoded and checked.
    pub key: String,
    /// The raw query of the request, without the question mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// What a store says an object is: enough to make a write conditional on it still being that.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ObjectTag {
    /// ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Version or generation, where the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// What the destination was when the session was created. Publication is conditional on it for ever.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// There was nothing.
    Absent,
    /// There was this object, and the route allows to replace it.
    Present(ObjectTag),
}

/// A full page of part ids, written once under a name of its own and then named here.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PageName(pub String);

/// What is staged: the multipart upload and the parts that count.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    /// The multipart upload, once one has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadId>,
    /// Full pages, oldest first, [`PAGE_PARTS`] parts each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageName>,
    /// The offset at which the last full page ends.
    #[serde(default)]
    pub paged: u64,
    /// The open page: the parts after the full pages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<RecordedPart>,
}

/// Parts in a full page.
pub const PAGE_PARTS: usize = 200;

/// How a session ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Published, then closed.
    Completed,
    /// Cancelled, or closed before its last byte.
    Cancelled,
    /// Silent for longer than the session time-out.
    Expired,
    /// Given up because the store or somebody else took away what it stands on.
    Lost,
}

/// Where a session stands. What belongs to one phase only does not exist in another.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Receiving fragments (MC-BUP 3.2.5.1.2, RECEIVE_FRAGMENTS).
    Open(Staged),
    /// Silent past its time-out: an hour later the sweep looks again.
    Expiring(Staged),
    /// All parts are in the store; the multipart upload is being completed.
    Publishing {
        /// All parts, the last one included.
        staged: Staged,
        /// What the published object will be known by, on stores that can tell beforehand
        /// (the local directory: inode and time of birth).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<String>,
    },
    /// The destination shows the file (MC-BUP 3.2.5.1.4, WAIT_FOR_CLOSE).
    Published {
        /// What the destination was right after publication.
        tag: ObjectTag,
    },
    /// A tombstone: nothing is kept but the outcome.
    Closed {
        /// How it ended.
        outcome: Outcome,
        /// The multipart upload that was given up: the sweep aborts it once more before it forgets the session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upload: Option<UploadId>,
    },
}

/// The stored record of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format in which it was written.
    pub version: u32,
    /// The oldest [`RECORD_VERSION`] that may read it.
    pub min_reader: u32,
    /// Random at every write: its author recognises his own lost write by it, and no content ever comes back.
    pub write: Uuid,
    /// The session.
    pub id: SessionId,
    /// Who created it.
    pub principal: Principal,
    /// Where it goes.
    pub target: Target,
    /// The URL of the Create-Session as the client sent it, absolute, for the server application and the log.
    pub url: String,
    /// Bytes of every part but the last; final once `total` is known.
    pub part_size: u64,
    /// The size limit of the route at Create-Session, in bytes.
    pub max_upload_size: u64,
    /// Whether the route allowed to replace an existing file at Create-Session.
    pub overwrite: bool,
    /// What the destination was at Create-Session.
    pub before: Before,
    /// The size of the whole file, once a fragment told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Where the session stands.
    pub phase: Phase,
    /// When it was created, by the clock of its creator: for people only.
    pub created: Timestamp,
    /// When this version was written, by the clock of its writer: for people only.
    pub written: Timestamp,
    /// Fields of newer versions, kept through a rewrite.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Staged {
    /// The offset at which the last recorded part ends.
    pub fn end(&self) -> u64 {
        self.parts.last().map_or(self.paged, RecordedPart::end)
    }

    /// How many parts are recorded, full pages included.
    pub fn count(&self) -> usize {
        self.pages.len() * PAGE_PARTS + self.parts.len()
    }

    /// The parts that fill a page, once there are as many: they are to be written as a page of their own.
    pub fn full_page(&self) -> Option<&[RecordedPart]> {
        self.parts.get(..PAGE_PARTS)
    }

    /// Replaces the parts of [`Staged::full_page`] by the name of the page that holds them now.
    pub fn turn_page(&mut self, name: PageName) {
        if let Some(last) = self.parts.get(PAGE_PARTS - 1) {
            self.paged = last.end();
            self.parts.drain(..PAGE_PARTS);
            self.pages.push(name);
        }
    }
}

impl Record {
    /// The record of a session that begins now.
    #[expect(
        clippy::too_many_arguments,
        reason = "a record is made in one place, and each of these is fixed there"
    )]
    pub fn begin(
        id: SessionId,
        principal: Principal,
        target: Target,
        url: String,
        part_size: u64,
        max_upload_size: u64,
        overwrite: bool,
        before: Before,
        now: Timestamp,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            min_reader: RECORD_VERSION,
            write: Uuid::nil(),
            id,
            principal,
            target,
            url,
            part_size,
            max_upload_size,
            overwrite,
            before,
            total: None,
            phase: Phase::Open(Staged::default()),
            created: now,
            written: now,
            unknown: Map::new(),
        }
    }

    /// The record as it is to be written: `write` is random, and never used before.
    #[must_use]
    pub fn stamped(mut self, write: Uuid, now: Timestamp) -> Self {
        self.write = write;
        self.written = now;
        self
    }

    /// The multipart upload that this record names.
    pub const fn upload(&self) -> Option<&UploadId> {
        match &self.phase {
            Phase::Open(staged) | Phase::Expiring(staged) | Phase::Publishing { staged, .. } => staged.upload.as_ref(),
            Phase::Closed { upload, .. } => upload.as_ref(),
            Phase::Published { .. } => None,
        }
    }

    /// What is staged, unless nothing is any more.
    pub const fn staged(&self) -> Option<&Staged> {
        match &self.phase {
            Phase::Open(staged) | Phase::Expiring(staged) | Phase::Publishing { staged, .. } => Some(staged),
            Phase::Published { .. } | Phase::Closed { .. } => None,
        }
    }
}

impl Phase {
    /// The name of the phase, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Expiring(_) => "expiring",
            Self::Publishing { .. } => "publishing",
            Self::Published { .. } => "published",
            Self::Closed { .. } => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of every version that was ever written, kept for ever.
    const VERSION_1: &str = include_str!("record-1.json");

    #[test]
    fn a_record_of_version_1_is_read_and_written_back_the_same() {
        let record: Record = serde_json::from_str(VERSION_1).unwrap();
        assert_eq!(record.staged().unwrap().end(), 2 * 8_388_608);
        let again: Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(VERSION_1).unwrap());
    }

    #[test]
    fn fields_of_a_newer_version_survive_a_rewrite() {
        let mut newer: Value = serde_json::from_str(VERSION_1).unwrap();
        newer["version"] = 2.into();
        newer["colour"] = "blue".into();
        let record: Record = serde_json::from_value(newer).unwrap();
        let again = serde_json::to_value(record.stamped(Uuid::nil(), Timestamp::from_millis(7))).unwrap();
        assert_eq!(
            (&again["colour"], &again["version"]),
            (&Value::from("blue"), &Value::from(2))
        );
    }

    #[test]
    fn the_largest_record_fits_into_16_kib() {
        let mut record: Record = serde_json::from_str(VERSION_1).unwrap();
        let part = |index: u64| {
            RecordedPart(
                crate::staging::PartId(format!("\"{index:032x}\"")),
                u64::MAX - 200 + index,
            )
        };
        record.phase = Phase::Publishing {
            staged: Staged {
                upload: Some(UploadId("u".repeat(200))),
                pages: (0..50)
                    .map(|page| PageName(format!("{page}-{}", Uuid::nil())))
                    .collect(),
                paged: u64::MAX / 2,
                parts: (0..PAGE_PARTS as u64 - 1).map(part).collect(),
            },
            mark: Some("m".repeat(60)),
        };
        record.target.key = "k".repeat(700);
        record.url = format!("http://h/{}", "k".repeat(700));
        let length = serde_json::to_vec(&record).unwrap().len();
        assert!(length <= 16 * 1024 + 2 * 1024, "{length} bytes");
    }
}
