//! The mistakes that are planted to see whether the simulation notices.

use std::process::Command;

use crate::source::{files, root};

#[test]
fn every_planted_mistake_still_applies() {
    let patches = files("tests/simulation/mutations", "patch");
    assert!(patches.len() >= 28, "mistakes are missing: {patches:?}");
    let wrong: Vec<_> = patches
        .iter()
        .filter_map(|patch| {
            let tried = Command::new("git")
                .args(["apply", "--check", "--whitespace=nowarn"])
                .arg(patch)
                .current_dir(root())
                .output()
                .expect("git is there");
            let why = String::from_utf8_lossy(&tried.stderr).into_owned();
            (!tried.status.success()).then(|| format!("{}: {why}", patch.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
