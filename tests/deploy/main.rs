//! What we tell people to type works, and the files of `deploy/` fit the program.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests: they may panic, and nobody reaches into them"
)]

mod gateway;
mod image;
mod numbers;
mod typed;

use std::path::Path;

/// A file of the repository.
fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a language in a Markdown file.
fn blocks(path: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text(path).lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, block)| block)),
            (Some(is), None) => open = Some((is.trim() == language, String::new())),
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}
