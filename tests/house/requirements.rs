//! Every statement of the protocol is tested, or left out for a reason that is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{files, text};

/// The statements that wait for a part of the gateway that is not there yet: authentication.
fn later() -> BTreeSet<u32> {
    [45, 64].into_iter().collect()
}

/// The statements that do not hold, each by a decision that `docs/protocol.md` explains.
const EXCEPTIONS: &[u32] = &[47, 78, 91, 117, 125];

/// All statements: [MC-BUP] and the win32 documentation, as numbered in `docs/spec/requirements.toml`.
fn all() -> BTreeSet<u32> {
    [1..=22, 30..=51, 60..=64, 70..=105, 110..=127, 130..=145, 150..=157]
        .into_iter()
        .flatten()
        .collect()
}

/// One entry of `docs/spec/requirements.toml`.
struct Statement {
    number: u32,
    status: String,
    sentence: String,
    source: String,
    reason: Option<String>,
}

fn statements() -> Vec<Statement> {
    let table: toml::Table = text(Path::new("docs/spec/requirements.toml")).parse().unwrap();
    table["statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let field = |name: &str| entry.get(name).and_then(toml::Value::as_str).map(str::to_owned);
            let id = field("id").unwrap();
            Statement {
                number: number(&id).unwrap_or_else(|| panic!("not an id: {id}")),
                status: field("status").unwrap_or_else(|| panic!("{id} has no status")),
                sentence: field("sentence").unwrap_or_else(|| panic!("{id} has no sentence")),
                source: field("source").unwrap_or_else(|| panic!("{id} names no source")),
                reason: field("reason"),
            }
        })
        .collect()
}

fn number(id: &str) -> Option<u32> {
    id.strip_prefix("BUP-").filter(|digits| digits.len() == 3)?.parse().ok()
}

#[test]
fn the_list_of_statements_is_whole() {
    let statements = statements();
    let numbers: Vec<_> = statements.iter().map(|statement| statement.number).collect();
    assert_eq!(numbers, all().into_iter().collect::<Vec<_>>());
    assert_eq!(numbers.len(), 127);
    for statement in &statements {
        let id = format!("BUP-{:03}", statement.number);
        assert!(
            statement.sentence.ends_with('.') && statement.sentence.len() > 15,
            "{id}: {}",
            statement.sentence
        );
        assert!(!statement.source.is_empty(), "{id}");
        assert_eq!(
            statement.reason.is_some(),
            statement.status != "done",
            "{id}: a reason belongs to what is not done"
        );
    }
}

#[test]
fn the_list_of_exceptions_is_the_one_that_was_decided() {
    let with = |status: &str| -> BTreeSet<_> {
        statements()
            .iter()
            .filter(|statement| statement.status == status)
            .map(|statement| statement.number)
            .collect()
    };
    assert_eq!(with("exception"), EXCEPTIONS.iter().copied().collect());
    assert_eq!(with("later"), later());
    let rest: BTreeSet<_> = &(&all() - &with("exception")) - &later();
    assert_eq!(with("done"), rest);
}

#[test]
fn every_statement_that_is_done_has_a_test() {
    let covered = covered();
    let missing: Vec<_> = statements()
        .iter()
        .filter(|statement| statement.status == "done" && !covered.contains_key(&statement.number))
        .map(|statement| format!("BUP-{:03} {}", statement.number, statement.sentence))
        .collect();
    assert!(
        missing.is_empty(),
        "no test says `Covers: BUP-…` of:\n{}",
        missing.join("\n")
    );
}

#[test]
fn no_test_names_a_statement_that_there_is_not() {
    let known = all();
    for (number, place) in covered() {
        assert!(known.contains(&number), "{place}: BUP-{number:03}");
    }
}

/// The statements named by `/// Covers: BUP-070, BUP-071` anywhere in the tests, and where.
fn covered() -> BTreeMap<u32, String> {
    let mut covered = BTreeMap::new();
    for path in files("tests", "rs") {
        for (line, content) in text(&path).lines().enumerate() {
            let Some(list) = content.trim().strip_prefix("/// Covers:") else {
                continue;
            };
            for id in list.split([',', ' ', '.']).filter(|piece| !piece.is_empty()) {
                let place = format!("{}:{}", path.display(), line + 1);
                let number = number(id).unwrap_or_else(|| panic!("{place}: not an id: {id}"));
                covered.insert(number, place);
            }
        }
    }
    covered
}
