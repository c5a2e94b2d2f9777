//! Bytes that are damaged on their way into the store: it refuses them, and the upload is whole in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bits_gateway::client::raw::Connection;
use bits_gateway::staging::Sha256;
use bits_gateway::units::SecretOr;
use bytes::Bytes;

use crate::http::{Proxy, Request, Spoil};
use crate::servers::SeaweedFs;
use crate::support::{Config, Gateway, Hand, KIB, MIB, PART, Place, assert_same, content, until};

/// A sum over every byte. (By default what goes over plain HTTP is signed, byte by byte. Amazon compares that, this server does not.)
const SUMMED: &[(&str, &str)] = &[
    ("aws_unsigned_payload", "true"),
    ("aws_checksum_algorithm", "crc64nvme"),
];

/// None.
const BARE: &[(&str, &str)] = &[("aws_unsigned_payload", "true")];

/// Whether bytes of a file are in it: a part, a tail, or a small file.
fn is_data(request: &Request) -> bool {
    let is_own = request.target.contains("/.bits-gateway/");
    request.method == "PUT" && (!is_own || request.target.contains("/tail/")) && !request.target.ends_with(".sha256")
}

/// Uploads a file of `length` bytes in fragments of `step`, over a line that damages one of five requests with data in it. Gives back what is
/// stored, and how many requests were damaged.
async fn upload(options: &[(&str, &str)], length: u64, step: u64) -> (Bytes, Bytes, Option<Bytes>, usize) {
    let server = SeaweedFs::start();
    let proxy = Proxy::to(server.port()).await;
    let mut settings = server.settings_via(proxy.server.port, "damaged");
    for (name, value) in options {
        let value = SecretOr::Plain((*value).to_owned());
        settings.options.insert((*name).to_owned(), value);
    }
    let rules = "part_size = \"5MiB\"\nchecksum = \"sha256\"\nchecksum_sidecar = true";
    let config = Config::new().route("/up/", &Place::bucket(settings).lines(rules));
    let gateway = Gateway::start(&config).await;
    let (seen, damaged) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&damaged);
    proxy.choose(move |request| {
        let is_hit = is_data(request) && seen.fetch_add(1, Ordering::Relaxed) % 5 == 0;
        counted.fetch_add(usize::from(is_hit), Ordering::Relaxed);
        is_hit.then_some(Spoil::Damage)
    });
    let bytes = content(7, length);
    let mut hand = Hand::new("/up/f.bin", bytes.clone());
    hand.begin(gateway.address).await;
    while !hand.is_through() {
        let (head, body) = hand.fragment(step);
        let answer = until("the store has it", async || {
            let mut connection = Connection::open(gateway.address).await.ok()?;
            let answer = connection.ask_with(&head, &body).await.ok()?;
            (answer.status != 503).then_some(answer)
        });
        let answer = answer.await;
        hand.told(&answer);
    }
    hand.close(gateway.address).await;
    let place = Place::bucket(server.settings("damaged"));
    let stored = place.object("f.bin").await.expect("it is published");
    let sidecar = place.object("f.bin.sha256").await;
    (bytes, stored, sidecar, damaged.load(Ordering::Relaxed))
}

#[tokio::test]
async fn damaged_parts_tails_and_files_are_refused_by_the_store_and_sent_again() {
    for (length, step) in [(100 * KIB, MIB), (2 * PART + 5, 3 * MIB), (PART + 9, 13 * MIB)] {
        let (bytes, stored, sidecar, damaged) = upload(SUMMED, length, step).await;
        assert_same(&bytes, &stored, &format!("{length} in {step}"));
        let line = format!("{}  f.bin\n", Sha256::of(&bytes));
        assert_eq!(sidecar.as_deref(), Some(line.as_bytes()));
        assert!(damaged > 0, "nothing was damaged");
    }
}

/// What the others are for. The digest tells of it: it is that of what came from the client.
#[tokio::test]
async fn without_a_sum_the_damage_is_stored_and_the_digest_tells() {
    let (bytes, stored, sidecar, damaged) = upload(BARE, 2 * PART, 13 * MIB).await;
    assert!(damaged > 0);
    assert_ne!(bytes, stored);
    let line = format!("{}  f.bin\n", Sha256::of(&bytes));
    assert_eq!(sidecar.as_deref(), Some(line.as_bytes()));
}
