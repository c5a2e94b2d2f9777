//! The floor: carries out what `session` decides, one packet at a time per session.
//!
//! ```text
//! packet ─▶ turn (this process) ─▶ look (cache, or list then read) ─▶ rules ─▶ save ─▶ act ─▶ answer
//!                                       ▲                                       │
//!                                       └──── another replica was first ────────┘
//! ```
//!
//! The truth is in the store. What is remembered here saves requests and may be forgotten at any moment.

mod append;
mod body;
mod outbox;
mod overview;
mod place;
mod refused;
mod register;
mod settings;
mod sidecar;
mod tell;
#[cfg(test)]
mod tests;
mod turn;
mod view;
mod work;

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tracing::info;

pub use body::{Body, BodyBroken};
pub use outbox::{Outbox, Taken};
pub use overview::{Detail, Filter, More, Overview, Standing};
pub use place::{Asked, Checksum, Coordination, Durability, Place, Rules};
pub use refused::Refused;
pub use register::{NotCancelled, Register};
pub use settings::{MemorySettings, Settings, Taking};
pub use tell::ReplyAt;

use crate::bits::{ContentRange, SessionId};
use crate::budget::{Budget, Evict};
use crate::clock::{Clock, Uptime, random_id};
use crate::metrics::Metrics;
use crate::session::{Answer, Before, Input, Record, Refusal, Session, Tails, Then};
use crate::store::Key;
use append::Receiving;
use turn::Entry;
use view::View;
use work::{ANSWER_WITHIN, ATTEMPTS, Saved, Work, busy, in_time, refused};

/// How long a packet waits for an older one of its session to stop: longer than any single request to the store.
const TURN_PATIENCE: Duration = Duration::from_secs(90);

/// A session that nobody asked for in this long is forgotten here: the store has all of it. To load it again takes two requests, which a
/// client that paused for so long does not notice.
const IDLE: Duration = Duration::from_secs(60);

/// The same for one whose last bytes are nowhere else (`durability = "part"`): its client has to send them again.
const VOLATILE_IDLE: Duration = Duration::from_secs(10 * 60);

/// Every upload of this process. Cheap to clone.
#[derive(Clone)]
pub struct Uploads(Arc<Inner>);

/// What all packets share.
struct Inner {
    table: DashMap<(String, SessionId), Arc<Entry>>,
    /// The sessions that hold bytes, longest first.
    holding: Mutex<VecDeque<Weak<Entry>>>,
    budget: Budget,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What became of a fragment.
#[derive(Debug)]
pub struct Fragmented {
    /// The true next offset, when the session is known: every Ack of a fragment carries it (protocol digest, part 0).
    pub next: Option<u64>,
    /// Whether the fragment was taken.
    pub verdict: Result<(), Refused>,
    /// Where the reply of the server application is, when this was the last fragment and there is one.
    pub reply: Option<ReplyAt>,
}

impl Fragmented {
    const fn unknown(refused: Refused) -> Self {
        Self {
            next: None,
            verdict: Err(refused),
            reply: None,
        }
    }
}

impl Uploads {
    /// The uploads of a process that buffers within `budget`.
    pub fn new(budget: Budget, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let inner = Arc::new(Inner {
            table: DashMap::new(),
            holding: Mutex::new(VecDeque::new()),
            budget: budget.clone(),
            clock,
            metrics,
        });
        let owner: Weak<dyn Evict> = Arc::<Inner>::downgrade(&inner);
        budget.evict_from(owner);
        Self(inner)
    }

    /// The memory that bodies are buffered in.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Begins a session (MC-BUP 3.2.5.2.4).
    ///
    /// # Errors
    /// [`Refused::Exists`] when the destination exists and may not be replaced, [`Refused::InvalidArgument`] when it
    /// cannot be a file, or trouble with the store.
    pub async fn create(&self, place: &Arc<Place>, asked: Asked) -> Result<SessionId, Refused> {
        in_time(ANSWER_WITHIN, pin!(self.begin(place, asked))).await
    }

