//! The body of a fragment: from the connection into parts and tails, in bounded memory, nothing copied.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tracing::debug;

use super::body::{Body, BodyBroken};
use super::view::Held;
use super::work::{ATTEMPTS, STORE_RETRY, Saved, Work, busy};
use super::{Durability, Fragmented, Refused};
use crate::bits::ContentRange;
use crate::budget::Reservation;
use crate::clock::Uptime;
use crate::metrics::MemoryWait;
use crate::session::{Answer, Input, Staged, Then};
use crate::staging::{Assembler, PartId, PartPlan, PartRange, Piece, RecordedPart, UploadId};
use crate::store::Error;

/// Parts of one session that are on their way into the store while the next one is being received.
const IN_FLIGHT: usize = 2;

/// Fewer bytes than this are not worth a tail when the body breaks off (protocol digest, part 0).
const WORTH_KEEPING: u64 = 64 * 1024;

/// How long a body may sit on memory that somebody else waits for. A guess: a tenth of the time that others wait.
const SITTING: Duration = Duration::from_secs(5);

/// What a body that was too slow for a whole part reserves at a time.
const SMALL_STEP: u64 = 512 * 1024;

/// A fragment that is being received.
pub(super) struct Receiving<'w, 'a> {
    work: &'w mut Work<'a>,
    plan: PartPlan,
    assembler: Assembler,
    memory: Option<Reservation>,
    /// The multipart upload that this turn puts parts into.
    upload: Option<UploadId>,
    /// Whether that upload was begun by this turn and no record that names it was ever offered to the store.
    unnamed: bool,
    flying: VecDeque<(PartRange, JoinHandle<Result<PartId, Error>>)>,
    /// Parts of this turn that the record does not list yet.
    landed: Vec<(PartRange, PartId)>,
    /// The body slept on memory that others waited for: it gets small pieces from now on.
    slow: bool,
}

/// Why the body is not read any further.
enum Stopped {
    Broken(BodyBroken),
    Superseded,
}

/// What came next.
enum Came {
    Chunk(Bytes),
    Pressed,
    Stopped(Stopped),
}

impl<'w, 'a> Receiving<'w, 'a> {
    pub(super) fn new(work: &'w mut Work<'a>, range: ContentRange, from: u64) -> Self {
        let (part_size, upload, held) = work.turn.view.as_mut().map_or((1, None, None), |view| {
            (
                view.session.record.part_size,
                view.session.record.upload().cloned(),
                view.held.take(),
            )
        });
        let plan = PartPlan::new(PartPlan::part_size_for(range.total(), part_size), range.total());
        let part = plan.part_at(from);
        let held = held.filter(|held| held.piece.end() == from && held.piece.from >= part.from && from > part.from);
        let (assembler, memory) = match held {
            Some(held) => (Assembler::holding(plan, held.piece), Some(held.memory)),
            None => (Assembler::new(plan, from), None),
        };
        Self {
            work,
            plan,
            assembler,
            memory,
            upload,
            unnamed: false,
            flying: VecDeque::new(),
            landed: Vec::new(),
            slow: false,
        }
    }

    /// Reads the body and answers. Of its bytes, the first `skip` are stored already.
    pub(super) async fn run(mut self, range: ContentRange, skip: u64, body: &mut impl Body) -> Fragmented {
        let answer = match self.receive(range, skip, body).await {
            Err(refused @ Refused::Busy { .. }) => self.stored_by_others(range).ok_or(refused),
            received => received,
        };
        self.abandon_flights();
        super::conclude(self.work, answer)
    }

    /// The answer to a fragment that could not be stored because another replica had stored these very bytes before.
    fn stored_by_others(&self, range: ContentRange) -> Option<Answer> {
        let step = self.work.rule(Input::Fragment(range)).ok()?;
        match (step.save, step.then) {
            (None, Then::Answer(answer @ Answer::Next(_))) => Some(answer),
            _ => None,
        }
    }

