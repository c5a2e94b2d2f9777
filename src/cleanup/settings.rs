//! The knobs of the broom.

use std::time::Duration;

use crate::units::knob::settings;

settings! {
    /// Clearing up after clients that never came back.
    pub struct Settings {
        /// How often a sweep looks for sessions past their time-out and for what crashes left behind. One replica sweeps in each
        /// interval. A sweep lists all sessions, and reads those that changed.
        pub interval: Duration = Duration::from_secs(3_600),
        /// For how long a replica tries to deliver the events of its own sessions (`routes.events`), and how often one replica looks for
        /// those that were not delivered by then, because an endpoint was away or a replica died. Each look lists all sessions.
        pub events_interval: Duration = Duration::from_secs(300),
    }
}
