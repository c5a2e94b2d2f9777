//! One sweep of one store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, TryStreamExt};
use tracing::{debug, info, warn};

use super::finding::{Deed, Finding, Report};
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{Announced, EventKind, Input, Limits, Outcome, Phase, Record, Session, Tails, Then, step};
use crate::staging::UploadId;
use crate::store::{Error, Key, KeyRefused, ListedRecord, ListedSession, Name, Seen, Store, Stored, Version};
use crate::upload::{Place, Rules};

/// Nothing younger than this is touched, and a session that was noted as expiring has this long to stir.
const GRACE: Duration = Limits::EXPIRING_LASTS;

/// Multipart uploads that no record names are left alone for this long.
const STRAY_UPLOAD: Duration = Duration::from_secs(24 * 3600);

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
struct Lifetimes {
    silent: Duration,
    closed: Duration,
}

/// What is remembered of a record from one sweep to the next: it is read again only when it changed.
#[derive(Debug)]
struct Known {
    version: Version,
    modified: Timestamp,
    route: String,
    key: String,
    phase: &'static str,
    upload: Option<UploadId>,
    application: bool,
    /// The events that there are of it, and for how long it is worth trying to deliver them.
    events: Vec<EventKind>,
    patience: Duration,
    /// Whether everything beside the record was removed by this process.
    is_cleared: bool,
}

/// Sweeps the sessions of one store.
#[derive(Debug)]
pub struct Broom {
    store: Store,
    /// The routes that keep their sessions there. Where their files lie may differ.
    places: Vec<Arc<Place>>,
    routes: HashMap<String, Lifetimes>,
    known: HashMap<SessionId, Known>,
    /// Whether it only says what it would do.
    rehearses: bool,
    /// Who wants to hear of everything that it finds.
    listener: Option<mpsc::Sender<Finding>>,
    /// What that one has not heard yet.
    unheard: Vec<Finding>,
}

impl Broom {
    /// A broom for the store of `place`, which knows the rules of that route.
    pub fn new(place: &Arc<Place>) -> Self {
        let mut broom = Self {
            store: place.store.clone(),
            places: Vec::new(),
            routes: HashMap::new(),
            known: HashMap::new(),
            rehearses: false,
            listener: None,
            unheard: Vec::new(),
        };
        broom.serve(place);
        broom
    }

    /// Tells it of another route that keeps its sessions in this store.
    pub fn serve(&mut self, place: &Arc<Place>) {
        self.places.push(Arc::clone(place));
        self.learn(&place.route, &place.rules);
    }

    /// The same broom, but it changes nothing: what it finds and counts is what it would do.
    #[must_use]
    pub const fn rehearsing(mut self) -> Self {
        self.rehearses = true;
        self
    }

    /// The same broom, which tells `listener` of everything that it does.
    #[must_use]
    pub fn telling(mut self, listener: mpsc::Sender<Finding>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Tells it the rules of another route's sessions.
    pub fn learn(&mut self, route: &str, rules: &Rules) {
        let lifetimes = Lifetimes {
            silent: rules.session_timeout,
            closed: rules.closed_session_memory,
        };
        self.routes.insert(route.to_owned(), lifetimes);
    }

    /// The store that is swept.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    fn place_of(&self, route: &str) -> Option<&Arc<Place>> {
        self.places.iter().find(|place| place.route == route)
    }

    /// Where a route keeps its files; of routes that are configured no more, where the first one does.
    fn store_of(&self, route: &str) -> &Store {
        self.place_of(route).map_or(&self.store, |place| &place.store)
    }

    /// Sweeps once. `now` is the time by the store's own clock.
    ///
    /// # Errors
    /// When the list of sessions can't be had. A session that can't be dealt with is counted and left to the next sweep.
    pub async fn sweep(&mut self, now: Timestamp) -> Result<Report, Error> {
        let mut report = Report::default();
        let mut seen = HashSet::new();
        let mut sessions = self.store.list_sessions();
        while let Some(listed) = sessions.try_next().await? {
            report.sessions += u64::from(listed.record.is_some());
            seen.insert(listed.id);
            if now.since(listed.newest) < GRACE {
                continue;
            }
            let swept = match &listed.record {
                Some(record) => self.tend(&listed, record, now, &mut report).await,
                None => self.remove_orphans(listed.id, now, &mut report).await,
            };
            match swept {
                Ok(()) => {}
                Err(Error::Conflict | Error::NotFound) => {
                    debug!(session = %listed.id, "the session moved while it was looked at");
                }
                Err(error) => {
                    debug!(session = %listed.id, %error, "left to the next sweep");
                    report.failed += 1;
                    self.note(listed.id, Deed::Failed, None, Some(error.to_string()));
                }
            }
            self.tell().await;
        }
        self.known.retain(|id, _| seen.contains(id));
        Ok(report)
    }

