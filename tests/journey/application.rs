//! Upload-reply: finished uploads are told to a real server application, and its replies go to the client (MC-BUP 3.3).

use bits_gateway::client::raw::{Answer, Packet, exchange};
use bytes::Bytes;
use serde_json::json;
use url::Url;

use crate::servers::SeaweedFs;
use crate::support::{
    Application, Config, Direction, End, Fate, Gateway, Hand, Line, MIB, PART, Place, always, assert_same, content,
    long_reply, program, until,
};

/// A route that tells `application` in this mode.
fn config(place: &Place, application: &Application, mode: &str, more: &str) -> Config {
    let url = application.url("/in");
    config_to(place, &url, mode, more)
}

fn config_to(place: &Place, url: &str, mode: &str, more: &str) -> Config {
    let notify = format!("[routes.notify]\nmode = {mode:?}\nurl = {url:?}\n{more}\n");
    let rules = "part_size = \"5MiB\"\nsession_timeout = \"1d\"";
    Config::new().route("/up/", &(place.lines(rules) + &notify))
}

/// Sends everything, in fragments of at most 5 MiB, and gives back the answer to the last one.
async fn upload(gateway: &Gateway, hand: &mut Hand) -> Answer {
    hand.begin(gateway.address).await;
    while hand.total() - hand.start > PART {
        hand.send(gateway.address, PART).await;
    }
    last(gateway, hand).await
}

/// Sends the last fragment.
async fn last(gateway: &Gateway, hand: &Hand) -> Answer {
    let (head, body) = hand.fragment(u64::MAX / 2);
    exchange(gateway.address, &head, &body).await.expect("an answer")
}

/// Fetches the reply that an Ack tells of; `None` when it is gone.
async fn fetch(gateway: &Gateway, answer: &Answer) -> Option<Bytes> {
    let url: Url = answer
        .header("BITS-Reply-URL")
        .expect("a reply")
        .parse()
        .expect("a URL");
    let path = url.path().to_owned();
    gateway.get(&path).await.map(|found| found.body)
}

/// What the protocol says in an answer.
fn bits_of(answer: &Answer) -> Vec<&(String, String)> {
    let ours = answer.headers.iter().filter(|(name, _)| name.starts_with("BITS-"));
    ours.collect()
}

/// The status, the code and the context of a refusal.
fn refusal(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    assert_eq!(answer.header("BITS-Error"), answer.header("BITS-Error-Code"));
    (
        answer.status,
        answer.header("BITS-Error"),
        answer.header("BITS-Error-Context"),
    )
}

const LENGTHS: [u64; 4] = [0, 4_892, PART, 2 * PART + 4_321];

#[tokio::test]
async fn a_file_is_told_of_by_value_and_the_reply_goes_to_the_client_in_a_directory() {
    by_value(&Place::directory()).await;
}

