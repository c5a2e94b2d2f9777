//! The source files, read as far as the rules need it: code without comments and tests, and the texts of its literals.

use std::fs;
use std::path::{Path, PathBuf};

/// One `.rs` file of `src/`.
pub struct Source {
    /// Where it is, from the root of the repository.
    pub path: PathBuf,
    /// The room that it belongs to: the folder, or the file's own name.
    pub room: String,
    /// How many modules deep it lies below the root of the crate.
    pub depth: usize,
    /// Its code as tokens, without comments and without test modules.
    pub tokens: Vec<Token>,
    /// Its comments, test modules excepted.
    pub comments: Vec<Comment>,
    /// Lines up to its test modules.
    pub lines: usize,
    /// Where its modules for tests lie that have a file of their own, without `.rs`.
    test_files: Vec<PathBuf>,
}

/// A piece of code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    Path,
    /// Any other single character.
    Sign(char),
    /// A string, byte string or character; escapes are left as they are written.
    Text(String),
}

/// A comment of any kind, without its slashes.
pub struct Comment {
    pub line: usize,
    pub text: String,
}

impl Source {
    /// `path:line`, for messages.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// Whether a word stands anywhere in the code.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.iter().filter_map(|token| match &token.kind {
            Kind::Word(word) => Some((token.line, word.as_str())),
            _ => None,
        })
    }

    /// Every literal text of the code.
    pub fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.iter().filter_map(|token| match &token.kind {
            Kind::Text(text) => Some((token.line, text.as_str())),
            _ => None,
        })
    }
}

/// Where the repository lies.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that ends in `.extension`, from the root of the repository, in order.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| is == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The text of a file of the repository.
pub fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every source file of the library and the program, except for those that hold nothing but tests.
pub fn sources() -> Vec<Source> {
    let all: Vec<_> = files("src", "rs")
        .into_iter()
        .map(|path| read(path.clone(), &text(&path)))
        .collect();
    let tests: Vec<_> = all.iter().flat_map(|source| source.test_files.clone()).collect();
    all.into_iter()
        .filter(|source| {
            !tests
                .iter()
                .any(|test| source.path.with_extension("").starts_with(test))
        })
        .collect()
}

/// Reads one file.
pub fn read(path: PathBuf, text: &str) -> Source {
    let inside: Vec<_> = path
        .iter()
        .skip(1)
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let room = inside[0].trim_end_matches(".rs").to_owned();
    let is_root = inside
        .last()
        .is_some_and(|name| name == "mod.rs" || name == "lib.rs" || name == "main.rs");
    let (tokens, comments) = scan(text);
    let (tokens, first_test, outlined) = without_tests(tokens);
    let folder = if is_root {
        path.parent().unwrap().to_owned()
    } else {
        path.with_extension("")
    };
    let lines = first_test.map_or_else(|| text.lines().count(), |line| line - 1);
    Source {
        depth: inside.len() - usize::from(is_root),
        comments: comments.into_iter().filter(|comment| comment.line <= lines).collect(),
        test_files: outlined.iter().map(|name| folder.join(name)).collect(),
        path,
        room,
        tokens,
        lines,
    }
}

/// Splits Rust source into tokens and comments.
fn scan(text: &str) -> (Vec<Token>, Vec<Comment>) {
    let bytes = text.as_bytes();
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let begin = at;
        let begun = line;
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            comments.push(Comment {
                line,
                text: text[begin..at].trim_start_matches(['/', '!']).trim().to_owned(),
            });
        } else if rest.starts_with("/*") {
            at += end_of_block_comment(rest);
            comments.push(Comment {
                line,
                text: text[begin..at].to_owned(),
            });
        } else if let Some((opening, hashes)) = raw_string(rest) {
            let closing = format!("\"{}", "#".repeat(hashes));
            let inner = &rest[opening..];
            let length = inner.find(&closing).unwrap_or(inner.len());
            at += opening + length + closing.len();
            tokens.push(Token {
                line,
                kind: Kind::Text(inner[..length].to_owned()),
            });
        } else if let Some(opening) = plain_string(rest) {
            let length = rest[opening..].len() - after_quote(&rest[opening..], '"').len();
            tokens.push(Token {
                line,
                kind: Kind::Text(rest[opening..opening + length - 1].to_owned()),
            });
            at += opening + length;
        } else if let Some(length) = character(rest) {
            tokens.push(Token {
                line,
                kind: Kind::Text(rest[1..length - 1].to_owned()),
            });
            at += length;
        } else if rest.starts_with("::") {
            tokens.push(Token { line, kind: Kind::Path });
            at += 2;
        } else {
            let first = rest.chars().next().unwrap();
            if first.is_alphanumeric() || first == '_' {
                let length = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                tokens.push(Token {
                    line,
                    kind: Kind::Word(rest[..length].to_owned()),
                });
                at += length;
            } else {
                if !first.is_whitespace() {
                    tokens.push(Token {
                        line,
                        kind: Kind::Sign(first),
                    });
                }
                at += first.len_utf8();
            }
        }
        line = begun + text[begin..at.min(bytes.len())].matches('\n').count();
    }
    (tokens, comments)
}

