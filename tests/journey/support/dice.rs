//! Repeatable chance.

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Anything from `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Once in `times`.
    pub(crate) const fn once_in(&mut self, times: u64) -> bool {
        self.between(1, times) == 1
    }
}

/// The seed of a test: its own, or the one in the environment. Printed, so that a failure can be repeated.
pub(crate) fn seed(own: u64) -> u64 {
    let seed = match std::env::var("BITS_GATEWAY_TEST_SEED") {
        Ok(text) => text.parse().expect("BITS_GATEWAY_TEST_SEED is a number"),
        Err(_) => own,
    };
    println!("seed: {seed} (BITS_GATEWAY_TEST_SEED)");
    seed
}
