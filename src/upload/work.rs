//! One packet at work: look, ask the rules, save, act, answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::turn::Turn;
use super::view::View;
use super::{Asked, Durability, Inner, Place, Refused};
use crate::bits::{Hresult, SessionId};
use crate::clock::{Deadline, Uptime, random_id};
use crate::metrics::SessionEnd;
use crate::session::{Answer, Gone, Input, Limits, ObjectTag, Outcome, Phase, Record, Refusal, Step, Then, step};
use crate::staging::{Cutting, UploadId};
use crate::store::{CompleteError, Error, Key, Standing, Store, Terms, Version};

/// A view that is older than this is looked up again, whatever it says.
const STALE: Duration = Duration::from_secs(10 * 60);

/// No request that publishes is sent later than this after the last look at the record: then Cancel's 200 means that nothing new begins.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(60);

/// Before a publication the record is looked at again when the last look is older than this: most of the time is left for the requests.
const JUST_NOW: Duration = Duration::from_secs(5);

/// How often a packet may be overtaken by other replicas before the client is asked to come back.
pub(super) const ATTEMPTS: usize = 8;

/// Momentary trouble of the store: when to come back.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(30);

/// Once all of a packet is here, it is answered within this time and a look at the store: Windows waits for five minutes, and requests
/// that hang may take longer together.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(180);

/// Gives up what takes so long that nobody would wait for the answer. That leaves behind what a crash at the same point would, and the
/// next packet of the session goes on from there.
pub(super) async fn in_time<T>(
    within: Duration,
    act: Pin<&mut impl Future<Output = Result<T, Refused>>>,
) -> Result<T, Refused> {
    let acted = tokio::time::timeout(within, act).await;
    acted.unwrap_or_else(|_| Err(busy("the store did not do in time what the packet needs")))
}

/// A packet that has the turn of its session.
pub(super) struct Work<'a> {
    pub(super) uploads: &'a Inner,
    pub(super) place: &'a Arc<Place>,
    pub(super) asked: &'a Asked,
    pub(super) id: SessionId,
    /// The destination.
    pub(super) key: Key,
    /// Since when the client waits for an answer: all of the packet is here.
    pub(super) since: Uptime,
    pub(super) turn: Turn<'a>,
    /// Whether this turn itself has read or written what it knows of the session.
    pub(super) has_seen: bool,
}

/// Whether a record was saved, or somebody else's was found and loaded instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Saved {
    Yes,
    Overtaken,
}

