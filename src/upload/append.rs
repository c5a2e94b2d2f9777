//! The body of a fragment: from the connection into parts and tails, in bounded memory, nothing copied.

mod claims;
mod hashing;
mod keep;

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::StreamExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::debug;

use hashing::{Hashing, Stretch};

use super::body::{Body, BodyBroken};
use super::view::View;
use super::work::{STORE_RETRY, Work, busy, in_time};
use super::{Durability, Refused};
use crate::bits::ContentRange;
use crate::budget::Reservation;
use crate::clock::Uptime;
use crate::metrics::MemoryWait;
use crate::session::{Answer, Gone, Input, Phase, Record, Staged, Then};
use crate::staging::{Assembler, CutPlan, PartId, PartRange, Piece, UploadId};
use crate::store::Error;
use claims::{Claiming, layout};

/// Parts of one session that are on their way into the store while the next one is being received.
const IN_FLIGHT: usize = 2;

/// How long a body may sit on memory that somebody else waits for. A guess: a tenth of the time that others wait.
const SITTING: Duration = Duration::from_secs(5);

/// What a body that was too slow for a whole part reserves at a time.
const SMALL_STEP: u64 = 512 * 1024;

/// How much is read at once of what is stored already.
const UNWANTED: u64 = 64 * 1024;

/// Tails that are read at the same time.
const READ_AT_ONCE: usize = 8;

/// A fragment that is being received.
pub(super) struct Receiving<'w, 'a> {
    work: &'w mut Work<'a>,
    range: ContentRange,
    assembler: Assembler,
    memory: Option<Reservation>,
    /// The multipart upload that this turn puts parts into.
    upload: Option<UploadId>,
    /// Whether that upload was begun by this turn, and no record names it or ever will.
    unnamed: bool,
    flying: VecDeque<(PartRange, JoinHandle<Result<Landing, Error>>)>,
    /// Parts of this turn that the record does not list yet.
    landed: Vec<Landed>,
    /// The digest at the end of the part that was sent last, where one is wanted.
    hashing: Option<Hashing>,
    /// A claim on parts that are being received.
    claiming: Option<Claiming>,
    /// How often this turn found that others cut the file elsewhere.
    followed: usize,
    /// The body slept on memory that others waited for: it gets small pieces from now on.
    slow: bool,
}

/// A part that is in the store.
struct Landed {
    part: PartRange,
    id: PartId,
    /// What it did to the digest of the file, if there is to be one.
    stretch: Option<Stretch>,
}

/// The same, of a part whose place is known.
type Landing = (PartId, Option<Stretch>);

/// Why the body is not read any further.
enum Stop {
    /// The session moved on, so that this is the answer already.
    Answer(Answer),
    Refused(Refused),
}

impl<T: Into<Refused>> From<T> for Stop {
    fn from(refused: T) -> Self {
        Self::Refused(refused.into())
    }
}

/// What came next.
enum Came {
    Chunk(Bytes),
    Pressed,
    Superseded,
    Broken(BodyBroken),
}

impl<'w, 'a> Receiving<'w, 'a> {
    pub(super) fn new(work: &'w mut Work<'a>, range: ContentRange, from: u64) -> Self {
        let (upload, held) = work.turn.view.as_mut().map_or((None, None), |view| {
            (view.session.record.upload().cloned(), view.held.take())
        });
        let staged = work.turn.view.as_ref().and_then(|view| view.session.record.staged());
        let layout = layout(work, staged, range.total());
        let part = layout.part_at(from);
        let held = held.filter(|held| held.piece.end() == from && held.piece.from >= part.from && from > part.from);
        let (assembler, memory) = match held {
            Some(held) => (Assembler::holding(layout, held.piece), Some(held.memory)),
            None => (Assembler::new(layout, from), None),
        };
        Self {
            work,
            range,
            assembler,
            memory,
            upload,
            unnamed: false,
            flying: VecDeque::new(),
            landed: Vec::new(),
            claiming: None,
            followed: 0,
            hashing: None,
            slow: false,
        }
    }

