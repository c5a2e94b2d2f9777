//! Logs, and what this program calls itself in them.
//!
//! One line for each event, whatever a client put into it: JSON escapes by itself, text escapes every control character. The
//! keys `ts`, `level`, `target` and `msg` come first and are stable; the fields of the event follow.

mod line;
mod outlet;

use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use line::Line;
use outlet::Outlet;

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

/// The target of the lines about single requests. There may be very many; [`start`] says what follows from that.
pub const ACCESS: &str = "bits_gateway::access";

/// Begins to log to standard output, for the rest of the life of the process. `now` says what time it is, as text.
///
/// A line is written before the call that logs it returns. Only those about requests that went well may wait a few milliseconds for
/// others, so that many of them go out in one write: a process that is killed takes the last ones with it. They come before
/// every line that is logged after them, and all of them are out when [`Log`] is dropped.
///
/// # Errors
/// A sentence, when `level` is none, or when somebody logs already.
pub fn start(format: Format, level: &str, now: fn() -> String) -> Result<Log, String> {
    let targets = targets(level)?;
    let json = match format {
        Format::Auto => !std::io::stdout().is_terminal(),
        Format::Json => true,
        Format::Text => false,
    };
    let outlet = Outlet::to(std::io::stdout()).map_err(|error| error.to_string())?;
    let log = Log(outlet.clone());
    let lines = Lines {
        json,
        now,
        write: move |line: &[u8], urgency| outlet.write(line, urgency),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init()
        .map_err(|error| error.to_string())?;
    Ok(log)
}

/// The log of the process, to be dropped last.
#[derive(Debug)]
#[must_use = "what still waits to be written is written when it is dropped"]
pub struct Log(Outlet);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.write(&[], Urgency::Now);
    }
}

/// Whether a line may wait for others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Urgency {
    Now,
    Soon,
}

/// Logs panics as one line each, and calls `count` for each.
pub fn report_panics(count: impl Fn() + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        count();
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            target: "bits_gateway::panic",
            thread = thread.name().unwrap_or_default(),
            location,
            // Empty unless RUST_BACKTRACE asks for it.
            backtrace = %std::backtrace::Backtrace::capture(),
            "{}",
            panic.payload_as_str().unwrap_or("panic without a message"),
        );
    }));
}

/// Whether `level` says how much is logged: a level, or a list of levels for parts of the program.
///
/// # Errors
/// A sentence about the first part that does not.
pub fn check_level(level: &str) -> Result<(), String> {
    targets(level).map(drop)
}

/// What passes. The level without a target is that of this program; the libraries below it say warnings only, unless they are
/// named: what they say at lower levels is much, and some of it confidential. The HTTP engine says nothing: to it every client
/// that goes away is an error, and what matters stands in the access line.
fn targets(level: &str) -> Result<Targets, String> {
    let mut targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target(ENGINE, LevelFilter::OFF);
    for part in level.split(',').map(str::trim) {
        let (target, word) = match part.split_once('=') {
            Some((target, word)) => (Some(target), word),
            None => (None, part),
        };
        let level = LEVELS
            .iter()
            .find_map(|(name, level)| (*name == word).then_some(*level))
            .ok_or_else(|| {
                let names: Vec<_> = LEVELS.iter().map(|(name, _)| *name).collect();
                format!("{word:?} is none of {}", names.join(", "))
            })?;
        targets = match target {
            Some(target) => targets.with_target(target, level),
            None => targets
                .with_default(level.min(LevelFilter::WARN))
                .with_target("bits_gateway", level)
                .with_target("session", level),
        };
    }
    Ok(targets)
}

/// What the targets of the HTTP engine begin with.
const ENGINE: &str = "pingora";

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Writes events as lines.
struct Lines<W> {
    json: bool,
    now: fn() -> String,
    write: W,
}

impl<S: Subscriber, W: Fn(&[u8], Urgency) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let line = Line::of(event, self.json).finish(&(self.now)(), *metadata.level(), metadata.target());
        let is_routine = metadata.target() == ACCESS && *metadata.level() == Level::INFO;
        (self.write)(&line, if is_routine { Urgency::Soon } else { Urgency::Now });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged while `say` runs.
    fn logged(json: bool, level: &str, say: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let layer = Lines {
            json,
            now: || "2026-11-23T01:46:59.123456Z".to_owned(),
            write: move |line: &[u8], _| into.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap()),
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets(level).unwrap()));
        tracing::subscriber::with_default(subscriber, say);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_json_line_begins_with_its_four_keys_and_parses() {
        let lines = logged(true, "info", || {
            tracing::info!(target: "bits_gateway::x", bytes = 5_u64, ok = true, level = "fake", "took \"it\"\n{}", "\u{1b}[31m");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.starts_with("{\"ts\":\"2026-11-23T01:46:59.123456Z\","), "{line}");
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let rest = line.split_once("\",\"level\"").unwrap().1;
        assert_eq!(
            rest,
            ":\"info\",\"target\":\"bits_gateway::x\",\"msg\":\"took \\\"it\\\"\\n\\u001b[31m\",\"bytes\":5,\"ok\":true,\"level_\":\"fake\"}\n"
        );
        assert_eq!(value["msg"], "took \"it\"\n\u{1b}[31m");
    }

    #[test]
    fn a_text_line_stays_one_line_whatever_is_in_it() {
        let lines = logged(false, "info", || {
            let key = "a\r\n2026 error forged: line\u{2028}\u{202e}";
            tracing::warn!(target: "bits_gateway::x", key, plain = "b", "said {key}");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let said = line.split_once(" warn  ").unwrap().1;
        assert_eq!(
            said,
            "bits_gateway::x: said a\\r\\n2026 error forged: line\\u{2028}\\u{202e} \
             key=\"a\\r\\n2026 error forged: line\\u{2028}\\u{202e}\" plain=b\n"
        );
    }

    #[test]
    fn libraries_say_warnings_only_unless_they_are_named() {
        let say = || {
            tracing::debug!(target: "bits_gateway::x", "own");
            tracing::debug!(target: "object_store::client", "theirs");
            tracing::warn!(target: "object_store::client", "warning");
            tracing::error!(target: "pingora_proxy", "a client went away");
        };
        let messages = |level| {
            let lines = logged(false, level, say);
            lines
                .iter()
                .map(|line| line.rsplit(": ").next().unwrap().trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(messages("debug"), ["own", "warning"]);
        assert_eq!(messages("info,object_store=debug"), ["theirs", "warning"]);
        assert_eq!(messages("error"), Vec::<String>::new());
        assert_eq!(messages("error,pingora=error"), ["a client went away"]);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);

        let error = Outer(std::io::Error::other("inner"));
        let lines = logged(false, "info", || {
            tracing::error!(target: "bits_gateway::x", error = &error as &(dyn std::error::Error + 'static), "failed");
        });
        assert!(lines[0].ends_with("failed error=\"outer: inner\"\n"), "{lines:?}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert_eq!(check_level("info,bits_gateway::upload=debug"), Ok(()));
        assert_eq!(
            check_level("inof"),
            Err("\"inof\" is none of off, error, warn, info, debug, trace".to_owned())
        );
        assert!(check_level("info,x=").is_err());
        assert!(check_level("").is_err());
    }
}
