//! What must hold after every step, told from the plain bytes of the files and from what is done to the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bits_gateway::bits::{ContentRange, SessionId};
use bits_gateway::session::{Before, Outcome, Phase, Record, Session, Staged};
use bits_gateway::staging::Sha256;
use bits_gateway::store::Store;
use bits_gateway::upload::{Checksum, Durability, Fragmented, Refused, Rules};
use futures::future::FutureExt;

use crate::depot::{Change, Habit, RESERVED, Time};
use crate::line::Lines;

/// A file that somebody uploads.
#[derive(Clone, Debug)]
pub struct File {
    pub key: String,
    pub data: Arc<Vec<u8>>,
}

/// What the oracle knows of a session.
#[derive(Debug)]
pub struct Facts {
    pub file: usize,
    /// The tag of what lay at the destination when it was created.
    before: Option<String>,
    /// The highest offset that any answer told.
    pub told: u64,
    /// The last byte was sent at least once.
    pub sent_last: bool,
    /// Its client meant to end it.
    pub was_ended: bool,
    /// Somebody else changed the destination.
    pub was_displaced: bool,
    /// The store ended its multipart upload when it held so many parts.
    pub lost_upload: Option<usize>,
    /// A part that was stored twice is known by another name.
    has_renamed_part: bool,
    pub published: u32,
    /// Its file was taken away or replaced.
    was_taken: bool,
    marked: Option<Duration>,
    /// When its record said that its file is being published.
    publishing: Option<Duration>,
    phase: &'static str,
    closed: Option<(Outcome, Duration)>,
    end: u64,
    progressed: Duration,
    verified: usize,
}

impl Facts {
    /// Whether the session may be given up though its client did not mean it.
    fn may_be_lost(&self, overwrite: bool, ends_uploads: bool) -> bool {
        // Where uploads end by themselves, nobody can tell one that did from a file that was taken before its mark.
        let nobody_can_tell = ends_uploads && self.published > 0 && self.was_taken && self.marked.is_none();
        (self.was_displaced && overwrite) || self.lost_upload.is_some() || self.has_renamed_part || nobody_can_tell
    }
}

/// No Cancel ends a session sooner after its record said that its file is being published.
const SETTLES: Duration = Duration::from_secs(15 * 60);

/// A silent session has this long to stir, which is longer than any turn.
const STIRS: Duration = Duration::from_secs(3600);

/// Holds the world against what was promised.
#[derive(Debug)]
pub struct Oracle {
    lines: Arc<Lines>,
    truth: Store,
    overwrite: bool,
    session_timeout: Duration,
    /// No part but the last one of a file is shorter.
    shortest: u64,
    /// What is beyond the last part may be taken back (`durability = "part"`).
    is_forgetful: bool,
    /// The digest of every file is taken.
    is_digested: bool,
    pub files: Vec<File>,
    pub sessions: HashMap<SessionId, Facts>,
    shown: BTreeMap<String, Option<SessionId>>,
}

impl Oracle {
    pub fn new(lines: &Arc<Lines>, rules: &Rules) -> Self {
        Self {
            truth: lines.truth(),
            lines: Arc::clone(lines),
            overwrite: rules.overwrite,
            session_timeout: rules.session_timeout,
            shortest: rules.part_size,
            is_forgetful: rules.durability == Durability::Part,
            is_digested: rules.checksum != Checksum::Off,
            files: Vec::new(),
            sessions: HashMap::new(),
            shown: BTreeMap::new(),
        }
    }

    fn time(&self) -> &Time {
        &self.lines.depot.time
    }

