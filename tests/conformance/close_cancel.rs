//! Close-Session and Cancel-Session (MC-BUP 2.2.8 to 2.2.11, 3.2.5.2.7, 3.2.5.2.8).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bits_gateway::client::raw::Packet;

use crate::support::{
    Door, House, INVALID_ARGUMENT, PART, Room, SESSION_NOT_FOUND, SIZES, STRANGER, ack, content, directory,
};

/// Covers: BUP-110
#[tokio::test]
async fn after_close_the_destination_holds_exactly_the_bytes() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        let house = House::of([room]);
        for size in SIZES {
            let upload = house.begin(&format!("/up/{size}"), &content(size, 5)).await;
            house.store(&upload, 0..size).await;
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
            assert_eq!(house.file(&size.to_string()).await, Some(upload.file));
        }
    }
    assert_eq!(fs::read(root.path().join("10")).unwrap(), content(10, 5));
}

/// Covers: BUP-111
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ever_sees_part_of_a_file() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        for (size, before) in [
            (200, None),
            (20 * PART + 1, None),
            (20 * PART + 1, Some(content(77, 7))),
        ] {
            let key = format!("{size}{}", before.is_some());
            let target = format!("/up/{key}");
            let house = House::of([room.clone().overwriting()]);
            if let Some(before) = &before {
                house.put(&target, before).await;
            }
            let upload = house.begin(&target, &content(size, 0)).await;
            let done = Arc::new(AtomicBool::new(false));
            let watching = tokio::spawn({
                let (done, key, whole) = (Arc::clone(&done), key.clone(), upload.file.clone());
                let (before, room) = (before.clone(), room.clone());
                async move {
                    while !done.load(Ordering::Acquire) {
                        let seen = room.file(&key).await;
                        assert!(
                            seen == before || seen.as_ref() == Some(&whole),
                            "{} bytes",
                            seen.unwrap().len()
                        );
                        tokio::task::yield_now().await;
                    }
                }
            });
            let step = size.div_ceil(20);
            let mut at = 0;
            while at < size {
                assert_eq!(house.file(&key).await, before, "nothing shows before the last byte");
                let end = size.min(at + step);
                house.store(&upload, at..end).await;
                at = end;
            }
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
            done.store(true, Ordering::Release);
            watching.await.unwrap();
            assert_eq!(house.file(&key).await, Some(upload.file));
        }
    }
}

/// Covers: BUP-112
#[tokio::test]
async fn when_the_ack_of_close_arrives_the_whole_file_is_there() {
    let root = tempfile::tempdir().unwrap();
    let house = House::of([Room::over(directory(root.path()))]);
    let server = crate::wire::Server::open(&house);
    let (line, reader) = (server.connect().await, server.connect().await);
    for size in SIZES {
        let upload = line.begin(&format!("/up/{size}"), &content(size, 5)).await;
        line.store(&upload, 0..size).await;
        assert_eq!(line.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(fs::read(root.path().join(size.to_string())).unwrap(), upload.file);
        let seen = reader.exchange(Packet::new("GET", &upload.target), b"").await;
        assert_eq!((seen.status, &seen.body[..]), (200, &upload.file[..]));
    }
}

/// Covers: BUP-113
#[tokio::test]
async fn close_before_the_last_byte_publishes_nothing_and_deletes_what_was_staged() {
    for (size, sent) in [(200, 0), (200, 100), (9 * PART, PART), (9 * PART, 8 * PART + 10)] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        if sent > 0 {
            house.store(&upload, 0..sent).await;
            assert_ne!(house.room().staged(&upload).await, 0);
        }
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!((house.file("f").await, house.room().staged(&upload).await), (None, 0));
        let told = house.send(&upload, sent..size).await;
        assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(&upload.id));
        // As the digest rules: to close it again is to close what was given up.
        assert_eq!(
            house.close(&upload).await,
            ack(500).error(SESSION_NOT_FOUND).of(&upload.id)
        );
        assert_eq!(house.file("f").await, None);
    }
}

/// Covers: BUP-114
#[tokio::test]
async fn close_again_gets_200_and_leaves_the_file_as_it_is() {
    for size in SIZES {
        let house = House::of([Room::new().overwriting()]);
        let upload = house.put("/up/f", &content(size, 0)).await;
        for house in [&house, &house.restarted()] {
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
            assert_eq!(house.file("f").await.as_ref(), Some(&upload.file));
        }
        // Not even who has replaced it meanwhile is disturbed.
        let newer = house.put("/up/f", b"newer").await;
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(newer.file));
    }
}

/// Covers: BUP-115
#[tokio::test]
async fn close_of_a_session_that_never_was_is_refused() {
    let house = House::new();
    let close = |id: &str| Packet::close_session("/up/f", id);
    let told = house.ask(&close(STRANGER), b"").await;
    assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(STRANGER));
    let told = house.ask(&close("no GUID"), b"").await;
    assert_eq!(told, ack(500).error(SESSION_NOT_FOUND));
    let told = house.ask(&close(STRANGER).without("BITS-Session-Id"), b"").await;
    assert_eq!(told, ack(400).error(INVALID_ARGUMENT));
    assert_eq!(house.uploads.remembered(), 0, "strangers leave no trace");
}

