//! Where the parts end, settled while the body is being received: what others could put parts over is claimed first.

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{Receiving, Stop};
use crate::clock::{Uptime, random_id};
use crate::session::{Answer, Claim, Record, Refusal, Staged};
use crate::staging::{Assembler, CutPlan, Cuts, Cutting, Layout, MAX_CLAIMS, PartPlan, PartRange};
use crate::store::{Error, Version};
use crate::upload::work::{ATTEMPTS, Work, busy};

/// A claim on its way into the record, while the bytes that it is for come in.
#[derive(Debug)]
pub(super) struct Claiming {
    asked: Uptime,
    flight: JoinHandle<Result<(Record, Version), Error>>,
}

/// Where the parts lie of a file of `total` bytes of which this is staged.
///
/// What a record says holds. Equal parts it has for ever where its multipart upload has none of another kind: somebody else may be about
/// to put one.
pub(super) fn layout(work: &Work<'_>, staged: Option<&Staged>, total: u64) -> Layout {
    let record = work.turn.view.as_ref().map(|view| &view.session.record);
    let part_size = PartPlan::part_size_for(total, record.map_or(1, |record| record.part_size));
    let plan = PartPlan::new(part_size, total);
    let Some(staged) = staged else {
        return plan.into();
    };
    let cutting = work.cutting();
    let cuts = match (&staged.upload, &staged.cuts) {
        (_, Some(cuts)) => cuts,
        (None, None) if cutting != Cutting::Alike && !plan.is_small() => {
            &Cuts::new(cutting, part_size, total, work.limits().max_part_size)
        }
        _ => return plan.into(),
    };
    Layout::Cut(CutPlan::new(total, part_size, staged.end(), staged.count(), cuts))
}

impl Receiving<'_, '_> {
    /// Whether no other turn puts parts where this one does: into an upload that no record names yet, or under names of its own.
    pub(super) fn is_alone(&self) -> bool {
        let Some(view) = self.work.turn.view.as_ref() else {
            return false;
        };
        let named = view.session.record.upload();
        let is_private = named.is_none() || (self.upload.is_some() && named != self.upload.as_ref());
        is_private || self.work.cutting() == Cutting::Free
    }

    /// Settles where the parts end that come up to `goal`. The claim on them is made while they are received.
    pub(super) async fn settle_parts(&mut self, goal: u64) -> Result<(), Stop> {
        let at = self.assembler.at();
        let most = if self.is_alone() { usize::MAX } else { MAX_CLAIMS };
        let Some(plan) = self.assembler.layout_mut().cut_mut() else {
            return Ok(());
        };
        if at >= plan.settled() && plan.ends().len() >= most {
            // As many as a record has room for: they are recorded first.
            self.record().await?;
            self.lay_out_again().await?;
        }
        if let Some(plan) = self.assembler.layout_mut().cut_mut()
            && plan.extend(goal, most)
            && !self.is_alone()
        {
            self.land_claim().await?;
            self.begin_claim();
        }
        Ok(())
    }

    /// Sends the claim on its way. `false`: the record as it is known claims other parts.
    fn begin_claim(&mut self) -> bool {
        let Some(view) = self.work.turn.view.as_ref() else {
            return false;
        };
        let Some(plan) = self.assembler.layout_mut().cut_mut() else {
            return false;
        };
        let recorded = view.session.record.staged().map_or(0, Staged::end);
        if recorded != plan.recorded() && !plan.ends().contains(&recorded) {
            return false;
        }
        let ends: Vec<u64> = plan.ends().iter().copied().filter(|end| *end > recorded).collect();
        let Some(record) = view.session.record.claiming(&ends) else {
            return false;
        };
        plan.claim();
        let record = record.stamped(random_id(), self.work.uploads.clock.now());
        let (store, over) = (self.work.place.store.clone(), view.version.clone());
        let asked = Uptime::now();
        let flight = tokio::spawn(async move {
            let version = store.replace_record(&record, &over).await?;
            Ok((record, version))
        });
        self.claiming = Some(Claiming { asked, flight });
        true
    }

