//! Every input that fuzzing begins with, fed to the checks that fuzzing makes.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_input_of_the_corpus_passes_its_check() {
    for (name, check) in checks::CHECKS {
        let folder = corpus().join(name);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            println!("{name}/{input}");
            check(&fs::read(folder.join(&input)).unwrap());
        }
    }
}

#[test]
fn every_check_has_a_target_and_a_folder_of_inputs() {
    let checks: BTreeSet<_> = checks::CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let targets = corpus().join("../targets");
    let targets: BTreeSet<_> = names(&targets)
        .iter()
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(checks, targets);
    assert_eq!(checks, names(&corpus()));
}
