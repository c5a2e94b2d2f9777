//! Whether a body comes in fast enough to be worth a connection. Pure.

use std::time::Duration;

/// Bytes against the time that was spent waiting for them: only the client's slowness counts, not ours.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    min_rate: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// At least `min_rate` bytes per second, on average over each `window` of waiting.
    pub(super) const fn new(window: Duration, min_rate: u64) -> Self {
        Self {
            window,
            min_rate,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// `bytes` came after `waited`. Whether that is fast enough.
    pub(super) fn keeps_up(&mut self, bytes: u64, waited: Duration) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.window {
            return true;
        }
        let wanted = u128::from(self.min_rate) * self.waited.as_millis() / 1000;
        let enough = u128::from(self.bytes) >= wanted;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_judged_before_the_window_is_full() {
        let mut pace = Pace::new(10 * SECOND, 1000);
        assert!((0..9).all(|_| pace.keeps_up(0, SECOND)));
        assert!(!pace.keeps_up(0, SECOND));
    }

    #[test]
    fn a_burst_after_a_pause_makes_up_for_it() {
        let mut pace = Pace::new(10 * SECOND, 1000);
        assert!(pace.keeps_up(1, 9 * SECOND));
        assert!(pace.keeps_up(9_999, SECOND));
    }

    #[test]
    fn every_window_is_judged_alone() {
        let mut pace = Pace::new(10 * SECOND, 1000);
        assert!(pace.keeps_up(1_000_000, 10 * SECOND));
        assert!(!pace.keeps_up(9_999, 10 * SECOND));
    }

    #[test]
    fn a_rate_of_nought_asks_for_nothing() {
        let mut pace = Pace::new(SECOND, 0);
        assert!(pace.keeps_up(0, 100 * SECOND));
    }

    #[test]
    fn no_number_of_bytes_overflows() {
        let mut pace = Pace::new(SECOND, u64::MAX);
        assert!(pace.keeps_up(u64::MAX, Duration::ZERO));
        assert!(!pace.keeps_up(u64::MAX, Duration::from_secs(u32::MAX.into())));
    }
}
