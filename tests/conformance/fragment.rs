//! Fragments that are taken, and those that are out of step (MC-BUP 2.2.6, 2.2.7, 3.2.5.2.6).

use bits_gateway::bits::SessionId;
use bits_gateway::client::raw::Packet;
use bits_gateway::clock::{Timestamp, random_id};
use bits_gateway::session::{Before, Phase, Principal, Record, Staged, Target};
use bits_gateway::staging::{PartId, RecordedPart};
use bits_gateway::store::Key;

use crate::support::{Door, House, PART, Room, SIZES, Upload, ack, content, directory};
use crate::wire::Server;

/// Covers: BUP-070
#[tokio::test]
async fn one_fragment_with_the_whole_file_gets_its_size_as_next_offset() {
    for size in SIZES {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        let told = house.send(&upload, 0..size).await;
        assert_eq!(told, ack(200).of(&upload.id).next(size));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-071
#[tokio::test]
async fn fragments_in_sequence_each_get_the_offset_after_their_last_byte() {
    for step in [1, 7, PART, PART + 1, 3 * PART] {
        let house = House::new();
        let size = 20 * step + 1;
        let upload = house.begin("/up/f", &content(size, 0)).await;
        let mut at = 0;
        while at < size {
            let end = size.min(at + step);
            let told = house.send(&upload, at..end).await;
            assert_eq!(told, ack(200).of(&upload.id).next(end), "steps of {step}");
            at = end;
        }
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-072
#[tokio::test]
async fn the_received_range_is_one_decimal_number_and_nothing_else() {
    let house = House::new();
    let size = 3 * PART;
    let upload = house.begin("/up/f", &content(size, 0)).await;
    let gap = house.send(&upload, 1..10).await;
    let first = house.send(&upload, 0..213).await;
    let malformed = house.ask(&upload.fragment(0..0).with("Content-Range", "x"), b"").await;
    let last = house.send(&upload, 213..size).await;
    let again = house.send(&upload, 0..213).await;
    for (told, offset) in [
        (gap, "0"),
        (first, "213"),
        (malformed, "213"),
        (last, "3072"),
        (again, "3072"),
    ] {
        assert_eq!(told.header("BITS-Received-Content-Range"), Some(offset), "{told:?}");
    }
}

/// Covers: BUP-073
#[tokio::test]
async fn a_gap_gets_416_with_the_true_next_offset_and_none_of_its_bytes_are_kept() {
    for size in [200, 5 * PART] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        house.store(&upload, 0..100).await;
        for range in [101..102, 150..size, size - 1..size] {
            let mut gap = upload.clone();
            gap.file.fill(b'!');
            assert_eq!(house.send(&gap, range).await, ack(416).of(&upload.id).next(100));
        }
        assert_eq!(house.restarted().next_of(&upload).await, Some(100));
        house.store(&upload, 100..size).await;
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-074
#[tokio::test]
async fn a_416_is_an_ack_like_any_other() {
    let server = Server::open(&House::new());
    let line = server.connect().await;
    let upload = line.begin("/up/f", &content(300_000, 0)).await;
    for range in [1..2, 100_000..300_000] {
        assert_eq!(line.send(&upload, range).await, ack(416).of(&upload.id).next(0));
    }
    // The connection goes on, and no byte of a body came over it.
    assert_eq!(line.ask(&Packet::ping("/up/f"), b"").await, ack(200));
    assert!(line.stays_silent().await);
}

/// Covers: BUP-075
#[tokio::test]
async fn a_416_carries_none_of_the_three_error_headers() {
    let house = House::new();
    let upload = house.begin("/up/f", &content(100, 0)).await;
    let told = house.send(&upload, 50..100).await;
    assert_eq!(told.status, 416);
    for name in ["BITS-Error", "BITS-Error-Code", "BITS-Error-Context"] {
        assert_eq!(told.header(name), None);
    }
}

/// Covers: BUP-076
#[tokio::test]
async fn a_new_session_whose_first_fragment_does_not_begin_at_0_gets_416_and_goes_on() {
    for size in [200, 5 * PART] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        assert_eq!(house.send(&upload, 100..size).await, ack(416).of(&upload.id).next(0));
        house.store(&upload, 0..100).await;
        house.store(&upload, 100..size).await;
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// An upload that stands at `at` and then sends `from..to` with other bytes below `at`. Its content in the end, and the Ack.
async fn overlap(size: u64, at: u64, from: u64, to: u64) {
    let house = House::new();
    let upload = house.begin("/up/f", &content(size, 0)).await;
    house.store(&upload, 0..at).await;
    let mut differs = upload.clone();
    differs.file[..at as usize].fill(b'!');
    let told = house.send(&differs, from..to).await;
    let next = to.max(at);
    assert_eq!(told, ack(200).of(&upload.id).next(next), "{size}: {from}..{to} at {at}");
    if next < size {
        assert_eq!(house.next_of(&upload).await, Some(next));
        house.store(&upload, next..size).await;
    }
    assert_eq!(house.file("f").await, Some(upload.file), "{size}: {from}..{to} at {at}");
}

/// Covers: BUP-077
#[tokio::test]
async fn of_an_overlap_only_bytes_beyond_the_stored_ones_are_taken() {
    // As the win32 documentation has it: 0 to 100, then 50 to 150.
    overlap(200, 101, 50, 151).await;
    overlap(200, 101, 0, 200).await;
    let size = 5 * PART;
    for at in [1, PART - 1, PART, PART + 1, 3 * PART] {
        for from in [0, at - 1] {
            for to in [at + 1, at + PART + 3, size] {
                overlap(size, at, from, to.min(size)).await;
            }
        }
    }
}

/// Covers: BUP-078
#[tokio::test]
async fn an_overlap_is_not_refused_with_416() {
    let house = House::new();
    let upload = house.begin("/up/f", &content(200, 0)).await;
    house.store(&upload, 0..100).await;
    assert_eq!(house.send(&upload, 99..150).await, ack(200).of(&upload.id).next(150));
}

/// Covers: BUP-079
#[tokio::test]
async fn a_fragment_of_stored_bytes_only_gets_200_with_the_true_next_offset() {
    for at in [100, PART, 3 * PART + 1] {
        for range in [0..1, 0..at, at - 1..at, at / 2..at / 2 + 1] {
            overlap(5 * PART, at, range.start, range.end).await;
        }
    }
}

/// Covers: BUP-080
#[tokio::test]
async fn after_any_416_the_fragment_that_begins_at_the_given_offset_is_taken() {
    let house = House::new();
    let size = 5 * PART;
    let upload = house.begin("/up/f", &content(size, 0)).await;
    let mut at = 0;
    while at < size {
        if at + 1 < size {
            let gap = house.send(&upload, at + 1..size).await;
            assert_eq!(gap, ack(416).of(&upload.id).next(at));
            let told: u64 = gap.header("BITS-Received-Content-Range").unwrap().parse().unwrap();
            assert_eq!(told, at);
        }
        let end = size.min(at + 700);
        house.store(&upload, at..end).await;
        at = end;
    }
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// A session that stands at `at`, as if that much had been received before. Its first parts are no bytes, only entries of its record.
async fn session_that_stands_at(room: &Room, at: u64, part_size: u64, total: u64) -> SessionId {
    let id = SessionId::new(random_id());
    let key = Key::parse("f").unwrap();
    let upload = room.place.store.begin(&key, id).await.unwrap();
    let target = Target {
        route: "/up/".to_owned(),
        key: "f".to_owned(),
        query: None,
    };
    let mut record = Record::begin(
        id,
        Principal::anonymous(),
        target,
        "http://gateway.test/up/f".to_owned(),
        part_size,
        1 << 40,
        false,
        Before::Absent,
        Timestamp::default(),
    );
    record.total = Some(total);
    record.phase = Phase::Open(Staged {
        upload: Some(upload),
        parts: vec![RecordedPart(PartId("received before".into()), at)],
        ..Staged::default()
    });
    let record = record.stamped(random_id(), Timestamp::default());
    room.place.store.create_record(&record).await.unwrap();
    id
}

/// Covers: BUP-086
#[tokio::test]
async fn offsets_and_totals_above_four_gibibytes_are_right() {
    const GIB: u64 = 1 << 30;
    let total = 6 * GIB + 5;
    let house = House::new();
    let upload = house.begin("/up/f", b"").await;
    let fragment = |id: &str, from: u64, bytes: u64| Packet::fragment("/up/f", id, from..from + bytes, total);
    for (from, expected) in [
        (0, ack(200).next(10)),
        (4 * GIB, ack(416).next(10)),
        (4 * GIB + 10, ack(416).next(10)),
        (total - 10, ack(416).next(10)),
    ] {
        let told = house.ask(&fragment(&upload.id, from, 10), &[1; 10]).await;
        assert_eq!(told, expected.of(&upload.id), "{from}");
    }

    let part = 1 << 20;
    let at = 5 * GIB;
    let id = session_that_stands_at(house.room(), at, part, total).await.to_string();
    let taken = |next: u64| ack(200).of(&id).next(next);
    let body = content(part + 100, 0);
    // A whole part and a tail, an overlap, a gap, and what is stored already: all beyond the reach of 32 bits.
    for (from, bytes, expected) in [
        (at, part + 10, taken(at + part + 10)),
        (at + part, 20, taken(at + part + 20)),
        (at + part + 21, 10, ack(416).of(&id).next(at + part + 20)),
        (10, 10, taken(at + part + 20)),
        (at + part + 20, 80, taken(at + part + 100)),
    ] {
        let told = house.ask(&fragment(&id, from, bytes), &body[..bytes as usize]).await;
        assert_eq!(told, expected, "{from}");
    }
    let upload = Upload { id, ..upload };
    assert_eq!(house.restarted().next_of(&upload).await, Some(at + part + 100));
}

/// Covers: BUP-094
#[tokio::test]
async fn a_file_of_exactly_the_largest_size_is_taken() {
    for size in [1, 100, PART, 3 * PART + 1] {
        let house = House::of([Room::new().ruled(|rules| rules.max_upload_size = size)]);
        let upload = house.put("/up/f", &content(size, 0)).await;
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-095
#[tokio::test]
async fn a_fragment_of_13_mib_is_taken() {
    let house = House::of([Room::new().ruled(|rules| rules.part_size = 8 << 20)]);
    let server = Server::open(&house);
    let line = server.connect().await;
    let largest = 13 << 20;
    let upload = line.begin("/up/f", &content(2 * largest, 0)).await;
    line.store(&upload, 0..largest).await;
    line.store(&upload, largest..2 * largest).await;
    assert_eq!(line.close(&upload).await, ack(200).of(&upload.id));
    assert!(house.file("f").await.unwrap() == upload.file);
}

/// Covers: BUP-096
#[tokio::test]
async fn fragments_of_5_kb_are_taken_and_a_last_one_of_a_single_byte() {
    let house = House::of([Room::new().ruled(|rules| rules.part_size = 8 << 20)]);
    let smallest = 5 * 1024;
    let upload = house.begin("/up/f", &content(10 * smallest + 1, 0)).await;
    for at in 0..10 {
        house.store(&upload, at * smallest..(at + 1) * smallest).await;
    }
    house.store(&upload, 10 * smallest..10 * smallest + 1).await;
    assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-100
#[tokio::test]
async fn a_plain_upload_is_never_told_a_reply_url() {
    for size in SIZES {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        let half = size / 2;
        let mut told = vec![house.send(&upload, 0..half.max(1).min(size)).await];
        told.push(house.send(&upload, half..size).await);
        told.push(house.send(&upload, half..size).await);
        told.push(house.ask(&Packet::ping("/up/f"), b"").await);
        told.push(house.close(&upload).await);
        told.push(house.cancel(&upload).await);
        for told in told {
            assert_eq!(told.status, 200, "{told:?}");
            let names = told.headers.keys().map(|name| name.to_ascii_lowercase());
            assert!(!names.into_iter().any(|name| name == "bits-reply-url"), "{told:?}");
        }
    }
}

/// Covers: BUP-103
#[tokio::test]
async fn the_last_fragment_sent_again_before_close_gets_200_and_the_size() {
    for size in SIZES {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        let half = size / 2;
        // A second gateway on the same store remembers how far the session was before the last fragment.
        let behind = house.restarted();
        if half > 0 {
            house.store(&upload, 0..half).await;
            behind.store(&upload, 0..half).await;
        }
        house.store(&upload, half..size).await;
        // Whichever gateway is asked, and whatever the bytes are this time.
        let mut other = upload.clone();
        other.file.fill(b'!');
        for house in [&house, &behind, &house.restarted()] {
            for _ in 0..2 {
                let told = house.send(&other, half..size).await;
                assert_eq!(told, ack(200).of(&upload.id).next(size), "{size}");
            }
        }
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-126
#[tokio::test]
async fn a_file_of_no_bytes_is_published_as_an_empty_file_in_every_way_a_client_may_say_it() {
    let root = tempfile::tempdir().unwrap();
    let ways = [
        "bytes */0",
        "bytes 0-0/0",
        "bytes 0--1/0",
        "bytes 0-18446744073709551615/0",
    ];
    for room in [Room::new(), Room::over(directory(root.path()))] {
        let house = House::of([room]);
        for (number, way) in ways.iter().enumerate() {
            let (key, target) = (format!("f{number}"), format!("/up/f{number}"));
            let upload = house.begin(&target, b"").await;
            let fragment = upload.fragment(0..0).with("Content-Range", way);
            for _ in 0..2 {
                assert_eq!(
                    house.ask(&fragment, b"").await,
                    ack(200).of(&upload.id).next(0),
                    "{way}"
                );
                assert_eq!(house.file(&key).await, Some(Vec::new()));
            }
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
            assert_eq!(house.file(&key).await, Some(Vec::new()));
        }
        // Who never says anything about a file gets none.
        let upload = house.begin("/up/unsaid", b"").await;
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("unsaid").await, None);
    }
}
