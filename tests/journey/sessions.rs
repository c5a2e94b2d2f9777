//! `bits-gateway sessions` and the pages behind it: against stores without a gateway, beside gateways, and through one.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use bits_gateway::client::raw::{Packet, exchange};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::servers::SeaweedFs;
use crate::support::{Config, Gateway, Hand, KIB, MIB, PART, Place, content, program};

/// The command with a configuration.
struct Admin {
    folder: TempDir,
    admin: Option<String>,
}

/// How it ended, and what it printed where.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Admin {
    fn of(config: &Config) -> Self {
        let folder = tempfile::tempdir().expect("room for a file");
        std::fs::write(folder.path().join("gateway.toml"), config.text()).expect("room for a file");
        Self { folder, admin: None }
    }

    /// The same, by way of a running gateway.
    fn via(mut self, gateway: &Gateway) -> Self {
        self.admin = Some(format!("http://{}", gateway.admin));
        self
    }

    async fn ask(&self, words: &[&str]) -> Said {
        let mut command = program();
        command.arg("sessions").args(words).args(["--config", "gateway.toml"]);
        command.args(self.admin.iter().flat_map(|url| ["--admin", url]));
        command.current_dir(self.folder.path());
        let output: Output = spawn_blocking(move || command.output().expect("the program was built"))
            .await
            .expect("no panic");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            out: text(&output.stdout),
            error: text(&output.stderr),
        }
    }

    /// The lines of JSON of a command that succeeds.
    async fn json(&self, words: &[&str]) -> Vec<Value> {
        let said = self.ask(&[words, &["--json"]].concat()).await;
        assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.out, said.error);
        let lines = said.out.lines();
        lines.map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The keys that a list tells.
    async fn keys(&self, words: &[&str]) -> Vec<String> {
        let listed = self.json(&[&["list"], words].concat()).await;
        let mut keys: Vec<_> = listed
            .iter()
            .map(|session| session["key"].as_str().unwrap_or("-").to_owned())
            .collect();
        keys.sort();
        keys
    }
}

fn id(hand: &Hand) -> String {
    hand.session.trim_matches(['{', '}']).to_lowercase()
}

/// An upload of which the first bytes are there.
async fn begun(gateway: &Gateway, path: &str, total: u64, sent: u64) -> Hand {
    let mut hand = Hand::new(path, content(40, total));
    hand.begin(gateway.address).await;
    hand.send(gateway.address, sent).await;
    hand
}

/// Whether the client is told that its session is gone (0x8020001F).
async fn is_gone(gateway: &Gateway, hand: &Hand, length: u64) -> bool {
    let (head, body) = hand.fragment(length);
    let answer = exchange(gateway.address, &head, &body).await.expect("an answer");
    answer.status == 500 && answer.header("BITS-Error-Code") == Some("0x8020001F")
}

#[tokio::test]
async fn sessions_in_a_directory_are_seen_through_its_gateway_and_without_one_when_it_is_gone() {
    let place = Place::directory();
    let config = Config::new().route("/up/", &place.lines("part_size = \"5MiB\""));
    let mut gateway = Gateway::start(&config).await;
    let mut one = begun(&gateway, "/up/a/one", 3 * PART, PART).await;
    one.send(gateway.address, 70_000).await;
    let two = begun(&gateway, "/up/b/two", 100 * KIB, 5 * KIB).await;
    let mut whole = Hand::new("/up/b/three", content(41, 9_999));
    whole.begin(gateway.address).await;
    whole.send(gateway.address, 9_999).await;

    let direct = Admin::of(&config);
    let refused = direct.ask(&["list"]).await;
    assert_eq!(refused.code, Some(69), "{}{}", refused.out, refused.error);
    assert!(refused.error.contains("--admin http://127.0.0.1:"), "{}", refused.error);

    let through = Admin::of(&config).via(&gateway);
    assert_eq!(through.keys(&[]).await, ["a/one", "b/three", "b/two"]);
    assert_eq!(through.keys(&["--prefix", "b/", "--phase", "open"]).await, ["b/two"]);
    assert_eq!(through.keys(&["--silent-for", "1h"]).await, [""; 0]);
    assert_eq!(through.keys(&["--active-within", "1h", "--limit", "2"]).await.len(), 2);
    let cancelled = through.json(&["cancel", &two.session]).await;
    assert_eq!(cancelled[0]["outcome"], "cancelled");
    assert!(is_gone(&gateway, &two, 10).await);
    assert_eq!(through.keys(&["--all", "--phase", "closed"]).await, ["b/two"]);
    let unknown = "11111111-2222-4333-8444-555555555555";
    for words in [["show", unknown], ["cancel", unknown]] {
        assert_eq!(through.ask(&words).await.code, Some(1), "{words:?}");
    }
    let table = through.ask(&["list"]).await;
    assert_eq!(table.out.lines().count(), 3, "a header and two: {}", table.out);
    let wrong = through.ask(&["list", "--route", "/other/"]).await;
    assert_eq!(wrong.code, Some(64), "{}", wrong.error);

    gateway.kill();
    let refused = through.ask(&["list"]).await;
    assert_eq!(
        (refused.code, refused.out.as_str()),
        (Some(69), ""),
        "{}",
        refused.error
    );
    assert_eq!(direct.keys(&[]).await, ["a/one", "b/three"]);
    let shown = &direct.json(&["show", &id(&one)]).await[0];
    let told = |name: &str| shown[name].clone();
    assert_eq!(told("phase"), "open");
    assert_eq!((told("total"), told("next")), (json!(3 * PART), json!(PART + 70_000)));
    assert_eq!((told("recorded"), told("parts")), (json!(PART), json!(1)));
    assert_eq!((told("tails"), told("tail_bytes")), (json!(1), json!(70_000)));
    assert_eq!((told("principal"), told("route")), (json!("anonymous"), json!("/up/")));
    assert_eq!(told("url"), "http://gateway.test/up/a/one");
    assert!(told("upload").is_string() && told("expires").is_string(), "{shown}");
    let read = direct.ask(&["show", &id(&one)]).await.out;
    assert!(read.contains("phase             open\n"), "{read}");

    // The dead gateway's session is ended all the same, and one that was published keeps its file.
    let ended = direct.ask(&["cancel", &id(&one), unknown, &id(&whole)]).await;
    assert_eq!(ended.code, Some(1), "one of them does not exist: {}", ended.error);
    assert_eq!(place.kept_of(&one.session).await, ["record"]);
    assert!(place.object("b/three").await.is_some());
    assert_eq!(direct.keys(&[]).await, [""; 0]);
    let swept = direct.json(&["sweep"]).await;
    assert_eq!(swept.len(), 1, "everything is younger than an hour: {swept:?}");
    assert_eq!(swept[0]["swept"]["report"]["sessions"], 3);
}