#[tokio::test]
async fn a_file_is_told_of_by_value_and_the_reply_goes_to_the_client_in_a_bucket() {
    let server = SeaweedFs::start();
    by_value(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn by_value(place: &Place) {
    for (round, length) in LENGTHS.into_iter().enumerate() {
        let application = Application::start(&always(json!({"body": "thanks"})));
        let gateway = Gateway::start(&config(place, &application, "value", "")).await;
        let bytes = content(20 + round as u64, length);
        let key = format!("folder/{length}.bin");
        let mut hand = Hand::new(&format!("/up/{key}?ACCOUNT=86433"), bytes.clone());
        let answer = upload(&gateway, &mut hand).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("BITS-Received-Content-Range"), Some(&*length.to_string()));

        let told = application.told(0).await;
        assert_eq!(told.target, "/in?ACCOUNT=86433");
        let original = format!("http://gateway.test/up/{key}?ACCOUNT=86433");
        assert_eq!(told.header("bits-original-request-url"), Some(&*original));
        assert_eq!(told.header("content-length"), Some(&*length.to_string()));
        assert_eq!(told.header("idempotency-key"), Some(&*hand.session));
        assert_eq!(told.header("bits-request-datafile-name"), None);
        assert_same(&bytes, &application.body(0).expect("it came whole"), &key);

        assert_same(
            b"thanks",
            &fetch(&gateway, &answer).await.expect("a reply"),
            "the reply",
        );
        let path = answer.header("BITS-Reply-URL").expect("a reply").to_owned();
        let path = path.split_once("/up/").expect("below the route").1.to_owned();
        let range = Packet::new("GET", &format!("/up/{path}")).with("Range", "bytes=1-3");
        let part = exchange(gateway.address, &range, b"").await.expect("an answer");
        assert_eq!((part.status, &part.body[..]), (206, &b"han"[..]));

        // An Ack that was lost is given again, and nobody is told twice.
        let again = last(&gateway, &hand).await;
        assert_eq!(bits_of(&again), bits_of(&answer));
        assert_eq!(place.object(&key).await, None, "nobody asked for a copy");
        hand.close(gateway.address).await;
        assert_eq!(place.object(&key).await, None);
        assert_eq!(fetch(&gateway, &answer).await, None);
        assert_eq!(place.kept_of(&hand.session).await, ["record"]);
        assert_eq!(application.count(), 1);
    }
}

#[tokio::test]
async fn a_file_is_told_of_by_reference_in_a_directory() {
    by_reference(&Place::directory()).await;
}

#[tokio::test]
async fn a_file_is_told_of_by_reference_in_a_bucket() {
    let server = SeaweedFs::start();
    by_reference(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn by_reference(place: &Place) {
    let application = Application::start(&always(json!({"file": "written by the application"})));
    let gateway = Gateway::start(&config(place, &application, "reference", "")).await;
    for (round, length) in LENGTHS.into_iter().enumerate() {
        let bytes = content(30 + round as u64, length);
        let mut hand = Hand::new(&format!("/up/{length}.bin"), bytes.clone());
        let answer = upload(&gateway, &mut hand).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = application.told(round).await;
        assert_eq!(told.header("content-length"), Some("0"));
        assert_eq!(told.header("x-bits-gateway-size"), Some(&*length.to_string()));
        assert_same(&bytes, &application.read(round).expect("it was read"), "the file");
        let reply = fetch(&gateway, &answer).await.expect("a reply");
        assert_same(b"written by the application", &reply, "the reply");
        hand.close(gateway.address).await;
        assert_eq!(fetch(&gateway, &answer).await, None);
        assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    }
}

#[tokio::test]
async fn an_application_that_writes_no_reply_by_reference_leaves_the_client_without_one() {
    let place = Place::directory();
    let application = Application::start(&always(json!({})));
    let gateway = Gateway::start(&config(&place, &application, "reference", "")).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!((answer.status, answer.header("BITS-Reply-URL")), (200, None));
}

#[tokio::test]
async fn the_application_may_have_the_file_at_its_destination_in_a_directory() {
    copied(&Place::directory()).await;
}

#[tokio::test]
async fn the_application_may_have_the_file_at_its_destination_in_a_bucket() {
    let server = SeaweedFs::start();
    copied(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn copied(place: &Place) {
    let application = Application::start(&always(json!({"headers": {"BITS-Copy-File-To-Destination": "0"}})));
    let gateway = Gateway::start(&config(place, &application, "value", "")).await;
    for (round, length) in LENGTHS.into_iter().enumerate() {
        let bytes = content(40 + round as u64, length);
        let key = format!("some folder/ü {length}.bin");
        let path = format!("/up/some%20folder/%C3%BC%20{length}.bin");
        let mut hand = Hand::new(&path, bytes.clone());
        let answer = upload(&gateway, &mut hand).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        hand.close(gateway.address).await;
        assert_same(&bytes, &gateway.get(&path).await.expect("it was copied").body, &key);
        assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    }
    // The next one may not replace it: that is told at its beginning.
    let refused = exchange(
        gateway.address,
        Packet::create_session("/up/some%20folder/%C3%BC%200.bin"),
        b"",
    );
    let refused = refused.await.expect("an answer");
    assert_eq!(refusal(&refused), (403, Some("0x80070005"), Some("0x5")));
}

#[tokio::test]
async fn an_application_that_fails_is_told_again_until_it_does_not() {
    let place = Place::directory();
    let application = Application::start(&json!([
        {"status": 503}, {"status": 500}, {"status": 409}, {"status_at_once": 503}, {"body": "at last"},
    ]));
    let gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let bytes = content(3, PART + 17);
    let mut hand = Hand::new("/up/f.bin", bytes.clone());
    let mut answer = upload(&gateway, &mut hand).await;
    for (number, status, code) in [(0, 503, "0x801901F7"), (1, 500, "0x801901F4"), (2, 409, "0x80190199")] {
        assert_eq!(refusal(&answer), (status, Some(code), Some("0x7")));
        // The size would make the client close the session.
        assert_eq!(
            answer.header("BITS-Received-Content-Range"),
            Some(&*(bytes.len() - 1).to_string())
        );
        assert_same(&bytes, &application.body(number).expect("it came whole"), "f.bin");
        answer = last(&gateway, &hand).await;
    }
    // Who answers before the file is through may be heard, or not: either way the client comes back.
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    let answer = last(&gateway, &hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_same(
        b"at last",
        &fetch(&gateway, &answer).await.expect("a reply"),
        "the reply",
    );
    let keys: Vec<_> = futures::future::join_all((0..5).map(|number| application.told(number))).await;
    for told in keys {
        assert_eq!(told.header("idempotency-key"), Some(&*hand.session));
    }
}

#[tokio::test]
async fn an_application_that_forbids_a_file_is_never_told_of_it_again() {
    let place = Place::directory();
    let application = Application::start(&json!([{"status": 403}, {"status": 200}]));
    let config = config(&place, &application, "value", "");
    let mut gateway = Gateway::start(&config).await;
    let mut hand = Hand::new("/up/f.bin", content(4, 100));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (403, Some("0x80190193"), Some("0x7")));
    for _ in 0..2 {
        let again = last(&gateway, &hand).await;
        assert_eq!(refusal(&again), (403, Some("0x80190193"), Some("0x7")));
        gateway.kill();
        gateway = Gateway::start(&config).await;
    }
    assert_eq!(application.count(), 1);
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert_eq!(place.object("f.bin").await, None);
}

#[tokio::test]
async fn a_silent_application_and_a_dead_one_are_told_apart() {
    let place = Place::directory();
    let application = Application::start(&json!([{"waits": true}, {"body": "awake"}]));
    let gateway = Gateway::start(&config(&place, &application, "value", "timeout = \"1s\"")).await;
    let mut hand = Hand::new("/up/f.bin", content(5, 100));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (408, Some("0x80190198"), Some("0x7")));
    application.go();
    assert_eq!(last(&gateway, &hand).await.status, 200);

    let place = Place::directory();
    let gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    drop(application);
    let mut hand = Hand::new("/up/f.bin", content(5, 100));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (502, Some("0x801901F6"), Some("0x7")));
    assert_eq!(place.kept_of(&hand.session).await, ["entity", "record"]);
    // Nobody took the file: Close gives it up (digest, T39).
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert_eq!(place.object("f.bin").await, None);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_is_no_answer() {
    let place = Place::directory();
    let application = Application::start(&json!([
        {"reset_after": 3 * MIB},
        {"length": 20 * MIB, "cut": 11 * MIB},
        {"body": "no end", "unframed": true},
        {"body": "", "unframed": true},
    ]));
    let gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let mut hand = Hand::new("/up/f.bin", content(6, PART + 4 * MIB));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (502, Some("0x801901F6"), Some("0x7")));
    assert_eq!(application.body(0), None);
    let answer = last(&gateway, &hand).await;
    assert_eq!(refusal(&answer), (502, Some("0x801901F6"), Some("0x7")));
    let answer = last(&gateway, &hand).await;
    assert_eq!(refusal(&answer), (411, Some("0x80070057"), Some("0x7")));
    let answer = last(&gateway, &hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_same(b"", &fetch(&gateway, &answer).await.expect("a reply"), "the reply");
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
}

#[tokio::test]
async fn a_huge_reply_comes_through_in_little_memory_in_a_directory() {
    huge_reply(&Place::directory()).await;
}

#[tokio::test]
async fn a_huge_reply_comes_through_in_little_memory_in_a_bucket() {
    let server = SeaweedFs::start();
    huge_reply(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn huge_reply(place: &Place) {
    let length = 150 * MIB + 7;
    let application = Application::start(&always(json!({"length": length})));
    let gateway = Gateway::start(&config(place, &application, "value", "").limits("memory = \"32MiB\"")).await;
    let mut hand = Hand::new("/up/f.bin", content(7, 10));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let reply = fetch(&gateway, &answer).await.expect("a reply");
    assert_same(&long_reply(length), &reply, "the reply");
    assert!(gateway.peak_memory() < 120 * MIB, "{} bytes", gateway.peak_memory());
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
}

#[tokio::test]
async fn a_reply_that_is_larger_than_allowed_is_refused() {
    let place = Place::directory();
    let application = Application::start(&json!([{"length": 20 * MIB}, {"length": 10 * MIB}]));
    let gateway = Gateway::start(&config(&place, &application, "value", "max_reply_size = \"10MiB\"")).await;
    let mut hand = Hand::new("/up/f.bin", content(7, 10));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (400, Some("0x80200020"), Some("0x7")));
    let answer = last(&gateway, &hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_static_reply_is_passed_on_where_it_may_lead_and_not_when_it_is_too_long() {
    let place = Place::directory();
    let of = |url: &str| json!({"headers": {"BITS-Static-Response-URL": url}});
    let long = format!("http://static.example/{}", "x".repeat(2_200));
    let good = format!("http://static.example/{}", "x".repeat(2_200 - 22));
    let application = Application::start(&json!([of(&long), of("http://evil.example/"), of(&good)]));
    let more = "static_reply_origins = [\"http://static.example\"]";
    let gateway = Gateway::start(&config(&place, &application, "value", more)).await;
    let mut hand = Hand::new("/up/f.bin", content(8, 10));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (400, Some("0x80070057"), Some("0x5")));
    let answer = last(&gateway, &hand).await;
    assert_eq!(refusal(&answer), (502, Some("0x801901F6"), Some("0x7")));
    let answer = last(&gateway, &hand).await;
    assert_eq!((answer.status, answer.header("BITS-Reply-URL")), (200, Some(&*good)));
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_the_application_works_tells_it_again_in_a_directory() {
    killed(&Place::directory()).await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_the_application_works_tells_it_again_in_a_bucket() {
    let server = SeaweedFs::start();
    killed(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn killed(place: &Place) {
    let application = Application::start(&json!([{"waits": true}, {"reset_after": MIB}, {"body": "done"}]));
    let config = config(place, &application, "value", "");
    let mut gateway = Gateway::start(&config).await;
    let bytes = content(9, 2 * PART + 99);
    let mut hand = Hand::new("/up/f.bin", bytes.clone());
    hand.begin(gateway.address).await;
    hand.send(gateway.address, 2 * PART).await;
    // The application has all of the file, and the gateway dies before it hears anything.
    let (head, body) = hand.fragment(PART);
    let mut connection = hand.connect(gateway.address).await;
    connection.send(&head).await.expect("it is taken");
    connection.send_body(&body).await.expect("it is taken");
    application.whole(0).await;
    gateway.kill();
    application.go();

    let gateway = Gateway::start(&config).await;
    let broken = last(&gateway, &hand).await;
    assert_eq!(broken.status, 502, "{broken:?}");
    let answer = last(&gateway, &hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_same(b"done", &fetch(&gateway, &answer).await.expect("a reply"), "the reply");
    for number in [0, 2] {
        assert_eq!(
            application.told(number).await.header("idempotency-key"),
            Some(&*hand.session)
        );
        assert_same(&bytes, &application.body(number).expect("it came whole"), "f.bin");
    }
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert_eq!(application.count(), 3);
}

#[tokio::test]
async fn the_answer_of_an_application_is_known_to_every_replica() {
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("replicas"));
    let application = Application::start(&json!([{"body": "once"}, {"body": "twice"}]));
    let config = config(
        &place,
        &application,
        "value",
        "reply_origin = \"http://uploads.example\"",
    );
    let mut first = Gateway::start(&config).await;
    let second = Gateway::start(&config).await;
    let mut hand = Hand::new("/up/f.bin", content(10, PART + 3));
    let answer = upload(&first, &mut hand).await;
    let url = answer.header("BITS-Reply-URL").expect("a reply").to_owned();
    first.kill();
    let again = last(&second, &hand).await;
    assert_eq!((again.status, again.header("BITS-Reply-URL")), (200, Some(&*url)));
    let path = url.strip_prefix("http://uploads.example").expect("as it is configured");
    assert_same(b"once", &second.get(path).await.expect("a reply").body, "the reply");
    assert_eq!(application.count(), 1);
    let cancel = Packet::cancel_session(&hand.path, &hand.session);
    assert_eq!(
        exchange(second.address, &cancel, b"").await.expect("an answer").status,
        200
    );
    assert!(second.get(path).await.is_none());
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
}

#[tokio::test]
async fn both_of_two_replicas_may_tell_the_application_and_one_of_its_answers_counts() {
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("race"));
    let application = Application::start(&json!([{"waits": true, "body": "first"}, {"body": "second"}]));
    let config = config(
        &place,
        &application,
        "value",
        "reply_origin = \"http://uploads.example\"",
    );
    let first = Gateway::start(&config).await;
    let second = Gateway::start(&config).await;
    let mut hand = Hand::new("/up/f.bin", content(11, 1_000));
    hand.begin(first.address).await;
    let slow = last(&first, &hand);
    let quick = async {
        application.whole(0).await;
        let quick = last(&second, &hand).await;
        application.go();
        quick
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((slow.status, quick.status), (200, 200));
    let url = quick.header("BITS-Reply-URL").expect("a reply").to_owned();
    assert_eq!(slow.header("BITS-Reply-URL"), Some(&*url));
    let path = url.strip_prefix("http://uploads.example").expect("as it is configured");
    for gateway in [&first, &second] {
        assert_same(b"second", &gateway.get(path).await.expect("a reply").body, "the reply");
    }
    hand.close(first.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
}

#[tokio::test]
async fn what_the_application_did_is_counted_and_told_in_the_log() {
    let place = Place::directory();
    let application = Application::start(&json!([{"status": 503}, {"body": "thanks"}]));
    let mut gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let mut hand = Hand::new("/up/f.bin", content(12, 10));
    upload(&gateway, &mut hand).await;
    last(&gateway, &hand).await;
    hand.close(gateway.address).await;
    until("it is counted", async || {
        (gateway.metric("bitsgw_notifications_total").await >= 2.0).then_some(())
    })
    .await;
    let events: Vec<_> = gateway.requests(|line| line.get("event")?.as_str().map(str::to_owned));
    assert_eq!(
        events,
        [
            "created",
            "sealed",
            "application failed",
            "application took it",
            "told",
            "completed"
        ]
    );
}

#[tokio::test]
async fn an_application_is_believed_by_its_certificate_and_believes_us_by_our_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::authority::certificate(&folder);
    let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let application = Application::start_tls(&always(json!({"body": "safe"})), &certificate, &key);
    let url = format!("https://127.0.0.1:{}/in", application.port);
    let place = Place::directory();
    let more = format!(
        "ca_file = {certificate:?}\nauthorization = \"Bearer of something\"\nsigning_key = \"a key of 16 bytes or more\""
    );
    let gateway = Gateway::start(&config_to(&place, &url, "value", &more)).await;
    let mut hand = Hand::new("/up/f.bin", content(13, MIB));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_same(b"safe", &fetch(&gateway, &answer).await.expect("a reply"), "the reply");
    let told = application.told(0).await;
    assert_eq!(told.header("authorization"), Some("Bearer of something"));
    let signature = told.header("x-bits-gateway-signature").expect("a signature");
    assert!(signature.starts_with("t=") && signature.contains(",v1="), "{signature}");

    // The same without the authority: nobody is told anything.
    let place = Place::directory();
    let other = tempfile::tempdir().expect("a folder");
    crate::authority::certificate(&other);
    let more = format!("ca_file = {:?}", other.path().join("server.pem"));
    let gateway = Gateway::start(&config_to(&place, &url, "value", &more)).await;
    let mut hand = Hand::new("/up/f.bin", content(13, MIB));
    let answer = upload(&gateway, &mut hand).await;
    assert_eq!(refusal(&answer), (502, Some("0x801901F6"), Some("0x7")));
    assert_eq!(application.count(), 1);
}

#[tokio::test]
async fn a_bucket_copies_large_files_by_itself() {
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("some/prefix"));
    let application = Application::start(&always(json!({"headers": {"BITS-Copy-File-To-Destination": "1"}})));
    let mut gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let bytes = content(14, 2 * PART + 5);
    let mut hand = Hand::new("/up/f.bin", bytes.clone());
    assert_eq!(upload(&gateway, &mut hand).await.status, 200);
    assert_same(&bytes, &place.object("f.bin").await.expect("it was copied"), "f.bin");
    let page = gateway.page("/metrics").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let counted = "bitsgw_storage_requests_total{operation=\"copy_part\",outcome=\"ok\"} 1";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn our_client_brings_the_reply_home_over_a_line_that_breaks() {
    let place = Place::directory();
    let length = 20 * MIB + 1;
    let application = Application::start(&always(json!({"length": length})));
    let gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let line = Line::new().await;
    line.lead_to(gateway.address);
    let cut = |after| Fate {
        after,
        direction: Direction::ToClient,
        end: End::Cut,
    };
    // The first connection carries the packets, the others the reply.
    line.doom([cut(u64::MAX), cut(7 * MIB), cut(3 * MIB)]);
    let folder = tempfile::tempdir().expect("room");
    let bytes = content(15, PART + 1);
    std::fs::write(folder.path().join("f.bin"), &bytes).expect("room");
    let url = format!("http://{}/up/f.bin", line.address);
    let mut command = program();
    command
        .args([
            "upload",
            "f.bin",
            &url,
            "--reply",
            "reply.bin",
            "--retry-delay",
            "10ms",
            "--quiet",
        ])
        .current_dir(folder.path());
    // The line is carried by this thread.
    let uploaded = tokio::task::spawn_blocking(move || command.output().expect("the program was built"));
    let uploaded = uploaded.await.expect("no panic");
    assert!(uploaded.status.success(), "{uploaded:?}");
    let reply = std::fs::read(folder.path().join("reply.bin")).expect("a reply");
    assert_same(&long_reply(length), &reply, "the reply");
    assert!(!folder.path().join("reply.bin.part").exists());
    assert_same(&bytes, &application.body(0).expect("it came whole"), "f.bin");
    assert_eq!((line.doomed(), application.count()), (0, 1));
}

#[tokio::test]
async fn a_run_that_could_not_fetch_the_reply_leaves_it_to_the_next_one() {
    let place = Place::directory();
    let application = Application::start(&always(json!({"body": "thanks"})));
    let gateway = Gateway::start(&config(&place, &application, "value", "")).await;
    let folder = tempfile::tempdir().expect("room");
    std::fs::write(folder.path().join("f.bin"), content(16, 70_000)).expect("room");
    let url = gateway.url("/up/f.bin");
    let upload = |reply: &str| {
        let done = program()
            .args(["upload", "f.bin", url.as_str(), "--reply", reply, "--quiet"])
            .current_dir(folder.path())
            .output()
            .expect("the program was built");
        done.status.code()
    };
    assert_eq!(upload("no/such/folder/reply.bin"), Some(1));
    assert_eq!(upload("reply.bin"), Some(0));
    let reply = std::fs::read(folder.path().join("reply.bin")).expect("a reply");
    assert_same(b"thanks", &reply, "the reply");
    assert_eq!(application.count(), 1);
}
