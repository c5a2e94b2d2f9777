//! Events that nobody delivered: those of processes that died, and those that were not taken at first.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use tracing::{debug, warn};

use super::{JITTER, jittered};
use crate::bits::SessionId;
use crate::clock::{Deadline, Timestamp, Uptime, random_id};
use crate::metrics::Metrics;
use crate::notify::events::{Backoff, Untaken};
use crate::session::{Announced, EventKind};
use crate::store::{Error, ListedSession, Store, Stored, Version};
use crate::upload::{Place, Taken};

/// The longest pause between two tries of the same event.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Sessions that are looked at, and events that are told, at the same time.
const AT_ONCE: usize = 8;

/// So many events in a row that an endpoint could not even be asked about are enough for one round: it is away.
const AWAY_AFTER: u32 = 3;

/// Delivers what others left behind in the stores of `places`, for ever: one replica in every `interval`, and at first at once. To be dropped
/// when the process ends.
#[expect(clippy::disallowed_methods, reason = "a timer is what this is")]
pub async fn deliver_what_is_left(places: Vec<Arc<Place>>, interval: Duration, metrics: Metrics) {
    let mut gatherers = by_store(&places, interval, &metrics);
    if gatherers.is_empty() {
        return;
    }
    loop {
        for gatherer in &mut gatherers {
            gatherer.round(interval).await;
        }
        tokio::time::sleep(jittered(interval)).await;
    }
}

fn by_store(places: &[Arc<Place>], interval: Duration, metrics: &Metrics) -> Vec<Gatherer> {
    let mut gatherers: Vec<Gatherer> = Vec::new();
    for place in places.iter().filter(|place| place.events.is_some()) {
        let known = gatherers
            .iter_mut()
            .find(|gatherer| gatherer.store.shares_sessions_with(&place.store));
        match known {
            Some(gatherer) => gatherer.places.push(Arc::clone(place)),
            None => gatherers.push(Gatherer::new(place, interval, metrics.clone())),
        }
    }
    gatherers
}

/// Gathers the events that are left in one store.
pub struct Gatherer {
    store: Store,
    /// The routes that have somebody to tell, and keep their sessions there.
    places: Vec<Arc<Place>>,
    pauses: Backoff,
    metrics: Metrics,
    rounds: u64,
    state: Mutex<State>,
    /// What waits, by route, as it was last told.
    left: HashMap<String, i64>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<SessionId, Known>,
    /// What waits, by route.
    left: HashMap<String, i64>,
    /// Failures to reach the endpoint of a route, in a row.
    away: HashMap<String, u32>,
}

/// What is remembered of a session from one round to the next.
#[derive(Debug)]
struct Known {
    version: Version,
    round: u64,
    owes: bool,
    /// When it began, while that is still to be told.
    created: Option<Timestamp>,
    failures: u32,
    rests_until: Deadline,
}

/// What came of telling the events of one session.
#[derive(Debug, Default)]
struct Told {
    owes: bool,
    is_created_owed: bool,
    has_failed: bool,
}

impl Told {
    fn owe(&mut self, kind: EventKind) {
        self.owes = true;
        self.is_created_owed |= kind == EventKind::Created;
    }
}

/// What came of a round.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Gathered {
    /// Events that wait, for an endpoint or for the end of a pause.
    pub left: u64,
}

impl Gatherer {
    /// One for the store of `place`, which begins with a pause of `interval` after a failure.
    pub fn new(place: &Arc<Place>, interval: Duration, metrics: Metrics) -> Self {
        Self {
            store: place.store.clone(),
            places: vec![Arc::clone(place)],
            pauses: Backoff {
                first: interval,
                longest: interval.max(LONGEST_PAUSE),
            },
            metrics,
            rounds: 0,
            state: Mutex::default(),
            left: HashMap::new(),
        }
    }

