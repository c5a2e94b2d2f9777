//! A whole file and its server application: who is told, what is kept of the answer, and the copy that it may ask for.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::StreamExt;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::work::{Work, busy};
use super::{Refused, Uploads};
use crate::bits::SessionId;
use crate::budget::Reservation;
use crate::clock::{Deadline, Uptime, random_id};
use crate::metrics::Notified;
use crate::notify::{Content, Failure, Letter, Messenger, Mode, Pieces, Place as Spot, Replied};
use crate::session::{Before, Delivery, Input, ObjectTag, Phase, Principal, Record, Reply, ReplyName, Verdict};
use crate::staging::{PartRange, RecordedPart, UploadId};
use crate::store::{CompleteError, Copied, Entrusted, Error, Key, Store, Terms};
use crate::upload::Place;

/// Once all of a file is here, its client waits for five minutes (MC-BUP 3.3.2): what is left after this is for the answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(285);

/// What has to be left of that when the application is told last: less would only tell it in vain.
const LEFT: Duration = Duration::from_secs(10);

/// What storing its answer may take, once it is there.
const STORING: Duration = Duration::from_secs(15);

/// How long a URL that opens an object outlives the time that the application has.
const LINK_OUTLIVES: Duration = Duration::from_secs(300);

/// A reply is stored in pieces of this size, one of which is held in memory: what stores take as a part.
const PIECE: u64 = 5 << 20;

/// Memory of a file on its way to the application: the piece that is being sent, and the next one of a local file.
const SENDING: u64 = 2 << 20;

/// How long an upload to a reply's own place may be begun: nobody waits for it any longer.
const REPLY_DEADLINE: Duration = ANSWER_WITHIN;

/// Where the reply to a finished upload is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReplyAt {
    /// With us, for the client of this session.
    Here {
        /// The session.
        session: SessionId,
        /// The URL of its Create-Session, absolute.
        url: String,
    },
    /// Ready, at this URL.
    Elsewhere(String),
}

impl ReplyAt {
    /// What the record says, if the client is to be told.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let Phase::Told {
            verdict: Verdict::Accepted { reply, .. },
            ..
        } = &record.phase
        else {
            return None;
        };
        match reply {
            Reply::Nothing => None,
            Reply::Stored { .. } => Some(Self::Here {
                session: record.id,
                url: record.url.clone(),
            }),
            Reply::Elsewhere { url } => Some(Self::Elsewhere(url.clone())),
        }
    }
}

/// Why the application could not be told, or its answer not kept.
enum Untold {
    /// It failed: that is what the client hears.
    Failed(Failure),
    /// The file is gone.
    Gone,
    /// Trouble of ours.
    Ours(Refused),
}

impl<T: Into<Refused>> From<T> for Untold {
    fn from(trouble: T) -> Self {
        Self::Ours(trouble.into())
    }
}

impl From<Failure> for Untold {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Uploads {
    /// Where the reply lies that the session `id` keeps for `principal`; `None` when there is none, or not for him.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn reply(&self, place: &Place, principal: &Principal, id: SessionId) -> Result<Option<Key>, Error> {
        let stored = place.store.read_record(id).await?;
        let record = stored
            .map(|stored| stored.record)
            // Of two routes in one bucket each serves its own.
            .filter(|record| record.principal == *principal && record.target.route == place.route);
        Ok(record.and_then(|record| record.stored_reply().map(|(name, _)| Key::reply(id, name))))
    }
}

