//! The store of a world: objects and multipart uploads in memory, with the habits of real stores, and everything that is done to it
//! noted for the oracle. One lock, no waiting: what makes requests slow, lost or late is the line in front of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bits_gateway::bits::SessionId;
use bits_gateway::clock::{Clock, Timestamp};
use bits_gateway::staging::{Cutting, PartId, UploadId};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectMeta, PutMode};

/// The time of a world: the clock of the runtime, which stands still while anything can go on.
#[derive(Debug)]
pub struct Time(tokio::time::Instant);

/// When every world begins: 2026-01-01.
const BEGIN: u64 = 1_767_225_600_000;

impl Time {
    pub fn begin() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// How long the world has lasted.
    pub fn passed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Lets time go by at once; what waits for a moment in between notices when it is over.
    pub async fn jump(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(BEGIN).plus(self.passed())
    }
}

/// The time of day as a replica has it: wrong by a day or so.
#[derive(Debug)]
pub struct SkewedClock {
    pub time: std::sync::Arc<Time>,
    pub skew: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.time.now().as_millis().saturating_add_signed(self.skew))
    }
}

/// What kind of store it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Habit {
    /// ETags are hashes of the content, parts are known by theirs.
    ContentTags,
    /// Every object and every part gets a new name, the same bytes too (S3 with SSE-KMS).
    FreshPartIds,
    /// At most one write a second to one object (Google: 429).
    WriteASecond,
}

/// What was done to the store.
#[derive(Clone, Debug)]
pub enum Change {
    /// Something of this session was created, changed or removed.
    Session(SessionId),
    /// A tail was created.
    Tail(SessionId, u64, Bytes),
    /// A file was written, by one of our sessions or by somebody else; what lay there before had this tag.
    Written {
        key: String,
        by: Option<SessionId>,
        bytes: Bytes,
        replaced: Option<String>,
        assembled: bool,
    },
    /// A file was removed.
    Removed { key: String },
    /// A part was stored under an id other than the one that it had.
    PartRenamed(SessionId),
    /// An upload went without being completed.
    Aborted(UploadId),
    /// The gateway wrote or removed something that is none of its business.
    Forbidden(String),
}

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub tag: String,
    at: Timestamp,
    attributes: Attributes,
    /// Lists are in the order in which sessions, and their objects, came to be: names hold random ids, and a world has to repeat itself.
    place: (u64, u64),
}

#[derive(Clone, Debug)]
pub struct Multipart {
    pub id: UploadId,
    pub path: Path,
    pub session: SessionId,
    pub began: Timestamp,
    /// By their numbers, or where they have none, in the order in which they came.
    pub parts: BTreeMap<u32, (PartId, Bytes)>,
}

impl Multipart {
    /// The part of this number; where they have none, that of this name.
    pub fn part(&self, cutting: Cutting, index: u32, id: &PartId) -> Option<&(PartId, Bytes)> {
        match cutting {
            Cutting::Free => self.parts.values().find(|(name, _)| name == id),
            Cutting::Alike | Cutting::Claimed => self.parts.get(&index),
        }
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub objects: BTreeMap<String, Object>,
    pub uploads: Vec<Multipart>,
    pub changes: Vec<Change>,
    pub throttled: u64,
    groups: HashMap<String, u64>,
    counter: u64,
}

/// The store.
#[derive(Debug)]
pub struct Depot {
    pub time: std::sync::Arc<Time>,
    pub habit: Habit,
    /// What parts it takes.
    pub cutting: Cutting,
    /// Every other process is told that it takes equal ones only.
    pub at_odds: bool,
    /// After how long it ends unfinished uploads by itself, as it says of itself.
    pub multipart_lifetime: Option<Duration>,
    state: Mutex<State>,
}

/// Why the store says no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum No {
    Missing,
    Exists,
    Differs,
    Throttled,
    UnknownUpload,
    InvalidPart,
}

pub const RESERVED: &str = ".bits-gateway/";

/// The session of an object in the reserved prefix, and its name within.
pub fn session_of(path: &str) -> Option<(SessionId, &str)> {
    let rest = path.strip_prefix(RESERVED)?.strip_prefix("sessions/")?;
    let (id, name) = rest.split_once('/').unwrap_or((rest, ""));
    Some((id.parse().ok()?, name))
}