    async fn round(&mut self, interval: Duration) {
        let gathered = match self.store.elect_herald(interval - interval / JITTER).await {
            Ok(Some(now)) => self.gather(now).await.map(drop),
            Ok(None) => {
                debug!(store = %self.store, "another replica looks for events in this interval");
                self.tell_what_is_left(HashMap::new());
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = gathered {
            warn!(store = %self.store, %error, "no look for events that are left");
        }
    }

    /// Looks once at every session, and tells what is owed. `now` is the time by the store's own clock.
    ///
    /// # Errors
    /// When the list of sessions can't be had. What can't be dealt with is left to the next round.
    pub async fn gather(&mut self, now: Timestamp) -> Result<Gathered, Error> {
        self.rounds += 1;
        {
            let mut state = self.state();
            state.left.clear();
            state.away.clear();
        }
        let this = &*self;
        let looked = this
            .store
            .list_sessions()
            .try_for_each_concurrent(AT_ONCE, |listed| async move {
                match this.look_at(&listed, now).await {
                    Ok(()) | Err(Error::NotFound) => {}
                    Err(error) => debug!(session = %listed.id, %error, "its events are left to the next round"),
                }
                Ok(())
            });
        looked.await?;
        let round = self.rounds;
        let left = {
            let mut state = self.state();
            state.known.retain(|_, known| known.round == round);
            std::mem::take(&mut state.left)
        };
        let gathered = Gathered {
            left: left.values().map(|left| left.unsigned_abs()).sum(),
        };
        for (route, left) in &left {
            warn!(store = %self.store, route, events = left, "events wait: nobody takes them");
        }
        self.tell_what_is_left(left);
        Ok(gathered)
    }

    async fn look_at(&self, listed: &ListedSession, now: Timestamp) -> Result<(), Error> {
        let Some(record) = &listed.record else { return Ok(()) };
        // All routes of a store have the same window but for their time-outs.
        let outboxes = self.places.iter().filter_map(|place| place.events.as_ref());
        let left_after = outboxes.map(|outbox| outbox.is_left_after()).min().unwrap_or_default();
        // What is younger is being told by whoever wrote it. Of a session that goes on, its beginning may be old enough all the same.
        let is_young = now.since(record.modified) < left_after;
        if is_young && listed.delivered.contains(&EventKind::Created) {
            return Ok(());
        }
        if let Some(known) = self.state().known.get_mut(&listed.id) {
            known.round = self.rounds;
            let has_news = if is_young {
                known.created.is_some_and(|created| now.since(created) >= left_after)
            } else {
                known.owes || !known.version.same_as(&record.version)
            };
            if !has_news {
                return Ok(());
            }
        }
        let stored = self.store.read_record(listed.id).await?.ok_or(Error::NotFound)?;
        let told = self.tell(listed, &stored, now).await;
        let pauses = self.pauses;
        self.known(listed.id, &stored.version, |known| {
            known.created = told.is_created_owed.then_some(stored.record.created);
            known.owes = told.owes;
            if told.has_failed {
                known.failures += 1;
                let pause = pauses.pause(known.failures, random_id().as_u128());
                known.rests_until = Deadline::after(Uptime::now(), pause);
            }
        });
        Ok(())
    }

    /// Tells what a session owes and what is old enough.
    async fn tell(&self, listed: &ListedSession, stored: &Stored, now: Timestamp) -> Told {
        let mut told = Told::default();
        let place = self
            .places
            .iter()
            .find(|place| place.route == stored.record.target.route);
        let Some((place, outbox)) = place.and_then(|place| Some((place, place.events.as_ref()?))) else {
            return told;
        };
        let patience = stored
            .record
            .events
            .as_ref()
            .map_or(Duration::ZERO, Announced::patience);
        // One event that is refused for good shall not hold up the other one of its session.
        let rests = self.rests(listed.id);
        for kind in stored.record.owed(&listed.delivered) {
            // The record may have been written since it was listed.
            let since = match kind {
                EventKind::Created => stored.record.created.min(stored.modified),
                _ => stored.modified,
            };
            let age = now.since(since);
            let is_settled = if age < outbox.is_left_after() {
                told.owe(kind);
                continue;
            } else if age >= patience {
                outbox.drop_event(place, &stored.record, kind).await.is_ok()
            } else if rests || self.is_away(&place.route) {
                false
            } else {
                let taken = outbox.deliver(place, &stored.record, kind).await;
                self.note(&place.route, &taken);
                told.has_failed |= taken.is_err();
                taken == Ok(Taken::Marked)
            };
            if !is_settled {
                told.owe(kind);
                *self.state().left.entry(place.route.clone()).or_default() += 1;
            }
        }
        told
    }

    /// Whether the events of a session failed so lately that they are not tried.
    fn rests(&self, id: SessionId) -> bool {
        let state = self.state();
        state
            .known
            .get(&id)
            .is_some_and(|known| !known.rests_until.has_passed())
    }

    /// Whether the endpoint of a route is not even asked any more in this round.
    fn is_away(&self, route: &str) -> bool {
        let state = self.state();
        state.away.get(route).is_some_and(|failures| *failures >= AWAY_AFTER)
    }

    fn note(&self, route: &str, told: &Result<Taken, Untaken>) {
        let mut state = self.state();
        match told {
            Err(Untaken::Unreachable(_) | Untaken::TimedOut(_)) => {
                *state.away.entry(route.to_owned()).or_default() += 1;
            }
            // Whoever says no is there.
            Ok(_) | Err(Untaken::Status(_)) => drop(state.away.remove(route)),
        }
    }

    fn known(&self, id: SessionId, version: &Version, change: impl FnOnce(&mut Known)) {
        let mut state = self.state();
        let known = state.known.entry(id).or_insert_with(|| Known {
            version: version.clone(),
            round: self.rounds,
            owes: true,
            created: None,
            failures: 0,
            rests_until: Deadline::after(Uptime::now(), Duration::ZERO),
        });
        known.version = version.clone();
        change(known);
    }

    /// What waits is told as a change: other events of the same route may be on their way in this process.
    fn tell_what_is_left(&mut self, left: HashMap<String, i64>) {
        for place in &self.places {
            let before = self.left.get(&place.route).copied().unwrap_or_default();
            let now = left.get(&place.route).copied().unwrap_or_default();
            self.metrics.events_left(&place.route, now - before);
        }
        self.left = left;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatherer")
            .field("store", &self.store)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::notify::events::{Herald, Mode, Settings};
    use crate::session::{Before, EventKind, Outcome, Phase, Principal, Record, Target};
    use crate::store::depot::{Depot, Line};
    use crate::upload::{Checksum, Coordination, Durability, Outbox, Rules};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Somebody who is told, and answers this status.
    struct Endpoint {
        url: String,
        status: Arc<AtomicU16>,
        heard: Arc<Mutex<Vec<String>>>,
    }

    impl Endpoint {
        async fn open() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/in", listener.local_addr().unwrap());
            let (status, heard) = (Arc::new(AtomicU16::new(200)), Arc::<Mutex<Vec<String>>>::default());
            let (answers, hears) = (Arc::clone(&status), Arc::clone(&heard));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = Vec::new();
                    // The body of a binary event ends with the end of its only object.
                    while !request.ends_with(b"}") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            break;
                        }
                    }
                    let text = String::from_utf8(request).unwrap();
                    let id = text.lines().find_map(|line| line.strip_prefix("ce-id: "));
                    hears.lock().unwrap().push(id.unwrap().to_owned());
                    let status = answers.load(Ordering::SeqCst);
                    let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                    // Who asked may be gone.
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            Self { url, status, heard }
        }

        fn heard(&self) -> Vec<String> {
            let mut heard = std::mem::take(&mut *self.heard.lock().unwrap());
            heard.sort();
            heard
        }
    }