impl Work<'_> {
    /// The limits of the route, as the rules need them.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_fragment_size: self.place.rules.max_fragment_size,
            max_part_size: self.uploads.budget.total() / 4,
            alike: self.stores_tails() && self.cutting() == Cutting::Alike,
        }
    }

    /// How the parts may be cut that the file is put together of. Where nothing is stored twice anyway, equal ones cost the fewest requests.
    pub(super) fn cutting(&self) -> Cutting {
        if self.stores_tails() {
            self.place.store.cutting(&self.file())
        } else {
            Cutting::Alike
        }
    }

    fn stores_tails(&self) -> bool {
        self.place.rules.durability == Durability::Fragment
    }

    /// Where the file is put together: at its destination, unless a server application gets it first.
    pub(super) fn file(&self) -> Key {
        match &*self.turn.view {
            Some(view) if view.session.record.application => Key::entity(self.id),
            _ => self.key.clone(),
        }
    }

    /// The view of the session, loaded when there is none or when it is `stale`.
    pub(super) async fn look(&mut self, stale: bool) -> Result<&mut View, Refused> {
        let known = self
            .turn
            .view
            .as_ref()
            .is_some_and(|view| view.listed.elapsed() < STALE);
        if stale || !known {
            self.load().await?;
        }
        self.turn.view.as_mut().ok_or(Refused::SessionNotFound)
    }

    /// Loads the session anew. Bytes that are held for it are forgotten: they may be another replica's by now.
    pub(super) async fn load(&mut self) -> Result<(), Refused> {
        // Bytes that are nowhere else are not forgotten for a momentary trouble of the store.
        drop(self.turn.view.take_if(|view| !view.volatile));
        let asked = Uptime::now();
        let Some(loaded) = self.place.store.load(self.id).await? else {
            *self.turn.view = None;
            return Err(Refused::SessionNotFound);
        };
        let mut view = View::loaded(loaded, asked);
        if let Some(old) = self.turn.view.take_if(|old| old.version == view.version) {
            // Nobody else may serve such a session: what this process holds of it is still true.
            view.session.tails = old.session.tails;
            view.held = old.held;
            view.volatile = true;
        }
        self.has_seen = true;
        self.turn
            .view
            .insert(view)
            .session
            .admit(&self.asked.principal, &self.asked.target)
            .map_err(refused)?;
        self.keep_sidecar().await
    }

    /// Asks the rules about `input`.
    pub(super) fn rule(&self, input: Input) -> Result<Step, Refused> {
        let view = self.turn.view.as_ref().ok_or(Refused::SessionNotFound)?;
        Ok(step(&view.session, input, &self.limits()))
    }

    /// Saves `record` over the version that was seen. A crash after it finds the session in its new phase and goes on there.
    pub(super) async fn save(&mut self, record: Record) -> Result<Saved, Refused> {
        let Some(view) = self.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound);
        };
        let record = record.stamped(random_id(), self.uploads.clock.now());
        let asked = Uptime::now();
        match self.place.store.replace_record(&record, &view.version).await {
            Ok(version) => {
                self.saved(record, version, asked);
                self.has_seen = true;
                self.keep_sidecar().await?;
                Ok(Saved::Yes)
            }
            Err(Error::Conflict | Error::NotFound) => {
                debug!(session = %self.id, "another replica changed the session meanwhile");
                self.load().await?;
                Ok(Saved::Overtaken)
            }
            Err(error) => {
                // Whether it was saved is not known: the next turn looks.
                *self.turn.view = None;
                Err(error.into())
            }
        }
    }

    /// `record` is the stored one, by a request that began at `asked`. That alone does not make the view a fresh one: other replicas may have
    /// stored tails, of which no record knows.
    pub(super) fn saved(&mut self, record: Record, version: Version, asked: Uptime) {
        let Some(view) = self.turn.view.as_ref() else { return };
        if record.phase.name() != view.session.record.phase.name() {
            self.tell(&record);
        }
        if let Some(kind) = record.news(&view.session.record) {
            self.place.announce(&record, kind);
        }
        if let Some(view) = self.turn.view.as_mut() {
            view.session.record = record;
            view.version = version;
            view.modified = None;
            view.looked = asked;
        }
    }

    /// Whether this client may know of the session, and speaks of the right URL. A refusal never comes from a stale view.
    pub(super) async fn admit(&mut self) -> Result<(), Refused> {
        let asked = self.asked;
        let view = self.look(false).await?;
        if view.session.admit(&asked.principal, &asked.target).is_err() {
            self.load().await?;
        }
        Ok(())
    }

    /// Asks once by name for the tail that a listing may have missed; `true` when there is one.
    pub(super) async fn finds_tail(&mut self) -> Result<bool, Refused> {
        let Some(view) = self.turn.view.as_mut() else {
            return Ok(false);
        };
        let end = view.session.end();
        let length = self.place.store.tail_length(self.id, end).await?;
        view.session.tails.insert(end, end + length.unwrap_or_default());
        Ok(length.is_some_and(|length| length > 0))
    }

    /// Carries out what needs no body: Close, Cancel, and the ends of turns.
    pub(super) async fn settle(&mut self, input: impl Fn(bool) -> Input) -> Result<Answer, Refused> {
        let mut next = input(false);
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            if self.is_publishing() {
                next = match next {
                    Input::Cancel { .. } if !self.is_of_application() => self.cancel_publishing().await?,
                    Input::UploadGone(_) => Input::UploadGone(self.what_is_gone().await?),
                    other => other,
                };
            }
            let step = self.rule(next.clone())?;
            if !fresh
                && matches!(
                    step,
                    Step {
                        save: None,
                        then: Then::Answer(Answer::Refused(_))
                    }
                )
            {
                self.load().await?;
                fresh = true;
                continue;
            }
            if let Some(record) = step.save
                && self.save(record).await? == Saved::Overtaken
            {
                fresh = true;
                continue;
            }
            match step.then {
                // The file is published now: what was asked for can go on.
                Then::Answer(Answer::Next(_)) if matches!(input(false), Input::Close | Input::Cancel { .. }) => {
                    next = input(false);
                }
                // That the file may not be published was told with the last fragment: Close never fails for it.
                Then::Answer(Answer::Refused(Refusal::Exists)) if input(false) == Input::Close => {
                    return self.give_up().await;
                }
                Then::Answer(answer) => return Ok(answer),
                Then::Discard(answer) => {
                    self.discard().await;
                    return Ok(answer);
                }
                Then::Assemble => next = self.assemble(&input).await?,
                Then::Tell => next = self.tell_application().await?,
                Then::Copy => next = self.copy_to_destination().await?,
                Then::Receive { .. } | Then::KeepTail | Then::PutFile => {
                    return Err(busy("the session is still receiving"));
                }
            }
        }
        Err(busy("other replicas keep changing the session"))
    }

    /// What Cancel means while another turn may be at the publication: what lies at the destination may have decided it.
    async fn cancel_publishing(&mut self) -> Result<Input, Refused> {
        let record = &self.look(false).await?.session.record;
        let (size, before) = (record.total.unwrap_or_default(), record.before.clone());
        let standing = self.place.store.standing(&self.key, self.id, size, &before).await?;
        Ok(match standing {
            Standing::Ours(tag) => Input::Published { tag, sha256: None },
            // As long as that lies there, every turn is refused.
            Standing::Changed => Input::Cancel { settled: true },
            Standing::AsBefore => Input::Cancel {
                settled: self.publishing_has_settled().await?,
            },
        })
    }

    /// Ends a session whose last byte was refused as one that never had it (protocol digest, part 0).
    async fn give_up(&mut self) -> Result<Answer, Refused> {
        let step = self.rule(Input::Cancel { settled: true })?;
        if let Some(record) = step.save
            && self.save(record).await? == Saved::Overtaken
        {
            return Err(busy("another replica changed the session meanwhile"));
        }
        self.discard().await;
        Ok(Answer::Done)
    }

    /// Completes the multipart upload. Gives back what that means for the session, or `resume` when the session is past it.
    async fn assemble(&mut self, resume: impl Fn(bool) -> Input) -> Result<Input, Refused> {
        let record = &self.look(false).await?.session.record;
        let Phase::Publishing { staged, mark } = &record.phase else {
            return Ok(resume(false));
        };
        let Some(upload) = staged.upload.clone() else {
            return Ok(Input::PartsRefused);
        };
        let (before, mark, staged) = (record.condition().clone(), mark.clone(), staged.clone());
        let mut parts = Vec::with_capacity(staged.count());
        for page in &staged.pages {
            match self.place.store.read_page(self.id, page).await {
                Ok(page) => parts.extend(page),
                Err(Error::NotFound) => {
                    // The session is being cleared away, or was.
                    self.load().await?;
                    return Ok(resume(false));
                }
                Err(error) => return Err(error.into()),
            }
        }
        parts.extend(staged.parts);
        self.clear_sidecar().await?;
        let Some(by) = self.deadline().await? else {
            return Ok(resume(false));
        };
        let terms = Terms { before: &before, by };
        let done = self
            .place
            .store
            .complete(&self.file(), self.id, &upload, &parts, terms, mark.as_deref())
            .await;
        self.published(done)
            .await
            .map(|input| input.unwrap_or_else(|| resume(false)))
    }

    async fn published(&mut self, done: Result<ObjectTag, CompleteError>) -> Result<Option<Input>, Refused> {
        Ok(Some(match done {
            Ok(tag) => Input::Published { tag, sha256: None },
            Err(CompleteError::Changed) => Input::Displaced,
            Err(CompleteError::InvalidPart(part)) => {
                let hint = "set part_sizes = \"equal\" if it wants all of them alike";
                warn!(session = %self.id, key = %self.key, part, hint, "the store refuses a part that it confirmed earlier");
                Input::PartsRefused
            }
            Err(CompleteError::UnknownUpload) => {
                // Another turn may have marked the file meanwhile.
                self.load().await?;
                if !self.is_publishing() {
                    return Ok(None);
                }
                // Whether it has settled is asked when it is ruled upon, and only then: the store's time is a write to one key, and there are
                // stores that take one a second.
                Input::UploadGone(Gone::Lately)
            }
            Err(CompleteError::Store(error)) => return Err(error.into()),
        }))
    }

    /// Until when this turn may begin to publish. `None` when the record was found changed: the session is loaded anew.
    pub(super) async fn deadline(&mut self) -> Result<Option<Deadline>, Refused> {
        if let Some(view) = self.turn.view.as_mut() {
            if view.looked.elapsed() < JUST_NOW {
                return Ok(Some(Deadline::after(view.looked, PUBLISH_DEADLINE)));
            }
            let asked = Uptime::now();
            if let Some(found) = self.place.store.read_record(self.id).await?
                && found.version.same_as(&view.version)
            {
                view.looked = asked;
                return Ok(Some(Deadline::after(asked, PUBLISH_DEADLINE)));
            }
        }
        self.load().await?;
        Ok(None)
    }

    /// What was given up may have happened all the same. Bytes that are nowhere else are not forgotten.
    pub(super) fn forget_what_may_have_changed(&mut self) {
        drop(self.turn.view.take_if(|view| !view.volatile));
    }

    /// The true next offset, where it can be had: never one that only was true.
    pub(super) async fn next(&mut self) -> Option<u64> {
        if !self.has_seen && self.turn.view.is_some() {
            self.load().await.ok()?;
        }
        self.turn.view.as_ref().and_then(|view| view.session.next())
    }

    fn is_publishing(&self) -> bool {
        self.turn
            .view
            .as_ref()
            .is_some_and(|view| matches!(view.session.record.phase, Phase::Publishing { .. }))
    }

    fn is_of_application(&self) -> bool {
        self.turn
            .view
            .as_ref()
            .is_some_and(|view| view.session.record.application)
    }

    /// Whether `publishing` is so old that no turn can still be at it, by the store's own clock.
    async fn publishing_has_settled(&mut self) -> Result<bool, Refused> {
        let Some(since) = self.turn.view.as_ref().and_then(|view| view.modified) else {
            return Ok(false);
        };
        Ok(self.place.store.now().await?.since(since) >= Limits::PUBLISHING_SETTLES)
    }

    /// What the upload of the session may have come to, by the store's own clock: asked for once, because there are stores that take one write
    /// a second.
    async fn what_is_gone(&mut self) -> Result<Gone, Refused> {
        let Some((view, since)) = self.turn.view.as_ref().and_then(|view| Some((view, view.modified?))) else {
            return Ok(Gone::Lately);
        };
        let (store, begun) = (&self.place.store, view.session.record.created);
        let now = store.now().await?;
        Ok(if now.since(since) < Limits::PUBLISHING_SETTLES {
            Gone::Lately
        } else if store.may_have_ended_uploads(begun, now) {
            Gone::Outlived
        } else {
            Gone::LongAgo
        })
    }

    /// Frees what is staged. What fails here is left to the sweep, which finds the tombstone.
    async fn discard(&mut self) {
        let file = self.file();
        let Some(view) = self.turn.view.as_mut() else { return };
        view.held = None;
        let upload = view.session.record.upload().cloned();
        if upload.is_none() && !view.littered && !view.session.record.application {
            return;
        }
        match clear(&self.place.store, self.id, &file, upload.as_ref()).await {
            Ok(()) => view.littered = false,
            Err(error) => warn!(session = %self.id, %error, "what was staged is left to the sweep"),
        }
    }

    /// One line for each event of a session.
    fn tell(&self, record: &Record) {
        let event = match &record.phase {
            Phase::Open(_) => "revived",
            Phase::Expiring(_) => "expiring",
            Phase::Publishing { .. } => "publishing",
            Phase::Published { .. } => "published",
            Phase::Sealed { .. } => "sealed",
            Phase::Told { .. } => "told",
            Phase::Closed {
                outcome: Outcome::Completed,
                ..
            } => "completed",
            Phase::Closed {
                outcome: Outcome::Cancelled,
                ..
            } => "cancelled",
            Phase::Closed {
                outcome: Outcome::Expired,
                ..
            } => "expired",
            Phase::Closed {
                outcome: Outcome::Lost, ..
            } => "lost",
        };
        if let Phase::Closed { outcome, .. } = record.phase {
            self.uploads.metrics.session_ended(&self.place.route, end_of(outcome));
        }
        info!(
            target: "bits_gateway::session",
            event,
            session = %self.id,
            route = self.place.route,
            key = %self.key,
            principal = record.principal.as_str(),
            size = record.total,
            sha256 = record.sha256.map(tracing::field::display),
            "session"
        );
    }
}