impl Depot {
    pub fn new(habit: Habit, multipart_lifetime: Option<Duration>, time: std::sync::Arc<Time>) -> Self {
        Self {
            time,
            habit,
            cutting: Cutting::default(),
            at_odds: false,
            multipart_lifetime,
            state: Mutex::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tag(&self, state: &mut State, bytes: &Bytes) -> String {
        state.counter += 1;
        match self.habit {
            Habit::ContentTags => format!("\"{:x}-{}\"", checksum(bytes), bytes.len()),
            Habit::FreshPartIds | Habit::WriteASecond => format!("\"{}\"", state.counter),
        }
    }

    pub fn put(&self, path: &Path, bytes: Bytes, mode: &PutMode, attributes: Attributes) -> Result<String, No> {
        let state = &mut *self.state();
        let name = path.as_ref();
        let there = state.objects.get(name);
        match (mode, there) {
            (PutMode::Create, Some(_)) => return Err(No::Exists),
            (PutMode::Update(_), None) => return Err(No::Missing),
            (PutMode::Update(version), Some(there)) if version.e_tag.as_deref() != Some(&there.tag) => {
                return Err(No::Differs);
            }
            _ => {}
        }
        let now = self.time.now();
        if self.habit == Habit::WriteASecond && there.is_some_and(|there| now.since(there.at) < Duration::from_secs(1))
        {
            state.throttled += 1;
            return Err(No::Throttled);
        }
        self.store(state, name, bytes, attributes, false)
    }

    fn store(
        &self,
        state: &mut State,
        name: &str,
        bytes: Bytes,
        attributes: Attributes,
        assembled: bool,
    ) -> Result<String, No> {
        let tag = self.tag(state, &bytes);
        let session = session_of(name);
        let group = session.map_or(String::new(), |(id, _)| id.as_key());
        let groups = state.groups.len() as u64 + 1;
        let group = *state.groups.entry(group).or_insert(groups);
        let place = (group, state.counter);
        let by = attributes.get(&Attribute::Metadata("bitssession".into()));
        let by = by.and_then(|id| id.parse().ok());
        let object = Object {
            bytes: bytes.clone(),
            tag: tag.clone(),
            at: self.time.now(),
            attributes,
            place,
        };
        let replaced = state.objects.insert(name.to_owned(), object).map(|old| old.tag);
        match session {
            Some((id, within)) => {
                state.changes.push(Change::Session(id));
                if let Some(from) = within.strip_prefix("tail/") {
                    match replaced {
                        None => state.changes.push(Change::Tail(id, from.parse().unwrap(), bytes)),
                        Some(_) => state.changes.push(Change::Forbidden(format!("{name} was overwritten"))),
                    }
                }
            }
            None if name.starts_with(RESERVED) => {}
            None => state.changes.push(Change::Written {
                key: name.to_owned(),
                by,
                bytes,
                replaced,
                assembled,
            }),
        }
        Ok(tag)
    }

    pub fn get(&self, path: &Path) -> Result<(ObjectMeta, Attributes, Bytes), No> {
        let state = self.state();
        let object = state.objects.get(path.as_ref()).ok_or(No::Missing)?;
        Ok((
            meta(path.as_ref(), object),
            object.attributes.clone(),
            object.bytes.clone(),
        ))
    }

    pub fn remove(&self, path: &Path, is_ours: bool) -> Result<(), No> {
        let state = &mut *self.state();
        let name = path.as_ref();
        state.objects.remove(name).ok_or(No::Missing)?;
        match session_of(name) {
            Some((id, _)) => state.changes.push(Change::Session(id)),
            None if is_ours => state.changes.push(Change::Forbidden(format!("{name} was deleted"))),
            None => state.changes.push(Change::Removed { key: name.to_owned() }),
        }
        Ok(())
    }

    pub fn list(&self, prefix: &str) -> Vec<ObjectMeta> {
        let state = self.state();
        let below = format!("{}/", prefix.trim_end_matches('/'));
        let mut found: Vec<_> = state
            .objects
            .iter()
            .filter(|(name, _)| prefix.is_empty() || name.starts_with(&below))
            .collect();
        found.sort_by_key(|(_, object)| object.place);
        found.into_iter().map(|(name, object)| meta(name, object)).collect()
    }

    pub fn begin(&self, path: &Path, session: SessionId) -> UploadId {
        let state = &mut *self.state();
        state.counter += 1;
        let id = UploadId(format!("upload-{}", state.counter));
        state.uploads.push(Multipart {
            id: id.clone(),
            path: path.clone(),
            session,
            began: self.time.now(),
            parts: BTreeMap::new(),
        });
        id
    }

    pub fn put_part(&self, path: &Path, upload: &UploadId, index: u32, bytes: Bytes) -> Result<PartId, No> {
        let state = &mut *self.state();
        state.counter += 1;
        let id = match self.habit {
            _ if self.cutting == Cutting::Free => PartId(format!("block-{}", state.counter).into()),
            Habit::FreshPartIds => PartId(format!("part-{}", state.counter).into()),
            Habit::ContentTags | Habit::WriteASecond => PartId(format!("{:x}", checksum(&bytes)).into()),
        };
        let found = state
            .uploads
            .iter_mut()
            .find(|found| found.id == *upload && found.path == *path)
            .ok_or(No::UnknownUpload)?;
        let session = found.session;
        let place = match self.cutting {
            Cutting::Free => found.parts.len() as u32,
            Cutting::Alike | Cutting::Claimed => index,
        };
        match found.parts.insert(place, (id.clone(), bytes.clone())) {
            Some((_, old)) if old != bytes => {
                let what = format!("part {index} of {upload:?} was put over by other bytes");
                state.changes.push(Change::Forbidden(what));
            }
            Some((old, _)) if old != id => state.changes.push(Change::PartRenamed(session)),
            _ => {}
        }
        state.changes.push(Change::Session(session));
        Ok(id)
    }

    /// Completes an upload, as S3 does: the upload, then the parts, then the condition.
    pub fn complete(
        &self,
        path: &Path,
        upload: &UploadId,
        parts: &[(PartId, u64)],
        mode: &PutMode,
        attributes: Attributes,
    ) -> Result<String, No> {
        let state = &mut *self.state();
        let at = state
            .uploads
            .iter()
            .position(|found| found.id == *upload && found.path == *path)
            .ok_or(No::UnknownUpload)?;
        let mut bytes = Vec::new();
        for (index, (id, end)) in (0..).zip(parts) {
            match state.uploads[at].part(self.cutting, index, id) {
                Some((known, part)) if known == id => bytes.extend_from_slice(part),
                _ => return Err(No::InvalidPart),
            }
            if bytes.len() as u64 != *end {
                return Err(No::InvalidPart);
            }
        }
        let there = state.objects.get(path.as_ref()).map(|there| there.tag.as_str());
        let holds = match mode {
            PutMode::Overwrite => true,
            PutMode::Create => there.is_none(),
            PutMode::Update(version) => there.is_some() && there == version.e_tag.as_deref(),
        };
        if !holds {
            return Err(No::Differs);
        }
        state.uploads.remove(at);
        self.store(state, path.as_ref(), bytes.into(), attributes, true)
    }

    pub fn abort(&self, upload: &UploadId) {
        let state = &mut *self.state();
        if let Some(at) = state.uploads.iter().position(|found| found.id == *upload) {
            let gone = state.uploads.remove(at);
            state.changes.push(Change::Aborted(upload.clone()));
            state.changes.push(Change::Session(gone.session));
        }
    }

    /// The store itself ends an upload.
    pub fn end(&self, upload: &UploadId) -> Option<Multipart> {
        let uploads = &mut self.state().uploads;
        let at = uploads.iter().position(|found| found.id == *upload)?;
        Some(uploads.remove(at))
    }

    /// The unfinished uploads to `path` and when they began.
    pub fn uploads(&self, path: &Path) -> Vec<(UploadId, Timestamp)> {
        let state = self.state();
        let of_path = state.uploads.iter().filter(|upload| upload.path == *path);
        of_path.map(|upload| (upload.id.clone(), upload.began)).collect()
    }

    /// The bytes and the tag of what lies at `key`.
    pub fn shown(&self, key: &str) -> Option<(Bytes, String)> {
        let state = self.state();
        let object = state.objects.get(key)?;
        Some((object.bytes.clone(), object.tag.clone()))
    }
}

fn meta(name: &str, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: Path::parse(name).unwrap(),
        last_modified: SystemTime::from(object.at).into(),
        size: object.bytes.len() as u64,
        e_tag: Some(object.tag.clone()),
        version: None,
    }
}

/// FNV-1a: the tags of a world must be the same in every run.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