    fn place(depot: &Depot, url: &str) -> Arc<Place> {
        place_over(depot.store(), url)
    }

    fn place_over(store: Store, url: &str) -> Arc<Place> {
        let settings = Settings {
            mode: Mode::Binary,
            url: Some(url.to_owned()),
            ..Settings::default()
        };
        let herald = Herald::new(&settings).unwrap().unwrap();
        let outbox = Outbox::new(herald, HOUR, Arc::new(SystemClock), Metrics::new(["/"]));
        Arc::new(Place {
            route: "/".to_owned(),
            store,
            rules: Rules {
                overwrite: false,
                max_upload_size: 1 << 20,
                max_fragment_size: 1 << 20,
                part_size: 64,
                session_timeout: 24 * HOUR,
                closed_session_memory: 24 * HOUR,
                durability: Durability::Fragment,
                coordination: Coordination::Shared,
                checksum: Checksum::Off,
                checksum_sidecar: false,
            },
            application: None,
            events: Some(Arc::new(outbox)),
        })
    }

    /// A session whose process died before it told anybody.
    async fn abandoned(place: &Place, phase: Phase, days: u64) -> SessionId {
        let id = SessionId::new(random_id());
        let target = Target {
            route: "/".to_owned(),
            key: "f".to_owned(),
            query: None,
        };
        let (nobody, url, now) = (Principal::anonymous(), String::new(), SystemClock.now());
        let record = Record::begin(id, nobody, target, url, 64, 64, false, Before::Absent, now).announced(Announced {
            kinds: EventKind::ALL.to_vec(),
            max_age: days * 86_400,
            client: None,
            end: None,
        });
        let record = Record { phase, ..record }.stamped(random_id(), now);
        place.store.create_record(&record).await.unwrap();
        id
    }