#[tokio::test]
async fn sessions_in_a_bucket_are_listed_and_cancelled_beside_the_gateways_that_serve_them() {
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("beside"));
    let config = Config::new().route("/up/", &place.lines("part_size = \"5MiB\""));
    let gateways = [Gateway::start(&config).await, Gateway::start(&config).await];
    let admin = Admin::of(&config);
    let hand = begun(&gateways[0], "/up/f.bin", 3 * PART, PART + 2 * MIB).await;
    let other = begun(&gateways[1], "/up/g.bin", 3 * PART, 5 * KIB).await;
    assert_eq!(admin.keys(&[]).await, ["f.bin", "g.bin"]);
    admin.json(&["cancel", &hand.session]).await;
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert!(is_gone(&gateways[1], &hand, 10).await);
    assert!(
        is_gone(&gateways[0], &hand, 6 * MIB).await,
        "who remembers it notices when a part is full, at the latest"
    );
    assert!(!is_gone(&gateways[0], &other, 10).await);
    // Again is no mistake, and says how it ended.
    assert_eq!(admin.json(&["cancel", &hand.session]).await[0]["outcome"], "cancelled");
    let rehearsed = admin.json(&["sweep", "--dry-run"]).await;
    assert_eq!(rehearsed[0]["swept"]["report"]["sessions"], 2, "{rehearsed:?}");
}

#[tokio::test]
async fn with_a_token_only_who_presents_it_sees_sessions_and_the_log_never_does() {
    const TOKEN: &str = "correct-horse-battery-staple";
    let place = Place::directory();
    let folder = tempfile::tempdir().expect("room for a file");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("room for a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("our own");
    let line = format!("admin_token = {{ file = {:?} }}", file.display().to_string());
    let config = Config::new().server(&line).route("/up/", &place.lines(""));
    let mut gateway = Gateway::start(&config).await;
    begun(&gateway, "/up/f.bin", 100, 50).await;

    assert_eq!(Admin::of(&config).via(&gateway).keys(&[]).await, ["f.bin"]);
    let without = Config::new().route("/up/", &place.lines(""));
    let stranger = Admin::of(&without).via(&gateway).ask(&["list"]).await;
    assert_eq!(stranger.code, Some(69));
    assert!(stranger.error.contains("server.admin_token"), "{}", stranger.error);
    let wrong = Config::new()
        .server("admin_token = \"another-token-altogether\"")
        .route("/up/", &place.lines(""));
    assert_eq!(Admin::of(&wrong).via(&gateway).ask(&["list"]).await.code, Some(69));
    for page in ["/livez", "/readyz", "/startupz", "/metrics"] {
        assert_eq!(gateway.page(page).await.status, 200, "{page}");
    }
    assert_eq!(gateway.page("/sessions").await.status, 401);
    assert!(!gateway.log().iter().any(|line| line.contains(TOKEN)));
}

#[tokio::test]
async fn a_listener_off_loopback_shows_no_sessions_without_a_token() {
    let place = Place::directory();
    let config = Config::new().route("/up/", &place.lines(""));
    let text = config
        .text()
        .replace("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"0.0.0.0:0\"");
    let mut gateway = Gateway::start(&Config::from(text)).await;
    let page = gateway.page("/sessions").await;
    let body = String::from_utf8_lossy(&page.body).into_owned();
    assert_eq!(page.status, 403, "{body}");
    assert!(body.contains("set server.admin_token"), "{body}");
    assert_eq!(gateway.page("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_served_and_keeps_what_is_not_understood() {
    let place = Place::directory();
    let config = Config::new().route("/up/", &place.lines("part_size = \"5MiB\""));
    let mut gateway = Gateway::start(&config).await;
    let mut hand = begun(&gateway, "/up/f.bin", 2 * PART, 70_000).await;
    gateway.kill();
    let record = place.record(&hand.session);
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&record).expect("it is there")).expect("JSON") };
    let mut newer = read();
    newer["version"] = 7.into();
    newer["colour"] = json!({ "of": ["the", "sky"] });
    std::fs::write(&record, newer.to_string()).expect("room");

    let gateway = Gateway::start(&config).await;
    hand.send(gateway.address, PART).await;
    let rewritten = read();
    assert_ne!(rewritten["write"], newer["write"], "a part was recorded");
    assert_eq!(
        (&rewritten["version"], &rewritten["colour"]),
        (&newer["version"], &newer["colour"])
    );
    let shown = &Admin::of(&config).via(&gateway).json(&["show", &hand.session]).await[0];
    assert_eq!(
        (&shown["format"], &shown["unknown_fields"]),
        (&json!(7), &json!(["colour"]))
    );
    while !hand.is_through() {
        hand.send(gateway.address, 3 * MIB).await;
    }
    hand.close(gateway.address).await;
    assert_eq!(read()["colour"], newer["colour"], "the tombstone has it, too");
}

