//! One test for each mistake: the exact sentences.

use super::{load_text, sentences};

/// The file, the environment, and all that is said about them.
fn expect(text: &str, variables: &[(&str, &str)], said: &[&str]) {
    let problems = load_text(text, variables).expect_err("accepted");
    assert_eq!(sentences(&problems), said);
}

macro_rules! mistakes {
    ($($name:ident: $text:literal $([$(($variable:literal, $value:literal)),+])? => [$($said:expr),+ $(,)?];)+) => {
        $(
            #[test]
            fn $name() {
                expect($text, &[$($(($variable, $value)),+)?], &[$($said),+]);
            }
        )+
    };
}

mistakes! {
    // What is not TOML.
    a_list_that_does_not_end: "[server]\nlisten = [\"127.0.0.1:8080\"\n" =>
        ["gateway.toml:2:27: is not TOML: unclosed array, expected `]`"];
    a_key_that_stands_twice: "[server]\nthreads = 1\nthreads = 2\n" =>
        ["gateway.toml:3:1: is not TOML: duplicate key"];
    a_size_without_quotes: "[limits]\nmemory = 64MiB\n" =>
        ["gateway.toml:2:10: is not TOML: string values must be quoted, expected literal string"];

    // Unknown keys.
    a_key_with_swapped_letters: "[server]\nlsiten = []\n" =>
        ["gateway.toml:2:1: server.lsiten: unknown key, did you mean \"listen\"?"];
    a_key_with_another_hyphen: "[server]\n  admin-listen = \"127.0.0.1:1\"\n" =>
        ["gateway.toml:2:3: server.admin-listen: unknown key, did you mean \"admin_listen\"?"];
    a_key_in_the_wrong_section: "[server]\nmemory = \"1GiB\"\n" =>
        ["gateway.toml:2:1: server.memory: unknown key, did you mean \"memory\" in [limits]?"];
    a_key_of_a_route_outside_of_it: "store = \"./x\"\n" =>
        ["gateway.toml:1:1: store: unknown key, did you mean \"store\" in [[routes]]?"];
    a_key_like_no_other: "[log]\ncolour = \"red\"\n" =>
        ["gateway.toml:2:1: log.colour: unknown key, known here: format, level, packets"];
    a_section_like_another: "[serve]\nthreads = 1\n" =>
        ["gateway.toml:1:2: serve: unknown key, did you mean \"server\"?"];
    a_route_in_the_singular: "[[route]]\npath = \"/\"\n" =>
        ["gateway.toml:1:3: route: unknown key, did you mean \"routes\"?"];
    a_key_of_the_second_route:
        "[[routes]]\npath = \"/a\"\nstore = \"./a\"\n[[routes]]\npath = \"/b\"\nstore = \"./b\"\novrwrite = true\n" =>
        ["gateway.toml:7:1: routes[1].ovrwrite: unknown key, did you mean \"overwrite\"?"];

    // Wrong kinds.
    a_section_that_is_a_value: "server = 1\n" =>
        ["gateway.toml:1:10: server: expected a section, found a number"];
    routes_that_are_one_section: "[routes]\npath = \"/\"\n" =>
        ["gateway.toml:1:1: routes: expected a list, found a section"];
a_token_that_is_soon_guessed: "[server]\nadmin_token = \"hunter2\"\n" =>
        ["gateway.toml:2:15: server.admin_token: has 7 characters, at least 16"];
    a_token_that_no_header_carries: "[server]\nadmin_token = \"correct horse battery\"\n" =>
        ["gateway.toml:2:15: server.admin_token: holds characters that no header can carry: letters, digits and signs of ASCII only"];
    a_token_that_is_not_there: "[server]\nadmin_token = { env = \"NOWHERE\" }\n" =>
        ["gateway.toml:2:23: server.admin_token: there is no environment variable NOWHERE"];
    a_number_in_quotes: "[server]\nthreads = \"4\"\n" =>
        ["gateway.toml:2:11: server.threads: expected a whole number from 0 to 4294967295, found \"4\""];
    a_number_below_zero: "[limits]\nconnections = -1\n" =>
        ["gateway.toml:2:15: limits.connections: expected a whole number from 0 to 4294967295, found -1"];
    a_number_with_a_point: "[limits]\nconnections = 1.5\n" =>
        ["gateway.toml:2:15: limits.connections: expected a whole number from 0 to 4294967295, found a number with a point"];
    a_number_beyond_reason: "[limits]\nconnections = 99999999999999999999\n" =>
        ["gateway.toml:2:15: limits.connections: expected a whole number from 0 to 4294967295, found a number beyond 64 bits"];
    a_boolean_in_quotes: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nupload = \"yes\"\n" =>
        ["gateway.toml:4:10: routes[0].upload: expected true, false or \"proxy\", found \"yes\""];
    packets_that_go_to_nobody: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nupload = \"proxy\"\n" =>
        ["gateway.toml:4:10: routes[0].upload: \"proxy\" needs an `upstream`"];
    networks_that_are_none: "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"lb.example\", \"10.0.0.1/8\", \"192.0.2.1\"]\n" =>
        ["gateway.toml:2:34: server.trusted_proxies[1]: \"lb.example\" is not a network or address, such as \"10.0.0.0/8\", \"192.0.2.1\" or \"fd00::/8\"",
         "gateway.toml:2:48: server.trusted_proxies[2]: \"10.0.0.1/8\" has bits beyond its prefix: 10.0.0.0/8 is the network"];
    one_address_that_should_be_a_list: "[server]\nlisten = \"127.0.0.1:8080\"\n" =>
        ["gateway.toml:2:10: server.listen: expected a list, found \"127.0.0.1:8080\""];
    a_path_that_is_a_number: "[[routes]]\npath = 1\nstore = \"./x\"\n" =>
        ["gateway.toml:2:8: routes[0].path: expected text between quotes, found a number"];
    a_date: "[cleanup]\ninterval = 2026-01-01\n" =>
        ["gateway.toml:2:12: cleanup.interval: expected text between quotes, found a date"];
    a_text_that_is_empty: "[[routes]]\npath = \"/\"\nstore = \"\"\n" =>
        ["gateway.toml:3:9: routes[0].store: may not be empty"];

    // Values that don't parse, at their place.
    a_size_with_a_typo: "[limits]\nmemory = \"64MB!\"\n" =>
        ["gateway.toml:2:10: limits.memory: \"64MB!\" is not a size: \"MB!\" is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"];
    a_size_without_a_unit: "[limits]\nmemory = 67108864\n" =>
        ["gateway.toml:2:10: limits.memory: 67108864 has no unit: write \"67108864B\", \"67108864KB\", \"67108864MiB\" …"];
    a_duration_without_a_unit: "[limits]\nmemory_wait = \"60\"\n" =>
        ["gateway.toml:2:15: limits.memory_wait: \"60\" has no unit: write \"60s\", \"60m\", \"60h\" …"];
    a_duration_in_words: "[server]\ngrace_period = \"30 seconds\"\n" =>
        ["gateway.toml:2:16: server.grace_period: \"30 seconds\" is not a duration: \" seconds\" is none of ms, s, m, h, d, w"];
    an_address_without_a_port: "[server]\nlisten = [\"127.0.0.1:8080\", \"localhost\"]\n" =>
        ["gateway.toml:2:29: server.listen[1]: \"localhost\" is not an address: an IP address and a port, such as \
          \"127.0.0.1:8080\" or \"[::]:8080\""];
    a_word_that_is_none_of_them: "[[routes]]\npath = \"/\"\nstore = \"./x\"\ncoordination = \"sharde\"\n" =>
        ["gateway.toml:4:16: routes[0].coordination: \"sharde\" is none of \"shared\", \"single-replica\", did you mean \
          \"shared\"?"];
    a_level_that_is_none: "[log]\nlevel = \"verbose\"\n" =>
        ["gateway.toml:2:9: log.level: \"verbose\" is none of off, error, warn, info, debug, trace"];
    an_upstream_with_a_path: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nupstream = \"http://a/b\"\n" =>
        ["gateway.toml:4:12: routes[0].upstream: \"http://a/b\" has a path or query: only scheme, host and port are used"];

    // The server application.
    events_without_a_url: "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.events]\nmode = \"binary\"\n" =>
        ["gateway.toml:4:1: routes[0].events.url: is missing: mode says that somebody is told"];
    an_event_that_there_is_not:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.events]\nmode = \"binary\"\nurl = \"http://a\"\nkinds = [\"finished\"]\n" =>
        ["gateway.toml:7:10: routes[0].events.kinds[0]: \"finished\" is none of \"created\", \"completed\", \"cancelled\", \"expired\", \"lost\""];
    events_beside_an_application:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\nurl = \"http://a\"\n[routes.events]\nmode = \"binary\"\nurl = \"http://a\"\n" =>
        ["gateway.toml:8:8: routes[0].events.mode: a route with a server application has no events: the application is told of each file, and \
          of nothing else"];
    a_health_path_that_is_none:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\nupstream = \"http://a\"\nupstream_health_path = \"healthz\"\n" =>
        ["gateway.toml:5:24: routes[0].upstream_health_path: \"healthz\" is not a path that begins with \"/\", as in a URL"];
    authorities_of_no_upstream_by_https:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\nupstream = \"http://a\"\nupstream_ca_file = \"ca.pem\"\n" =>
        ["gateway.toml:5:20: routes[0].upstream_ca_file: is not used: no server is reached by https"];
    a_digest_beside_the_file_that_nobody_takes:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\nchecksum_sidecar = true\n" =>
        ["gateway.toml:4:20: routes[0].checksum_sidecar: needs checksum = \"sha256\""];
    a_digest_beside_a_file_that_goes_to_an_application:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\nchecksum = \"sha256\"\nchecksum_sidecar = true\n[routes.notify]\nmode = \"value\"\n\
         url = \"http://a\"\n" =>
        ["gateway.toml:5:20: routes[0].checksum_sidecar: is not for routes with a server application: their files appear when it \
          says so, or not at all"];
    an_application_without_a_url: "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\n" =>
        ["gateway.toml:4:1: routes[0].notify.url: is missing: mode says that there is a server application"];
    an_application_somewhere_relative:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\nurl = \"in.asp\"\n" =>
        ["gateway.toml:6:7: routes[0].notify.url: it is relative, so `origin` has to say which server it is on"];
    an_application_that_clients_do_not_wait_for:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\nurl = \"http://a\"\ntimeout = \"5m\"\n" =>
        ["gateway.toml:7:11: routes[0].notify.timeout: has to be longer than 0s and at most 270s: clients wait for five minutes"];
    an_application_that_cannot_read_memory:
        "[[routes]]\npath = \"/\"\nstore = \"memory:///\"\n[routes.notify]\nmode = \"reference\"\nurl = \"http://a\"\n" =>
        ["gateway.toml:5:8: routes[0].notify.mode: \"reference\" needs a store that others can read: a memory:/// is only \
          within this process"];
    authorities_that_nobody_needs:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\nurl = \"http://a\"\nca_file = \"x\"\n" =>
        ["gateway.toml:7:11: routes[0].notify.ca_file: is not used: the server application is not reached by https"];
    a_signing_key_that_is_soon_guessed:
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\n[routes.notify]\nmode = \"value\"\nurl = \"http://a\"\nsigning_key = \"hunter2\"\n" =>
        ["gateway.toml:7:15: routes[0].notify.signing_key: has less than 16 characters"];

    // What is missing.
    a_route_without_path_and_store: "[[routes]]\nupload = true\n" =>
        ["gateway.toml:1:1: routes[0].path: is missing", "gateway.toml:1:1: routes[0].store: is missing"];
    a_route_without_a_store_in_the_middle: "[[routes]]\npath = \"/a\"\nstore = \"./a\"\n\n[[routes]]\npath = \"/b\"\n" =>
        ["gateway.toml:5:1: routes[1].store: is missing"];
    no_routes_at_all: "routes = []\n" =>
        ["gateway.toml:1:10: routes: there is none: nothing would be served"];

    // Routes.
    a_path_without_a_slash: "[[routes]]\npath = \"uploads\"\nstore = \"./x\"\n" =>
        ["gateway.toml:2:8: routes[0].path: \"uploads\" does not begin with \"/\""];
    a_path_with_an_escape: "[[routes]]\npath = \"/a%20b\"\nstore = \"./x\"\n" =>
        ["gateway.toml:2:8: routes[0].path: \"/a%20b\" contains '%': write the path decoded, without query"];
    a_path_with_dots: "[[routes]]\npath = \"/a/../b\"\nstore = \"./x\"\n" =>
        ["gateway.toml:2:8: routes[0].path: \"/a/../b\" has an empty segment, \".\" or \"..\" in it"];
    two_routes_at_one_path:
        "[[routes]]\npath = \"/a\"\nstore = \"./a\"\n[[routes]]\npath = \"/a/\"\nstore = \"./b\"\n" =>
        ["gateway.toml:5:8: routes[1].path: /a/ is taken by routes[0] already"];
    two_routes_at_one_path_of_one_host:
        "[[routes]]\npath = \"/\"\nhost = \"a.example\"\nstore = \"./a\"\n[[routes]]\npath = \"/\"\nhost = \"A.example\"\nstore = \"./b\"\n" =>
        ["gateway.toml:6:8: routes[1].path: / of A.example is taken by routes[0] already"];
    a_host_with_a_port: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nhost = \"a.example:80\"\n" =>
        ["gateway.toml:4:8: routes[0].host: \"a.example:80\" has a port: a route answers on every port"];
    a_host_id_that_is_none: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nhost_id = \"http://node1/\"\n" =>
        ["gateway.toml:4:11: routes[0].host_id: \"http://node1/\" is not a host name or address"];
    a_fallback_of_half_a_second: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nhost_id_fallback_timeout = \"500ms\"\n" =>
        ["gateway.toml:4:28: routes[0].host_id_fallback_timeout: has to be whole seconds, from 1s to 49710d"];

    // Stores.
    a_store_of_no_kind: "[[routes]]\npath = \"/\"\nstore = \"ftp://host/x\"\n" =>
        ["gateway.toml:3:9: routes[0].store: \"ftp://\" is none of s3://, gs://, az://, file:///, memory:///, nor a path"];
    a_store_without_a_bucket: "[[routes]]\npath = \"/\"\nstore = \"s3:///x\"\n" =>
        ["gateway.toml:3:9: routes[0].store: \"s3:///x\" names no bucket"];
    a_store_with_a_password: "[[routes]]\npath = \"/\"\nstore = \"s3://key:hunter2@bucket\"\n" =>
        ["gateway.toml:3:9: routes[0].store: a URL with a user name or password in it is refused: they would show up in logs"];
    staging_of_another_kind: "[[routes]]\npath = \"/\"\nstore = \"s3://b\"\nstaging = \"/tmp/x\"\n" =>
        ["gateway.toml:4:11: routes[0].staging: has to be the same kind of store as `store`: sessions and files share its options"];
    a_reserved_prefix_that_climbs: "[[routes]]\npath = \"/\"\nstore = \"s3://b\"\nreserved_prefix = \"../x\"\n" =>
        ["gateway.toml:4:19: routes[0].reserved_prefix: \"../x/\" is not the name of a folder"];
    sessions_in_reach_of_another_route:
        "[[routes]]\npath = \"/all\"\nstore = \"s3://b\"\n[[routes]]\npath = \"/in\"\nstore = \"s3://b/in\"\nreserved_prefix = \"x\"\n" =>
        ["gateway.toml:7:19: routes[1].reserved_prefix: URLs of routes[0] would lead to these sessions: use the same name there, \
          or keep them out of its store"];

    // Rules for uploads.
    a_part_that_no_store_takes: "[[routes]]\npath = \"/\"\nstore = \"./x\"\npart_size = \"4MiB\"\n" =>
        ["gateway.toml:4:13: routes[0].part_size: 4MiB is outside of 5MiB to 5GiB"];
    a_part_larger_than_its_share: "[[routes]]\npath = \"/\"\nstore = \"./x\"\npart_size = \"256MiB\"\n" =>
        ["gateway.toml:4:13: routes[0].part_size: a part of 256MiB is more than a quarter of limits.memory (128MiB)"];
    memory_for_less_than_four_parts: "[limits]\nmemory = \"16MiB\"\n" =>
        ["gateway.toml:2:10: limits.memory: a part of 8MiB is more than a quarter of limits.memory (4MiB)"];
    files_whose_parts_need_more_memory:
        "[limits]\nmemory = \"64MiB\"\n[[routes]]\npath = \"/\"\nstore = \"./x\"\nmax_upload_size = \"200GiB\"\n" =>
        ["gateway.toml:6:19: routes[0].max_upload_size: needs parts of 21474837B, which is more than a quarter of limits.memory \
          (16MiB): at most 156GiB, or more memory"];
    files_of_more_parts_than_stores_take:
        "[limits]\nmemory = \"1TiB\"\n[[routes]]\npath = \"/\"\nstore = \"./x\"\nmax_upload_size = \"100TiB\"\n" =>
        ["gateway.toml:6:19: routes[0].max_upload_size: needs parts of 10995116278B, and stores take at most 5GiB: at most 50000GiB"];
    a_limit_that_refuses_every_file: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nmax_upload_size = \"0B\"\n" =>
        ["gateway.toml:4:19: routes[0].max_upload_size: has to be more than 0B; upload = false switches uploads off"];
    a_limit_that_refuses_every_fragment: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nmax_fragment_size = \"4KiB\"\n" =>
        ["gateway.toml:4:21: routes[0].max_fragment_size: has to be at least 5KiB: clients don't send smaller fragments, and would \
          never get through"];
    a_session_without_time: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nsession_timeout = \"0s\"\n" =>
        ["gateway.toml:4:19: routes[0].session_timeout: has to be longer than 0s"];
    an_end_that_nobody_remembers: "[[routes]]\npath = \"/\"\nstore = \"./x\"\nclosed_session_memory = \"0s\"\n" =>
        ["gateway.toml:4:25: routes[0].closed_session_memory: has to be longer than 0s"];
    parts_that_no_replica_finishes: "[[routes]]\npath = \"/\"\nstore = \"./x\"\ndurability = \"part\"\n" =>
        ["gateway.toml:4:14: routes[0].durability: \"part\" needs coordination = \"single-replica\" or a host_id: two replicas in \
          turn would never finish a part"];

    // The server.
    nowhere_to_listen: "[server]\nlisten = []\n" =>
        ["gateway.toml:2:10: server.listen: names no address"];
    one_address_twice: "[server]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:1\"]\n" =>
        ["gateway.toml:2:26: server.listen[1]: 0.0.0.0:1 is taken by 127.0.0.1:1 already"];
    the_address_of_the_admin_listener: "[server]\nlisten = [\"127.0.0.1:9090\"]\n" =>
        ["gateway.toml:2:10: server.listen: 127.0.0.1:9090 is taken by server.listen already"];
    a_timeout_of_nothing: "[server]\nheader_timeout = \"0s\"\n" =>
        ["gateway.toml:2:18: server.header_timeout: has to be longer than 0s"];
    a_delay_beyond_its_grace: "[server]\ngrace_period = \"500ms\"\n" =>
        ["gateway.toml:2:16: server.grace_period: drain_delay is a part of grace_period and can't be longer"];
    no_connections: "[limits]\nconnections = 0\n" =>
        ["gateway.toml:2:15: limits.connections: has to be at least 1"];
    a_sweep_without_end: "[cleanup]\ninterval = \"0s\"\n" =>
        ["gateway.toml:2:12: cleanup.interval: has to be longer than 0s"];

    // The environment.
    a_variable_with_swapped_letters: "" [("BITS_GATEWAY__SERVER__LSITEN", "x")] =>
        ["environment variable BITS_GATEWAY__SERVER__LSITEN: unknown key, did you mean BITS_GATEWAY__SERVER__LISTEN?"];
    a_variable_of_a_section_with_a_typo: "" [("BITS_GATEWAY__SEVER__LISTEN", "x")] =>
        ["environment variable BITS_GATEWAY__SEVER__LISTEN: unknown key, did you mean BITS_GATEWAY__SERVER__LISTEN?"];
    a_variable_without_its_section: "" [("BITS_GATEWAY__MEMORY", "1GiB")] =>
        ["environment variable BITS_GATEWAY__MEMORY: unknown key, did you mean BITS_GATEWAY__LIMITS__MEMORY?"];
    a_variable_like_no_other: "" [("BITS_GATEWAY__LOG__COLOUR", "red")] =>
        ["environment variable BITS_GATEWAY__LOG__COLOUR: unknown key, known here: BITS_GATEWAY__LOG__FORMAT, \
          BITS_GATEWAY__LOG__LEVEL, BITS_GATEWAY__LOG__PACKETS"];
    a_variable_of_a_route_with_a_typo: "" [("BITS_GATEWAY__ROUTES__0__STOER", "x")] =>
        ["environment variable BITS_GATEWAY__ROUTES__0__STOER: unknown key, did you mean BITS_GATEWAY__ROUTES__0__STORE?"];
    a_variable_that_goes_too_deep: "" [("BITS_GATEWAY__LIMITS__MEMORY__MAX", "1GiB")] =>
        ["environment variable BITS_GATEWAY__LIMITS__MEMORY__MAX: unknown key, did you mean BITS_GATEWAY__LIMITS__MEMORY?"];
    a_variable_of_a_whole_section: "" [("BITS_GATEWAY__SERVER", "x")] =>
        ["environment variable BITS_GATEWAY__SERVER: names a section: name one of its keys"];
    a_variable_of_all_routes: "" [("BITS_GATEWAY__ROUTES", "x")] =>
        ["environment variable BITS_GATEWAY__ROUTES: names a list of sections: name a key of one of them, \
          BITS_GATEWAY__ROUTES__0__…"];
    a_variable_of_no_route: "" [("BITS_GATEWAY__ROUTES__FIRST__STORE", "x")] =>
        ["environment variable BITS_GATEWAY__ROUTES__FIRST__STORE: expected the number of an element after BITS_GATEWAY__ROUTES"];
    a_variable_of_a_route_beyond_the_next: "" [("BITS_GATEWAY__ROUTES__2__STORE", "x")] =>
        ["environment variable BITS_GATEWAY__ROUTES__2__STORE: there is no element 1 before it"];
    a_list_given_whole_and_in_pieces: ""
        [("BITS_GATEWAY__SERVER__LISTEN", "127.0.0.1:1"), ("BITS_GATEWAY__SERVER__LISTEN__0", "127.0.0.1:2")] =>
        ["environment variable BITS_GATEWAY__SERVER__LISTEN__0: the whole list is given by environment variable \
          BITS_GATEWAY__SERVER__LISTEN"];
    a_variable_with_a_wrong_value: "" [("BITS_GATEWAY__LIMITS__MEMORY", "64")] =>
        ["environment variable BITS_GATEWAY__LIMITS__MEMORY: limits.memory: \"64\" has no unit: write \"64B\", \"64KB\", \"64MiB\" …"];
    a_variable_that_contradicts_the_file: "[[routes]]\npath = \"/\"\nstore = \"./x\"\n"
        [("BITS_GATEWAY__ROUTES__0__DURABILITY", "part")] =>
        ["environment variable BITS_GATEWAY__ROUTES__0__DURABILITY: routes[0].durability: \"part\" needs coordination = \
          \"single-replica\" or a host_id: two replicas in turn would never finish a part"];
    a_mode_in_a_variable: "" [("BITS_GATEWAY__ROUTES__0__NOTIFY__MODE", "value")] =>
        ["environment variable BITS_GATEWAY__ROUTES__0__NOTIFY__MODE: routes[0].notify.url: is missing: mode says that there is a server application"];

    // Several.
    every_mistake_is_told_in_the_order_of_the_file:
        "[limits]\nmemory = \"64MB!\"\nconections = 5\n[server]\nthreads = true\n" [("BITS_GATEWAY__X", "1")] =>
        [
            "gateway.toml:2:10: limits.memory: \"64MB!\" is not a size: \"MB!\" is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
            "gateway.toml:3:1: limits.conections: unknown key, did you mean \"connections\"?",
            "gateway.toml:5:11: server.threads: expected a whole number from 0 to 4294967295, found a boolean",
            "environment variable BITS_GATEWAY__X: unknown key, known here: BITS_GATEWAY__SERVER, BITS_GATEWAY__LIMITS, \
             BITS_GATEWAY__LOG, BITS_GATEWAY__CLEANUP, BITS_GATEWAY__ROUTES",
        ];
    columns_count_characters: "[[routes]]\npath = \"/ü\"\nstore = \"./ü\"\nhost = \"ä\"\n# ü\n\"ö\" = \"ü\"\n" =>
        [
            "gateway.toml:6:1: routes[0].ö: unknown key, known here: path, host, host_id, host_id_fallback_timeout, method_override, upstream, \
             upstreams, upstream_health_path, upstream_ca_file, store, \
             staging, reserved_prefix, multipart_lifetime, part_sizes, store_options, upload, overwrite, max_upload_size, max_fragment_size, \
             session_timeout, closed_session_memory, part_size, durability, coordination, checksum, checksum_sidecar, download, \
              notify, events",
        ];
}

#[test]
fn a_host_id_of_more_than_300_characters() {
    let text = format!(
        "[[routes]]\npath = \"/\"\nstore = \"./x\"\nhost_id = \"{}\"\n",
        "a".repeat(301)
    );
    expect(
        &text,
        &[],
        &["gateway.toml:4:11: routes[0].host_id: has 301 characters, at most 300"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let file = Some("no/such/gateway.toml".into());
    let sources = bits_gateway::config::Sources {
        file,
        ..Default::default()
    };
    let problems = bits_gateway::config::load(&sources).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "no/such/gateway.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_that_is_not_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, b"[server]\n# \xc3\xbc\xff").unwrap();
    let sources = bits_gateway::config::Sources {
        file: Some(file),
        ..Default::default()
    };
    let problems = bits_gateway::config::load(&sources).unwrap_err();
    assert_eq!(sentences(&problems), ["gateway.toml:2:4: is not UTF-8 text"]);
}
