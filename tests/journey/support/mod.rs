//! What the journeys are made of: a gateway, a place for its files, a client in our hand, a bad line.

mod application;
mod dice;
mod gateway;
mod hand;
mod line;
mod place;

pub(crate) use application::{Application, always, long_reply};
pub(crate) use dice::{Dice, seed};
pub(crate) use gateway::{Config, Gateway, program};
pub(crate) use hand::Hand;
pub(crate) use line::{Direction, End, Fate, Line};
pub(crate) use place::Place;

use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long anything may take before a test gives up. Far more than it takes: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// The smallest part that a store takes: the tests are about what happens between parts, so they are small here.
pub(crate) const PART: u64 = 5 * MIB;

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask).await
}

/// The same, and it may take this long.
pub(crate) async fn within<T>(patience: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `length` bytes that repeat nowhere near a power of two.
pub(crate) fn content(seed: u64, length: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(length).expect("fits into memory")];
    bits_gateway::client::Pattern { seed, length }.fill(0, &mut bytes);
    bytes.into()
}

/// Fails without printing megabytes.
pub(crate) fn assert_same(expected: &[u8], found: &[u8], what: &str) {
    if expected == found {
        return;
    }
    let at = expected
        .iter()
        .zip(found)
        .position(|(expected, found)| expected != found);
    panic!(
        "{what}: {} bytes, not {}; the first difference is at {at:?}",
        found.len(),
        expected.len()
    );
}
