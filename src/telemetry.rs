//! Logs, and what this program calls itself in them.

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, when the build was told (`BITS_GATEWAY_REVISION`).
pub const REVISION: &str = match option_env!("BITS_GATEWAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Which packets get an access line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Packets {
    /// All of them.
    #[default]
    All,
    /// Those that were not answered 2xx.
    Errors,
    /// Create-Session, Close-Session and Cancel-Session, and errors.
    Sessions,
}
