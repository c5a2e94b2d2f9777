//! Records: how a session is remembered, and changed by one writer at a time.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::{GetOptions, ObjectMeta, PutMode, PutPayload, PutResult, UpdateVersion};

use super::keys::{Name, page_name};
use super::objects::timestamp;
use super::patience::{Patience, Unclear, briefly, worn_out};
use super::{Error, Store};
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{EventKind, PageName, RECORD_VERSION, Record, Tails};
use crate::staging::RecordedPart;

/// Largest record in bytes: what 200 open parts, 50 names of pages and a long URL need, with room to spare.
pub const LARGEST_RECORD: usize = 16 * 1024;

/// Which state of an object a reader saw: what a compare-and-swap compares. No two states of a record share one, because
/// every write of a record carries a random id.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Version {
    etag: Option<String>,
    version: Option<String>,
}

impl Version {
    /// Whether both name the same state, wherever each comes from: lists spell ETags without quotes on some stores, and don't tell generations.
    pub fn same_as(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => bare(one) == bare(other),
            _ => self.version.is_some() && self.version == other.version,
        }
    }

    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            etag: meta.e_tag.clone(),
            version: meta.version.clone(),
        }
    }

    pub(super) fn update(&self) -> PutMode {
        PutMode::Update(UpdateVersion {
            e_tag: self.etag.clone(),
            version: self.version.clone(),
        })
    }
}

impl From<PutResult> for Version {
    fn from(result: PutResult) -> Self {
        Self {
            etag: result.e_tag,
            version: result.version,
        }
    }
}

/// An ETag without the quotes and the mark of weakness that some answers of a store have and others lack.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// What a write over it is conditioned on.
    pub version: Version,
    /// When it was written, by the clock of the store.
    pub modified: Timestamp,
}

/// A session as it was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The record.
    pub stored: Stored,
    /// The tails that were listed before the record was read.
    pub tails: Tails,
}

/// A session as a list shows it.
#[derive(Clone, Debug)]
pub struct ListedSession {
    /// The session.
    pub id: SessionId,
    /// Its record, if it was listed with it.
    pub record: Option<ListedRecord>,
    /// When the newest of its objects was written, by the clock of the store.
    pub newest: Timestamp,
    /// How many objects it has.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The events that are marked as delivered or given up. Their marks count neither as objects nor as progress.
    pub delivered: Vec<EventKind>,
    /// Its tails: listed before the record is read, so that both together tell the next offset.
    pub tails: Tails,
}

/// A record as a list shows it.
#[derive(Clone, Debug)]
pub struct ListedRecord {
    /// The session.
    pub id: SessionId,
    /// Which state of the record was listed.
    pub version: Version,
    /// When it was written, by the clock of the store.
    pub modified: Timestamp,
}

/// An object of a session as a list shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is.
    pub name: Name,
    /// Bytes in it.
    pub size: u64,
    /// When it was written, by the clock of the store.
    pub modified: Timestamp,
}

impl Store {
    /// Stores the first record of a session.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the session exists already; else trouble with the store.
    pub async fn create_record(&self, record: &Record) -> Result<Version, Error> {
        self.write_record(record, None).await
    }

    /// Stores `record` if the stored one still is at `over`. `record.write` must be a fresh random id for each logical write:
    /// a lost answer to one's own write is recognised by it. A write that may or may not have happened on an unchanged
    /// record is made again, so that success and [`Error::Conflict`] are both certain.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else changed or removed the record; [`Error::Unavailable`] when it remained unclear
    /// what happened; else trouble with the store.
    pub async fn replace_record(&self, record: &Record, over: &Version) -> Result<Version, Error> {
        self.write_record(record, Some(over)).await
    }

