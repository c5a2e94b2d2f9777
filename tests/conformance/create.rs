//! Create-Session (MC-BUP 2.2.2, 2.2.3, 3.2.5.2.4).

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bits_gateway::bits::HostId;
use bits_gateway::client::raw::Packet;

use crate::support::{
    ACCESS_DENIED, Door, House, INVALID_ARGUMENT, PART, PROTOCOL, Room, SIZES, Told, ack, content, directory,
};

/// A protocol that nobody speaks.
const OTHER: &str = "{00000000-0000-0000-0000-000000000001}";

fn offering(protocols: &str) -> Packet {
    Packet::create_session("/up/f").with("BITS-Supported-Protocols", protocols)
}

/// Whether `told` is the Ack of a Create-Session that succeeded, and nothing more.
fn is_created(told: &Told) -> bool {
    let Some(id) = told.header("BITS-Session-Id") else {
        return false;
    };
    *told == created(id)
}

fn created(id: &str) -> Told {
    ack(200)
        .of(id)
        .with("BITS-Protocol", PROTOCOL)
        .with("Accept-Encoding", "identity")
}

/// Covers: BUP-030
#[tokio::test]
async fn a_valid_request_gets_200_and_the_protocol() {
    let house = House::new();
    let told = house.ask(&Packet::create_session("/up/f"), b"").await;
    assert_eq!(told.header("BITS-Protocol"), Some(PROTOCOL));
    assert!(is_created(&told), "{told:?}");
}

/// Covers: BUP-031
#[tokio::test]
async fn the_session_is_named_by_a_guid_in_braces() {
    let told = House::new().ask(&Packet::create_session("/up/f"), b"").await;
    let id = told.header("BITS-Session-Id").unwrap();
    let digits: Vec<&str> = id
        .strip_prefix('{')
        .unwrap()
        .strip_suffix('}')
        .unwrap()
        .split('-')
        .collect();
    assert_eq!(
        digits.iter().map(|run| run.len()).collect::<Vec<_>>(),
        [8, 4, 4, 4, 12],
        "{id}"
    );
    let upper_hex = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
    assert!(digits.concat().bytes().all(upper_hex), "{id}");
}

/// Covers: BUP-032
#[tokio::test]
async fn two_requests_for_one_url_get_two_sessions() {
    let house = House::new();
    let (one, other) = (
        house.begin("/up/f", b"one").await,
        house.begin("/up/f", b"another").await,
    );
    assert_ne!(one.id, other.id);
    house.store(&one, 0..2).await;
    assert_eq!(house.next_of(&other).await, Some(0));
    assert_eq!(house.next_of(&one).await, Some(2));
}

/// Covers: BUP-033
#[tokio::test]
async fn a_refusal_carries_neither_protocol_nor_session() {
    let asleep = Room::new().at("/asleep/");
    asleep.open.store(false, Ordering::Release);
    let house = House::of([Room::new(), Room::new().at("/off/").disabled(), asleep]);
    house.put("/up/there", b"there").await;
    let refused = [
        (offering(OTHER), ack(400).error(INVALID_ARGUMENT)),
        (Packet::create_session("/up/d/"), ack(400).error(INVALID_ARGUMENT)),
        (Packet::create_session("/up/there"), ack(403).error(ACCESS_DENIED)),
        (Packet::create_session("/off/f"), ack(501).error(ACCESS_DENIED)),
        (Packet::create_session("/asleep/f"), ack(503).with("Retry-After", "5")),
    ];
    for (packet, expected) in refused {
        assert_eq!(house.ask(&packet, b"").await, expected, "{packet}");
    }
}

/// Covers: BUP-034
#[tokio::test]
async fn ours_is_found_among_unknown_protocols_between_spaces() {
    let house = House::new();
    for list in [
        format!("{PROTOCOL} {OTHER}"),
        format!("{OTHER} {PROTOCOL}"),
        format!("{OTHER} {PROTOCOL} {OTHER}"),
        format!("ftp {PROTOCOL} 1"),
    ] {
        assert!(is_created(&house.ask(&offering(&list), b"").await), "{list}");
    }
}

