//! The documentation of every key, made of the settings themselves: a commented file, and a page.

use super::Settings;
use super::env::variable_of;
use crate::units::knob::{Key, Kind, Section};

/// Columns of a comment line.
const WIDTH: usize = 100;

/// Every key with its meaning, kind, default and cost, as a file that says what would hold without it.
pub fn as_toml() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for section in sections() {
        text.push('\n');
        for line in wrapped(&section.about, WIDTH - 2) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("{}\n", section.header()));
        for key in &section.keys {
            text.push('\n');
            for line in wrapped(&key.about.join(" "), WIDTH - 2) {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!(
                "# {}. {}\n",
                called(&key.kind),
                variable_of(section.path_of(key))
            ));
            text.push_str(&line_of(key));
        }
    }
    text
}

/// The same as a page: `docs/configuration.md`.
pub fn as_markdown() -> String {
    let mut text = PAGE_HEAD.to_owned();
    for section in sections() {
        text.push_str(&format!("\n## `{}`\n\n{}\n", section.header(), section.about));
        for key in &section.keys {
            text.push_str(&format!("\n### `{}`\n\n", key.name));
            text.push_str(&key.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n"));
            let default = match &key.default {
                Some(default) => format!("`{default}`"),
                None if key.required => "none, has to be given".to_owned(),
                None => "none".to_owned(),
            };
            text.push_str(&format!("\n\n- {}; default: {default}\n", called(&key.kind)));
            if let Some(example) = key.example {
                text.push_str(&format!("- Example: `{} = {example}`\n", key.name));
            }
            text.push_str(&format!("- Variable: `{}`\n", variable_of(section.path_of(key))));
        }
    }
    text
}

/// The sections and their keys, for who looks for a key in the wrong one.
pub(super) fn keys_by_section() -> Vec<(String, &'static str)> {
    let named = |section: Documented| {
        let header = section.header();
        section
            .keys
            .into_iter()
            .map(move |key| (header.clone(), key.name))
            .collect::<Vec<_>>()
    };
    sections().into_iter().flat_map(named).collect()
}

/// The names of all variables, those of routes for the first one.
pub(super) fn variables() -> Vec<String> {
    let named = |section: Documented| {
        section
            .keys
            .iter()
            .map(|key| variable_of(section.path_of(key)))
            .collect::<Vec<_>>()
    };
    sections().into_iter().flat_map(named).collect()
}

/// A section, as the documentation shows it.
struct Documented {
    /// Its name in the file, with those of the sections around it.
    name: String,
    /// The same for the environment, where each of several is numbered.
    path: Vec<&'static str>,
    about: String,
    /// Whether there may be several.
    list: bool,
    keys: Vec<Key>,
}

impl Documented {
    fn header(&self) -> String {
        if self.list {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }

    fn path_of<'k>(&self, key: &'k Key) -> Vec<&'k str> {
        [self.path.as_slice(), &[key.name]].concat()
    }
}

fn sections() -> Vec<Documented> {
    let mut found = Vec::new();
    document(Settings::keys(), "", &[], &mut found);
    found
}

