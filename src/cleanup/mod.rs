//! (room of its own)

mod settings;

pub use settings::Settings;
