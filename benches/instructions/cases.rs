//! The work that every packet takes, each piece of it alone.

use std::hint::black_box;

use bits_gateway::bits::{Ack, BodyLength, ContentRange, Packet, SentSessionId, SessionId};
use bits_gateway::clock::Timestamp;
use bits_gateway::session::{Before, Input, Limits, Phase, Principal, Record, Session, Staged, Tails, Target, step};
use bits_gateway::staging::{Assembler, PartId, PartPlan, RecordedPart, UploadId};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

const MIB: u64 = 1 << 20;

/// A piece of work, to be done so many times.
pub(crate) type Case = fn(u64);

pub(crate) const CASES: [(&str, Case); 5] = [
    ("parse the head of a fragment", parse),
    ("write its Ack", ack),
    ("judge a fragment", judge),
    ("judge what came of it, with 100 parts listed", received),
    ("assemble a part of eight slabs", assemble),
];

const SESSION: &str = "{2B2A9A7A-6A3E-4C5C-9F0D-0B7B3C1D5E6F}";

fn head() -> HeaderMap {
    // As Windows writes it, behind a proxy.
    let fields = [
        ("cache-control", "no-cache"),
        ("connection", "Keep-Alive"),
        ("pragma", "no-cache"),
        ("content-range", "bytes 13000000-25999999/1073741824"),
        ("accept", "*/*"),
        ("user-agent", "Microsoft BITS/7.8"),
        ("bits-packet-type", "Fragment"),
        ("bits-session-id", SESSION),
        ("content-length", "13000000"),
        ("host", "uploads.example.com"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
    ];
    fields
        .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

fn parse(times: u64) {
    let head = head();
    for _ in 0..times {
        let head = black_box(&head);
        let packet = BodyLength::of(head).and_then(|length| Packet::parse(head, length));
        let _ = black_box(packet);
    }
}

fn ack(times: u64) {
    let sent = SentSessionId {
        id: SESSION.parse().expect("an id"),
        text: SESSION.to_owned(),
    };
    for _ in 0..times {
        let ack = Ack::fragment(black_box(&sent), black_box(26_000_000));
        ack.headers().for_each(|field| drop(black_box(field)));
    }
}

fn session(parts: u64) -> Session {
    let target = Target {
        route: "/up/".to_owned(),
        key: "reports/2026/report.zip".to_owned(),
        query: None,
    };
    let id: SessionId = SESSION.parse().expect("an id");
    let mut record = Record::begin(
        id,
        Principal::anonymous(),
        target,
        "http://uploads.example.com/up/reports/2026/report.zip".to_owned(),
        8 * MIB,
        1 << 40,
        false,
        Before::Absent,
        Timestamp::default(),
    );
    record.total = Some(1024 * MIB);
    record.phase = Phase::Open(staged(parts));
    Session {
        record,
        tails: Tails::none(),
    }
}

fn staged(parts: u64) -> Staged {
    let part = |index| RecordedPart(PartId(format!("\"{index:032x}\"").into()), (index + 1) * 8 * MIB);
    Staged {
        upload: Some(UploadId("01HZY3V0GQ8V4Z1C2J5K6M7N8P".to_owned())),
        parts: (0..parts).map(part).collect(),
        ..Staged::default()
    }
}

const LIMITS: Limits = Limits {
    max_fragment_size: 64 * MIB,
    max_part_size: 128 * MIB,
    alike: false,
};

fn judge(times: u64) {
    let session = session(100);
    let range = ContentRange::new(800 * MIB, 813 * MIB, 1024 * MIB).expect("a range");
    for _ in 0..times {
        drop(black_box(step(black_box(&session), Input::Fragment(range), &LIMITS)));
    }
}

fn received(times: u64) {
    let session = session(100);
    let staged = staged(101);
    for _ in 0..times {
        let input = Input::Received {
            upto: 808 * MIB,
            total: 1024 * MIB,
            staged: staged.clone(),
            hashed: None,
        };
        drop(black_box(step(black_box(&session), input, &LIMITS)));
    }
}

fn assemble(times: u64) {
    let slab = Bytes::from(vec![7; 1 << 20]);
    let plan = PartPlan::new(8 * MIB, u64::MAX / 2);
    let mut assembler = Assembler::new(plan, 0);
    for _ in 0..times {
        for _ in 0..8 {
            let rest = assembler.push(black_box(slab.clone()));
            assert!(rest.is_empty(), "slabs fill a part exactly");
        }
        assert!(assembler.is_full(), "eight of them are a part");
        drop(black_box(assembler.take()));
    }
}