    async fn begin(&self, place: &Arc<Place>, asked: Asked) -> Result<SessionId, Refused> {
        let key = key_of(&asked)?;
        sidecar::check(place, &asked)?;
        let before = match place.store.look(&key).await? {
            Some(_) if !place.rules.overwrite => return Err(Refused::Exists),
            Some(seen) => Before::Present(seen.tag),
            None => Before::Absent,
        };
        let id = SessionId::new(random_id());
        let now = self.0.clock.now();
        let rules = &place.rules;
        let record = Record::begin(
            id,
            asked.principal,
            asked.target,
            asked.url,
            rules.part_size,
            rules.max_upload_size,
            rules.overwrite,
            before,
            now,
        );
        let record = match place.application {
            Some(_) => record.for_application(),
            // Of what an application takes nobody else is told: it knows, and its files are not where others could fetch them.
            None => match place.promise(asked.client.map(|client| client.to_string())) {
                Some(events) => record.announced(events),
                None => record,
            },
        };
        let record = match rules.checksum {
            Checksum::Sha256 => record.with_digest(),
            Checksum::Off => record,
        };
        let record = record.stamped(random_id(), now);
        let asked_at = Uptime::now();
        let version = place.store.create_record(&record).await?;
        info!(target: "bits_gateway::session", event = "created", session = %id, route = place.route, key = %key,
            principal = record.principal.as_str(), "session");
        self.0.metrics.session_created(&place.route);
        if let Some(kind) = record.owed(&[]).pop() {
            place.announce(&record, kind);
        }
        let view = View::created(
            Session {
                record,
                tails: Tails::none(),
            },
            version,
            asked_at,
        );
        self.0
            .table
            .insert((place.route.clone(), id), Arc::new(Entry::new(Some(view))));
        Ok(id)
    }

    /// Takes a fragment (MC-BUP 3.2.5.2.6). The body is read only as far as the fragment is wanted: draining the rest is the caller's.
    pub async fn fragment(
        &self,
        place: &Arc<Place>,
        asked: &Asked,
        id: SessionId,
        range: ContentRange,
        body: &mut impl Body,
    ) -> Fragmented {
        let entry = self.0.entry(place, id);
        let fragmented = match self.0.work(&entry, place, asked, id).await {
            Ok(mut work) => {
                let answer = take(&mut work, range, body).await;
                let fragmented = conclude(&mut work, answer).await;
                self.0.done(work, &entry);
                fragmented
            }
            Err(refused) => Fragmented::unknown(refused),
        };
        self.0.forget_unknown(place, id, &fragmented.verdict);
        match fragmented.verdict {
            // There is no session any more that could have a next offset.
            Err(refused @ (Refused::SessionNotFound | Refused::Lost(_))) => Fragmented::unknown(refused),
            verdict => Fragmented { verdict, ..fragmented },
        }
    }

    /// Ends a session (MC-BUP 3.2.5.2.7): of a published file only a tombstone is left, of an unfinished one nothing else.
    ///
    /// # Errors
    /// [`Refused::SessionNotFound`] when there is none, or when it ended otherwise; trouble with the store.
    pub async fn close(&self, place: &Arc<Place>, asked: &Asked, id: SessionId) -> Result<(), Refused> {
        self.end(place, asked, id, |_| Input::Close).await
    }

    /// Forgets a session (MC-BUP 3.2.5.2.8). A file that is published stays.
    ///
    /// # Errors
    /// [`Refused::SessionNotFound`] when there is none; trouble with the store.
    pub async fn cancel(&self, place: &Arc<Place>, asked: &Asked, id: SessionId) -> Result<(), Refused> {
        self.end(place, asked, id, |settled| Input::Cancel { settled }).await
    }

    async fn end(
        &self,
        place: &Arc<Place>,
        asked: &Asked,
        id: SessionId,
        input: impl Fn(bool) -> Input,
    ) -> Result<(), Refused> {
        let entry = self.0.entry(place, id);
        let ended = pin!(async {
            let mut work = self.0.work(&entry, place, asked, id).await?;
            let answer = match work.admit().await {
                Ok(()) => work.settle(input).await,
                Err(refused) => Err(refused),
            };
            self.0.done(work, &entry);
            match answer? {
                Answer::Done | Answer::Next(_) => Ok(()),
                Answer::Refused(refusal) => Err(refused(refusal)),
            }
        });
        let ended = in_time(place.answer_within(), ended).await;
        self.0.forget_unknown(place, id, &ended);
        ended
    }

    /// The next offset of a session that `asked` may know of: for the Acks of fragments that were refused before they came here.
    pub async fn next_offset(&self, place: &Arc<Place>, asked: &Asked, id: SessionId) -> Option<u64> {
        let loaded = place.store.load(id).await.ok()??;
        let session = Session {
            record: loaded.stored.record,
            tails: loaded.tails,
        };
        session.admit(&asked.principal, &asked.target).ok()?;
        session.next()
    }

    /// Forgets the sessions that nobody asked for lately. To be called from time to time.
    pub fn forget_idle(&self) {
        self.0
            .table
            .retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_idle(IDLE, VOLATILE_IDLE));
        // An entry that is forgotten, but stands in this list, would keep its place in memory.
        let mut holding = self.0.holding.lock().unwrap_or_else(PoisonError::into_inner);
        holding.retain(|entry| entry.strong_count() > 0);
    }