#[tokio::test]
async fn a_record_that_only_newer_versions_may_read_is_refused_cleanly_and_left_alone() {
    let place = Place::directory();
    let config = Config::new().route("/up/", &place.lines(""));
    let mut gateway = Gateway::start(&config).await;
    let mut hand = begun(&gateway, "/up/f.bin", 2 * PART, 70_000).await;
    gateway.kill();
    let record = place.record(&hand.session);
    let before: Value = serde_json::from_slice(&std::fs::read(&record).expect("it is there")).expect("JSON");
    let mut newer = before.clone();
    newer["min_reader"] = 9.into();
    newer["phase"] = json!({ "a phase to come": {} });
    std::fs::write(&record, newer.to_string()).expect("room");

    let mut gateway = Gateway::start(&config).await;
    let (fragment, body) = hand.fragment(10);
    let cancel = Packet::cancel_session(&hand.path, &hand.session);
    for (packet, body) in [(fragment, &body[..]), (hand.close_session(), b""), (cancel, b"")] {
        let answer = exchange(gateway.address, &packet, body).await.expect("an answer");
        assert_eq!(answer.status, 503, "{packet}: {answer:?}");
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
        assert_eq!(answer.header("BITS-Error-Code"), None, "{answer:?}");
    }
    let why = gateway.logged("the log says why", |line| {
        let why = line.get("why")?.as_str()?.to_owned();
        why.contains("upgrade this replica").then_some(why)
    });
    assert!(why.await.contains(&hand.session));

    let admin = Admin::of(&config).via(&gateway);
    let listed = admin.json(&["list"]).await;
    assert_eq!(listed[0]["phase"], "newer");
    assert!(
        listed[0]["problem"].as_str().is_some_and(|why| why.contains("upgrade")),
        "{listed:?}"
    );
    assert_eq!(admin.keys(&["--phase", "open"]).await, [""; 0]);
    assert_eq!(admin.json(&["show", &hand.session]).await[0]["phase"], "newer");
    let refused = admin.ask(&["cancel", &hand.session]).await;
    assert_eq!(refused.code, Some(69));
    assert!(refused.error.contains("upgrade"), "{}", refused.error);
    let left: Value = serde_json::from_slice(&std::fs::read(&record).expect("it is there")).expect("JSON");
    assert_eq!(left, newer);

    // The newer version had its way with it: everything is as it was.
    std::fs::write(&record, before.to_string()).expect("room");
    hand.send(gateway.address, MIB).await;
}

#[tokio::test]
async fn what_is_not_there_is_said_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("room");
    let missing = folder.path().join("missing").display().to_string();
    for (store, why) in [
        (missing.as_str(), "there is no such directory"),
        ("memory:///", "--admin http://127.0.0.1:"),
    ] {
        let config = Config::new().route("/up/", &format!("store = {store:?}"));
        let said = Admin::of(&config).ask(&["list"]).await;
        assert_eq!(said.code, Some(69), "{}", said.error);
        assert!(said.error.contains(why), "{}", said.error);
    }
    assert!(!folder.path().join("missing").exists());
    let config = Config::new().route("/up/", "store = \"./x\"");
    let wrong = Admin::of(&config).ask(&["list", "--route", "/down/"]).await;
    assert_eq!(wrong.code, Some(64));
    assert!(wrong.error.contains("/up/"), "{}", wrong.error);
    assert_eq!(Admin::of(&config).ask(&["show", "no-id"]).await.code, Some(64));
    assert_eq!(
        Admin::of(&config).ask(&["list", "--phase", "half"]).await.code,
        Some(64)
    );
}
