//! What a packet means for a session: one pure function.
//!
//! The caller loads a session, asks [`step`], saves what it is given **before** it acts, acts, and answers last.
//! Every effect can be carried out again after a crash.

use crate::bits::ContentRange;
use crate::staging::{Hashed, Hasher, PartPlan, Sha256};

use super::{Delivery, Limits, ObjectTag, Outcome, Phase, Record, Session, Staged, Verdict};

mod application;

/// What an upload of a `publishing` session may have come to that the store does not know any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gone {
    /// `publishing` is younger than [`Limits::PUBLISHING_SETTLES`], by the store's own clock: another turn may be completing it.
    Lately,
    /// No turn can be at it, and the store does not end uploads so early: it was completed.
    LongAgo,
    /// No turn can be at it, and the store may have ended it: nobody can tell.
    Outlived,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A fragment announces itself; its body has not been read.
    Fragment(ContentRange),
    /// As much of a fragment as came: every byte below `upto` is in `staged`, in a tail, or in the hands of the caller.
    Received {
        /// The offset of the next byte.
        upto: u64,
        /// The size of the file, as the fragment told it.
        total: u64,
        /// The multipart upload and all parts that are in the store by now.
        staged: Staged,
        /// How far the digest of the file has come with them; `None` when none is wanted, or when it can't be had any more.
        hashed: Option<Hashed>,
    },
    /// The destination shows the file of this session; or it is whole and an object of the session, where an application takes it.
    Published {
        /// What it is.
        tag: ObjectTag,
        /// Its digest, where the record does not have it yet.
        sha256: Option<Sha256>,
    },
    /// The destination is neither what it was at Create-Session nor this session's file.
    Displaced,
    /// The store does not know the multipart upload.
    UploadGone(Gone),
    /// The store refuses a part of the upload as not the one that the record lists.
    PartsRefused,
    /// The server application said what holds from now on.
    Told(Verdict),
    /// The file that the application took is at its destination as well.
    Copied,
    /// The whole file is no object of the session any more.
    EntityGone,
    /// Close-Session.
    Close,
    /// Cancel-Session.
    Cancel {
        /// Whether `publishing` is older than [`Limits::PUBLISHING_SETTLES`], by the store's own clock.
        settled: bool,
    },
    /// The sweep saw no progress for the session time-out.
    Silent,
    /// Something new appeared after the sweep noted [`Phase::Expiring`].
    Stirred,
    /// An hour after it noted [`Phase::Expiring`] the sweep saw nothing new.
    StillSilent,
}

/// What to do about it: save first, then act.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The record to save by compare-and-swap before anything else.
    pub save: Option<Record>,
    /// What comes then.
    pub then: Then,
}

/// What to do once the record is saved.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// Read the body: its first `skip` bytes are stored already, the next one is the byte at `from`.
    Receive {
        /// Offset of the first byte that is wanted.
        from: u64,
        /// Bytes of the body before it.
        skip: u64,
    },
    /// Keep what is in hand beyond the last recorded part as a tail, then answer.
    KeepTail,
    /// Put the whole file as one object, on the condition that the destination is what it was.
    PutFile,
    /// Complete the multipart upload, on the same condition.
    Assemble,
    /// Tell the server application of the whole file. It may be told again after a crash, and has to bear that.
    Tell,
    /// Copy the whole file to its destination.
    Copy,
    /// Abort the multipart upload and delete what is staged, then answer.
    Discard(Answer),
    /// Answer.
    Answer(Answer),
}

/// What the client is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Go on at this offset.
    Next(u64),
    /// It is done.
    Done,
    /// No.
    Refused(Refusal),
}

/// Why a packet that parsed is not carried out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The session has ended, or is somebody else's (MC-BUP 3.2.5.2.3).
    NotFound,
    /// It was created for another URL.
    OtherTarget,
    /// A fragment names another size than an earlier one (MC-BUP 2.2.1.2).
    TotalChanged,
    /// The file is larger than the route allows (MC-BUP 3.1.5.2.1).
    TooLarge,
    /// The fragment is larger than the route allows.
    FragmentTooLarge,
    /// The fragment begins beyond the next offset (MC-BUP 3.2.5.2.6).
    OutOfStep,
    /// The destination exists and may not be replaced (MC-BUP 2.2.1.2).
    Exists,
    /// Somebody else changed the destination, or the store lost the upload: the client shall start again.
    Lost,
    /// The file is being published: come back later.
    Publishing,
    /// The server application does not want it, and is not asked again (win32 documentation).
    Forbidden,
}

