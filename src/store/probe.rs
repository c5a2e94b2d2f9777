//! Whether a store can do what sessions rest on: tried out at the start, not believed.

use std::fmt;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, PutMode, PutPayload};
use uuid::Uuid;

use super::bucket::Bucket;
use super::objects::look_at;
use super::patience::briefly;
use super::records::Version;
use super::{CompleteError, Error, Store, Terms};
use crate::bits::SessionId;
use crate::clock::random_id;
use crate::session::Before;
use crate::staging::{PartRange, RecordedPart, UploadId};

/// Writers that race for one object.
const RACERS: u8 = 8;

/// What a store was found to be able to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// Of several writers that create the same object, one succeeds (`If-None-Match: *`).
    pub conditional_create: bool,
    /// An object is replaced only over the version that was read (`If-Match`).
    pub compare_and_swap: bool,
    /// A new object shows in the next list.
    pub list_after_create: bool,
    /// Uploads of several parts.
    pub multipart: bool,
    /// Such an upload is published only where nothing is.
    pub conditional_complete: bool,
    /// Published objects name their session.
    pub metadata: bool,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = [
            (self.conditional_create, "create if absent"),
            (self.compare_and_swap, "compare and swap"),
            (self.list_after_create, "list after create"),
            (self.multipart, "multipart uploads"),
            (self.conditional_complete, "conditional completion"),
            (self.metadata, "metadata"),
        ];
        for (index, (can, what)) in found.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{what}: {}", if can { "yes" } else { "no" })?;
        }
        Ok(())
    }
}

impl Capabilities {
    /// Whether the store is good enough: for several replicas when `shared`, else for one.
    ///
    /// # Errors
    /// [`ProbeError::Lacks`], a sentence that names what is missing and what to do.
    pub fn suffice(&self, shared: bool) -> Result<(), ProbeError> {
        let needed = [
            (self.list_after_create, true, "show a new object in its next list"),
            (self.multipart, true, "store uploads of several parts"),
            (
                self.conditional_create,
                shared,
                "create an object only if it is absent (If-None-Match: *)",
            ),
            (
                self.compare_and_swap,
                shared,
                "replace an object only if it is unchanged (If-Match)",
            ),
            (
                self.conditional_complete,
                shared,
                "complete an upload of several parts only if the destination is unchanged",
            ),
        ];
        let lacking = |shared_only: bool| {
            let lacks = needed
                .iter()
                .filter(move |(can, needed, _)| !can && *needed == shared_only);
            lacks.map(|(_, _, what)| *what).collect::<Vec<_>>()
        };
        let all = lacking(true);
        if all.is_empty() {
            return Ok(());
        }
        let advice = if self.list_after_create && self.multipart {
            "use a store that does (AWS S3, Google Cloud Storage, Azure, MinIO, Cloudflare R2, SeaweedFS), or run one replica only and say coordination = \"single-replica\""
        } else {
            "use another store"
        };
        Err(ProbeError::Lacks {
            what: all.join(", nor "),
            advice,
        })
    }
}

