//! What sessions cost that nobody works on: they are in the store, and next to nothing of them is in memory.

use std::path::Path;
use std::sync::Arc;

use bits_gateway::client::raw::{Connection, Packet};
use tokio::task::JoinSet;

use crate::support::{Config, Gateway, KIB, Place, program};

/// What an idle session may add to the memory of the process.
const EACH: u64 = 2 * KIB;

/// What a list of any length may leave behind: threads that read records, each with what its allocator keeps.
const LISTING: u64 = 24 << 20;

/// Sessions before the measurement, so that what every process needs is there.
const FIRST: u64 = 500;

/// Bytes that each has sent, of a file of several parts. What is held of them counts against `limits.memory`.
const SENT: u64 = 16;

/// The file system in memory: a disk takes minutes to flush and remove 100,000 small files.
const IN_MEMORY: &str = "/dev/shm";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_idle_sessions_cost_two_kibibytes_each() {
    let (place, sessions) = if Path::new(IN_MEMORY).is_dir() {
        (Place::directory_in(IN_MEMORY), 20_000)
    } else {
        println!("2,000 instead: there is no {IN_MEMORY}");
        (Place::directory(), 2_000)
    };
    let config = Config::new().route("/up/", &place.lines(""));
    let mut gateway = Arc::new(Gateway::start(&config).await);
    open(&gateway, 0..FIRST).await;
    let before = gateway.memory();
    open(&gateway, FIRST..FIRST + sessions).await;
    let after = gateway.memory();
    let each = after.saturating_sub(before) / sessions;
    println!(
        "{} KiB, with {sessions} more sessions {} KiB: {each} bytes each",
        before / KIB,
        after / KIB
    );
    assert!(each <= EACH, "{each} bytes each");
    let held = Arc::get_mut(&mut gateway)
        .expect("all clients are gone")
        .metric("bitsgw_buffer_used_bytes")
        .await;
    // A list of all of them is not held anywhere: it goes out as the store gives it.
    let listed = list(&gateway).await;
    let listing = gateway.memory().saturating_sub(after);
    println!("{listed} listed, {} KiB more for it", listing / KIB);
    assert_eq!(listed as u64, FIRST + sessions);
    assert!(listing < LISTING, "{} KiB for a list", listing / KIB);
    assert!(
        held >= (SENT * (FIRST + sessions)) as f64,
        "they were all remembered: {held}"
    );
}

/// How many sessions the gateway lists.
async fn list(gateway: &Gateway) -> usize {
    let mut command = tokio::process::Command::from(program());
    command.args([
        "sessions",
        "list",
        "--json",
        "--admin",
        &format!("http://{}", gateway.admin),
    ]);
    let output = command.output().await.expect("the program was built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

async fn open(gateway: &Arc<Gateway>, numbers: std::ops::Range<u64>) {
    const CLIENTS: u64 = 16;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (gateway, numbers) = (Arc::clone(gateway), numbers.clone());
        clients.spawn(async move {
            let mut line = Connection::open(gateway.address).await.expect("somebody listens");
            for number in numbers.filter(|number| number % CLIENTS == client) {
                let path = format!("/up/machine-{number}/report-{number}.bin");
                let created = line.ask(&Packet::create_session(&path)).await.expect("an answer");
                let session = created.header("BITS-Session-Id").expect("a session").to_owned();
                let packet = Packet::fragment(&path, &session, 0..SENT, 100 << 20);
                let taken = line.ask_with(&packet, [1; SENT as usize]).await.expect("an answer");
                assert_eq!(taken.status, 200, "{taken:?}");
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("no panic");
    }
}
