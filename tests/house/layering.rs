//! Which room may name which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::source::{Kind, Source, Token, read, sources};

/// The rooms from the top of the house to its foundations. A room may name those below its own line, never its neighbours.
const LEVELS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["config"],
    &["gateway", "admin", "cleanup"],
    &["upload", "download", "client"],
    &["store", "notify", "auth"],
    &["metrics"],
    &["session"],
    &["staging"],
    &["bits"],
    &["clock", "units", "budget", "telemetry"],
];

/// What `metrics` may take from the rooms below: the types that become labels.
const LABELS: &[&str] = &[
    "bits::ErrorContext",
    "bits::Hresult",
    "bits::PacketKind",
    "session::EventKind",
    "session::Outcome",
];

#[test]
fn every_room_names_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.room == "lib" {
            continue;
        }
        let Some(level) = level(&source.room) else {
            wrong.push(format!(
                "{}: the room `{}` has no level in docs/architecture.md",
                source.at(1),
                source.room
            ));
            continue;
        };
        for (line, path) in paths_into_the_crate(&source) {
            let named = &path[0];
            if *named == source.room {
                continue;
            }
            if self::level(named).is_none_or(|its| its <= level) {
                wrong.push(format!(
                    "{}: `{}` may not name `{named}` (docs/architecture.md, which way a name may point)",
                    source.at(line),
                    source.room
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn config_takes_nothing_from_a_room_but_its_settings() {
    let foundations: BTreeSet<_> = LEVELS.last().unwrap().iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room == "config") {
        for (line, path) in paths_into_the_crate(source) {
            let is_settings = path.iter().any(|part| part.ends_with("Settings") || part == "settings");
            if path[0] != "config" && !foundations.contains(path[0].as_str()) && !is_settings {
                wrong.push(format!("{}: {}", source.at(line), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn metrics_takes_nothing_from_a_room_but_the_types_of_its_labels() {
    let foundations: BTreeSet<_> = LEVELS.last().unwrap().iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room == "metrics") {
        for (line, path) in paths_into_the_crate(source) {
            let named = path.join("::");
            let allowed = LABELS
                .iter()
                .any(|label| named == *label || named.starts_with(&format!("{label}::")));
            if path[0] != "metrics" && !foundations.contains(path[0].as_str()) && !allowed {
                wrong.push(format!("{}: {named}", source.at(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_plan_is_there_or_named_as_coming() {
    let there: BTreeSet<_> = sources().into_iter().map(|source| source.room).collect();
    let planned: BTreeSet<_> = LEVELS
        .iter()
        .flat_map(|level| level.iter())
        .map(|room| (*room).to_owned())
        .collect();
    let coming: BTreeSet<_> = planned.difference(&there).map(String::as_str).collect();
    assert_eq!(coming, BTreeSet::new());
}

fn level(room: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&room))
}

/// Every path that begins at the root of the crate, however it is written: in a `use` with nested braces, inline, from
/// outside as `bits_gateway::…`, or by as many `super` as lead up there.
fn paths_into_the_crate(source: &Source) -> Vec<(usize, Vec<String>)> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts_here = at == 0 || tokens[at - 1].kind != Kind::Path;
        let beyond = match &tokens[at].kind {
            Kind::Word(word) if starts_here && (word == "crate" || word == "bits_gateway") => Some(at + 1),
            Kind::Word(word) if starts_here && word == "super" => up_to_the_root(tokens, at, source.depth),
            _ => None,
        };
        if let Some(beyond) = beyond
            && tokens.get(beyond).is_some_and(|token| token.kind == Kind::Path)
        {
            tree(tokens, &mut (beyond + 1), &[], &mut found);
        }
        at += 1;
    }
    found
}

/// Where a run of `super::super` ends, when it is long enough to reach the root.
fn up_to_the_root(tokens: &[Token], mut at: usize, depth: usize) -> Option<usize> {
    let mut steps = 0;
    loop {
        steps += 1;
        at += 1;
        let goes_on = tokens.get(at).is_some_and(|token| token.kind == Kind::Path)
            && tokens
                .get(at + 1)
                .is_some_and(|token| token.kind == Kind::Word("super".to_owned()));
        if !goes_on {
            break;
        }
        at += 1;
    }
    (steps >= depth).then_some(at)
}

/// Reads `a::{b, c::{d, self}}` from `at` on and notes each path in it.
fn tree(tokens: &[Token], at: &mut usize, before: &[String], found: &mut Vec<(usize, Vec<String>)>) {
    let mut path = before.to_vec();
    let line = tokens.get(*at).map_or(0, |token| token.line);
    loop {
        match tokens.get(*at).map(|token| &token.kind) {
            Some(Kind::Word(word)) => {
                path.push(word.clone());
                *at += 1;
            }
            Some(Kind::Sign('*')) => *at += 1,
            Some(Kind::Sign('{')) => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| token.kind != Kind::Sign('}')) {
                    if !matches!(tokens[*at].kind, Kind::Word(_) | Kind::Sign('{' | '*')) {
                        *at += 1;
                        continue;
                    }
                    tree(tokens, at, &path, found);
                    // `as name`
                    while matches!(
                        tokens.get(*at),
                        Some(Token {
                            kind: Kind::Word(_),
                            ..
                        })
                    ) {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            _ => break,
        }
        if tokens.get(*at).is_none_or(|token| token.kind != Kind::Path) {
            break;
        }
        *at += 1;
    }
    if !path.is_empty() {
        found.push((line, path));
    }
}

#[test]
fn paths_are_found_however_they_are_written() {
    let source = read(
        PathBuf::from("src/room/file.rs"),
        "use crate::{a::B, c::{self, d::E as F}, g};\n\
         use crate::h::*;\n\
         pub(crate) fn f(x: crate::i::J) -> super::super::k::L { bits_gateway::m::n(); super::near::o() }\n\
         // crate::comment::X\n\
         const TEXT: &str = \"crate::text::X\";",
    );
    let mut rooms = BTreeMap::new();
    for (line, path) in paths_into_the_crate(&source) {
        rooms.entry(path[0].clone()).or_insert((line, path));
    }
    let names: Vec<_> = rooms.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "c", "g", "h", "i", "k", "m"]);
    assert_eq!(rooms["i"].0, 3);
}
