//! How large fragments are (MC-BUP 2.2.6, notes 10 and 16), and the dice that decide. Pure.

/// The smallest fragment that Windows sends, unless less of the file is left, in bytes.
pub const LEAST: u64 = 5_120;

/// The largest fragment that Windows sends, in bytes.
pub const MOST: u64 = 13_631_488;

/// How the sizes of fragments are chosen. The last fragment is what is left of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sizes {
    /// All of this many bytes. Windows stays within [`LEAST`] and [`MOST`]; tests need not.
    Fixed(u64),
    /// Anything from `least` to `most` bytes, small ones as likely as large ones: Windows follows the bandwidth that it may
    /// use, so neither sizes nor offsets are regular.
    Varying {
        /// The smallest, in bytes.
        least: u64,
        /// The largest, in bytes.
        most: u64,
    },
}

impl Default for Sizes {
    fn default() -> Self {
        Self::Varying {
            least: LEAST,
            most: MOST,
        }
    }
}

impl Sizes {
    /// The size of the next fragment in bytes, at least one.
    pub(super) fn draw(self, dice: &mut Dice) -> u64 {
        match self {
            Self::Fixed(size) => size.max(1),
            Self::Varying { least, most } => {
                let least = least.max(1);
                let most = most.max(least);
                // A power of two first, then a size in its octave.
                let octave = dice.between(u64::from(least.ilog2()), u64::from(most.ilog2()));
                let low = 1_u64 << octave;
                let high = low.saturating_mul(2).saturating_sub(1);
                dice.between(low.max(least), high.min(most))
            }
        }
    }
}

/// Repeatable random numbers (SplitMix64): good enough to vary sizes, useless for secrets.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Anything from `low` to `high`, both included; the bias of the remainder does not matter here.
    pub(super) const fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.next() % span)
    }

    /// From 0 up to, but not including, 1.
    pub(super) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varying_size_stays_within_its_bounds(least in 1_u64..1 << 40, span in 0_u64..1 << 40, seed: u64) {
            let sizes = Sizes::Varying { least, most: least + span };
            let mut dice = Dice::new(seed);
            for _ in 0..20 {
                let size = sizes.draw(&mut dice);
                prop_assert!((least..=least + span).contains(&size));
            }
        }

        #[test]
        fn a_fraction_is_below_one(seed: u64) {
            let fraction = Dice::new(seed).fraction();
            prop_assert!((0.0..1.0).contains(&fraction));
        }
    }

    #[test]
    fn the_default_sizes_vary_over_the_whole_span_and_repeat_with_their_seed() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..2_000).map(|_| Sizes::default().draw(&mut dice)).collect::<Vec<_>>()
        };
        let sizes = draw(1);
        assert_eq!(sizes, draw(1));
        assert_ne!(sizes, draw(2));
        assert!(sizes.iter().any(|size| *size < 2 * LEAST));
        assert!(sizes.iter().any(|size| *size > MOST / 2));
        assert!(sizes.iter().all(|size| (LEAST..=MOST).contains(size)));
    }
}
