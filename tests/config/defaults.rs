//! What holds when nobody says anything, and that it is the safe side.

use std::time::Duration;

use bits_gateway::config::{Flags, Loaded, Settings};
use bits_gateway::units::ByteSize;
use bits_gateway::upload::{Coordination, Durability, Taking};

use super::{load_text, load_with};

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn without_anything_one_route_is_served_to_this_machine() {
    let loaded = load_with(None, &[], Flags::default()).unwrap();
    let settings = &loaded.settings;
    assert!(settings.server.listen.iter().all(|address| address.ip().is_loopback()));
    assert!(settings.server.admin_listen.ip().is_loopback());
    let [route] = &settings.routes[..] else { panic!() };
    assert_eq!(
        (route.gateway.path.as_str(), route.store.url.as_str()),
        ("/", "./bits-data")
    );
    assert_eq!(route.upload.taking, Taking::Yes);
    assert!(route.download.enabled && !route.upload.overwrite);
    assert_eq!(settings, &Settings::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn a_file_that_says_nothing_changes_nothing() {
    assert_eq!(load_text("", &[]).unwrap().settings, Settings::default());
}

#[test]
fn a_route_in_a_file_is_a_drop_box() {
    let settings = load_text("[[routes]]\npath = \"/in/\"\nstore = \"./x\"\n", &[])
        .unwrap()
        .settings;
    let route = &settings.routes[0];
    assert_eq!(route.upload.taking, Taking::Yes);
    assert!(!route.download.enabled && !route.upload.overwrite);
    assert_eq!(route.upload.durability, Durability::Fragment);
    assert_eq!(route.upload.coordination, Coordination::Shared);
    assert_eq!(route.gateway.upstream, None);
}

#[test]
fn clients_are_given_the_time_that_they_take() {
    let server = Settings::default().server;
    assert!(server.read_timeout >= Duration::from_secs(120));
    // The largest fragments of Windows pass, and 13 MiB is the largest that may not be refused unless configured.
    assert!(Settings::default().routes[0].upload.max_fragment_size >= ByteSize::mib(13));
}

#[test]
fn less_memory_means_smaller_files_unless_their_size_is_given() {
    let size = |text: &str| load_text(text, &[]).unwrap().settings.routes[0].upload.max_upload_size;
    assert_eq!(size(""), ByteSize::gib(512));
    assert_eq!(size("[limits]\nmemory = \"64MiB\"\n"), ByteSize::mib(160_000));
    let route = "[[routes]]\npath = \"/\"\nstore = \"./x\"\nmax_upload_size = \"100GiB\"\n";
    assert_eq!(
        size(&format!("[limits]\nmemory = \"64MiB\"\n{route}")),
        ByteSize::gib(100)
    );
}

#[test]
fn an_ended_session_is_remembered_for_as_long_as_a_silent_one_lives() {
    let memory = |more: &str| {
        let text = format!("[[routes]]\npath = \"/\"\nstore = \"./x\"\nsession_timeout = \"3d\"\n{more}");
        load_text(&text, &[]).unwrap().settings.routes[0]
            .upload
            .closed_session_memory
    };
    assert_eq!(memory(""), Duration::from_secs(3 * 86_400));
    assert_eq!(memory("closed_session_memory = \"1h\"\n"), Duration::from_secs(3_600));
}

#[test]
fn what_is_not_quite_wrong_is_warned_of() {
    let open = load_with(
        None,
        &[("BITS_GATEWAY__SERVER__LISTEN", "0.0.0.0:8080")],
        Flags::default(),
    )
    .unwrap();
    assert_eq!(
        warnings(&open),
        [
            "default: routes[0].download: is on by default, and server.listen can be reached from other machines: whoever does \
          may read every file; a [[routes]] of your own has it off"
        ]
    );
    let meant = [
        ("BITS_GATEWAY__SERVER__LISTEN", "0.0.0.0:8080"),
        ("BITS_GATEWAY__ROUTES__0__DOWNLOAD", "true"),
    ];
    assert!(load_with(None, &meant, Flags::default()).unwrap().warnings.is_empty());

    let impatient = load_with(None, &[("BITS_GATEWAY__SERVER__READ_TIMEOUT", "5s")], Flags::default()).unwrap();
    assert_eq!(
        warnings(&impatient),
        [
            "environment variable BITS_GATEWAY__SERVER__READ_TIMEOUT: server.read_timeout: a Windows client is silent for up to \
          two minutes, and sends again what is given up before"
        ]
    );

    let forgetful = [("BITS_GATEWAY__ROUTES__0__MULTIPART_LIFETIME", "24h")];
    assert_eq!(
        warnings(&load_with(None, &forgetful, Flags::default()).unwrap()),
        [
            "environment variable BITS_GATEWAY__ROUTES__0__MULTIPART_LIFETIME: routes[0].multipart_lifetime: the store deletes \
          unfinished uploads before session_timeout: clients that pause for longer start from the first byte"
        ]
    );
}

#[test]
fn routes_that_share_files_and_not_their_sessions_are_warned_of() {
    let routes = |outer: &str, inner: &str| {
        let text = format!(
            "[[routes]]\npath = \"/\"\nstore = \"s3://b/\"\n{outer}\n[[routes]]\npath = \"/x/\"\nstore = \"s3://b/x/\"\n{inner}\n"
        );
        warnings(&load_with(Some(&text), &[], Flags::default()).unwrap())
    };
    let warned = routes("", "");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("routes[1].store: its files lie among those of routes[0], and its sessions elsewhere"));
    let staging = "staging = \"s3://b/staging\"";
    assert_eq!(routes(staging, staging), [""; 0]);
}

#[test]
fn parts_are_no_promise_where_only_one_replica_makes_it() {
    for more in ["coordination = \"single-replica\"", "host_id = \"node1.example.com\""] {
        let text = format!("[[routes]]\npath = \"/\"\nstore = \"./x\"\ndurability = \"part\"\n{more}\n");
        assert!(load_text(&text, &[]).is_ok(), "{more}");
    }
}

#[test]
fn routes_may_share_a_path_on_different_hosts_and_a_store_under_one_name() {
    let text = "\
[[routes]]
path = \"/\"
store = \"s3://b\"
host = \"a.example\"
[[routes]]
path = \"/\"
store = \"s3://b/inner\"
host = \"b.example\"
[[routes]]
path = \"/\"
store = \"s3://b\"
";
    assert_eq!(load_text(text, &[]).unwrap().settings.routes.len(), 3);
}

#[test]
fn ports_that_the_system_chooses_do_not_collide() {
    let text = "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\n";
    assert!(load_text(text, &[]).is_ok());
}