/// Covers: BUP-116
#[tokio::test]
async fn a_fragment_after_close_is_refused() {
    for size in SIZES {
        let house = House::new();
        let upload = house.put("/up/f", &content(size, 0)).await;
        let mut other = upload.clone();
        other.file.fill(b'!');
        for house in [&house, &house.restarted()] {
            for from in [0, size / 2, size.saturating_sub(1)] {
                let told = house.send(&other, from..size).await;
                assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(&upload.id), "{from}..{size}");
            }
        }
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-117
#[tokio::test]
async fn close_gets_200_when_somebody_has_taken_the_published_file_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let house = House::of([Room::over(directory(root.path()))]);
    for size in SIZES {
        let upload = house.begin(&format!("/up/{size}"), &content(size, 0)).await;
        house.store(&upload, 0..size).await;
        fs::remove_file(root.path().join(size.to_string())).unwrap();
        for house in [&house.restarted(), &house] {
            assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        }
        assert_eq!(house.file(&size.to_string()).await, None);
    }
}

/// Covers: BUP-118
#[tokio::test]
async fn cancel_in_mid_upload_deletes_what_was_staged_and_leaves_the_destination_alone() {
    for (size, sent) in [(200, 0), (200, 100), (9 * PART, PART), (9 * PART, 8 * PART + 10)] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        if sent > 0 {
            house.store(&upload, 0..sent).await;
            assert_ne!(house.room().staged(&upload).await, 0);
        }
        assert_eq!(house.cancel(&upload).await, ack(200).of(&upload.id));
        assert_eq!((house.file("f").await, house.room().staged(&upload).await), (None, 0));
    }
}

/// Covers: BUP-119
#[tokio::test]
async fn a_fragment_after_cancel_is_refused() {
    let house = House::new();
    let upload = house.begin("/up/f", &content(9 * PART, 0)).await;
    house.store(&upload, 0..5 * PART).await;
    house.cancel(&upload).await;
    let refused = ack(500).error(SESSION_NOT_FOUND).of(&upload.id);
    for house in [&house, &house.restarted()] {
        for range in [0..10, 0..9 * PART, 5 * PART..9 * PART, 6 * PART..7 * PART] {
            assert_eq!(house.send(&upload, range).await, refused);
        }
        assert_eq!(house.close(&upload).await, refused);
    }
    assert_eq!((house.file("f").await, house.room().staged(&upload).await), (None, 0));
}

/// Covers: BUP-120
#[tokio::test]
async fn a_second_cancel_gets_200() {
    let house = House::new();
    let upload = house.begin("/up/f", &content(200, 0)).await;
    house.store(&upload, 0..100).await;
    for house in [&house, &house, &house.restarted()] {
        assert_eq!(house.cancel(&upload).await, ack(200).of(&upload.id));
    }
    // Of a session that never was it is not.
    let told = house.ask(&Packet::cancel_session("/up/f", STRANGER), b"").await;
    assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(STRANGER));
    let told = house.ask(&Packet::cancel_session("/up/f", "x"), b"").await;
    assert_eq!(told, ack(500).error(SESSION_NOT_FOUND));
    let nameless = Packet::cancel_session("/up/f", "x").without("BITS-Session-Id");
    assert_eq!(house.ask(&nameless, b"").await, ack(400).error(INVALID_ARGUMENT));
}

/// Covers: BUP-121
#[tokio::test]
async fn cancel_after_close_does_not_delete_the_published_file() {
    for size in SIZES {
        let house = House::new();
        let closed = house.put("/up/closed", &content(size, 0)).await;
        assert_eq!(house.cancel(&closed).await, ack(200).of(&closed.id));
        assert_eq!(house.file("closed").await.as_ref(), Some(&closed.file));
        // It stays a session that was completed.
        assert_eq!(house.close(&closed).await, ack(200).of(&closed.id));
        // Nor does it when the file is published and not closed yet.
        let published = house.begin("/up/published", &content(size, 0)).await;
        house.store(&published, 0..size).await;
        assert_eq!(house.cancel(&published).await, ack(200).of(&published.id));
        assert_eq!(house.file("published").await, Some(published.file));
    }
}

/// Covers: BUP-122
#[tokio::test]
async fn a_cancelled_upload_over_an_existing_file_leaves_that_file_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        let house = House::of([room.overwriting()]);
        let old = house.put("/up/f", b"the old one").await;
        for (size, sent) in [(200, 199), (9 * PART, 8 * PART + 10)] {
            let new = house.begin("/up/f", &content(size, 0)).await;
            house.store(&new, 0..sent).await;
            assert_eq!(house.cancel(&new).await, ack(200).of(&new.id));
            assert_eq!(house.file("f").await.as_ref(), Some(&old.file));
        }
    }
}