    /// Looks at everything that was done to the store since the last time.
    pub fn check(&mut self) {
        if let Some(wrong) = self.lines.state().wrong.take() {
            panic!("{wrong}");
        }
        let changes = std::mem::take(&mut self.lines.depot.state().changes);
        let mut touched = Vec::new();
        for change in changes {
            match change {
                Change::Session(id) => {
                    if !self.sessions.contains_key(&id) {
                        self.check_session(id);
                    } else if !touched.contains(&id) {
                        touched.push(id);
                    }
                }
                Change::Tail(id, from, bytes) => self.tail_created(id, from, &bytes),
                Change::Written {
                    key,
                    by,
                    bytes,
                    replaced,
                    assembled,
                } => self.written(&key, by, &bytes, replaced, assembled),
                Change::Removed { key } => self.removed(&key),
                Change::PartRenamed(id) => {
                    if let Some(facts) = self.sessions.get_mut(&id) {
                        facts.has_renamed_part = true;
                    }
                }
                Change::Aborted(upload) => {
                    for (id, facts) in &self.sessions {
                        if facts.closed.is_none() && self.names_upload(*id, &upload) {
                            panic!("the upload of a live session was aborted");
                        }
                    }
                }
                Change::Forbidden(what) => panic!("{what}"),
            }
        }
        for id in touched {
            self.check_session(id);
        }
    }

    /// Whether the record of a session that has not ended names this upload.
    pub fn names_upload(&self, id: SessionId, upload: &bits_gateway::staging::UploadId) -> bool {
        let stored = self.truth.read_record(id).now_or_never().unwrap().unwrap();
        stored.is_some_and(|stored| stored.record.upload() == Some(upload) && stored.record.phase.name() != "closed")
    }

    fn tail_created(&self, id: SessionId, from: u64, bytes: &[u8]) {
        let Some(facts) = self.sessions.get(&id) else { return };
        let data = &self.files[facts.file].data;
        let (from, to) = (from as usize, from as usize + bytes.len());
        assert!(!bytes.is_empty(), "an empty tail takes the place of the next one");
        assert!(to < data.len(), "a tail holds the last byte");
        assert_eq!(bytes, &data[from..to], "a tail of other bytes");
    }

    fn written(&mut self, key: &str, by: Option<SessionId>, bytes: &[u8], replaced: Option<String>, assembled: bool) {
        let shown = self.shown.insert(key.to_owned(), by).flatten();
        let now = self.time().passed();
        for (id, facts) in &mut self.sessions {
            if Some(*id) == by || self.files[facts.file].key != key {
                continue;
            }
            facts.was_displaced = true;
            facts.was_taken |= shown == Some(*id);
        }
        let Some(id) = by else { return };
        let tag = self.lines.depot.shown(key).map(|(_, tag)| tag);
        let looked = self.lines.state().published_on;
        let phase = self.truth.read_record(id).now_or_never().unwrap().unwrap();
        let facts = self
            .sessions
            .get_mut(&id)
            .expect("published by a session that was never created");
        let data = &self.files[facts.file].data;
        assert_eq!(bytes, &data[..], "published something else than the file");
        assert!(facts.sent_last, "published before the last byte was sent");
        assert_eq!(
            replaced, facts.before,
            "published over something else than what lay there when the session began"
        );
        if assembled {
            let phase = phase.map_or("gone", |stored| stored.record.phase.name());
            assert!(
                !matches!(phase, "open" | "expiring"),
                "completed while the record says {phase}"
            );
        }
        if let Some((outcome, since)) = facts.closed {
            let late = now - since;
            assert!(
                outcome == Outcome::Completed || late < Duration::from_secs(30 * 60),
                "published {late:?} after the session ended"
            );
        }
        if facts.published > 0 && tag != replaced {
            let before_mark = facts
                .marked
                .is_none_or(|marked| looked.is_none_or(|looked| looked <= marked));
            assert!(facts.was_taken && before_mark, "published a second time");
        }
        facts.published += 1;
        facts.was_taken = false;
    }

    fn removed(&mut self, key: &str) {
        let shown = self.shown.insert(key.to_owned(), None).flatten();
        for (id, facts) in &mut self.sessions {
            if self.files[facts.file].key == key {
                facts.was_displaced |= facts.before.is_some() || facts.published > 0;
                facts.was_taken |= shown == Some(*id);
            }
        }
    }

