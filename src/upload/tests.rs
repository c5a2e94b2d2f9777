//! The floor on a store in memory: whole uploads, several replicas, little memory.

mod claims;
mod digest;
mod power;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::session::{Phase, Principal, Target};
use crate::staging::PartPlan;
use crate::store::depot::{Depot, Line};
use crate::store::{Store, Terms};

const KIB: u64 = 1024;

/// A body that is all there.
struct Whole(VecDeque<Bytes>);

impl Whole {
    fn of(data: &[u8], chunk: usize) -> Self {
        Self(data.chunks(chunk.max(1)).map(Bytes::copy_from_slice).collect())
    }
}

impl Body for Whole {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        tokio::task::yield_now().await;
        Ok(self.0.pop_front())
    }
}

/// A body that breaks off after what it has.
struct Broken(Whole);

impl Body for Broken {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        self.0.0.pop_front().map(Some).ok_or(BodyBroken::Disconnected)
    }
}

/// A body that stops moving for ever after what it has.
struct Stuck(Whole);

impl Body for Stuck {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        match self.0.0.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None => std::future::pending().await,
        }
    }
}

fn rules(part_size: u64) -> Rules {
    Rules {
        overwrite: false,
        max_upload_size: 1 << 40,
        max_fragment_size: 1 << 40,
        part_size,
        session_timeout: Duration::from_secs(3600),
        closed_session_memory: Duration::from_secs(3600),
        durability: Durability::Fragment,
        coordination: Coordination::Shared,
        checksum: Checksum::Off,
        checksum_sidecar: false,
    }
}

fn place(store: &Store, rules: Rules) -> Arc<Place> {
    Arc::new(Place {
        route: "/".to_owned(),
        store: store.clone(),
        rules,
        application: None,
        events: None,
    })
}

fn replica(memory: u64) -> Uploads {
    Uploads::new(
        Budget::new(memory, Duration::from_secs(60)),
        Arc::new(SystemClock),
        Metrics::new(["/"]),
    )
}

fn asked(key: &str) -> Asked {
    Asked {
        principal: Principal::anonymous(),
        target: Target {
            route: "/".to_owned(),
            key: key.to_owned(),
            query: None,
        },
        url: format!("http://h/{key}"),
        client: None,
    }
}