impl Step {
    const fn answer(answer: Answer) -> Self {
        Self {
            save: None,
            then: Then::Answer(answer),
        }
    }

    const fn refuse(refusal: Refusal) -> Self {
        Self::answer(Answer::Refused(refusal))
    }

    const fn then(then: Then) -> Self {
        Self { save: None, then }
    }

    const fn save(record: Record, then: Then) -> Self {
        Self {
            save: Some(record),
            then,
        }
    }
}

/// What `input` means for `session`.
///
/// Total: every phase has an answer to every input.
pub fn step(session: &Session, input: Input, limits: &Limits) -> Step {
    match input {
        Input::Fragment(range) => fragment(session, range, limits),
        Input::Received {
            upto,
            total,
            staged,
            hashed,
        } => received(session, upto, total, staged, hashed),
        Input::Published { tag, sha256 } => published(session, tag, sha256),
        Input::Displaced => displaced(session),
        Input::UploadGone(gone) => upload_gone(session, gone),
        Input::PartsRefused => parts_refused(session),
        Input::Told(verdict) => application::told(session, verdict),
        Input::Copied => application::copied(session),
        Input::EntityGone => application::entity_gone(session),
        Input::Close => close(session),
        Input::Cancel { settled } => cancel(session, settled),
        Input::Silent => silent(session),
        Input::Stirred => stirred(session),
        Input::StillSilent => still_silent(session),
    }
}

/// MC-BUP 3.2.5.2.6, with the overlap rule of the win32 documentation.
fn fragment(session: &Session, range: ContentRange, limits: &Limits) -> Step {
    let record = &session.record;
    if let Phase::Closed { .. } = record.phase {
        return Step::refuse(Refusal::NotFound);
    }
    if record.total.is_some_and(|total| total != range.total()) {
        return Step::refuse(Refusal::TotalChanged);
    }
    let part_size = PartPlan::part_size_for(range.total(), record.part_size);
    if range.total() > record.max_upload_size || part_size > limits.max_part_size {
        return Step::refuse(Refusal::TooLarge);
    }
    if range.len() > limits.max_fragment_size {
        return Step::refuse(Refusal::FragmentTooLarge);
    }
    let staged = match &record.phase {
        Phase::Published { .. } => return Step::answer(Answer::Next(range.total())),
        // All bytes are in the store: whichever of them come again, what is left to do is to publish them.
        Phase::Publishing { .. } => return Step::then(Then::Assemble),
        Phase::Sealed { .. } => return Step::then(Then::Tell),
        Phase::Told { verdict, .. } => return application::heard(verdict, range.total()),
        Phase::Closed { .. } => return Step::refuse(Refusal::NotFound),
        Phase::Open(staged) | Phase::Expiring(staged) => staged,
    };
    let end = session.end();
    if range.first() > end {
        return Step::refuse(Refusal::OutOfStep);
    }
    // A packet that is taken revives the session before a byte of it is stored (design: expiry).
    let revived = matches!(record.phase, Phase::Expiring(_)).then(|| Phase::Open(staged.clone()));
    let holds_whole_file = range.first() == 0 && range.end() == range.total();
    // How long the parts are is settled before any is put: where the first fragment says it, one of the whole file does, too.
    let learns_total = record.total.is_none() && (!holds_whole_file || limits.alike && part_size < range.total());
    let save = (revived.is_some() || learns_total).then(|| {
        let mut next = record.clone();
        if let Some(phase) = revived {
            next.phase = phase;
        }
        if learns_total {
            next.total = Some(range.total());
            next.part_size = part_size;
            if limits.alike && range.first() == 0 {
                let most = limits.max_part_size;
                next = next.with_parts_of(PartPlan::part_size_like(range.len(), range.total(), part_size, most));
            }
        }
        next
    });
    let then = if range.end() <= end && !range.is_empty() {
        Then::Answer(Answer::Next(end))
    } else {
        Then::Receive {
            from: end,
            skip: end - range.first(),
        }
    };
    Step { save, then }
}