    /// How many sessions this process remembers.
    pub fn remembered(&self) -> usize {
        self.0.table.len()
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("remembered", &self.remembered())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn entry(&self, place: &Arc<Place>, id: SessionId) -> Arc<Entry> {
        Arc::clone(
            &self
                .table
                .entry((place.route.clone(), id))
                .or_insert_with(|| Arc::new(Entry::new(None))),
        )
    }

    async fn work<'a>(
        &'a self,
        entry: &'a Entry,
        place: &'a Arc<Place>,
        asked: &'a Asked,
        id: SessionId,
    ) -> Result<Work<'a>, Refused> {
        let key = key_of(asked)?;
        let turn = entry
            .turn(TURN_PATIENCE)
            .await
            .ok_or_else(|| busy("another packet of the session has the turn"))?;
        Ok(Work {
            uploads: self,
            place,
            asked,
            id,
            key,
            turn,
            since: Uptime::now(),
            has_seen: false,
        })
    }

    /// Gives the turn back.
    fn done(&self, mut work: Work<'_>, entry: &Arc<Entry>) {
        let holds = work.turn.view.as_ref().is_some_and(|view| view.held.is_some());
        if let Some(view) = work.turn.view.as_mut() {
            view.used = Uptime::now();
        }
        drop(work);
        if holds && entry.enlist() {
            self.holding
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(Arc::downgrade(entry));
        }
    }

    /// Ids that were never issued leave no trace here, however many somebody tries; a stranger's packet takes nothing away.
    fn forget_unknown<T>(&self, place: &Arc<Place>, id: SessionId, verdict: &Result<T, Refused>) {
        if matches!(verdict, Err(Refused::SessionNotFound)) {
            self.table
                .remove_if(&(place.route.clone(), id), |_, entry| entry.is_empty());
        }
    }
}

impl Evict for Inner {
    fn evict(&self, bytes: u64) {
        while self.budget.total() - self.budget.used() < bytes {
            let Some(entry) = self.holding.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                return;
            };
            if let Some(entry) = entry.upgrade() {
                entry.drop_held();
            }
        }
    }
}

/// What the rules say to a fragment, until they say something that holds.
async fn take(work: &mut Work<'_>, range: ContentRange, body: &mut impl Body) -> Result<Answer, Refused> {
    match decide(work, range).await? {
        Then::Receive { from, skip } => {
            work.uploads.metrics.duplicate(skip);
            Receiving::new(work, range, from).run(skip, body).await
        }
        Then::Assemble | Then::Tell | Then::Copy => {
            let within = work.place.answer_within();
            let settled = in_time(
                within,
                pin!(async { Ok(work.settle(|_| Input::Fragment(range)).await) }),
            )
            .await;
            settled.unwrap_or_else(|late| {
                work.forget_what_may_have_changed();
                Err(late)
            })
        }
        Then::Answer(answer) => Ok(answer),
        Then::KeepTail | Then::PutFile | Then::Discard(_) => Err(busy("the session moved on meanwhile")),
    }
}

async fn decide(work: &mut Work<'_>, range: ContentRange) -> Result<Then, Refused> {
    // An acknowledged byte can only be hidden from a stale view by a part that already covers it: a fragment that
    // begins exactly at the end that this process knows needs no look.
    let known_end = work.turn.view.as_ref().map(|view| view.session.end());
    let mut fresh = known_end != Some(range.first());
    work.look(fresh).await?;
    for _ in 0..ATTEMPTS {
        work.admit().await?;
        let step = work.rule(Input::Fragment(range))?;
        let refuses = matches!(step.then, Then::Answer(Answer::Refused(_)));
        if refuses && !fresh {
            work.load().await?;
            fresh = true;
            continue;
        }
        if step.then == Then::Answer(Answer::Refused(Refusal::OutOfStep)) && work.finds_tail().await? {
            continue;
        }
        if let Some(record) = step.save
            && work.save(record).await? == Saved::Overtaken
        {
            fresh = true;
            continue;
        }
        return Ok(step.then);
    }
    Err(busy("other replicas keep changing the session"))
}

async fn conclude(work: &mut Work<'_>, answer: Result<Answer, Refused>) -> Fragmented {
    let verdict = match answer {
        Ok(Answer::Next(next)) => {
            let record = work.turn.view.as_ref().map(|view| &view.session.record);
            return Fragmented {
                next: Some(next),
                verdict: Ok(()),
                reply: record.and_then(ReplyAt::of),
            };
        }
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(refused(refusal)),
        Err(refused) => Err(refused),
    };
    let next = match verdict {
        // Nobody is there to read it.
        Err(Refused::Body(BodyBroken::Disconnected)) => None,
        _ => work.next().await,
    };
    Fragmented {
        next,
        verdict,
        reply: None,
    }
}

fn key_of(asked: &Asked) -> Result<Key, Refused> {
    Key::parse(&asked.target.key).map_err(|_| Refused::InvalidArgument("the URL does not name a file"))
}