/// Covers: BUP-035
#[tokio::test]
async fn ours_is_found_among_unknown_protocols_between_commas() {
    let house = House::new();
    for list in [
        format!("{PROTOCOL},{OTHER}"),
        format!("{OTHER},{PROTOCOL}"),
        format!("{OTHER}, {PROTOCOL} , {OTHER}"),
    ] {
        assert!(is_created(&house.ask(&offering(&list), b"").await), "{list}");
    }
}

/// Covers: BUP-036
#[tokio::test]
async fn ours_works_in_upper_case_and_between_runs_of_spaces_and_commas() {
    let house = House::new();
    let upper = PROTOCOL.to_uppercase();
    for list in [
        upper.clone(),
        format!("{OTHER},  {upper}"),
        format!("{OTHER} ,, ,{PROTOCOL},"),
        format!(" {PROTOCOL} "),
        format!(",{PROTOCOL}"),
    ] {
        let told = house.ask(&offering(&list), b"").await;
        assert!(is_created(&told), "{list}: {told:?}");
    }
}

/// Covers: BUP-037
#[tokio::test]
async fn a_list_without_our_protocol_is_refused() {
    let house = House::new();
    let nearly = PROTOCOL.replace("31}", "32}");
    let cut = &PROTOCOL[..PROTOCOL.len() - 2];
    for list in [OTHER, &nearly, cut, "", " , ", "*"] {
        let told = house.ask(&offering(list), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT), "{list}");
    }
    assert_eq!(house.room().sessions().await, 0);
}

/// Covers: BUP-038
#[tokio::test]
async fn a_request_without_a_list_is_refused() {
    let house = House::new();
    let packet = Packet::create_session("/up/f").without("BITS-Supported-Protocols");
    assert_eq!(house.ask(&packet, b"").await, ack(400).error(INVALID_ARGUMENT));
    assert_eq!(house.room().sessions().await, 0);
}

/// Covers: BUP-039
#[tokio::test]
async fn ours_is_found_as_the_last_of_a_hundred_and_not_beyond() {
    let house = House::new();
    for separator in [" ", ","] {
        // One hundred GUIDs in braces come to 3,899 bytes: below the limit for a header.
        let list = [vec![OTHER; 99], vec![PROTOCOL]].concat().join(separator);
        assert!(is_created(&house.ask(&offering(&list), b"").await));
        let list = [vec![OTHER; 100], vec![PROTOCOL]].concat().join(separator);
        let told = house.ask(&offering(&list), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT));
    }
}

/// Covers: BUP-040
#[tokio::test]
async fn a_success_says_that_only_identity_is_taken() {
    let told = House::new().ask(&Packet::create_session("/up/f"), b"").await;
    assert_eq!(told.header("Accept-Encoding"), Some("identity"));
}

/// Covers: BUP-041
#[tokio::test]
async fn the_content_name_never_chooses_the_destination() {
    for name in [None, Some("f"), Some("other"), Some("../../etc/passwd"), Some("")] {
        let house = House::new();
        let packet = Packet::create_session("/up/f");
        let packet = match name {
            Some(name) => packet.with("Content-Name", name),
            None => packet,
        };
        let told = house.ask(&packet, b"").await;
        assert!(is_created(&told), "{name:?}: {told:?}");
        let mut upload = house.begin("/up/f", b"bytes").await;
        upload.id = told.header("BITS-Session-Id").unwrap().to_owned();
        let fragment = upload.fragment(0..5);
        let fragment = name.map_or(fragment.clone(), |name| fragment.with("Content-Name", name));
        assert_eq!(house.ask(&fragment, b"bytes").await, ack(200).of(&upload.id).next(5));
        assert_eq!(house.file("f").await.as_deref(), Some(&b"bytes"[..]), "{name:?}");
        assert_eq!(house.file("other").await, None);
    }
}

/// Covers: BUP-042
#[tokio::test]
async fn a_destination_that_is_a_directory_is_refused() {
    let house = House::new();
    for target in ["/up/", "/up/folder/", "/up/folder/?query"] {
        let told = house.ask(&Packet::create_session(target), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT), "{target}");
    }
    let root = tempfile::tempdir().unwrap();
    let house = House::of([Room::over(directory(root.path()))]);
    house.put("/up/folder/file", b"there").await;
    // The second would have to be a directory for the third to be a file in it.
    for target in ["/up/folder", "/up/folder/", "/up/folder/file/below"] {
        let told = house.ask(&Packet::create_session(target), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT), "{target}");
    }
    assert_eq!(house.file("folder/file").await.as_deref(), Some(&b"there"[..]));
}

