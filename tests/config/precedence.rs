//! What wins: default < file < environment < flag.

use bits_gateway::config::Flags;
use bits_gateway::units::ByteSize;

use super::{load_text, load_with};

const FILE: &str = "\
[server]
listen = [\"127.0.0.1:1\"]
admin_listen = \"127.0.0.1:2\"

[[routes]]
path = \"/a/\"
store = \"./a\"
overwrite = true

[[routes]]
path = \"/b/\"
store = \"./b\"
[routes.store_options]
aws_region = \"here\"
";

fn listen(text: Option<&str>, variables: &[(&str, &str)], flag: Option<&str>) -> Vec<String> {
    let flags = Flags {
        listen: flag.map(|address| address.parse().unwrap()).into_iter().collect(),
        ..Flags::default()
    };
    let loaded = load_with(text, variables, flags).unwrap();
    loaded.settings.server.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn each_source_wins_over_those_before_it() {
    let variables = [("BITS_GATEWAY__SERVER__LISTEN", "127.0.0.1:3,127.0.0.1:4")];
    assert_eq!(listen(None, &[], None), ["127.0.0.1:8080"]);
    assert_eq!(listen(Some(FILE), &[], None), ["127.0.0.1:1"]);
    assert_eq!(listen(Some(FILE), &variables, None), ["127.0.0.1:3", "127.0.0.1:4"]);
    assert_eq!(listen(Some(FILE), &variables, Some("127.0.0.1:5")), ["127.0.0.1:5"]);
}

#[test]
fn flags_reach_the_admin_listener_and_the_store() {
    let flags = Flags {
        admin_listen: Some("127.0.0.1:7".parse().unwrap()),
        store: Some("s3://bucket".to_owned()),
        ..Flags::default()
    };
    let settings = load_with(None, &[("BITS_GATEWAY__ROUTES__0__STORE", "./x")], flags)
        .unwrap()
        .settings;
    assert_eq!(settings.server.admin_listen.to_string(), "127.0.0.1:7");
    assert_eq!(settings.routes[0].store.url, "s3://bucket");
}

#[test]
fn a_store_flag_does_not_choose_between_routes() {
    let flags = Flags {
        store: Some("./c".to_owned()),
        ..Flags::default()
    };
    let problems = load_with(Some(FILE), &[], flags).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "--store: there are 2 routes: say which one with BITS_GATEWAY__ROUTES__0__STORE or in the file"
    );
}

#[test]
fn a_variable_changes_one_key_of_one_route() {
    let variables = [
        ("BITS_GATEWAY__ROUTES__1__STORE", "s3://b"),
        (
            "BITS_GATEWAY__ROUTES__1__STORE_OPTIONS__AWS_ENDPOINT",
            "http://127.0.0.1:9000",
        ),
        ("BITS_GATEWAY__ROUTES__0__OVERWRITE", "false"),
        ("BITS_GATEWAY__ROUTES__0__DOWNLOAD", "true"),
        ("BITS_GATEWAY__ROUTES__0__SESSION_TIMEOUT", "1h30m"),
        ("BITS_GATEWAY__ROUTES__0__HOST_ID", "node1"),
    ];
    let routes = load_text(FILE, &variables).unwrap().settings.routes;
    assert_eq!(
        (routes[0].store.url.as_str(), routes[1].store.url.as_str()),
        ("./a", "s3://b")
    );
    assert_eq!(
        routes[1].store.options["aws_endpoint"].expose(),
        "http://127.0.0.1:9000"
    );
    assert_eq!(routes[1].store.options["aws_region"].expose(), "here");
    assert!(!routes[0].upload.overwrite && routes[0].download.enabled && !routes[1].download.enabled);
    assert_eq!(routes[0].upload.session_timeout.as_secs(), 5_400);
    assert_eq!(routes[0].gateway.host_id.as_deref(), Some("node1"));
}

#[test]
fn variables_alone_can_add_routes() {
    let mut variables = vec![("BITS_GATEWAY__ROUTES__0__PATH".to_owned(), "/r0/".to_owned())];
    for index in 1..12 {
        variables.push((format!("BITS_GATEWAY__ROUTES__{index}__PATH"), format!("/r{index}/")));
        variables.push((format!("BITS_GATEWAY__ROUTES__{index}__STORE"), format!("./r{index}")));
    }
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let routes = load_with(None, &variables, Flags::default()).unwrap().settings.routes;
    let paths: Vec<_> = routes.iter().map(|route| route.gateway.path.clone()).collect();
    assert_eq!(paths, (0..12).map(|index| format!("/r{index}/")).collect::<Vec<_>>());
    // The first one is the route of nobody's making, moved; the others are written by somebody.
    assert!(routes[0].download.enabled && routes[1..].iter().all(|route| !route.download.enabled));
}

#[test]
fn one_element_of_a_list_can_be_replaced() {
    let file = "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";
    assert_eq!(
        listen(Some(file), &[("BITS_GATEWAY__SERVER__LISTEN__1", "127.0.0.1:3")], None),
        ["127.0.0.1:1", "127.0.0.1:3"]
    );
}

#[test]
fn an_empty_variable_takes_an_optional_key_back() {
    let file = "[[routes]]\npath = \"/\"\nstore = \"./x\"\nhost = \"a.example\"\n";
    let routes = load_text(file, &[("BITS_GATEWAY__ROUTES__0__HOST", "")])
        .unwrap()
        .settings
        .routes;
    assert_eq!(routes[0].gateway.host, None);
}

#[test]
fn variables_of_kubernetes_and_of_others_are_not_read() {
    let variables = [
        ("BITS_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("BITS_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("BITS_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("BITS_GATEWAY_CONFIG", "elsewhere.toml"),
        ("BITS_GATEWAYX__SERVER__LISTEN", "x"),
        ("PATH", "/bin"),
    ];
    assert!(load_text(FILE, &variables).is_ok());
}

#[test]
fn letter_case_does_not_count_in_variables() {
    let loaded = load_text(FILE, &[("BITS_GATEWAY__limits__Memory", "1GiB")]).unwrap();
    assert_eq!(loaded.settings.limits.upload.memory, ByteSize::gib(1));
}

#[test]
fn where_each_value_was_given_is_known() {
    let flags = Flags {
        admin_listen: Some("127.0.0.1:7".parse().unwrap()),
        ..Flags::default()
    };
    let loaded = load_with(Some(FILE), &[("BITS_GATEWAY__LIMITS__MEMORY", "1GiB")], flags).unwrap();
    let place = |key: &str| loaded.places[key].to_string();
    assert!(place("server.listen").ends_with("gateway.toml:2:10"));
    assert!(place("routes[1].store_options.aws_region").ends_with("gateway.toml:14:14"));
    assert_eq!(
        place("limits.memory"),
        "environment variable BITS_GATEWAY__LIMITS__MEMORY"
    );
    assert_eq!(place("server.admin_listen"), "--admin-listen");
    assert!(!loaded.places.contains_key("limits.connections"));
}
