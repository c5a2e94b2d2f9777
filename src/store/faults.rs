//! A store that loses answers and refuses without reason, and what is left certain all the same.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use uuid::Uuid;

use super::bucket::Bucket;
use super::keys::Layout;
use super::memory::MemoryBucket;
use super::{CompleteError, DEFAULT_RESERVED, Error, Key, Store, Terms};
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{Before, ObjectTag, Phase, Principal, RECORD_VERSION, Record, Staged, Target};
use crate::staging::{Cuts, Cutting, MAX_CLAIMS, PartId, PartRange, RecordedPart, UploadId};

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// It is carried out, and the answer is lost.
    Lost,
    /// It is carried out and its repeat is refused, as when object_store repeats a lost write by itself.
    Echoed,
    /// It is not carried out, and answered 409.
    Refused,
    /// It is not carried out, and not answered.
    Unanswered,
    /// It is not carried out, and answered 403.
    Denied,
}

/// A bucket in memory on which the next puts and gets fail as they are told to.
#[derive(Debug, Default)]
struct Faulty {
    bucket: MemoryBucket,
    puts: Mutex<VecDeque<Fault>>,
    gets: Mutex<VecDeque<Fault>>,
}

impl Faulty {
    /// A store over such a bucket, and the bucket.
    fn store() -> (Store, Arc<Self>) {
        let faulty = Arc::new(Self::default());
        let bucket: Arc<dyn Bucket> = faulty.clone();
        let layout = Layout::new("", "", DEFAULT_RESERVED).unwrap();
        (
            Store::over("faulty".to_owned(), Arc::clone(&bucket), bucket, layout, None, None),
            faulty,
        )
    }

    fn on_puts(&self, faults: &[Fault]) {
        *self.puts.lock().unwrap() = faults.iter().copied().collect();
    }

    fn on_gets(&self, faults: &[Fault]) {
        *self.gets.lock().unwrap() = faults.iter().copied().collect();
    }

    fn inner(&self) -> &dyn ObjectStore {
        self.bucket.objects()
    }
}

fn unanswered() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "operation timed out".into(),
    }
}