async fn stored(store: &Store, key: &str) -> Option<Vec<u8>> {
    use futures::TryStreamExt;
    let read = store.read(&Key::parse(key).unwrap(), None, None).await.ok()?;
    let chunks: Vec<Bytes> = read.stream.try_collect().await.unwrap();
    Some(chunks.concat())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

async fn send(
    uploads: &Uploads,
    place: &Arc<Place>,
    id: SessionId,
    data: &[u8],
    first: usize,
    end: usize,
) -> Fragmented {
    let range = ContentRange::new(first as u64, end as u64, data.len() as u64).unwrap();
    uploads
        .fragment(place, &asked("f.bin"), id, range, &mut Whole::of(&data[first..end], 7))
        .await
}

#[tokio::test]
async fn files_of_every_size_around_a_part_arrive_whole() {
    for size in [0, 1, 63, 64, 65, 127, 128, 129, 1000] {
        for step in [1, 10, 64, 100, 1000] {
            let store = Store::memory();
            let place = place(&store, rules(64));
            let uploads = replica(KIB * KIB);
            let data = pattern(size);
            let id = uploads.create(&place, asked("f.bin")).await.unwrap();
            let mut at = 0;
            while at < size || size == 0 {
                assert_eq!(
                    stored(&store, "f.bin").await,
                    None,
                    "nothing shows before the last byte"
                );
                let end = (at + step).min(size);
                let fragmented = send(&uploads, &place, id, &data, at, end).await;
                assert_eq!(fragmented.verdict, Ok(()), "size {size} step {step} at {at}");
                assert_eq!(fragmented.next, Some(end as u64));
                at = end;
                if size == 0 {
                    break;
                }
            }
            assert_eq!(stored(&store, "f.bin").await.unwrap(), data, "size {size} step {step}");
            assert_eq!(
                send(&uploads, &place, id, &data, at.saturating_sub(step), size)
                    .await
                    .next,
                Some(size as u64)
            );
            uploads.close(&place, &asked("f.bin"), id).await.unwrap();
            uploads.close(&place, &asked("f.bin"), id).await.unwrap();
            assert_eq!(
                send(&uploads, &place, id, &data, 0, size).await.verdict,
                Err(Refused::SessionNotFound)
            );
            let left = store.list_session(id).await.unwrap();
            assert_eq!(left.len(), 1, "only the tombstone is left: {left:?}");
        }
    }
}

#[tokio::test]
async fn a_gap_is_refused_and_what_is_stored_never_changes() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let gap = send(&uploads, &place, id, &data, 10, 20).await;
    assert_eq!((gap.verdict, gap.next), (Err(Refused::OutOfStep), Some(0)));
    assert_eq!(send(&uploads, &place, id, &data, 0, 100).await.next, Some(100));
    let mut other = data.clone();
    other[50..100].fill(0xEE);
    assert_eq!(send(&uploads, &place, id, &other, 50, 150).await.next, Some(150));
    let whole_duplicate = send(&uploads, &place, id, &other, 60, 90).await;
    assert_eq!((whole_duplicate.verdict, whole_duplicate.next), (Ok(()), Some(150)));
    assert_eq!(send(&uploads, &place, id, &data, 150, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn another_total_is_refused_and_the_session_goes_on() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 100).await.verdict.unwrap();
    let other = send(&uploads, &place, id, &pattern(301), 100, 200).await;
    assert!(matches!(other.verdict, Err(Refused::InvalidArgument(_))));
    assert_eq!(other.next, Some(100));
    send(&uploads, &place, id, &data, 100, 300).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn a_file_or_a_fragment_that_is_too_large_is_refused_before_a_byte_is_read() {
    let store = Store::memory();
    let uploads = replica(KIB * KIB);
    let place = place(
        &store,
        Rules {
            max_upload_size: 200,
            max_fragment_size: 150,
            ..rules(64)
        },
    );
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    assert_eq!(
        send(&uploads, &place, id, &pattern(201), 0, 10).await.verdict,
        Err(Refused::TooLarge)
    );
    assert_eq!(
        send(&uploads, &place, id, &pattern(200), 0, 151).await.verdict,
        Err(Refused::FragmentTooLarge)
    );
    assert_eq!(send(&uploads, &place, id, &pattern(200), 0, 150).await.next, Some(150));
    assert_eq!(
        send(&uploads, &place, id, &pattern(200), 150, 200).await.next,
        Some(200)
    );
}

#[tokio::test]
async fn nobody_else_learns_of_a_session() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let stranger = Asked {
        principal: Principal::named("mallory"),
        ..asked("f.bin")
    };
    let range = ContentRange::new(0, 1, 2).unwrap();
    for uploads in [&uploads, &replica(KIB * KIB)] {
        let fragmented = uploads
            .fragment(&place, &stranger, id, range, &mut Whole::of(b"x", 1))
            .await;
        assert_eq!(
            (fragmented.verdict, fragmented.next),
            (Err(Refused::SessionNotFound), None)
        );
        assert_eq!(
            uploads.cancel(&place, &stranger, id).await,
            Err(Refused::SessionNotFound)
        );
        let elsewhere = uploads
            .fragment(&place, &asked("g.bin"), id, range, &mut Whole::of(b"x", 1))
            .await;
        assert!(matches!(elsewhere.verdict, Err(Refused::InvalidArgument(_))));
    }
    assert_eq!(send(&uploads, &place, id, &pattern(2), 0, 2).await.next, Some(2));
}

#[tokio::test]
async fn a_destination_that_exists_is_refused_unless_it_may_be_replaced() {
    let store = Store::memory();
    let keep = place(&store, rules(64));
    let replace = place(
        &store,
        Rules {
            overwrite: true,
            ..rules(64)
        },
    );
    let uploads = replica(KIB * KIB);
    for size in [10, 200] {
        let old = uploads.create(&replace, asked("f.bin")).await.unwrap();
        send(&uploads, &replace, old, &pattern(size), 0, size)
            .await
            .verdict
            .unwrap();
        assert_eq!(uploads.create(&keep, asked("f.bin")).await, Err(Refused::Exists));
        let new = uploads.create(&replace, asked("f.bin")).await.unwrap();
        let data = vec![7; size];
        send(&uploads, &replace, new, &data, 0, 5).await.verdict.unwrap();
        assert_eq!(stored(&store, "f.bin").await.unwrap(), pattern(size));
        send(&uploads, &replace, new, &data, 5, size).await.verdict.unwrap();
        assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
    }
}

#[tokio::test]
async fn of_two_sessions_for_one_key_one_wins_and_the_loser_leaves_its_file_alone() {
    for size in [10, 200] {
        for overwrite in [false, true] {
            let store = Store::memory();
            let place = place(&store, Rules { overwrite, ..rules(64) });
            let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
            let first = here.create(&place, asked("f.bin")).await.unwrap();
            let second = there.create(&place, asked("f.bin")).await.unwrap();
            send(&there, &place, second, &vec![2; size], 0, size)
                .await
                .verdict
                .unwrap();
            let lost = send(&here, &place, first, &vec![1; size], 0, size)
                .await
                .verdict
                .unwrap_err();
            if overwrite {
                assert!(matches!(lost, Refused::Lost(_)), "{lost:?}");
            } else {
                assert_eq!(lost, Refused::Exists);
                assert_eq!(
                    send(&there, &place, first, &vec![1; size], 0, size).await.verdict,
                    Err(Refused::Exists)
                );
            }
            assert_eq!(stored(&store, "f.bin").await.unwrap(), vec![2; size]);
        }
    }
}

#[tokio::test]
async fn cancel_frees_everything_and_leaves_published_files_alone() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 200).await.verdict.unwrap();
    uploads.cancel(&place, &asked("f.bin"), id).await.unwrap();
    uploads.cancel(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(
        uploads.close(&place, &asked("f.bin"), id).await,
        Err(Refused::SessionNotFound)
    );
    assert_eq!(store.list_session(id).await.unwrap().len(), 1);
    assert_eq!(stored(&store, "f.bin").await, None);

    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 300).await.verdict.unwrap();
    uploads.cancel(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
    uploads.close(&place, &asked("f.bin"), id).await.unwrap();
}

