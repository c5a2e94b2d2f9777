//! What the log tells of an upload.

use bits_gateway::client::{Pattern, Sizes, Source, Upload};
use serde_json::Value;

use crate::support::{Config, Gateway, Place, until};

#[tokio::test]
async fn every_packet_of_an_upload_has_one_line_in_the_log() {
    let place = Place::directory();
    let gateway = Gateway::start(&Config::new().route("/up/", &place.lines(""))).await;
    let source = Source::Pattern(Pattern {
        seed: 5,
        length: 30_000,
    });
    let mut upload = Upload::new(gateway.url("/up/f.bin"), source);
    upload.options.sizes = Sizes::Fixed(10_000);
    upload.run(|_| {}).await.expect("it arrives");
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
    let events = gateway.requests(|line| line.get("event").and_then(Value::as_str).map(str::to_owned));
    assert_eq!(events, ["created", "published", "completed"]);
}
