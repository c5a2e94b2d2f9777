//! How long sessions live (MC-BUP 3.2.2.1, 3.2.4.2, 3.2.6.1). Days go by in these tests: what the store holds is made older by as much,
//! so that all times are the store's own, as they are everywhere else.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use bits_gateway::cleanup::Broom;
use bits_gateway::client::raw::Packet;
use tempfile::TempDir;

use crate::support::{ACCESS_DENIED, Door, House, PART, Room, SESSION_NOT_FOUND, ack, content, directory};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A gateway whose sessions live for a day, over a directory in which time can go by.
struct Aging {
    folder: TempDir,
    house: House,
    broom: Broom,
}

impl Aging {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::over(directory(folder.path())).ruled(|rules| rules.session_timeout = DAY);
        Self {
            folder,
            broom: Broom::new(&room.place),
            house: House::of([room]),
        }
    }

    /// Lets time go by for all that is kept of sessions. Files that are published stay as they are: their times tell whether somebody
    /// replaced them.
    fn pass(&self, time: Duration) {
        set_back(&self.folder.path().join(".bits-gateway/sessions"), time);
    }

    /// What a sweep says of the one session: that it is noted as silent, and that it has ended.
    async fn sweep(&mut self) -> (u64, u64) {
        let now = self.house.room().place.store.now().await.expect("a store");
        let report = self.broom.sweep(now).await.expect("a store");
        assert_eq!((report.sessions, report.failed), (1, 0));
        (report.expiring, report.expired)
    }
}

/// Makes every file below `folder` older.
fn set_back(folder: &Path, by: Duration) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_back(&path, by);
        } else {
            let file = File::options().write(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - by).unwrap();
        }
    }
}

/// Covers: BUP-123
#[tokio::test]
async fn a_session_that_was_silent_past_its_time_out_is_swept_away() {
    for (size, sent) in [(200, 100), (9 * PART, 5 * PART + 10)] {
        let mut aging = Aging::new();
        let upload = aging.house.begin("/up/f", &content(size, 0)).await;
        aging.house.store(&upload, 0..sent).await;
        aging.pass(DAY - HOUR);
        assert_eq!(aging.sweep().await, (0, 0));
        aging.pass(2 * HOUR);
        assert_eq!(aging.sweep().await, (1, 0));
        assert_eq!(aging.sweep().await, (0, 0));
        aging.pass(2 * HOUR);
        assert_eq!(aging.sweep().await, (0, 1));
        // In a day the gateway would have forgotten what it knew of the session.
        let house = aging.house.restarted();
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
    let mut aging = Aging::new();
    let upload = aging.house.begin("/up/f", &content(3 * PART, 0)).await;
    aging.house.store(&upload, 0..3 * PART).await;
    aging.pass(DAY + HOUR);
    // It did not expire: it is closed as its client would have closed it.
    assert_eq!(aging.sweep().await, (0, 0));
    let store = &aging.house.room().place.store;
    let swept = store.read_record(upload.id.parse().unwrap()).await.unwrap();
    assert_eq!(swept.map(|swept| swept.record.phase.name()), Some("closed"));
    // Published is published: the client that comes back late is told so.
    assert_eq!(aging.house.restarted().close(&upload).await, ack(200).of(&upload.id));
    assert_eq!(aging.house.file("f").await, Some(upload.file));
}

/// Covers: BUP-124
#[tokio::test]
async fn progress_begins_the_time_out_anew() {
    let size = 9 * PART;
    for step in [10, 2 * PART] {
        let mut aging = Aging::new();
        let upload = aging.house.begin("/up/f", &content(size, 0)).await;
        aging.house.store(&upload, 0..step).await;
        // The session is noted as silent; then comes a fragment, and it lives.
        aging.pass(DAY + HOUR);
        assert_eq!(aging.sweep().await, (1, 0));
        aging.house.store(&upload, step..2 * step).await;
        assert_eq!(aging.sweep().await, (0, 0));
        aging.pass(2 * HOUR);
        assert_eq!(aging.sweep().await, (0, 0));
        // Its day begins with that fragment, so that it takes another day of silence, and the hour of grace.
        aging.pass(DAY - 3 * HOUR);
        assert_eq!(aging.sweep().await, (0, 0));
        aging.house.store(&upload, 2 * step..size).await;
        assert_eq!(aging.house.close(&upload).await, ack(200).of(&upload.id));
        assert_eq!(aging.house.file("f").await, Some(upload.file));
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