/// The body is in: parts are listed, the rest becomes a tail, and the last byte publishes.
fn received(session: &Session, upto: u64, total: u64, staged: Staged, hashed: Option<Hashed>) -> Step {
    let record = &session.record;
    // Two packets that contradict each other can both have begun before either was recorded.
    if record.total.is_some_and(|known| known != total) {
        return match record.phase {
            Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
            Phase::Open(_)
            | Phase::Expiring(_)
            | Phase::Publishing { .. }
            | Phase::Published { .. }
            | Phase::Sealed { .. }
            | Phase::Told { .. } => Step::refuse(Refusal::TotalChanged),
        };
    }
    let (Phase::Open(before) | Phase::Expiring(before)) = &record.phase else {
        return by_then(session, total);
    };
    let part_size = PartPlan::part_size_for(total, record.part_size);
    let plan = PartPlan::new(part_size, total);
    if upto >= total && plan.is_small() {
        return Step::then(Then::PutFile);
    }
    let mut next = record.clone();
    next.total = Some(total);
    next.part_size = part_size;
    if upto >= total {
        let whole = hashed.filter(|hashed| hashed.at() == total);
        next.sha256 = whole.and_then(|hashed| hashed.hasher()).map(Hasher::finish);
        next.hashed = None;
        next.phase = Phase::Publishing { staged, mark: None };
        return Step::save(next, Then::Assemble);
    }
    let unchanged = staged == *before && matches!(record.phase, Phase::Open(_)) && record.total == Some(total);
    let keeps_tail = upto > staged.end();
    next.hashed = hashed;
    next.phase = Phase::Open(staged);
    Step {
        save: (!unchanged).then_some(next),
        then: if keeps_tail {
            Then::KeepTail
        } else {
            Then::Answer(Answer::Next(upto))
        },
    }
}

/// The session moved on while a body was being received.
fn by_then(session: &Session, total: u64) -> Step {
    match &session.record.phase {
        Phase::Published { .. } => Step::answer(Answer::Next(total)),
        Phase::Publishing { .. } => Step::then(Then::Assemble),
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Told { verdict, .. } => application::heard(verdict, total),
        Phase::Open(_) | Phase::Expiring(_) => Step::refuse(Refusal::OutOfStep),
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
    }
}

/// The mark before the Ack: no answer carries the total unless the record says that the file is published.
fn published(session: &Session, tag: ObjectTag, sha256: Option<Sha256>) -> Step {
    let record = &session.record;
    match &record.phase {
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Told { tag, verdict } => application::heard(verdict, tag.size),
        // What was an object of the session has gone with it.
        Phase::Closed { .. } if record.application => Step::refuse(Refusal::NotFound),
        // The file is there all the same: a turn that was past its last look when the session ended.
        Phase::Closed { .. } => Step::answer(Answer::Next(tag.size)),
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } if record.application => {
            application::seal(whole(record, &tag, sha256), tag)
        }
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => {
            let size = tag.size;
            let mut next = whole(record, &tag, sha256);
            next.phase = Phase::Published { tag };
            Step::save(next, Then::Answer(Answer::Next(size)))
        }
    }
}

/// What the record knows of a file that is whole.
fn whole(record: &Record, tag: &ObjectTag, sha256: Option<Sha256>) -> Record {
    Record {
        total: Some(tag.size),
        hashed: None,
        sha256: sha256.or(record.sha256),
        ..record.clone()
    }
}

/// Part 0: without overwriting 403, for the loser of a race as well; with it the client starts again by itself.
fn displaced(session: &Session) -> Step {
    let record = &session.record;
    match &record.phase {
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        // Only the copy to the destination can find anything there that counts: the session's own place is its own.
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Told {
            tag,
            verdict: verdict @ Verdict::Accepted { copy, .. },
        } => match copy {
            Delivery::Wanted => Step::refuse(Refusal::Exists),
            Delivery::Unwanted | Delivery::Done => application::heard(verdict, tag.size),
        },
        Phase::Told {
            verdict: Verdict::Forbidden,
            ..
        } => Step::refuse(Refusal::Forbidden),
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } if !record.overwrite && !record.application => {
            Step::refuse(Refusal::Exists)
        }
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => {
            end(session, Outcome::Lost, Answer::Refused(Refusal::Lost))
        }
    }
}

fn upload_gone(session: &Session, gone: Gone) -> Step {
    let record = &session.record;
    match &record.phase {
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Told { tag, verdict } => application::heard(verdict, tag.size),
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        // The store ended the upload before all parts were in.
        Phase::Open(_) | Phase::Expiring(_) => end(session, Outcome::Lost, Answer::Refused(Refusal::Lost)),
        Phase::Publishing { .. } if gone == Gone::Lately => Step::refuse(Refusal::Publishing),
        // Nobody takes the object of a session away: it is not there, so it never was. Of any other file nobody can tell, and to send it
        // twice is less harm than not at all.
        Phase::Publishing { .. } if record.application || gone == Gone::Outlived => {
            end(session, Outcome::Lost, Answer::Refused(Refusal::Lost))
        }
        // An upload completes once. Long enough after the record said so, it was completed and somebody took the file.
        Phase::Publishing { .. } => {
            let size = record.total.unwrap_or_default();
            published(
                session,
                ObjectTag {
                    size,
                    ..ObjectTag::default()
                },
                None,
            )
        }
    }
}