    async fn write_record(&self, record: &Record, over: Option<&Version>) -> Result<Version, Error> {
        let path = self.layout().object(record.id, &Name::Record);
        let payload = PutPayload::from(encode(record)?);
        let mode = over.map_or(PutMode::Create, Version::update);
        let mut patience = Patience::new();
        loop {
            let put = self.sessions().put_opts(&path, payload.clone(), mode.clone().into());
            let mut last = match briefly(put).await.map_err(Unclear::from) {
                Ok(result) => return Ok(result.into()),
                Err(Unclear::Failed(error)) => return Err(error),
                Err(Unclear::Look(error)) => error,
            };
            match self.read_record(record.id).await {
                Ok(Some(found)) if found.record.write == record.write => return Ok(found.version),
                Ok(Some(found)) if over.is_some_and(|over| over.same_as(&found.version)) => {}
                Ok(None) if over.is_none() => {}
                Ok(_) => return Err(Error::Conflict),
                Err(error @ (Error::Corrupt(_) | Error::Newer(_))) => return Err(error),
                Err(error) => last = error,
            }
            if !patience.again().await {
                return Err(worn_out(last));
            }
        }
    }

    /// Reads the record of a session; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not a record, [`Error::Newer`] when it is one of a version that this program can't read; else
    /// trouble with the store.
    pub async fn read_record(&self, id: SessionId) -> Result<Option<Stored>, Error> {
        let path = self.layout().object(id, &Name::Record);
        let read = async {
            let found = self.sessions().get_opts(&path, GetOptions::default()).await?;
            let meta = found.meta.clone();
            Ok::<_, object_store::Error>((meta, found.bytes().await?))
        };
        let (meta, bytes) = match briefly(read).await {
            Ok(found) => found,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let record = decode(&bytes).map_err(|unreadable| unreadable.of(id))?;
        Ok(Some(Stored {
            record,
            version: Version::of(&meta),
            modified: timestamp(&meta),
        }))
    }

    /// Loads a session: lists its tails first and reads its record then. The other way round, a part recorded between the two
    /// would hide acknowledged bytes: its tails gone from the list, the part not yet in the record.
    ///
    /// # Errors
    /// As for [`Store::read_record`].
    pub async fn load(&self, id: SessionId) -> Result<Option<Loaded>, Error> {
        let tails = self.list_tails(id).await?;
        let stored = self.read_record(id).await?;
        Ok(stored.map(|stored| Loaded { stored, tails }))
    }

    /// Removes the record of a session: the last thing that goes. With `over`, only when it still is at that version; stores have
    /// no conditional delete that all of them honour, so this looks first, which is enough for tombstones: nobody changes them.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is at another version; else trouble with the store.
    pub async fn remove_record(&self, id: SessionId, over: Option<&Version>) -> Result<(), Error> {
        if let Some(over) = over {
            match self.read_record(id).await? {
                None => return Ok(()),
                Some(found) if !found.version.same_as(over) => return Err(Error::Conflict),
                Some(_) => {}
            }
        }
        self.remove(id, vec![Name::Record]).await
    }

    /// Lists every session that has an object, in the order in which the store lists: one request per 1,000 objects.
    pub fn list_sessions(&self) -> BoxStream<'static, Result<ListedSession, Error>> {
        let layout = self.layout().clone();
        let objects = self.sessions().list(Some(&self.layout().sessions()));
        let named = objects.map_err(Error::from).try_filter_map(move |meta| {
            let parsed = layout.parse(&meta.location);
            futures::future::ready(Ok(parsed.map(|(id, name)| (id, name, meta))))
        });
        // One state per run of objects of the same session; a `None` at the end lets the last one out.
        let ended = named.map_ok(Some).chain(futures::stream::once(async { Ok(None) }));
        let grouped = ended.scan(None, |open: &mut Option<ListedSession>, next| {
            let done = match next {
                Err(error) => Some(Err(error)),
                Ok(None) => open.take().map(Ok),
                Ok(Some((id, name, meta))) => {
                    let done = open.take_if(|open| open.id != id).map(Ok);
                    open.get_or_insert_with(|| ListedSession::empty(id)).add(&name, &meta);
                    done
                }
            };
            futures::future::ready(Some(done))
        });
        grouped.filter_map(futures::future::ready).boxed()
    }

