//! The documents hold together: links lead somewhere, and what looks like configuration is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{files, root, text};

/// Every Markdown file that people are meant to read.
fn documents() -> Vec<PathBuf> {
    let mut found = files("docs", "md");
    found.extend(files("deploy", "md"));
    found.extend(["README.md", "CHANGELOG.md"].map(PathBuf::from));
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for path in documents() {
        let folder = path.parent().unwrap();
        for (line, link) in links(&text(&path)) {
            let at = format!("{}:{line}: {link}", path.display());
            if link.starts_with("https://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            if link.contains("://") || file.starts_with('/') {
                wrong.push(format!("{at}: write it relative to the document"));
                continue;
            }
            let target = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            if !root().join(&target).exists() {
                wrong.push(format!("{at}: no such file"));
            } else if !anchor.is_empty() && !anchors(&text(&target)).contains(anchor) {
                wrong.push(format!("{at}: no such heading"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_block_of_toml_parses() {
    let mut wrong = Vec::new();
    for path in documents() {
        for (line, language, block) in fenced(&text(&path)) {
            if language == "toml"
                && let Err(error) = block.parse::<toml::Table>()
            {
                wrong.push(format!("{}:{line}: {error}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_document_can_be_reached_from_the_readme() {
    let mut reached = BTreeSet::new();
    let mut ahead = vec![PathBuf::from("README.md")];
    while let Some(path) = ahead.pop() {
        if !reached.insert(path.clone()) || path.extension().is_none_or(|is| is != "md") {
            continue;
        }
        for (_, link) in links(&text(&path)) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !file.is_empty() {
                let target = flat(&path.parent().unwrap().join(file));
                if root().join(&target).is_file() {
                    ahead.push(target);
                }
            }
        }
    }
    let lost: Vec<_> = documents().into_iter().filter(|path| !reached.contains(path)).collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

#[test]
fn every_metric_that_a_document_names_is_one() {
    let reference = bits_gateway::metrics::Metrics::reference();
    let mut wrong = Vec::new();
    for path in documents() {
        for (number, line) in text(&path).lines().enumerate() {
            for (at, _) in line.match_indices("bitsgw_") {
                let end = line[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = &line[at..end.map_or(line.len(), |end| at + end)];
                if name != "bitsgw_" && !reference.contains(&format!("`{name}`")) {
                    wrong.push(format!("{}:{}: {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_map_of_the_house_stays_short() {
    let lines = text(Path::new("docs/architecture.md")).lines().count();
    assert!(lines <= 300, "docs/architecture.md has {lines} lines, at most 300");
}

#[test]
fn decisions_stay_on_one_page_and_are_numbered_without_gaps() {
    let decisions: Vec<_> = files("docs/decisions", "md")
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "README.md"))
        .collect();
    for (number, path) in decisions.iter().enumerate() {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(
            name.starts_with(&format!("{number:04}-")),
            "{name}: the next number is {number:04}"
        );
        let lines = text(path).lines().count();
        assert!(lines <= 60, "{name} has {lines} lines, at most 60");
    }
}

/// The targets of `[text](target)` outside of fenced blocks and code spans.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            continue;
        }
        if inside {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut rest = prose.as_str();
        while let Some(begin) = rest.find("](") {
            rest = &rest[begin + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push((number + 1, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

/// The fenced blocks: the line on which each begins, its language, its text.
fn fenced(markdown: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in markdown.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => open = Some((number + 1, language.trim().to_owned(), String::new())),
            (None, Some((_, _, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block does not end");
    found
}

/// The anchors that a renderer makes of the headings.
fn anchors(markdown: &str) -> BTreeSet<String> {
    markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

/// The path without `.` and `..`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                flat.pop();
            }
            std::path::Component::CurDir => {}
            part => flat.push(part),
        }
    }
    flat
}
