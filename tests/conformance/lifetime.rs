//! How long sessions live (MC-BUP 3.2.2.1, 3.2.4.2, 3.2.6.1). The clock is the test's own: the sweep is told what time it is.

use std::time::Duration;

use bits_gateway::cleanup::Broom;
use bits_gateway::client::raw::Packet;
use bits_gateway::clock::{Clock, SystemClock, Timestamp};

use crate::support::{ACCESS_DENIED, Door, House, PART, Room, SESSION_NOT_FOUND, ack, content};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A route whose sessions live for a day.
fn short_lived() -> Room {
    Room::new().ruled(|rules| rules.session_timeout = DAY)
}

/// What a sweep at `now` says of the one session: that it is noted as silent, and that it has ended.
async fn sweep(broom: &mut Broom, now: Timestamp) -> (u64, u64) {
    // Whatever was stored before was stored earlier, if only by a millisecond of the clock of the store.
    let moment = SystemClock.now();
    while SystemClock.now() == moment {
        tokio::task::yield_now().await;
    }
    let report = broom.sweep(now).await.expect("a store");
    assert_eq!((report.sessions, report.failed), (1, 0));
    (report.expiring, report.expired)
}

/// Covers: BUP-123
#[tokio::test]
async fn a_session_that_was_silent_past_its_time_out_is_swept_away() {
    for (size, sent) in [(200, 100), (9 * PART, 5 * PART + 10)] {
        let house = House::of([short_lived()]);
        let upload = house.begin("/up/f", &content(size, 0)).await;
        house.store(&upload, 0..sent).await;
        let begun = house.room().place.store.now().await.unwrap();
        let mut broom = Broom::new(&house.room().place);
        assert_eq!(sweep(&mut broom, begun.plus(DAY - HOUR)).await, (0, 0));
        assert_eq!(sweep(&mut broom, begun.plus(DAY + HOUR)).await, (1, 0));
        assert_eq!(sweep(&mut broom, begun.plus(DAY + 3 * HOUR)).await, (0, 1));
        // In a day the gateway would have forgotten what it knew of the session.
        let house = house.restarted();
        let refused = ack(500).error(SESSION_NOT_FOUND).of(&upload.id);
        assert_eq!(house.send(&upload, sent..size).await, refused);
        assert_eq!(house.send(&upload, 0..10).await, refused);
        assert_eq!(house.close(&upload).await, refused);
        assert_eq!(house.cancel(&upload).await, ack(200).of(&upload.id));
        assert_eq!((house.file("f").await, house.room().staged(&upload).await), (None, 0));
    }
}

/// Covers: BUP-123
#[tokio::test]
async fn a_published_session_that_is_never_closed_is_swept_away_and_its_file_stays() {
    let house = House::of([short_lived()]);
    let upload = house.begin("/up/f", &content(3 * PART, 0)).await;
    house.store(&upload, 0..3 * PART).await;
    let begun = house.room().place.store.now().await.unwrap();
    let mut broom = Broom::new(&house.room().place);
    broom.sweep(begun.plus(DAY + HOUR)).await.unwrap();
    broom.sweep(begun.plus(DAY + 3 * HOUR)).await.unwrap();
    // Published is published: the client that comes back late is told so.
    assert_eq!(house.restarted().close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-124
#[tokio::test]
async fn progress_begins_the_time_out_anew() {
    let size = 9 * PART;
    for step in [10, 2 * PART] {
        let house = House::of([short_lived()]);
        let upload = house.begin("/up/f", &content(size, 0)).await;
        house.store(&upload, 0..step).await;
        let store = &house.room().place.store;
        let mut broom = Broom::new(&house.room().place);
        // The session is noted as silent; then comes a fragment, and it lives.
        let begun = store.now().await.unwrap();
        assert_eq!(sweep(&mut broom, begun.plus(DAY + HOUR)).await, (1, 0));
        house.store(&upload, step..2 * step).await;
        assert_eq!(sweep(&mut broom, begun.plus(DAY - HOUR)).await, (0, 0));
        assert_eq!(sweep(&mut broom, begun.plus(2 * HOUR)).await, (0, 0));
        // Its day begins with that fragment, so that it takes another day of silence, and the hour of grace.
        let moved = store.now().await.unwrap();
        assert_eq!(sweep(&mut broom, moved.plus(DAY - HOUR)).await, (0, 0));
        house.store(&upload, 2 * step..size).await;
        assert_eq!(house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(house.file("f").await, Some(upload.file));
    }
}

/// Covers: BUP-125
#[tokio::test]
async fn switching_uploads_off_leaves_the_sessions_of_the_route_to_their_time_out() {
    for size in [200, 9 * PART] {
        let house = House::new();
        let upload = house.begin("/up/f", &content(size, 0)).await;
        house.store(&upload, 0..100).await;
        let switched_off = House::of([house.room().clone().disabled()]);
        let refused = ack(501).error(ACCESS_DENIED);
        for _ in 0..2 {
            let told = switched_off.send(&upload, 100..size).await;
            assert_eq!(told, refused.clone().of(&upload.id).next(100));
            assert_eq!(switched_off.close(&upload).await, refused.clone().of(&upload.id));
            assert_eq!(switched_off.cancel(&upload).await, refused.clone().of(&upload.id));
            let told = switched_off.ask(&Packet::ping("/up/f"), b"").await;
            assert_eq!(told, refused);
        }
        let back = house.restarted();
        back.store(&upload, 100..size).await;
        assert_eq!(back.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(back.file("f").await, Some(upload.file));
    }
}
