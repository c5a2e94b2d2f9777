//! Completion events: a real endpoint is told what becomes of sessions, whatever dies meanwhile (docs/events.md).

use std::collections::BTreeSet;

use bits_gateway::client::raw::{Packet, exchange};
use ring::hmac;
use serde_json::{Value, json};

use crate::servers::SeaweedFs;
use crate::support::{Application, Config, Gateway, Hand, Line, MIB, PART, Place, always, content, until};

const KEY: &str = "a key of 16 bytes or more";

/// A route that tells `url`, and looks for what is left every second.
fn config(place: &Place, url: &str, more: &str) -> Config {
    config_with("1s", place, url, more)
}

fn config_with(interval: &str, place: &Place, url: &str, more: &str) -> Config {
    let rules = "part_size = \"5MiB\"\nsession_timeout = \"1d\"";
    let events = format!("[routes.events]\nurl = {url:?}\n{more}\n");
    let cleanup = format!("[cleanup]\nevents_interval = \"{interval}\"\n");
    let config = Config::new().route("/up/", &(place.lines(rules) + &events));
    Config::from(config.text().to_owned() + &cleanup)
}

async fn upload(gateway: &Gateway, hand: &mut Hand) {
    hand.begin(gateway.address).await;
    while !hand.is_through() {
        hand.send(gateway.address, PART).await;
    }
}

/// The name of a session in its events.
fn id_of(hand: &Hand) -> String {
    hand.session.trim_matches(['{', '}']).to_lowercase()
}

/// The events that came, by their ids.
async fn ids(endpoint: &Application) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..endpoint.count() {
        let told = endpoint.told(number).await;
        ids.push(told.header("idempotency-key").expect("an id").to_owned());
    }
    ids
}

/// Waits until all of these were told.
async fn told(endpoint: &Application, hand: &Hand, kinds: &[&str]) {
    let wanted: BTreeSet<_> = kinds.iter().map(|kind| format!("{}-{kind}", id_of(hand))).collect();
    until("the events are told", async || {
        let ids = ids(endpoint).await.into_iter().collect();
        wanted.is_subset(&ids).then_some(())
    })
    .await;
}

/// Waits until this is all that is kept of the session.
async fn kept(place: &Place, hand: &Hand, names: &[&str]) {
    until("the marks are there", async || {
        (place.kept_of(&hand.session).await == names).then_some(())
    })
    .await;
}

/// The document of a request and its bytes; the `number`th of this kind.
async fn document(endpoint: &Application, kind: &str) -> (usize, Value, String) {
    for number in 0..endpoint.count() {
        let head = endpoint.told(number).await;
        if head.header("idempotency-key").is_some_and(|id| id.ends_with(kind)) {
            endpoint.whole(number).await;
            let body = endpoint.body(number).expect("it came whole");
            let text = String::from_utf8(body.to_vec()).expect("text");
            return (number, serde_json::from_str(&text).expect("JSON"), text);
        }
    }
    panic!("no event {kind}");
}

#[tokio::test]
async fn every_session_is_told_of_in_both_forms_in_a_directory() {
    in_both_forms(&Place::directory()).await;
}

