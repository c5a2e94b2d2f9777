//! Digests of files that come in pieces, to several replicas.

use super::*;
use crate::session::Record;
use crate::staging::Sha256;
use crate::store::Version;

fn digested(part_size: u64) -> Rules {
    Rules {
        checksum: Checksum::Sha256,
        ..rules(part_size)
    }
}

async fn record(store: &Store, id: SessionId) -> Record {
    store.read_record(id).await.unwrap().unwrap().record
}

/// Sends `data` in pieces of these sizes, each to the next one of `replicas`.
async fn upload(place: &Arc<Place>, replicas: &[Uploads], data: &[u8], sizes: &[usize]) -> SessionId {
    let id = replicas[0].create(place, asked("f.bin")).await.unwrap();
    let (mut at, mut turn) = (0, 0);
    while at < data.len() || turn == 0 {
        let end = (at + sizes[turn % sizes.len()]).min(data.len());
        let sent = send(&replicas[turn % replicas.len()], place, id, data, at, end).await;
        assert_eq!(sent.verdict, Ok(()));
        at = usize::try_from(sent.next.unwrap()).unwrap();
        turn += 1;
    }
    id
}

#[tokio::test]
async fn the_digest_is_that_of_the_file_whoever_took_which_part() {
    for size in [0, 1, 63, 64, 65, 128, 129, 1000] {
        for sizes in [&[1][..], &[10, 70], &[64], &[100, 3, 200], &[1000]] {
            for replicas in [1, 2, 3] {
                let store = Store::memory();
                let place = place(&store, digested(64));
                let replicas: Vec<_> = (0..replicas).map(|_| replica(KIB * KIB)).collect();
                let data = pattern(size);
                let id = upload(&place, &replicas, &data, sizes).await;
                let record = record(&store, id).await;
                assert_eq!(record.sha256, Some(Sha256::of(&data)), "{size} bytes in {sizes:?}");
                assert_eq!(record.hashed, None);
                replicas[0].close(&place, &asked("f.bin"), id).await.unwrap();
                let tombstone = store.read_record(id).await.unwrap().unwrap().record;
                assert_eq!(tombstone.sha256, Some(Sha256::of(&data)));
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_one_part_tells_its_digest_in_its_metadata() {
    let store = Store::memory();
    let place = place(&store, digested(64));
    upload(&place, &[replica(KIB * KIB)], b"abc", &[3]).await;
    let seen = store.look(&Key::parse("f.bin").unwrap()).await.unwrap().unwrap();
    assert_eq!(seen.sha256, Some(Sha256::of(b"abc")));
}

#[tokio::test]
async fn without_a_checksum_nothing_is_kept_and_nothing_told() {
    let store = Store::memory();
    let place = place(&store, rules(64));
    let id = upload(&place, &[replica(KIB * KIB)], &pattern(200), &[100]).await;
    let record = serde_json::to_value(record(&store, id).await).unwrap();
    assert!(record.get("hashed").is_none() && record.get("sha256").is_none());
}

/// A session keeps what it began with: a route that wants a digest from now on can't have it of bytes that are gone already.
#[tokio::test]
async fn the_wish_for_a_digest_is_fixed_when_the_session_begins() {
    for (first, then) in [(rules(64), digested(64)), (digested(64), rules(64))] {
        let store = Store::memory();
        let wanted = first.checksum == Checksum::Sha256;
        let data = pattern(200);
        let uploads = replica(KIB * KIB);
        let (before, after) = (place(&store, first), place(&store, then));
        let id = uploads.create(&before, asked("f.bin")).await.unwrap();
        send(&uploads, &before, id, &data, 0, 100).await.verdict.unwrap();
        send(&uploads, &after, id, &data, 100, 200).await.verdict.unwrap();
        assert_eq!(record(&store, id).await.sha256, wanted.then(|| Sha256::of(&data)));
    }
}

async fn rewrite(store: &Store, record: &Record, version: &Version) {
    let record = record.clone().stamped(random_id(), SystemClock.now());
    store.replace_record(&record, version).await.unwrap();
}

/// A version that does not know the digest lists parts, and leaves the state where it was.
#[tokio::test]
async fn a_digest_that_fell_behind_is_given_up_and_the_file_is_whole() {
    let store = Store::memory();
    let place = place(&store, digested(64));
    let data = pattern(300);
    let id = replica(KIB * KIB).create(&place, asked("f.bin")).await.unwrap();
    send(&replica(KIB * KIB), &place, id, &data, 0, 64)
        .await
        .verdict
        .unwrap();
    let state = record(&store, id).await.hashed;
    assert_eq!(state.as_ref().map(crate::staging::Hashed::at), Some(64));
    send(&replica(KIB * KIB), &place, id, &data, 64, 130)
        .await
        .verdict
        .unwrap();
    let stored = store.read_record(id).await.unwrap().unwrap();
    let older = Record {
        hashed: state,
        ..stored.record
    };
    rewrite(&store, &older, &stored.version).await;
    send(&replica(KIB * KIB), &place, id, &data, 130, 300)
        .await
        .verdict
        .unwrap();
    assert_eq!(super::stored(&store, "f.bin").await.unwrap(), data);
    let record = record(&store, id).await;
    assert_eq!((record.hashed, record.sha256), (None, None));
}

/// The state of the hash is what another replica wrote. One that does not fit its offset is none.
#[tokio::test]
async fn a_state_that_is_damaged_costs_the_digest_and_nothing_else() {
    let store = Store::memory();
    let place = place(&store, digested(64));
    let data = pattern(300);
    let id = replica(KIB * KIB).create(&place, asked("f.bin")).await.unwrap();
    send(&replica(KIB * KIB), &place, id, &data, 0, 70)
        .await
        .verdict
        .unwrap();
    let stored = store.read_record(id).await.unwrap().unwrap();
    let mut damaged = stored.record.clone();
    damaged.hashed = serde_json::from_str(r#"{"at":64,"state":"00ff"}"#).unwrap();
    rewrite(&store, &damaged, &stored.version).await;
    send(&replica(KIB * KIB), &place, id, &data, 70, 300)
        .await
        .verdict
        .unwrap();
    assert_eq!(super::stored(&store, "f.bin").await.unwrap(), data);
    assert_eq!(record(&store, id).await.sha256, None);
}

/// A body that is all there, and ends when it is told to.
struct Held<'n>(Whole, &'n tokio::sync::Notify);

impl Body for Held<'_> {
    async fn next(&mut self, wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if let Some(chunk) = self.0.next(wanted).await? {
            return Ok(Some(chunk));
        }
        self.1.notified().await;
        Ok(None)
    }
}

/// A turn whose parts another replica recorded first: what it hashed before its next part may be other bytes than those.
#[tokio::test]
async fn a_digest_never_covers_bytes_that_were_not_recorded() {
    for same in [true, false] {
        let store = Store::memory();
        let place = place(&store, digested(16));
        let (slow, quick) = (replica(KIB * KIB), replica(KIB * KIB));
        let data = pattern(100);
        let mut theirs = data.clone();
        if !same {
            theirs[16..48].fill(0xEE);
        }
        let id = quick.create(&place, asked("f.bin")).await.unwrap();
        send(&quick, &place, id, &data, 0, 16).await.verdict.unwrap();
        let end = tokio::sync::Notify::new();
        let mut body = Held(Whole::of(&theirs[16..80], 7), &end);
        let range = ContentRange::new(16, 80, 100).unwrap();
        let asked = asked("f.bin");
        let (slow, ()) = tokio::join!(slow.fragment(&place, &asked, id, range, &mut body), async {
            // Both of its parts are claimed and put by then.
            settled().await;
            send(&quick, &place, id, &data, 16, 48).await.verdict.unwrap();
            end.notify_one();
        });
        assert_eq!((slow.verdict, slow.next), (Ok(()), Some(80)));
        send(&quick, &place, id, &data, 80, 100).await.verdict.unwrap();
        assert_eq!(stored(&store, "f.bin").await.unwrap(), data);
        // Where they were the same, nothing is lost.
        assert_eq!(record(&store, id).await.sha256, same.then(|| Sha256::of(&data)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_a_file_is_cut_its_digest_is_the_same(
        size in 0usize..700, part_size in 1u64..200, sizes in proptest::collection::vec(1usize..300, 1..6), replicas in 1usize..4
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let digest = runtime.block_on(async {
            let store = Store::memory();
            let place = place(&store, digested(part_size));
            let replicas: Vec<_> = (0..replicas).map(|_| replica(KIB * KIB)).collect();
            let id = upload(&place, &replicas, &pattern(size), &sizes).await;
            record(&store, id).await.sha256
        });
        prop_assert_eq!(digest, Some(Sha256::of(&pattern(size))));
    }
}

fn beside(part_size: u64, overwrite: bool) -> Rules {
    Rules {
        checksum_sidecar: true,
        overwrite,
        ..digested(part_size)
    }
}

fn line(data: &[u8]) -> Option<Vec<u8>> {
    Some(format!("{}  f.bin\n", Sha256::of(data)).into_bytes())
}

#[tokio::test]
async fn the_digest_lies_beside_the_file_as_sha256sum_writes_it() {
    for size in [0, 3, 200] {
        let store = Store::memory();
        let place = place(&store, beside(64, true));
        let data = pattern(size);
        upload(&place, &[replica(KIB * KIB)], &data, &[100]).await;
        assert_eq!(stored(&store, "f.bin.sha256").await, line(&data), "{size}");
        let other: Vec<u8> = data.iter().map(|byte| byte ^ 1).chain([1]).collect();
        upload(&place, &[replica(KIB * KIB)], &other, &[100]).await;
        assert_eq!(stored(&store, "f.bin.sha256").await, line(&other), "{size}, replaced");
    }
}

/// A crash at any request, and the retry elsewhere: at every moment the sidecar is that of the file, or missing.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_leaves_no_wrong_digest_beside_a_file() {
    for size in [50, 200] {
        let (old, new) = (pattern(size), pattern(size + 1));
        for crash in 0.. {
            let (depot, way) = (Depot::memory(), Line::new());
            let (truth, broken) = (depot.store(), depot.over(&way));
            upload(&place(&truth, beside(64, true)), &[replica(KIB * KIB)], &old, &[size]).await;
            let fresh = replica(KIB * KIB);
            let id = fresh
                .create(&place(&truth, beside(64, true)), asked("f.bin"))
                .await
                .unwrap();
            way.cut_after(crash);
            let place_of = |store: &Store| place(store, beside(64, true));
            let sent = send(&replica(KIB * KIB), &place_of(&broken), id, &new, 0, new.len()).await;
            let sidecar = stored(&truth, "f.bin.sha256").await;
            let file = stored(&truth, "f.bin").await.unwrap();
            assert!(
                sidecar.is_none() || sidecar == line(&file),
                "cut after {crash} requests"
            );
            if sent.verdict.is_ok() {
                assert_eq!(sidecar, line(&new), "acknowledged without its digest");
                assert!(crash > 3);
                break;
            }
            let again = send(&fresh, &place_of(&truth), id, &new, 0, new.len()).await;
            assert_eq!(again.verdict, Ok(()));
            assert_eq!(
                stored(&truth, "f.bin.sha256").await,
                line(&new),
                "cut after {crash} requests"
            );
        }
    }
}

#[tokio::test]
async fn nobody_uploads_a_digest_and_every_file_has_room_for_one() {
    let store = Store::memory();
    let place = place(&store, beside(64, false));
    let uploads = replica(KIB * KIB);
    for key in ["f.sha256", "dir/f.bin.SHA256", &"k".repeat(250)] {
        let refused = uploads.create(&place, asked(key)).await;
        assert!(
            matches!(refused, Err(Refused::InvalidArgument(_))),
            "{key}: {refused:?}"
        );
    }
    uploads.create(&place, asked(&"k".repeat(240))).await.unwrap();
}

/// The loser of a race leaves the digest of the winner alone.
#[tokio::test]
async fn an_upload_that_is_refused_takes_no_digest_away() {
    let store = Store::memory();
    let place = place(&store, beside(64, false));
    let uploads = replica(KIB * KIB);
    let (winner, loser) = (pattern(10), pattern(20));
    let late = uploads.create(&place, asked("f.bin")).await.unwrap();
    upload(&place, &[replica(KIB * KIB)], &winner, &[10]).await;
    let refused = send(&uploads, &place, late, &loser, 0, 20).await;
    assert_eq!(refused.verdict, Err(Refused::Exists));
    assert_eq!(stored(&store, "f.bin.sha256").await, line(&winner));
}