/// Covers: BUP-043
#[tokio::test]
async fn where_overwriting_is_off_an_existing_file_is_refused_and_stays() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        for size in SIZES {
            let house = House::of([room.clone()]);
            let (key, target) = (format!("f{size}"), format!("/up/f{size}"));
            let rival = house.begin(&target, &content(size, 7)).await;
            if size > 1 {
                house.store(&rival, 0..size - 1).await;
            }
            let first = house.put(&target, b"the first one").await;
            // It can be seen at Create-Session …
            let told = house.ask(&Packet::create_session(&target), b"").await;
            assert_eq!(told, ack(403).error(ACCESS_DENIED));
            // … and who began before it was there learns it with the last fragment, however often it is sent.
            let last = size.saturating_sub(1)..size;
            for _ in 0..2 {
                let told = house.send(&rival, last.clone()).await;
                let refused = ack(403).error(ACCESS_DENIED).of(&rival.id).next(last.start);
                assert_eq!(told, refused, "{size}");
            }
            assert_eq!(house.close(&rival).await, ack(200).of(&rival.id));
            assert_eq!(house.file(&key).await, Some(first.file));
        }
    }
}

/// Covers: BUP-044
#[tokio::test]
async fn where_overwriting_is_on_an_existing_file_is_replaced_with_the_last_byte_and_not_before() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        for size in SIZES {
            let house = House::of([room.clone().overwriting()]);
            let (key, target) = (format!("f{size}"), format!("/up/f{size}"));
            let old = house.put(&target, b"the old one").await;
            let new = house.begin(&target, &content(size, 3)).await;
            let half = size / 2;
            for range in [0..half, half..size.max(1) - 1] {
                if !range.is_empty() {
                    house.store(&new, range).await;
                }
                assert_eq!(house.file(&key).await.as_ref(), Some(&old.file), "{size}");
            }
            house.store(&new, size.max(1) - 1..size).await;
            assert_eq!(house.file(&key).await.as_ref(), Some(&new.file), "{size}");
            assert_eq!(house.close(&new).await, ack(200).of(&new.id));
            assert_eq!(house.file(&key).await.as_ref(), Some(&new.file), "{size}");
        }
    }
}

/// Covers: BUP-046
#[tokio::test]
async fn a_route_without_uploads_refuses_every_packet() {
    let house = House::of([Room::new().disabled()]);
    let id = crate::support::STRANGER;
    let refused = || ack(501).error(ACCESS_DENIED);
    for (packet, expected) in [
        (Packet::ping("/up/f"), refused()),
        (Packet::create_session("/up/f"), refused()),
        (Packet::fragment("/up/f", id, 0..0, 0), refused().of(id)),
        (Packet::close_session("/up/f", id), refused().of(id)),
        (Packet::cancel_session("/up/f", id), refused().of(id)),
        (Packet::bits("/up/f", "Whatever"), refused()),
    ] {
        assert_eq!(house.ask(&packet, b"").await, expected, "{packet}");
    }
    assert_eq!(house.room().sessions().await, 0);
}

/// Covers: BUP-047
#[tokio::test]
async fn a_missing_parent_folder_comes_into_being_with_the_file() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        let house = House::of([room]);
        for size in [1, 3 * PART] {
            let target = format!("/up/{size}/deeper/and%20deeper/f");
            let upload = house.put(&target, &content(size, 1)).await;
            let key = format!("{size}/deeper/and deeper/f");
            assert_eq!(house.file(&key).await, Some(upload.file));
        }
    }
    assert!(root.path().join("1/deeper/and deeper/f").is_file());
}

/// Covers: BUP-048
#[tokio::test]
async fn without_a_host_id_there_is_no_host_id_header() {
    let told = House::new().ask(&Packet::create_session("/up/f"), b"").await;
    assert!(is_created(&told), "{told:?}");
    assert!(!told.headers.keys().any(|name| name.contains("Host-Id")), "{told:?}");
}

