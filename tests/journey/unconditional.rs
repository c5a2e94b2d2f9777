//! Stores without conditional writes: they are found out at the start, and one process alone can serve them.

use bits_gateway::client::raw::exchange;
use bits_gateway::client::{Sizes, Source, Upload};
use serde_json::Value;
use tokio::process::Command;

use crate::http::Proxy;
use crate::servers::SeaweedFs;
use crate::support::{Config, Gateway, Hand, MIB, PART, Place, assert_same, content, program};

/// The conditions of S3.
const CONDITIONS: &[&str] = &["if-match", "if-none-match"];

/// What the sentence names.
const LACKING: [&str; 3] = [
    "create an object only if it is absent (If-None-Match: *)",
    "replace an object only if it is unchanged (If-Match)",
    "complete an upload of several parts only if the destination is unchanged",
];

/// Runs `check --live`: its exit code, and what it printed where.
async fn check_live(config: &Config) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("room for a file");
    std::fs::write(folder.path().join("gateway.toml"), config.text()).expect("room for a file");
    let mut command = Command::from(program());
    command.args(["check", "--live", "--config", "gateway.toml"]);
    let output = command
        .current_dir(folder.path())
        .output()
        .await
        .expect("the program was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Both `check --live` and `serve` say what the store lacks and what to do, and end with 78.
async fn is_found_out(config: &Config, sentence: &[&str]) {
    let (code, out, error) = check_live(config).await;
    assert_eq!((code, out.as_str()), (Some(78), ""), "{error}");
    assert!(error.starts_with("gateway.toml:"), "{error}");
    for words in sentence.iter().chain(&[
        "create if absent: no",
        "compare and swap: no",
        "conditional completion: no",
        "list after create: yes",
    ]) {
        assert!(error.contains(words), "{words}: {error}");
    }
    let mut gateway = Gateway::launch(config).await;
    let told = gateway.logged("it says why it ends", |line| {
        let text = line.get("msg")?.as_str()?.to_owned();
        text.contains("the store does not").then_some(text)
    });
    let told = told.await;
    for words in sentence {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(gateway.end().await, Some(78));
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_found_out_and_served_by_one_replica() {
    let server = SeaweedFs::start_for_everybody();
    let proxy = Proxy::deaf_to(CONDITIONS, server.port()).await;
    let place = Place::bucket(server.settings_via(proxy.server.port, "deaf"));
    holds(&place).await;
}

#[tokio::test]
async fn a_store_that_refuses_conditions_is_found_out_and_served_by_one_replica() {
    let server = SeaweedFs::start_for_everybody();
    let proxy = Proxy::refusing(CONDITIONS, server.port()).await;
    let place = Place::bucket(server.settings_via(proxy.server.port, "refusing"));
    holds(&place).await;
}

/// What holds for a place without conditions.
async fn holds(place: &Place) {
    let shared = Config::new().route("/up/", &place.lines(""));
    let advice = "or run one replica only and say coordination = \"single-replica\"";
    is_found_out(&shared, &[&LACKING[..], &[advice]].concat()).await;
    is_served_by_one(place).await;
}

async fn is_served_by_one(place: &Place) {
    let rules = "part_size = \"5MiB\"\ncoordination = \"single-replica\"";
    let config = Config::new().route("/up/", &place.lines(rules));
    let (code, out, error) = check_live(&config).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.contains("create if absent: no, compare and swap: no, list after create: yes"),
        "{out}"
    );

    let gateway = Gateway::start(&config).await;
    for (key, length) in [("small.bin", 70_001), ("large.bin", 2 * PART + 1)] {
        let bytes = content(50, length);
        let mut upload = Upload::new(gateway.url(&format!("/up/{key}")), Source::Bytes(bytes.clone()));
        upload.options.sizes = Sizes::Fixed(3 * MIB);
        let done = upload.run(|_| {}).await.expect("it is served");
        assert_same(&bytes, &place.object(key).await.expect("it is published"), key);
        assert_eq!(place.kept_of(&done.session).await, ["record"]);
        // What is there is still looked at before.
        let again = Hand::new(&format!("/up/{key}"), bytes);
        let refused = exchange(gateway.address, again.create_session(), b"")
            .await
            .expect("an answer");
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    let told: Vec<Value> = gateway.requests(|line| line.get("status").filter(|status| **status == 503).cloned());
    assert!(told.is_empty(), "{told:?}");
}