/// What is staged cannot be published any more: the client starts again by itself.
fn parts_refused(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Told { tag, verdict } => application::heard(verdict, tag.size),
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => {
            end(session, Outcome::Lost, Answer::Refused(Refusal::Lost))
        }
    }
}

/// MC-BUP 3.2.5.2.7; before the last byte nothing is published (protocol digest, part 0).
fn close(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Open(_) | Phase::Expiring(_) => end(session, Outcome::Cancelled, Answer::Done),
        // Nobody was told that the file was taken, so it was not: it goes like one whose last byte never came (digest, T39).
        Phase::Publishing { .. } | Phase::Sealed { .. } if session.record.application => {
            end(session, Outcome::Cancelled, Answer::Done)
        }
        // All bytes were received: finish what was begun, then close.
        Phase::Publishing { .. } => Step::then(Then::Assemble),
        Phase::Sealed { .. } => end(session, Outcome::Cancelled, Answer::Done),
        Phase::Told { verdict, .. } => application::close(session, verdict),
        Phase::Published { .. } => end(session, Outcome::Completed, Answer::Done),
        Phase::Closed {
            outcome: Outcome::Completed,
            ..
        } => Step::answer(Answer::Done),
        Phase::Closed {
            outcome: Outcome::Cancelled | Outcome::Expired | Outcome::Lost,
            ..
        } => Step::refuse(Refusal::NotFound),
    }
}

/// MC-BUP 3.2.5.2.8; what is published stays (protocol digest, part 0).
fn cancel(session: &Session, settled: bool) -> Step {
    match &session.record.phase {
        Phase::Open(_) | Phase::Expiring(_) | Phase::Sealed { .. } => end(session, Outcome::Cancelled, Answer::Done),
        // What another turn may still put together is an object of the session, and goes with it.
        Phase::Publishing { .. } if session.record.application => end(session, Outcome::Cancelled, Answer::Done),
        Phase::Told { verdict, .. } => application::give_up(session, verdict, Outcome::Cancelled),
        Phase::Publishing { .. } if settled => end(session, Outcome::Cancelled, Answer::Done),
        Phase::Publishing { .. } => Step::refuse(Refusal::Publishing),
        Phase::Published { .. } => close(session),
        Phase::Closed { .. } => Step::answer(Answer::Done),
    }
}

fn silent(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Open(staged) => {
            let mut next = session.record.clone();
            next.phase = Phase::Expiring(staged.clone());
            Step::save(next, Then::Answer(Answer::Done))
        }
        Phase::Publishing { .. } | Phase::Sealed { .. } => end(session, Outcome::Expired, Answer::Done),
        Phase::Told { verdict, .. } => application::give_up(session, verdict, Outcome::Expired),
        Phase::Published { .. } => close(session),
        Phase::Expiring(_) | Phase::Closed { .. } => Step::answer(Answer::Done),
    }
}

fn stirred(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Expiring(staged) => {
            let mut next = session.record.clone();
            next.phase = Phase::Open(staged.clone());
            Step::save(next, Then::Answer(Answer::Done))
        }
        Phase::Open(_)
        | Phase::Publishing { .. }
        | Phase::Published { .. }
        | Phase::Sealed { .. }
        | Phase::Told { .. }
        | Phase::Closed { .. } => Step::answer(Answer::Done),
    }
}

fn still_silent(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Expiring(_) => end(session, Outcome::Expired, Answer::Done),
        Phase::Open(_)
        | Phase::Publishing { .. }
        | Phase::Published { .. }
        | Phase::Sealed { .. }
        | Phase::Told { .. }
        | Phase::Closed { .. } => Step::answer(Answer::Done),
    }
}

/// The tombstone first, then everything staged goes.
fn end(session: &Session, outcome: Outcome, answer: Answer) -> Step {
    let mut next = session.record.clone();
    next.hashed = None;
    next.phase = Phase::Closed {
        outcome,
        upload: session.record.upload().cloned(),
    };
    Step::save(next, Then::Discard(answer))
}

#[cfg(test)]
mod tests;
