//! An event as one line: JSON, or text that holds nothing a terminal obeys.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Room for a line about a packet, in bytes.
const LINE: usize = 512;

/// The keys that every line begins with.
const FIRST: [&str; 4] = ["ts", "level", "target", "msg"];

/// A line that is being written. The fields come in one by one, and are written behind a head that is not yet known.
pub(super) struct Line {
    json: bool,
    message: String,
    /// The fields, each behind its separator.
    fields: Vec<u8>,
    /// Where an event of the `log` crate says that it comes from.
    target: Option<String>,
}

impl Line {
    /// What `event` says.
    pub(super) fn of(event: &Event<'_>, json: bool) -> Self {
        let mut line = Self {
            json,
            message: String::new(),
            fields: Vec::with_capacity(LINE),
            target: None,
        };
        event.record(&mut line);
        line
    }

    /// The whole line with its end. `target` is what the event names, unless a field of it knew better.
    pub(super) fn finish(self, ts: &str, level: Level, target: &str) -> Vec<u8> {
        let target = self.target.as_deref().unwrap_or(target);
        let level = name(level);
        let mut line = Vec::with_capacity(LINE + self.fields.len());
        if self.json {
            for (name, text) in FIRST.into_iter().zip([ts, level, target, self.message.as_str()]) {
                add(&mut line, name, "", text);
            }
            // The comma before the first one.
            line[0] = b'{';
            line.extend_from_slice(&self.fields);
            line.push(b'}');
        } else {
            // Neither this nor anything else here fails: it is all written to memory.
            let _ = write!(line, "{ts} {level:5} {}: {}", Plain(target), Plain(&self.message));
            line.extend_from_slice(&self.fields);
        }
        line.push(b'\n');
        line
    }

    fn put(&mut self, name: &str, value: &(impl Serialize + fmt::Display)) {
        if self.json {
            add(&mut self.fields, name, mark(name), value);
        } else {
            let _ = write!(self.fields, " {name}={value}");
        }
    }

    fn put_text(&mut self, name: &str, text: &str) {
        match name {
            "message" => text.clone_into(&mut self.message),
            "log.target" => self.target = Some(text.to_owned()),
            // Where in which file a library logged.
            name if name.starts_with("log.") => {}
            name if self.json => add(&mut self.fields, name, mark(name), text),
            // Quoted where a reader could not tell where it ends.
            name if text.is_empty() || text.contains([' ', '"', '=']) => {
                let _ = write!(self.fields, " {name}={text:?}");
            }
            name => {
                let _ = write!(self.fields, " {name}={}", Plain(text));
            }
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        // The line in its file where a library logged.
        if !field.name().starts_with("log.") {
            self.put(field.name(), &value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put_text(field.name(), &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if self.json && name != "message" && !name.starts_with("log.") {
            add(&mut self.fields, name, mark(name), &Debugged(value));
        } else {
            self.put_text(name, &format!("{value:?}"));
        }
    }
}

/// As the text that `Debug` writes, without writing it anywhere else first.
struct Debugged<'v>(&'v dyn fmt::Debug);

impl Serialize for Debugged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// What a field's name ends with, that it may not pass for one of the first four.
fn mark(name: &str) -> &'static str {
    if FIRST.contains(&name) { "_" } else { "" }
}

/// Adds a key and its value to an object that is being written.
fn add(line: &mut Vec<u8>, name: &str, mark: &str, value: &(impl Serialize + ?Sized)) {
    for piece in [",\"", name, mark, "\":"] {
        line.extend_from_slice(piece.as_bytes());
    }
    // Fails only where a value can't be told in JSON: none of ours.
    let _ = serde_json::to_writer(line, value);
}

/// Text on one line, without anything that a terminal obeys.
struct Plain<'t>(&'t str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_unsafe(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Control characters, line ends of Unicode, and what turns the direction of writing around.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