    /// The state of one session, as a fresh replica finds it.
    fn check_session(&mut self, id: SessionId) {
        let loaded = self.truth.load(id).now_or_never().expect("no line to wait for");
        let Some(loaded) = loaded.expect("a record that can be read") else {
            if let Some(facts) = self.sessions.get(&id) {
                assert!(facts.closed.is_some(), "the record of a live session is gone");
            }
            return;
        };
        let now = self.time().passed();
        let session = Session {
            record: loaded.stored.record,
            tails: loaded.tails,
        };
        let record = &session.record;
        if !self.sessions.contains_key(&id) {
            self.begun(id, &session, now);
        }
        let total = {
            let facts = &self.sessions[&id];
            self.files[facts.file].data.len() as u64
        };
        if let Some(known) = record.total {
            assert_eq!(known, total, "the total of another file");
        }
        if let Some(staged) = record.staged() {
            self.verify(id, staged);
            let cuts = staged.cuts.iter().flat_map(|cuts| &cuts.claims);
            for &cut in cuts.chain(staged.cuts.as_ref().map(|_| staged.end()).as_ref()) {
                for (from, to) in session.tails.within(0, u64::MAX) {
                    assert!(
                        from >= cut || to <= cut,
                        "a part ends at {cut}, within the tail {from}..{to}"
                    );
                }
            }
        }
        self.check_digest(id, record);
        let overwrite = self.overwrite;
        let ends_uploads = self.lines.depot.multipart_lifetime.is_some();
        let session_timeout = self.session_timeout;
        let facts = self.sessions.get_mut(&id).expect("noted above");
        let (was, is) = (facts.phase, record.phase.name());
        facts.phase = is;
        if facts.closed.is_some() {
            assert_eq!(is, "closed", "a tombstone came back to life");
            return;
        }
        let end = session.end();
        if end > facts.end && is != "closed" {
            facts.end = end;
            facts.progressed = now;
        }
        match &record.phase {
            Phase::Open(_) | Phase::Expiring(_) => {
                assert!(
                    !matches!(was, "publishing" | "published"),
                    "a session that was {was} is {is}"
                );
                let promised = if self.is_forgetful { 0 } else { facts.told };
                assert!(end >= promised, "{} was told, only {end} is stored", facts.told);
                assert!(
                    facts.told < total.max(1) || total == 0,
                    "the whole file was acknowledged, the record says {is}"
                );
            }
            Phase::Publishing { staged, .. } => {
                assert_ne!(was, "published");
                facts.publishing.get_or_insert(now);
                assert_eq!(staged.end(), total, "publishing less than the file");
                assert!(
                    facts.told < total,
                    "the whole file was acknowledged, the record says {is}"
                );
            }
            Phase::Sealed { .. } | Phase::Told { .. } => panic!("there is no application"),
            Phase::Published { tag } => {
                assert_eq!(tag.size, total, "published another size");
                assert!(facts.published > 0, "marked as published, but it never was");
                facts.marked.get_or_insert(now);
            }
            Phase::Closed { outcome, .. } => {
                let is_just = match outcome {
                    Outcome::Completed => facts.published > 0,
                    // A turn may be about to publish, unless something else lies there by now.
                    Outcome::Cancelled => {
                        let has_settled = facts.publishing.is_none_or(|since| now - since >= SETTLES);
                        facts.was_ended && (has_settled || facts.was_displaced)
                    }
                    Outcome::Expired => now - facts.progressed >= session_timeout,
                    Outcome::Lost => facts.may_be_lost(overwrite, ends_uploads),
                };
                assert!(is_just, "the session ended as {outcome:?} without a reason: {facts:?}");
                facts.closed = Some((*outcome, now));
            }
        }
    }

