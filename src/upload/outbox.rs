//! The outbox: tells others of sessions, behind the backs of their clients.
//!
//! What is to be told stands in the records, which are written anyway. Whoever wrote one tries to tell of it, for a while and without
//! anybody waiting. What is not marked as told by then is found in the store and told by whoever is elected for that (`cleanup`): so
//! nothing depends on the process that began, and nothing is kept in memory for long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::Place;
use crate::clock::{Clock, Uptime, random_id};
use crate::metrics::{EventFailure, Metrics};
use crate::notify::Herald;
use crate::notify::events::{Backoff, Event, Untaken};
use crate::session::{Announced, EventKind, Record};
use crate::store::Settled;

/// Requests to one endpoint at the same time: enough for thousands of events a second, and no attack on it when it comes back.
const AT_ONCE: usize = 16;

/// Events of a route that a process remembers. More are left to be found in the store.
const REMEMBERED: u32 = 4096;

/// Pauses of the process that began.
const PAUSES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// Who is told of the sessions of a route, and how far this process has come with it.
pub struct Outbox {
    herald: Herald,
    /// For how long the process tries that wrote the record.
    window: Duration,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    posting: Semaphore,
    remembered: Arc<Semaphore>,
    /// Whether the last request failed: said once, not for each event.
    is_in_trouble: AtomicBool,
}

impl Outbox {
    /// The outbox of a route whose events a process tries to deliver for `window`, before it leaves them to whoever finds them.
    pub fn new(herald: Herald, window: Duration, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            herald,
            window,
            clock,
            metrics,
            posting: Semaphore::new(AT_ONCE),
            remembered: Arc::new(Semaphore::new(REMEMBERED as usize)),
            is_in_trouble: AtomicBool::new(false),
        }
    }

    /// How old an event is at least that its own process has given up, however long its last request took.
    pub fn is_left_after(&self) -> Duration {
        self.window + self.herald.timeout()
    }

    /// What a session promises to tell.
    pub(super) fn promise(&self, client: Option<String>) -> Announced {
        self.herald.promise(client)
    }

    /// Tells of an event and marks it as told. Two who do so at the same time tell it twice: receivers know it by its id.
    ///
    /// # Errors
    /// [`Untaken`]: it is to be told again.
    pub async fn deliver(&self, place: &Place, record: &Record, kind: EventKind) -> Result<Taken, Untaken> {
        let Some(event) = Event::of(record, kind, &place.store.to_string(), self.herald.source()) else {
            return Ok(Taken::Marked);
        };
        if let Err(untaken) = self.herald.tell(&event, self.clock.now()).await {
            self.metrics.event_failed(&place.route, reason(&untaken));
            debug!(session = %record.id, event = kind.as_str(), %untaken, "an event was not taken");
            if !self.is_in_trouble.swap(true, Ordering::Relaxed) {
                warn!(route = place.route, why = %untaken, "events are not taken");
            }
            return Err(untaken);
        }
        if self.is_in_trouble.swap(false, Ordering::Relaxed) {
            info!(route = place.route, "events are taken again");
        }
        self.metrics.event_delivered(&place.route, kind);
        if let Err(error) = place.store.settle_event(record.id, kind, Settled::Delivered).await {
            warn!(session = %record.id, event = kind.as_str(), %error, "an event was delivered and will be again: it could not be marked");
            return Ok(Taken::Unmarked);
        }
        Ok(Taken::Marked)
    }

    /// Gives an event up that nobody took for too long.
    ///
    /// # Errors
    /// Trouble with the store: it is not given up yet.
    pub async fn drop_event(&self, place: &Place, record: &Record, kind: EventKind) -> Result<(), crate::store::Error> {
        place.store.settle_event(record.id, kind, Settled::Dropped).await?;
        place.gave_up(kind);
        warn!(session = %record.id, route = place.route, key = record.target.key, event = kind.as_str(), "dropped: nobody took the event");
        Ok(())
    }

    /// Waits until this process has told, or left to others, all that it began to tell.
    pub async fn idle(&self) {
        // Nobody closes it.
        drop(self.remembered.acquire_many(REMEMBERED).await);
    }

    async fn try_for_a_while(&self, place: &Place, record: &Record, kind: EventKind) {
        let began = Uptime::now();
        for failures in 1.. {
            // Nobody closes it.
            let turn = self.posting.acquire().await;
            if began.elapsed() >= self.window {
                return;
            }
            if self.deliver(place, record, kind).await.is_ok() {
                return;
            }
            drop(turn);
            let pause = PAUSES.pause(failures, random_id().as_u128());
            if began.elapsed() + pause >= self.window {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "back-off: there is no event to wait for")]
            tokio::time::sleep(pause).await;
        }
    }
}

/// What became of an event that the endpoint took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// The store says so: nobody tells it again.
    Marked,
    /// Nobody else knows, so it is told again.
    Unmarked,
}

impl Place {
    /// Counts an event that is told no more although nobody took it.
    pub fn gave_up(&self, kind: EventKind) {
        if let Some(outbox) = &self.events {
            outbox.metrics.event_dropped(&self.route, kind);
        }
    }

    /// What a session of this place promises to tell, which begins now.
    pub(super) fn promise(&self, client: Option<String>) -> Option<Announced> {
        self.events.as_ref().map(|outbox| outbox.promise(client))
    }

    /// Begins to tell of an event that the stored `record` brought. Nobody waits for it.
    pub(super) fn announce(self: &Arc<Self>, record: &Record, kind: EventKind) {
        let Some(outbox) = self.events.as_ref().map(Arc::clone) else {
            return;
        };
        // Of more than these the store reminds us.
        let Ok(remembered) = Arc::clone(&outbox.remembered).try_acquire_owned() else {
            return;
        };
        let (place, record) = (Arc::clone(self), record.clone());
        let pending = outbox.metrics.event_pends(&place.route);
        tokio::spawn(async move {
            outbox.try_for_a_while(&place, &record, kind).await;
            drop((pending, remembered));
        });
    }
}

const fn reason(untaken: &Untaken) -> EventFailure {
    match untaken {
        Untaken::TimedOut(_) => EventFailure::TimedOut,
        Untaken::Unreachable(_) => EventFailure::Unreachable,
        Untaken::Status(_) => EventFailure::Refused,
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("herald", &self.herald)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
