//! What becomes of fragments when something breaks: connections, processes, disks; and of those that come at once.

use std::sync::Arc;

use bits_gateway::client::raw::Packet;
use bits_gateway::session::Principal;
use bits_gateway::store::Store;
use bits_gateway::upload::{Body, BodyBroken};
use bytes::Bytes;
use tokio::sync::Notify;

use crate::support::{ACCESS_DENIED, DISK_FULL, Door, House, PART, Room, SESSION_NOT_FOUND, ack, content, directory};
use crate::wire::Server;

/// Fewer bytes of a body that breaks off are not worth keeping.
const WORTH_KEEPING: u64 = 64 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// In an orderly way.
    Fin,
    /// With a reset.
    Rst,
}

/// Covers: BUP-099
#[tokio::test]
async fn after_a_connection_that_breaks_in_mid_body_the_next_answer_tells_the_true_offset() {
    let size = 300_000;
    for part_size in [PART, 100_000, 8 << 20] {
        let house = House::of([Room::new().ruled(|rules| rules.part_size = part_size)]);
        let server = Server::open(&house);
        for (number, sent) in [0, 1, 10_000, WORTH_KEEPING - 1, WORTH_KEEPING, 200_000, size - 1]
            .into_iter()
            .enumerate()
        {
            for cut in [Cut::Fin, Cut::Rst] {
                let key = format!("f{number}{cut:?}");
                let upload = server
                    .connect()
                    .await
                    .begin(&format!("/up/{key}"), &content(size, number as u8))
                    .await;
                let mut line = server.connect().await.into_raw();
                line.send(upload.fragment(0..size)).await.unwrap();
                line.send_body(upload.bytes(0..sent)).await.unwrap();
                server.busy_with(1).await;
                match cut {
                    Cut::Fin => line.cut(),
                    Cut::Rst => line.reset().unwrap(),
                }
                server.gateway.finished().await;
                // Everything that came, or nothing, if so little came.
                let line = server.connect().await;
                let next = line.next_of(&upload).await.expect("a session");
                let case = format!("{sent} of {size} sent, then {cut:?}, in parts of {part_size}: {next}");
                match cut {
                    Cut::Fin if sent >= WORTH_KEEPING => assert_eq!(next, sent, "{case}"),
                    Cut::Fin if part_size > size => assert_eq!(next, 0, "{case}"),
                    Cut::Fin | Cut::Rst => assert!(next <= sent, "{case}"),
                }
                // A gateway that knows no more than the store says the same.
                assert_eq!(house.restarted().next_of(&upload).await, Some(next), "{case}");
                line.store(&upload, next..size).await;
                assert_eq!(line.close(&upload).await, ack(200).of(&upload.id));
                assert!(house.file(&key).await.unwrap() == upload.file, "{case}");
            }
        }
    }
}