/// Aborts the multipart upload of an ended session and deletes everything but its record.
async fn clear(store: &Store, id: SessionId, key: &Key, upload: Option<&UploadId>) -> Result<(), Error> {
    match upload {
        Some(upload) => store.abort(key, upload).await?,
        None => store.tidy(key, id).await?,
    }
    let names = store.list_session(id).await?.into_iter().map(|listed| listed.name);
    store.remove(id, names.filter(|name| !name.is_kept()).collect()).await
}

/// The upload room's word for a refusal of the rules.
pub(super) fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::NotFound => Refused::SessionNotFound,
        Refusal::OtherTarget => Refused::InvalidArgument("the session was created for another URL"),
        Refusal::TotalChanged => Refused::InvalidArgument("an earlier fragment named another size of the file"),
        Refusal::TooLarge => Refused::TooLarge,
        Refusal::FragmentTooLarge => Refused::FragmentTooLarge,
        Refusal::OutOfStep => Refused::OutOfStep,
        Refusal::Exists => Refused::Exists,
        Refusal::Lost => Refused::Lost("the destination or what was staged was changed by somebody else"),
        Refusal::Publishing => busy("the file is being published"),
        Refusal::Forbidden => Refused::Application {
            status: 403,
            code: Hresult::of_status(403),
            why: "the server application forbade the file, and is not asked again".to_owned(),
        },
    }
}

const fn end_of(outcome: Outcome) -> SessionEnd {
    match outcome {
        Outcome::Completed => SessionEnd::Completed,
        Outcome::Cancelled => SessionEnd::Cancelled,
        Outcome::Expired => SessionEnd::Expired,
        Outcome::Lost => SessionEnd::Lost,
    }
}

/// Come back soon.
pub(super) fn busy(why: impl Into<String>) -> Refused {
    Refused::Busy {
        retry_after: STORE_RETRY,
        why: why.into(),
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownUpload => Self::Lost("the store no longer knows the multipart upload"),
            Error::Full(why) => Self::Full(why),
            Error::BadName(_) => Self::InvalidArgument("no file can have this name here"),
            // An admin can put each of these right while the client waits: never an answer that ends its job. An object that is not
            // found says nothing about the session: only its record does.
            Error::NotFound
            | Error::Conflict
            | Error::Unavailable(_)
            | Error::Denied(_)
            | Error::Corrupt(_)
            | Error::Newer(_) => busy(error.to_string()),
        }
    }
}