    fn note(&mut self, session: SessionId, deed: Deed, count: Option<u64>, why: Option<String>) {
        if self.listener.is_some() {
            let key = self.known.get(&session).map(|known| known.key.clone());
            self.unheard.push(Finding {
                deed,
                session,
                key,
                count,
                why,
            });
        }
    }

    async fn tell(&mut self) {
        if let Some(listener) = &mut self.listener {
            for finding in self.unheard.drain(..) {
                // A listener that went away has heard enough; the sweep goes on.
                let _ = listener.send(finding).await;
            }
        }
    }

    async fn tend(
        &mut self,
        listed: &ListedSession,
        record: &ListedRecord,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<(), Error> {
        let known = self.know(record).await?;
        let (phase, route) = (known.phase, known.route.clone());
        // The record may have been written since it was listed: then the session is alive.
        let silent_for = now.since(listed.newest.max(known.modified));
        if silent_for < GRACE {
            return Ok(());
        }
        let lifetimes = self.lifetimes(&route);
        match phase {
            "open" | "publishing" | "published" | "sealed" | "told" if silent_for >= lifetimes.silent => {
                self.act(listed.id, Input::Silent, now, report).await
            }
            "expiring" => {
                let input = if self.stirred(listed.id, record.modified).await? {
                    Input::Stirred
                } else {
                    Input::StillSilent
                };
                self.act(listed.id, input, now, report).await
            }
            "closed" if now.since(record.modified) >= lifetimes.closed => {
                let is_overdue = now.since(record.modified) >= lifetimes.closed + 2 * STRAY_UPLOAD;
                self.forget(listed, record, is_overdue, now, report).await
            }
            "closed" if listed.objects > 1 || self.may_have_parts(listed.id) => {
                if listed.objects > 1 {
                    self.note(listed.id, Deed::Cleared, Some(listed.objects - 1), None);
                }
                self.clear(listed.id).await
            }
            _ => Ok(()),
        }
    }

    /// What the record says, read only when it is not the version that is known.
    async fn know(&mut self, listed: &ListedRecord) -> Result<&Known, Error> {
        let current = self
            .known
            .get(&listed.id)
            .is_some_and(|known| known.version.same_as(&listed.version));
        if !current {
            let stored = self.store.read_record(listed.id).await?.ok_or(Error::NotFound)?;
            self.known.insert(listed.id, Known::from(stored));
        }
        self.known.get(&listed.id).ok_or(Error::NotFound)
    }

    /// The rules of the route; for routes that are configured no more, the most patient ones.
    fn lifetimes(&self, route: &str) -> Lifetimes {
        let longest = |of: fn(&Lifetimes) -> Duration| self.routes.values().map(of).max().unwrap_or(GRACE);
        self.routes.get(route).copied().unwrap_or_else(|| Lifetimes {
            silent: longest(|lifetimes| lifetimes.silent),
            closed: longest(|lifetimes| lifetimes.closed),
        })
    }

    /// Whether anything was stored for the session since it was found silent and its record says so.
    ///
    /// That was found in a list that was made before the record was written, and by then everything was older than [`GRACE`]: so
    /// whatever is younger is new, also what came between the two, or within the same second.
    async fn stirred(&self, id: SessionId, noted: Timestamp) -> Result<bool, Error> {
        let objects = self.store.list_session(id).await?;
        Ok(objects
            .iter()
            .any(|object| !object.name.is_kept() && noted.since(object.modified) < GRACE))
    }

    /// Does to a session what the rules say, by compare-and-swap on what was just read.
    async fn act(&mut self, id: SessionId, input: Input, now: Timestamp, report: &mut Report) -> Result<(), Error> {
        let stored = self.store.read_record(id).await?.ok_or(Error::NotFound)?;
        if self
            .known
            .get(&id)
            .is_none_or(|known| !known.version.same_as(&stored.version))
        {
            return Err(Error::Conflict);
        }
        let session = Session {
            record: stored.record,
            tails: Tails::none(),
        };
        // No input of the sweep looks at the limits of fragments.
        let limits = Limits {
            max_fragment_size: 0,
            max_part_size: 0,
            alike: false,
        };
        let mut step = step(&session, input, &limits);
        // Its process may have died after it published the file, and before it could say so.
        if step.save.as_ref().is_some_and(|ended| has_expired(&ended.phase))
            && let Some(Seen { tag, sha256, .. }) = self.file_of(&session.record).await?
        {
            step = self::step(&session, Input::Published { tag, sha256 }, &limits);
        }
        let Some(record) = step.save else { return Ok(()) };
        if self.rehearses {
            self.count(id, &record.phase, report);
            return Ok(());
        }
        // The broom has no clock of its own to trust: the time in the record is for people only. That of an event is the store's.
        let record = record.noting_end(now).stamped(random_id(), session.record.written);
        self.store.replace_record(&record, &stored.version).await?;
        if has_expired(&record.phase) {
            info!(target: "bits_gateway::session", event = "expired", session = %id, key = record.target.key, "session");
        }
        self.count(id, &record.phase, report);
        if let Then::Discard(_) = step.then {
            self.clear_staged(&record).await?;
        }
        Ok(())
    }

    /// The file of a session that never learned of its publication.
    ///
    /// Where files have no place for the session's id this is not to be told, nor where a server application takes them: what it was not told
    /// of is no file.
    async fn file_of(&self, record: &Record) -> Result<Option<Seen>, Error> {
        let Ok(key) = Key::parse(&record.target.key) else {
            return Ok(None);
        };
        if record.application {
            return Ok(None);
        }
        let seen = self.store_of(&record.target.route).look(&key).await?;
        Ok(seen.filter(|seen| seen.session == Some(record.id)))
    }

    fn count(&mut self, id: SessionId, phase: &Phase, report: &mut Report) {
        let deed = match phase {
            Phase::Expiring(_) => {
                report.expiring += 1;
                Deed::Expiring
            }
            Phase::Closed {
                outcome: Outcome::Expired,
                ..
            } => {
                report.expired += 1;
                Deed::Expired
            }
            Phase::Closed { .. } => Deed::Completed,
            Phase::Published { .. } => Deed::Published,
            // Of an ended session the sweep changes nothing else.
            Phase::Open(_) | Phase::Publishing { .. } | Phase::Sealed { .. } | Phase::Told { .. } => Deed::Revived,
        };
        self.note(id, deed, None, None);
    }

    /// Whether the upload of an ended session may still be there: no list of objects shows its parts.
    fn may_have_parts(&self, id: SessionId) -> bool {
        let known = self.known.get(&id);
        known.is_some_and(|known| known.upload.is_some() && !known.is_cleared)
    }

    /// Removes what a crash left beside a tombstone.
    async fn clear(&mut self, id: SessionId) -> Result<(), Error> {
        if self.rehearses {
            return Ok(());
        }
        let stored = self.store.read_record(id).await?.ok_or(Error::NotFound)?;
        if let Phase::Closed { .. } = stored.record.phase {
            self.clear_staged(&stored.record).await?;
            if let Some(known) = self.known.get_mut(&id) {
                known.is_cleared = true;
            }
        }
        Ok(())
    }

    async fn clear_staged(&self, record: &Record) -> Result<(), Error> {
        let id = record.id;
        if let Ok(key) = place_of(record) {
            let store = self.store_of(&record.target.route);
            match record.upload() {
                Some(upload) => store.abort(&key, upload).await?,
                None => store.tidy(&key, id).await?,
            }
        }
        let objects = self.store.list_session(id).await?.into_iter().map(|object| object.name);
        self.store
            .remove(id, objects.filter(|name| !name.is_kept()).collect())
            .await
    }

    /// A tombstone goes last: abort again, list, delete, then the record.
    ///
    /// Uploads that no record names are found by their key, and this may be the last record that tells it. So it waits for those that
    /// are too young to be judged, and for a list of them, but not for ever: not every store gives one.
    async fn forget(
        &mut self,
        listed: &ListedSession,
        record: &ListedRecord,
        is_overdue: bool,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.clear(record.id).await?;
        let owed = self.owed_events(listed);
        if !owed.is_empty() && self.is_worth_a_wait(record.id, now.since(record.modified)) {
            report.waiting += 1;
            self.note(record.id, Deed::Waits, None, None);
            return Ok(());
        }
        let (files, keys) = self.places_of_uploads(record.id);
        for key in keys {
            match self.abort_strays(record.id, (&files, &key), now, report).await {
                // Who may not list them leaves them to a rule of the bucket.
                Ok(0) | Err(Error::Denied(_)) => {}
                Ok(_) if !is_overdue => return Ok(()),
                Err(error) if !is_overdue => return Err(error),
                Ok(_) | Err(_) => debug!(session = %record.id, "forgotten without a look at the uploads to its key"),
            }
        }
        if !self.rehearses {
            self.store.remove_record(record.id, Some(&record.version)).await?;
            // Without a record nobody is owed anything. The other way round, a crash in between would have it all told again.
            self.store.forget_events(record.id, &listed.delivered).await?;
            self.give_up(record.id, &owed);
        }
        self.note(record.id, Deed::Forgotten, None, None);
        self.known.remove(&record.id);
        report.forgotten += 1;
        Ok(())
    }

    /// What nobody was told yet of an ended session: its record is all that knows of that.
    fn owed_events(&self, listed: &ListedSession) -> Vec<EventKind> {
        let events = self.known.get(&listed.id).into_iter().flat_map(|known| &known.events);
        events
            .copied()
            .filter(|kind| !listed.delivered.contains(kind))
            .collect()
    }

    fn is_worth_a_wait(&self, id: SessionId, age: Duration) -> bool {
        self.known.get(&id).is_some_and(|known| age < known.patience)
    }

    fn give_up(&self, id: SessionId, owed: &[EventKind]) {
        let Some(known) = self.known.get(&id) else { return };
        for kind in owed {
            warn!(session = %id, route = known.route, key = known.key, event = kind.as_str(), "forgotten, and nobody ever took the event");
            if let Some(place) = self.place_of(&known.route) {
                place.gave_up(*kind);
            }
        }
    }

    /// Where uploads of a session may have begun: its destination, and its own place where a server application gets the file first.
    fn places_of_uploads(&self, id: SessionId) -> (Store, Vec<Key>) {
        let Some(known) = self.known.get(&id) else {
            return (self.store.clone(), Vec::new());
        };
        let own = known.application.then(|| Key::entity(id));
        let keys = own.into_iter().chain(Key::parse(&known.key).ok()).collect();
        (self.store_of(&known.route).clone(), keys)
    }

    /// Aborts uploads to `key` that no record names: those of a crash between beginning one and recording it. Gives back how many are
    /// left because they are too young.
    async fn abort_strays(
        &mut self,
        id: SessionId,
        (files, key): (&Store, &Key),
        now: Timestamp,
        report: &mut Report,
    ) -> Result<usize, Error> {
        let mut strays = files.list_uploads(key).await?;
        if strays.is_empty() {
            return Ok(0);
        }
        let records: Vec<ListedRecord> = self.store.list_records().try_collect().await?;
        for record in &records {
            match self.know(record).await {
                Ok(known) => strays.retain(|(upload, _)| known.upload.as_ref() != Some(upload)),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let (old, young): (Vec<_>, Vec<_>) = strays
            .into_iter()
            .partition(|(_, began)| now.since(*began) >= STRAY_UPLOAD);
        for (upload, _) in &old {
            if !self.rehearses {
                files.abort(key, upload).await?;
            }
            report.aborted += 1;
        }
        if !old.is_empty() {
            self.note(id, Deed::Aborted, Some(old.len() as u64), None);
        }
        Ok(young.len())
    }

    /// Objects whose record was not listed go only when a read, made after the list, says that there is none.
    async fn remove_orphans(&mut self, id: SessionId, now: Timestamp, report: &mut Report) -> Result<(), Error> {
        if self.store.read_record(id).await?.is_some() {
            return Ok(());
        }
        let objects = self.store.list_session(id).await?;
        let old: Vec<Name> = objects
            .into_iter()
            .filter(|object| now.since(object.modified) >= GRACE)
            .map(|object| object.name)
            .collect();
        if old.contains(&Name::Record) {
            return Ok(());
        }
        let count = old.len() as u64;
        if count == 0 {
            return Ok(());
        }
        if !self.rehearses {
            self.store.remove(id, old).await?;
        }
        report.orphans += count;
        self.note(id, Deed::Orphans, Some(count), None);
        Ok(())
    }
}

fn has_expired(phase: &Phase) -> bool {
    matches!(
        phase,
        Phase::Closed {
            outcome: Outcome::Expired,
            ..
        }
    )
}

/// Where the file of a session is put together.
fn place_of(record: &Record) -> Result<Key, KeyRefused> {
    if record.application {
        Ok(Key::entity(record.id))
    } else {
        Key::parse(&record.target.key)
    }
}

impl From<Stored> for Known {
    fn from(stored: Stored) -> Self {
        Self {
            upload: stored.record.upload().cloned(),
            application: stored.record.application,
            events: stored.record.owed(&[]),
            patience: stored
                .record
                .events
                .as_ref()
                .map_or(Duration::ZERO, Announced::patience),
            is_cleared: false,
            phase: stored.record.phase.name(),
            route: stored.record.target.route,
            key: stored.record.target.key,
            modified: stored.modified,
            version: stored.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::bits::ContentRange;
    use crate::budget::Budget;
    use crate::clock::SystemClock;
    use crate::metrics::Metrics;
    use crate::notify::{Messenger, Mode};
    use crate::session::{Before, Delivery, Principal, Reply, ReplyName, Target, Verdict};
    use crate::store::depot::Depot;
    use crate::store::{Settled, Terms};
    use crate::upload::{Asked, Body, BodyBroken, Checksum, Coordination, Durability, Refused, Uploads};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    struct Whole(Option<Bytes>);

    impl Body for Whole {
        async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
            Ok(self.0.take())
        }
    }

    fn place() -> (Depot, Arc<Place>) {
        let depot = Depot::memory();
        let place = Arc::new(Place {
            route: "/".to_owned(),
            store: depot.store(),
            rules: Rules {
                overwrite: false,
                max_upload_size: 1 << 40,
                max_fragment_size: 1 << 40,
                part_size: 64,
                session_timeout: DAY,
                closed_session_memory: 2 * DAY,
                durability: Durability::Fragment,
                coordination: Coordination::Shared,
                checksum: Checksum::Off,
                checksum_sidecar: false,
            },
            application: None,
            events: None,
        });
        (depot, place)
    }

    fn replica() -> Uploads {
        Uploads::new(
            Budget::new(1 << 20, Duration::from_secs(1)),
            Arc::new(SystemClock),
            Metrics::new(["/"]),
        )
    }

    fn asked() -> Asked {
        Asked {
            principal: Principal::anonymous(),
            target: Target {
                route: "/".to_owned(),
                key: "f".to_owned(),
                query: None,
            },
            url: "http://h/f".to_owned(),
            client: None,
        }
    }

    async fn send(place: &Arc<Place>, id: SessionId, first: u64, end: u64) -> Result<(), Refused> {
        let range = ContentRange::new(first, end, 200).unwrap();
        let body = Bytes::from(vec![1; usize::try_from(end - first).unwrap()]);
        replica()
            .fragment(place, &asked(), id, range, &mut Whole(Some(body)))
            .await
            .verdict
    }

    /// Sweeps after `pause` has gone by.
    async fn sweep(broom: &mut Broom, depot: &Depot, pause: Duration) -> Report {
        depot.advance(pause);
        broom.sweep(depot.store().now().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_silent_session_ends_in_two_steps_and_is_forgotten_at_last() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 100).await.unwrap();
        let mut broom = Broom::new(&place);
        let quiet = sweep(&mut broom, &depot, DAY / 2).await;
        assert_eq!((quiet.sessions, quiet.expiring), (1, 0));
        assert_eq!(sweep(&mut broom, &depot, DAY / 2).await.expiring, 1);
        assert_eq!(sweep(&mut broom, &depot, GRACE / 2).await.expired, 0);
        assert_eq!(sweep(&mut broom, &depot, GRACE / 2).await.expired, 1);
        assert_eq!(
            place.store.list_session(id).await.unwrap().len(),
            1,
            "only the tombstone is left"
        );
        assert_eq!(send(&place, id, 100, 200).await, Err(Refused::SessionNotFound));
        assert_eq!(sweep(&mut broom, &depot, DAY).await.forgotten, 0);
        assert_eq!(sweep(&mut broom, &depot, DAY).await.forgotten, 1);
        assert!(place.store.list_session(id).await.unwrap().is_empty());
    }

    /// A session of a route that tells somebody, as its client sees it: created, and cancelled at once.
    async fn cancelled(place: &Arc<Place>, max_age: Duration) -> SessionId {
        let id = replica().create(place, asked()).await.unwrap();
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        let announced = stored.record.announced(Announced {
            kinds: EventKind::ALL.to_vec(),
            max_age: max_age.as_secs(),
            client: None,
            end: None,
        });
        let announced = announced.stamped(random_id(), Timestamp::default());
        place.store.replace_record(&announced, &stored.version).await.unwrap();
        replica().cancel(place, &asked(), id).await.unwrap();
        id
    }

    #[tokio::test]
    async fn a_tombstone_waits_for_its_events_and_takes_their_marks_along() {
        let (depot, place) = place();
        let id = cancelled(&place, 30 * DAY).await;
        let mut broom = Broom::new(&place);
        let kept = sweep(&mut broom, &depot, 5 * DAY).await;
        assert_eq!((kept.forgotten, kept.waiting), (0, 1));
        let settle = async |kind| place.store.settle_event(id, kind, Settled::Delivered).await.unwrap();
        settle(EventKind::Created).await;
        let kept = sweep(&mut broom, &depot, DAY).await;
        assert_eq!((kept.forgotten, kept.waiting), (0, 1), "one is not both");
        settle(EventKind::Cancelled).await;
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 3);
        let gone = sweep(&mut broom, &depot, DAY).await;
        assert_eq!((gone.forgotten, gone.waiting), (1, 0));
        assert!(place.store.list_session(id).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_tombstone_does_not_wait_for_ever() {
        let (depot, place) = place();
        cancelled(&place, 7 * DAY).await;
        let mut broom = Broom::new(&place);
        assert_eq!(sweep(&mut broom, &depot, 6 * DAY).await.waiting, 1);
        assert_eq!(sweep(&mut broom, &depot, DAY).await.forgotten, 1);
    }

    #[tokio::test]
    async fn the_mark_of_an_event_is_no_progress_and_is_not_swept_away() {
        let (depot, place) = place();
        let id = cancelled(&place, 30 * DAY).await;
        let mut broom = Broom::new(&place);
        depot.advance(DAY);
        let listed = || async {
            let sessions: Vec<_> = place.store.list_sessions().try_collect().await.unwrap();
            (sessions[0].newest, sessions[0].objects, sessions[0].bytes)
        };
        let before = listed().await;
        place
            .store
            .settle_event(id, EventKind::Created, Settled::Delivered)
            .await
            .unwrap();
        assert_eq!(listed().await, before);
        sweep(&mut broom, &depot, Duration::ZERO).await;
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn an_expiry_is_dated_by_the_clock_of_the_store() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        let announced = stored.record.announced(Announced {
            kinds: EventKind::ALL.to_vec(),
            max_age: 60,
            client: None,
            end: None,
        });
        place
            .store
            .replace_record(&announced.stamped(random_id(), Timestamp::default()), &stored.version)
            .await
            .unwrap();
        let mut broom = Broom::new(&place);
        sweep(&mut broom, &depot, DAY).await;
        sweep(&mut broom, &depot, 2 * GRACE).await;
        let end = place
            .store
            .read_record(id)
            .await
            .unwrap()
            .unwrap()
            .record
            .end()
            .unwrap();
        assert_eq!(end.kind, EventKind::Expired);
        assert!(place.store.now().await.unwrap().since(end.at) < GRACE);
    }

    /// The same place, and an application that nobody can reach.
    fn place_of_application() -> (Depot, Arc<Place>) {
        let (depot, place) = place();
        let settings = crate::notify::Settings {
            mode: Mode::Value,
            url: Some("http://127.0.0.1:1/".to_owned()),
            ..Default::default()
        };
        let messenger = Messenger::new(&settings).unwrap().map(Arc::new);
        let mut place = Arc::into_inner(place).unwrap();
        place.application = messenger;
        (depot, Arc::new(place))
    }

    #[tokio::test]
    async fn a_file_that_no_application_took_goes_when_its_time_is_over() {
        let (depot, place) = place_of_application();
        let id = replica().create(&place, asked()).await.unwrap();
        let untold = send(&place, id, 0, 200).await.unwrap_err();
        assert!(matches!(untold, Refused::Application { status: 502, .. }), "{untold:?}");
        assert!(place.store.look(&Key::entity(id)).await.unwrap().is_some());
        let mut broom = Broom::new(&place);
        assert_eq!(sweep(&mut broom, &depot, DAY / 2).await.expired, 0);
        assert_eq!(sweep(&mut broom, &depot, DAY / 2).await.expired, 1);
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 1);
        assert!(place.store.look(&Key::parse("f").unwrap()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_reply_that_nobody_fetched_goes_when_its_time_is_over() {
        let (depot, place) = place_of_application();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 200).await.unwrap_err();
        // What the application would have said, and what an earlier answer left.
        let mut tags = Vec::new();
        for name in [ReplyName(random_id()), ReplyName(random_id())] {
            let terms = Terms::whenever(&Before::Absent);
            let bytes = vec![Bytes::from_static(b"thanks")];
            let tag = place
                .store
                .put_file(&Key::reply(id, name), id, bytes, terms)
                .await
                .unwrap();
            tags.push((name, tag));
        }
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        let mut told = stored.record.stamped(random_id(), Timestamp::default());
        let Phase::Sealed { tag } = told.phase else {
            panic!("{:?}", told.phase)
        };
        let (name, reply) = tags.remove(0);
        told.phase = Phase::Told {
            tag,
            verdict: Verdict::Accepted {
                reply: Reply::Stored { name, tag: reply },
                copy: Delivery::Unwanted,
            },
        };
        place.store.replace_record(&told, &stored.version).await.unwrap();
        let kept = replica().reply(&place, &Principal::anonymous(), id).await.unwrap();
        assert_eq!(kept, Some(Key::reply(id, name)));
        let mut broom = Broom::new(&place);
        sweep(&mut broom, &depot, DAY).await;
        let left = place.store.read_record(id).await.unwrap().unwrap();
        assert!(matches!(
            left.record.phase,
            Phase::Closed {
                outcome: Outcome::Completed,
                ..
            }
        ));
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 1);
        assert_eq!(sweep(&mut broom, &depot, 2 * DAY).await.forgotten, 1);
    }

    #[tokio::test]
    async fn uploads_to_the_own_place_of_a_session_are_found_when_no_record_names_them() {
        let (depot, place) = place_of_application();
        let id = replica().create(&place, asked()).await.unwrap();
        let stray = place.store.begin(&Key::entity(id), id).await.unwrap();
        let other = place.store.begin(&Key::parse("f").unwrap(), id).await.unwrap();
        replica().cancel(&place, &asked(), id).await.unwrap();
        let mut broom = Broom::new(&place);
        let swept = sweep(&mut broom, &depot, 2 * DAY).await;
        assert_eq!((swept.aborted, swept.forgotten), (2, 1), "{stray:?} {other:?}");
    }

    #[tokio::test]
    async fn a_packet_revives_a_session_that_is_expiring() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 100).await.unwrap();
        let mut broom = Broom::new(&place);
        assert_eq!(sweep(&mut broom, &depot, DAY).await.expiring, 1);
        send(&place, id, 100, 110).await.unwrap();
        assert_eq!(sweep(&mut broom, &depot, GRACE).await.expired, 0);
        send(&place, id, 110, 200).await.unwrap();
        assert!(place.store.look(&Key::parse("f").unwrap()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_tail_that_was_stored_while_the_session_was_being_noted_as_expiring_revives_it() {
        let (depot, place) = place();
        let uploads = replica();
        let id = uploads.create(&place, asked()).await.unwrap();
        let range = ContentRange::new(0, 100, 200).unwrap();
        let mut body = Whole(Some(Bytes::from(vec![1; 100])));
        uploads.fragment(&place, &asked(), id, range, &mut body).await;
        depot.advance(DAY);
        let mut broom = Broom::new(&place);
        // The broom has listed by now; before it writes, a replica that remembers the session goes on with it.
        let known = place.store.read_record(id).await.unwrap().unwrap();
        broom.known.insert(id, Known::from(known));
        let range = ContentRange::new(100, 110, 200).unwrap();
        let mut body = Whole(Some(Bytes::from(vec![1; 10])));
        let taken = uploads.fragment(&place, &asked(), id, range, &mut body).await;
        assert_eq!(taken.verdict, Ok(()));
        let mut report = Report::default();
        broom
            .act(id, Input::Silent, Timestamp::default(), &mut report)
            .await
            .unwrap();
        assert_eq!(report.expiring, 1);
        assert_eq!(sweep(&mut broom, &depot, GRACE).await.expired, 0);
        assert_eq!(
            send(&place, id, 110, 120).await,
            Ok(()),
            "what was acknowledged is still there"
        );
    }

    #[tokio::test]
    async fn a_record_that_was_written_after_it_was_listed_is_not_silent() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        depot.advance(DAY);
        let listed: Vec<_> = place.store.list_sessions().try_collect().await.unwrap();
        let now = place.store.now().await.unwrap();
        // The last byte comes in between.
        send(&place, id, 0, 200).await.unwrap();
        let mut broom = Broom::new(&place);
        let record = listed[0].record.as_ref().unwrap();
        broom
            .tend(&listed[0], record, now, &mut Report::default())
            .await
            .unwrap();
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        assert_eq!(stored.record.phase.name(), "published");
    }

    #[tokio::test]
    async fn parts_that_a_tombstone_names_are_aborted_before_it_is_forgotten() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 100).await.unwrap();
        let key = Key::parse("f").unwrap();
        // Killed between the tombstone and what comes after it, with nothing left that a list would show.
        let stored = place.store.read_record(id).await.unwrap().unwrap();
        let mut tombstone = stored.record.clone().stamped(random_id(), Timestamp::default());
        tombstone.phase = Phase::Closed {
            outcome: Outcome::Cancelled,
            upload: stored.record.upload().cloned(),
        };
        place.store.replace_record(&tombstone, &stored.version).await.unwrap();
        place.store.remove_tails(id, vec![64]).await.unwrap();
        assert_eq!(place.store.list_uploads(&key).await.unwrap().len(), 1);
        let report = sweep(&mut Broom::new(&place), &depot, GRACE).await;
        assert_eq!((report.forgotten, report.failed), (0, 0));
        assert!(place.store.list_uploads(&key).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_tombstone_waits_for_uploads_that_only_its_key_leads_to() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        let key = Key::parse("f").unwrap();
        replica().cancel(&place, &asked(), id).await.unwrap();
        depot.advance(2 * DAY - GRACE);
        // Killed before any record could name it.
        place.store.begin(&key, id).await.unwrap();
        let mut broom = Broom::new(&place);
        let early = sweep(&mut broom, &depot, GRACE).await;
        assert_eq!((early.forgotten, early.aborted), (0, 0));
        let late = sweep(&mut broom, &depot, STRAY_UPLOAD).await;
        assert_eq!((late.forgotten, late.aborted), (1, 1));
        assert!(place.store.list_uploads(&key).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_no_record_names_goes_after_an_hour() {
        let (depot, place) = place();
        let nobody = SessionId::new(random_id());
        place
            .store
            .create_tail(nobody, 0, vec![Bytes::from_static(b"x")])
            .await
            .unwrap();
        let mut broom = Broom::new(&place);
        assert_eq!(sweep(&mut broom, &depot, GRACE / 2).await.orphans, 0);
        assert_eq!(sweep(&mut broom, &depot, GRACE / 2).await.orphans, 1);
        assert!(place.store.list_session(nobody).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_is_published_did_not_expire_although_nobody_noted_it() {
        let (depot, place) = place();
        let key = Key::parse("f").unwrap();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 100).await.unwrap();
        // Killed between the publication and the record of it.
        let bytes = vec![Bytes::from_static(&[1; 200])];
        let tag = place
            .store
            .put_file(&key, id, bytes, Terms::whenever(&Before::Absent))
            .await;
        let mut broom = Broom::new(&place);
        assert_eq!(sweep(&mut broom, &depot, DAY).await.expiring, 1);
        assert_eq!(sweep(&mut broom, &depot, GRACE).await.expired, 0);
        let noted = place.store.read_record(id).await.unwrap().unwrap().record.phase;
        assert_eq!(noted, Phase::Published { tag: tag.unwrap() });
        sweep(&mut broom, &depot, DAY).await;
        let ended = place.store.read_record(id).await.unwrap().unwrap().record.phase;
        let closed = Phase::Closed {
            outcome: Outcome::Completed,
            upload: None,
        };
        assert_eq!(ended, closed);
        assert_eq!(place.store.list_session(id).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_somebody_else_put_there_is_not_taken_for_the_file_of_a_session() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 100).await.unwrap();
        depot.put(&Key::parse("f").unwrap(), vec![1; 200]).await;
        let mut broom = Broom::new(&place);
        sweep(&mut broom, &depot, DAY).await;
        assert_eq!(sweep(&mut broom, &depot, GRACE).await.expired, 1);
    }

    /// A route that keeps its files in a folder of its own, and its sessions where others do.
    fn beside(folder: &std::path::Path, route: &str) -> Arc<Place> {
        let at = |name: &str| folder.join(name).display().to_string();
        let settings = crate::store::Settings {
            url: at(route),
            staging: Some(at("staging")),
            ..Default::default()
        };
        let (_, place) = place();
        let mut place = Arc::into_inner(place).unwrap();
        place.route = format!("/{route}/");
        place.store = Store::open(&settings, &Metrics::new(["/"])).unwrap();
        Arc::new(place)
    }

    #[tokio::test]
    async fn what_is_left_of_an_upload_is_removed_where_its_route_keeps_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (beside(folder.path(), "one"), beside(folder.path(), "other"));
        let asked = || {
            let mut asked = asked();
            asked.target.route = "/other/".to_owned();
            asked
        };
        let (replica, key) = (replica(), Key::parse("f").unwrap());
        let begun = replica.create(&other, asked()).await.unwrap();
        let range = ContentRange::new(0, 100, 200).unwrap();
        let mut body = Whole(Some(Bytes::from_static(&[1; 100])));
        let sent = replica.fragment(&other, &asked(), begun, range, &mut body).await;
        assert_eq!(sent.verdict, Ok(()));
        assert_eq!(other.store.list_uploads(&key).await.unwrap().len(), 1);
        // Another one, of which no record tells.
        let given_up = replica.create(&other, asked()).await.unwrap();
        other.store.begin(&key, given_up).await.unwrap();
        replica.cancel(&other, &asked(), given_up).await.unwrap();

        let places = [Arc::clone(&one), Arc::clone(&other)];
        let rules: Vec<_> = super::super::rules_of(&places).collect();
        let mut brooms = super::super::by_store(&places, &rules);
        assert_eq!(brooms.len(), 1);
        let now = one.store.now().await.unwrap();
        for days in [1, 3, 5] {
            brooms[0].sweep(now.plus(days * DAY)).await.unwrap();
        }
        assert!(other.store.list_uploads(&key).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_published_file_outlives_its_session() {
        let (depot, place) = place();
        let id = replica().create(&place, asked()).await.unwrap();
        send(&place, id, 0, 200).await.unwrap();
        let mut broom = Broom::new(&place);
        sweep(&mut broom, &depot, DAY).await;
        assert_eq!(replica().close(&place, &asked(), id).await, Ok(()));
        assert_eq!(sweep(&mut broom, &depot, 2 * DAY).await.forgotten, 1);
        assert!(place.store.look(&Key::parse("f").unwrap()).await.unwrap().is_some());
    }
}
