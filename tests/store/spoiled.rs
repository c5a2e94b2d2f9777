//! Real servers whose answers get lost or lie: what is certain in the end.

use bits_gateway::bits::SessionId;
use bits_gateway::clock::random_id;
use bits_gateway::session::Before;
use bits_gateway::staging::{PartRange, RecordedPart, UploadId};
use bits_gateway::store::{CompleteError, Error, Key, Store, Terms};
use bits_gateway::units::SecretOr;
use bytes::Bytes;
use futures::stream::TryStreamExt;

use super::http::{Proxy, Request, Spoil};
use super::servers::{Azurite, SeaweedFs};
use super::{google, open};

/// Orders of answers after which a publication that holds has succeeded.
const PASSING: [&[Spoil]; 8] = [
    &[],
    &[Spoil::Break],
    &[Spoil::Fail],
    &[Spoil::Refuse],
    &[Spoil::Overload],
    &[Spoil::Embed],
    &[Spoil::Refuse, Spoil::Embed, Spoil::Break],
    &[Spoil::Embed, Spoil::Fail],
];

/// The request that publishes the parts.
type Publishing = fn(&Request) -> bool;

fn s3_completion(request: &Request) -> bool {
    request.method == "POST" && request.target.contains("uploadId=")
}

fn azure_commit(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("comp=blocklist")
}

fn google_completion(request: &Request) -> bool {
    request.method == "POST" && request.target.contains("uploadId=")
}

fn google_rewrite(request: &Request) -> bool {
    request.target.contains("/rewriteTo/")
}

fn key() -> Key {
    Key::parse("dir/file with space").unwrap()
}

fn id() -> SessionId {
    SessionId::new(random_id())
}

