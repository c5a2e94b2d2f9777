//! The configuration, as an operator meets it: what every mistake is told, what wins over what, what holds by default, and that
//! the documents that are made of it are fresh.

mod command_line;
mod defaults;
mod golden;
mod import_iis;
mod mistakes;
mod precedence;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bits_gateway::config::{Flags, Loaded, Problems, Sources, load};

/// Loads `text` as the file gateway.toml, with `variables` as the environment.
fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    load_with(Some(text), variables, Flags::default())
}

/// Loads from all three sources.
fn load_with(text: Option<&str>, variables: &[(&str, &str)], flags: Flags) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let file = text.map(|text| {
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        file
    });
    let variables: BTreeMap<_, _> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    load(&Sources { file, variables, flags })
}

/// The sentences, with the file called by its name alone.
fn sentences(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(without_folder).collect()
}

fn without_folder(line: &str) -> String {
    match line.split_once("gateway.toml") {
        Some((_, rest)) if line.starts_with('/') => format!("gateway.toml{rest}"),
        _ => line.to_owned(),
    }
}

/// A file of this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
