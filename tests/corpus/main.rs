//! The corpus of the fuzz targets, through the same checks in every run of the tests.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests: they may panic, and nobody reaches into them"
)]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// A seed's name says what must become of it: `good-…` is accepted, `bad-…` is refused.
#[test]
fn every_seed_is_judged_as_its_name_says() {
    let mut wrong = Vec::new();
    for (name, check) in checks::CHECKS {
        let (mut good, mut bad) = (0, 0);
        for entry in fs::read_dir(corpus().join(name)).unwrap() {
            let path = entry.unwrap().path();
            let seed = path.file_name().unwrap().to_string_lossy().into_owned();
            let accepted = check(&fs::read(&path).unwrap());
            good += usize::from(seed.starts_with("good-"));
            bad += usize::from(seed.starts_with("bad-"));
            if (seed.starts_with("good-") && !accepted) || (seed.starts_with("bad-") && accepted) {
                wrong.push(format!("{name}/{seed}: accepted: {accepted}"));
            }
        }
        assert!(good >= 3 && bad >= 3, "{name}: {good} good and {bad} bad seeds");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_target_has_a_corpus_and_a_check() {
    let folders: Vec<_> = names(&corpus(), "");
    let targets: Vec<_> = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/targets"), ".rs");
    let checks: Vec<_> = checks::CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, checks);
    assert_eq!(targets, checks);
}

fn names(folder: &Path, ending: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .trim_end_matches(ending)
                .to_owned()
        })
        .collect();
    names.sort();
    names
}
