//! Several requests on one connection.

use crate::support::{Client, House, PATIENCE, content, create, fragment, of_protocol, packet, ping, until};

#[test]
fn pipelined_packets_are_answered_in_order() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let close = packet(
        "Close-Session",
        "/up/a",
        &[("BITS-Session-Id", &session), ("Content-Length", "0")],
    );
    let whole = fragment("/up/a", &session, 0, 5, 5, &[]);
    client.send(format!(
        "{}{whole}hello{close}GET /up/a HTTP/1.1\r\nHost: h\r\n\r\n{}",
        ping(),
        ping()
    ));
    let answers: Vec<_> = (0..5).map(|_| client.answer()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 405, 200], "{answers:?}");
    assert_eq!(answers[1].header("BITS-Received-Content-Range"), Some("5"));
    assert_eq!(answers[2].header("BITS-Session-Id"), Some(session.as_str()));
    assert!(answers.iter().all(|answer| answer.keeps_alive()), "{answers:?}");
}

#[test]
fn a_packet_may_come_in_any_pieces() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let whole = fragment("/up/a", &session, 0, 5, 5, &[]) + "hello" + &ping();
    for byte in whole.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn errors_keep_the_connection() {
    let house = House::new();
    let mut client = house.connect();
    let unknown = "{00000000-0000-0000-0000-000000000001}";
    let cases = [
        (packet("Nonsense", "/up/a", &[("Content-Length", "0")]), 400),
        (packet("Ping", "/nowhere", &[("Content-Length", "0")]), 404),
        (
            packet(
                "Close-Session",
                "/up/a",
                &[("Content-Length", "0"), ("BITS-Session-Id", unknown)],
            ),
            500,
        ),
        (packet("Close-Session", "/up/a", &[("Content-Length", "0")]), 400),
        (fragment("/up/a", unknown, 0, 5, 5, &[]) + "hello", 500),
        (packet("Create-Session", "/up/", &[("Content-Length", "0")]), 400),
        (
            packet(
                "Fragment",
                "/up/a",
                &[("BITS-Session-Id", unknown), ("Content-Range", "bytes 0-4/5")],
            ),
            411,
        ),
        ("GET /up/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        (
            "POST /up/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            405,
        ),
        ("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        (packet("Ping", "/up/a", &[("Content-Length", "5")]) + "hello", 400),
    ];
    for (request, status) in cases {
        let answer = client.send(&request).answer();
        assert_eq!(
            (answer.status, answer.keeps_alive()),
            (status, true),
            "{request}\n{answer:?}"
        );
        assert_eq!(answer.header("Content-Length"), Some("0"), "{request}");
    }
    assert_eq!(client.send(ping()).answer().status, 200);
}

#[test]
fn a_client_that_wants_to_close_is_let_go() {
    let house = House::new();
    let mut client = house.connect();
    let answer = client
        .send(packet("Ping", "/up/a", &[("Connection", "close")]))
        .answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert!(client.is_over());
}

#[test]
fn unread_bodies_are_drained_as_far_as_16_mib() {
    let house = House::new();
    let mut client = house.connect();
    let unknown = "{00000000-0000-0000-0000-000000000001}";
    for length in [1024, 200 * 1024, 16 << 20] {
        let head = fragment("/up/a", unknown, 0, length, length, &[]);
        let answer = client.send(head).send(content(length as usize)).answer();
        assert_eq!((answer.status, answer.keeps_alive()), (500, true), "{length}");
        assert_eq!(client.send(ping()).answer().status, 200, "{length}");
    }
    let length = 20 << 20;
    client.send(fragment("/up/a", unknown, 0, length, length, &[]));
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Connection")), (500, Some("close")));
    assert_eq!(of_protocol(&answer)["BITS-Error"], "0x8020001F");
}

#[test]
fn the_refusal_of_a_large_body_can_be_read_by_a_client_that_is_still_sending() {
    let house = House::with(|limits| limits.linger = PATIENCE);
    let mut client = house.connect();
    let unknown = "{00000000-0000-0000-0000-000000000001}";
    let length = 20 << 20;
    client.send(fragment("/up/a", unknown, 0, length, length, &[]));
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Connection")), (500, Some("close")));
    assert!(client.is_over());
    // A socket that is closed while bytes come in is reset, and with it goes the answer that a client has not read yet.
    assert!(
        client.push(&content(15 << 20)),
        "what is still on its way is taken for a while"
    );
}

#[test]
fn a_body_is_asked_for_only_when_it_is_wanted() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let expecting = [("Expect", "100-Continue")];
    client.send(fragment("/up/a", &session, 0, 5, 5, &expecting));
    assert_eq!(client.answer().status, 100);
    let answer = client.send("hello").answer();
    assert_eq!((answer.status, answer.keeps_alive()), (200, true), "{answer:?}");
    assert_eq!(client.send(ping()).answer().status, 200);

    let unknown = "{00000000-0000-0000-0000-000000000001}";
    client.send(fragment("/up/a", unknown, 0, 5, 5, &expecting));
    let answer = client.answer();
    // Whether its body follows is the client's choice: what comes next on this connection could be either.
    assert_eq!((answer.status, answer.header("Connection")), (500, Some("close")));
    assert!(client.is_over());
}

