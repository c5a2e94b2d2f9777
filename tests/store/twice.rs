//! How much of an upload is stored twice: as a tail, and again in a part. By the plan of the gateway itself, over a store that counts and
//! forgets the bytes of parts.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bits_gateway::bits::{ContentRange, SessionId};
use bits_gateway::budget::Budget;
use bits_gateway::clock::{SystemClock, Timestamp};
use bits_gateway::metrics::Metrics;
use bits_gateway::session::{ObjectTag, Principal, Target};
use bits_gateway::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};
use bits_gateway::store::{Bucket, CompleteError, Error, Store, Terms};
use bits_gateway::upload::{Asked, Body, BodyBroken, Checksum, Coordination, Durability, Place, Rules, Uploads};
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SIZE: u64 = 4 << 30;

/// Uploads of which the average counts, where the first fragment decides much.
const UPLOADS: u64 = 8;

/// Writes that a file takes once, for each hundred of the three hundred fragments or more that it has here.
const ONCE: u64 = 2;

/// A bucket that counts what is put into it.
#[derive(Debug)]
struct Scales {
    objects: InMemory,
    cutting: Cutting,
    tails: AtomicU64,
    writes: AtomicU64,
}

impl std::fmt::Display for Scales {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scales")
    }
}

#[async_trait]
impl Bucket for Scales {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    fn cutting(&self) -> Cutting {
        self.cutting
    }

    async fn begin(&self, _path: &Path, _session: SessionId) -> Result<UploadId, Error> {
        Ok(UploadId("the only one".to_owned()))
    }

    async fn put_part(
        &self,
        _path: &Path,
        _upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        assert_eq!(payload.content_length() as u64, part.len());
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(PartId(part.index.to_string().into()))
    }

    async fn mark(&self, _path: &Path, _upload: &UploadId) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn complete(
        &self,
        _path: &Path,
        _session: SessionId,
        _upload: &UploadId,
        parts: &[RecordedPart],
        _terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let mut from = 0;
        let lengths: Vec<u64> = parts
            .iter()
            .map(|part| part.end() - std::mem::replace(&mut from, part.end()))
            .collect();
        let (_, all_but_last) = lengths.split_last().expect("parts");
        assert!(all_but_last.iter().all(|length| *length >= 5 * MIB), "too short");
        let are_alike = all_but_last.windows(2).all(|two| two[0] == two[1]);
        assert!(are_alike || self.cutting != Cutting::Alike, "not alike");
        Ok(ObjectTag {
            size: from,
            ..ObjectTag::default()
        })
    }

    async fn abort(&self, _path: &Path, _upload: &UploadId) -> Result<(), Error> {
        Ok(())
    }

    async fn uploads(&self, _path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ObjectStore for Scales {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if path.as_ref().contains("/tail/") {
            self.tails.fetch_add(payload.content_length() as u64, Ordering::Relaxed);
        }
        self.objects.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }
}

/// What sizes the fragments of an upload have.
#[derive(Clone, Copy, Debug)]
enum Sizes {
    Constant(u64),
    /// Twice as large each time, up to this.
    Ramp(u64),
    Uniform(u64, u64),
    /// Larger and smaller by a fifth at a time, as a throttled line lets them be.
    Walk(u64, u64),
}

impl Sizes {
    fn next(self, last: Option<u64>, dice: &mut Dice) -> u64 {
        match self {
            Self::Constant(size) => size,
            Self::Ramp(most) => last.map_or(5000, |last| (2 * last).min(most)),
            Self::Uniform(least, most) => dice.within(least, most),
            Self::Walk(least, most) => {
                let last = last.unwrap_or_else(|| dice.within(least, most));
                (last * dice.within(80, 125) / 100).clamp(least, most)
            }
        }
    }
}

impl Sizes {
    /// Bytes of the smallest fragment, but for the last one.
    const fn least(self) -> u64 {
        match self {
            Self::Constant(size) => size,
            Self::Ramp(_) => 5000,
            Self::Uniform(least, _) | Self::Walk(least, _) => least,
        }
    }
}

struct Whole(Option<Bytes>);

impl Body for Whole {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        Ok(self.0.take())
    }
}

/// What came of an upload.
#[derive(Debug)]
struct Weighed {
    /// Tenths of a per cent of its bytes that were stored twice.
    twice: u64,
    /// Writes to the store for 100 fragments.
    writes: u64,
}