#[tokio::test]
async fn the_loser_of_a_race_is_cancelled_at_once() {
    for overwrite in [false, true] {
        let store = Store::memory();
        let place = place(&store, Rules { overwrite, ..rules(64) });
        let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
        let loser = here.create(&place, asked("f.bin")).await.unwrap();
        let winner = there.create(&place, asked("f.bin")).await.unwrap();
        send(&there, &place, winner, &[2; 200], 0, 200).await.verdict.unwrap();
        send(&here, &place, loser, &[1; 200], 0, 200).await.verdict.unwrap_err();
        there.cancel(&place, &asked("f.bin"), loser).await.unwrap();
        let key = Key::parse("f.bin").unwrap();
        assert!(store.list_uploads(&key).await.unwrap().is_empty());
        assert_eq!(store.list_session(loser).await.unwrap().len(), 1);
        assert_eq!(stored(&store, "f.bin").await.unwrap(), vec![2; 200]);
    }
}

#[tokio::test]
async fn cancel_finds_the_file_that_nobody_marked_as_published() {
    let depot = Depot::memory();
    let store = depot.store();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let (data, key) = (pattern(200), Key::parse("f.bin").unwrap());
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    depot.put(&key, b"foreign".to_vec()).await;
    let lost = send(&uploads, &place, id, &data, 0, 200).await;
    assert_eq!(lost.verdict, Err(Refused::Exists));
    depot.take(&key).await;
    // Nothing is in the way now, so that another turn may be at it.
    let early = uploads.cancel(&place, &asked("f.bin"), id).await;
    assert!(matches!(early, Err(Refused::Busy { .. })), "{early:?}");

    // And it was, but was killed before it could say so.
    let record = store.read_record(id).await.unwrap().unwrap().record;
    let Phase::Publishing { staged, .. } = &record.phase else {
        panic!("{:?}", record.phase);
    };
    let (upload, terms) = (staged.upload.as_ref().unwrap(), Terms::whenever(&Before::Absent));
    store
        .complete(&key, id, upload, &staged.parts, terms, None)
        .await
        .unwrap();
    uploads.cancel(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
    uploads.close(&place, &asked("f.bin"), id).await.unwrap();
}

#[tokio::test]
async fn close_before_the_last_byte_publishes_nothing() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &pattern(300), 0, 299).await.verdict.unwrap();
    uploads.close(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(stored(&store, "f.bin").await, None);
    assert_eq!(store.list_session(id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_its_first_bytes_when_they_are_worth_it() {
    let store = Store::memory();
    let place = place(&store, rules(1024 * KIB));
    let uploads = replica(64 * 1024 * KIB);
    let data = pattern(300 * 1024);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let range = ContentRange::new(0, 200 * KIB, 300 * KIB).unwrap();
    for (came, kept) in [(1000usize, 0), (100 * 1024, 100 * KIB)] {
        let mut body = Broken(Whole::of(&data[..came], 4096));
        let fragmented = uploads.fragment(&place, &asked("f.bin"), id, range, &mut body).await;
        assert_eq!(fragmented.verdict, Err(Refused::Body(BodyBroken::Disconnected)));
        assert_eq!(
            replica(KIB * KIB).next_offset(&place, &asked("f.bin"), id).await,
            Some(kept)
        );
    }
    send(&uploads, &place, id, &data, 0, data.len()).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn a_newer_packet_takes_the_turn_of_one_that_hangs() {
    let store = Store::memory();
    let place = place(&store, rules(1024 * KIB));
    let uploads = replica(64 * 1024 * KIB);
    let data = pattern(300 * 1024);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let hanging = tokio::spawn({
        let (uploads, place, data) = (uploads.clone(), place.clone(), data.clone());
        async move {
            let range = ContentRange::new(0, 200 * KIB, 300 * KIB).unwrap();
            let mut body = Stuck(Whole::of(&data[..100 * 1024], 4096));
            uploads.fragment(&place, &asked("f.bin"), id, range, &mut body).await
        }
    });
    while uploads.0.budget.used() == 0 {
        tokio::task::yield_now().await;
    }
    let newer = send(&uploads, &place, id, &data, 0, data.len()).await;
    assert_eq!((newer.verdict, newer.next), (Ok(()), Some(data.len() as u64)));
    assert!(matches!(hanging.await.unwrap().verdict, Err(Refused::Busy { .. })));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test(start_paused = true)]
async fn many_clients_share_little_memory_and_all_finish() {
    let store = Store::memory();
    let place = place(&store, rules(64 * KIB));
    let uploads = replica(256 * KIB);
    let data = pattern(150 * 1024);
    let clients: Vec<_> = (0..40)
        .map(|client| {
            let (uploads, place, data) = (uploads.clone(), place.clone(), data.clone());
            tokio::spawn(async move {
                let name = format!("f{client}.bin");
                let id = uploads.create(&place, asked(&name)).await.unwrap();
                let mut at = 0;
                while at < data.len() {
                    let end = (at + 40_000).min(data.len());
                    let range = ContentRange::new(at as u64, end as u64, data.len() as u64).unwrap();
                    let mut body = Whole::of(&data[at..end], 4096);
                    let fragmented = uploads.fragment(&place, &asked(&name), id, range, &mut body).await;
                    assert_eq!((fragmented.verdict, fragmented.next), (Ok(()), Some(end as u64)));
                    at = end;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    for client in 0..40 {
        assert_eq!(stored(&store, &format!("f{client}.bin")).await.unwrap(), data);
    }
    assert!(uploads.0.budget.used() <= 256 * KIB);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_sleeps_on_memory_gives_it_to_those_who_wait() {
    let store = Store::memory();
    let place = place(&store, rules(256 * KIB));
    let uploads = replica(1024 * KIB);
    let data = pattern(512 * 1024);
    let mut sleepers = Vec::new();
    for client in 0..8 {
        let (uploads, place, data) = (uploads.clone(), place.clone(), data.clone());
        sleepers.push(tokio::spawn(async move {
            let name = format!("s{client}.bin");
            let id = uploads.create(&place, asked(&name)).await.unwrap();
            let range = ContentRange::new(0, 512 * KIB, 512 * KIB).unwrap();
            let mut body = Stuck(Whole::of(&data[..100 * 1024], 4096));
            uploads.fragment(&place, &asked(&name), id, range, &mut body).await
        }));
    }
    while uploads.0.budget.used() < 1024 * KIB {
        tokio::task::yield_now().await;
    }
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    assert_eq!(send(&uploads, &place, id, &data, 0, data.len()).await.verdict, Ok(()));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
    sleepers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn with_durability_part_a_restart_goes_back_to_the_last_part_boundary() {
    let store = Store::memory();
    let place = place(
        &store,
        Rules {
            durability: Durability::Part,
            ..rules(64)
        },
    );
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    for (first, end) in [(0, 50), (50, 100), (100, 150)] {
        let fragmented = send(&uploads, &place, id, &data, first, end).await;
        assert_eq!((fragmented.verdict, fragmented.next), (Ok(()), Some(end as u64)));
    }
    let restarted = replica(KIB * KIB);
    let fragmented = send(&restarted, &place, id, &data, 150, 200).await;
    assert_eq!(
        (fragmented.verdict, fragmented.next),
        (Err(Refused::OutOfStep), Some(128))
    );
    assert_eq!(send(&restarted, &place, id, &data, 128, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn a_stale_view_whose_tails_are_gone_never_loses_the_session() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (stale, newer) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(300);
    let id = stale.create(&place, asked("f.bin")).await.unwrap();
    send(&stale, &place, id, &data, 0, 50).await.verdict.unwrap();
    // It holds the bytes no more, so that it would have to read the tails back.
    drop(stale.0.budget.try_reserve(stale.0.budget.total()));
    send(&newer, &place, id, &data, 50, 70).await.verdict.unwrap();
    while store.tail_length(id, 0).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let late = send(&stale, &place, id, &data, 50, 100).await;
    assert!(matches!(late.verdict, Ok(()) | Err(Refused::Busy { .. })), "{late:?}");
    assert!(late.next >= Some(70), "{late:?}");
    send(&stale, &place, id, &data, 70, 300).await.verdict.unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn more_parts_than_a_page_holds_are_recorded_in_pages() {
    let store = Store::memory();
    let place = place(&store, rules(4));
    let uploads = replica(KIB * KIB);
    let data = pattern(4 * 450 + 3);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 1500).await.verdict.unwrap();
    let elsewhere = replica(KIB * KIB);
    send(&elsewhere, &place, id, &data, 1500, data.len())
        .await
        .verdict
        .unwrap();
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
    elsewhere.close(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(store.list_session(id).await.unwrap().len(), 1);
}

/// Lets everything that was spawned come to its end.
async fn settled() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_part_that_another_replica_recorded_is_not_read_again() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(300);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 50).await.verdict.unwrap();
    // From now on the other one knows of the tail.
    assert_eq!(send(&there, &place, id, &data, 10, 20).await.next, Some(50));
    assert_eq!(send(&here, &place, id, &data, 50, 100).await.next, Some(100));
    settled().await;
    let late = send(&there, &place, id, &data, 50, 110).await;
    assert_eq!((late.verdict, late.next), (Ok(()), Some(110)));
    assert_eq!(send(&there, &place, id, &data, 110, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn the_tails_of_a_small_file_that_another_replica_published_are_not_read_again() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(60);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 50).await.verdict.unwrap();
    assert_eq!(send(&there, &place, id, &data, 10, 20).await.next, Some(50));
    send(&here, &place, id, &data, 50, 60).await.verdict.unwrap();
    here.close(&place, &asked("f.bin"), id).await.unwrap();
    assert_eq!(
        send(&there, &place, id, &data, 50, 60).await.verdict,
        Err(Refused::SessionNotFound)
    );
}

#[tokio::test]
async fn what_is_stored_already_makes_no_tail() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(300);
    // The view of its creator is stale from the next packet on.
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    assert_eq!(send(&there, &place, id, &data, 0, 50).await.next, Some(50));
    assert_eq!(send(&here, &place, id, &data, 0, 30).await.next, Some(50));
    let listed = store.list_session(id).await.unwrap();
    assert!(listed.iter().all(|listed| listed.size > 0), "{listed:?}");
    assert_eq!(send(&here, &place, id, &data, 50, 60).await.next, Some(60));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_trouble_tells_the_true_offset_or_none() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(4 * KIB), replica(KIB * KIB));
    let data = pattern(300);
    let id = there.create(&place, asked("f.bin")).await.unwrap();
    send(&there, &place, id, &data, 0, 10).await.verdict.unwrap();
    assert_eq!(send(&here, &place, id, &data, 0, 1).await.next, Some(10));
    send(&there, &place, id, &data, 10, 50).await.verdict.unwrap();
    let all = here.0.budget.try_reserve(4 * KIB);
    assert!(all.is_some());
    let busy = send(&here, &place, id, &data, 10, 30).await;
    assert!(matches!(busy.verdict, Err(Refused::Busy { .. })));
    assert_eq!(busy.next, Some(50));
}

#[tokio::test]
async fn a_session_that_was_given_up_has_no_next_offset() {
    let store = Store::memory();
    let place = place(
        &store,
        Rules {
            overwrite: true,
            ..rules(64)
        },
    );
    let uploads = replica(KIB * KIB);
    let data = pattern(60);
    let (loser, winner) = (
        uploads.create(&place, asked("f.bin")).await.unwrap(),
        uploads.create(&place, asked("f.bin")).await.unwrap(),
    );
    send(&uploads, &place, loser, &data, 0, 50).await.verdict.unwrap();
    send(&uploads, &place, winner, &data, 0, 60).await.verdict.unwrap();
    let lost = send(&uploads, &place, loser, &data, 50, 60).await;
    assert!(matches!(lost.verdict, Err(Refused::Lost(_))));
    assert_eq!(lost.next, None);
}

#[tokio::test]
async fn only_the_record_says_that_a_session_is_unknown() {
    let busy = Refused::from(crate::store::Error::NotFound);
    assert!(matches!(busy, Refused::Busy { .. }));
}

#[tokio::test]
async fn with_durability_part_a_broken_body_takes_nothing_back() {
    let store = Store::memory();
    let place = place(
        &store,
        Rules {
            durability: Durability::Part,
            ..rules(64)
        },
    );
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 30).await.verdict.unwrap();
    for (first, came, kept) in [(30, 10, 30), (30, 70, 100)] {
        let range = ContentRange::new(first, 200, 300).unwrap();
        let mut body = Broken(Whole::of(&data[first as usize..first as usize + came], 7));
        uploads.fragment(&place, &asked("f.bin"), id, range, &mut body).await;
        let next = send(&uploads, &place, id, &data, 0, 1).await.next;
        assert_eq!(next, Some(kept), "after {came} bytes from {first} on");
    }
    assert_eq!(send(&uploads, &place, id, &data, 100, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test]
async fn forgotten_sessions_leave_nothing_in_the_list_of_those_that_hold_bytes() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    for _ in 0..10 {
        let id = uploads.create(&place, asked("f.bin")).await.unwrap();
        send(&uploads, &place, id, &pattern(300), 0, 10).await.verdict.unwrap();
    }
    assert_eq!(uploads.0.holding.lock().unwrap().len(), 10);
    uploads.0.table.clear();
    uploads.forget_idle();
    assert!(uploads.0.holding.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_last_fragment_that_comes_again_to_a_stale_replica_is_told_that_the_file_is_published() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(200);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 128).await.verdict.unwrap();
    send(&there, &place, id, &data, 128, 200).await.verdict.unwrap();
    let again = send(&here, &place, id, &data, 128, 200).await;
    assert_eq!((again.verdict, again.next), (Ok(()), Some(200)));
}

#[tokio::test(start_paused = true)]
async fn a_small_file_that_a_consumer_took_is_not_published_again_by_a_stale_replica() {
    let depot = Depot::memory();
    let store = depot.store();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let data = pattern(60);
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    send(&here, &place, id, &data, 0, 20).await.verdict.unwrap();
    send(&there, &place, id, &data, 20, 60).await.verdict.unwrap();
    depot.take(&Key::parse("f.bin").unwrap()).await;
    tokio::time::advance(Duration::from_secs(6)).await;
    let again = send(&here, &place, id, &data, 20, 60).await;
    assert_eq!((again.verdict, again.next), (Ok(()), Some(60)));
    assert_eq!(stored(&store, "f.bin").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_publishes_is_begun_within_a_minute_of_the_last_look() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let asked = asked("f.bin");
    let id = here.create(&place, asked.clone()).await.unwrap();
    let entry = here.0.entry(&place, id);
    let mut work = here.0.work(&entry, &place, &asked, id).await.unwrap();
    for _ in 0..2 {
        // The first time the look is a few seconds old, the second time it is so old that it is made again.
        tokio::time::advance(Duration::from_secs(4)).await;
        let by = work.deadline().await.unwrap().unwrap();
        tokio::time::advance(Duration::from_secs(55)).await;
        assert!(!by.has_passed());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(by.has_passed());
    }
    there.cancel(&place, &asked, id).await.unwrap();
    assert_eq!(work.deadline().await.unwrap(), None, "the session has ended meanwhile");
}

/// A client waits for five minutes.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_never_makes_a_client_wait_in_vain() {
    for (size, sent) in [(50, 20), (300, 200)] {
        let depot = Depot::memory();
        let line = Line::new();
        let (place, uploads) = (place(&depot.over(&line), rules(64)), replica(KIB * KIB));
        let (data, asked) = (pattern(size), asked("f.bin"));
        let id = uploads.create(&place, asked.clone()).await.unwrap();
        send(&uploads, &place, id, &data, 0, sent).await.verdict.unwrap();
        line.hold(true);
        let begin = Uptime::now();
        let taken = send(&uploads, &place, id, &data, sent, size).await;
        assert!(matches!(taken.verdict, Err(Refused::Busy { .. })), "{taken:?}");
        assert_eq!(taken.next, None, "nobody can tell");
        assert!(begin.elapsed() < Duration::from_secs(290), "{:?}", begin.elapsed());
        for refused in [
            uploads.create(&place, asked.clone()).await.map(|_| ()),
            uploads.close(&place, &asked, id).await,
            uploads.cancel(&place, &asked, id).await,
        ] {
            assert!(matches!(refused, Err(Refused::Busy { .. })), "{refused:?}");
        }
        line.hold(false);
        let taken = send(&uploads, &place, id, &data, sent, size).await;
        assert_eq!((taken.verdict, taken.next), (Ok(()), Some(size as u64)));
        uploads.close(&place, &asked, id).await.unwrap();
        assert_eq!(depot.names().await.len(), 2, "the file and a tombstone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_is_as_old_as_the_request_for_it() {
    let depot = Depot::memory();
    let line = Line::new();
    let (place, uploads) = (place(&depot.over(&line), rules(64)), replica(KIB * KIB));
    let asked = asked("f.bin");
    let id = uploads.create(&place, asked.clone()).await.unwrap();
    let entry = uploads.0.entry(&place, id);
    let mut work = uploads.0.work(&entry, &place, &asked, id).await.unwrap();
    line.slow_down(Duration::from_secs(2));
    let begin = Uptime::now();
    work.load().await.unwrap();
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(4), "two requests");
    let by = work.deadline().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(60) - took).await;
    assert!(by.has_passed(), "the answer took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_outlasted_its_view_stores_nothing_in_a_session_that_ended() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let (data, asked) = (pattern(300), asked("f.bin"));
    let id = here.create(&place, asked.clone()).await.unwrap();
    send(&here, &place, id, &data, 0, 10).await.verdict.unwrap();
    there.cancel(&place, &asked, id).await.unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    let entry = here.0.entry(&place, id);
    let mut work = here.0.work(&entry, &place, &asked, id).await.unwrap();
    let range = ContentRange::new(10, 20, 300).unwrap();
    // The packet was let in an hour ago.
    let answer = Receiving::new(&mut work, range, 10)
        .run(0, &mut Whole::of(&data[10..20], 7))
        .await;
    assert_eq!(answer, Ok(Answer::Refused(Refusal::NotFound)));
    assert_eq!(
        store.list_session(id).await.unwrap().len(),
        1,
        "only the tombstone is left"
    );
}

#[tokio::test]
async fn bytes_that_came_after_those_that_were_acknowledged_are_never_published() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let (data, key) = (pattern(200), Key::parse("f.bin").unwrap());
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 130).await.verdict.unwrap();
    let record = store.read_record(id).await.unwrap().unwrap().record;
    let part = PartPlan::new(64, 200).part_at(0);
    let other = vec![Bytes::from(vec![0xEE; 64])];
    store
        .put_part(&key, record.upload().unwrap(), part, other)
        .await
        .unwrap();
    let refused = send(&uploads, &place, id, &data, 130, 200).await;
    assert!(matches!(refused.verdict, Err(Refused::Lost(_))), "{refused:?}");
    assert_eq!(stored(&store, "f.bin").await, None);
}

#[tokio::test]
async fn a_multipart_upload_that_came_too_late_for_its_session_is_aborted_at_once() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let (here, there) = (replica(KIB * KIB), replica(KIB * KIB));
    let id = here.create(&place, asked("f.bin")).await.unwrap();
    there.cancel(&place, &asked("f.bin"), id).await.unwrap();
    let late = send(&here, &place, id, &pattern(300), 0, 200).await;
    assert_eq!(late.verdict, Err(Refused::SessionNotFound));
    settled().await;
    let key = Key::parse("f.bin").unwrap();
    assert!(store.list_uploads(&key).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_turn_that_is_dropped_leaves_no_multipart_upload_behind() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let (data, asked, key) = (pattern(300), asked("f.bin"), Key::parse("f.bin").unwrap());
    let id = uploads.create(&place, asked.clone()).await.unwrap();
    let range = ContentRange::new(0, 200, 300).unwrap();
    let mut body = Stuck(Whole::of(&data[..100], 7));
    {
        let mut turn = std::pin::pin!(uploads.fragment(&place, &asked, id, range, &mut body));
        while store.list_uploads(&key).await.unwrap().is_empty() {
            assert!(futures::poll!(&mut turn).is_pending());
        }
    }
    settled().await;
    assert!(store.list_uploads(&key).await.unwrap().is_empty());
    assert_eq!(send(&uploads, &place, id, &data, 0, 300).await.next, Some(300));
}

#[tokio::test(start_paused = true)]
async fn a_newer_packet_does_not_wait_for_bytes_that_are_stored_already() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 50).await.verdict.unwrap();
    let hanging = tokio::spawn({
        let (uploads, place, data) = (uploads.clone(), place.clone(), data.clone());
        async move {
            let range = ContentRange::new(0, 60, 300).unwrap();
            let mut body = Stuck(Whole::of(&data[..10], 7));
            uploads.fragment(&place, &asked("f.bin"), id, range, &mut body).await
        }
    });
    settled().await;
    let newer = send(&uploads, &place, id, &data, 50, 60).await;
    assert_eq!((newer.verdict, newer.next), (Ok(()), Some(60)));
    assert!(matches!(hanging.await.unwrap().verdict, Err(Refused::Busy { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_newer_packet_does_not_wait_for_one_that_waits_for_memory() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let budget = Budget::new(4 * KIB, Duration::from_secs(600));
    let uploads = Uploads::new(budget.clone(), Arc::new(SystemClock), Metrics::new(["/"]));
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    let all = budget.try_reserve(4 * KIB);
    let packet = || {
        let (uploads, place, data) = (uploads.clone(), place.clone(), data.clone());
        tokio::spawn(async move { send(&uploads, &place, id, &data, 0, 10).await })
    };
    let older = packet();
    settled().await;
    let newer = packet();
    assert!(matches!(older.await.unwrap().verdict, Err(Refused::Busy { .. })));
    drop(all);
    assert_eq!(newer.await.unwrap().verdict, Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Packets of one session go to any replica, are repeated, overlap, run ahead; replicas are forgotten at random.
    #[test]
    fn whatever_the_packets_and_replicas_the_file_is_the_file(
        size in 1usize..400,
        part_size in 5u64..120,
        packets in proptest::collection::vec((0usize..3, -40i64..40, 1usize..150, any::<bool>()), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::memory();
            let place = place(&store, rules(part_size));
            let mut replicas: Vec<_> = (0..3).map(|_| replica(KIB * KIB)).collect();
            let data = pattern(size);
            let id = replicas[0].create(&place, asked("f.bin")).await.unwrap();
            let mut acknowledged = 0u64;
            for (who, shift, length, restart) in packets {
                let first = usize::try_from((acknowledged as i64 + shift).clamp(0, size as i64 - 1)).unwrap();
                let end = (first + length).min(size);
                let fragmented = send(&replicas[who], &place, id, &data, first, end).await;
                let next = fragmented.next.unwrap();
                // A replica whose view is stale takes what follows its own end without a look: to a client that goes back by itself it may tell
                // less than another one did. What was told stays stored all the same.
                let went_back = fragmented.verdict.is_ok() && (first as u64) < acknowledged;
                assert!(next >= acknowledged || went_back, "an acknowledged byte was taken back");
                match fragmented.verdict {
                    Ok(()) => assert!(next >= end as u64),
                    // Of two replicas that put parts at once, one may have to ask for its bytes again.
                    Err(Refused::OutOfStep) => assert!(next < end as u64),
                    Err(other) => panic!("{other:?}"),
                }
                acknowledged = acknowledged.max(next);
                assert_eq!(stored(&store, "f.bin").await.is_some(), acknowledged == size as u64);
                if restart {
                    replicas[who] = replica(KIB * KIB);
                }
            }
            let fragmented = send(&replicas[0], &place, id, &data, usize::try_from(acknowledged).unwrap().min(size - 1), size).await;
            assert_eq!((fragmented.verdict, fragmented.next), (Ok(()), Some(size as u64)));
            assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_forgotten_with_all_that_it_holds_and_goes_on_where_it_was() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let (idle, busy) = (
        uploads.create(&place, asked("f.bin")).await.unwrap(),
        uploads.create(&place, asked("f.bin")).await.unwrap(),
    );
    for id in [idle, busy] {
        send(&uploads, &place, id, &data, 0, 90).await.verdict.unwrap();
        send(&uploads, &place, id, &data, 90, 100).await.verdict.unwrap();
    }
    assert!(uploads.0.budget.used() > 0, "what is beyond the last part is held");
    // That the record was not looked at for long says nothing: tails leave it alone.
    for first in [100, 110, 120] {
        tokio::time::advance(IDLE / 2).await;
        let next = send(&uploads, &place, busy, &data, first, first + 10).await.next;
        assert_eq!(next, Some(first as u64 + 10));
    }
    uploads.forget_idle();
    assert_eq!(uploads.remembered(), 1);
    assert_eq!(send(&uploads, &place, busy, &data, 130, 250).await.next, Some(250));
    assert_eq!(send(&uploads, &place, idle, &data, 100, 300).await.next, Some(300));
    assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_bytes_are_nowhere_else_is_remembered_for_longer() {
    let store = Store::memory();
    let rules = Rules {
        durability: Durability::Part,
        coordination: Coordination::SingleReplica,
        ..rules(64)
    };
    let place = place(&store, rules);
    let uploads = replica(KIB * KIB);
    let data = pattern(300);
    let id = uploads.create(&place, asked("f.bin")).await.unwrap();
    send(&uploads, &place, id, &data, 0, 100).await.verdict.unwrap();
    tokio::time::advance(IDLE).await;
    uploads.forget_idle();
    assert_eq!(send(&uploads, &place, id, &data, 100, 110).await.next, Some(110));
    tokio::time::advance(VOLATILE_IDLE).await;
    uploads.forget_idle();
    assert_eq!(uploads.remembered(), 0);
    assert_eq!(send(&uploads, &place, id, &data, 110, 120).await.next, Some(64));
}
