//! The section `[log]`: telemetry is a leaf that knows no settings, so its knobs are described here.

use crate::telemetry::{Format, Packets};
use crate::units::knob::{choices, settings};

choices!(Format {
    Auto => "auto",
    Json => "json",
    Text => "text",
});

choices!(Packets {
    All => "all",
    Errors => "errors",
    Sessions => "sessions",
});

settings! {
    /// What is logged, and how.
    pub struct Log {
        /// "json": one object per line; "text"; "auto": text on a terminal, json otherwise.
        pub format: Format = Format::Auto,
        /// How much is said: "off", "error", "warn", "info", "debug" or "trace", or a list such as "info,bits_gateway::upload=debug".
        /// The libraries below say warnings only, unless they are named ("info,object_store=debug").
        pub level: String = "info".to_owned(),
        /// Which packets get an access line: "all"; "errors": those that were not answered 2xx; "sessions": Create-Session,
        /// Close-Session and Cancel-Session, and errors. Fragments of 5 KB are 200,000 lines for each GiB.
        pub packets: Packets = Packets::All,
    }
}
