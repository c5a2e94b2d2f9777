//! Ping (MC-BUP 2.2.4, 3.2.5.2.5).

use std::sync::atomic::Ordering;

use bits_gateway::client::raw::Packet;

use crate::support::{Door, House, PART, STRANGER, ack, content};

/// Covers: BUP-060
#[tokio::test]
async fn a_ping_without_a_session_id_gets_200() {
    let house = House::new();
    assert_eq!(house.ask(&Packet::ping("/up/f"), b"").await, ack(200));
    // Not even a store that is out of reach is in its way.
    house.room().open.store(false, Ordering::Release);
    assert_eq!(house.ask(&Packet::ping("/up/f"), b"").await, ack(200));
}

/// Covers: BUP-061
#[tokio::test]
async fn a_ping_gets_200_whatever_its_session_id() {
    let house = House::new();
    let done = house.put("/up/f", b"done").await;
    for id in [STRANGER, &done.id, "no GUID at all", ""] {
        let ping = Packet::ping("/up/f").with("BITS-Session-Id", id);
        assert_eq!(house.ask(&ping, b"").await, ack(200), "{id:?}");
    }
}

/// Covers: BUP-062
#[tokio::test]
async fn a_ping_between_the_last_fragment_and_close_disturbs_nothing() {
    for size in [10, PART, 3 * PART + 1] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        house.store(&upload, 0..size).await;
        let ping = Packet::ping("/up/f").with("BITS-Session-Id", &upload.id);
        assert_eq!(house.ask(&ping, b"").await, ack(200));
        assert_eq!(house.next_of(&upload).await, Some(size));
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-063
#[tokio::test]
async fn a_ping_to_the_url_of_a_running_upload_changes_nothing_in_it() {
    let house = House::new();
    let size = 3 * PART;
    let upload = house.begin("/up/f", &content(size, 0)).await;
    for at in (0..size).step_by(512) {
        assert_eq!(house.ask(&Packet::ping("/up/f"), b"").await, ack(200));
        assert_eq!(house.next_of(&upload).await, Some(at));
        house.store(&upload, at..at + 512).await;
    }
    assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}