    /// Reads the body. Of its bytes, the first `skip` are stored already.
    pub(super) async fn run(mut self, skip: u64, body: &mut impl Body) -> Result<Answer, Refused> {
        let received = self.receive(skip, body).await;
        self.keep_held();
        match received {
            Ok(answer) | Err(Stop::Answer(answer)) => Ok(answer),
            Err(Stop::Refused(refused @ Refused::Busy { .. })) => self.stored_by_others().ok_or(refused),
            Err(Stop::Refused(refused)) => Err(refused),
        }
    }

    /// The answer to a fragment that could not be stored because another replica had stored these very bytes before.
    fn stored_by_others(&self) -> Option<Answer> {
        let step = self.work.rule(Input::Fragment(self.range)).ok()?;
        match (step.save, step.then) {
            (None, Then::Answer(answer @ Answer::Next(_))) => Some(answer),
            _ => None,
        }
    }

    async fn receive(&mut self, skip: u64, body: &mut impl Body) -> Result<Answer, Stop> {
        let mut rest = VecDeque::from([self.skip(skip, body).await?]);
        loop {
            let at = self.assembler.at();
            if at >= self.range.end() {
                break;
            }
            let recorded = self.recorded().min(self.range.end());
            if at < recorded {
                // Another replica has recorded what comes next.
                self.pass_over(recorded - at, &mut rest, body).await?;
                continue;
            }
            let step = if self.slow {
                at.saturating_add(SMALL_STEP)
            } else {
                u64::MAX
            };
            let goal = self.range.end().min(step);
            self.settle_parts(goal).await?;
            let part = self.assembler.layout().part_at(at);
            let bound = part.to.min(goal);
            let completes = bound == part.to;
            let came = if self.reserve(part, bound, completes).await? {
                self.fill(bound, &mut rest, body).await
            } else {
                Some(Came::Superseded)
            };
            match came {
                None => {}
                Some(Came::Pressed) => {
                    self.yield_memory().await?;
                    continue;
                }
                Some(came) => return Err(self.stop(came).await),
            }
            if completes && !self.assembler.layout().is_small() {
                // What comes back lies elsewhere by now: it is cut anew.
                let back = self.launch(part).await?;
                back.into_iter().rev().for_each(|chunk| rest.push_front(chunk));
            } else if self.slow && bound < self.range.end() {
                self.record().await?;
                self.lay_out_again().await?;
            }
        }
        match self.end_of(body, &rest).await {
            None => self.record_in_time().await,
            Some(came) => Err(self.stop(came).await),
        }
    }

    /// Makes what came durable, unless that takes longer than the client would wait for the answer.
    async fn record_in_time(&mut self) -> Result<Answer, Stop> {
        self.work.since = Uptime::now();
        let within = self.work.place.answer_within();
        let recorded = in_time(within, pin!(async { Ok(self.record().await) })).await;
        recorded.unwrap_or_else(|late| {
            self.work.forget_what_may_have_changed();
            Err(late.into())
        })
    }

    /// Reads and forgets the first `skip` bytes; gives back what came with the last of them.
    async fn skip(&mut self, mut skip: u64, body: &mut impl Body) -> Result<Bytes, Stop> {
        let newer = self.work.turn.superseded();
        tokio::pin!(newer);
        while skip > 0 {
            let mut chunk = tokio::select! {
                biased;
                () = &mut newer => return Err(superseded().into()),
                chunk = body.next(skip.min(UNWANTED)) => chunk?.ok_or(BodyBroken::Malformed)?,
            };
            let length = chunk.len() as u64;
            if length > skip {
                // `skip` is less than the length of the chunk, which is a usize.
                return Ok(chunk.split_off(skip as usize));
            }
            skip -= length;
        }
        Ok(Bytes::new())
    }

    /// Where the last part ends that is recorded as far as the plan of this turn knows, if it is not the same for everybody anyway.
    fn recorded(&self) -> u64 {
        self.assembler.layout().cut().map_or(0, CutPlan::recorded)
    }

