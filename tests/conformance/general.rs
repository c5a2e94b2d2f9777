//! What holds for every packet (MC-BUP 2.2.1, 3.2.5.2.3), over sockets: here the spelling on the wire counts.

use bits_gateway::client::raw::Packet;

use crate::gamut::{self, LARGEST_FRAGMENT, gamut};
use crate::support::{Door, House, INVALID_ARGUMENT, PART, SESSION_NOT_FOUND, STRANGER, Told, Upload, ack, content};
use crate::wire::{Line, Server, told};

/// A house with a session that stands at 100, and a connection to it.
async fn under_way() -> (House, Server, Line, Upload) {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    let upload = line.begin("/up/f", &content(3 * PART, 0)).await;
    line.store(&upload, 0..100).await;
    (house, server, line, upload)
}

/// Covers: BUP-001
#[tokio::test]
async fn every_packet_comes_by_bits_post() {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    let ping = Packet::ping("/up/f");
    assert!(ping.to_string().starts_with("BITS_POST /up/f HTTP/1.1\r\n"));
    assert_eq!(line.ask(&ping, b"").await, ack(200));
    let upload = line.put("/up/f", &content(3 * PART, 0)).await;
    assert_eq!(line.cancel(&upload).await, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-002
#[tokio::test]
async fn bits_post_in_other_letters_is_some_other_method() {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    for method in ["bits_post", "Bits_Post", "BITS_post", "BITS_POSTS", "POST"] {
        let packet = Packet::create_session("/up/f").line(&format!("{method} /up/f HTTP/1.1"));
        let answer = line.exchange(&packet, b"").await;
        assert_eq!(
            (answer.status, answer.header("Allow")),
            (405, Some("GET, HEAD, BITS_POST")),
            "{method}"
        );
        let of_bits = |name: &str| name.to_ascii_lowercase().starts_with("bits-");
        assert!(!answer.names().any(of_bits), "{answer:?}");
    }
    assert_eq!(house.room().sessions().await, 0);
    assert_eq!(line.ask(&Packet::ping("/up/f"), b"").await, ack(200));
}

/// Covers: BUP-003
#[tokio::test]
async fn every_answer_is_http_1_1() {
    let server = Server::open(&gamut::house());
    for outcome in gamut(&server.connect().await).await {
        assert_eq!(outcome.answer.minor, 1, "{outcome:?}");
    }
}

/// Covers: BUP-004
#[tokio::test]
async fn every_answer_is_an_ack() {
    let server = Server::open(&gamut::house());
    for outcome in gamut(&server.connect().await).await {
        let types: Vec<_> = outcome
            .answer
            .headers
            .iter()
            .filter(|(name, _)| name == "BITS-Packet-Type")
            .collect();
        assert_eq!(types.len(), 1, "{outcome:?}");
        assert_eq!(types[0].1, "Ack", "{outcome:?}");
        assert_eq!(outcome.answer.all("BITS-Packet-Type").count(), 1, "{outcome:?}");
    }
}

/// Covers: BUP-005
#[tokio::test]
async fn every_ack_has_length_zero_and_not_one_byte_of_body() {
    let server = Server::open(&gamut::house());
    let line = server.connect().await;
    for outcome in gamut(&line).await {
        let lengths: Vec<_> = outcome.answer.all("Content-Length").collect();
        assert_eq!(lengths, ["0"], "{outcome:?}");
        assert!(
            outcome.answer.names().any(|name| name == "Content-Length"),
            "{outcome:?}"
        );
        assert_eq!(outcome.answer.header("Transfer-Encoding"), None, "{outcome:?}");
    }
    // A byte too many would have been the beginning of the next answer, or stand here.
    assert!(line.stays_silent().await);
}

/// Headers that no packet has a use for.
const UNKNOWN: &[(&str, &str)] = &[
    ("X-Anything", "at all"),
    ("X-Empty", ""),
    ("BITS-Something", "1"),
    ("BITS-Error", "0x80070005"),
    ("BITS-Received-Content-Range", "7"),
    ("BITS-Host-Id", "elsewhere.example"),
    ("Accept", "*/*"),
    ("User-Agent", "Microsoft BITS/7.8"),
    ("Content-Type", "multipart/form-data"),
    ("Content-MD5", "none"),
    ("Range", "bytes=5-6"),
    ("If-Match", "\"nothing\""),
    ("If-None-Match", "*"),
    ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("X-Http-Method-Override", "DELETE"),
    ("Accept-Encoding", "gzip"),
];

/// What is told to every packet of an upload, refusals among them, each of which is changed before it is sent. The name of the
/// session, which differs from one upload to the next, is taken out.
async fn conversation(change: impl Fn(Packet) -> Packet) -> (Vec<Told>, Option<Vec<u8>>) {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    let file = content(3 * PART, 0);
    let created = line.ask(&change(Packet::create_session("/up/f")), b"").await;
    let id = created.header("BITS-Session-Id").expect("a session").to_owned();
    let upload = Upload {
        target: "/up/f".to_owned(),
        id: id.clone(),
        file,
    };
    let mut tellings = vec![created];
    let size = upload.size();
    let fragments = [0..100, 200..300, 50..150, 0..10, 150..size, 150..size];
    let packets = fragments
        .into_iter()
        .map(|range| (upload.fragment(range.clone()), upload.bytes(range)))
        .chain([
            (Packet::ping("/up/f"), &b""[..]),
            (upload.fragment(0..0).without("Content-Range"), b""),
            (Packet::close_session("/up/f", &id), b""),
            (Packet::close_session("/up/f", STRANGER), b""),
            (Packet::cancel_session("/up/f", &id), b""),
            (Packet::bits("/up/f", "Whatever"), b""),
        ]);
    for (packet, body) in packets {
        tellings.push(line.ask(&change(packet), body).await);
    }
    for told in &mut tellings {
        if let Some(named) = told.headers.get_mut("BITS-Session-Id") {
            *named = named.replace(&id, "the session");
        }
    }
    (tellings, house.file("f").await)
}

/// Covers: BUP-006
#[tokio::test]
async fn headers_that_nobody_knows_change_nothing() {
    let plain = conversation(|packet| packet).await;
    assert_eq!(plain.1, Some(content(3 * PART, 0)));
    let all = conversation(|packet| {
        UNKNOWN
            .iter()
            .fold(packet, |packet, (name, value)| packet.and(name, value))
    })
    .await;
    assert_eq!(all, plain);
}

/// The packet with its header names rewritten letter by letter.
fn renamed(packet: Packet, letter: impl Fn(usize, char) -> char) -> Packet {
    let text = packet.to_string();
    let headers = text.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    headers.fold(packet.clone(), |packet, (name, value)| {
        let name: String = name.chars().enumerate().map(|(at, own)| letter(at, own)).collect();
        packet.with(&name, value)
    })
}

/// Covers: BUP-007
#[tokio::test]
async fn header_names_work_in_any_letter_case() {
    let plain = conversation(|packet| packet).await;
    let lower = conversation(|packet| renamed(packet, |_, letter| letter.to_ascii_lowercase())).await;
    let upper = conversation(|packet| renamed(packet, |_, letter| letter.to_ascii_uppercase())).await;
    let mixed = |at: usize, letter: char| match at % 2 {
        0 => letter.to_ascii_lowercase(),
        _ => letter.to_ascii_uppercase(),
    };
    let mixed = conversation(|packet| renamed(packet, mixed)).await;
    // The answers are spelled as ever.
    assert_eq!((&lower, &upper, &mixed), (&plain, &plain, &plain));
    let sample = renamed(Packet::ping("/up/f"), |_, letter| letter.to_ascii_lowercase()).to_string();
    assert!(sample.contains("\r\nbits-packet-type: Ping\r\n"), "{sample}");
}

/// Covers: BUP-008
#[tokio::test]
async fn packet_types_work_in_any_letter_case() {
    let typed = |change: fn(&str) -> String| {
        move |packet: Packet| {
            let text = packet.to_string();
            let kind = text
                .split("BITS-Packet-Type: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            packet.with("BITS-Packet-Type", &change(kind.expect("a type")))
        }
    };
    let plain = conversation(|packet| packet).await;
    assert_eq!(conversation(typed(str::to_ascii_uppercase)).await, plain);
    assert_eq!(conversation(typed(str::to_ascii_lowercase)).await, plain);
    let inverted = |kind: &str| {
        let invert = |letter: char| match letter.is_ascii_uppercase() {
            true => letter.to_ascii_lowercase(),
            false => letter.to_ascii_uppercase(),
        };
        kind.chars().map(invert).collect()
    };
    assert_eq!(conversation(typed(inverted)).await, plain);
}

/// Covers: BUP-009
#[tokio::test]
async fn a_type_that_is_none_of_the_five_is_refused() {
    let (_house, _server, line, upload) = under_way().await;
    for kind in [
        "Whatever",
        "Ack",
        "Other",
        "CreateSession",
        "Create-Session2",
        "Fragment, Ping",
        "Ping Ping",
        "0",
    ] {
        let packet = Packet::bits("/up/f", kind).with("BITS-Session-Id", &upload.id);
        assert_eq!(line.ask(&packet, b"").await, ack(400).error(INVALID_ARGUMENT), "{kind}");
    }
    assert_eq!(line.next_of(&upload).await, Some(100));
}

/// Covers: BUP-010
#[tokio::test]
async fn a_packet_without_a_type_is_refused() {
    let (_house, _server, line, upload) = under_way().await;
    let nameless = upload.fragment(100..200).without("BITS-Packet-Type");
    let body = upload.bytes(100..200);
    assert_eq!(line.ask(&nameless, body).await, ack(400).error(INVALID_ARGUMENT));
    for empty in ["", " "] {
        let packet = nameless.clone().with("BITS-Packet-Type", empty);
        assert_eq!(line.ask(&packet, body).await, ack(400).error(INVALID_ARGUMENT));
    }
    // Two are none: which of them counts would be a matter of taste.
    let twice = Packet::ping("/up/f").and("BITS-Packet-Type", "Ping");
    assert_eq!(line.ask(&twice, b"").await, ack(400).error(INVALID_ARGUMENT));
    assert_eq!(line.next_of(&upload).await, Some(100));
}

/// Covers: BUP-011
#[tokio::test]
async fn a_header_value_over_4096_bytes_is_refused_unless_it_carries_credentials() {
    let (_house, _server, line, upload) = under_way().await;
    let filled = |packet: Packet, name: &str, bytes: usize| packet.with(name, &"a".repeat(bytes));
    for name in ["X-Anything", "Content-Name", "User-Agent"] {
        assert_eq!(
            line.ask(&filled(Packet::ping("/up/f"), name, 4096), b"").await,
            ack(200),
            "{name}"
        );
        let told = line.ask(&filled(Packet::ping("/up/f"), name, 4097), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT), "{name}");
    }
    let create = Packet::create_session("/up/other");
    let told = line.ask(&filled(create, "BITS-Supported-Protocols", 4097), b"").await;
    assert_eq!(told, ack(400).error(INVALID_ARGUMENT));
    let fragment = filled(upload.fragment(100..200), "X-Anything", 4097);
    let told = line.ask(&fragment, upload.bytes(100..200)).await;
    assert_eq!(told, ack(400).error(INVALID_ARGUMENT).of(&upload.id).next(100));
    for name in ["Authorization", "Cookie"] {
        assert_eq!(
            line.ask(&filled(Packet::ping("/up/f"), name, 65_536), b"").await,
            ack(200),
            "{name}"
        );
        let told = line.ask(&filled(Packet::ping("/up/f"), name, 65_537), b"").await;
        assert_eq!(told, ack(400).error(INVALID_ARGUMENT), "{name}");
    }
    assert_eq!(line.next_of(&upload).await, Some(100));
}

/// Covers: BUP-012
#[tokio::test]
async fn an_unknown_header_of_4000_bytes_does_no_harm() {
    let long = "a".repeat(4000);
    let plain = conversation(|packet| packet).await;
    assert_eq!(conversation(|packet| packet.with("X-Unknown", &long)).await, plain);
}

/// Covers: BUP-013
#[tokio::test]
async fn a_fragment_of_untold_length_is_refused_and_other_packets_without_one_count_as_empty() {
    let (house, _server, line, upload) = under_way().await;
    for range in [100..200, 0..100, 200..300] {
        let told = line.ask(&upload.fragment(range).without("Content-Length"), b"").await;
        assert_eq!(told, ack(411).error(INVALID_ARGUMENT).of(&upload.id).next(100));
    }
    assert_eq!(house.restarted().next_of(&upload).await, Some(100));
    let ping = Packet::ping("/up/f").without("Content-Length");
    assert_eq!(line.ask(&ping, b"").await, ack(200));
    let create = Packet::create_session("/up/g").without("Content-Length");
    assert_eq!(line.ask(&create, b"").await.status, 200);
    line.store(&upload, 100..upload.size()).await;
    for packet in [
        Packet::close_session("/up/f", &upload.id),
        Packet::cancel_session("/up/f", &upload.id),
    ] {
        let told = line.ask(&packet.without("Content-Length"), b"").await;
        assert_eq!(told, ack(200).of(&upload.id));
    }
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-014
#[tokio::test]
async fn a_body_on_a_packet_that_has_none_is_refused() {
    let (house, server, line, upload) = under_way().await;
    let id = upload.id.as_str();
    let packets = [
        (Packet::ping("/up/f"), ack(400).error(INVALID_ARGUMENT)),
        (Packet::create_session("/up/g"), ack(400).error(INVALID_ARGUMENT)),
        (
            Packet::close_session("/up/f", id),
            ack(400).error(INVALID_ARGUMENT).of(id),
        ),
        (
            Packet::cancel_session("/up/f", id),
            ack(400).error(INVALID_ARGUMENT).of(id),
        ),
    ];
    for (packet, expected) in packets {
        for length in [1, 5, 100_000] {
            let packet = packet.clone().with("Content-Length", &length.to_string());
            // The connection goes on after the body, which is read and thrown away.
            assert_eq!(line.ask(&packet, &content(length, 0)).await, expected, "{packet}");
        }
        let chunked = packet.without("Content-Length").with("Transfer-Encoding", "chunked");
        let answer = server
            .connect()
            .await
            .exchange(&chunked, b"5\r\nbytes\r\n0\r\n\r\n")
            .await;
        assert_eq!((answer.status, answer.keeps_connection()), (400, false));
        assert_eq!(told(&answer).header("BITS-Error"), Some(INVALID_ARGUMENT));
    }
    assert_eq!(
        (house.room().sessions().await, line.next_of(&upload).await),
        (1, Some(100))
    );
}

/// Covers: BUP-015
#[tokio::test]
async fn a_success_carries_no_error_header() {
    let server = Server::open(&gamut::house());
    let successes: Vec<_> = gamut(&server.connect().await)
        .await
        .into_iter()
        .filter(gamut::Outcome::is_success)
        .collect();
    assert!(successes.len() >= 10);
    for outcome in successes {
        let of_error = |name: &str| name.to_ascii_lowercase().starts_with("bits-error");
        assert!(!outcome.answer.names().any(of_error), "{outcome:?}");
    }
}

/// Covers: BUP-016
#[tokio::test]
async fn a_context_never_comes_without_an_error_code() {
    let server = Server::open(&gamut::house());
    for outcome in gamut(&server.connect().await).await {
        let has = |name: &str| outcome.answer.header(name).is_some();
        assert_eq!(has("BITS-Error-Context"), has("BITS-Error"), "{outcome:?}");
        if let Some(context) = outcome.answer.header("BITS-Error-Context") {
            assert_eq!(context, "0x5", "{outcome:?}");
        }
    }
}

/// Covers: BUP-017
#[tokio::test]
async fn the_two_error_headers_come_together_and_are_equal() {
    let server = Server::open(&gamut::house());
    for outcome in gamut(&server.connect().await).await {
        let told = told(&outcome.answer);
        let (error, code) = (told.header("BITS-Error"), told.header("BITS-Error-Code"));
        assert_eq!(error, code, "{outcome:?}");
        assert_eq!(
            error.is_some(),
            !outcome.is_success() && !outcome.is_bare(),
            "{outcome:?}"
        );
    }
}

/// Covers: BUP-018
#[tokio::test]
async fn an_error_code_is_0x_and_eight_upper_case_hex_digits() {
    let server = Server::open(&gamut::house());
    let mut codes = 0;
    for outcome in gamut(&server.connect().await).await {
        for name in ["BITS-Error", "BITS-Error-Code"] {
            let Some(code) = outcome.answer.header(name) else {
                continue;
            };
            let digits = code.strip_prefix("0x").unwrap_or_default();
            let upper_hex = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
            assert!(digits.len() == 8 && digits.bytes().all(upper_hex), "{outcome:?}");
            codes += 1;
        }
    }
    assert!(codes >= 40, "{codes}");
}

/// Covers: BUP-019
#[tokio::test]
async fn the_connection_stays_open_after_any_ack() {
    let server = Server::open(&gamut::house());
    let line = server.connect().await;
    let mine = line.raw().await.local_address().unwrap();
    // All of them come over the one connection, which no client of ours opens anew.
    for outcome in gamut(&line).await {
        assert!(outcome.answer.keeps_connection(), "{outcome:?}");
    }
    assert_eq!(line.ask(&Packet::ping("/up/f"), b"").await, ack(200));
    assert_eq!(line.raw().await.local_address().unwrap(), mine);
}

/// Covers: BUP-019
#[tokio::test]
async fn the_connection_ends_where_a_body_is_left_unread_the_framing_is_in_doubt_or_the_gateway_leaves() {
    let server = Server::open(&gamut::house());
    let line = server.connect().await;
    let upload = line.begin("/up/f", b"").await;
    let length = 17 << 20;
    assert!(length > LARGEST_FRAGMENT);
    let huge = Packet::fragment("/up/f", &upload.id, 0..length, length);
    let answer = line.exchange(&huge, b"").await;
    assert!(!answer.keeps_connection(), "{answer:?}");
    assert_eq!(told(&answer), ack(413).of(&upload.id).next(0));

    for doubtful in [
        Packet::ping("/up/f").and("Transfer-Encoding", "chunked"),
        Packet::ping("/up/f").and("Content-Length", "0"),
    ] {
        let line = server.connect().await;
        let answer = line.exchange(&doubtful, b"").await;
        assert!(!answer.keeps_connection(), "{answer:?}");
        assert_eq!(told(&answer), ack(400).error(INVALID_ARGUMENT), "{doubtful}");
        assert!(line.raw().await.closed().await.is_ok());
    }

    let line = server.connect().await;
    assert_eq!(line.ask(&Packet::ping("/up/f"), b"").await, ack(200));
    server.gateway.leave();
    let answer = line.exchange(Packet::ping("/up/f"), b"").await;
    assert!(!answer.keeps_connection(), "{answer:?}");
    assert_eq!(told(&answer), ack(200));
    assert!(line.raw().await.closed().await.is_ok());
}

/// Covers: BUP-020
#[tokio::test]
async fn packets_of_several_sessions_on_one_connection_each_get_the_ack_of_their_own() {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    let mut uploads = Vec::new();
    for number in 0..4 {
        let file = content(3 * PART + u64::from(number), number);
        uploads.push(line.begin(&format!("/up/f{number}"), &file).await);
    }
    for step in 0..3 {
        for upload in &uploads {
            line.store(upload, step * PART..(step + 1) * PART).await;
        }
        let told = line.ask(&Packet::close_session("/up/f0", STRANGER), b"").await;
        assert_eq!(told, ack(500).error(SESSION_NOT_FOUND).of(STRANGER));
    }
    // The rest without waiting for one Ack before the next packet.
    let mut requests = Vec::new();
    for upload in &uploads {
        let rest = 3 * PART..upload.size();
        if !rest.is_empty() {
            requests.extend_from_slice(upload.fragment(rest.clone()).as_ref());
            requests.extend_from_slice(upload.bytes(rest));
        }
        requests.extend_from_slice(Packet::close_session(&upload.target, &upload.id).as_ref());
    }
    let mut connection = line.raw().await;
    connection.send(requests).await.unwrap();
    for upload in &uploads {
        if upload.size() > 3 * PART {
            let answer = connection.answer().await.unwrap();
            assert_eq!(told(&answer), ack(200).of(&upload.id).next(upload.size()));
        }
        let answer = connection.answer().await.unwrap();
        assert_eq!(told(&answer), ack(200).of(&upload.id));
    }
    for (number, upload) in uploads.into_iter().enumerate() {
        assert_eq!(house.file(&format!("f{number}")).await, Some(upload.file));
    }
}

/// Covers: BUP-021
#[tokio::test]
async fn the_packets_of_one_session_may_come_over_different_connections() {
    let house = House::new();
    let server = Server::open(&house);
    let size = 5 * PART + 10;
    let upload = server.connect().await.begin("/up/f", &content(size, 0)).await;
    let mut at = 0;
    while at < size {
        let end = size.min(at + 700);
        server.connect().await.store(&upload, at..end).await;
        at = end;
    }
    let told = server.connect().await.close(&upload).await;
    assert_eq!(told, ack(200).of(&upload.id));
    assert_eq!(house.file("f").await, Some(upload.file));
}

/// Covers: BUP-022
#[tokio::test]
async fn a_packet_is_never_redirected() {
    let server = Server::open(&gamut::house());
    let line = server.connect().await;
    for outcome in gamut(&line).await {
        assert_eq!(outcome.answer.header("Location"), None, "{outcome:?}");
    }
    // Where web servers like to send clients elsewhere: a slash too few or too many, another host, plain HTTP.
    for target in [
        "/up",
        "/",
        "/up/folder",
        "/up/folder/",
        "/up//f",
        "/UP/f",
        "http://www.gateway.test:80/up/f",
        "*",
    ] {
        for packet in [Packet::ping(target), Packet::create_session(target)] {
            let packet = packet
                .with("Host", "www.gateway.test:80")
                .with("Upgrade-Insecure-Requests", "1");
            let told = told(&line.exchange(&packet, b"").await);
            assert!(!(300..400).contains(&told.status), "{packet}: {told:?}");
            assert_eq!(
                (told.header("Location"), told.header("BITS-Packet-Type")),
                (None, Some("Ack")),
                "{packet}"
            );
        }
    }
}