fn refused(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists {
        path: path.to_string(),
        source: "409".into(),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.puts.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let put = self.inner().put_opts(location, payload.clone(), options.clone());
        match fault {
            Fault::None => put.await,
            Fault::Lost => put.await.and(Err(unanswered())),
            Fault::Echoed => {
                put.await?;
                self.inner().put_opts(location, payload, options).await
            }
            Fault::Refused => Err(refused(location)),
            Fault::Unanswered => Err(unanswered()),
            Fault::Denied => Err(object_store::Error::PermissionDenied {
                path: location.to_string(),
                source: "403".into(),
            }),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.gets.lock().unwrap().pop_front();
        match fault {
            None | Some(Fault::None) => self.inner().get_opts(location, options).await,
            Some(_) => Err(unanswered()),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner().put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner().delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner().list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner().copy_opts(from, to, options).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl Bucket for Faulty {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    fn cutting(&self) -> Cutting {
        self.bucket.cutting()
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        self.bucket.begin(path, session).await
    }

    async fn put_part(&self, path: &Path, id: &UploadId, part: PartRange, bytes: PutPayload) -> Result<PartId, Error> {
        self.bucket.put_part(path, id, part, bytes).await
    }

    async fn mark(&self, path: &Path, upload: &UploadId) -> Result<Option<String>, Error> {
        self.bucket.mark(path, upload).await
    }

    /// Completes whatever the destination is, as a store does that ignores conditions.
    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let now = super::objects::look_at(self.inner(), path).await?;
        let before = now.map_or(Before::Absent, |seen| Before::Present(seen.tag));
        let terms = Terms {
            before: &before,
            ..terms
        };
        self.bucket.complete(path, session, upload, parts, terms, mark).await
    }

    async fn abort(&self, path: &Path, upload: &UploadId) -> Result<(), Error> {
        self.bucket.abort(path, upload).await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        self.bucket.uploads(path).await
    }
}

/// Faults after which a conditional write that holds has succeeded in the end.
const PASSING: [&[Fault]; 7] = [
    &[Fault::Lost],
    &[Fault::Echoed],
    &[Fault::Refused],
    &[Fault::Unanswered],
    &[Fault::Refused, Fault::Unanswered, Fault::Refused],
    &[Fault::Unanswered, Fault::Lost],
    &[Fault::Refused, Fault::Echoed],
];

fn key() -> Key {
    Key::parse("file").unwrap()
}

fn bytes(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

fn id() -> SessionId {
    SessionId::new(random_id())
}

fn record(id: SessionId, total: Option<u64>) -> Record {
    Record {
        version: RECORD_VERSION,
        min_reader: RECORD_VERSION,
        write: random_id(),
        id,
        principal: Principal::anonymous(),
        target: Target {
            route: "/".to_owned(),
            key: "file".to_owned(),
            query: None,
        },
        url: String::new(),
        part_size: 1,
        max_upload_size: 1,
        overwrite: false,
        application: false,
        events: None,
        before: Before::Absent,
        total,
        hashed: None,
        sha256: None,
        phase: Phase::Open(Staged::default()),
        created: Timestamp::default(),
        written: Timestamp::default(),
        unknown: serde_json::Map::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_created_in_spite_of_passing_faults() {
    for faults in PASSING {
        let (store, faulty) = Faulty::store();
        let record = record(id(), None);
        faulty.on_puts(faults);
        let version = store
            .create_record(&record)
            .await
            .unwrap_or_else(|error| panic!("{faults:?}: {error}"));
        let stored = store.read_record(record.id).await.unwrap().unwrap();
        assert_eq!(stored.record, record);
        assert!(stored.version.same_as(&version), "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_replaced_in_spite_of_passing_faults() {
    for faults in PASSING {
        for looks in [
            &[][..],
            &[Fault::Unanswered],
            &[Fault::Unanswered, Fault::None, Fault::Unanswered],
        ] {
            let (store, faulty) = Faulty::store();
            let old = record(id(), None);
            let over = store.create_record(&old).await.unwrap();
            let new = record(old.id, Some(1));
            faulty.on_puts(faults);
            faulty.on_gets(looks);
            let version = store.replace_record(&new, &over).await;
            let version = version.unwrap_or_else(|error| panic!("{faults:?} {looks:?}: {error}"));
            faulty.on_gets(&[]);
            let stored = store.read_record(old.id).await.unwrap().unwrap();
            assert_eq!(stored.record, new);
            assert!(stored.version.same_as(&version), "{faults:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_somebody_else_changed_is_a_conflict_however_unclear_the_answers_are() {
    for faults in [
        &[Fault::None][..],
        &[Fault::Unanswered],
        &[Fault::Refused],
        &[Fault::Lost],
    ] {
        let (store, faulty) = Faulty::store();
        let first = record(id(), None);
        let over = store.create_record(&first).await.unwrap();
        let theirs = record(first.id, Some(1));
        store.replace_record(&theirs, &over).await.unwrap();
        faulty.on_puts(faults);
        let result = store.replace_record(&record(first.id, Some(2)), &over).await;
        assert!(matches!(result, Err(Error::Conflict)), "{faults:?}: {result:?}");
        assert_eq!(store.read_record(first.id).await.unwrap().unwrap().record, theirs);
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_unclear_is_unavailable_after_a_bounded_time() {
    let (store, faulty) = Faulty::store();
    let old = record(id(), None);
    let over = store.create_record(&old).await.unwrap();
    let begin = tokio::time::Instant::now();
    for fault in [Fault::Unanswered, Fault::Refused] {
        faulty.on_puts(&[fault; 100]);
        let result = store.replace_record(&record(old.id, Some(1)), &over).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        faulty.on_puts(&[fault; 100]);
        let result = store.create_tail(old.id, 0, bytes("abc")).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        faulty.on_puts(&[fault; 100]);
        let result = store
            .put_file(&key(), old.id, bytes("abc"), Terms::whenever(&Before::Absent))
            .await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        // Nor does a look that fails for ever make it certain.
        faulty.on_gets(&[Fault::Unanswered; 100]);
        let result = store.replace_record(&record(old.id, Some(1)), &over).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
        faulty.on_gets(&[]);
    }
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
    assert!(faulty.puts.lock().unwrap().len() >= 90, "a bounded number of attempts");
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_not_tried_again() {
    let (store, faulty) = Faulty::store();
    let record = record(id(), None);
    for attempt in 0..3 {
        faulty.on_puts(&[Fault::Denied, Fault::None]);
        let error = match attempt {
            0 => store.create_record(&record).await.unwrap_err(),
            1 => store.create_tail(record.id, 0, bytes("abc")).await.unwrap_err(),
            _ => store
                .put_file(&key(), record.id, bytes("abc"), Terms::whenever(&Before::Absent))
                .await
                .unwrap_err(),
        };
        assert!(matches!(error, Error::Denied(_)), "{error:?}");
        assert_eq!(faulty.puts.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_is_created_in_spite_of_passing_faults() {
    for faults in PASSING {
        let (store, faulty) = Faulty::store();
        let id = id();
        faulty.on_puts(faults);
        store
            .create_tail(id, 5, bytes("mine"))
            .await
            .unwrap_or_else(|error| panic!("{faults:?}: {error}"));
        assert_eq!(store.read_tail(id, 5).await.unwrap().concat(), b"mine");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_tail_is_never_taken_for_ones_own() {
    for faults in [
        &[Fault::None][..],
        &[Fault::Unanswered],
        &[Fault::Refused],
        &[Fault::Lost],
    ] {
        for theirs in ["them", "mine and more", "min", ""] {
            let (store, faulty) = Faulty::store();
            let id = id();
            store.create_tail(id, 5, bytes(theirs)).await.unwrap();
            faulty.on_puts(faults);
            let result = store.create_tail(id, 5, bytes("mine")).await;
            assert!(
                matches!(result, Err(Error::Conflict)),
                "{faults:?} {theirs}: {result:?}"
            );
            assert_eq!(store.read_tail(id, 5).await.unwrap().concat(), theirs.as_bytes());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_published_in_spite_of_passing_faults() {
    for faults in PASSING {
        for before_there_is in [None, Some("old")] {
            let (store, faulty) = Faulty::store();
            let before = match before_there_is {
                None => Before::Absent,
                Some(old) => Before::Present(
                    store
                        .put_file(&key(), id(), bytes(old), Terms::whenever(&Before::Absent))
                        .await
                        .unwrap(),
                ),
            };
            faulty.on_puts(faults);
            let session = id();
            let tag = store
                .put_file(&key(), session, bytes("new"), Terms::whenever(&before))
                .await;
            let tag = tag.unwrap_or_else(|error| panic!("{faults:?} {before_there_is:?}: {error}"));
            let seen = store.look(&key()).await.unwrap().unwrap();
            assert_eq!((seen.tag, seen.session), (tag, Some(session)), "{faults:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_file_is_never_replaced_nor_taken_for_ones_own() {
    for faults in [
        &[Fault::None][..],
        &[Fault::Unanswered],
        &[Fault::Refused],
        &[Fault::Lost],
    ] {
        let (store, faulty) = Faulty::store();
        // The same bytes, but another session's.
        let theirs = store
            .put_file(&key(), id(), bytes("same"), Terms::whenever(&Before::Absent))
            .await
            .unwrap();
        faulty.on_puts(faults);
        let result = store
            .put_file(&key(), id(), bytes("same"), Terms::whenever(&Before::Absent))
            .await;
        assert!(matches!(result, Err(Error::Conflict)), "{faults:?}: {result:?}");
        assert_eq!(store.look(&key()).await.unwrap().unwrap().tag, theirs);
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_session_is_kept_the_same_bytes_are_ones_own() {
    let (store, faulty) = Faulty::store();
    let path = Path::from("file");
    faulty
        .inner()
        .put_opts(&path, "same".into(), PutOptions::default())
        .await
        .unwrap();
    let tag = store
        .put_file(&key(), id(), bytes("same"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(tag, store.look(&key()).await.unwrap().unwrap().tag);
    let result = store
        .put_file(&key(), id(), bytes("rest"), Terms::whenever(&Before::Absent))
        .await;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
}

#[tokio::test]
async fn a_store_that_completes_whatever_is_there_is_found_out_and_then_looked_at_first() {
    let (store, _) = Faulty::store();
    let found = store.probe().await.unwrap();
    assert!(found.conditional_create && found.compare_and_swap && found.multipart && !found.conditional_complete);
    let refused = found.suffice(true).unwrap_err().to_string();
    assert!(refused.contains("only if the destination is unchanged"), "{refused}");
    assert!(refused.contains("single-replica"), "{refused}");
    found.suffice(false).unwrap();

    let session = id();
    let upload = store.begin(&key(), session).await.unwrap();
    let part = PartRange {
        index: 0,
        from: 0,
        to: 3,
    };
    let parts = [RecordedPart(
        store.put_part(&key(), &upload, part, bytes("abc")).await.unwrap(),
        3,
    )];
    store
        .put_file(&key(), id(), bytes("theirs"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    let result = store
        .complete(&key(), session, &upload, &parts, Terms::whenever(&Before::Absent), None)
        .await;
    assert!(matches!(result, Err(CompleteError::Changed)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_says_that_it_does_not_know_rather_than_that_a_store_is_bad() {
    let (store, faulty) = Faulty::store();
    faulty.on_puts(&[Fault::Unanswered]);
    let unclear = store.probe().await.unwrap_err();
    assert!(
        matches!(unclear, super::ProbeError::Unclear(Error::Unavailable(_))),
        "{unclear}"
    );
    faulty.on_puts(&[Fault::Denied]);
    let unclear = store.probe().await.unwrap_err();
    assert!(
        matches!(unclear, super::ProbeError::Unclear(Error::Denied(_))),
        "{unclear}"
    );
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind() {
    use futures::stream::TryStreamExt;

    let (store, faulty) = Faulty::store();
    store.probe().await.unwrap();
    let left: Vec<ObjectMeta> = faulty.inner().list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let path = store.layout().probe_destination(Uuid::nil(), "parts");
    assert!(faulty.bucket.uploads(&path).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_refused_with_the_way_out() {
    let (store, faulty) = Faulty::store();
    let record = record(id(), None);
    store.create_record(&record).await.unwrap();
    let path = store.layout().object(record.id, &super::Name::Record);
    let mut newer = serde_json::to_value(&record).unwrap();
    newer["min_reader"] = (RECORD_VERSION + 1).into();
    newer["phase"] = "a phase to come".into();
    let body = PutPayload::from(newer.to_string());
    faulty
        .inner()
        .put_opts(&path, body, PutOptions::default())
        .await
        .unwrap();
    let error = store.read_record(record.id).await.unwrap_err();
    assert!(matches!(error, Error::Newer(_)));
    assert!(error.to_string().contains("upgrade this replica"), "{error}");
}

#[tokio::test]
async fn unknown_fields_of_a_record_survive_a_rewrite() {
    let (store, faulty) = Faulty::store();
    let record = record(id(), None);
    store.create_record(&record).await.unwrap();
    let path = store.layout().object(record.id, &super::Name::Record);
    let mut newer = serde_json::to_value(&record).unwrap();
    newer["to_come"] = "kept".into();
    let body = PutPayload::from(newer.to_string());
    faulty
        .inner()
        .put_opts(&path, body, PutOptions::default())
        .await
        .unwrap();
    let mut read = store.read_record(record.id).await.unwrap().unwrap();
    read.record.write = random_id();
    store.replace_record(&read.record, &read.version).await.unwrap();
    let again = store.read_record(record.id).await.unwrap().unwrap();
    assert_eq!(again.record.unknown["to_come"], "kept");
}

#[tokio::test]
async fn a_record_that_would_not_fit_is_refused() {
    let (store, _) = Faulty::store();
    let mut large = record(id(), None);
    large.url = "x".repeat(super::LARGEST_RECORD);
    assert!(matches!(store.create_record(&large).await, Err(Error::Corrupt(_))));
    // 200 parts with the longest ids, every page of 10,000 parts, and a long URL do fit.
    let mut full = record(id(), Some(1 << 40));
    let part = |at: u64| RecordedPart(PartId("0123456789abcdef0123456789abcdef".into()), (1 << 40) + at);
    full.phase = Phase::Open(Staged {
        upload: Some(UploadId("u".repeat(200))),
        pages: (0..50).map(|at| super::keys::page_name(at, random_id())).collect(),
        paged: 1 << 40,
        parts: (0..200).map(part).collect(),
        cuts: Some(Cuts {
            largest: 1 << 40,
            claims: vec![1 << 40; MAX_CLAIMS],
        }),
    });
    full.url = "u".repeat(2048);
    store.create_record(&full).await.unwrap();
}