impl Work<'_> {
    /// Tells the application, and gives back what that means for the session. A crash at any point up to the save of the record makes the next
    /// packet tell it again: it knows the session by its id.
    pub(super) async fn tell_application(&mut self) -> Result<Input, Refused> {
        let record = self.look(false).await?.session.record.clone();
        let Phase::Sealed { tag } = &record.phase else {
            return Err(busy("the session moved on meanwhile"));
        };
        let place = self.place;
        let Some(messenger) = &place.application else {
            return Err(busy("the route names no server application any more"));
        };
        let left = ANSWER_WITHIN.saturating_sub(self.since.elapsed() + STORING);
        if left < LEFT {
            return Err(busy("too little time is left to tell the server application"));
        }
        let allowed = messenger.timeout().min(left);
        let began = Uptime::now();
        let told = tokio::time::timeout(allowed, self.deliver(messenger, &record, tag, allowed)).await;
        let told = told.unwrap_or_else(|_| Err(Failure::TimedOut(messenger.timeout()).into()));
        let outcome = outcome_of(&told);
        if let Some(outcome) = outcome {
            self.uploads.metrics.notified(&place.route, outcome, began.elapsed());
        }
        match told {
            Ok(verdict) => {
                self.tell_of(&record, "application took it", None);
                Ok(Input::Told(verdict))
            }
            Err(Untold::Failed(Failure::Status(403))) => {
                self.tell_of(&record, "application forbade it", None);
                Ok(Input::Told(Verdict::Forbidden))
            }
            Err(Untold::Failed(failure)) => {
                self.tell_of(&record, "application failed", Some(&failure));
                if let Failure::UrlTooLong(_) = failure {
                    // What a server finds in the answer of its application is the server's error (MC-BUP 2.2.1.2).
                    return Err(Refused::InvalidArgument(
                        "the URL of the reply is longer than a client takes",
                    ));
                }
                let (status, code) = failure.verdict();
                Err(Refused::Application {
                    status,
                    code,
                    why: failure.to_string(),
                })
            }
            Err(Untold::Gone) => Ok(Input::EntityGone),
            Err(Untold::Ours(refused)) => Err(refused),
        }
    }

    fn tell_of(&self, record: &Record, event: &'static str, failure: Option<&Failure>) {
        info!(
            target: "bits_gateway::session",
            event,
            session = %self.id,
            route = self.place.route,
            key = record.target.key,
            principal = record.principal.as_str(),
            size = record.total,
            why = failure.map(tracing::field::display),
            "session"
        );
    }

    async fn deliver(
        &self,
        messenger: &Messenger,
        record: &Record,
        tag: &ObjectTag,
        allowed: Duration,
    ) -> Result<Verdict, Untold> {
        let store = &self.place.store;
        let entity = Key::entity(self.id);
        // One for each time: what an earlier attempt left, or a late one still writes, never replaces what a client reads.
        let name = ReplyName(random_id());
        let reply_key = Key::reply(self.id, name);
        let memory = self.memory_for(messenger).await?;
        let content = match messenger.mode() {
            Mode::Reference => {
                let lasts = allowed + LINK_OUTLIVES;
                let (request, response) = (
                    store.lend(&entity, lasts).await?,
                    store.await_at(&reply_key, lasts).await?,
                );
                let (Some(request), Some(response)) = (request, response) else {
                    return Err(busy("the store has no way to let somebody else read an object").into());
                };
                if store.look(&entity).await?.is_none_or(|seen| seen.tag.size != tag.size) {
                    return Err(Untold::Gone);
                }
                Content::Reference {
                    request: spot(request),
                    response: spot(response),
                }
            }
            Mode::Value | Mode::Off => match store.read(&entity, None, Some(tag)).await {
                Ok(found) => Content::Value(
                    found
                        .stream
                        .map(|piece| piece.map_err(|error| error.to_string()))
                        .boxed(),
                ),
                Err(Error::NotFound | Error::Conflict) => return Err(Untold::Gone),
                Err(error) => return Err(error.into()),
            },
        };
        let letter = Letter {
            session: self.id,
            original_url: record.url.clone(),
            size: tag.size,
            content,
        };
        let (heard, body) = messenger.deliver(letter, self.uploads.clock.now()).await?;
        let reply = match (heard.reply, messenger.mode()) {
            (Replied::Elsewhere(url), _) => Reply::Elsewhere { url },
            (Replied::Here, Mode::Reference) => match store.adopt(&reply_key).await? {
                Some(tag) if tag.size > messenger.max_reply_size() => return Err(Failure::TooLarge.into()),
                Some(tag) => Reply::Stored { name, tag },
                None => Reply::Nothing,
            },
            // An empty one is a reply, too: a client that waits for one could not go on without its URL.
            (Replied::Here, Mode::Value | Mode::Off) => Reply::Stored {
                name,
                tag: keep(store, &reply_key, self.id, body).await?,
            },
        };
        drop(memory);
        let copy = if heard.copies {
            Delivery::Wanted
        } else {
            Delivery::Unwanted
        };
        Ok(Verdict::Accepted { reply, copy })
    }

    /// What the bodies of both directions hold. Asked for before the application is told: it shall not wait for our memory.
    async fn memory_for(&self, messenger: &Messenger) -> Result<Option<Reservation>, Refused> {
        if messenger.mode() == Mode::Reference {
            return Ok(None);
        }
        self.reserve(PIECE + SENDING).await.map(Some)
    }

    async fn reserve(&self, bytes: u64) -> Result<Reservation, Refused> {
        let budget = &self.uploads.budget;
        let bytes = bytes.min(budget.total());
        let reserved = budget.reserve(bytes).await.inspect(|_| budget.take_elsewhere(bytes));
        reserved.map_err(|exhausted| Refused::Busy {
            retry_after: exhausted.waited.max(super::work::STORE_RETRY),
            why: exhausted.to_string(),
        })
    }

    /// Copies the file to its destination, as the application asked (MC-BUP 2.2.13.2).
    pub(super) async fn copy_to_destination(&mut self) -> Result<Input, Refused> {
        let record = self.look(false).await?.session.record.clone();
        let Phase::Told { tag, .. } = &record.phase else {
            return Err(busy("the session moved on meanwhile"));
        };
        let store = self.place.store.clone();
        let _memory = self.reserve(record.part_size.min(tag.size.max(1))).await?;
        let before = store.before_copy(&self.key, record.overwrite).await?;
        let terms = Terms {
            before: &before,
            by: Deadline::after(self.since, ANSWER_WITHIN),
        };
        let entity = Key::entity(self.id);
        let copied = store
            .copy((&entity, tag), &self.key, self.id, record.part_size, terms)
            .await?;
        Ok(match copied {
            Copied::Yes(_) => {
                self.tell_of(&record, "copied", None);
                Input::Copied
            }
            // Somebody replaced it in this moment: the next attempt starts from what is there then.
            Copied::Displaced if record.overwrite => {
                return Err(busy("the destination is being replaced by somebody else"));
            }
            Copied::Displaced => Input::Displaced,
            Copied::Gone => Input::EntityGone,
        })
    }
}