fn bytes(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

async fn content(store: &Store) -> Vec<u8> {
    let read = store.read(&key(), None, None).await.unwrap();
    read.stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

/// An upload of one short part, ready to be published.
async fn staged(store: &Store, session: SessionId, text: &'static str) -> (UploadId, [RecordedPart; 1]) {
    let upload = store.begin(&key(), session).await.unwrap();
    let to = text.len() as u64;
    let part = PartRange { index: 0, from: 0, to };
    let id = store.put_part(&key(), &upload, part, bytes(text)).await.unwrap();
    (upload, [RecordedPart(id, to)])
}

/// Holds what must hold when answers to `publishing` are spoiled.
async fn hold(proxy: &Proxy, fresh: impl Fn() -> Store, publishing: Publishing) {
    for spoils in PASSING {
        publish_new_and_over(proxy, &fresh(), publishing, spoils).await;
        refuse_what_changed(proxy, &fresh(), publishing, spoils).await;
    }
}

async fn publish_new_and_over(proxy: &Proxy, store: &Store, publishing: Publishing, spoils: &'static [Spoil]) {
    let mut before = Before::Absent;
    for text in ["first", "second"] {
        let session = id();
        let (upload, parts) = staged(store, session, text).await;
        proxy.spoil(publishing, spoils);
        let tag = store
            .complete(&key(), session, &upload, &parts, Terms::whenever(&before), None)
            .await;
        let tag = tag.unwrap_or_else(|error| panic!("{spoils:?}: {error}"));
        proxy.spoil(|_| false, &[]);
        let seen = store.look(&key()).await.unwrap().unwrap();
        assert_eq!((seen.session, seen.tag.size), (Some(session), tag.size), "{spoils:?}");
        assert_eq!(content(store).await, text.as_bytes(), "{spoils:?}");
        before = Before::Present(seen.tag);
    }
}

async fn refuse_what_changed(proxy: &Proxy, store: &Store, publishing: Publishing, spoils: &'static [Spoil]) {
    let session = id();
    let (upload, parts) = staged(store, session, "mine").await;
    // On Azure this ends the upload, too.
    store
        .put_file(&key(), id(), bytes("theirs"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    proxy.spoil(publishing, spoils);
    let result = store
        .complete(&key(), session, &upload, &parts, Terms::whenever(&Before::Absent), None)
        .await;
    proxy.spoil(|_| false, &[]);
    assert!(
        matches!(result, Err(CompleteError::Changed | CompleteError::UnknownUpload)),
        "{spoils:?}: {result:?}"
    );
    assert_eq!(content(store).await, b"theirs", "{spoils:?}");
}

/// Puts whose answers are spoiled, as object_store repeats them by itself.
async fn hold_for_puts(proxy: &Proxy, fresh: impl Fn() -> Store) {
    let put = |request: &Request| request.method == "PUT" && !request.target.contains('?');
    for spoils in [
        &[Spoil::Break][..],
        &[Spoil::Fail],
        &[Spoil::Refuse],
        &[Spoil::Overload],
        &[Spoil::Refuse, Spoil::Fail],
    ] {
        let (store, session) = (fresh(), id());
        proxy.spoil(put, spoils);
        store
            .create_tail(session, 0, bytes("tail"))
            .await
            .unwrap_or_else(|error| panic!("{spoils:?}: {error}"));
        proxy.spoil(put, spoils);
        let result = store.create_tail(session, 0, bytes("other")).await;
        assert!(matches!(result, Err(Error::Conflict)), "{spoils:?}: {result:?}");
        proxy.spoil(put, spoils);
        let file = store
            .put_file(&key(), session, bytes("file"), Terms::whenever(&Before::Absent))
            .await;
        file.unwrap_or_else(|error| panic!("{spoils:?}: {error}"));
        assert_eq!(content(&store).await, b"file");
        proxy.spoil(put, spoils);
        let result = store
            .put_file(&key(), id(), bytes("other"), Terms::whenever(&Before::Absent))
            .await;
        assert!(matches!(result, Err(Error::Conflict)), "{spoils:?}: {result:?}");
        proxy.spoil(|_| false, &[]);
    }
}

#[tokio::test]
async fn lost_and_lying_answers_of_an_s3_server_change_nothing() {
    let server = SeaweedFs::start();
    let proxy = Proxy::to(server.port()).await;
    let fresh = || open(&server.settings_via(proxy.server.port, &random_id().to_string()));
    hold(&proxy, fresh, s3_completion).await;
    hold_for_puts(&proxy, fresh).await;
}

#[tokio::test]
async fn only_the_part_that_the_record_lists_is_published() {
    let server = SeaweedFs::start();
    let store = open(&server.settings("prefix"));
    let session = id();
    let (upload, parts) = staged(&store, session, "told").await;
    // An older turn, whose part was long on its way.
    let part = PartRange {
        index: 0,
        from: 0,
        to: 4,
    };
    store.put_part(&key(), &upload, part, bytes("lies")).await.unwrap();
    let result = store
        .complete(&key(), session, &upload, &parts, Terms::whenever(&Before::Absent), None)
        .await;
    // A server may keep both, and take the one that is named.
    match result {
        Ok(_) => assert_eq!(content(&store).await, b"told"),
        Err(CompleteError::InvalidPart(_)) => assert!(store.look(&key()).await.unwrap().is_none()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn lost_and_lying_answers_of_an_azure_server_change_nothing() {
    let server = Azurite::start();
    let proxy = Proxy::to(server.port()).await;
    let fresh = || open(&server.settings_via(proxy.server.port, &random_id().to_string()));
    hold(&proxy, fresh, azure_commit).await;
    hold_for_puts(&proxy, fresh).await;
}

#[tokio::test]
async fn lost_and_lying_answers_of_google_change_nothing() {
    let server = google::Google::start().await;
    let proxy = Proxy::to(server.server.port).await;
    let fresh = || open(&google::settings(proxy.server.port, &random_id().to_string()));
    hold(&proxy, fresh, google_completion).await;
    hold(&proxy, fresh, google_rewrite).await;
    hold_for_puts(&proxy, fresh).await;
}

#[tokio::test]
async fn a_file_that_google_assembled_is_cleared_away_with_its_upload() {
    let server = google::Google::start().await;
    let proxy = Proxy::to(server.server.port).await;
    let store = open(&google::settings(proxy.server.port, "prefix"));
    let session = id();
    let (upload, parts) = staged(&store, session, "abc").await;
    assert_eq!(store.list_uploads(&key()).await.unwrap()[0].0, upload);
    store
        .put_file(&key(), id(), bytes("theirs"), Terms::whenever(&Before::Absent))
        .await
        .unwrap();
    store
        .complete(&key(), session, &upload, &parts, Terms::whenever(&Before::Absent), None)
        .await
        .unwrap_err();
    assert_eq!(server.names().len(), 2, "the file is assembled: {:?}", server.names());
    store.abort(&key(), &upload).await.unwrap();
    assert_eq!(server.names(), ["prefix/dir/file with space"]);
}

#[tokio::test]
async fn a_file_that_google_assembled_and_published_is_cleared_away_with_its_session() {
    let server = google::Google::start().await;
    let proxy = Proxy::to(server.server.port).await;
    let store = open(&google::settings(proxy.server.port, "prefix"));
    let session = id();
    let (upload, parts) = staged(&store, session, "abc").await;
    proxy.spoil(|request| request.method == "DELETE", &[Spoil::Refuse]);
    store
        .complete(&key(), session, &upload, &parts, Terms::whenever(&Before::Absent), None)
        .await
        .unwrap();
    proxy.spoil(|_| false, &[]);
    assert_eq!(
        server.names().len(),
        2,
        "what was assembled is left: {:?}",
        server.names()
    );
    // The record of a published file names no upload any more.
    store.tidy(&key(), session).await.unwrap();
    assert_eq!(server.names(), ["prefix/dir/file with space"]);
    store.tidy(&key(), session).await.unwrap();
}

/// Bytes that change on their way: the sum that goes with them tells, and they are sent again.
#[tokio::test]
async fn a_part_that_is_damaged_on_its_way_is_sent_again() {
    let server = SeaweedFs::start();
    let proxy = Proxy::to(server.port()).await;
    let mut settings = server.settings_via(proxy.server.port, "damaged");
    for (name, value) in [
        ("aws_unsigned_payload", "true"),
        ("aws_checksum_algorithm", "crc64nvme"),
    ] {
        settings
            .options
            .insert(name.to_owned(), SecretOr::Plain(value.to_owned()));
    }
    let store = open(&settings);
    let upload = store.begin(&key(), id()).await.unwrap();
    let part = PartRange {
        index: 0,
        from: 0,
        to: 4,
    };
    proxy.spoil(|request| request.method == "PUT", &[Spoil::Damage]);
    store.put_part(&key(), &upload, part, bytes("part")).await.unwrap();
    proxy.choose(|_| Some(Spoil::Damage));
    let refused = store.put_part(&key(), &upload, part, bytes("part")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}
