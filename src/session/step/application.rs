//! What only sessions of a server application know: a whole file that somebody has to be told of, and what he said.

use super::{Answer, Refusal, Step, Then, end};
use crate::session::{Delivery, ObjectTag, Outcome, Phase, Record, Session, Verdict};

/// The file is whole: that is saved before the application is told, so that after a crash any replica tells it (MC-BUP 3.2.5.1.3).
pub(super) fn seal(mut next: Record, tag: ObjectTag) -> Step {
    next.phase = Phase::Sealed { tag };
    Step::save(next, Then::Tell)
}

/// What a client is told from the record, whatever brought it here (MC-BUP 3.2.5.1.2, NotifyCache): nobody is posted to again.
pub(super) fn heard(verdict: &Verdict, size: u64) -> Step {
    match verdict {
        Verdict::Accepted {
            copy: Delivery::Wanted, ..
        } => Step::then(Then::Copy),
        Verdict::Accepted {
            copy: Delivery::Unwanted | Delivery::Done,
            ..
        } => Step::answer(Answer::Next(size)),
        Verdict::Forbidden => Step::refuse(Refusal::Forbidden),
    }
}

/// The verdict is saved before the client hears of it. Of two turns that told the application at the same time the first one counts.
pub(super) fn told(session: &Session, verdict: Verdict) -> Step {
    match &session.record.phase {
        Phase::Sealed { tag } => {
            let then = heard(&verdict, tag.size).then;
            let mut next = session.record.clone();
            next.phase = Phase::Told {
                tag: tag.clone(),
                verdict,
            };
            Step::save(next, then)
        }
        Phase::Told { tag, verdict } => heard(verdict, tag.size),
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        // Nothing of these is ever told of; a record does not go back to them.
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => Step::refuse(Refusal::OutOfStep),
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
    }
}

pub(super) fn copied(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Told { tag, verdict } => match verdict {
            Verdict::Accepted {
                reply,
                copy: Delivery::Wanted,
            } => {
                let mut next = session.record.clone();
                next.phase = Phase::Told {
                    tag: tag.clone(),
                    verdict: Verdict::Accepted {
                        reply: reply.clone(),
                        copy: Delivery::Done,
                    },
                };
                Step::save(next, Then::Answer(Answer::Next(tag.size)))
            }
            Verdict::Accepted { .. } | Verdict::Forbidden => heard(verdict, tag.size),
        },
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        Phase::Sealed { .. } => Step::then(Then::Tell),
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => Step::refuse(Refusal::OutOfStep),
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
    }
}

/// Somebody took away what the application was to be told of: the client starts again by itself.
pub(super) fn entity_gone(session: &Session) -> Step {
    match &session.record.phase {
        Phase::Sealed { .. } => end(session, Outcome::Lost, Answer::Refused(Refusal::Lost)),
        Phase::Told { tag, verdict } => match verdict {
            Verdict::Accepted {
                copy: Delivery::Wanted, ..
            } => end(session, Outcome::Lost, Answer::Refused(Refusal::Lost)),
            Verdict::Accepted { .. } | Verdict::Forbidden => heard(verdict, tag.size),
        },
        Phase::Closed { .. } => Step::refuse(Refusal::NotFound),
        Phase::Open(_) | Phase::Expiring(_) | Phase::Publishing { .. } => Step::refuse(Refusal::OutOfStep),
        Phase::Published { tag } => Step::answer(Answer::Next(tag.size)),
    }
}

/// Close after the application spoke: what it asked for is done first.
pub(super) fn close(session: &Session, verdict: &Verdict) -> Step {
    match verdict {
        Verdict::Accepted {
            copy: Delivery::Wanted, ..
        } => Step::then(Then::Copy),
        Verdict::Accepted { .. } => end(session, Outcome::Completed, Answer::Done),
        Verdict::Forbidden => end(session, Outcome::Cancelled, Answer::Done),
    }
}

/// The end without Close: whose last fragment was taken has completed all the same (digest, part 0: Cancel after publication).
pub(super) fn give_up(session: &Session, verdict: &Verdict, otherwise: Outcome) -> Step {
    let outcome = match verdict {
        Verdict::Accepted {
            copy: Delivery::Unwanted | Delivery::Done,
            ..
        } => Outcome::Completed,
        Verdict::Accepted {
            copy: Delivery::Wanted, ..
        }
        | Verdict::Forbidden => otherwise,
    };
    end(session, outcome, Answer::Done)
}
