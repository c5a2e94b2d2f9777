//! What each room keeps in and keeps out.

use crate::source::{Kind, Source, sources};

/// Rooms without clock, input or output, dice or log: everything that matters in them comes in as an argument.
const PURE: &[&str] = &["bits", "staging", "session"];

/// Names that have no business in a pure room.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "dashmap",
    "futures",
    "getrandom",
    "log",
    "new_v4",
    "object_store",
    "pingora",
    "rand",
    "random_id",
    "reqwest",
    "rustix",
    "tokio",
    "tracing",
    "Clock",
    "Instant",
    "ManualClock",
    "SystemClock",
    "SystemTime",
];

/// Parts of the standard library that reach outside.
const OUTSIDE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Header names of the protocol, as anybody may write them. Only `bits` does.
const HEADERS: &[&str] = &[
    "bits-copy-file-to-destination",
    "bits-error",
    "bits-error-code",
    "bits-error-context",
    "bits-host-id",
    "bits-host-id-fallback-timeout",
    "bits-original-request-url",
    "bits-packet-type",
    "bits-protocol",
    "bits-received-content-range",
    "bits-reply-url",
    "bits-request-datafile-name",
    "bits-response-datafile-name",
    "bits-session-id",
    "bits-static-response-url",
    "bits-supported-protocols",
];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 600;

#[test]
fn pingora_is_named_only_where_it_is_hosted() {
    only_in(&["gateway", "admin", "app"], |word| {
        word == "pingora" || word.starts_with("pingora_")
    });
}

#[test]
fn object_store_is_named_only_in_the_warehouse() {
    only_in(&["store"], |word| word == "object_store");
}

#[test]
fn the_time_and_the_dice_are_asked_in_one_place() {
    only_in(&["clock"], |word| word == "new_v4");
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room != "clock") {
        for line in calls(source, "SystemTime", "now") {
            wrong.push(source.at(line));
        }
    }
    assert!(
        wrong.is_empty(),
        "only `clock` asks for the time of day:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room.as_str())) {
        for (line, word) in source.words() {
            if IMPURE.contains(&word) {
                wrong.push(format!("{}: {word}", source.at(line)));
            }
        }
        for part in OUTSIDE {
            for line in calls(source, "std", part) {
                wrong.push(format!("{}: std::{part}", source.at(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn header_names_of_the_protocol_are_written_only_in_the_wire() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room != "bits") {
        for (line, text) in source.texts() {
            if HEADERS.contains(&text.trim().to_ascii_lowercase().as_str()) {
                wrong.push(format!("{}: {text}", source.at(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "take the constants of `bits`:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| source.lines > LONGEST_FILE)
        .map(|source| {
            format!(
                "{}: {} lines without its tests, at most {LONGEST_FILE}",
                source.path.display(),
                source.lines
            )
        })
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_unfinished() {
    let mut wrong = Vec::new();
    for source in sources() {
        for comment in &source.comments {
            if ["TODO", "FIXME", "XXX"].iter().any(|mark| comment.text.contains(mark)) {
                wrong.push(format!("{}: {}", source.at(comment.line), comment.text));
            }
        }
        for (line, word) in source.words() {
            if ["todo", "unimplemented", "dbg"].contains(&word) {
                wrong.push(format!("{}: {word}!", source.at(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_code_outside_of_tests_gives_up_without_a_reason() {
    let mut wrong = Vec::new();
    for source in sources() {
        let tokens = &source.tokens;
        for (at, token) in tokens.iter().enumerate() {
            let Kind::Word(word) = &token.kind else { continue };
            let is_method = at > 0 && tokens[at - 1].kind == Kind::Sign('.');
            let opens = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Sign('('));
            let argument = tokens.get(at + 2).map(|next| &next.kind);
            if is_method && opens && word == "unwrap" && argument == Some(&Kind::Sign(')')) {
                wrong.push(format!("{}: unwrap()", source.at(token.line)));
            }
            // A sentence, or the name of a constant that holds one.
            let has_reason = match argument {
                Some(Kind::Text(why)) => why.len() >= 10,
                Some(Kind::Word(name)) => name.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
                _ => false,
            };
            if is_method && opens && word == "expect" && !has_reason {
                wrong.push(format!("{}: expect without a sentence", source.at(token.line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Fails when a word that `matches` stands outside of `rooms`.
fn only_in(rooms: &[&str], matches: impl Fn(&str) -> bool) {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !rooms.contains(&source.room.as_str())) {
        for (line, word) in source.words() {
            if matches(word) {
                wrong.push(format!("{}: {word}", source.at(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "only in {}:\n{}", rooms.join(", "), wrong.join("\n"));
}

/// The lines on which `first::second` stands, also as the head of a `use` with braces.
fn calls(source: &Source, first: &str, second: &str) -> Vec<usize> {
    let tokens = &source.tokens;
    let mut lines = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let here =
            token.kind == Kind::Word(first.to_owned()) && tokens.get(at + 1).is_some_and(|t| t.kind == Kind::Path);
        if !here {
            continue;
        }
        match tokens.get(at + 2).map(|token| &token.kind) {
            Some(Kind::Word(word)) if word == second => lines.push(token.line),
            Some(Kind::Sign('{')) => {
                let mut depth = 0;
                for inner in &tokens[at + 2..] {
                    match &inner.kind {
                        Kind::Sign('{') => depth += 1,
                        Kind::Sign('}') => depth -= 1,
                        Kind::Word(word) if depth == 1 && word == second => lines.push(inner.line),
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    lines
}