    /// Lists every record.
    pub fn list_records(&self) -> BoxStream<'static, Result<ListedRecord, Error>> {
        let records = self.list_sessions();
        records
            .try_filter_map(|session| futures::future::ready(Ok(session.record)))
            .boxed()
    }

    /// Lists the objects of a session.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn list_session(&self, id: SessionId) -> Result<Vec<Listed>, Error> {
        let objects = self.sessions().list(Some(&self.layout().session(id)));
        let found: Vec<ObjectMeta> = briefly(objects.try_collect()).await?;
        let named = found.iter().filter_map(|meta| {
            let (_, name) = self.layout().parse(&meta.location)?;
            Some(Listed {
                name,
                size: meta.size,
                modified: timestamp(meta),
            })
        });
        Ok(named.collect())
    }

    /// Removes objects of a session; those that are gone already count as removed.
    ///
    /// # Errors
    /// The first trouble with the store; the others may be gone or not.
    pub async fn remove(&self, id: SessionId, names: Vec<Name>) -> Result<(), Error> {
        let paths: Vec<_> = names.iter().map(|name| Ok(self.layout().object(id, name))).collect();
        let mut removed = self.sessions().delete_stream(futures::stream::iter(paths).boxed());
        let mut trouble = None;
        while let Some(result) = removed.next().await {
            match result.map_err(Error::from) {
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Stores a full page of parts under a name of its own, which the record names afterwards.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn write_page(&self, id: SessionId, number: usize, parts: &[RecordedPart]) -> Result<PageName, Error> {
        let name = page_name(number, random_id());
        let path = self.layout().object(id, &Name::Page(name.clone()));
        let body = serde_json::to_vec(parts).map_err(|error| Error::Corrupt(error.to_string()))?;
        // The name is random, so nobody else writes it, and writing it twice writes the same.
        briefly(self.sessions().put_opts(&path, body.into(), PutMode::Overwrite.into())).await?;
        Ok(name)
    }

    /// Reads a page that the record names.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the page is gone: a newer record names no page, or the session is being cleared away.
    pub async fn read_page(&self, id: SessionId, name: &PageName) -> Result<Vec<RecordedPart>, Error> {
        let path = self.layout().object(id, &Name::Page(name.clone()));
        let read = async {
            self.sessions()
                .get_opts(&path, GetOptions::default())
                .await?
                .bytes()
                .await
        };
        let bytes = briefly(read).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt(format!("a page of session {id}: {error}")))
    }
}

impl ListedSession {
    fn empty(id: SessionId) -> Self {
        Self {
            id,
            record: None,
            newest: Timestamp::default(),
            objects: 0,
            bytes: 0,
            delivered: Vec::new(),
            tails: Tails::none(),
        }
    }

    fn add(&mut self, name: &Name, meta: &ObjectMeta) {
        if let Name::Event(kind) = *name {
            self.delivered.push(kind);
            return;
        }
        if *name == Name::Record {
            self.record = Some(ListedRecord {
                id: self.id,
                version: Version::of(meta),
                modified: timestamp(meta),
            });
        }
        if let Name::Tail(from) = *name {
            self.tails.insert(from, from.saturating_add(meta.size));
        }
        self.newest = self.newest.max(timestamp(meta));
        self.objects += 1;
        self.bytes += meta.size;
    }
}

fn encode(record: &Record) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(record).map_err(|error| Error::Corrupt(error.to_string()))?;
    if bytes.len() > LARGEST_RECORD {
        let size = bytes.len();
        return Err(Error::Corrupt(format!(
            "a record of {size} bytes is larger than {LARGEST_RECORD}"
        )));
    }
    Ok(bytes.into())
}

/// Why a record can't be read.
enum Unreadable {
    Corrupt(String),
    /// The oldest format whose readers may read it.
    Newer(u32),
}

impl Unreadable {
    fn of(self, id: SessionId) -> Error {
        match self {
            Self::Corrupt(why) => Error::Corrupt(format!("the record of session {id}: {why}")),
            Self::Newer(format) => Error::Newer(format!(
                "the record of session {id}: a newer version of this program wrote it in format {format}, this one reads up to format \
                 {RECORD_VERSION}: upgrade this replica"
            )),
        }
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// The only thing that refuses a record is that it says so itself: everything unknown is kept.
fn decode(bytes: &[u8]) -> Result<Record, Unreadable> {
    #[derive(serde::Deserialize)]
    struct Reader {
        min_reader: u32,
    }
    let Reader { min_reader } = serde_json::from_slice(bytes)?;
    if min_reader > RECORD_VERSION {
        return Err(Unreadable::Newer(min_reader));
    }
    Ok(serde_json::from_slice(bytes)?)
}
