//! What came is made durable: parts into the record, the rest as a tail, and with the last byte the file.

use tracing::{debug, warn};

use super::claims::layout;
use super::hashing::digest_of;
use super::{Receiving, Stop};
use crate::session::{Answer, Input, Phase, Refusal, Staged, Then};
use crate::staging::{Cuts, Hashed, Layout, PartRange, RecordedPart, UploadId};
use crate::store::{Error, Filed, Terms};
use crate::upload::view::Held;
use crate::upload::work::{ATTEMPTS, Saved, busy};
use crate::upload::{Durability, Refused};

/// Fewer bytes than this are not worth a tail when the body breaks off (protocol digest, part 0).
const WORTH_KEEPING: u64 = 64 * 1024;

impl Receiving<'_, '_> {
    /// A body broke off, or has to yield: what came is kept when it is worth a write.
    pub(super) async fn keep_what_came(&mut self) -> Result<(), Stop> {
        self.cut_short().await?;
        let stored = self.work.turn.view.as_ref().map_or(0, |view| view.session.end());
        let came = self.assembler.at().saturating_sub(stored);
        if !self.flying.is_empty() || !self.landed.is_empty() || came >= WORTH_KEEPING {
            self.record().await?;
        }
        Ok(())
    }

    /// Makes what came so far durable: parts into the record, the rest as a tail.
    pub(super) async fn record(&mut self) -> Result<Answer, Stop> {
        while !self.flying.is_empty() {
            self.land().await?;
        }
        self.land_claim().await?;
        // A body can take hours, and a tail is created without a word to the record: it must not come to a session that the sweep has
        // ended meanwhile.
        self.work.look(false).await?;
        for _ in 0..ATTEMPTS {
            let (staged, hashed, reach) = self.staged().await?;
            let held = self.assembler.held();
            let total = self.range.total();
            let longest = layout(self.work, Some(&staged), total).longest_tail(reach);
            let upto = if held.from <= reach {
                reach.max(held.end().min(longest))
            } else {
                reach
            };
            let lost = upto < self.assembler.at();
            let step = self.work.rule(Input::Received {
                upto,
                total,
                staged,
                hashed,
            })?;
            if let Some(mut record) = step.save {
                if let Phase::Publishing { staged, mark } = &mut record.phase
                    && let Some(upload) = &staged.upload
                {
                    *mark = match self.work.place.store.mark(&self.work.file(), upload).await {
                        Err(Error::UnknownUpload) => return Ok(self.upload_is_gone().await?),
                        mark => mark?,
                    };
                }
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
                        Answer::Refused(Refusal::OutOfStep)
                    } else {
                        Answer::Next(upto)
                    });
                }
                Then::PutFile => match self.put_file().await? {
                    Some(answer) => return Ok(answer),
                    None => continue,
                },
                // Nobody who waits for memory holds any: the file is stored.
                Then::Assemble | Then::Tell | Then::Copy => {
                    self.forget_held();
                    return Ok(self.ask_again().await?);
                }
                Then::Answer(Answer::Next(next)) if lost && next < self.assembler.at() => {
                    return Ok(Answer::Refused(Refusal::OutOfStep));
                }
                Then::Answer(answer) => return Ok(answer),
                Then::Discard(_) | Then::Receive { .. } => return Err(busy("the session moved on meanwhile").into()),
            }
        }
        Err(busy("other replicas keep changing the session").into())
    }

    /// What the record should list by now, with full pages written, the digest of that, and how far the stored bytes reach with it.
    async fn staged(&mut self) -> Result<(Staged, Option<Hashed>, u64), Stop> {
        let Some(view) = self.work.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound.into());
        };
        let Some(mut staged) = view.session.record.staged().cloned() else {
            // No record will name an upload of this turn any more.
            self.unnamed = true;
            return Ok((Staged::default(), None, view.session.end()));
        };
        let is_digested = view.session.record.hashed.is_some();
        let mut hashed = view.session.record.hashed_to(&staged).cloned();
        self.go_over_to(staged.upload.as_ref()).await;
        let (before, is_alone) = (staged.end(), self.is_alone());
        // Nobody else put anything into an upload that no record named so far: its parts lie where this turn says.
        if staged.upload.is_none()
            && !self.landed.is_empty()
            && let Some(plan) = self.assembler.layout().cut()
        {
            staged.cuts = Some(Cuts {
                largest: plan.largest(),
                claims: Vec::new(),
            });
        }
        let plan = layout(self.work, Some(&staged), self.range.total());
        for landed in &self.landed {
            if landed.part.from == staged.end() && is_in_its_place(&staged, &plan, landed.part, is_alone) {
                staged.upload.clone_from(&self.upload);
                staged.parts.push(RecordedPart(landed.id.clone(), landed.part.to));
                if let Some(cuts) = &mut staged.cuts {
                    cuts.claims.retain(|end| *end > landed.part.to);
                }
                // What another replica listed before it may be other bytes than those that were hashed here.
                let follows = landed
                    .stretch
                    .as_ref()
                    .filter(|stretch| Some(&stretch.before) == hashed.as_ref());
                hashed = follows.map(|stretch| stretch.after.clone());
            }
        }
        if is_digested && hashed.is_none() {
            warn!(session = %self.work.id, key = %self.work.key, "the digest of the file is given up: parts were recorded without it");
        }
        if staged.end() > before {
            self.claim_ahead(&mut staged);
        }
        let view = self.work.turn.view.as_ref().ok_or(Refused::SessionNotFound)?;
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
        Ok((staged, hashed, reach))
    }

    /// A newer record names another upload: ours can never be recorded, so it may be aborted.
    pub(super) async fn go_over_to(&mut self, named: Option<&UploadId>) {
        if named.is_none() || named == self.upload.as_ref() {
            return;
        }
        if let Some(ours) = self.upload.take() {
            self.landed.clear();
            if let Err(error) = self.work.place.store.abort(&self.work.file(), &ours).await {
                debug!(session = %self.work.id, %error, "an upload that lost the race is left to the sweep");
            }
        }
        self.unnamed = false;
        self.upload = named.cloned();
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
    async fn keep_tail(&mut self, upto: u64) -> Result<bool, Stop> {
        let Some(view) = self.work.turn.view.as_mut() else {
            return Err(Refused::SessionNotFound.into());
        };
        let from = view.session.end();
        if upto <= from {
            // It is stored already. A tail without a byte would take the place of the next one for ever.
            return Ok(true);
        }
        if self.work.place.rules.durability == Durability::Part {
            view.session.tails.insert(from, upto);
            view.volatile = true;
            return Ok(true);
        }
        let tail = self.assembler.held().since(from);
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

    /// Keeps the stored bytes of the unfinished part in memory, as long as nobody else needs it.
    pub(super) fn keep_held(&mut self) {
        let (Some(mut memory), Some(view)) = (self.memory.take(), self.work.turn.view.as_mut()) else {
            return;
        };
        let mut piece = self.assembler.take();
        let end = view.session.end();
        piece.cut_at(end);
        if view.session.record.staged().is_some() && !piece.is_empty() && piece.end() == end {
            memory.shrink(piece.len());
            view.held = Some(Held { piece, memory });
        }
    }

    /// Publishes a file of one part: one conditional put, then the mark. `None` when the session was found changed before the put.
    async fn put_file(&mut self) -> Result<Option<Answer>, Stop> {
        let part = self.assembler.layout().part_at(0);
        let Some(chunks) = self.whole_part(part, self.assembler.held().clone()).await? else {
            self.work.load().await?;
            return Ok(None);
        };
        self.work.clear_sidecar().await?;
        // A fragment that begins where this process knows the end to be came here without a look: another replica may have
        // published it before, and somebody may have taken the file since.
        let Some(by) = self.work.deadline().await? else {
            return Ok(None);
        };
        let Some(view) = self.work.turn.view.as_ref() else {
            return Err(Refused::SessionNotFound.into());
        };
        let before = view.session.record.condition().clone();
        let terms = Terms { before: &before, by };
        let sha256 = match view.session.record.hashed {
            Some(_) => Some(digest_of(&chunks).await),
            None => None,
        };
        let store = &self.work.place.store;
        let file = self.work.file();
        let done = match store.put_digested(&file, self.work.id, chunks, sha256, terms).await {
            Ok(Filed { tag, sha256 }) => Input::Published { tag, sha256 },
            Err(Error::Conflict) => Input::Displaced,
            Err(error) => return Err(error.into()),
        };
        self.forget_held();
        Ok(Some(self.work.settle(|_| done.clone()).await?))
    }
}

/// Whether the next part to be recorded may be this one. Claims hold, also where parts can be put without them; without claims, the plan that
/// follows from the record.
fn is_in_its_place(staged: &Staged, plan: &Layout, part: PartRange, is_alone: bool) -> bool {
    let Some(cuts) = &staged.cuts else {
        return plan.part_at(part.from) == part;
    };
    if u64::from(part.index) != staged.count() as u64 {
        return false;
    }
    match cuts.claims.first() {
        Some(end) => *end == part.to,
        None => is_alone,
    }
}
