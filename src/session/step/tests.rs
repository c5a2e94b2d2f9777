//! Every phase and every input, as one table; and the laws that hold in all of it.

use std::fmt::Write;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::bits::SessionId;
use crate::clock::Timestamp;
use crate::session::{Before, PageName, Principal, Reply, Tails, Target};
use crate::staging::{PartId, RecordedPart, UploadId};

const LIMITS: Limits = Limits {
    max_fragment_size: 1000,
    max_part_size: 100,
    alike: false,
};

fn record(phase: Phase, total: Option<u64>) -> Record {
    let target = Target {
        route: "/".to_owned(),
        key: "f".to_owned(),
        query: None,
    };
    let mut record = Record::begin(
        SessionId::new(Uuid::nil()),
        Principal::anonymous(),
        target,
        "http://h/f".to_owned(),
        10,
        5000,
        false,
        Before::Absent,
        Timestamp::default(),
    );
    record.phase = phase;
    record.total = total;
    record
}

fn staged(parts: u64) -> Staged {
    Staged {
        upload: (parts > 0).then(|| UploadId("u".to_owned())),
        parts: (1..=parts)
            .map(|part| RecordedPart(PartId(format!("p{part}").into()), part * 10))
            .collect(),
        ..Staged::default()
    }
}

fn phases() -> Vec<(&'static str, Session)> {
    let session = |phase, total, tails: &[(u64, u64)]| Session {
        record: record(phase, total),
        tails: tails.iter().copied().collect(),
    };
    let tag = ObjectTag {
        size: 25,
        ..ObjectTag::default()
    };
    let closed = |outcome| Phase::Closed { outcome, upload: None };
    vec![
        ("fresh", session(Phase::Open(staged(0)), None, &[])),
        (
            "open, 1 part and a tail to 14 of 25",
            session(Phase::Open(staged(1)), Some(25), &[(10, 14)]),
        ),
        (
            "expiring, the same",
            session(Phase::Expiring(staged(1)), Some(25), &[(10, 14)]),
        ),
        (
            "publishing 25",
            session(
                Phase::Publishing {
                    staged: staged(3),
                    mark: None,
                },
                Some(25),
                &[],
            ),
        ),
        ("published 25", session(Phase::Published { tag }, Some(25), &[])),
        ("closed, completed", session(closed(Outcome::Completed), Some(25), &[])),
        ("closed, cancelled", session(closed(Outcome::Cancelled), Some(25), &[])),
        ("closed, expired", session(closed(Outcome::Expired), Some(25), &[])),
        ("closed, lost", session(closed(Outcome::Lost), Some(25), &[])),
    ]
}

/// The phases of sessions that belong to a server application, those that all sessions have included.
fn phases_of_application() -> Vec<(&'static str, Session)> {
    let tag = || ObjectTag {
        size: 25,
        ..ObjectTag::default()
    };
    let told = |verdict| Phase::Told { tag: tag(), verdict };
    let accepted = |copy| {
        told(Verdict::Accepted {
            reply: Reply::Nothing,
            copy,
        })
    };
    let own = [
        ("sealed 25", Phase::Sealed { tag: tag() }),
        ("told: accepted", accepted(Delivery::Unwanted)),
        ("told: accepted, to be copied", accepted(Delivery::Wanted)),
        ("told: accepted and copied", accepted(Delivery::Done)),
        ("told: forbidden", told(Verdict::Forbidden)),
    ];
    let own = own.map(|(name, phase)| {
        let session = Session {
            record: record(phase, Some(25)),
            tails: Tails::none(),
        };
        (name, session)
    });
    let shared = phases().into_iter().filter(|(name, _)| *name != "published 25");
    let all = shared.chain(own).map(|(name, mut session)| {
        session.record = session.record.for_application();
        (name, session)
    });
    all.collect()
}