    async fn receive(&mut self, range: ContentRange, skip: u64, body: &mut impl Body) -> Result<Answer, Refused> {
        let mut rest = skip_bytes(skip, body).await?;
        loop {
            let at = self.assembler.at();
            if at >= range.end() {
                break;
            }
            let part = self.plan.part_at(at);
            let step = if self.slow {
                at.saturating_add(SMALL_STEP)
            } else {
                u64::MAX
            };
            let bound = part.to.min(range.end()).min(step);
            let completes = bound == part.to;
            self.reserve(part, bound, completes).await?;
            match self.fill(bound, &mut rest, body).await {
                None => {}
                Some(Came::Pressed) => {
                    self.yield_memory(range).await?;
                    continue;
                }
                Some(Came::Stopped(Stopped::Broken(broken))) => {
                    // A body that is not what it was announced to be is refused as a whole.
                    if broken != BodyBroken::Malformed {
                        self.keep_what_came(range).await?;
                    }
                    return Err(Refused::Body(broken));
                }
                Some(Came::Stopped(Stopped::Superseded) | Came::Chunk(_)) => {
                    self.keep_what_came(range).await?;
                    return Err(busy("a newer packet of the session took its turn"));
                }
            }
            if completes && !self.plan.is_small() {
                self.launch(part).await?;
            } else if self.slow && bound < range.end() {
                self.record(range).await?;
            }
        }
        self.end_of(body, &rest).await?;
        self.finish(range).await
    }

    /// Waits for the end of a body whose range is filled. Only a chunked one can go on: its length is told nowhere else.
    async fn end_of(&self, body: &mut impl Body, rest: &Bytes) -> Result<(), Refused> {
        if !rest.is_empty() {
            return Err(BodyBroken::Malformed.into());
        }
        tokio::select! {
            biased;
            end = body.next() => match end? {
                None => Ok(()),
                Some(_) => Err(BodyBroken::Malformed.into()),
            },
            () = self.work.turn.superseded() => Err(busy("a newer packet of the session took its turn")),
        }
    }

