//! A session as the bucket knows it: the stored record.
//!
//! Strict in nothing: unknown fields of a newer version are kept through a rewrite, and only `min_reader` refuses. What is kept are
//! fields of [`Record`] itself: a version that adds one further inside, or a phase, raises `min_reader`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Announced;
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::staging::{Cuts, Hashed, PartRange, RecordedPart, Sha256, UploadId};

/// The version of the record's format that this program writes.
///
/// 2 brought sessions whose file goes to a server application. To a reader of version 1 their parts would be those of the destination,
/// so they say that it must not read them; all others may still be read by it. 3 brought parts of unequal length, which an older reader would
/// put others over: a session that has them, and only such a one, is kept from it.
pub const RECORD_VERSION: u32 = 3;

/// The oldest version that may read a session whose file goes straight to its destination.
const PLAIN_READER: u32 = 1;

/// The oldest version that knows what to do with a session of a server application.
const APPLICATION_READER: u32 = 2;

/// The oldest version that keeps to claims, and to parts as long as the first fragment wants them.
const CUTS_READER: u32 = 3;

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
/// Every packet of a session must name the same target; scheme, host and port don't count beyond the route that they lead to.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The name of the route: its path prefix as configured, after its host where it is bound to one.
    pub route: String,
    /// The destination key below the prefix of the route's store, decoded and checked.
    pub key: String,
    /// The raw query of the request, without the question mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Target {
    /// Whether the two have the same path and query, and lead to the routes of two hosts.
    pub fn differs_by_host(&self, other: &Self) -> bool {
        self.route != other.route && self.path() == other.path() && self.key == other.key && self.query == other.query
    }

    /// The path prefix of the route: every path begins with a slash, and no host has one.
    fn path(&self) -> Option<&str> {
        self.route.split_once('/').map(|(_, path)| path)
    }
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
    /// How the parts are cut, where they are of unequal length. Settled together with the multipart upload, which nobody put a part into before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<Cuts>,
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

/// What a server application said that it is not asked again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It took the file.
    Accepted {
        /// What the client gets from it.
        reply: Reply,
        /// Whether the file goes to its destination as well (MC-BUP 2.2.13.2).
        copy: Delivery,
    },
    /// 403: the one refusal that is final (win32 documentation, handling server application errors).
    Forbidden,
}

/// What a server application has for the client (MC-BUP 3.3.5.2.4, 3.3.5.2.6).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Nothing.
    Nothing,
    /// An object of the session.
    Stored {
        /// Its name: one for each time that the application was told, so that no late answer replaces what the client reads.
        name: ReplyName,
        /// What it is.
        tag: ObjectTag,
    },
    /// Something that is ready at this absolute URL and stays there.
    Elsewhere {
        /// As the application wrote it.
        url: String,
    },
}

/// The name of a reply among the objects of its session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplyName(pub Uuid);

/// Whether the file of a server application goes to its destination as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It does not.
    Unwanted,
    /// It is to be copied.
    Wanted,
    /// It was copied.
    Done,
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
    /// The file is whole and an object of the session; the server application is to be told of it (MC-BUP 3.2.5.1.3, NOTIFY).
    /// The name is ours.
    Sealed {
        /// What the object is.
        tag: ObjectTag,
    },
    /// The server application has said what holds from now on (MC-BUP 3.2.5.1.4, WAIT_FOR_CLOSE; 3.2.1.4, NotifyCache).
    Told {
        /// What the file of the session is.
        tag: ObjectTag,
        /// What it said.
        verdict: Verdict,
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
    /// Whether the route had a server application at Create-Session: the file is an object of the session then, whatever the route
    /// says by the time that it is whole.
    #[serde(default, skip_serializing_if = "is_not")]
    pub application: bool,
    /// What the destination was at Create-Session.
    pub before: Before,
    /// The size of the whole file, once a fragment told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How far the SHA-256 of the file has come: as far as its recorded parts. Only while a digest is wanted and can still be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashed: Option<Hashed>,
    /// The SHA-256 of the whole file, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Where the session stands.
    pub phase: Phase,
    /// What is announced of it, on routes that tell somebody of their sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Announced>,
    /// When it was created, by the clock of its creator: for people only.
    pub created: Timestamp,
    /// When this version was written, by the clock of its writer: for people only.
    pub written: Timestamp,
    /// Fields of newer versions, kept through a rewrite.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a record says of a part that somebody wants to put.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It is claimed: whoever puts it puts the same bytes.
    Made,
    /// It would be the next one to claim.
    Open,
    /// Its bytes are recorded already.
    Passed,
    /// Other parts are claimed there.
    Other,
}