fn end_of_block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of `r#"` and the number of its hashes, when a raw string begins here.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..]
        .starts_with('"')
        .then_some((text.len() - after.len() + hashes + 1, hashes))
}

/// The length of `"` or `b"`, when a string begins here.
fn plain_string(text: &str) -> Option<usize> {
    let after = text
        .strip_prefix("b\"")
        .or_else(|| text.strip_prefix("c\""))
        .or_else(|| text.strip_prefix('"'))?;
    Some(text.len() - after.len())
}

/// What follows the closing quote.
fn after_quote(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return &text[at + c.len_utf8()..],
            _ => {}
        }
    }
    ""
}

/// The length of a character literal, when one begins here and not a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first != '\\' && !inner[first.len_utf8()..].starts_with('\'') {
        return None;
    }
    Some(text.len() - after_quote(inner, '\'').len())
}

/// Leaves out what stands below `#[cfg(test)]`, and tells the line of the first module among it, and the names of the modules
/// that have a file of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Option<usize>, Vec<String>) {
    let attribute: Vec<_> = ["#", "[", "cfg", "(", "test", ")", "]"]
        .iter()
        .map(|piece| match piece.chars().next().unwrap() {
            c if c.is_alphabetic() => Kind::Word((*piece).to_owned()),
            c => Kind::Sign(c),
        })
        .collect();
    let (mut kept, mut first_module, mut outlined) = (Vec::new(), None, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let here = &tokens[at..];
        if here.len() < attribute.len() || !here.iter().zip(&attribute).all(|(token, kind)| token.kind == *kind) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let begun = tokens[at].line;
        let mut depth = 0;
        let mut name = None;
        at += attribute.len();
        while at < tokens.len() {
            let kind = &tokens[at].kind;
            at += 1;
            match kind {
                Kind::Word(word) if depth == 0 && word == "mod" => {
                    name = tokens.get(at).map(|token| token.kind.clone())
                }
                Kind::Sign('{' | '(' | '[') => depth += 1,
                Kind::Sign('}' | ')' | ']') => {
                    depth -= 1;
                    if depth == 0 && *kind == Kind::Sign('}') {
                        break;
                    }
                }
                Kind::Sign(';') if depth == 0 => {
                    if let Some(Kind::Word(name)) = name.take() {
                        outlined.push(name);
                    }
                    break;
                }
                _ => {}
            }
        }
        if name.is_some() && first_module.is_none() {
            first_module = Some(begun);
        }
    }
    (kept, first_module, outlined)
}

#[test]
fn comments_texts_and_tests_are_told_from_code() {
    let source = read(
        PathBuf::from("src/room/file.rs"),
        r##"
//! About TODO.
use crate::a::B; // and more
fn f<'a>(x: &'a str) -> char { let _ = ("crate::c // no", r#"raw "quoted""#, b'\'', '"'); 'x' }
/* block /* nested */ */ fn g() {}
#[cfg(test)]
use crate::only_tests;
#[cfg(test)]
mod tests { fn h() { x.unwrap() } }
fn last() {}
#[cfg(test)]
mod more_tests;
"##,
    );
    assert_eq!(source.room, "room");
    assert_eq!(source.depth, 2);
    let words: Vec<_> = source.words().map(|(_, word)| word).collect();
    assert!(words.contains(&"g") && words.contains(&"last"));
    assert!(!words.contains(&"unwrap") && !words.contains(&"nested") && !words.contains(&"only_tests"));
    let texts: Vec<_> = source.texts().map(|(_, text)| text).collect();
    assert_eq!(texts, ["crate::c // no", "raw \"quoted\"", "\\'", "\"", "x"]);
    assert_eq!(source.lines, 7);
    assert_eq!(source.test_files, [PathBuf::from("src/room/file/more_tests")]);
    assert_eq!(source.comments.len(), 3);
}