async fn upload(size: u64, sizes: Sizes, cutting: Cutting, seed: u64) -> Weighed {
    let scales = Arc::new(Scales {
        objects: InMemory::new(),
        cutting,
        tails: AtomicU64::new(0),
        writes: AtomicU64::new(0),
    });
    let place = Arc::new(Place {
        route: "/".to_owned(),
        store: Store::over_bucket("scales".to_owned(), Arc::<Scales>::clone(&scales), None),
        rules: Rules {
            overwrite: false,
            max_upload_size: 1 << 40,
            max_fragment_size: 64 * MIB,
            part_size: 8 * MIB,
            session_timeout: Duration::from_secs(3600),
            closed_session_memory: Duration::from_secs(3600),
            durability: Durability::Fragment,
            coordination: Coordination::Shared,
            checksum: Checksum::Off,
            checksum_sidecar: false,
        },
        application: None,
        events: None,
    });
    let uploads = Uploads::new(
        Budget::new(512 * MIB, Duration::from_secs(60)),
        Arc::new(SystemClock),
        Metrics::new(["/"]),
    );
    let asked = Asked {
        principal: Principal::anonymous(),
        target: Target {
            route: "/".to_owned(),
            key: "file".to_owned(),
            query: None,
        },
        url: "http://h/file".to_owned(),
        client: None,
    };
    let id = uploads.create(&place, asked.clone()).await.expect("a session");
    let zeros = Bytes::from(vec![0; 64 << 20]);
    let (mut at, mut count, mut last, mut dice) = (0, 0, None, Dice(seed));
    while at < size {
        let length = sizes.next(last, &mut dice);
        let end = (at + length).min(size);
        let range = ContentRange::new(at, end, size).expect("a range");
        let mut body = Whole(Some(zeros.slice(..(end - at) as usize)));
        let taken = uploads.fragment(&place, &asked, id, range, &mut body).await;
        taken.verdict.expect("it is taken");
        (at, last, count) = (end, Some(length), count + 1);
    }
    Weighed {
        twice: (scales.tails.load(Ordering::Relaxed) * 1000 + size / 2) / size,
        writes: scales.writes.load(Ordering::Relaxed) * 100 / count,
    }
}

#[tokio::test]
async fn large_fragments_are_stored_once_and_take_three_writes() {
    let mut table = String::new();
    for (name, sizes) in [
        ("13,000,000 bytes each", Sizes::Constant(13_000_000)),
        ("13 MiB each", Sizes::Constant(13 * MIB)),
        ("5 MiB each", Sizes::Constant(5 * MIB)),
        ("any from 5 to 13 MiB", Sizes::Uniform(5 * MIB, 13 * MIB)),
        ("twice as large each time, from 5 KB to 13 MB", Sizes::Ramp(13_000_000)),
        ("any from 1 to 13 MiB", Sizes::Uniform(MIB, 13 * MIB)),
        (
            "from 64 KiB to 13 MiB, as a throttle lets them",
            Sizes::Walk(64 * KIB, 13 * MIB),
        ),
    ] {
        let any = upload(SIZE, sizes, Cutting::Claimed, 1).await;
        let unclaimed = upload(SIZE, sizes, Cutting::Free, 1).await;
        let (mut alike, mut writes) = (0, 0);
        for seed in 0..UPLOADS {
            let done = upload(SIZE / 4, sizes, Cutting::Alike, seed).await;
            (alike, writes) = (alike + done.twice, writes + done.writes);
        }
        let (alike, writes) = (alike / UPLOADS, writes / UPLOADS);
        println!("{name}: {any:?}, {unclaimed:?} where nothing is claimed, {alike} and {writes} of equal parts");
        if sizes.least() >= 5 * MIB {
            for done in [&any, &unclaimed] {
                assert!(done.twice < 20 && done.writes <= 3 * 100 + ONCE, "{name}: {done:?}");
            }
            let most = if matches!(sizes, Sizes::Constant(_)) { 20 } else { 400 };
            assert!(alike < most, "{name}: {alike}");
        }
        let row = format!(
            "| {name} | {}.{} % | {}.{} % |",
            any.twice / 10,
            any.twice % 10,
            alike / 10,
            alike % 10
        );
        writeln!(table, "{row}").expect("a string");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/storage.md");
    let document = std::fs::read_to_string(path).expect("a document");
    assert!(document.contains(&table), "docs/storage.md has to say:\n{table}");
}

/// The numbers of S3 suffice for a part for each fragment, however large the fragments are on the average. Equal parts end with fragments of one
/// size; where these vary, ten thousand parts have to be as long as they are, and half a part is left over each time.
#[tokio::test]
async fn so_are_ten_thousand_of_them() {
    for (average, sizes, cutting) in [
        (9 * MIB, Sizes::Uniform(5 * MIB, 13 * MIB), Cutting::Claimed),
        (9 * MIB, Sizes::Uniform(5 * MIB, 13 * MIB), Cutting::Free),
        (13 * MIB, Sizes::Constant(13 * MIB), Cutting::Claimed),
        (13 * MIB, Sizes::Constant(13 * MIB), Cutting::Alike),
        (5 * MIB, Sizes::Constant(5 * MIB), Cutting::Claimed),
        (5 * MIB, Sizes::Constant(5 * MIB), Cutting::Alike),
    ] {
        let done = upload(10_000 * average, sizes, cutting, 7).await;
        assert!(
            done.twice < 20 && done.writes <= 3 * 100 + ONCE,
            "{sizes:?} {cutting:?}: {done:?}"
        );
    }
}
