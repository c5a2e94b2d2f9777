//! Parts that end where fragments do.

use super::*;
use crate::session::Staged;
use crate::staging::RecordedPart;
use crate::store::{PartSizes, Settings};

/// What is staged of a session, as the store has it.
async fn staged(store: &Store, id: SessionId) -> Staged {
    let found = store.read_record(id).await.unwrap().unwrap();
    found.record.staged().cloned().unwrap_or_default()
}

fn ends(staged: &Staged) -> Vec<u64> {
    staged.parts.iter().map(RecordedPart::end).collect()
}

fn claims(staged: &Staged) -> Vec<u64> {
    staged.cuts.as_ref().map_or_else(Vec::new, |cuts| cuts.claims.clone())
}

#[tokio::test]
async fn fragments_that_are_large_enough_are_parts_whatever_their_sizes() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(1000);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let mut at = 0;
    for end in [70, 150, 214, 414, 420, 490] {
        send(&uploads, &place, id, &data, at, end).await.verdict.unwrap();
        at = end;
    }
    let staged = staged(&store, id).await;
    // 200 bytes are more than two parts of the usual length: they are halved. Six were too few.
    assert_eq!(ends(&staged), [70, 150, 214, 314, 414, 490]);
    assert_eq!(staged.cuts.unwrap().largest, 128);
    send(&uploads, &place, id, &data, 490, 1000).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

/// A body of which the last byte comes only when the record claims a part.
struct Patient {
    rest: VecDeque<Bytes>,
    store: Store,
    id: SessionId,
}

impl Body for Patient {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        while self.rest.len() == 1 && claims(&staged(&self.store, self.id).await).is_empty() {
            tokio::task::yield_now().await;
        }
        Ok(self.rest.pop_front())
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_made_while_the_body_comes_in() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(1000);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 100).await.verdict.unwrap();
    let mut body = Patient {
        rest: Whole::of(&data[100..200], 7).0,
        store: store.clone(),
        id,
    };
    let range = ContentRange::new(100, 200, 1000).unwrap();
    let taken = uploads.fragment(&place, &asked("f.bin"), id, range, &mut body).await;
    assert_eq!((taken.verdict, taken.next), (Ok(()), Some(200)));
    assert_eq!(ends(&staged(&store, id).await), [100, 200]);
}

#[tokio::test]
async fn who_finds_a_claim_keeps_to_it() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(1000);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 100).await.verdict.unwrap();
    let mut broken = Broken(Whole::of(&data[100..150], 7));
    let range = ContentRange::new(100, 200, 1000).unwrap();
    let taken = here.fragment(&place, &asked("f.bin"), id, range, &mut broken).await;
    assert_eq!(taken.verdict, Err(Refused::Body(BodyBroken::Disconnected)));
    settled().await;
    assert_eq!(claims(&staged(&store, id).await), [200]);
    for (end, parts) in [(180, vec![100]), (300, vec![100, 200, 300])] {
        let taken = send(&there, &place, id, &data, 100, end).await;
        assert_eq!((taken.verdict, taken.next), (Ok(()), Some(end as u64)));
        assert_eq!(ends(&staged(&store, id).await), parts);
    }
    send(&here, &place, id, &data, 300, 1000).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn a_body_that_breaks_off_where_nothing_is_claimed_leaves_a_part() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(1000);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let range = ContentRange::new(0, 100, 1000).unwrap();
    let mut broken = Broken(Whole::of(&data[..77], 7));
    let taken = uploads.fragment(&place, &asked("f.bin"), id, range, &mut broken).await;
    assert_eq!(taken.verdict, Err(Refused::Body(BodyBroken::Disconnected)));
    assert_eq!(ends(&staged(&store, id).await), [77]);
    assert_eq!(send(&uploads, &place, id, &data, 77, 1000).await.next, Some(1000));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn small_fragments_fill_parts_that_were_claimed_ahead_without_a_write_more() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(1000);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    for at in (0..200).step_by(10) {
        send(&uploads, &place, id, &data, at, at + 10).await.verdict.unwrap();
    }
    let staged = staged(&store, id).await;
    assert_eq!((ends(&staged), claims(&staged)), (vec![70, 134, 198], vec![262]));
}

