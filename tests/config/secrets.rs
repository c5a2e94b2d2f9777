//! Secrets: where they come from, and that they don't get out.

use std::os::unix::fs::PermissionsExt;

use bits_gateway::config::show;

use super::{load_text, sentences};

const WORD: &str = "correct-horse-battery";

fn with_options(options: &str) -> String {
    format!("[[routes]]\npath = \"/\"\nstore = \"s3://b\"\nstore_options = {options}\n")
}

#[test]
fn secrets_come_from_files_variables_and_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{WORD}-1\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let options = format!(
        "{{ aws_secret_access_key = {{ file = {:?} }}, aws_session_token = {{ env = \"THE_TOKEN\" }}, aws_access_key_id = \
         \"{WORD}-3\", aws_region = \"here\", aws_allow_http = true }}",
        file.display().to_string()
    );
    let variables = [("THE_TOKEN", "correct-horse-battery-2")];
    let loaded = load_text(&with_options(&options), &variables).unwrap();

    let options = &loaded.settings.routes[0].store.options;
    let exposed = |name: &str| options[name].expose();
    assert_eq!(exposed("aws_secret_access_key"), "correct-horse-battery-1");
    assert_eq!(exposed("aws_session_token"), "correct-horse-battery-2");
    assert_eq!(exposed("aws_access_key_id"), "correct-horse-battery-3");
    assert_eq!((exposed("aws_region"), exposed("aws_allow_http")), ("here", "true"));

    let shown = show::as_toml(&loaded.settings, Some(&loaded.places));
    let printed = format!("{loaded:?}");
    assert!(!shown.contains(WORD) && !printed.contains(WORD), "{shown}{printed}");
    for piece in [
        "aws_region = \"here\"",
        "{ env = \"THE_TOKEN\" }",
        "aws_access_key_id = \"[redacted]\"",
    ] {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
}

#[test]
fn the_token_of_the_admin_listener_comes_from_a_variable_and_is_not_shown() {
    let token = format!("{WORD}-staple");
    let key = "BITS_GATEWAY__SERVER__ADMIN_TOKEN";
    for (text, variables) in [
        (format!("[server]\nadmin_token = {token:?}\n"), vec![]),
        (String::new(), vec![(key.to_owned(), token.clone())]),
        (
            String::new(),
            vec![
                (format!("{key}__ENV"), "OTHER".to_owned()),
                ("OTHER".to_owned(), token.clone()),
            ],
        ),
    ] {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let loaded = load_text(&text, &variables).unwrap();
        let secret = loaded.settings.server.admin_token.as_ref().unwrap();
        assert_eq!(secret.expose(), token);
        let shown = show::as_toml(&loaded.settings, Some(&loaded.places));
        let printed = format!("{loaded:?}");
        assert!(shown.contains("admin_token = "), "{shown}");
        assert!(!shown.contains(WORD) && !printed.contains(WORD), "{shown}{printed}");
    }
}

#[test]
fn a_variable_can_give_a_secret_or_name_its_place() {
    let text = with_options("{ aws_secret_access_key = \"old\" }");
    let secret = |variables: &[(&str, &str)]| {
        let options = load_text(&text, variables)
            .unwrap()
            .settings
            .routes
            .remove(0)
            .store
            .options;
        options["aws_secret_access_key"].expose().to_owned()
    };
    let key = "BITS_GATEWAY__ROUTES__0__STORE_OPTIONS__AWS_SECRET_ACCESS_KEY";
    assert_eq!(secret(&[(key, "new")]), "new");
    assert_eq!(
        secret(&[(&format!("{key}__ENV"), "OTHER"), ("OTHER", "from there")]),
        "from there"
    );
}

#[test]
fn a_secret_that_everybody_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, WORD).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let shown = file.display();
    let text = with_options(&format!("{{ aws_secret_access_key = {{ file = \"{shown}\" }} }}"));
    assert_eq!(
        sentences(&load_text(&text, &[]).unwrap_err()),
        [format!(
            "gateway.toml:4:52: routes[0].store_options.aws_secret_access_key: {shown} may be read by every user of this \
             machine (mode 0644): chmod o-r {shown}"
        )]
    );
}

#[test]
fn a_secret_that_is_not_there_is_told_by_its_place() {
    for (value, said) in [
        (
            "{ env = \"NOWHERE\" }",
            "gateway.toml:4:51: routes[0].store_options.aws_secret_access_key: there is no environment variable NOWHERE",
        ),
        (
            "{ file = \"no/such/file\" }",
            "gateway.toml:4:52: routes[0].store_options.aws_secret_access_key: no/such/file cannot be read: No such file or \
             directory (os error 2)",
        ),
        (
            "{ envv = \"X\" }",
            "gateway.toml:4:45: routes[0].store_options.aws_secret_access_key.envv: unknown key, did you mean \"env\"?",
        ),
        (
            "{ env = \"A\", file = \"b\" }",
            "gateway.toml:4:43: routes[0].store_options.aws_secret_access_key: expected one of { file = \"…\" } and { env = \"…\" }",
        ),
    ] {
        let text = with_options(&format!("{{ aws_secret_access_key = {value} }}"));
        assert_eq!(sentences(&load_text(&text, &[]).unwrap_err()), [said]);
    }
}