fn inputs() -> Vec<(&'static str, Input)> {
    let fragment = |first, end, total| ContentRange::new(first, end, total).map(Input::Fragment).unwrap();
    let received = |upto, parts| Input::Received {
        upto,
        total: 25,
        staged: staged(parts),
        hashed: None,
    };
    vec![
        ("fragment 0-13/25", fragment(0, 14, 25)),
        ("fragment 0-24/25", fragment(0, 25, 25)),
        ("fragment 14-19/25", fragment(14, 20, 25)),
        ("fragment 12-24/25", fragment(12, 25, 25)),
        ("fragment 15-19/25", fragment(15, 20, 25)),
        ("fragment 14-19/26", fragment(14, 20, 26)),
        ("fragment 0-9/5001", fragment(0, 10, 5001)),
        ("fragment 0-1000/1001", fragment(0, 1001, 1001)),
        ("fragment of an empty file", fragment(0, 0, 0)),
        ("received up to 18, 1 part", received(18, 1)),
        ("received up to 20, 2 parts", received(20, 2)),
        ("received up to 25, 3 parts", received(25, 3)),
        (
            "published",
            Input::Published {
                tag: ObjectTag {
                    size: 25,
                    ..ObjectTag::default()
                },
                sha256: None,
            },
        ),
        ("displaced", Input::Displaced),
        ("upload gone", Input::UploadGone(Gone::Lately)),
        ("upload gone, long ago", Input::UploadGone(Gone::LongAgo)),
        ("upload gone, outlived", Input::UploadGone(Gone::Outlived)),
        ("parts refused", Input::PartsRefused),
        (
            "told: accepted",
            Input::Told(Verdict::Accepted {
                reply: Reply::Nothing,
                copy: Delivery::Unwanted,
            }),
        ),
        (
            "told: accepted, to be copied",
            Input::Told(Verdict::Accepted {
                reply: Reply::Nothing,
                copy: Delivery::Wanted,
            }),
        ),
        ("told: forbidden", Input::Told(Verdict::Forbidden)),
        ("copied", Input::Copied),
        ("entity gone", Input::EntityGone),
        ("close", Input::Close),
        ("cancel", Input::Cancel { settled: false }),
        ("cancel, long after", Input::Cancel { settled: true }),
        ("silent", Input::Silent),
        ("stirred", Input::Stirred),
        ("still silent", Input::StillSilent),
    ]
}

fn told(step: &Step) -> String {
    let saved = step.save.as_ref().map_or_else(String::new, |record| {
        let detail = match &record.phase {
            Phase::Open(staged) | Phase::Expiring(staged) | Phase::Publishing { staged, .. } => {
                format!(" {} parts of {:?}", staged.count(), record.total)
            }
            Phase::Published { tag } | Phase::Sealed { tag } => format!(" {}", tag.size),
            Phase::Told { verdict, .. } => format!(" {verdict:?}"),
            Phase::Closed { outcome, .. } => format!(" {outcome:?}"),
        };
        format!("save {}{detail}, then ", record.phase.name())
    });
    format!("{saved}{:?}", step.then)
}

#[test]
fn every_phase_has_an_answer_to_every_input() {
    let mut table = String::new();
    for (phase, session) in phases() {
        writeln!(table, "{phase} (next offset {})", session.end()).unwrap();
        for (name, input) in inputs() {
            writeln!(table, "    {name:<28} {}", told(&step(&session, input, &LIMITS))).unwrap();
        }
    }
    insta::assert_snapshot!("transitions", table);
}

#[test]
fn every_phase_of_a_session_of_an_application_has_an_answer_to_every_input() {
    let mut table = String::new();
    for (phase, session) in phases_of_application() {
        writeln!(table, "{phase} (next offset {})", session.end()).unwrap();
        for (name, input) in inputs() {
            writeln!(table, "    {name:<28} {}", told(&step(&session, input, &LIMITS))).unwrap();
        }
    }
    insta::assert_snapshot!("transitions_of_application", table);
}

