//! What a crowd may cost: memory is bounded by the configuration, not by how many come.

use bits_gateway::client::{Event, MOST, Sizes, Source, Upload};
use tokio::task::JoinSet;

use crate::support::{Config, Gateway, KIB, MIB, Place, assert_same, content};

const CLIENTS: u64 = 200;

/// `limits.memory`.
const BUDGET: u64 = 64 * MIB;

/// What the process needs besides, and each connection.
const PROCESS: u64 = 60 * MIB;
const CONNECTION: u64 = 50 * KIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_at_once_are_served_within_the_memory_that_was_configured() {
    let place = Place::directory();
    let config = Config::new()
        .limits(&format!("memory = \"{}MiB\"", BUDGET / MIB))
        .route("/up/", &place.lines(""));
    let mut gateway = Gateway::start(&config).await;
    println!("VmHWM at the start: {} KiB", gateway.peak_memory() / KIB);

    // Each client sends another part of the same bytes: what one of them holds is not there 200 times.
    let bytes = content(11, MOST + CLIENTS);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let from = usize::try_from(number).expect("small");
        let bytes = bytes.slice(from..from + usize::try_from(MOST).expect("13 MiB"));
        let mut upload = Upload::new(gateway.url(&format!("/up/{number}.bin")), Source::Bytes(bytes.clone()));
        upload.options.sizes = Sizes::Fixed(MOST);
        clients.spawn(async move {
            let mut answers = Vec::new();
            let done = upload.run(|event| {
                if let Event::Answered { status, .. } = event {
                    answers.push(status);
                }
            });
            let done = done.await;
            done.unwrap_or_else(|failed| panic!("client {number}: {failed}"));
            (number, bytes, answers)
        });
    }
    while let Some(client) = clients.join_next().await {
        let (number, bytes, answers) = client.expect("no panic");
        assert_eq!(answers, [200, 200, 200], "client {number}: create, one fragment, close");
        let key = format!("{number}.bin");
        let stored = place.object(&key).await.expect("it is published");
        assert_same(&bytes, &stored, &key);
        place.take_away(&key).await;
    }
    let peak = gateway.peak_memory();
    let most = BUDGET + PROCESS + CLIENTS * CONNECTION;
    println!("VmHWM at the end: {} KiB, at most {} KiB", peak / KIB, most / KIB);
    assert!(peak < most, "{} KiB, at most {} KiB", peak / KIB, most / KIB);
    assert_eq!(
        gateway.metric("bitsgw_buffer_used_bytes").await,
        0.0,
        "everything is given back"
    );
}
