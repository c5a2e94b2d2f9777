//! The configuration: one section for each room, composed here, and read strictly.

mod env;
mod load;
mod log;
mod place;
pub mod reference;
pub mod schema;
pub mod show;
mod validate;

pub use env::{FILE as FILE_VARIABLE, PREFIX as VARIABLE_PREFIX};
pub use load::{Flags, Loaded, Problems, Sources, load, process_environment};
pub use log::Log;

use crate::cleanup::Settings as CleanupSettings;
use crate::download::Settings as DownloadSettings;
use crate::gateway::{ConnectionSettings, RouteSettings, Settings as ServerSettings};
use crate::notify::{EventSettings, Settings as NotifySettings};
use crate::store::Settings as StoreSettings;
use crate::units::knob::settings;
use crate::upload::{MemorySettings, Settings as UploadSettings};

settings! {
    /// Everything that can be configured.
    pub struct Settings {
        /// Listeners, threads, and how long the gateway waits for a client.
        pub server: ServerSettings = ServerSettings::default(),
        /// How much the gateway may take of this machine.
        pub limits: Limits = Limits::default(),
        /// What is logged, and how.
        pub log: Log = Log::default(),
        /// Clearing up after clients that never came back.
        pub cleanup: CleanupSettings = CleanupSettings::default(),
        /// The URL prefixes that are served, each with its store and its rules. Where no file defines any, there is one: "/" on
        /// ./bits-data, with uploads and downloads and without overwriting.
        pub routes: Vec<Route> = vec![Route::zero_config()],
    }
}

settings! {
    /// How much the gateway may take of this machine.
    pub struct Limits {
        /// Memory for bodies.
        pub upload: MemorySettings,
        /// Connections.
        pub gateway: ConnectionSettings,
    }
}

settings! {
    /// A URL prefix with its store and its rules.
    pub struct Route {
        /// Which requests it takes.
        pub gateway: RouteSettings,
        /// Where its files are kept.
        pub store: StoreSettings,
        /// Its rules for uploads.
        pub upload: UploadSettings,
        /// Its rules for downloads.
        pub download: DownloadSettings,
        /// The server application that is told of finished uploads, and whose reply goes to the client (upload-reply). Files of such a
        /// route do not appear at their destination unless the application asks for it: docs/applications.md.
        pub notify: NotifySettings = NotifySettings::default(),
        /// Who is told what becomes of sessions, as CloudEvents 1.0, behind the backs of their clients: docs/events.md.
        pub events: EventSettings = EventSettings::default(),
    }
}

impl Route {
    /// The route that is served when nobody configured any.
    pub fn zero_config() -> Self {
        let mut route = Self::default();
        route.gateway.path = "/".to_owned();
        route.store.url = "./bits-data".to_owned();
        route.download.enabled = true;
        route
    }
}