    /// Reads and forgets `skip` bytes, of which some came already.
    async fn pass_over(&mut self, skip: u64, rest: &mut VecDeque<Bytes>, body: &mut impl Body) -> Result<(), Stop> {
        let at = self.assembler.at();
        let mut came = Piece::new(at, rest.drain(..).collect());
        came.skip_to(at + skip);
        let more = at + skip - came.from;
        rest.extend(came.chunks);
        if more > 0 {
            rest.push_back(self.skip(more, body).await?);
        }
        self.assembler = Assembler::new(self.assembler.layout().clone(), at + skip);
        Ok(())
    }

    /// Waits for the end of a body whose range is filled. Only a chunked one can go on: its length is told nowhere else.
    async fn end_of(&self, body: &mut impl Body, rest: &VecDeque<Bytes>) -> Option<Came> {
        if rest.iter().any(|chunk| !chunk.is_empty()) {
            return Some(Came::Broken(BodyBroken::Malformed));
        }
        tokio::select! {
            biased;
            end = body.next(0) => match end {
                Ok(None) => None,
                Ok(Some(_)) => Some(Came::Broken(BodyBroken::Malformed)),
                Err(broken) => Some(Came::Broken(broken)),
            },
            () = self.work.turn.superseded() => Some(Came::Superseded),
        }
    }

    /// Why the body is not read any further, with what came of it kept.
    async fn stop(&mut self, came: Came) -> Stop {
        let why = match came {
            // A body that is not what it was announced to be is refused as a whole.
            Came::Broken(BodyBroken::Malformed) => return BodyBroken::Malformed.into(),
            Came::Broken(broken) => broken.into(),
            Came::Superseded | Came::Pressed | Came::Chunk(_) => superseded().into(),
        };
        self.keep_what_came().await.err().unwrap_or(why)
    }