    fn closed(outcome: Outcome) -> Phase {
        Phase::Closed { outcome, upload: None }
    }

    fn gatherer(place: &Arc<Place>) -> Gatherer {
        Gatherer::new(place, HOUR, Metrics::new(["/"]))
    }

    async fn gather(gatherer: &mut Gatherer, depot: &Depot) -> u64 {
        let now = depot.store().now().await.unwrap();
        gatherer.gather(now).await.unwrap().left
    }

    fn ids(id: SessionId, kinds: &[&str]) -> Vec<String> {
        let mut ids: Vec<_> = kinds.iter().map(|kind| format!("{}-{kind}", id.as_key())).collect();
        ids.sort();
        ids
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_told_once_it_is_old_enough_and_never_again() {
        let (depot, endpoint) = (Depot::memory(), Endpoint::open().await);
        let place = place(&depot, &endpoint.url);
        let id = abandoned(&place, closed(Outcome::Completed), 3).await;
        let mut one = gatherer(&place);
        assert_eq!(gather(&mut one, &depot).await, 0, "whoever wrote it may be at it");
        assert_eq!(endpoint.heard(), [""; 0]);
        depot.advance(2 * HOUR);
        assert_eq!(gather(&mut one, &depot).await, 0);
        assert_eq!(endpoint.heard(), ids(id, &["completed", "created"]));
        for mut another in [one, gatherer(&place)] {
            assert_eq!(gather(&mut another, &depot).await, 0);
        }
        assert_eq!(endpoint.heard(), [""; 0]);
    }

    #[tokio::test]
    async fn a_session_that_goes_on_is_told_of_twice_at_most() {
        let (depot, endpoint) = (Depot::memory(), Endpoint::open().await);
        let place = place(&depot, &endpoint.url);
        let id = abandoned(&place, Phase::Open(crate::session::Staged::default()), 3).await;
        let mut gatherer = gatherer(&place);
        depot.advance(2 * HOUR);
        gather(&mut gatherer, &depot).await;
        assert_eq!(endpoint.heard(), ids(id, &["created"]));
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        let mut ended = stored.record.clone();
        ended.phase = closed(Outcome::Expired);
        let ended = ended.stamped(random_id(), SystemClock.now());
        place.store.replace_record(&ended, &stored.version).await.unwrap();
        depot.advance(2 * HOUR);
        gather(&mut gatherer, &depot).await;
        assert_eq!(endpoint.heard(), ids(id, &["expired"]));
    }

    #[tokio::test]
    async fn the_beginning_of_a_session_is_told_while_it_goes_on() {
        let (depot, endpoint) = (Depot::memory(), Endpoint::open().await);
        let place = place(&depot, &endpoint.url);
        let id = abandoned(&place, Phase::Open(crate::session::Staged::default()), 3).await;
        let mut gatherer = gatherer(&place);
        assert_eq!(gather(&mut gatherer, &depot).await, 0);
        for round in 0..4 {
            depot.advance(HOUR / 2);
            let stored = place.store.read_record(id).await.unwrap().unwrap();
            let next = stored.record.clone().stamped(random_id(), SystemClock.now());
            place.store.replace_record(&next, &stored.version).await.unwrap();
            assert_eq!(gather(&mut gatherer, &depot).await, 0);
            let told = if round == 2 { ids(id, &["created"]) } else { Vec::new() };
            assert_eq!(endpoint.heard(), told, "round {round}");
        }
    }

    #[tokio::test]
    async fn an_event_that_was_taken_and_could_not_be_marked_is_told_again() {
        let (depot, endpoint, line) = (Depot::memory(), Endpoint::open().await, Line::new());
        let place = place_over(depot.over(&line), &endpoint.url);
        let id = abandoned(&place, Phase::Open(crate::session::Staged::default()), 3).await;
        depot.advance(2 * HOUR);
        let mut gatherer = gatherer(&place);
        // The list and the record come through.
        line.cut_after(2);
        assert_eq!(gather(&mut gatherer, &depot).await, 1);
        assert_eq!(endpoint.heard(), ids(id, &["created"]));
        line.cut_after(u64::MAX);
        assert_eq!(gather(&mut gatherer, &depot).await, 0);
        assert_eq!(endpoint.heard(), ids(id, &["created"]));
    }

    #[tokio::test]
    async fn who_says_no_is_asked_again_after_a_pause_and_at_last_no_more() {
        let (depot, endpoint) = (Depot::memory(), Endpoint::open().await);
        endpoint.status.store(503, Ordering::SeqCst);
        let place = place(&depot, &endpoint.url);
        let id = abandoned(&place, closed(Outcome::Cancelled), 1).await;
        depot.advance(2 * HOUR);
        let mut patient = gatherer(&place);
        assert_eq!(gather(&mut patient, &depot).await, 2);
        assert_eq!(
            endpoint.heard(),
            ids(id, &["cancelled", "created"]),
            "one that is refused holds up no other"
        );
        assert_eq!(gather(&mut patient, &depot).await, 2);
        assert_eq!(endpoint.heard(), [""; 0], "the pause is not over");
        assert_eq!(
            gather(&mut gatherer(&place), &depot).await,
            2,
            "another replica knows of no pause"
        );
        assert_eq!(endpoint.heard(), ids(id, &["cancelled", "created"]));
        depot.advance(24 * HOUR);
        assert_eq!(gather(&mut patient, &depot).await, 0, "dropped");
        endpoint.status.store(200, Ordering::SeqCst);
        assert_eq!(gather(&mut gatherer(&place), &depot).await, 0);
        assert_eq!(endpoint.heard(), [""; 0]);
    }

    #[tokio::test]
    async fn an_endpoint_that_is_away_is_not_asked_about_every_event() {
        let depot = Depot::memory();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let place = place(&depot, &format!("http://{gone}/"));
        for _ in 0..40 {
            abandoned(&place, closed(Outcome::Completed), 3).await;
        }
        depot.advance(2 * HOUR);
        let mut gatherer = gatherer(&place);
        assert_eq!(gather(&mut gatherer, &depot).await, 80);
        let asked = gatherer
            .state()
            .known
            .values()
            .filter(|known| known.failures > 0)
            .count();
        assert!((3..3 + AT_ONCE).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn sessions_of_routes_that_tell_nobody_are_left_alone() {
        let (depot, endpoint) = (Depot::memory(), Endpoint::open().await);
        let place = place(&depot, &endpoint.url);
        let id = abandoned(&place, closed(Outcome::Completed), 3).await;
        let other = Arc::new(Place {
            route: "/other/".to_owned(),
            store: depot.store(),
            rules: place.rules.clone(),
            application: None,
            events: place.events.clone(),
        });
        depot.advance(2 * HOUR);
        assert_eq!(gather(&mut gatherer(&other), &depot).await, 0);
        assert_eq!(endpoint.heard(), [""; 0]);
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 1);
    }
}
