//! What the log and the metrics tell of an upload.

use bits_gateway::client::{Pattern, Sizes, Source, Upload};
use serde_json::Value;

use crate::support::{Config, Gateway, Place, until};

#[tokio::test]
async fn an_upload_is_told_packet_by_packet_in_the_log_and_counted() {
    let place = Place::directory();
    let config = Config::new()
        .limits("memory = \"64MiB\"")
        .route("/up/", &place.lines(""));
    let mut gateway = Gateway::start(&config).await;
    let source = Source::Pattern(Pattern {
        seed: 5,
        length: 30_000,
    });
    let mut upload = Upload::new(gateway.url("/up/f.bin"), source);
    upload.options.sizes = Sizes::Fixed(10_000);
    upload.run(|_| {}).await.expect("it arrives");
    // A line is written when its answer has gone: the next request could be told first.
    let closed = |line: &Value| (line.get("kind")? == "Close-Session").then_some(());
    gateway.logged("the session is closed", closed).await;
    let file = gateway.get("/up/f.bin").await.expect("it is published");
    assert_eq!(file.body.len(), 30_000);
    let kinds =
        || gateway.requests(|line| Some((line.get("kind")?.as_str()?.to_owned(), line.get("status")?.as_u64()?)));
    let told = until("the last line", async || Some(kinds()).filter(|kinds| kinds.len() >= 6)).await;
    let expected = [
        "Create-Session",
        "Fragment",
        "Fragment",
        "Fragment",
        "Close-Session",
        "GET",
    ];
    assert_eq!(told, expected.map(|kind| (kind.to_owned(), 200)));
    let events = gateway.requests(|line| {
        assert!(line.get("msg").is_some_and(|message| message != ""), "{line}");
        line.get("event").and_then(Value::as_str).map(str::to_owned)
    });
    assert_eq!(events, ["created", "published", "completed"]);
    assert_eq!(gateway.metric("bitsgw_received_bytes_total").await, 30_000.0);
    assert_eq!(gateway.metric("bitsgw_sessions_created_total").await, 1.0);
    assert_eq!(gateway.metric("bitsgw_buffer_limit_bytes").await, 67_108_864.0);
    assert_eq!(
        gateway.metric("bitsgw_buffer_used_bytes").await,
        0.0,
        "everything is given back"
    );
}
