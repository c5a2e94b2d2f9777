//! Objects at their destinations, and the store's own time.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode, PutPayload, UpdateVersion,
};

use super::content::content;
use super::patience::{Patience, Unclear, briefly, worn_out};
use super::records::{Version, bare};
use super::tails::same_bytes;
use super::{CompleteError, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{Before, ObjectTag};
use crate::staging::{PartRange, RecordedPart, Sha256};

/// The metadata that names the session that published an object. Letters only: Azure takes no hyphen, proxies drop underscores.
pub(super) const SESSION_METADATA: &str = "bitssession";

/// The metadata that tells the SHA-256 of a file, where it is known before the file is put.
const SHA256_METADATA: &str = "bitssha256";

/// What every uploaded object is served as: nothing that a browser would run.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";
pub(super) const CONTENT_DISPOSITION: &str = "attachment";

/// An object as a look at it shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// What makes a write conditional on it.
    pub tag: ObjectTag,
    /// When it was written, by the clock of the store.
    pub modified: Timestamp,
    /// The session that published it, if it was one of ours and the store keeps metadata.
    pub session: Option<SessionId>,
    /// Its SHA-256, where its metadata tells it.
    pub sha256: Option<Sha256>,
}

/// A file that was put as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filed {
    /// What it is.
    pub tag: ObjectTag,
    /// Its SHA-256, if one was given: that of the object, where an earlier attempt had put it.
    pub sha256: Option<Sha256>,
}