    /// Fills the assembler up to `bound`; says why it could not.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long memory is sat on is what this measures"
    )]
    async fn fill(&mut self, bound: u64, rest: &mut Bytes, body: &mut impl Body) -> Option<Came> {
        let since = Uptime::now();
        let superseded = self.work.turn.superseded();
        tokio::pin!(superseded);
        while self.assembler.at() < bound {
            if rest.is_empty() {
                let patience = SITTING.saturating_sub(since.elapsed());
                let budget = &self.work.uploads.budget;
                let pressed = async {
                    tokio::time::sleep(patience).await;
                    budget.pressed().await;
                };
                let came = tokio::select! {
                    biased;
                    () = &mut superseded => Came::Stopped(Stopped::Superseded),
                    chunk = body.next() => match chunk {
                        Ok(Some(chunk)) => Came::Chunk(chunk),
                        Ok(None) => Came::Stopped(Stopped::Broken(BodyBroken::Malformed)),
                        Err(broken) => Came::Stopped(Stopped::Broken(broken)),
                    },
                    () = pressed => Came::Pressed,
                };
                match came {
                    Came::Chunk(chunk) => *rest = chunk,
                    other => return Some(other),
                }
            }
            let wanted = bound - self.assembler.at();
            let take = rest.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
            self.assembler.push(rest.split_to(take));
        }
        None
    }

    /// Reserves the memory for the bytes up to `bound`; for all of the part when they complete it.
    ///
    /// Whoever has to queue holds nothing meanwhile: what it holds at this point is stored as tails.
    async fn reserve(&mut self, part: PartRange, bound: u64, completes: bool) -> Result<(), Refused> {
        let held = self.assembler.held().len();
        let need = if completes {
            part.len()
        } else {
            held + bound - self.assembler.at()
        };
        let have = self.memory.as_ref().map_or(0, Reservation::bytes);
        if need <= have {
            return Ok(());
        }
        let budget = self.work.uploads.budget.clone();
        if let Some(more) = budget.try_reserve(need - have) {
            match self.memory.as_mut() {
                Some(memory) => memory.merge(more),
                None => self.memory = Some(more),
            }
            return Ok(());
        }
        if self.work.place.rules.durability == Durability::Fragment {
            self.forget_held();
        }
        let have = self.memory.as_ref().map_or(0, Reservation::bytes);
        let need = if completes {
            part.len()
        } else {
            self.assembler.held().len() + bound - self.assembler.at()
        };
        let since = Uptime::now();
        let more = budget.reserve(need.saturating_sub(have)).await;
        let outcome = if more.is_ok() {
            MemoryWait::Granted
        } else {
            MemoryWait::Exhausted
        };
        self.work.uploads.metrics.memory_waited(outcome, since.elapsed());
        let more = more.map_err(|exhausted| Refused::Busy {
            retry_after: exhausted.waited.max(STORE_RETRY),
            why: exhausted.to_string(),
        })?;
        match self.memory.as_mut() {
            Some(memory) => memory.merge(more),
            None => self.memory = Some(more),
        }
        Ok(())
    }

    fn forget_held(&mut self) {
        self.assembler = Assembler::new(self.plan, self.assembler.at());
        self.memory = None;
    }

    /// Somebody else waits for the memory that this body fills too slowly.
    async fn yield_memory(&mut self, range: ContentRange) -> Result<(), Refused> {
        debug!(session = %self.work.id, "a slow body gives back its memory");
        self.slow = true;
        self.record(range).await?;
        if self.work.place.rules.durability == Durability::Fragment {
            self.forget_held();
        }
        Ok(())
    }

    /// Sends a full part on its way. Its memory goes with it.
    async fn launch(&mut self, part: PartRange) -> Result<(), Refused> {
        let piece = self.assembler.take();
        let memory = self.memory.take();
        let chunks = self.whole_part(part, piece).await?;
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                // A crash before the record names it leaves an upload that the sweep finds by its key.
                let upload = self.work.place.store.begin(&self.work.key, self.work.id).await?;
                self.unnamed = true;
                self.upload.insert(upload).clone()
            }
        };
        while self.flying.len() >= IN_FLIGHT {
            self.land().await?;
        }
        let (store, key) = (self.work.place.store.clone(), self.work.key.clone());
        let flight = tokio::spawn(async move {
            let landed = store.put_part(&key, &upload, part, chunks).await;
            drop(memory);
            landed
        });
        self.flying.push_back((part, flight));
        Ok(())
    }

    /// The bytes of `part`: what was received in `piece`, and before it what is stored as tails.
    async fn whole_part(&mut self, part: PartRange, piece: Piece) -> Result<Vec<Bytes>, Refused> {
        if piece.from == part.from {
            return Ok(piece.chunks);
        }
        let Some(view) = self.work.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound);
        };
        let tails: Vec<_> = view.session.tails.within(part.from, piece.from).collect();
        let mut whole = Piece::at(part.from);
        for (from, _) in tails {
            let chunks = match self.work.place.store.read_tail(self.work.id, from).await {
                Ok(chunks) => chunks,
                Err(Error::NotFound) => break,
                Err(error) => return Err(error.into()),
            };
            let mut tail = Piece::new(from, chunks);
            tail.skip_to(whole.end());
            if tail.from == whole.end() {
                tail.chunks.into_iter().for_each(|chunk| whole.push(chunk));
            }
        }
        if whole.end() < piece.from {
            // The log has a hole that was not there when it was listed: another replica recorded the part meanwhile.
            self.work.load().await?;
            return Err(busy("another replica is ahead"));
        }
        let mut piece = piece;
        piece.skip_to(whole.end());
        piece.chunks.into_iter().for_each(|chunk| whole.push(chunk));
        Ok(whole.chunks)
    }

    async fn land(&mut self) -> Result<(), Refused> {
        if let Some((part, flight)) = self.flying.pop_front() {
            let id = flight.await.map_err(|error| busy(error.to_string()))?;
            match id {
                Ok(id) => self.landed.push((part, id)),
                Err(Error::UnknownUpload) => return Err(self.upload_is_gone().await),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The store ended the upload: if the record still names it, the session is given up.
    async fn upload_is_gone(&mut self) -> Refused {
        let told = async {
            self.work.load().await?;
            let named = self
                .work
                .turn
                .view
                .as_ref()
                .and_then(|view| view.session.record.upload().cloned());
            if named.is_none() || named != self.upload {
                return Ok(busy("another replica began another upload"));
            }
            match self.work.settle(|settled| Input::UploadGone { settled }).await? {
                Answer::Refused(refusal) => Ok(super::work::refused(refusal)),
                Answer::Next(_) | Answer::Done => Ok(busy("the session moved on meanwhile")),
            }
        };
        told.await.unwrap_or_else(|refused: Refused| refused)
    }

    /// Lets the parts end that are still on their way: no record will list them. An upload that no record can name is
    /// aborted after them; a crash before that leaves it to the sweep.
    fn abandon_flights(&mut self) {
        let flights = std::mem::take(&mut self.flying);
        let abandoned = self.upload.take().filter(|_| self.unnamed);
        if let Some(upload) = abandoned {
            let (store, key, id) = (self.work.place.store.clone(), self.work.key.clone(), self.work.id);
            tokio::spawn(async move {
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

    /// A body broke off, or has to yield: what came is kept when it is worth a write.
    async fn keep_what_came(&mut self, range: ContentRange) -> Result<(), Refused> {
        let stored = self.work.turn.view.as_ref().map_or(0, |view| view.session.end());
        let came = self.assembler.at().saturating_sub(stored);
        if !self.flying.is_empty() || !self.landed.is_empty() || came >= WORTH_KEEPING {
            self.record(range).await?;
        }
        Ok(())
    }

    /// Makes what came so far durable: parts into the record, the rest as a tail.
    async fn record(&mut self, range: ContentRange) -> Result<Answer, Refused> {
        while !self.flying.is_empty() {
            self.land().await?;
        }
        for _ in 0..ATTEMPTS {
            let (staged, reach) = self.staged().await?;
            let held = self.assembler.held();
            let upto = if held.from <= reach {
                reach.max(held.end())
            } else {
                reach
            };
            let total = range.total();
            let lost = upto < self.assembler.at();
            let step = self.work.rule(Input::Received { upto, total, staged })?;
            if let Some(record) = step.save {
                self.unnamed &= record.upload() != self.upload.as_ref();
                if self.work.save(record).await? == Saved::Overtaken {
                    continue;
                }
                self.drop_covered();
            }
            match step.then {
                Then::KeepTail => {
                    if !self.keep_tail(upto).await? {
                        continue;
                    }
                    return Ok(if lost {
                        Answer::Refused(crate::session::Refusal::OutOfStep)
                    } else {
                        Answer::Next(upto)
                    });
                }
                Then::PutFile => return self.put_file().await,
                Then::Assemble => return self.work.settle(|_| Input::Fragment(range)).await,
                Then::Answer(Answer::Next(next)) if lost && next < self.assembler.at() => {
                    return Ok(Answer::Refused(crate::session::Refusal::OutOfStep));
                }
                Then::Answer(answer) => return Ok(answer),
                Then::Discard(_) | Then::Receive { .. } => return Err(busy("the session moved on meanwhile")),
            }
        }
        Err(busy("other replicas keep changing the session"))
    }

    /// What the record should list by now, with full pages written, and how far the stored bytes reach with it.
    async fn staged(&mut self) -> Result<(Staged, u64), Refused> {
        let Some(view) = self.work.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound);
        };
        let Some(mut staged) = view.session.record.staged().cloned() else {
            return Ok((Staged::default(), view.session.end()));
        };
        if staged.upload.is_some() && staged.upload != self.upload {
            // A newer record names another upload: ours can never be recorded, so it may be aborted.
            if let Some(ours) = self.upload.take() {
                self.landed.clear();
                if let Err(error) = self.work.place.store.abort(&self.work.key, &ours).await {
                    debug!(session = %self.work.id, %error, "an upload that lost the race is left to the sweep");
                }
            }
            self.upload.clone_from(&staged.upload);
        }
        for (part, id) in &self.landed {
            if part.from == staged.end() {
                staged.upload.clone_from(&self.upload);
                staged.parts.push(RecordedPart(id.clone(), part.to));
            }
        }
        let reach = view.session.tails.reach(staged.end());
        while let Some(page) = staged.full_page() {
            let name = self
                .work
                .place
                .store
                .write_page(self.work.id, staged.pages.len(), page)
                .await?;
            staged.turn_page(name);
        }
        Ok((staged, reach))
    }

    /// The record lists the parts: the tails below their end are not needed any more.
    fn drop_covered(&mut self) {
        self.landed.clear();
        let Some(view) = self.work.turn.view.as_mut() else {
            return;
        };
        let end = view.session.record.staged().map_or(0, Staged::end);
        let covered = view.session.tails.covered_by(end);
        view.session.tails.drop_covered(end);
        view.littered = true;
        if !covered.is_empty() && !view.volatile {
            let (store, id) = (self.work.place.store.clone(), self.work.id);
            tokio::spawn(async move {
                if let Err(error) = store.remove_tails(id, covered).await {
                    debug!(session = %id, %error, "tails that parts cover are left to Close");
                }
            });
        }
    }

    /// Creates the tail of what is in hand up to `upto`; `false` when another replica was first.
    async fn keep_tail(&mut self, upto: u64) -> Result<bool, Refused> {
        let Some(view) = self.work.turn.view.as_mut() else {
            return Err(Refused::SessionNotFound);
        };
        let from = view.session.end();
        if self.work.place.rules.durability == Durability::Part {
            view.session.tails.insert(from, upto);
            view.volatile = true;
            return Ok(true);
        }
        let mut tail = self.assembler.held().clone();
        tail.skip_to(from);
        view.littered = true;
        match self.work.place.store.create_tail(self.work.id, from, tail.chunks).await {
            Ok(()) => {
                view.session.tails.insert(from, upto);
                Ok(true)
            }
            Err(Error::Conflict) => {
                self.work.load().await?;
                Ok(false)
            }
            Err(error) => {
                *self.work.turn.view = None;
                Err(error.into())
            }
        }
    }

    /// Every byte of the fragment is here.
    async fn finish(&mut self, range: ContentRange) -> Result<Answer, Refused> {
        let answer = self.record(range).await?;
        // The unfinished part is kept in memory as long as nobody else needs it.
        let piece = self.assembler.take();
        if let (Some(mut memory), Some(view)) = (self.memory.take(), self.work.turn.view.as_mut())
            && !piece.is_empty()
            && view.session.record.staged().is_some()
            && piece.end() == view.session.end()
        {
            memory.shrink(piece.len());
            view.held = Some(Held { piece, memory });
        }
        Ok(answer)
    }

    /// Publishes a file of one part: one conditional put, then the mark.
    async fn put_file(&mut self) -> Result<Answer, Refused> {
        let part = self.plan.part_at(0);
        let chunks = self.whole_part(part, self.assembler.held().clone()).await?;
        let view = self.work.look_again_before_publishing().await?;
        let before = view.session.record.before.clone();
        if view.session.record.staged().is_none() {
            return self.work.settle(|_| Input::UploadGone { settled: false }).await;
        }
        let done = match self
            .work
            .place
            .store
            .put_file(&self.work.key, self.work.id, chunks, &before)
            .await
        {
            Ok(tag) => Input::Published(tag),
            Err(Error::Conflict) => Input::Displaced,
            Err(error) => return Err(error.into()),
        };
        self.work.settle(|_| done.clone()).await
    }
}

/// Reads and forgets the first `skip` bytes; gives back what came with the last of them.
async fn skip_bytes(mut skip: u64, body: &mut impl Body) -> Result<Bytes, Refused> {
    while skip > 0 {
        let mut chunk = body.next().await?.ok_or(BodyBroken::Malformed)?;
        let length = chunk.len() as u64;
        if length > skip {
            // `skip` is less than the length of the chunk, which is a usize.
            return Ok(chunk.split_off(skip as usize));
        }
        skip -= length;
    }
    Ok(Bytes::new())
}