fn outcome_of(told: &Result<Verdict, Untold>) -> Option<Notified> {
    Some(match told {
        Ok(_) => Notified::Accepted,
        Err(Untold::Failed(failure)) => match failure {
            Failure::TimedOut(_) => Notified::TimedOut,
            Failure::Unreachable(_) => Notified::Unreachable,
            Failure::Status(_) => Notified::Refused,
            Failure::Malformed | Failure::UrlTooLong(_) | Failure::Elsewhere(_) | Failure::TooLarge => {
                Notified::Malformed
            }
        },
        Err(Untold::Gone | Untold::Ours(_)) => return None,
    })
}

fn spot(entrusted: Entrusted) -> Spot {
    Spot {
        name: entrusted.place,
        bucket: entrusted.bucket,
        object: entrusted.object,
    }
}

/// The upload of a reply on its way. Unless it was completed it is aborted, also when nobody waits for it any more: no record names it.
struct Unfinished<'a> {
    store: &'a Store,
    key: &'a Key,
    upload: Option<UploadId>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        let (Some(upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else {
            return;
        };
        let (store, key) = (self.store.clone(), self.key.clone());
        runtime.spawn(async move {
            if let Err(error) = store.abort(&key, &upload).await {
                warn!(%key, %error, "a reply that broke off is left to the store's own cleaning");
            }
        });
    }
}