#[tokio::test]
async fn every_session_is_told_of_in_both_forms_in_a_bucket() {
    let server = SeaweedFs::start();
    in_both_forms(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn in_both_forms(place: &Place) {
    for (round, length) in [4_892, 2 * PART + 4_321].into_iter().enumerate() {
        for mode in ["structured", "binary"] {
            let endpoint = Application::start(&always(json!({})));
            let more = format!("mode = {mode:?}\nsigning_key = {KEY:?}\nauthorization = \"Bearer of something\"");
            let gateway = Gateway::start(&config(place, &endpoint.url("/in?x=1"), &more)).await;
            let path = format!("/up/some%20folder/%C3%BC-{mode}-{length}.bin?token=hidden");
            let key = format!("some folder/ü-{mode}-{length}.bin");
            let mut hand = Hand::new(&path, content(50 + round as u64, length));
            upload(&gateway, &mut hand).await;
            hand.close(gateway.address).await;
            told(&endpoint, &hand, &["created", "completed"]).await;
            kept(place, &hand, &["event/completed", "event/created", "record"]).await;

            let (number, parsed, text) = document(&endpoint, "completed").await;
            let data = if mode == "binary" { &parsed } else { &parsed["data"] };
            let word = |name: &str| {
                data[name]
                    .as_str()
                    .unwrap_or_else(|| panic!("{name}: {text}"))
                    .to_owned()
            };
            let (id, session) = (format!("{}-completed", id_of(&hand)), &hand.session);
            let (store, etag) = (word("store"), serde_json::to_string(&data["etag"]).expect("a text"));
            let (created, ended) = (word("created"), word("ended"));
            let expected = format!(
                r#"{{"event":"completed","session":"{session}","route":"/up/","key":"{key}","store":"{store}","size":{length},"etag":{etag},"principal":"anonymous","client":"127.0.0.1","created":"{created}","ended":"{ended}"}}"#
            );
            let head = endpoint.told(number).await;
            if mode == "binary" {
                assert_eq!(text, expected);
                for (name, value) in [
                    ("content-type", "application/json"),
                    ("ce-specversion", "1.0"),
                    ("ce-id", &*id),
                    ("ce-source", "/up/"),
                    ("ce-type", "bits-gateway.session.completed"),
                    ("ce-subject", &*format!("some%20folder/%C3%BC-binary-{length}.bin")),
                    ("ce-time", &*ended),
                ] {
                    assert_eq!(head.header(name), Some(value), "{name}");
                }
            } else {
                let whole = format!(
                    r#"{{"specversion":"1.0","id":"{id}","source":"/up/","type":"bits-gateway.session.completed","subject":"{key}","time":"{ended}","datacontenttype":"application/json","data":{expected}}}"#
                );
                assert_eq!(text, whole);
                let kind = "application/cloudevents+json; charset=utf-8";
                assert_eq!(head.header("content-type"), Some(kind));
            }
            assert_eq!(head.target, "/in?x=1");
            assert_eq!(head.header("authorization"), Some("Bearer of something"));
            let signature = head.header("x-bits-gateway-signature").expect("a signature");
            verify(signature, &id, text.as_bytes());
            let (_, _, beginning) = document(&endpoint, "created").await;
            assert!(
                beginning.contains("\"event\":\"created\"") && !beginning.contains("\"size\""),
                "{beginning}"
            );
            assert!(
                !format!("{text}{beginning}").contains("hidden"),
                "the query is nobody's business"
            );
        }
    }
}

/// As docs/events.md tells receivers to do it.
fn verify(signature: &str, id: &str, body: &[u8]) {
    let (time, digits) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .expect("both of it");
    let mut signed = format!("v1\n{time}\nPOST\n/in\nx=1\n{id}\n").into_bytes();
    signed.extend_from_slice(body);
    let tag: Vec<u8> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("digits"))
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    hmac::verify(&key, &signed, &tag).expect("our signature");
    signed.push(b' ');
    assert!(hmac::verify(&key, &signed, &tag).is_err());
}

#[tokio::test]
async fn a_session_that_its_client_gives_up_is_told_of_and_one_that_is_not_wanted_is_not() {
    let place = Place::directory();
    let endpoint = Application::start(&always(json!({})));
    let kinds = "mode = \"binary\"\nkinds = [\"cancelled\"]";
    let gateway = Gateway::start(&config(&place, &endpoint.url("/in"), kinds)).await;
    let mut whole = Hand::new("/up/whole.bin", content(1, 10));
    upload(&gateway, &mut whole).await;
    whole.close(gateway.address).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    hand.begin(gateway.address).await;
    let cancel = Packet::cancel_session("/up/f.bin", &hand.session);
    let cancelled = exchange(gateway.address, &cancel, b"").await.expect("an answer");
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    told(&endpoint, &hand, &["cancelled"]).await;
    kept(&place, &hand, &["event/cancelled", "record"]).await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn nobody_waits_for_an_endpoint_that_is_slow() {
    let place = Place::directory();
    let endpoint = Application::start(&always(json!({"waits": true})));
    let mut gateway = Gateway::start(&config_with("1h", &place, &endpoint.url("/in"), "mode = \"binary\"")).await;
    // All of it is answered before the endpoint says a word.
    let mut hand = Hand::new("/up/f.bin", content(1, MIB));
    upload(&gateway, &mut hand).await;
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert_eq!(gateway.metric("bitsgw_events_pending").await, 2.0);
    endpoint.go();
    kept(&place, &hand, &["event/completed", "event/created", "record"]).await;
    until("nothing is pending", async || {
        (gateway.metric("bitsgw_events_pending").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("bitsgw_events_delivered_total").await, 2.0);
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn an_endpoint_that_was_away_is_told_when_it_is_back() {
    let place = Place::directory();
    let line = Line::new().await;
    let url = format!("http://{}/in", line.address);
    let mut gateway = Gateway::start(&config(&place, &url, "mode = \"structured\"")).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut hand).await;
    hand.close(gateway.address).await;
    until("both were tried", async || {
        (gateway.metric("bitsgw_event_failures_total").await >= 2.0).then_some(())
    })
    .await;
    let endpoint = Application::start(&always(json!({})));
    line.lead_to(([127, 0, 0, 1], endpoint.port).into());
    told(&endpoint, &hand, &["created", "completed"]).await;
    kept(&place, &hand, &["event/completed", "event/created", "record"]).await;
}

#[tokio::test]
async fn an_event_that_was_refused_is_told_again_with_the_same_words() {
    let place = Place::directory();
    let endpoint =
        Application::start(&json!([{"status": 500}, {"status": 302, "headers": {"Location": "/other"}}, {}]));
    let more = "mode = \"structured\"\nkinds = [\"completed\"]";
    let gateway = Gateway::start(&config_with("1h", &place, &endpoint.url("/in"), more)).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut hand).await;
    kept(&place, &hand, &["event/completed", "record"]).await;
    assert_eq!(endpoint.count(), 3, "nobody follows a redirection");
    let id = format!("{}-completed", id_of(&hand));
    assert_eq!(ids(&endpoint).await, [&*id; 3]);
    assert_eq!(endpoint.body(0), endpoint.body(2));
    hand.close(gateway.address).await;
    assert_eq!(place.kept_of(&hand.session).await, ["event/completed", "record"]);
}

#[tokio::test]
async fn what_a_killed_replica_did_not_tell_another_one_tells_in_a_directory() {
    killed(&Place::directory()).await;
}

#[tokio::test]
async fn what_a_killed_replica_did_not_tell_another_one_tells_in_a_bucket() {
    let server = SeaweedFs::start();
    killed(&Place::bucket(server.settings("some/prefix"))).await;
}

async fn killed(place: &Place) {
    // The first requests never get an answer: whoever sent them dies.
    let endpoint = Application::start(&json!([{"waits": true}, {"waits": true}, {}]));
    let config = config(place, &endpoint.url("/in"), "mode = \"structured\"\ntimeout = \"1s\"");
    let mut gateway = Gateway::start(&config).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 4_892));
    upload(&gateway, &mut hand).await;
    gateway.kill();
    assert_eq!(place.kept_of(&hand.session).await, ["record"], "no event is marked");

    let gateway = Gateway::start(&config).await;
    told(&endpoint, &hand, &["created", "completed"]).await;
    kept(place, &hand, &["event/completed", "event/created", "record"]).await;
    hand.close(gateway.address).await;
    kept(place, &hand, &["event/completed", "event/created", "record"]).await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_dropped_in_the_end() {
    let place = Place::directory();
    let endpoint = Application::start(&always(json!({"status": 400})));
    let more = "mode = \"structured\"\nkinds = [\"completed\"]\nmax_age = \"3s\"\ntimeout = \"1s\"";
    let mut gateway = Gateway::start(&config(&place, &endpoint.url("/in"), more)).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut hand).await;
    kept(&place, &hand, &["event/completed", "record"]).await;
    // Marked first, counted next, then said: the mark alone does not show that the rest has happened.
    let line = gateway.logged("it says so", |line| {
        let says = line.get("msg")?.as_str()? == "dropped: nobody took the event";
        says.then(|| line.get("session")?.as_str().map(str::to_owned)).flatten()
    });
    assert_eq!(line.await.to_lowercase(), hand.session.to_lowercase());
    assert_eq!(gateway.metric("bitsgw_events_dropped_total").await, 1.0);
    assert_eq!(gateway.metric("bitsgw_events_delivered_total").await, 0.0);
}

#[tokio::test]
async fn an_endpoint_is_believed_by_its_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::authority::certificate(&folder);
    let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let endpoint = Application::start_tls(&always(json!({})), &certificate, &key);
    let url = format!("https://127.0.0.1:{}/in", endpoint.port);
    let place = Place::directory();
    let more = format!("mode = \"structured\"\nca_file = {certificate:?}");
    let gateway = Gateway::start(&config(&place, &url, &more)).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut hand).await;
    told(&endpoint, &hand, &["created", "completed"]).await;

    // The same without the authority: nobody is told anything.
    let place = Place::directory();
    let other = tempfile::tempdir().expect("a folder");
    crate::authority::certificate(&other);
    let more = format!("mode = \"structured\"\nca_file = {:?}", other.path().join("server.pem"));
    let mut gateway = Gateway::start(&config(&place, &url, &more)).await;
    let mut stranger = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut stranger).await;
    until("both were tried", async || {
        (gateway.metric("bitsgw_event_failures_total").await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn a_process_that_is_asked_to_go_says_what_it_has_to_say() {
    let place = Place::directory();
    let endpoint = Application::start(&json!([{}, {"waits": true}]));
    let mut gateway = Gateway::start(&config_with("1h", &place, &endpoint.url("/in"), "mode = \"binary\"")).await;
    let mut hand = Hand::new("/up/f.bin", content(1, 10));
    upload(&gateway, &mut hand).await;
    endpoint.told(1).await;
    gateway.terminate();
    gateway
        .logged("it drains", |line| {
            (line.get("msg")?.as_str()? == "draining").then_some(())
        })
        .await;
    endpoint.go();
    assert_eq!(gateway.end().await, Some(0));
    assert_eq!(
        place.kept_of(&hand.session).await,
        ["event/completed", "event/created", "record"]
    );
}