impl Staged {
    /// The offset at which the last recorded part ends.
    pub fn end(&self) -> u64 {
        self.parts.last().map_or(self.paged, RecordedPart::end)
    }

    /// What the record says of a part: nothing that could come up to it counts but the part itself.
    pub fn claim_on(&self, part: PartRange) -> Claim {
        let (end, count) = (self.end(), self.count() as u64);
        let Some(cuts) = &self.cuts else { return Claim::Other };
        if part.to <= end {
            return Claim::Passed;
        }
        let mut from = end;
        for (index, &to) in (count..).zip(&cuts.claims) {
            if (u64::from(part.index), part.from, part.to) == (index, from, to) {
                return Claim::Made;
            }
            from = to;
        }
        if part.from == from && u64::from(part.index) == count + cuts.claims.len() as u64 {
            Claim::Open
        } else {
            Claim::Other
        }
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
            min_reader: PLAIN_READER,
            write: Uuid::nil(),
            id,
            principal,
            target,
            url,
            part_size,
            max_upload_size,
            overwrite,
            application: false,
            before,
            total: None,
            hashed: None,
            sha256: None,
            phase: Phase::Open(Staged::default()),
            events: None,
            created: now,
            written: now,
            unknown: Map::new(),
        }
    }

    /// The same session, but its file goes to a server application.
    #[must_use]
    pub fn for_application(mut self) -> Self {
        self.application = true;
        self.min_reader = APPLICATION_READER;
        self
    }

    /// The same session, in parts of this length. Where an older reader would take another one, it must not read it: it could have put its parts
    /// into an upload of its own already, and would record those.
    #[must_use]
    pub fn with_parts_of(mut self, part_size: u64) -> Self {
        if self.part_size != part_size {
            self.part_size = part_size;
            self.kept_for(CUTS_READER)
        } else {
            self
        }
    }

    /// The same session, which no older version may read than this.
    fn kept_for(mut self, version: u32) -> Self {
        self.version = self.version.max(version);
        self.min_reader = self.min_reader.max(version);
        self
    }

    /// The same session, but the SHA-256 of its file is taken.
    #[must_use]
    pub fn with_digest(mut self) -> Self {
        self.hashed = Some(Hashed::nothing());
        self
    }

    /// How far the digest has come, if it covers just what `staged` lists. It falls behind when a version that does not know it records parts.
    pub fn hashed_to(&self, staged: &Staged) -> Option<&Hashed> {
        self.hashed.as_ref().filter(|hashed| hashed.at() == staged.end())
    }

    /// What has to be true of where the file is put together: nobody else puts anything at the place of a session's own.
    pub const fn condition(&self) -> &Before {
        if self.application {
            &Before::Absent
        } else {
            &self.before
        }
    }

    /// The reply that the session keeps for its client.
    pub const fn stored_reply(&self) -> Option<(ReplyName, &ObjectTag)> {
        match &self.phase {
            Phase::Told {
                verdict:
                    Verdict::Accepted {
                        reply: Reply::Stored { name, tag },
                        ..
                    },
                ..
            } => Some((*name, tag)),
            _ => None,
        }
    }

    /// The record as it is to be written: `write` is random, and never used before.
    #[must_use]
    pub fn stamped(mut self, write: Uuid, now: Timestamp) -> Self {
        self.write = write;
        self.written = now;
        if self.staged().is_some_and(|staged| staged.cuts.is_some()) {
            self = self.kept_for(CUTS_READER);
        }
        self.noting_end(now)
    }

    /// The same record, with the parts claimed that end at `ends` after the recorded ones. `None` when it claims others already, when it has parts
    /// that are all alike, or when nothing is staged any more.
    #[must_use]
    pub fn claiming(&self, ends: &[u64]) -> Option<Self> {
        let (Phase::Open(staged) | Phase::Expiring(staged)) = &self.phase else {
            return None;
        };
        let mut staged = staged.clone();
        let recorded = staged.end();
        let cuts = staged.cuts.as_mut()?;
        if !ends.starts_with(&cuts.claims) || ends.first().is_some_and(|first| *first <= recorded) {
            return None;
        }
        ends.clone_into(&mut cuts.claims);
        // What claims a part is about to store bytes: that revives the session.
        Some(Self {
            phase: Phase::Open(staged),
            ..self.clone()
        })
    }

    /// The multipart upload that this record names.
    pub const fn upload(&self) -> Option<&UploadId> {
        match &self.phase {
            Phase::Open(staged) | Phase::Expiring(staged) | Phase::Publishing { staged, .. } => staged.upload.as_ref(),
            Phase::Closed { upload, .. } => upload.as_ref(),
            Phase::Published { .. } | Phase::Sealed { .. } | Phase::Told { .. } => None,
        }
    }

    /// What is staged, unless nothing is any more.
    pub const fn staged(&self) -> Option<&Staged> {
        match &self.phase {
            Phase::Open(staged) | Phase::Expiring(staged) | Phase::Publishing { staged, .. } => Some(staged),
            Phase::Published { .. } | Phase::Sealed { .. } | Phase::Told { .. } | Phase::Closed { .. } => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what `skip_serializing_if` calls")]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

impl Phase {
    /// The name of the phase, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Expiring(_) => "expiring",
            Self::Publishing { .. } => "publishing",
            Self::Published { .. } => "published",
            Self::Sealed { .. } => "sealed",
            Self::Told { .. } => "told",
            Self::Closed { .. } => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_two_hosts_are_told_from_other_ones() {
        let target = |route: &str, key: &str| Target {
            route: route.to_owned(),
            key: key.to_owned(),
            query: None,
        };
        let differ = |one, other| target(one, "f").differs_by_host(&target(other, "f"));
        assert!(differ("/up/", "h/up/"));
        assert!(differ("i/up/", "h/up/"));
        assert!(!differ("h/up/", "h/up/"));
        assert!(!differ("/up/", "/down/"));
        assert!(!differ("h/up/", "i/"));
        assert!(!target("/up/", "f").differs_by_host(&target("h/up/", "g")));
    }
    use crate::staging::{Cutting, MAX_CLAIMS};

    /// A record of every version that was ever written, kept for ever.
    const VERSION_1: &str = include_str!("record-1.json");
    const VERSION_2: &str = include_str!("record-2.json");
    const VERSION_3: &str = include_str!("record-3.json");

    #[test]
    fn a_record_of_version_1_is_read_and_written_back_the_same() {
        let record: Record = serde_json::from_str(VERSION_1).unwrap();
        assert_eq!(record.staged().unwrap().end(), 2 * 8_388_608);
        let again: Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(VERSION_1).unwrap());
    }

    #[test]
    fn a_record_of_version_2_is_read_and_written_back_the_same() {
        let record: Record = serde_json::from_str(VERSION_2).unwrap();
        assert!(record.application && record.stored_reply().is_some());
        let again: Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(VERSION_2).unwrap());
    }

    #[test]
    fn a_record_of_version_3_is_read_and_written_back_the_same() {
        let record: Record = serde_json::from_str(VERSION_3).unwrap();
        let cuts = record.staged().unwrap().cuts.clone().unwrap();
        assert_eq!((record.min_reader, cuts.claims.len()), (3, 2));
        let again: Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(VERSION_3).unwrap());
    }

    /// An older reader would put equal parts over those that others have claimed.
    #[test]
    fn a_session_is_kept_from_older_readers_from_its_first_unequal_part_on() {
        let mut record: Record = serde_json::from_str(VERSION_1).unwrap();
        record = record.stamped(Uuid::nil(), Timestamp::default());
        assert_eq!((record.version, record.min_reader), (1, 1));
        let Phase::Open(staged) = &mut record.phase else {
            panic!("it is open")
        };
        staged.cuts = Some(Cuts::new(Cutting::Claimed, 8 << 20, 1 << 30, u64::MAX));
        record = record.stamped(Uuid::nil(), Timestamp::default());
        assert_eq!((record.version, record.min_reader), (3, 3));
    }

    #[test]
    fn claims_are_only_ever_added() {
        let record: Record = serde_json::from_str(VERSION_3).unwrap();
        let staged = record.staged().unwrap();
        let (end, claims) = (staged.end(), staged.cuts.clone().unwrap().claims);
        let next = [claims[0], claims[1], claims[1] + 7];
        let more = record.claiming(&next).unwrap();
        assert_eq!(more.staged().unwrap().cuts.as_ref().unwrap().claims, next);
        assert_eq!(record.claiming(&[claims[0]]), None, "one was given up");
        assert_eq!(record.claiming(&[claims[0], claims[1] + 1]), None, "one was moved");
        let part = |index, from, to| PartRange { index, from, to };
        assert_eq!(staged.claim_on(part(2, end, claims[0])), Claim::Made);
        assert_eq!(staged.claim_on(part(3, claims[0], claims[1])), Claim::Made);
        assert_eq!(staged.claim_on(part(4, claims[1], claims[1] + 7)), Claim::Open);
        assert_eq!(staged.claim_on(part(1, end - 7, end)), Claim::Passed);
        assert_eq!(staged.claim_on(part(2, end, claims[1])), Claim::Other);
        assert_eq!(staged.claim_on(part(4, end, claims[0])), Claim::Other);
        let plain: Record = serde_json::from_str(VERSION_1).unwrap();
        assert_eq!(plain.claiming(&[u64::MAX]), None, "its parts are all alike");
    }

    /// A reader of version 1 would begin an upload to the destination, and publish what only the application is to see.
    #[test]
    fn only_sessions_of_a_server_application_are_kept_from_older_readers() {
        let plain = Record::begin(
            SessionId::new(Uuid::nil()),
            Principal::anonymous(),
            Target {
                route: "/".to_owned(),
                key: "f".to_owned(),
                query: None,
            },
            "http://h/f".to_owned(),
            1,
            1,
            false,
            Before::Absent,
            Timestamp::default(),
        );
        assert_eq!((plain.version, plain.min_reader), (3, 1));
        assert!(serde_json::to_value(&plain).unwrap().get("application").is_none());
        let told = plain.for_application();
        assert_eq!((told.version, told.min_reader), (3, 2));
    }

    #[test]
    fn fields_of_a_newer_version_survive_a_rewrite() {
        let mut newer: Value = serde_json::from_str(VERSION_1).unwrap();
        newer["version"] = 4.into();
        newer["colour"] = "blue".into();
        let record: Record = serde_json::from_value(newer).unwrap();
        let again = serde_json::to_value(record.stamped(Uuid::nil(), Timestamp::from_millis(7))).unwrap();
        assert_eq!(
            (&again["colour"], &again["version"]),
            (&Value::from("blue"), &Value::from(4))
        );
    }

    /// What a version before the digest leaves of it: it lists a part, and keeps the field as it found it.
    #[test]
    fn a_digest_that_another_version_left_behind_does_not_count() {
        let mut record: Record = serde_json::from_str(VERSION_1).unwrap();
        let end = record.staged().unwrap().end();
        let mut hasher = crate::staging::Hasher::default();
        hasher.update(&vec![7; usize::try_from(end).unwrap()]);
        record.hashed = Some(hasher.hashed());
        let mut staged = record.staged().unwrap().clone();
        assert_eq!(record.hashed_to(&staged), record.hashed.as_ref());
        staged
            .parts
            .push(RecordedPart(crate::staging::PartId("x".into()), end + 1));
        assert_eq!(record.hashed_to(&staged), None);
    }

    #[test]
    fn the_largest_record_fits_into_16_kib() {
        let mut record: Record = serde_json::from_str(VERSION_1).unwrap();
        let part = |index: u64| {
            RecordedPart(
                crate::staging::PartId(format!("\"{index:032x}\"").into()),
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
                cuts: Some(Cuts {
                    largest: u64::MAX,
                    claims: vec![u64::MAX; MAX_CLAIMS],
                }),
            },
            mark: Some("m".repeat(60)),
        };
        let mut hasher = crate::staging::Hasher::default();
        hasher.update(&[7; 70]);
        record.hashed = Some(hasher.hashed());
        record.sha256 = Some(hasher.finish());
        record.target.key = "k".repeat(700);
        record.url = format!("http://h/{}", "k".repeat(700));
        let length = serde_json::to_vec(&record).unwrap().len();
        assert!(length <= 16 * 1024 + 2 * 1024, "{length} bytes");
    }
}