/// As an older version began it: nobody knows whether it is still about to put one of its parts.
#[tokio::test]
async fn a_session_that_has_equal_parts_keeps_them() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(1000);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let key = Key::parse("f.bin").unwrap();
    let upload = store.begin(&key, id).await.unwrap();
    let found = store.read_record(id).await.unwrap().unwrap();
    let mut record = found.record;
    record.total = Some(1000);
    record.phase = Phase::Open(Staged {
        upload: Some(upload),
        ..Staged::default()
    });
    store
        .replace_record(&record.stamped(random_id(), SystemClock.now()), &found.version)
        .await
        .unwrap();
    send(&replica(KIB * KIB), &place, id, &data, 0, 200)
        .await
        .verdict
        .unwrap();
    let found = store.read_record(id).await.unwrap().unwrap();
    assert_eq!(found.record.min_reader, 1);
    assert_eq!(ends(&staged(&store, id).await), [64, 128, 192]);
    send(&replica(KIB * KIB), &place, id, &data, 200, 1000)
        .await
        .verdict
        .unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

/// A turn whose claim lost against another one cuts anew what it has in hand.
#[tokio::test]
async fn replicas_that_are_sent_different_fragments_from_one_place_both_go_on() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(1000);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 100).await.verdict.unwrap();
    // From now on the other one knows of the part.
    assert_eq!(send(&there, &place, id, &data, 0, 50).await.next, Some(100));
    assert_eq!(send(&here, &place, id, &data, 100, 200).await.next, Some(200));
    let late = send(&there, &place, id, &data, 100, 290).await;
    assert_eq!((late.verdict, late.next), (Ok(()), Some(290)));
    assert_eq!(ends(&staged(&store, id).await), [100, 200, 290]);
    send(&here, &place, id, &data, 290, 1000).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

/// A body that breaks off when it is told to.
struct Breaking<'n>(Whole, &'n tokio::sync::Notify);

impl Body for Breaking<'_> {
    async fn next(&mut self, wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if let Some(chunk) = self.0.next(wanted).await? {
            return Ok(Some(chunk));
        }
        self.1.notified().await;
        Err(BodyBroken::Disconnected)
    }
}

/// Where parts have to be alike, the first fragment says how long they are. No part was put by then.
#[tokio::test(start_paused = true)]
async fn equal_parts_are_as_long_as_the_record_says_whoever_was_there_first() {
    let settings = Settings {
        url: "memory:///".to_owned(),
        part_sizes: Some(PartSizes::Equal),
        ..Settings::default()
    };
    let store = Store::open(&settings, &Metrics::new(["/"])).unwrap();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(300);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    let end = tokio::sync::Notify::new();
    let (whole, first) = (
        ContentRange::new(0, 300, 300).unwrap(),
        ContentRange::new(0, 90, 300).unwrap(),
    );
    let asked = asked("f.bin");
    let mut body = Breaking(Whole::of(&data[..200], 7), &end);
    let (broken, ()) = tokio::join!(here.fragment(&place, &asked, id, whole, &mut body), async {
        settled().await;
        let mut body = Broken(Whole::of(&data[..10], 7));
        let broken = there.fragment(&place, &asked, id, first, &mut body).await;
        assert_eq!(broken.verdict, Err(Refused::Body(BodyBroken::Disconnected)));
        end.notify_one();
    });
    assert_eq!(broken.verdict, Err(Refused::Body(BodyBroken::Disconnected)));
    let record = store.read_record(id).await.unwrap().unwrap().record;
    assert_eq!(
        (record.part_size, record.min_reader),
        (75, 3),
        "older readers would take 64"
    );
    assert_eq!(ends(record.staged().unwrap()), [75, 150]);
    assert_eq!(send(&there, &place, id, &data, 150, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}