    /// The digest is that of the bytes that are recorded, and of the whole file as soon as that is there: no crash and no change of replica
    /// costs it.
    fn check_digest(&self, id: SessionId, record: &Record) {
        let data = &self.files[self.sessions[&id].file].data;
        if let Some(hashed) = &record.hashed {
            assert_eq!(
                Some(hashed.at()),
                record.staged().map(Staged::end),
                "the digest of other parts"
            );
            let hasher = hashed.hasher().expect("a state that was written by this program");
            assert_eq!(
                hasher.finish(),
                Sha256::of(&data[..hashed.at() as usize]),
                "the digest of other bytes"
            );
        }
        let is_known = match record.phase {
            Phase::Open(_) | Phase::Expiring(_) => {
                assert_eq!(record.hashed.is_some(), self.is_digested, "the digest was given up");
                false
            }
            Phase::Publishing { .. } | Phase::Published { .. } => true,
            Phase::Closed { outcome, .. } => outcome == Outcome::Completed,
            Phase::Sealed { .. } | Phase::Told { .. } => false,
        };
        if is_known || record.sha256.is_some() {
            let wanted = self.is_digested.then(|| Sha256::of(data));
            assert_eq!(record.sha256, wanted, "the digest of another file");
        }
    }

    fn begun(&mut self, id: SessionId, session: &Session, now: Duration) {
        let record = &session.record;
        let (_, file) = record.url.rsplit_once('=').expect("the number of the file");
        let file = file.parse().expect("a number");
        let before = match &record.before {
            Before::Absent => None,
            Before::Present(tag) => tag.etag.clone(),
        };
        let there = self.lines.depot.shown(&record.target.key).map(|(_, tag)| tag);
        let facts = Facts {
            file,
            was_displaced: there != before,
            before,
            told: 0,
            sent_last: false,
            was_ended: false,
            lost_upload: None,
            has_renamed_part: false,
            published: 0,
            was_taken: false,
            marked: None,
            publishing: None,
            phase: "open",
            closed: None,
            end: 0,
            progressed: now,
            verified: 0,
        };
        self.sessions.insert(id, facts);
    }

    /// The parts that a record lists are there, and hold the bytes of the file.
    fn verify(&mut self, id: SessionId, staged: &Staged) {
        let habit = self.lines.depot.habit;
        let state = self.lines.depot.state();
        let facts = self.sessions.get_mut(&id).expect("noted before");
        let data = &self.files[facts.file].data;
        let mut parts = Vec::new();
        if let Some(held) = facts.lost_upload {
            assert!(staged.count() <= held, "a part counts that nobody stored");
        }
        if staged.count() == facts.verified || facts.lost_upload.is_some() || facts.published > 0 {
            return;
        }
        for page in &staged.pages {
            let path = format!("{RESERVED}sessions/{}/parts/{}", id.as_key(), page.0);
            let page = state.objects.get(&path).expect("a page that the record names is gone");
            let page: Vec<bits_gateway::staging::RecordedPart> = serde_json::from_slice(&page.bytes).unwrap();
            parts.extend(page);
        }
        parts.extend(staged.parts.iter().cloned());
        let upload = state
            .uploads
            .iter()
            .find(|found| Some(&found.id) == staged.upload.as_ref());
        let upload = upload.expect("the upload that the record names is gone");
        let mut from = 0;
        for (index, part) in (0..).zip(&parts) {
            let found = upload.part(self.lines.depot.cutting, index, part.id());
            let (name, bytes) = found.expect("a recorded part is not there");
            assert!(
                name == part.id() || habit == Habit::FreshPartIds,
                "a recorded part was changed"
            );
            let to = part.end() as usize;
            assert!(to <= data.len(), "a part beyond the end of the file");
            assert_eq!(bytes[..], data[from..to], "a part of other bytes");
            let is_long_enough = to - from >= self.shortest as usize || to == data.len();
            assert!(is_long_enough, "a part of {} bytes is too short", to - from);
            from = to;
        }
        facts.verified = parts.len();
    }

