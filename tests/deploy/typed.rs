//! The commands and configurations of the documents, as a reader would copy them.

use std::path::Path;

use super::gateway::{Gateway, output, program, shell};
use super::{blocks, text};

#[test]
fn the_exchange_of_the_readme_uploads_a_file_with_nothing_but_curl() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(program(), &["--store", folder.path().join("data").to_str().unwrap()]);
    let exchange = blocks("README.md", "sh")
        .into_iter()
        .find(|block| block.contains("BITS_POST"))
        .unwrap();
    let said = shell(folder.path(), &exchange.replace("127.0.0.1:8080", &gateway.address));
    assert!(said.contains("BITS-Received-Content-Range: 12"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "fragment and close: {said}");
    assert!(said.ends_with("Hello, BITS!"), "{said}");
    assert_eq!(
        std::fs::read(folder.path().join("data/hello.txt")).unwrap(),
        b"Hello, BITS!"
    );
    let sessions = folder.path().join("data/.bits-gateway/sessions");
    let [session] = sessions.read_dir().unwrap().collect::<Vec<_>>().try_into().unwrap();
    let record = std::fs::read(session.unwrap().path().join("record")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["phase"]["closed"]["outcome"], "completed", "{record}");
}

#[test]
fn the_command_of_the_readme_uploads_a_file_with_our_client() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(program(), &["--store", folder.path().join("data").to_str().unwrap()]);
    let line = blocks("README.md", "sh")
        .into_iter()
        .find(|block| block.contains("bits-gateway upload"))
        .unwrap();
    let words: Vec<_> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.replace("127.0.0.1:8080", &gateway.address))
        .collect();
    std::fs::write(folder.path().join("README.md"), text("README.md")).unwrap();
    output(program().args(words).current_dir(folder.path()));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("data/docs/README.md")).unwrap(),
        text("README.md")
    );
}

#[test]
fn every_configuration_in_the_documents_is_one_that_the_program_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let check = |configuration: &str| {
        std::fs::write(&file, configuration).unwrap();
        program()
            .args(["check", "--config"])
            .arg(&file)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    assert_eq!(check("[sever]\n").status.code(), Some(78), "a misspelt one is refused");
    let mut configurations: Vec<_> = [
        "README.md",
        "docs/migrating-from-iis.md",
        "docs/operations.md",
        "docs/storage.md",
        "docs/security.md",
    ]
    .iter()
    .flat_map(|path| blocks(path, "toml").into_iter().map(move |block| (*path, block)))
    .collect();
    configurations.push(("deploy/kubernetes/configmap.yaml", configuration_of_the_configmap()));
    assert!(configurations.len() >= 3);
    for (path, configuration) in configurations {
        let output = check(&configuration);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}:\n{configuration}\n{said}");
    }
}

#[test]
fn the_shell_scripts_that_the_documents_name_are_there() {
    for path in [
        "Makefile",
        ".ci/run",
        ".ci/tools",
        ".ci/requirements",
        ".cargo/deny.toml",
        "docs/spec/requirements.toml",
    ] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}

/// The block below `gateway.toml: |`.
fn configuration_of_the_configmap() -> String {
    text("deploy/kubernetes/configmap.yaml")
        .lines()
        .skip_while(|line| !line.trim().starts_with("gateway.toml:"))
        .skip(1)
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect()
}