/// Stores a reply piece by piece. What a failure leaves behind goes with the session.
async fn keep(store: &Store, key: &Key, session: SessionId, mut body: Pieces) -> Result<ObjectTag, Untold> {
    let terms = Terms {
        before: &Before::Absent,
        by: Deadline::after(Uptime::now(), REPLY_DEADLINE),
    };
    let mut rest = Bytes::new();
    let (first, more) = fill(&mut body, &mut rest).await?;
    if !more {
        return Ok(store.put_file(key, session, first, terms).await?);
    }
    let upload = store.begin(key, session).await?;
    let mut unfinished = Unfinished {
        store,
        key,
        upload: Some(upload.clone()),
    };
    let mut parts: Vec<RecordedPart> = Vec::new();
    let (mut piece, mut more) = (first, true);
    loop {
        let from = parts.last().map_or(0, RecordedPart::end);
        let length: u64 = piece.iter().map(|chunk| chunk.len() as u64).sum();
        if length > 0 {
            let part = PartRange {
                index: u32::try_from(parts.len()).unwrap_or(u32::MAX),
                from,
                to: from + length,
            };
            let id = store.put_part(key, &upload, part, piece).await?;
            parts.push(RecordedPart(id, part.to));
        }
        if !more {
            break;
        }
        (piece, more) = fill(&mut body, &mut rest).await?;
    }
    let mark = store.mark(key, &upload).await?;
    match store
        .complete(key, session, &upload, &parts, terms, mark.as_deref())
        .await
    {
        Ok(tag) => {
            unfinished.upload = None;
            Ok(tag)
        }
        Err(CompleteError::Store(error)) => Err(error.into()),
        Err(other) => Err(busy(other.to_string()).into()),
    }
}

/// The next [`PIECE`] of a body, and whether more may come. What belongs to the one after it stays in `rest`.
async fn fill(body: &mut Pieces, rest: &mut Bytes) -> Result<(Vec<Bytes>, bool), Failure> {
    let mut piece = Vec::new();
    let mut wanted = usize::try_from(PIECE).unwrap_or(usize::MAX);
    loop {
        if rest.is_empty() {
            match body.next().await {
                Some(chunk) => *rest = chunk?,
                None => return Ok((piece, false)),
            }
        }
        let chunk = rest.split_to(rest.len().min(wanted));
        wanted -= chunk.len();
        if !chunk.is_empty() {
            piece.push(chunk);
        }
        if wanted == 0 {
            return Ok((piece, true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::depot::Depot;

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_stalls_for_too_long_leaves_no_upload_behind() {
        let store = Depot::memory().store();
        let session = SessionId::new(random_id());
        let key = Key::reply(session, ReplyName(random_id()));
        let beginning = futures::stream::iter((0..6).map(|_| Ok(Bytes::from(vec![1; 1 << 20]))));
        let body = beginning.chain(futures::stream::pending()).boxed();
        let kept = tokio::time::timeout(ANSWER_WITHIN, keep(&store, &key, session, body)).await;
        assert!(kept.is_err());
        tokio::time::timeout(ANSWER_WITHIN, async {
            while !store.list_uploads(&key).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_reply_of_several_pieces_is_one_object() {
        let store = Depot::memory().store();
        let session = SessionId::new(random_id());
        let key = Key::reply(session, ReplyName(random_id()));
        let body = futures::stream::iter((0..11).map(|_| Ok(Bytes::from(vec![1; 1 << 20])))).boxed();
        let Ok(tag) = keep(&store, &key, session, body).await else {
            panic!("a store that is well");
        };
        assert_eq!(tag.size, 11 << 20);
        assert!(store.list_uploads(&key).await.unwrap().is_empty());
    }
}