    /// Fills the assembler up to `bound`; says why it could not.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long memory is sat on is what this measures"
    )]
    async fn fill(&mut self, bound: u64, rest: &mut VecDeque<Bytes>, body: &mut impl Body) -> Option<Came> {
        let since = Uptime::now();
        let superseded = self.work.turn.superseded();
        tokio::pin!(superseded);
        while self.assembler.at() < bound {
            if rest.iter().all(Bytes::is_empty) {
                let patience = SITTING.saturating_sub(since.elapsed());
                let budget = &self.work.uploads.budget;
                let pressed = async {
                    tokio::time::sleep(patience).await;
                    budget.pressed().await;
                };
                let wanted = bound - self.assembler.at();
                let came = tokio::select! {
                    biased;
                    () = &mut superseded => Came::Superseded,
                    chunk = body.next(wanted) => match chunk {
                        Ok(Some(chunk)) => Came::Chunk(chunk),
                        Ok(None) => Came::Broken(BodyBroken::Malformed),
                        Err(broken) => Came::Broken(broken),
                    },
                    () = pressed => Came::Pressed,
                };
                match came {
                    Came::Chunk(chunk) => rest.push_back(chunk),
                    other => {
                        body.so_far().map(|chunk| self.assembler.push(chunk));
                        return Some(other);
                    }
                }
            }
            let wanted = bound - self.assembler.at();
            if let Some(mut chunk) = rest.pop_front() {
                let take = chunk.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
                self.assembler.push(chunk.split_to(take));
                if !chunk.is_empty() {
                    rest.push_front(chunk);
                }
            }
        }
        None
    }

    /// Reserves the memory for the bytes up to `bound`; for all of the part when they complete it. False: a newer packet of the session
    /// came before there was any.
    ///
    /// Whoever has to queue holds nothing meanwhile: what it holds at this point is stored as tails.
    async fn reserve(&mut self, part: PartRange, bound: u64, completes: bool) -> Result<bool, Stop> {
        let budget = self.work.uploads.budget.clone();
        let missing = self.missing(part, bound, completes);
        if missing == 0 {
            return Ok(true);
        }
        if let Some(more) = budget.try_reserve(missing) {
            self.add(more);
            return Ok(true);
        }
        if self.work.place.rules.durability == Durability::Fragment {
            self.forget_held();
        }
        let since = Uptime::now();
        let more = tokio::select! {
            biased;
            more = budget.reserve(self.missing(part, bound, completes)) => more,
            () = self.work.turn.superseded() => return Ok(false),
        };
        let outcome = if more.is_ok() {
            MemoryWait::Granted
        } else {
            MemoryWait::Exhausted
        };
        self.work.uploads.metrics.memory_waited(outcome, since.elapsed());
        self.add(more.map_err(|exhausted| Refused::Busy {
            retry_after: exhausted.waited.max(STORE_RETRY),
            why: exhausted.to_string(),
        })?);
        Ok(true)
    }

    /// How much memory the bytes up to `bound` need beyond what is reserved.
    fn missing(&self, part: PartRange, bound: u64, completes: bool) -> u64 {
        let need = if completes {
            part.len()
        } else {
            bound - self.assembler.held().from
        };
        need.saturating_sub(self.memory.as_ref().map_or(0, Reservation::bytes))
    }

    fn add(&mut self, more: Reservation) {
        match self.memory.as_mut() {
            Some(memory) => memory.merge(more),
            None => self.memory = Some(more),
        }
    }

    fn forget_held(&mut self) {
        self.assembler = Assembler::new(self.assembler.layout().clone(), self.assembler.at());
        self.memory = None;
    }

    /// Somebody else waits for the memory that this body fills too slowly.
    async fn yield_memory(&mut self) -> Result<(), Stop> {
        debug!(session = %self.work.id, "a slow body gives back its memory");
        self.slow = true;
        self.cut_short().await?;
        self.record().await?;
        self.lay_out_again().await?;
        if self.work.place.rules.durability == Durability::Fragment {
            self.forget_held();
        }
        Ok(())
    }

    /// Sends a full part on its way. Its memory goes with it. Gives back the bytes that belong to another part by now.
    async fn launch(&mut self, part: PartRange) -> Result<Vec<Bytes>, Stop> {
        if !self.may_put(part).await? {
            return self.follow().await;
        }
        let piece = self.assembler.held().clone();
        let Some(chunks) = self.whole_part(part, piece).await? else {
            return self.fall_behind(part).await;
        };
        self.assembler.take();
        let memory = self.memory.take();
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                // A crash before the record names it leaves an upload that the sweep finds by its key.
                let upload = self.work.place.store.begin(&self.work.file(), self.work.id).await?;
                self.unnamed = true;
                self.upload.insert(upload).clone()
            }
        };
        while self.flying.len() >= IN_FLIGHT {
            self.land().await?;
        }
        let (store, key) = (self.work.place.store.clone(), self.work.file());
        let hashing = self.hash(part, &chunks);
        let flight = tokio::spawn(async move {
            let (id, stretch) = tokio::join!(store.put_part(&key, &upload, part, chunks), hashing);
            drop(memory);
            Ok((id?, stretch))
        });
        self.flying.push_back((part, flight));
        Ok(Vec::new())
    }

    /// The bytes of `part`: what was received in `piece`, and before it what is stored as tails. `None` when tails are gone that were
    /// there when they were listed.
    async fn whole_part(&mut self, part: PartRange, piece: Piece) -> Result<Option<Vec<Bytes>>, Stop> {
        if piece.from == part.from {
            return Ok(Some(piece.chunks));
        }
        let Some(view) = self.work.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound.into());
        };
        let tails: Vec<_> = view.session.tails.within(part.from, piece.from).collect();
        let read_back = tails.iter().map(|(from, to)| to - from).sum();
        self.work.uploads.budget.take_elsewhere(read_back);
        let (store, id) = (&self.work.place.store, self.work.id);
        let mut read = futures::stream::iter(tails)
            .map(|(from, _)| async move { (from, store.read_tail(id, from).await) })
            .buffered(READ_AT_ONCE);
        let mut whole = Piece::at(part.from);
        while let Some((from, chunks)) = read.next().await {
            let mut tail = match chunks {
                Ok(chunks) => Piece::new(from, chunks),
                Err(Error::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            tail.skip_to(whole.end());
            if tail.from == whole.end() {
                tail.chunks.into_iter().for_each(|chunk| whole.push(chunk));
            }
        }
        if whole.end() < piece.from {
            return Ok(None);
        }
        let mut piece = piece;
        piece.skip_to(whole.end());
        piece.chunks.into_iter().for_each(|chunk| whole.push(chunk));
        Ok(Some(whole.chunks))
    }

    /// Tails of `part` are gone: another replica has recorded it meanwhile, and what came of it here is not needed.
    async fn fall_behind(&mut self, part: PartRange) -> Result<Vec<Bytes>, Stop> {
        self.work.load().await?;
        if self.assembler.layout().cut().is_some() {
            return self.follow().await;
        }
        self.forget_held();
        let staged = self.work.turn.view.as_ref().map(|view| view.session.record.staged());
        match staged.flatten() {
            Some(staged) if staged.end() >= part.to => {
                if self.upload.is_none() {
                    self.upload.clone_from(&staged.upload);
                }
                Ok(Vec::new())
            }
            Some(_) => Err(busy("another replica is ahead").into()),
            None => Err(Stop::Answer(self.ask_again().await?)),
        }
    }

    /// The session is past receiving: what the rules say to this fragment now.
    async fn ask_again(&mut self) -> Result<Answer, Refused> {
        let range = self.range;
        self.work.settle(|_| Input::Fragment(range)).await
    }

    async fn land(&mut self) -> Result<(), Stop> {
        if let Some((part, flight)) = self.flying.pop_front() {
            let landing = flight.await.map_err(|error| busy(error.to_string()))?;
            match landing {
                Ok((id, stretch)) => self.landed.push(Landed { part, id, stretch }),
                Err(Error::UnknownUpload) => return Err(Stop::Answer(self.upload_is_gone().await?)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The store ended the upload: if the record still names it, the session is given up. Unless another turn completed it.
    async fn upload_is_gone(&mut self) -> Result<Answer, Refused> {
        self.work.load().await?;
        let record = self.work.turn.view.as_ref().map(|view| &view.session.record);
        let is_receiving = record.is_some_and(|record| matches!(record.phase, Phase::Open(_) | Phase::Expiring(_)));
        if !is_receiving {
            return self.ask_again().await;
        }
        if self.upload.is_none() || record.and_then(Record::upload) != self.upload.as_ref() {
            return Err(busy("another replica began another upload"));
        }
        self.work.settle(|_| Input::UploadGone(Gone::Lately)).await
    }

    /// Lets the parts end that are still on their way: no record will list them. An upload that no record can name is
    /// aborted after them; a crash before that leaves it to the sweep.
    fn abandon_flights(&mut self) {
        let flights = std::mem::take(&mut self.flying);
        let abandoned = self.upload.take().filter(|_| self.unnamed);
        // Without a runtime the process is ending.
        if let (Some(upload), Ok(runtime)) = (abandoned, Handle::try_current()) {
            let (store, key, id) = (self.work.place.store.clone(), self.work.file(), self.work.id);
            runtime.spawn(async move {
                for (_, flight) in flights {
                    // Whatever became of the part, it goes with its upload.
                    let _ = flight.await;
                }
                if let Err(error) = store.abort(&key, &upload).await {
                    debug!(session = %id, %error, "an upload that no record names is left to the sweep");
                }
            });
        }
    }
}

impl Drop for Receiving<'_, '_> {
    fn drop(&mut self) {
        self.abandon_flights();
        // Bytes that were acknowledged from memory (`durability = "part"`) may have gone with the turn.
        let view = &mut *self.work.turn.view;
        let is_hollow = |view: &View| {
            let staged = view.session.record.staged().map_or(0, Staged::end);
            view.volatile && view.held.is_none() && view.session.end() > staged
        };
        if view.as_ref().is_some_and(is_hollow) {
            *view = None;
        }
    }
}

fn superseded() -> Refused {
    busy("a newer packet of the session took its turn")
}