#[test]
fn http_1_0_is_never_told_to_continue() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let head = fragment("/up/a", &session, 0, 5, 5, &[("Expect", "100-continue")]).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(client.send(head).send("hello").answer().status, 200);
}

#[test]
fn acks_are_spelled_as_the_protocol_spells_them() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let answer = client
        .send(fragment("/up/a", &session, 0, 5, 9, &[]))
        .send("hello")
        .answer();
    assert_eq!(answer.version, "HTTP/1.1");
    for (name, value) in [
        ("Server", "bits-gateway"),
        ("Pragma", "no-cache"),
        ("BITS-Packet-Type", "Ack"),
        ("BITS-Session-Id", &session),
        ("BITS-Received-Content-Range", "5"),
        ("Content-Length", "0"),
        ("Connection", "keep-alive"),
    ] {
        assert_eq!(answer.spelled(name), Some(value), "{answer:?}");
    }
    assert!(answer.spelled("Date").is_some());
    let answer = client
        .send(fragment("/up/a", &session, 7, 2, 9, &[]))
        .send("xx")
        .answer();
    assert_eq!(answer.status, 416);
    assert_eq!(of_protocol(&answer)["BITS-Received-Content-Range"], "5");
}

#[test]
fn every_refused_fragment_of_a_known_session_tells_the_true_offset() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    assert_eq!(
        client
            .send(fragment("/up/a", &session, 0, 5, 9, &[]))
            .send("hello")
            .answer()
            .status,
        200
    );
    let no_range = packet(
        "Fragment",
        "/up/a",
        &[("BITS-Session-Id", &session), ("Content-Length", "0")],
    );
    let no_length = packet(
        "Fragment",
        "/up/a",
        &[("BITS-Session-Id", &session), ("Content-Range", "bytes 5-8/9")],
    );
    let encoded = fragment("/up/a", &session, 5, 4, 9, &[("Content-Encoding", "gzip")]) + "abcd";
    let lower = session.to_lowercase();
    let other_total = fragment("/up/a", &lower, 5, 4, 10, &[]) + "abcd";
    for (request, status, sent) in [
        (no_range, 400, &session),
        (no_length, 411, &session),
        (encoded, 400, &session),
        (other_total, 400, &lower),
    ] {
        let answer = client.send(&request).answer();
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.header("BITS-Session-Id"), Some(sent.as_str()), "{request}");
        assert_eq!(answer.header("BITS-Received-Content-Range"), Some("5"), "{request}");
    }
}

#[test]
fn a_connection_that_breaks_in_mid_body_leaves_its_session_usable() {
    let house = House::new();
    let mut client = house.connect();
    // By the end of the stream, by a reset, and by the end of its own direction only.
    for (broken, way) in [Client::vanish, Client::reset, Client::go_quiet]
        .into_iter()
        .enumerate()
    {
        let session = create(&mut client, "/up/a");
        let mut quitter = house.connect();
        quitter.send(fragment("/up/a", &session, 0, 9, 9, &[])).send("hel");
        until("the fragment is being taken", || house.gateway.in_flight() == 1);
        way(quitter);
        let aborted = (broken + 1).to_string();
        until("it is counted as cut off", || {
            house.metric("bitsgw_packets_total{outcome=\"aborted\",packet=\"fragment\"}") == aborted
        });
        let answer = client
            .send(fragment("/up/a", &session, 0, 9, 9, &[]))
            .send("hello you")
            .answer();
        assert_eq!(
            (answer.status, answer.header("BITS-Received-Content-Range")),
            (200, Some("9")),
            "{answer:?}"
        );
    }
}