    /// Waits for what became of the claim. One that was not the first to change the record is looked up: another replica may have
    /// claimed the very same.
    pub(super) async fn land_claim(&mut self) -> Result<(), Stop> {
        let Some(Claiming { asked, flight }) = self.claiming.take() else {
            return Ok(());
        };
        match flight.await.map_err(|error| busy(error.to_string()))? {
            Ok((record, version)) => self.work.saved(record, version, asked),
            Err(Error::Conflict | Error::NotFound) => self.work.load().await?,
            Err(error) => {
                // Whether it was saved is not known: the next turn looks.
                *self.work.turn.view = None;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Whether `part` may be put: nobody puts other bytes in its place, ever. `false` when it is recorded, or others are claimed, or when the
    /// parts of the session are of the other kind by now.
    pub(super) async fn may_put(&mut self, part: PartRange) -> Result<bool, Stop> {
        let view = self.work.turn.view.as_ref();
        if self.upload.is_none() {
            // Another replica may have begun one since.
            self.upload = view.and_then(|view| view.session.record.upload().cloned());
        }
        if self.is_alone() {
            return Ok(true);
        }
        for _ in 0..ATTEMPTS {
            self.land_claim().await?;
            let view = self.work.turn.view.as_ref();
            let Some(staged) = view.and_then(|view| view.session.record.staged()) else {
                return Ok(false);
            };
            if staged.cuts.is_none() {
                return Ok(self.assembler.layout().cut().is_none());
            }
            match staged.claim_on(part) {
                Claim::Made => return Ok(true),
                Claim::Open if self.begin_claim() => {}
                Claim::Open | Claim::Passed | Claim::Other => return Ok(false),
            }
        }
        Err(busy("other replicas keep changing the session").into())
    }

    /// Other replicas cut the file elsewhere, or are ahead: from now on this turn keeps to what the record says. Gives back what is in hand, to
    /// be cut anew.
    pub(super) async fn follow(&mut self) -> Result<Vec<Bytes>, Stop> {
        while !self.flying.is_empty() {
            self.land().await?;
        }
        self.followed += 1;
        if self.followed > ATTEMPTS {
            return Err(busy("other replicas keep changing the session").into());
        }
        let view = self.work.turn.view.as_ref();
        let Some(staged) = view.and_then(|view| view.session.record.staged().cloned()) else {
            return Err(Stop::Answer(self.ask_again().await?));
        };
        self.go_over_to(staged.upload.as_ref()).await;
        if self.unnamed && !self.landed.is_empty() {
            // The numbers of these parts are taken, in an upload that nobody else knows.
            return Err(busy("what is stored of the session changed").into());
        }
        let stored = self.work.turn.view.as_ref().map_or(0, |view| view.session.end());
        let mut piece = self.assembler.take();
        if stored < piece.from {
            // What came before it went with a part that nobody lists.
            let answer = self.record().await?;
            return Err(Stop::Answer(match answer {
                Answer::Next(next) if next < self.range.end() => Answer::Refused(Refusal::OutOfStep),
                other => other,
            }));
        }
        piece.skip_to(staged.end());
        let layout = layout(self.work, Some(&staged), self.range.total());
        self.assembler = Assembler::new(layout, piece.from);
        Ok(piece.chunks)
    }

    /// After what came was recorded: the record may have more to say of what comes. All of it has to be stored.
    pub(super) async fn lay_out_again(&mut self) -> Result<(), Stop> {
        let at = self.assembler.at();
        let view = self.work.turn.view.as_ref();
        let staged = view.and_then(|view| view.session.record.staged());
        let (Some(view), Some(staged)) = (view, staged) else {
            return Err(Stop::Answer(self.ask_again().await?));
        };
        if view.session.end() < at {
            return Err(Stop::Answer(Answer::Refused(Refusal::OutOfStep)));
        }
        let layout = layout(self.work, Some(staged), self.range.total());
        let part = layout.part_at(at);
        let held = self.assembler.take();
        if part.from <= held.from && at < part.to {
            self.assembler = Assembler::holding(layout, held);
        } else {
            self.assembler = Assembler::new(layout, at);
            self.memory = None;
        }
        Ok(())
    }

    /// The body broke off: what came of the part at hand is a part of its own, where nothing else was claimed.
    pub(super) async fn cut_short(&mut self) -> Result<(), Stop> {
        let (at, is_alone) = (self.assembler.at(), self.is_alone());
        let plan = self.assembler.layout_mut().cut_mut().filter(|_| is_alone);
        match plan.and_then(|plan| plan.cut_short(at)) {
            Some(part) if !self.assembler.held().is_empty() => {
                // What comes back is not stored: the client is told so, and sends it again.
                self.launch(part).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the next part beyond `staged` before anybody knows which small fragments it will come in: the claim costs nothing in a write that
    /// is made anyway.
    pub(super) fn claim_ahead(&self, staged: &mut Staged) {
        let Layout::Cut(plan) = layout(self.work, Some(staged), self.range.total()) else {
            return;
        };
        if let Some(cuts) = &mut staged.cuts
            && cuts.claims.is_empty()
            && self.range.len() < plan.smallest()
        {
            cuts.claims.extend(plan.guess());
        }
    }
}
