//! The knobs of downloads.

use crate::units::knob::settings;

settings! {
    /// Reading what was uploaded.
    pub struct Settings {
        /// Whether files may be fetched with GET and HEAD. Off in a file, because a drop box must not be readable by accident; on for
        /// the route that is served without any configuration.
        #[key = "download"]
        pub enabled: bool = false,
    }
}
