//! More than one gateway on a bucket, and a bucket that cannot be reached.

use bits_gateway::client::raw::{Packet, exchange};
use bits_gateway::client::{Sizes, Source, Upload};

use crate::servers::SeaweedFs;
use crate::support::{Config, Dice, Gateway, Hand, KIB, Line, MIB, PART, Place, assert_same, content, seed, until};

#[tokio::test]
async fn packets_may_alternate_between_replicas_of_which_one_dies() {
    let mut dice = Dice::new(seed(800));
    let server = SeaweedFs::start();
    let place = Place::bucket(server.settings("replicas"));
    let config = Config::new().route("/up/", &place.lines("part_size = \"5MiB\""));
    let mut first = Gateway::start(&config).await;
    let second = Gateway::start(&config).await;

    let bytes = content(12, 4 * PART + 4_321);
    let mut hand = Hand::new("/up/f.bin", bytes.clone());
    hand.begin(first.address).await;
    let mut alive = [Some(first.address), Some(second.address)];
    let (mut turn, mut taken) = (0, [0, 0]);
    while !hand.is_through() {
        turn += 1;
        if alive[0].is_some() && hand.start > 2 * PART {
            // In the middle of a body, and nobody says goodbye.
            let (head, body) = hand.fragment(2 * MIB);
            let mut connection = hand.connect(first.address).await;
            connection.send(&head).await.expect("it is taken");
            let sent = usize::try_from(dice.between(1, body.len() as u64)).expect("within the body");
            let _ = connection.send_body(&body[..sent]).await;
            first.kill();
            alive[0] = None;
        }
        let address = alive[turn % 2].unwrap_or(second.address);
        hand.send(address, dice.between(5 * KIB, 3 * MIB)).await;
        taken[usize::from(address == second.address)] += 1;
    }
    hand.close(second.address).await;
    assert_same(&bytes, &place.object("f.bin").await.expect("it is published"), "f.bin");
    assert_eq!(place.kept_of(&hand.session).await, ["record"]);
    assert!(taken[0] > 2 && taken[1] > 4, "both took part: {taken:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_at_the_start_is_waited_for() {
    let server = SeaweedFs::start();
    // It leads nowhere yet: whoever connects is reset.
    let line = Line::new().await;
    let place = Place::bucket(server.settings_via(line.address.port(), "late"));
    let config = Config::new().route("/up/", &place.lines("part_size = \"5MiB\""));
    let mut gateway = Gateway::launch(&config).await;

    let refused = until("it is told apart from starting", async || {
        let page = gateway.page("/readyz").await;
        assert_eq!(page.status, 503);
        let text = String::from_utf8_lossy(&page.body).into_owned();
        text.contains("[-] store of /up/: ").then_some(text)
    });
    println!("{}", refused.await);
    assert_eq!(gateway.page("/livez").await.status, 200);
    for packet in [
        Packet::create_session("/up/f.bin"),
        Packet::close_session("/up/f.bin", "{11111111-2222-4333-8444-555555555555}"),
    ] {
        let answer = exchange(gateway.address, &packet, b"").await.expect("an answer");
        assert_eq!(answer.status, 503, "{packet}");
        let seconds: Option<u64> = answer.header("Retry-After").and_then(|seconds| seconds.parse().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0), "{answer:?}");
        assert_eq!(answer.header("BITS-Error"), None, "{answer:?}");
    }
    let pong = exchange(gateway.address, Packet::ping("/up/f.bin"), b"")
        .await
        .expect("an answer");
    assert_eq!(pong.status, 200, "a Ping asks no store");

    line.lead_to(([127, 0, 0, 1], server.port()).into());
    gateway.ready().await;
    let bytes = content(13, 2 * PART + 1);
    let mut upload = Upload::new(gateway.url("/up/f.bin"), Source::Bytes(bytes.clone()));
    upload.options.sizes = Sizes::Fixed(3 * MIB);
    let done = upload.run(|_| {}).await.expect("everything is there now");
    assert_same(&bytes, &place.object("f.bin").await.expect("it is published"), "f.bin");
    assert_eq!(place.kept_of(&done.session).await, ["record"]);
}