/// Covers: BUP-049
#[tokio::test]
async fn a_configured_host_id_comes_with_every_successful_create_session() {
    let host = "node1.example.com";
    let mut room = Room::new();
    room.host_id = Some(HostId {
        host: host.to_owned(),
        fallback_timeout: Some(Duration::from_secs(86_400)),
    });
    let house = House::of([room]);
    for _ in 0..2 {
        let told = house.ask(&Packet::create_session("/up/f"), b"").await;
        let id = told.header("BITS-Session-Id").unwrap();
        let expected = created(id)
            .with("BITS-Host-Id", host)
            .with("BITS-Host-Id-Fallback-Timeout", "86400");
        assert_eq!(told, expected);
    }
    // Nowhere else: neither on a refusal nor on any other Ack.
    assert_eq!(house.ask(&offering(OTHER), b"").await, ack(400).error(INVALID_ARGUMENT));
    house.put("/up/f", b"bytes").await;
}

/// Covers: BUP-050
#[tokio::test]
async fn a_session_alone_shows_nothing_at_the_destination() {
    let root = tempfile::tempdir().unwrap();
    for room in [Room::new(), Room::over(directory(root.path()))] {
        let house = House::of([room]);
        house.begin("/up/folder/f", b"bytes").await;
        assert_eq!(house.file("folder/f").await, None);
    }
    assert_eq!(shown(root.path()), BTreeSet::new());
}

/// What a consumer of a local directory sees in it: everything but what is the gateway's own.
fn shown(root: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| name != ".bits-gateway").collect()
}

/// Raw paths that lead somewhere else, in the gateway's own store, or nowhere, for one reader of URLs or another.
const HOSTILE: &[&str] = &[
    "../f",
    "../../f",
    "a/../../f",
    "a/..",
    "..",
    ".",
    "./f",
    "a/./f",
    "%2e%2e/f",
    "%2E%2E/f",
    ".%2e/f",
    "a/%2e%2e/%2e%2e/f",
    "..%2ff",
    "..%2Ff",
    "a%2f..%2f..%2ff",
    "..%5cf",
    "..\\f",
    "a\\..\\..\\f",
    "%252e%252e/f",
    "%252e%252e%252ff",
    "%c0%ae%c0%ae/f",
    "%e0%80%ae%e0%80%ae/f",
    "%ef%bc%8e%ef%bc%8e/f",
    "%e2%80%a5/f",
    "%ff",
    "%",
    "%zz",
    "//f",
    "/f",
    "a//f",
    "%2ff",
    "C:/f",
    "C%3a/f",
    "f::$DATA",
    "f%00.txt",
    "f%0d%0aX:%20y",
    "f.",
    "f%20",
    "con",
    "NUL.txt",
    "a/com1.log",
    ".bits-gateway/f",
    ".bits-gateway",
    ".BITS-Gateway/f",
    "%2ebits-gateway/f",
    ".bits-gateway%2ff",
    "a/.bits-gateway/f",
    ".bits%2dgateway/sessions/f",
];

/// Covers: BUP-051
#[tokio::test]
async fn no_spelling_of_a_url_leads_out_of_the_route_or_into_the_gateways_own() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir(&root).unwrap();
    let house = House::of([Room::over(directory(&root))]);
    let running = house.begin("/up/f", b"bytes").await;
    let own = fs::read_dir(outer.path()).unwrap().count();
    for below in HOSTILE {
        let target = format!("/up/{below}");
        let create = Packet::create_session(&target);
        assert_eq!(
            house.ask(&create, b"").await,
            ack(400).error(INVALID_ARGUMENT),
            "{below}"
        );
        // Nor does a session that was begun for another URL.
        let fragment = Packet::fragment(&target, &running.id, 0..5, 5);
        let refused = ack(400).error(INVALID_ARGUMENT).of(&running.id);
        assert_eq!(house.ask(&fragment, b"bytes").await, refused, "{below}");
    }
    assert_eq!(house.room().sessions().await, 1);
    assert_eq!(shown(&root), BTreeSet::new());
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), own);
}
