//! The knobs of the broom.

use std::time::Duration;

use crate::units::knob::settings;

settings! {
    /// Clearing up after clients that never came back.
    pub struct Settings {
        /// How often a sweep looks for sessions past their time-out and for what crashes left behind. One replica sweeps in each
        /// interval. A sweep lists all sessions, and reads those that changed.
        pub interval: Duration = Duration::from_secs(3_600),
    }
}
