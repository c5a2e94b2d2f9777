//! The program itself: what it prints where, and its exit codes.

use std::process::{Command, Output};

fn gateway(arguments: &[&str]) -> Output {
    gateway_with(arguments, &[])
}

fn gateway_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let inherited: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("BITS_GATEWAY"))
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    for (name, _) in inherited {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for arguments in [
        &["frobnicate"][..],
        &["serve", "--listen", "nowhere"],
        &["serve", "--unknown"],
        &["explain", "BG_E_TOO_LARGE"],
        &["upload", "only-one-argument"],
        &["sessions"],
        &["sessions", "cancel"],
        &["sessions", "list", "--admin", "127.0.0.1:9090"],
        &["sessions", "list", "--silent-for", "5"],
        &["sessions", "sweep", "--admin", "http://127.0.0.1:1", "--route", "/"],
        &[],
    ] {
        let (code, out, error) = said(&gateway(arguments));
        assert_eq!(code, Some(64), "{arguments:?}");
        assert!(out.is_empty() && !error.is_empty(), "{arguments:?}: {out}{error}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_the_sentence_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, "[server]\nlsiten = []\n").unwrap();
    let shown = file.display().to_string();
    for arguments in [
        &["check", "--config", &shown][..],
        &["serve", "--config", &shown],
        &["config", "show", "--config", &shown],
        &["healthcheck", "--config", &shown],
    ] {
        let (code, out, error) = said(&gateway(arguments));
        assert_eq!((code, out.as_str()), (Some(78), ""), "{arguments:?}");
        assert_eq!(
            error,
            format!("{shown}:2:1: server.lsiten: unknown key, did you mean \"listen\"?\n")
        );
    }
}

#[test]
fn the_environment_of_the_process_is_read() {
    let (code, _, error) = said(&gateway_with(&["check"], &[("BITS_GATEWAY__SERVER__PORT", "1")]));
    assert_eq!(code, Some(78));
    assert!(
        error.starts_with("environment variable BITS_GATEWAY__SERVER__PORT: unknown key, "),
        "{error}"
    );
    let (code, _, error) = said(&gateway_with(
        &["check"],
        &[("BITS_GATEWAY_CONFIG", "no/such/file.toml")],
    ));
    assert_eq!(code, Some(78));
    assert!(error.starts_with("no/such/file.toml: cannot be read: "), "{error}");
    let (code, _, _) = said(&gateway_with(&["check"], &[("BITS_GATEWAY_SERVICE_HOST", "10.0.0.1")]));
    assert_eq!(code, Some(0));
}

#[test]
fn check_says_what_would_be_served() {
    let (code, out, error) = said(&gateway(&[
        "check",
        "--listen",
        "0.0.0.0:8080",
        "--store",
        "s3://bucket/x",
    ]));
    assert_eq!((code, out.as_str()), (Some(0), "ok: / -> s3://bucket/x\n"));
    assert!(
        error.starts_with("warning: default: routes[0].download: is on by default"),
        "{error}"
    );
}

#[test]
fn check_knows_the_options_of_a_store_without_asking_it() {
    let variables = [("BITS_GATEWAY__ROUTES__0__STORE_OPTIONS__AWS_REGOIN", "eu-central-1")];
    let (code, out, error) = said(&gateway_with(&["check", "--store", "s3://bucket/x"], &variables));
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(
        error.starts_with("--store: routes[0].store: ") && error.contains("aws_regoin"),
        "{error}"
    );
}

#[test]
fn check_live_tries_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("files").display().to_string();
    let (code, out, error) = said(&gateway(&["check", "--live", "--store", &store]));
    assert!(
        code == Some(0) && out.starts_with(&format!("ok: / -> {store}: ")),
        "{out}{error}"
    );
}

#[test]
fn config_show_tells_where_values_come_from() {
    let (code, out, _) = said(&gateway(&[
        "config",
        "show",
        "--origin",
        "--admin-listen",
        "127.0.0.1:1",
    ]));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("admin_listen = \"127.0.0.1:1\"  # --admin-listen\n"),
        "{out}"
    );
    assert!(out.contains("memory = \"512MiB\"  # default\n"), "{out}");
}

#[test]
fn reference_and_schema_are_what_they_are_called() {
    let (code, out, _) = said(&gateway(&["config", "reference"]));
    assert!(code == Some(0) && out.parse::<toml::Table>().is_ok());
    let (code, out, _) = said(&gateway(&["config", "schema"]));
    assert!(code == Some(0) && serde_json::from_str::<serde_json::Value>(&out).is_ok());
}

#[test]
fn a_code_is_explained_in_every_form() {
    for form in ["0x80200020", "-2145386464", "2149580832"] {
        let (code, out, _) = said(&gateway(&["explain", form]));
        assert_eq!(code, Some(0), "{form}");
        assert!(out.starts_with("0x80200020  BG_E_TOO_LARGE\n"), "{out}");
    }
    let (code, _, error) = said(&gateway(&["explain", "0x12345678"]));
    assert_eq!(
        (code, error.as_str()),
        (
            Some(64),
            "0x12345678 is none of the codes that this program can explain\n"
        )
    );
}

#[test]
fn the_version_is_told() {
    let version = env!("CARGO_PKG_VERSION");
    let (code, out, _) = said(&gateway(&["version"]));
    assert!(
        code == Some(0) && out.starts_with(&format!("bits-gateway {version} (")),
        "{out}"
    );
    let (_, out, _) = said(&gateway(&["version", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["version"], version);
    let (code, out, _) = said(&gateway(&["--version"]));
    assert_eq!((code, out), (Some(0), format!("bits-gateway {version}\n")));
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, out, _) = said(&gateway(&["completions", shell]));
        for word in ["healthcheck", "sessions", "dry-run"] {
            assert!(code == Some(0) && out.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn nobody_there_is_not_healthy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (code, _, error) = said(&gateway(&["healthcheck", "--admin-listen", &address]));
    assert_eq!(code, Some(69));
    assert!(error.starts_with(&format!("http://{address}/readyz: ")), "{error}");
}

#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    let program = env!("CARGO_BIN_EXE_bits-gateway");
    let line = format!("set -o pipefail; '{program}' config reference | head -1");
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
