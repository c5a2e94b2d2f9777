//! Two hosts with the same path: two routes, also where they keep their sessions in one place.

use bits_gateway::client::raw::{Answer, Packet, exchange};
use serde_json::Value;

use crate::support::{Config, Gateway, MIB, PART, content, program};

const HOSTS: [&str; 2] = ["one.example", "two.example"];

async fn ask(gateway: &Gateway, host: &str, packet: Packet, body: &[u8]) -> Answer {
    let packet = packet.with("Host", host);
    exchange(gateway.address, packet, body).await.expect("an answer")
}

#[tokio::test]
async fn a_session_stays_with_the_host_that_it_was_begun_on() {
    let folder = tempfile::tempdir().expect("room");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut config = Config::new();
    for host in HOSTS {
        let lines = format!(
            "host = \"{host}\"\nstore = {:?}\nstaging = {:?}\npart_size = \"{PART}B\"",
            at(host),
            at("staging")
        );
        config = config.route("/up/", &lines);
    }
    let mut gateway = Gateway::start(&config).await;
    let bytes = content(1, 20 * MIB);
    let total = bytes.len() as u64;
    let created = ask(&gateway, HOSTS[0], Packet::create_session("/up/f"), b"").await;
    let session = created.header("BITS-Session-Id").expect("a session");
    let half = 10 << 20;
    let (first, second) = bytes.split_at(half);
    let half = half as u64;
    let end = Packet::fragment("/up/f", session, half..total, total);
    let close = Packet::close_session("/up/f", session);

    let begin = Packet::fragment("/up/f", session, 0..half, total);
    assert_eq!(ask(&gateway, HOSTS[0], begin, first).await.status, 200);
    for (packet, body) in [
        (end.clone(), second),
        (close.clone(), b""),
        (Packet::cancel_session("/up/f", session), b""),
    ] {
        let refused = ask(&gateway, HOSTS[1], packet, body).await;
        assert_eq!(refused.status, 500, "{refused:?}");
        assert_eq!(refused.header("BITS-Error-Code"), Some("0x8020001F"), "{refused:?}");
    }
    let ended = ask(&gateway, HOSTS[0], end, second).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!(
        ended.header("BITS-Received-Content-Range"),
        Some(total.to_string().as_str())
    );
    assert_eq!(ask(&gateway, HOSTS[0], close, b"").await.status, 200);
    assert!(std::fs::read(folder.path().join("one.example/f")).expect("a file") == bytes);
    assert!(!folder.path().join("two.example/f").exists());

    // Each goes by its own name wherever it is named.
    let page = String::from_utf8(gateway.page("/metrics").await.body.to_vec()).expect("text");
    let created: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("bitsgw_sessions_created_total{"))
        .collect();
    assert_eq!(
        created,
        [
            "bitsgw_sessions_created_total{route=\"one.example/up/\"} 1",
            "bitsgw_sessions_created_total{route=\"two.example/up/\"} 0"
        ]
    );
    let mut list = program();
    list.args([
        "sessions",
        "list",
        "--all",
        "--json",
        "--route",
        "one.example/up/",
        "--admin",
    ]);
    list.arg(format!("http://{}", gateway.admin)).current_dir(folder.path());
    let listed = tokio::task::spawn_blocking(move || list.output().expect("the program was built"));
    let listed = listed.await.expect("no panic").stdout;
    let listed: Value = serde_json::from_slice(&listed).expect("one line of JSON");
    assert_eq!(listed["route"], "one.example/up/");
}