/// The client would close a session whose size it is told, and the file would be nobody's.
#[test]
fn the_size_of_a_file_is_not_told_before_its_application_took_it() {
    for (phase, session) in phases_of_application() {
        let accepted = matches!(phase, "told: accepted" | "told: accepted and copied");
        assert_eq!(session.end() == 25, accepted, "{phase}");
        for (name, input) in inputs() {
            let takes = matches!(input, Input::Told(Verdict::Accepted { .. }) | Input::Copied);
            let done = step(&session, input, &LIMITS);
            let size_is_told = matches!(done.then, Then::Answer(Answer::Next(25)));
            assert!(!size_is_told || accepted || takes, "{phase}, {name}: {done:?}");
        }
    }
}

/// MC-BUP 3.2.1.4, NotifyCache; win32 documentation: 403 is never posted again.
#[test]
fn an_application_that_took_or_forbade_a_file_is_not_told_of_it_again() {
    for (phase, session) in phases_of_application() {
        let spoke = phase.starts_with("told") || phase.starts_with("closed");
        for (name, input) in inputs() {
            let done = step(&session, input, &LIMITS);
            assert!(!spoke || done.then != Then::Tell, "{phase}, {name}");
            if done.then == Then::Tell {
                let sealed = done.save.as_ref().unwrap_or(&session.record);
                assert!(matches!(sealed.phase, Phase::Sealed { .. }), "{phase}, {name}");
            }
            if let Some(saved) = done.save {
                assert!(saved.application && saved.min_reader == 2, "{phase}, {name}");
                assert!(!matches!(saved.phase, Phase::Published { .. }), "{phase}, {name}");
            }
        }
    }
}

#[test]
fn with_overwriting_the_loser_of_a_race_starts_again() {
    let mut session = Session {
        record: record(Phase::Open(staged(0)), Some(5)),
        tails: Tails::none(),
    };
    session.record.overwrite = true;
    let lost = step(&session, Input::Displaced, &LIMITS);
    assert_eq!(lost.then, Then::Discard(Answer::Refused(Refusal::Lost)));
    assert!(matches!(
        lost.save.unwrap().phase,
        Phase::Closed {
            outcome: Outcome::Lost,
            ..
        }
    ));
}

#[test]
fn a_file_whose_parts_would_not_fit_into_memory_is_too_large() {
    let mut session = Session {
        record: record(Phase::Open(staged(0)), None),
        tails: Tails::none(),
    };
    session.record.max_upload_size = u64::MAX;
    let total = 100 * crate::staging::MAX_PARTS;
    let fits = ContentRange::new(0, 10, total).unwrap();
    assert!(matches!(
        step(&session, Input::Fragment(fits), &LIMITS).then,
        Then::Receive { .. }
    ));
    let larger = ContentRange::new(0, 10, total + 1).unwrap();
    let refused = step(&session, Input::Fragment(larger), &LIMITS);
    assert_eq!(refused.then, Then::Answer(Answer::Refused(Refusal::TooLarge)));
}

/// Small files tell their digest with the publication, others with the last part; both keep it to their tombstone, through whatever a server
/// application has to say.
#[test]
fn the_digest_of_a_whole_file_stays_with_its_session() {
    let saved = |session: &Session, input| step(session, input, &LIMITS).save.expect("something to save");
    let at = |record| Session {
        record,
        tails: Tails::none(),
    };
    let mut hasher = Hasher::default();
    hasher.update(&[7; 25]);
    let (hashed, digest) = (hasher.hashed(), Some(Sha256::of(&[7; 25])));
    let tag = || ObjectTag {
        size: 25,
        ..ObjectTag::default()
    };
    let verdict = || Verdict::Accepted {
        reply: Reply::Nothing,
        copy: Delivery::Unwanted,
    };
    for is_of_application in [false, true] {
        let open = |parts| {
            let record = record(Phase::Open(staged(parts)), Some(25)).with_digest();
            at(match is_of_application {
                true => record.for_application(),
                false => record,
            })
        };
        let received = Input::Received {
            upto: 25,
            total: 25,
            staged: Staged {
                parts: vec![RecordedPart(PartId("p".into()), 25)],
                ..staged(1)
            },
            hashed: Some(hashed.clone()),
        };
        let published = |sha256| Input::Published { tag: tag(), sha256 };
        let publishing = at(saved(&open(1), received));
        for whole in [saved(&publishing, published(None)), saved(&open(0), published(digest))] {
            assert_eq!((&whole.sha256, &whole.hashed), (&digest, &None));
            let mut session = at(whole);
            if is_of_application {
                session = at(saved(&session, Input::Told(verdict())));
            }
            let tombstone = saved(&session, Input::Close);
            assert_eq!((tombstone.phase.name(), tombstone.sha256), ("closed", digest));
        }
    }
}

