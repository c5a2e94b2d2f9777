//! What every store must do, whatever it is made of.

use std::future::Future;
use std::time::Duration;

use bits_gateway::bits::SessionId;
use bits_gateway::clock::{Deadline, Timestamp, Uptime, random_id};
use bits_gateway::session::{Before, ObjectTag, Phase, Principal, RECORD_VERSION, Record, Staged, Tails, Target};
use bits_gateway::staging::{PartRange, RecordedPart, UploadId};
use bits_gateway::store::{CompleteError, Copied, Error, Key, Name, Store, Terms};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::TryStreamExt;

/// The smallest part that S3 takes in the middle of an upload.
const PART: usize = 5 << 20;

type Behaviour = fn(Store) -> BoxFuture<'static, ()>;

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |store| $name(store).boxed())),*] };
}

/// In the order in which they are best understood.
const BEHAVIOURS: &[(&str, Behaviour)] = behaviours![
    a_record_is_created_once,
    a_record_is_replaced_only_over_the_version_that_was_read,
    a_record_that_was_removed_is_not_replaced,
    of_eight_racing_writers_of_a_record_one_wins,
    a_tombstone_is_removed_only_at_the_version_that_was_read,
    a_tail_is_created_once,
    of_eight_racing_tails_one_is_stored,
    an_empty_list_of_chunks_is_an_empty_tail,
    tails_are_listed_by_offset_and_length,
    a_load_shows_record_and_tails,
    pages_come_back_as_they_were_written,
    sessions_are_listed_with_their_records,
    objects_of_a_session_are_listed_and_removed,
    parts_come_in_any_order,
    a_part_that_is_stored_twice_counts_once,
    a_completion_creates_only_what_is_absent,
    a_completion_replaces_only_what_was_there,
    a_completion_whose_answer_was_lost_is_repeated,
    an_unknown_upload_is_told_apart,
    an_upload_that_lost_some_of_its_parts_was_not_completed,
    unfinished_uploads_are_listed_by_their_key,
    an_unfinished_upload_stands_in_nobodys_way,
    a_small_file_is_created_only_where_nothing_is,
    a_small_file_replaces_only_what_was_there,
    a_small_file_whose_answer_was_lost_is_repeated,
    an_empty_file_is_a_file,
    of_eight_racing_files_one_is_published,
    nothing_is_published_after_its_deadline,
    an_object_is_read_whole_and_in_ranges,
    an_object_that_changed_is_not_read_as_the_old_one,
    odd_names_are_kept_as_they_are,
    an_object_of_a_session_is_copied_to_its_destination,
    a_copy_replaces_only_what_was_there,
    a_copy_of_what_is_gone_makes_nothing,
    the_store_tells_its_time,
    of_eight_sweepers_one_is_elected,
];

/// Holds every behaviour against a store of its own from `fresh`, and tells of all that fail.
pub(crate) async fn hold<F: Future<Output = Store>>(fresh: impl Fn() -> F) {
    let mut failed = Vec::new();
    for (name, behaviour) in BEHAVIOURS {
        let store = fresh().await;
        if tokio::spawn(behaviour(store)).await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "the store lacks: {failed:#?}");
}

fn id() -> SessionId {
    SessionId::new(random_id())
}

fn key(name: &str) -> Key {
    Key::parse(name).expect("a good key")
}

fn record(id: SessionId) -> Record {
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
        url: "http://localhost/file".to_owned(),
        part_size: 8 << 20,
        max_upload_size: 1 << 40,
        overwrite: false,
        application: false,
        events: None,
        before: Before::Absent,
        total: None,
        hashed: None,
        sha256: None,
        phase: Phase::Open(Staged::default()),
        created: Timestamp::from_millis(1),
        written: Timestamp::from_millis(1),
        unknown: serde_json::Map::new(),
    }
}

/// The record with a total, as a new logical write.
fn changed(record: &Record, total: u64) -> Record {
    Record {
        write: random_id(),
        total: Some(total),
        ..record.clone()
    }
}

