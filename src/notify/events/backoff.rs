//! How long to wait before the next try. Pure.

use std::time::Duration;

/// Pauses that double from the first one to the longest one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The pause after the first failure, before it is shortened by chance.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after `failures` failures in a row. `chance` is any number: by it the pause is shortened by up to a half, so that what failed
    /// together is not tried again together.
    pub fn pause(&self, failures: u32, chance: u128) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        // Less than 1000, which fits.
        let thousandth = (chance % 1000) as u32;
        whole - whole / 2 / 1000 * thousandth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let backoff = Backoff {
            first: SECOND,
            longest: 60 * SECOND,
        };
        let pauses: Vec<_> = (1..=9).map(|failures| backoff.pause(failures, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.pause(0, 0), SECOND);
    }

    /// Every number of failures that can be told apart, and the ends of the scale; chances all around.
    #[test]
    fn a_pause_is_never_longer_than_it_says_nor_shorter_than_half_of_it() {
        for first in [1, 7, 1_000, 300_000].map(Duration::from_millis) {
            for longest in [first, 3 * first, 1_000 * first] {
                let backoff = Backoff { first, longest };
                for failures in (0..80).chain([u32::MAX - 1, u32::MAX]) {
                    let whole = backoff.pause(failures, 0);
                    assert!(first <= whole && whole <= longest, "{failures}: {whole:?}");
                    for chance in (0..2_000).step_by(37).chain([999, u128::MAX]) {
                        let pause = backoff.pause(failures, chance);
                        assert!(pause <= whole && pause >= whole / 2, "{failures}: {pause:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn pauses_do_not_shrink_as_failures_go_on() {
        let backoff = Backoff {
            first: SECOND,
            longest: 1_800 * SECOND,
        };
        let pauses: Vec<_> = (0..100).map(|failures| backoff.pause(failures, 0)).collect();
        assert!(pauses.is_sorted());
    }
}