/// Adds the sections among `keys`, each followed by those within it.
fn document(keys: Vec<Key>, around: &str, path: &[&'static str], found: &mut Vec<Documented>) {
    for section in keys {
        let about = section
            .about
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ");
        let (list, kind) = match section.kind {
            Kind::List(kind) => (true, *kind),
            kind => (false, kind),
        };
        let Kind::Table(keys) = kind else { continue };
        let name = format!("{around}{}", section.name);
        let index = if list { &["0"][..] } else { &[] };
        let path = [path, &[section.name], index].concat();
        let keys = keys.into_iter().filter(|key| !matches!(key.kind, Kind::Unavailable));
        let (inner, keys) = keys.partition(|key| matches!(key.kind, Kind::Table(_)));
        let within = format!("{name}.");
        found.push(Documented {
            name,
            path: path.clone(),
            about,
            list,
            keys,
        });
        document(inner, &within, &path, found);
    }
}

/// The line of a key: what holds without it, or, in a comment, what it may look like.
fn line_of(key: &Key) -> String {
    match (&key.default, key.example) {
        (Some(default), None) => format!("{} = {default}\n", key.name),
        // Where the default follows another key, a line that holds it fast would do harm.
        (Some(_), Some(example)) => format!("#{} = {example}\n", key.name),
        (None, Some(example)) if key.required => format!("{} = {example}\n", key.name),
        (None, Some(example)) => format!("#{} = {example}\n", key.name),
        (None, None) => format!("#{} =\n", key.name),
    }
}

/// What a value may be, as the beginning of a sentence.
fn called(kind: &Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::FlagOr(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            format!("true, false or {}", words.join(", "))
        }
        Kind::Whole { least, most } => format!("A whole number from {least} to {most}"),
        Kind::Text => "Text".to_owned(),
        Kind::Form { called, .. } => {
            let (article, rest) = called.split_once(' ').unwrap_or(("A", called));
            let article = if article == "an" { "An" } else { "A" };
            format!("{article} {rest}")
        }
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            format!("One of {}", words.join(", "))
        }
        Kind::Secret => "Text, { file = \"…\" } or { env = \"…\" }".to_owned(),
        Kind::List(of) => format!("A list, each element: {}", called(of).to_lowercase()),
        Kind::Map(of) => format!("A section, each value: {}", called(of).to_lowercase()),
        Kind::Table(_) => "A section".to_owned(),
        Kind::Unavailable => "Not available in this version".to_owned(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

const REFERENCE_HEAD: &str = "\
# bits-gateway: every key, with what holds without it. Printed by `bits-gateway config reference`.
#
# Unknown keys are errors. Every key can be overridden by the environment variable beside it (lists: with commas, or element by
# element as in BITS_GATEWAY__SERVER__LISTEN__0), and that by the flags --listen, --admin-listen and --store.
# Sizes: \"64MiB\" = 67,108,864 bytes, \"100KB\" = 100,000 bytes. Durations: \"30s\", \"14d\", \"1h30m\".
";

const PAGE_HEAD: &str = "\
# Configuration

Generated from the program (`UPDATE_GOLDEN=1 cargo test --test config`); do not edit. `bits-gateway config reference` prints the same
as a commented file, `config show` what is in force (`--origin`: and where it was given), `config schema` a JSON schema for editors,
and `check` says what is wrong without starting anything.

```sh
bits-gateway serve                                # 127.0.0.1:8080, files in ./bits-data, admin on 127.0.0.1:9090
bits-gateway serve --config gateway.toml
BITS_GATEWAY__LIMITS__MEMORY=1GiB bits-gateway serve --config gateway.toml
bits-gateway serve --listen 0.0.0.0:8080 --store s3://bucket/prefix
```

## How it is read

- Precedence: default < file (`--config`, or the variable `BITS_GATEWAY_CONFIG`) < environment < flag (`--listen`, `--admin-listen`,
  `--store`). No file is looked for anywhere.
- The file is TOML, and strict: an unknown key or a wrong value is an error with file, line, column, key and reason, and the program
  ends with exit code 78.
- Every key has an environment variable: `BITS_GATEWAY__` and the names of its sections, in capitals, parted by two underscores.
  Lists are written with commas, or element by element (`BITS_GATEWAY__SERVER__LISTEN__0`). An unknown `BITS_GATEWAY__…` is an error.
  What Kubernetes sets for a service called bits-gateway (`BITS_GATEWAY_SERVICE_HOST`) has one underscore and is never read.
- Without any `[[routes]]` there is one route: `/` on `./bits-data`, with uploads and downloads, without overwriting. Variables and
  `--store` change that one; routes in a file replace it.
- Sizes are whole numbers with a unit: `64MiB` is 67,108,864 bytes, `100KB` is 100,000 bytes. Durations are whole numbers with units,
  the longest first: `30s`, `14d`, `1h30m`, `250ms`.
- Secrets are text, `{ file = \"…\" }` or `{ env = \"…\" }`, and are never shown. A secret file that every user of the machine may
  read is refused; in Kubernetes that means `defaultMode: 0440` on the volume, and an `fsGroup`.

[Migrating from IIS](migrating-from-iis.md) has the properties of its BITS server extension beside these keys.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_does() {
        for section in sections() {
            for key in &section.keys {
                assert!(
                    key.about.concat().trim().ends_with('.'),
                    "{}.{}",
                    section.name,
                    key.name
                );
                assert!(
                    key.default.is_some() || key.example.is_some(),
                    "{}.{}",
                    section.name,
                    key.name
                );
            }
        }
    }

    #[test]
    fn no_comment_line_is_too_long() {
        for line in as_toml().lines().filter(|line| line.starts_with("# ")) {
            assert!(line.chars().count() <= 130, "{line}");
        }
    }
}