/// An object that is being read.
pub struct ObjectRead {
    /// What was opened.
    pub tag: ObjectTag,
    /// When it was written, by the clock of the store.
    pub modified: Timestamp,
    /// Bytes in the whole object.
    pub size: u64,
    /// Which of them come.
    pub range: Range<u64>,
    /// Its media type, where the store keeps one.
    pub content_type: Option<String>,
    /// The bytes of the range. At most two pieces of 1 MiB are held for it when they come from a local directory.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

impl std::fmt::Debug for ObjectRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tag, range, .. } = self;
        f.debug_struct("ObjectRead")
            .field("tag", tag)
            .field("range", range)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// What the destination is; `None` when there is nothing.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn look(&self, key: &Key) -> Result<Option<Seen>, Error> {
        look_at(self.objects_at(key), &self.path(key)?).await
    }

    /// What the destination is to a session that wants to publish `size` bytes over `before`. Where files have no place for the session's
    /// id, its own one counts as changed.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn standing(&self, key: &Key, session: SessionId, size: u64, before: &Before) -> Result<Standing, Error> {
        Ok(standing(self.look(key).await?.as_ref(), session, size, before))
    }

    /// [`Store::put_digested`] of a file whose digest nobody wants.
    ///
    /// # Errors
    /// As there.
    pub async fn put_file(
        &self,
        key: &Key,
        session: SessionId,
        bytes: Vec<Bytes>,
        terms: Terms<'_>,
    ) -> Result<ObjectTag, Error> {
        let filed = self.put_digested(key, session, bytes, None, terms).await?;
        Ok(filed.tag)
    }

    /// Publishes a whole file with one put, if the destination still is what the terms say and it is not too late to begin. Its SHA-256 goes
    /// into its metadata, where the store keeps any.
    ///
    /// It may be repeated after a lost answer: an object that names this session and has the right size is its own. Where
    /// the store keeps no metadata, an object of exactly these bytes counts as its own.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the destination is neither what the terms say nor this session's; else trouble with the store.
    pub async fn put_digested(
        &self,
        key: &Key,
        session: SessionId,
        bytes: Vec<Bytes>,
        sha256: Option<Sha256>,
        terms: Terms<'_>,
    ) -> Result<Filed, Error> {
        let path = self.path(key)?;
        let payload: PutPayload = bytes.into_iter().collect();
        let size = payload.content_length() as u64;
        let mut options = terms.put(session);
        if let Some(sha256) = &sha256 {
            let name = Attribute::Metadata(SHA256_METADATA.into());
            options.attributes.insert(name, sha256.to_string().into());
        }
        let filed = |tag| Filed { tag, sha256 };
        let _only = self.only_publisher(&path).await;
        let mut patience = Patience::until(terms.by);
        loop {
            let put = self.objects_at(key).put_opts(&path, payload.clone(), options.clone());
            let mut last = match put.await.map_err(|error| Unclear::from(Error::from(error))) {
                Ok(result) => {
                    return Ok(filed(ObjectTag {
                        etag: result.e_tag,
                        version: result.version,
                        size,
                    }));
                }
                Err(Unclear::Failed(error)) => return Err(error),
                Err(Unclear::Look(error)) => error,
            };
            match look_at(self.objects_at(key), &path).await {
                Ok(seen) => match standing(seen.as_ref(), session, size, terms.before) {
                    Standing::Ours(tag) => {
                        let told = seen.and_then(|seen| seen.sha256);
                        return Ok(Filed {
                            tag,
                            sha256: sha256.map(|given| told.unwrap_or(given)),
                        });
                    }
                    Standing::AsBefore if matches!(last, Error::Conflict) && !self.forgets_uploads() => {
                        return self.put_as_part(key, session, payload, terms).await.map(filed);
                    }
                    Standing::AsBefore => {}
                    Standing::Changed => return self.same_content(key, seen, &payload).await.map(filed),
                },
                Err(error) => last = error,
            }
            if !patience.again().await {
                return Err(worn_out(last));
            }
        }
    }

    /// Publishes a whole file as an upload of one part: where unfinished uploads to a key can't be forgotten, they may count as an object
    /// that nobody sees, and stand in the way of a plain put for a week.
    async fn put_as_part(
        &self,
        key: &Key,
        session: SessionId,
        payload: PutPayload,
        terms: Terms<'_>,
    ) -> Result<ObjectTag, Error> {
        let (bucket, path) = (self.bucket_of(key), &self.path(key)?);
        let upload = bucket.begin(path, session).await?;
        let part = PartRange {
            index: 0,
            from: 0,
            to: payload.content_length() as u64,
        };
        let mut parts = Vec::new();
        if !part.is_empty() {
            parts.push(RecordedPart(
                bucket.put_part(path, &upload, part, payload).await?,
                part.to,
            ));
        }
        match bucket.complete(path, session, &upload, &parts, terms, None).await {
            Ok(tag) => Ok(tag),
            Err(CompleteError::Changed) => Err(Error::Conflict),
            Err(CompleteError::Store(error)) => Err(error),
            // Another commit swept the block away in between: the next attempt sees what it left.
            Err(other) => Err(Error::Unavailable(other.to_string())),
        }
    }

    /// Whether an object that names no session holds just the bytes that were to be put.
    async fn same_content(&self, key: &Key, seen: Option<Seen>, payload: &PutPayload) -> Result<ObjectTag, Error> {
        let Some(seen) = seen.filter(|seen| seen.session.is_none() && seen.tag.size == payload.content_length() as u64)
        else {
            return Err(Error::Conflict);
        };
        let found = match self
            .objects_at(key)
            .get_opts(&self.path(key)?, if_match(&seen.tag))
            .await
            .map_err(Error::from)
        {
            Ok(found) => content(found).try_collect::<Vec<_>>().await?,
            Err(Error::NotFound) => return Err(Error::Conflict),
            Err(error) => return Err(error),
        };
        if same_bytes(&found, payload.as_ref()) {
            Ok(seen.tag)
        } else {
            Err(Error::Conflict)
        }
    }

    /// Opens an object for reading: all of it, or a range that lies within it. With `if_tag`, only if it still is that object.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is not the object of `if_tag`; else trouble with the store.
    pub async fn read(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
        if_tag: Option<&ObjectTag>,
    ) -> Result<ObjectRead, Error> {
        let path = self.path(key)?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..if_tag.map(if_match).unwrap_or_default()
        };
        let found = briefly(self.objects_at(key).get_opts(&path, options)).await?;
        let tag = tag_of(&found.meta);
        // Not every store honours the condition of a read.
        if if_tag.is_some_and(|asked| !same_object(asked, &tag)) {
            return Err(Error::Conflict);
        }
        let modified = timestamp(&found.meta);
        let range = found.range.clone();
        let content_type = found
            .attributes
            .get(&Attribute::ContentType)
            .map(|value| value.to_string());
        Ok(ObjectRead {
            size: tag.size,
            tag,
            modified,
            range,
            content_type,
            stream: content(found),
        })
    }

    /// The time of the store, to the second: `LastModified` of a small object that is put for it.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let path = self.layout().clock();
        briefly(
            self.sessions()
                .put_opts(&path, PutPayload::default(), PutMode::Overwrite.into()),
        )
        .await?;
        let seen = look_at(self.sessions(), &path).await?;
        seen.map(|seen| seen.modified).ok_or(Error::NotFound)
    }

    /// Whether this process is to sweep now: at most one in every `interval` is told so, over all processes, by compare-and-swap on
    /// one object. Returns the time of the store, against which ages are to be measured.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn elect_sweeper(&self, interval: Duration) -> Result<Option<Timestamp>, Error> {
        self.elect(&self.layout().sweep(), interval).await
    }

    /// The same for who delivers the events that other processes left.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn elect_herald(&self, interval: Duration) -> Result<Option<Timestamp>, Error> {
        self.elect(&self.layout().events(), interval).await
    }

    async fn elect(&self, path: &Path, interval: Duration) -> Result<Option<Timestamp>, Error> {
        let now = self.now().await?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let mode = match briefly(self.sessions().get_opts(path, options)).await {
            Ok(last) if now.since(timestamp(&last.meta)) < interval => return Ok(None),
            Ok(last) => Version::of(&last.meta).update(),
            Err(Error::NotFound) => PutMode::Create,
            Err(error) => return Err(error),
        };
        // Random bytes: where ETags are hashes of the content, the same content would be the same version.
        let body = crate::clock::random_id().to_string();
        match briefly(self.sessions().put_opts(path, body.into(), mode.into())).await {
            Ok(_) => Ok(Some(now)),
            // Lost, or one's own write came back as a conflict: then nobody is elected in this interval, which harms nothing.
            Err(Error::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a destination is to a session that wants to publish there.
#[derive(Debug, Eq, PartialEq)]
pub enum Standing {
    /// The session's own file.
    Ours(ObjectTag),
    /// What it was at Create-Session.
    AsBefore,
    /// Something else.
    Changed,
}

/// What `seen` is to the session that wants to publish `size` bytes over `before`.
pub(super) fn standing(seen: Option<&Seen>, session: SessionId, size: u64, before: &Before) -> Standing {
    match (seen, before) {
        (Some(seen), _) if seen.session == Some(session) && seen.tag.size == size => Standing::Ours(seen.tag.clone()),
        (None, Before::Absent) => Standing::AsBefore,
        (Some(seen), Before::Present(before)) if same_object(&seen.tag, before) => Standing::AsBefore,
        _ => Standing::Changed,
    }
}

/// Whether two tags speak of the same state of an object.
pub(super) fn same_object(one: &ObjectTag, other: &ObjectTag) -> bool {
    let etags = match (&one.etag, &other.etag) {
        (Some(one), Some(other)) => bare(one) == bare(other),
        _ => true,
    };
    let versions = match (&one.version, &other.version) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    etags && versions && one.size == other.size
}

/// The condition on a put that `before` demands.
pub fn mode_of(before: &Before) -> PutMode {
    match before {
        Before::Absent => PutMode::Create,
        Before::Present(tag) => PutMode::Update(UpdateVersion {
            e_tag: tag.etag.clone(),
            version: tag.version.clone(),
        }),
    }
}

/// What is stored with every published object.
pub fn attributes(session: SessionId) -> Attributes {
    Attributes::from_iter([
        (Attribute::ContentType, CONTENT_TYPE.into()),
        (Attribute::ContentDisposition, CONTENT_DISPOSITION.into()),
        (
            Attribute::Metadata(SESSION_METADATA.into()),
            object_store::AttributeValue::from(session.as_key()),
        ),
    ])
}

/// What lies at `path`; `None` when nothing does.
pub(super) async fn look_at(objects: &dyn ObjectStore, path: &Path) -> Result<Option<Seen>, Error> {
    let options = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    match briefly(objects.get_opts(path, options)).await {
        Ok(found) => {
            let metadata = |name: &'static str| found.attributes.get(&Attribute::Metadata(name.into()));
            let (session, sha256) = (metadata(SESSION_METADATA), metadata(SHA256_METADATA));
            Ok(Some(Seen {
                tag: tag_of(&found.meta),
                modified: timestamp(&found.meta),
                session: session.and_then(|id| id.parse().ok()),
                sha256: sha256.and_then(|digest| digest.parse().ok()),
            }))
        }
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn tag_of(meta: &ObjectMeta) -> ObjectTag {
    ObjectTag {
        etag: meta.e_tag.clone(),
        version: meta.version.clone(),
        size: meta.size,
    }
}

fn if_match(tag: &ObjectTag) -> GetOptions {
    GetOptions {
        if_match: tag.etag.clone(),
        ..GetOptions::default()
    }
}

/// When an object was written, by the clock of the store.
pub(super) fn timestamp(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_millis(u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or_default())
}