/// Why a store can't be used, or not yet.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// It can't be told yet: try again later. [`Error::Denied`] in it needs an admin all the same.
    #[error("the store could not be tried out: {0}")]
    Unclear(#[from] Error),
    /// It can't do what is needed. Trying again is useless.
    #[error("the store does not {what}: {advice}")]
    Lacks {
        /// What it does not do.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
}

impl Store {
    /// Tries out what the store can do, with a few dozen small requests below the reserved prefix, and clears up after itself.
    ///
    /// # Errors
    /// [`ProbeError::Unclear`] when the store does not answer, or denies access.
    pub async fn probe(&self) -> Result<Capabilities, ProbeError> {
        let run = random_id();
        self.work_alone(false);
        let tried = self.try_out(run).await;
        let cleared = self.clear_up(run).await;
        let capabilities = tried?;
        cleared?;
        self.take_care(!capabilities.conditional_complete);
        Ok(capabilities)
    }

    async fn try_out(&self, run: Uuid) -> Result<Capabilities, Error> {
        let sessions = self.sessions();
        // The simplest write first: what it says about access and reachability is true of all others.
        let plain = self.layout().probe(run, "plain");
        briefly(sessions.put_opts(&plain, body("plain"), PutMode::Overwrite.into())).await?;
        let list_after_create = self.lists(&plain).await?;
        let conditional_create = races(sessions, &self.layout().probe(run, "race")).await?;
        let compare_and_swap = swaps(sessions, &self.layout().probe(run, "swap")).await?;
        // A store that refuses conditions rather than ignore them would else refuse all that comes.
        self.work_alone(!conditional_create || !compare_and_swap);

        let path = self.layout().probe_destination(run, "parts");
        let session = SessionId::new(run);
        // Without the right to list, S3 says of an object that is not there that access to it is denied.
        look_at(self.destinations(), &path).await?;
        let multipart = publish(self.destination(), &path, session, "first").await;
        let (multipart, metadata, conditional_complete) = match multipart {
            Ok(()) => {
                let seen = look_at(self.destinations(), &path).await?;
                let metadata = seen.is_some_and(|seen| seen.session == Some(session));
                let second = publish(self.destination(), &path, SessionId::new(random_id()), "other").await;
                let intact = read(self.destinations(), &path).await? == b"first";
                (
                    intact || second.is_ok(),
                    metadata,
                    matches!(second, Err(CompleteError::Changed)) && intact,
                )
            }
            Err(CompleteError::Store(error @ (Error::Denied(_) | Error::Full(_)))) => return Err(error),
            Err(CompleteError::Store(Error::Unavailable(why))) if !is_unsupported(&why) => {
                return Err(Error::Unavailable(why));
            }
            Err(_) => (false, false, false),
        };
        Ok(Capabilities {
            conditional_create,
            compare_and_swap,
            list_after_create,
            multipart,
            conditional_complete,
            metadata,
        })
    }

    /// Whether an object that was just created is listed.
    async fn lists(&self, path: &Path) -> Result<bool, Error> {
        let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
        let listed: Vec<ObjectMeta> = briefly(self.sessions().list(Some(&Path::from(folder))).try_collect()).await?;
        Ok(listed.iter().any(|meta| meta.location == *path))
    }

    /// Removes what a run left. Sessions can't be kept where nothing may be deleted. Files can: what is left there is a few bytes below
    /// the reserved prefix, and no reason to refuse a bucket in which files are kept for years.
    async fn clear_up(&self, run: Uuid) -> Result<(), Error> {
        let at_destination = vec![Ok(self.layout().probe_destination(run, "parts"))];
        let removed = self
            .destinations()
            .delete_stream(futures::stream::iter(at_destination).boxed());
        let _ = briefly(removed.try_collect::<Vec<_>>()).await;
        let in_sessions = ["plain", "race", "swap"].map(|name| Ok(self.layout().probe(run, name)));
        let removed = self
            .sessions()
            .delete_stream(futures::stream::iter(in_sessions).boxed());
        match briefly(removed.try_collect::<Vec<_>>()).await {
            Err(Error::Denied(why)) => Err(Error::Denied(format!("nothing may be deleted: {why}"))),
            _ => Ok(()),
        }
    }
}

/// Whether of several writers that create an object at once one at most succeeds, and it is his content that stays.
async fn races(objects: &dyn ObjectStore, path: &Path) -> Result<bool, Error> {
    let attempts = (0..RACERS).map(|racer| async move {
        let put = objects.put_opts(path, body(&racer.to_string()), PutMode::Create.into());
        (racer.to_string(), briefly(put).await)
    });
    let attempts = join_all(attempts).await;
    let winners: Vec<&String> = attempts
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(racer, _)| racer)
        .collect();
    if winners.len() > 1 {
        return Ok(false);
    }
    match read(objects, path).await {
        // The answer to the one that succeeded may have been lost.
        Ok(stays) => Ok(winners.first().is_none_or(|winner| winner.as_bytes() == stays)),
        Err(Error::NotFound) => not_supported(attempts.into_iter().find_map(|(_, result)| result.err())),
        Err(error) => Err(error),
    }
}

/// Whether an object is replaced over its present version, and not over an old one.
async fn swaps(objects: &dyn ObjectStore, path: &Path) -> Result<bool, Error> {
    let put = |text: &str, mode: PutMode| briefly(objects.put_opts(path, body(text), mode.into()));
    let first = Version::from(put("first", PutMode::Overwrite).await?);
    let second = match put("second", first.update()).await {
        Ok(second) => Version::from(second),
        Err(error) => return not_supported(Some(error)),
    };
    match put("stale", first.update()).await {
        Ok(_) => return Ok(false),
        Err(Error::Conflict) => {}
        Err(error) => return not_supported(Some(error)),
    }
    match put("third", second.update()).await {
        Ok(_) => Ok(read(objects, path).await? == b"third"),
        Err(error) => not_supported(Some(error)),
    }
}

/// Publishes a file of one part, if nothing is there, or forgets it again.
async fn publish(bucket: &dyn Bucket, path: &Path, session: SessionId, text: &str) -> Result<(), CompleteError> {
    let upload = bucket.begin(path, session).await?;
    let published = put_and_complete(bucket, path, session, &upload, text).await;
    // After a completion there is nothing to forget, which harms nothing.
    let forgotten = bucket.abort(path, &upload).await;
    published?;
    Ok(forgotten?)
}

async fn put_and_complete(
    bucket: &dyn Bucket,
    path: &Path,
    session: SessionId,
    upload: &UploadId,
    text: &str,
) -> Result<(), CompleteError> {
    let part = PartRange {
        index: 0,
        from: 0,
        to: text.len() as u64,
    };
    let id = bucket.put_part(path, upload, part, body(text)).await?;
    let parts = [RecordedPart(id, part.to)];
    let mark = bucket.mark(path, upload).await?;
    bucket
        .complete(
            path,
            session,
            upload,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await?;
    Ok(())
}

/// A refusal that means that the store does not know conditions at all, or trouble.
fn not_supported(error: Option<Error>) -> Result<bool, Error> {
    match error {
        Some(Error::Unavailable(why)) if !is_unsupported(&why) => Err(Error::Unavailable(why)),
        Some(error @ (Error::Denied(_) | Error::Full(_))) => Err(error),
        _ => Ok(false),
    }
}

/// Whether an error speaks of a request that the store does not know rather than of trouble that passes.
fn is_unsupported(why: &str) -> bool {
    [
        "NotImplemented",
        "501",
        "InvalidArgument",
        "InvalidRequest",
        "405",
        "not supported",
    ]
    .iter()
    .any(|word| why.contains(word))
}

fn body(text: &str) -> PutPayload {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

async fn read(objects: &dyn ObjectStore, path: &Path) -> Result<Vec<u8>, Error> {
    let read = async { objects.get_opts(path, GetOptions::default()).await?.bytes().await };
    Ok(briefly(read).await?.to_vec())
}