#[test]
fn a_body_that_belongs_to_another_total_is_not_recorded() {
    for (phase, session) in phases().into_iter().skip(1) {
        let input = Input::Received {
            upto: 20,
            total: 26,
            staged: staged(2),
            hashed: None,
        };
        let refused = step(&session, input, &LIMITS);
        assert_eq!(refused.save, None, "{phase}");
        assert!(
            matches!(refused.then, Then::Answer(Answer::Refused(_))),
            "{phase}: {:?}",
            refused.then
        );
    }
}

#[test]
fn full_pages_leave_the_record() {
    let mut staged = staged(450);
    assert_eq!(staged.full_page().unwrap().len(), 200);
    staged.turn_page(PageName("a".to_owned()));
    staged.turn_page(PageName("b".to_owned()));
    assert_eq!(
        (staged.count(), staged.parts.len(), staged.paged, staged.end()),
        (450, 50, 4000, 4500)
    );
    assert!(staged.full_page().is_none());
}

prop_compose! {
    fn any_session()(
        kind in 0usize..9, parts in 0u64..3, tail in 0u64..5
    ) -> Session {
        let mut session = phases().swap_remove(kind).1;
        if let Phase::Open(open) | Phase::Expiring(open) = &mut session.record.phase {
            *open = staged(parts);
            session.tails = std::iter::once((parts * 10, parts * 10 + tail)).collect();
            // The total is recorded before the first byte is stored.
            session.record.total = session.record.total.or((parts + tail > 0).then_some(25));
        }
        session
    }
}

proptest! {
    /// Laws of part 0: a refused fragment changes nothing, no answer takes a byte back, none carries the size of a file
    /// that is not published.
    #[test]
    fn no_fragment_takes_back_a_byte(session in any_session(), first in 0u64..30, length in 1u64..30, total in 1u64..40) {
        let Some(range) = ContentRange::new(first, first + length, total) else { return Ok(()) };
        let done = step(&session, Input::Fragment(range), &LIMITS);
        match done.then {
            Then::Answer(Answer::Refused(_)) => prop_assert!(done.save.is_none()),
            Then::Answer(Answer::Next(next)) => {
                prop_assert!(next >= session.end());
                let published = matches!(session.record.phase, Phase::Published { .. });
                prop_assert!(next < total || published);
            }
            Then::Receive { from, skip } => {
                prop_assert_eq!(from, session.end());
                prop_assert_eq!(range.first() + skip, from);
                prop_assert!(from < range.end());
            }
            Then::Assemble => {
                let publishing = matches!(session.record.phase, Phase::Publishing { .. });
                prop_assert!(publishing);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        if let Some(record) = done.save {
            prop_assert!(matches!(record.phase, Phase::Open(_)), "a fragment by itself only opens");
            prop_assert_eq!(record.staged().map(Staged::end), session.record.staged().map(Staged::end));
        }
    }

    /// A tombstone never comes back to life, and never changes.
    #[test]
    fn what_is_closed_stays_closed(kind in 5usize..9, input in 0usize..28, application in proptest::bool::ANY) {
        let mut session = phases().swap_remove(kind).1;
        session.record.application = application;
        let done = step(&session, inputs().swap_remove(input).1, &LIMITS);
        prop_assert!(done.save.is_none());
    }
}
