//! Documents that are made by the program, and have to be fresh: `UPDATE_GOLDEN=1 cargo test --test config` writes them.

use std::process::{Command, Stdio};

use bits_gateway::config::{Settings, reference, schema, show};
use bits_gateway::metrics::Metrics;

use super::{load_text, repository};

fn golden(path: &str, fresh: &str) {
    let file = repository(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == fresh,
        "{path} is stale: UPDATE_GOLDEN=1 cargo test --test config writes it anew"
    );
}

#[test]
fn the_page_of_all_keys_is_fresh() {
    golden("docs/configuration.md", &reference::as_markdown());
}

#[test]
fn the_file_of_all_keys_is_fresh() {
    golden("deploy/gateway.toml", &reference::as_toml());
}

#[test]
fn the_page_of_all_metrics_is_fresh() {
    golden("docs/metrics.md", &Metrics::reference());
}

#[test]
fn the_file_of_all_keys_says_what_holds_without_it() {
    let mut settings = load_text(&reference::as_toml(), &[]).unwrap().settings;
    // The one default that is different for routes in a file.
    assert!(!settings.routes[0].download.enabled);
    settings.routes[0].download.enabled = true;
    assert_eq!(settings, Settings::default());
}

#[test]
fn every_example_in_the_file_of_all_keys_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("s3");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a token that nobody can guess".replace(' ', "-")).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = reference::as_toml()
        .replace("/run/secrets/s3", &secret.display().to_string())
        .replace("/run/secrets/admin-token", &token.display().to_string())
        .replace("/run/secrets/app-authorization", &token.display().to_string())
        .replace("/run/secrets/app-signing-key", &token.display().to_string())
        .replace("/run/secrets/events-authorization", &token.display().to_string())
        .replace("/run/secrets/events-signing-key", &token.display().to_string());
    let text = text
        .replace("\n#", "\n")
        .replace("\n ", "\n# ")
        .replace("\"./bits-data\"", "\"s3://bucket\"");
    // What was prose is a comment still: its hash was followed by a space, and the header begins the text.
    let loaded = load_text(&text, &[]).unwrap();
    let route = &loaded.settings.routes[0];
    assert_eq!(route.gateway.host.as_deref(), Some("uploads.example.com"));
    assert_eq!(route.store.options.len(), 3);
}

#[test]
fn what_is_shown_as_in_force_can_be_loaded_again() {
    let text =
        "[[routes]]\npath = \"/a b/\"\nstore = \"./x\"\nhost = \"h\"\n[routes.store_options]\n\"odd name\" = 'it''s'\n";
    let text = text.replace("'it''s'", "\"it's \\\"so\\\"\"");
    let settings = load_text(&text, &[]).unwrap().settings;
    let shown = show::as_toml(&settings, None);
    let again = load_text(&shown, &[])
        .unwrap_or_else(|problems| panic!("{problems}\n{shown}"))
        .settings;
    assert_eq!(again.routes[0].store, settings.routes[0].store);
    assert_eq!(again, settings);
}

#[test]
fn the_schema_knows_the_keys_of_the_file() {
    let schema = schema::as_json();
    assert_eq!(
        schema["properties"]["limits"]["properties"]["memory"]["default"],
        "512MiB"
    );
    let route = &schema["properties"]["routes"]["items"];
    assert_eq!(route["required"], serde_json::json!(["path", "store"]));
    assert_eq!(
        route["properties"]["durability"]["enum"],
        serde_json::json!(["fragment", "part"])
    );
    assert_eq!(route["additionalProperties"], false);
    assert_eq!(
        route["properties"]["notify"]["properties"]["mode"]["enum"],
        serde_json::json!(["off", "value", "reference"])
    );
}

#[test]
fn the_metrics_pass_the_linter_of_prometheus() {
    let metrics = Metrics::new(["/"]).render();
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of Debian's package prometheus; make test brings it");
    std::io::Write::write_all(&mut linter.stdin.take().unwrap(), metrics.as_bytes()).unwrap();
    let said = linter.wait_with_output().unwrap();
    assert!(
        said.status.success() && said.stderr.is_empty() && said.stdout.is_empty(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}