    /// Holds an answer to a fragment against all that was promised. `told` was known when the fragment was `sent`.
    pub fn judge(&mut self, id: SessionId, range: ContentRange, told: u64, sent: Duration, answer: &Fragmented) {
        self.check();
        let overwrite = self.overwrite;
        let ends_uploads = self.lines.depot.multipart_lifetime.is_some();
        let is_recent = self.time().passed() - sent < STIRS;
        let facts = self.sessions.get_mut(&id).expect("a session that was created");
        let told = if self.is_forgetful { 0 } else { told };
        let Fragmented { next, verdict, .. } = answer;
        let total = self.files[facts.file].data.len() as u64;
        if range.total() != total {
            let fine = matches!(
                verdict,
                Err(Refused::InvalidArgument(_) | Refused::Busy { .. } | Refused::SessionNotFound)
            );
            assert!(fine, "a fragment with another total: {answer:?}");
            return;
        }
        let is_closed = facts.closed.is_some();
        if let Some(next) = *next {
            assert!(next <= total, "{next} is beyond the file");
            assert!(next >= told || verdict.is_ok(), "{told} was told, now {next}");
            let is_nowhere = is_closed && facts.published == 0;
            assert!(
                next < total || total == 0 || !is_nowhere,
                "the end was told, and the session had ended without a file"
            );
        }
        match verdict {
            Ok(()) => {
                let next = next.expect("an offset in every 200");
                assert!(next >= range.end(), "a fragment was taken, but not whole");
                let has_expired = matches!(facts.closed, Some((Outcome::Expired, _)));
                assert!(
                    !(has_expired && is_recent && facts.published == 0),
                    "a fragment was taken, and its session ended as a silent one"
                );
                // A replica whose view is stale takes what follows its own end without a look: to a client that goes back further
                // than it was told, it may tell less than another one did. What was told stays stored all the same.
                assert!(next >= told || range.first() < told, "{told} was told, now {next}");
            }
            Err(Refused::OutOfStep) => {
                let next = next.expect("an offset in every 416");
                assert!(next < range.end(), "a fragment that is stored was refused");
            }
            Err(Refused::Busy { .. } | Refused::Body(_)) => {}
            Err(Refused::Exists) => assert!(facts.was_displaced && !overwrite, "nobody else's file is there"),
            Err(Refused::Lost(_)) => assert!(facts.may_be_lost(overwrite, ends_uploads), "nothing was lost"),
            Err(Refused::SessionNotFound) => assert!(is_closed, "the session is lost"),
            Err(other) => panic!("{other:?}"),
        }
        if let Some(next) = *next
            && !is_closed
        {
            if next == total && total > 0 {
                let is_marked = facts.marked.is_some();
                assert!(
                    is_marked,
                    "the end was told, and the record does not say that the file is published"
                );
            }
            facts.told = facts.told.max(next);
            if !matches!(facts.phase, "published" | "closed") {
                self.check_session(id);
            }
        }
    }

    /// Whether anything ever lay at `key`.
    pub fn was_shown(&self, key: &str) -> bool {
        self.shown.contains_key(key)
    }

    /// After everything: nothing staged is left.
    pub fn check_nothing_left(&self) {
        let state = self.lines.depot.state();
        let below = format!("{RESERVED}sessions/");
        let left: Vec<_> = state.objects.keys().filter(|name| name.starts_with(&below)).collect();
        assert!(left.is_empty(), "left for ever: {left:?}");
        let uploads: Vec<_> = state.uploads.iter().map(|upload| &upload.id).collect();
        assert!(uploads.is_empty(), "uploads left for ever: {uploads:?}");
    }

    /// The phase that the record of a session is in.
    pub fn phase(&self, id: SessionId) -> &'static str {
        self.sessions.get(&id).map_or("none", |facts| facts.phase)
    }
}