/// Covers: BUP-101
#[tokio::test]
async fn after_a_restart_of_the_gateway_the_session_goes_on_at_the_true_offset() {
    for step in [100, PART, 2 * PART + 10] {
        let mut house = House::new();
        let size = 10 * PART + 1;
        let upload = house.begin("/up/f", &content(size, 0)).await;
        let mut at = 0;
        while at < size {
            house = house.restarted();
            if at + 1 < size {
                // The client may have lost count: a gap is told where to go on.
                let gap = house.send(&upload, at + 1..size).await;
                assert_eq!(gap, ack(416).of(&upload.id).next(at), "steps of {step}");
            }
            let end = size.min(at + step);
            house.store(&upload, at..end).await;
            at = end;
        }
        house = house.restarted();
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-102
#[tokio::test]
async fn no_offset_is_told_that_a_killed_gateway_would_not_find_stored() {
    let size = 10 * PART + 1;
    let house = House::new();
    let upload = house.begin("/up/f", &content(size, 0)).await;
    let malformed = Packet::fragment("/up/f", &upload.id, 0..10, size + 1);
    // In sequence, overlapping, in several parts at once, stored already, too far on, and refused.
    let fragments = [
        0..10,
        5..20,
        20..3000,
        10..3000,
        0..3500,
        4000..4001,
        3500..3500 + PART,
        5000..size,
        4524..size - 1,
    ];
    for range in fragments {
        let told = house.send(&upload, range.clone()).await;
        assert!([200, 416].contains(&told.status), "{told:?}");
        let refused = house.ask(&malformed, &[0; 10]).await;
        for told in [told, refused] {
            let next: u64 = told.header("BITS-Received-Content-Range").unwrap().parse().unwrap();
            assert_eq!(house.restarted().next_of(&upload).await, Some(next), "after {range:?}");
        }
    }
    house.store(&upload, size - 1..size).await;
    // The size of the file is told when it is published, and a gateway that is killed after that finds it published.
    assert_eq!(house.file("f").await.as_ref(), Some(&upload.file));
    let told = house.restarted().send(&upload, 0..size).await;
    assert_eq!(told, ack(200).of(&upload.id).next(size));
}

/// Covers: BUP-104
#[tokio::test]
async fn a_full_disk_is_told_and_the_session_goes_on_when_there_is_space_again() {
    // The records of two sessions, tails and parts; a file of several parts, and one that is put at once when it is whole.
    for size in [20 * PART, 60 * PART] {
        let parts = if size > 40 * PART { PART } else { 8 << 20 };
        let room = Room::over(Store::memory_of(70 * PART)).ruled(|rules| rules.part_size = parts);
        let house = House::of([room]);
        let hog = house.begin("/up/hog", &content(60 * PART, 1)).await;
        house.store(&hog, 0..50 * PART).await;
        let upload = house.begin("/up/f", &content(size, 2)).await;
        house.store(&upload, 0..5 * PART).await;
        let full = ack(500).error(DISK_FULL).of(&upload.id);
        for _ in 0..2 {
            let told = house.send(&upload, 5 * PART..size).await;
            assert_eq!(told.header("BITS-Error"), Some(DISK_FULL), "{told:?}");
            let next: u64 = told.header("BITS-Received-Content-Range").unwrap().parse().unwrap();
            assert_eq!(told, full.clone().next(next));
            assert!((5 * PART..size).contains(&next), "{next}");
            assert_eq!(house.restarted().next_of(&upload).await, Some(next));
        }
        assert_eq!(house.file("f").await, None);
        assert_eq!(house.cancel(&hog).await, ack(200).of(&hog.id));
        let next = house.next_of(&upload).await.unwrap();
        house.store(&upload, next..size).await;
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// A body that stalls after its first bytes, for ever.
struct Stalling<'n> {
    first: Option<Bytes>,
    stalled: &'n Notify,
}

impl Body for Stalling<'_> {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        match self.first.take() {
            Some(bytes) => Ok(Some(bytes)),
            None => {
                self.stalled.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// Covers: BUP-105
#[tokio::test]
async fn of_two_fragments_at_once_the_older_gives_way_and_the_content_stays_right() {
    let size = 300_000;
    for part_size in [100_000, 8 << 20] {
        for came in [10, 70_000, 250_000] {
            let house = House::of([Room::new().ruled(|rules| rules.part_size = part_size)]);
            let upload = house.begin("/up/f", &content(size, 0)).await;
            let stalled = Arc::new(Notify::new());
            let mut body = Stalling {
                first: Some(Bytes::copy_from_slice(upload.bytes(0..came))),
                stalled: &stalled,
            };
            let whole = upload.fragment(0..size);
            let (older, newer) = tokio::join!(house.answer(&whole, &mut body, Principal::anonymous()), async {
                stalled.notified().await;
                house.send(&upload, 0..size - 1).await
            });
            let older = older.expect("an answer");
            let next: u64 = older.header("BITS-Received-Content-Range").unwrap().parse().unwrap();
            let gave_way = ack(503).with("Retry-After", "30").of(&upload.id).next(next);
            assert_eq!(older, gave_way);
            // What came of it counts if it was worth keeping, and is not asked for again.
            assert_eq!(next, if came >= WORTH_KEEPING { came } else { 0 });
            assert_eq!(newer, ack(200).of(&upload.id).next(size - 1));
            house.store(&upload, size - 1..size).await;
            assert!(house.file("f").await.unwrap() == upload.file);
        }
    }
}

/// Covers: BUP-127
#[tokio::test]
async fn of_two_sessions_to_one_destination_each_is_answered_for_itself_and_one_file_is_there_whole() {
    let root = tempfile::tempdir().unwrap();
    for overwrite in [false, true] {
        for room in [Room::new(), Room::over(directory(root.path()))] {
            let house = House::of([room.ruled(|rules| rules.overwrite = overwrite)]);
            for size in [10, PART, 3 * PART + 1] {
                let (key, target) = (format!("{overwrite}{size}"), format!("/up/{overwrite}{size}"));
                let winner = house.begin(&target, &content(size, 1)).await;
                let loser = house.begin(&target, &content(size + 5, 2)).await;
                house.store(&winner, 0..size / 2).await;
                house.store(&loser, 0..size / 3).await;
                house.store(&loser, size / 3..size).await;
                assert_eq!(house.next_of(&winner).await, Some(size / 2));
                house.store(&winner, size / 2..size).await;
                assert_eq!(house.file(&key).await.as_ref(), Some(&winner.file));
                let told = house.send(&loser, size..size + 5).await;
                if overwrite {
                    assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(&loser.id));
                } else {
                    // What is stored by then depends on the parts, but never is it all that there is to send.
                    let next = house.next_of(&loser).await.unwrap();
                    assert!((size..loser.size()).contains(&next), "{next}");
                    assert_eq!(told, ack(403).error(ACCESS_DENIED).of(&loser.id).next(next));
                }
                assert_eq!(house.close(&winner).await, ack(200).of(&winner.id));
                assert_eq!(house.file(&key).await.as_ref(), Some(&winner.file));
                if overwrite {
                    // It starts again by itself.
                    let again = house.put(&target, &loser.file).await;
                    assert_eq!(house.file(&key).await.as_ref(), Some(&again.file));
                }
            }
        }
    }
}