fn chunks(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

/// `length` bytes that differ from place to place and from seed to seed, in several chunks.
fn noise(seed: u8, length: usize) -> Vec<Bytes> {
    let bytes: Vec<u8> = (0..length).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect();
    let bytes = Bytes::from(bytes);
    (0..length)
        .step_by(1 << 20)
        .map(|at| bytes.slice(at..length.min(at + (1 << 20))))
        .collect()
}

async fn content(store: &Store, key: &Key) -> Vec<u8> {
    let read = store.read(key, None, None).await.expect("the object is there");
    let chunks: Vec<Bytes> = read.stream.try_collect().await.expect("its bytes come");
    chunks.concat()
}

async fn put(store: &Store, key: &Key, text: &str) {
    let before = match store.look(key).await.unwrap() {
        Some(seen) => Before::Present(seen.tag),
        None => Before::Absent,
    };
    store
        .put_file(key, id(), chunks(text), Terms::whenever(&before))
        .await
        .unwrap();
}

/// Makes the file of a session, of so many bytes.
async fn sealed(store: &Store, length: usize) -> (SessionId, Key, ObjectTag, Vec<u8>) {
    let session = id();
    let entity = Key::entity(session);
    let bytes = noise(7, length);
    let terms = Terms::whenever(&Before::Absent);
    let tag = store.put_file(&entity, session, bytes.clone(), terms).await.unwrap();
    (session, entity, tag, bytes.concat())
}

async fn an_object_of_a_session_is_copied_to_its_destination(store: Store) {
    for length in [0, 10, PART, 2 * PART + 99] {
        let (session, entity, tag, bytes) = sealed(&store, length).await;
        assert!(
            store
                .list_session(session)
                .await
                .unwrap()
                .iter()
                .any(|object| object.name == Name::Other("entity".to_owned()))
        );
        let to = key(&format!("some folder/ü+%&{length}"));
        // Repeated, as after a crash between the copy and the record.
        for _ in 0..2 {
            let terms = Terms::whenever(&Before::Absent);
            let copied = store
                .copy((&entity, &tag), &to, session, PART as u64, terms)
                .await
                .unwrap();
            assert!(matches!(copied, Copied::Yes(_)), "{length}: {copied:?}");
        }
        assert!(content(&store, &to).await == bytes, "{length}");
        assert!(content(&store, &entity).await == bytes, "{length}");
        assert!(store.list_uploads(&to).await.unwrap().is_empty());
    }
}

async fn a_copy_replaces_only_what_was_there(store: Store) {
    for length in [10, PART + 1] {
        let (session, entity, tag, bytes) = sealed(&store, length).await;
        let to = key(&format!("file {length}"));
        put(&store, &to, "old").await;
        let before = store.before_copy(&to, false).await.unwrap();
        let copied = store
            .copy((&entity, &tag), &to, session, PART as u64, Terms::whenever(&before))
            .await;
        assert_eq!(copied.unwrap(), Copied::Displaced);
        let before = store.before_copy(&to, true).await.unwrap();
        put(&store, &to, "new").await;
        let copied = store
            .copy((&entity, &tag), &to, session, PART as u64, Terms::whenever(&before))
            .await;
        assert_eq!(copied.unwrap(), Copied::Displaced);
        assert_eq!(content(&store, &to).await, b"new");
        let before = store.before_copy(&to, true).await.unwrap();
        let copied = store
            .copy((&entity, &tag), &to, session, PART as u64, Terms::whenever(&before))
            .await;
        assert!(matches!(copied.unwrap(), Copied::Yes(_)));
        assert!(content(&store, &to).await == bytes);
    }
}

async fn a_copy_of_what_is_gone_makes_nothing(store: Store) {
    for length in [10, PART + 1] {
        let (session, entity, tag, _) = sealed(&store, length).await;
        store
            .remove(session, vec![Name::Other("entity".to_owned())])
            .await
            .unwrap();
        let to = key("nothing");
        let terms = Terms::whenever(&Before::Absent);
        let copied = store
            .copy((&entity, &tag), &to, session, PART as u64, terms)
            .await
            .unwrap();
        assert_eq!(copied, Copied::Gone);
        assert!(store.look(&to).await.unwrap().is_none());
        assert!(store.list_uploads(&to).await.unwrap().is_empty());
    }
}

async fn a_record_is_created_once(store: Store) {
    let first = record(id());
    assert!(store.read_record(first.id).await.unwrap().is_none());
    let version = store.create_record(&first).await.unwrap();
    let stored = store.read_record(first.id).await.unwrap().unwrap();
    assert_eq!(stored.record, first);
    assert!(stored.version.same_as(&version));
    assert!(stored.modified > Timestamp::default());
    assert!(matches!(
        store.create_record(&changed(&first, 1)).await,
        Err(Error::Conflict)
    ));
    assert_eq!(store.read_record(first.id).await.unwrap().unwrap().record, first);
}

async fn a_record_is_replaced_only_over_the_version_that_was_read(store: Store) {
    let first = record(id());
    let old = store.create_record(&first).await.unwrap();
    let second = changed(&first, 1);
    let new = store.replace_record(&second, &old).await.unwrap();
    assert!(!new.same_as(&old));
    assert!(matches!(
        store.replace_record(&changed(&first, 2), &old).await,
        Err(Error::Conflict)
    ));
    let third = changed(&second, 3);
    store.replace_record(&third, &new).await.unwrap();
    assert_eq!(store.read_record(first.id).await.unwrap().unwrap().record, third);
    // The version that a reader got is as good as the one that a writer got.
    let read = store.read_record(first.id).await.unwrap().unwrap().version;
    store.replace_record(&changed(&third, 4), &read).await.unwrap();
}

async fn a_record_that_was_removed_is_not_replaced(store: Store) {
    let first = record(id());
    let version = store.create_record(&first).await.unwrap();
    store.remove_record(first.id, None).await.unwrap();
    assert!(matches!(
        store.replace_record(&changed(&first, 1), &version).await,
        Err(Error::Conflict)
    ));
    assert!(store.read_record(first.id).await.unwrap().is_none());
}

async fn of_eight_racing_writers_of_a_record_one_wins(store: Store) {
    let first = record(id());
    let version = store.create_record(&first).await.unwrap();
    let candidates: Vec<Record> = (0..8).map(|total| changed(&first, total)).collect();
    let results = join_all(candidates.iter().map(|next| store.replace_record(next, &version))).await;
    let winners: Vec<usize> = (0..8).filter(|&at| results[at].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    let stored = store.read_record(first.id).await.unwrap().unwrap();
    assert_eq!(stored.record, candidates[winners[0]]);
}

async fn a_tombstone_is_removed_only_at_the_version_that_was_read(store: Store) {
    let first = record(id());
    let old = store.create_record(&first).await.unwrap();
    let new = store.replace_record(&changed(&first, 1), &old).await.unwrap();
    assert!(matches!(
        store.remove_record(first.id, Some(&old)).await,
        Err(Error::Conflict)
    ));
    store.remove_record(first.id, Some(&new)).await.unwrap();
    assert!(store.read_record(first.id).await.unwrap().is_none());
    store.remove_record(first.id, Some(&new)).await.unwrap();
    store.remove_record(first.id, None).await.unwrap();
}

async fn a_tail_is_created_once(store: Store) {
    let id = id();
    assert_eq!(store.tail_length(id, 0).await.unwrap(), None);
    assert!(matches!(store.read_tail(id, 0).await, Err(Error::NotFound)));
    store
        .create_tail(id, 0, vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")])
        .await
        .unwrap();
    assert_eq!(store.tail_length(id, 0).await.unwrap(), Some(4));
    // The same bytes again, cut elsewhere: nothing is lost by calling that a success.
    store
        .create_tail(id, 0, vec![Bytes::from_static(b"a"), Bytes::from_static(b"bcd")])
        .await
        .unwrap();
    for other in ["abce", "abc", "abcde", ""] {
        assert!(
            matches!(store.create_tail(id, 0, chunks(other)).await, Err(Error::Conflict)),
            "{other}"
        );
    }
    assert_eq!(store.read_tail(id, 0).await.unwrap().concat(), b"abcd");
}

async fn of_eight_racing_tails_one_is_stored(store: Store) {
    let id = id();
    let texts: Vec<String> = (0..8).map(|writer| format!("writer {writer}")).collect();
    let results = join_all(texts.iter().map(|text| store.create_tail(id, 7, chunks(text)))).await;
    let winners: Vec<usize> = (0..8).filter(|&at| results[at].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(
        store.read_tail(id, 7).await.unwrap().concat(),
        texts[winners[0]].as_bytes()
    );
}

async fn an_empty_list_of_chunks_is_an_empty_tail(store: Store) {
    let id = id();
    store.create_tail(id, 3, Vec::new()).await.unwrap();
    assert_eq!(store.tail_length(id, 3).await.unwrap(), Some(0));
    assert!(store.read_tail(id, 3).await.unwrap().concat().is_empty());
}

async fn tails_are_listed_by_offset_and_length(store: Store) {
    let id = id();
    let mut expected = Tails::none();
    for from in [9_000_000_000_000_000_000, 0, 10, 2, 100] {
        store.create_tail(id, from, chunks("abc")).await.unwrap();
        expected.insert(from, from + 3);
    }
    assert_eq!(store.list_tails(id).await.unwrap(), expected);
    store.remove_tails(id, vec![0, 2, 2, 55]).await.unwrap();
    let left: Tails = [
        (10, 13),
        (100, 103),
        (9_000_000_000_000_000_000, 9_000_000_000_000_000_003),
    ]
    .into_iter()
    .collect();
    assert_eq!(store.list_tails(id).await.unwrap(), left);
    store.remove_tails(id, Vec::new()).await.unwrap();
}

async fn a_load_shows_record_and_tails(store: Store) {
    let record = record(id());
    assert!(store.load(record.id).await.unwrap().is_none());
    store.create_tail(record.id, 0, chunks("abc")).await.unwrap();
    assert!(store.load(record.id).await.unwrap().is_none());
    store.create_record(&record).await.unwrap();
    store.create_tail(record.id, 3, chunks("de")).await.unwrap();
    let loaded = store.load(record.id).await.unwrap().unwrap();
    assert_eq!(loaded.stored.record, record);
    assert_eq!(loaded.tails.reach(0), 5);
}

async fn pages_come_back_as_they_were_written(store: Store) {
    let id = id();
    let parts: Vec<RecordedPart> = (1..=200u64)
        .map(|at| RecordedPart(bits_gateway::staging::PartId(format!("id \"{at}\"").into()), at * 10))
        .collect();
    let one = store.write_page(id, 0, &parts).await.unwrap();
    let other = store.write_page(id, 0, &parts[..3]).await.unwrap();
    assert_ne!(one, other, "two writers of a page don't meet");
    assert_eq!(store.read_page(id, &one).await.unwrap(), parts);
    assert_eq!(store.read_page(id, &other).await.unwrap(), parts[..3]);
    store.remove(id, vec![Name::Page(one.clone())]).await.unwrap();
    assert!(matches!(store.read_page(id, &one).await, Err(Error::NotFound)));
}

async fn sessions_are_listed_with_their_records(store: Store) {
    let records: Vec<Record> = (0..3).map(|_| record(id())).collect();
    let mut versions = Vec::new();
    for record in &records {
        versions.push(store.create_record(record).await.unwrap());
        store.create_tail(record.id, 0, chunks("abc")).await.unwrap();
    }
    let orphan = id();
    store.create_tail(orphan, 0, chunks("abcdef")).await.unwrap();
    put(&store, &key("sessions/not-one-of-ours"), "x").await;

    let listed: Vec<_> = store.list_records().try_collect().await.unwrap();
    assert_eq!(listed.len(), 3);
    for (record, version) in records.iter().zip(&versions) {
        let found = listed.iter().find(|found| found.id == record.id).unwrap();
        assert!(found.version.same_as(version), "{found:?} {version:?}");
        assert!(found.modified > Timestamp::default());
    }
    let sessions: Vec<_> = store.list_sessions().try_collect().await.unwrap();
    assert_eq!(sessions.len(), 4);
    let found = sessions.iter().find(|found| found.id == orphan).unwrap();
    assert!(found.record.is_none());
    assert_eq!((found.objects, found.bytes), (1, 6));
}

async fn objects_of_a_session_are_listed_and_removed(store: Store) {
    let record = record(id());
    store.create_record(&record).await.unwrap();
    store.create_tail(record.id, 12, chunks("abc")).await.unwrap();
    let page = store.write_page(record.id, 0, &[]).await.unwrap();
    let listed = store.list_session(record.id).await.unwrap();
    let names: Vec<Name> = listed.iter().map(|listed| listed.name.clone()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.contains(&Name::Record) && names.contains(&Name::Tail(12)) && names.contains(&Name::Page(page)));
    let tail = listed.iter().find(|listed| listed.name == Name::Tail(12)).unwrap();
    assert_eq!(tail.size, 3);
    store.remove(record.id, names).await.unwrap();
    assert!(store.list_session(record.id).await.unwrap().is_empty());
}

/// Stores parts of 5 MiB and a last one of 1,000 bytes in the order given, and returns them in the order of the file.
async fn upload(store: &Store, key: &Key, upload: &UploadId, order: &[u32]) -> (Vec<RecordedPart>, Vec<u8>) {
    let count = order.iter().max().unwrap() + 1;
    let range = |index: u32| PartRange {
        index,
        from: u64::from(index) * PART as u64,
        to: u64::from(index) * PART as u64 + if index + 1 == count { 1_000 } else { PART as u64 },
    };
    let mut parts = vec![None; count as usize];
    for &index in order {
        let bytes = noise(index as u8, range(index).len() as usize);
        let id = store.put_part(key, upload, range(index), bytes).await.unwrap();
        parts[index as usize].get_or_insert(RecordedPart(id, range(index).to));
    }
    let content = (0..count)
        .flat_map(|index| noise(index as u8, range(index).len() as usize).concat())
        .collect();
    (parts.into_iter().map(Option::unwrap).collect(), content)
}

async fn parts_come_in_any_order(store: Store) {
    let (key, session) = (key("dir/big file"), id());
    let begun = store.begin(&key, session).await.unwrap();
    let (parts, whole) = upload(&store, &key, &begun, &[2, 0, 1]).await;
    assert!(
        store.look(&key).await.unwrap().is_none(),
        "nothing shows before completion"
    );
    let mark = store.mark(&key, &begun).await.unwrap();
    let tag = store
        .complete(
            &key,
            session,
            &begun,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await
        .unwrap();
    assert_eq!(tag.size, whole.len() as u64);
    let seen = store.look(&key).await.unwrap().unwrap();
    assert_eq!(seen.tag.size, tag.size);
    assert!(content(&store, &key).await == whole);
    assert!(store.list_uploads(&key).await.unwrap().is_empty());
}

async fn a_part_that_is_stored_twice_counts_once(store: Store) {
    let (key, session) = (key("twice"), id());
    let begun = store.begin(&key, session).await.unwrap();
    // The record keeps the id of the first time; the second may come from another replica, and later.
    let (parts, whole) = upload(&store, &key, &begun, &[0, 1, 0]).await;
    let mark = store.mark(&key, &begun).await.unwrap();
    store
        .complete(
            &key,
            session,
            &begun,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await
        .unwrap();
    assert!(content(&store, &key).await == whole);
}

async fn a_completion_creates_only_what_is_absent(store: Store) {
    let (key, session) = (key("taken"), id());
    let begun = store.begin(&key, session).await.unwrap();
    put(&store, &key, "somebody else's").await;
    let (parts, _) = upload(&store, &key, &begun, &[0]).await;
    let mark = store.mark(&key, &begun).await.unwrap();
    let result = store
        .complete(
            &key,
            session,
            &begun,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await;
    assert!(matches!(result, Err(CompleteError::Changed)), "{result:?}");
    assert_eq!(content(&store, &key).await, b"somebody else's");
}

async fn a_completion_replaces_only_what_was_there(store: Store) {
    let key = key("replaced");
    put(&store, &key, "old").await;
    let before = Before::Present(store.look(&key).await.unwrap().unwrap().tag);

    let (session, other) = (id(), id());
    let begun = store.begin(&key, session).await.unwrap();
    let (parts, whole) = upload(&store, &key, &begun, &[0, 1]).await;
    let mark = store.mark(&key, &begun).await.unwrap();
    store
        .complete(&key, session, &begun, &parts, Terms::whenever(&before), mark.as_deref())
        .await
        .unwrap();
    assert!(content(&store, &key).await == whole);

    // Another session saw the old file at its Create-Session: it may not replace the new one.
    let begun = store.begin(&key, other).await.unwrap();
    let (parts, _) = upload(&store, &key, &begun, &[0]).await;
    let mark = store.mark(&key, &begun).await.unwrap();
    let result = store
        .complete(&key, other, &begun, &parts, Terms::whenever(&before), mark.as_deref())
        .await;
    assert!(matches!(result, Err(CompleteError::Changed)), "{result:?}");
    assert!(content(&store, &key).await == whole);
}

async fn a_completion_whose_answer_was_lost_is_repeated(store: Store) {
    let (key, session) = (key("repeated"), id());
    let begun = store.begin(&key, session).await.unwrap();
    let (parts, whole) = upload(&store, &key, &begun, &[0, 1]).await;
    let mark = store.mark(&key, &begun).await.unwrap();
    let first = store
        .complete(
            &key,
            session,
            &begun,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await
        .unwrap();
    let again = store
        .complete(
            &key,
            session,
            &begun,
            &parts,
            Terms::whenever(&Before::Absent),
            mark.as_deref(),
        )
        .await
        .unwrap();
    assert_eq!(first.size, again.size);
    assert!(content(&store, &key).await == whole);
    store.abort(&key, &begun).await.unwrap();
    assert!(
        content(&store, &key).await == whole,
        "an abort that comes late harms nothing"
    );
}

async fn an_unknown_upload_is_told_apart(store: Store) {
    let (key, session) = (key("gone"), id());
    let begun = store.begin(&key, session).await.unwrap();
    let (parts, _) = upload(&store, &key, &begun, &[0]).await;
    store.abort(&key, &begun).await.unwrap();
    store.abort(&key, &begun).await.unwrap();
    if store.forgets_uploads() {
        let range = PartRange {
            index: 0,
            from: 0,
            to: 3,
        };
        let result = store.put_part(&key, &begun, range, chunks("abc")).await;
        assert!(matches!(result, Err(Error::UnknownUpload)), "{result:?}");
        let result = store
            .complete(&key, session, &begun, &parts, Terms::whenever(&Before::Absent), None)
            .await;
        assert!(matches!(result, Err(CompleteError::UnknownUpload)), "{result:?}");
        assert!(store.look(&key).await.unwrap().is_none());
    }
}

/// Where an upload is not known until it is committed, the commit of another one drops its parts, and later ones are taken all the same. To
/// take that for an upload that was completed would be to tell of a file that is nowhere.
async fn an_upload_that_lost_some_of_its_parts_was_not_completed(store: Store) {
    if store.forgets_uploads() {
        return;
    }
    let (key, session) = (key("swept away"), id());
    let begun = store.begin(&key, session).await.unwrap();
    let (mut parts, _) = upload(&store, &key, &begun, &[0]).await;
    let other = store
        .put_file(&key, id(), chunks("other"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    let range = PartRange {
        index: 1,
        from: parts[0].end(),
        to: parts[0].end() + 3,
    };
    let later = store.put_part(&key, &begun, range, chunks("abc")).await.unwrap();
    parts.push(RecordedPart(later, range.to));
    let before = Before::Present(other);
    let result = store
        .complete(&key, session, &begun, &parts, Terms::whenever(&before), None)
        .await;
    assert!(matches!(result, Err(CompleteError::InvalidPart(_))), "{result:?}");
}

async fn unfinished_uploads_are_listed_by_their_key(store: Store) {
    let (key, neighbour) = (key("list/me & <you>"), key("list/me & <you>, too"));
    assert!(store.list_uploads(&key).await.unwrap().is_empty());
    let (one, other) = (
        store.begin(&key, id()).await.unwrap(),
        store.begin(&key, id()).await.unwrap(),
    );
    store.begin(&neighbour, id()).await.unwrap();
    assert_ne!(one, other);
    let listed = store.list_uploads(&key).await.unwrap();
    assert!(listed.iter().all(|(_, began)| *began > Timestamp::default()));
    let mut listed: Vec<_> = listed.into_iter().map(|(id, _)| id.0).collect();
    listed.sort();
    if store.forgets_uploads() {
        let mut begun = [one.0.clone(), other.0.clone()];
        begun.sort();
        assert_eq!(listed, begun);
        store.abort(&key, &one).await.unwrap();
        assert_eq!(store.list_uploads(&key).await.unwrap().len(), 1);
    } else {
        assert!(listed.is_empty(), "nothing has begun before the first part");
    }
}

async fn an_unfinished_upload_stands_in_nobodys_way(store: Store) {
    let (small, empty) = (key("small"), key("empty"));
    for key in [&small, &empty] {
        let begun = store.begin(key, id()).await.unwrap();
        upload(&store, key, &begun, &[0]).await;
    }
    let session = id();
    store
        .put_file(&small, session, chunks("small"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(content(&store, &small).await, b"small");
    let seen = store.look(&small).await.unwrap().unwrap();
    assert!(seen.session.is_none_or(|seen| seen == session));
    store
        .put_file(&empty, id(), Vec::new(), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(store.look(&empty).await.unwrap().unwrap().tag.size, 0);
}

async fn a_small_file_is_created_only_where_nothing_is(store: Store) {
    let (key, session) = (key("small"), id());
    assert!(store.look(&key).await.unwrap().is_none());
    let tag = store
        .put_file(&key, session, chunks("first"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(tag.size, 5);
    let seen = store.look(&key).await.unwrap().unwrap();
    assert_eq!(seen.tag.size, 5);
    assert!(seen.session.is_none() || seen.session == Some(session));
    let result = store
        .put_file(&key, id(), chunks("other"), Terms::whenever(&Before::Absent))
        .await;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    assert_eq!(content(&store, &key).await, b"first");
}

async fn a_small_file_replaces_only_what_was_there(store: Store) {
    let key = key("small");
    put(&store, &key, "first").await;
    let before = Before::Present(store.look(&key).await.unwrap().unwrap().tag);
    store
        .put_file(&key, id(), chunks("second"), Terms::whenever(&before))
        .await
        .unwrap();
    let result = store
        .put_file(&key, id(), chunks("third"), Terms::whenever(&before))
        .await;
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    assert_eq!(content(&store, &key).await, b"second");
}

async fn a_small_file_whose_answer_was_lost_is_repeated(store: Store) {
    let (key, session) = (key("small"), id());
    let first = store
        .put_file(&key, session, chunks("first"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    let again = store
        .put_file(&key, session, chunks("first"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(first.size, again.size);
}

async fn an_empty_file_is_a_file(store: Store) {
    let key = key("empty");
    store
        .put_file(&key, id(), Vec::new(), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    assert_eq!(store.look(&key).await.unwrap().unwrap().tag.size, 0);
    assert!(content(&store, &key).await.is_empty());
}

async fn of_eight_racing_files_one_is_published(store: Store) {
    let key = key("race");
    let texts: Vec<String> = (0..8).map(|writer| format!("file {writer}")).collect();
    let results = join_all(
        texts
            .iter()
            .map(|text| store.put_file(&key, id(), chunks(text), Terms::whenever(&Before::Absent))),
    )
    .await;
    let winners: Vec<usize> = (0..8).filter(|&at| results[at].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(content(&store, &key).await, texts[winners[0]].as_bytes());
}

async fn nothing_is_published_after_its_deadline(store: Store) {
    let (small, large) = (key("small"), key("large"));
    let terms = |patience| Terms {
        before: &Before::Absent,
        by: Deadline::after(Uptime::now(), patience),
    };
    let (late, in_time) = (terms(Duration::ZERO), terms(Duration::from_secs(3600)));
    let (session, bytes) = (id(), chunks("small"));
    let result = store.put_file(&small, session, bytes.clone(), late).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    assert!(store.look(&small).await.unwrap().is_none());
    store.put_file(&small, session, bytes, in_time).await.unwrap();

    let begun = store.begin(&large, session).await.unwrap();
    let (parts, whole) = upload(&store, &large, &begun, &[0]).await;
    let mark = store.mark(&large, &begun).await.unwrap();
    let complete = async |terms| {
        store
            .complete(&large, session, &begun, &parts, terms, mark.as_deref())
            .await
    };
    let result = complete(late).await;
    assert!(
        matches!(result, Err(CompleteError::Store(Error::Unavailable(_)))),
        "{result:?}"
    );
    assert!(store.look(&large).await.unwrap().is_none());
    // Nothing is lost by it: a turn that looked again goes on.
    complete(in_time).await.unwrap();
    assert!(content(&store, &large).await == whole);
}

async fn an_object_is_read_whole_and_in_ranges(store: Store) {
    let key = key("read me");
    let length = (3 << 20) + 17;
    let whole = noise(9, length).concat();
    store
        .put_file(&key, id(), noise(9, length), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    let seen = store.look(&key).await.unwrap().unwrap();
    for range in [
        0..1,
        0..length,
        5..(2 << 20) + 5,
        (1 << 20)..(2 << 20),
        length - 1..length,
    ] {
        let asked = range.start as u64..range.end as u64;
        let read = store.read(&key, Some(asked.clone()), Some(&seen.tag)).await.unwrap();
        assert_eq!((read.size, read.range.clone()), (length as u64, asked));
        let chunks: Vec<Bytes> = read.stream.try_collect().await.unwrap();
        assert!(chunks.concat() == whole[range.clone()], "{range:?}");
    }
    let read = store.read(&key, None, None).await.unwrap();
    assert_eq!(read.range, 0..length as u64);
    assert!(content(&store, &key).await == whole);
    assert!(matches!(
        store.read(&Key::parse("not there").unwrap(), None, None).await,
        Err(Error::NotFound)
    ));
}

async fn an_object_that_changed_is_not_read_as_the_old_one(store: Store) {
    let key = key("changing");
    put(&store, &key, "one").await;
    let old = store.look(&key).await.unwrap().unwrap().tag;
    put(&store, &key, "two").await;
    assert!(matches!(
        store.read(&key, Some(0..1), Some(&old)).await,
        Err(Error::Conflict)
    ));
}

async fn odd_names_are_kept_as_they_are(store: Store) {
    let names = [
        "plain.txt",
        "with space and + plus.txt",
        "100% sure.bin",
        "a&b=c;d?e#f.txt",
        "tail#12",
        "#7",
        "brackets [1] {2} (3).txt",
        "quote ' double \" tick `.txt",
        "tilde~caret^pipe|star*.txt",
        "Ünïcödé/日本語/файл.txt",
        "emoji 😀.bin",
        "~",
        "-dash",
        "deep/er/and/deep/er/still/x",
        "sessions/record",
        "upper/UPPER",
    ];
    let long = "n".repeat(255);
    for name in names.into_iter().chain([long.as_str()]) {
        let key = key(name);
        store
            .put_file(&key, id(), chunks(name), Terms::whenever(&Before::Absent))
            .await
            .unwrap();
    }
    for name in names.into_iter().chain([long.as_str()]) {
        assert_eq!(content(&store, &key(name)).await, name.as_bytes(), "{name}");
    }
}

async fn the_store_tells_its_time(store: Store) {
    let first = store.now().await.unwrap();
    let second = store.now().await.unwrap();
    assert!(first > Timestamp::default() && second >= first);
}

async fn of_eight_sweepers_one_is_elected(store: Store) {
    let hour = Duration::from_secs(3600);
    let elected = join_all((0..8).map(|_| store.elect_sweeper(hour))).await;
    assert_eq!(
        elected.iter().filter(|result| matches!(result, Ok(Some(_)))).count(),
        1,
        "{elected:?}"
    );
    assert!(store.elect_sweeper(hour).await.unwrap().is_none());
    assert!(store.elect_sweeper(Duration::ZERO).await.unwrap().is_some());
}
