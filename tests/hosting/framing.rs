//! Heads and bodies that two readers could understand in two ways, and those that only look like it.

use crate::support::{Client, House, create, fragment, packet, ping};

/// Sends `bytes` on a connection of its own, behind which a Ping waits: whoever takes the wrong end for the end of the
/// first request would answer it.
fn refused(house: &House, name: &str, bytes: &[u8]) {
    let mut client = house.connect();
    client.send(bytes);
    let answer = client.answer();
    assert_eq!(answer.status, 400, "{name}: {answer:?}");
    assert_eq!(answer.header("Connection"), Some("close"), "{name}");
    assert_eq!(answer.header("Content-Length"), Some("0"), "{name}");
    assert!(client.is_over(), "{name}: the connection is still open");
}

fn serves_on(client: &mut Client) {
    assert_eq!(client.send(ping()).answer().status, 200);
}

#[test]
fn heads_in_doubt_are_refused_and_their_connection_ends() {
    let house = House::new();
    let head = |lines: &str| format!("BITS_POST /up/a HTTP/1.1\r\n{lines}\r\n\r\n").into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "length beside coding",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"),
        ),
        (
            "coding beside length",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"),
        ),
        (
            "two equal lengths",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\nContent-Length: 0"),
        ),
        (
            "two lengths in one line",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0, 0"),
        ),
        (
            "differing lengths",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\nContent-Length: 5"),
        ),
        (
            "signed length",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: +0"),
        ),
        (
            "negative length",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: -1"),
        ),
        (
            "endless length",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nContent-Length: 18446744073709551616"),
        ),
        (
            "chunked ping",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\nTransfer-Encoding: chunked"),
        ),
        (
            "chunked close",
            head("Host: h\r\nBITS-Packet-Type: Close-Session\r\nTransfer-Encoding: chunked"),
        ),
        (
            "gzip, chunked",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nTransfer-Encoding: gzip, chunked"),
        ),
        (
            "chunked, gzip",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nTransfer-Encoding: chunked, gzip"),
        ),
        (
            "xchunked",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nTransfer-Encoding: xchunked"),
        ),
        (
            "identity",
            head("Host: h\r\nBITS-Packet-Type: Fragment\r\nTransfer-Encoding: identity"),
        ),
        (
            "chunked in HTTP/1.0",
            b"BITS_POST /up/a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        ),
        ("no host", head("BITS-Packet-Type: Ping\r\nContent-Length: 0")),
        (
            "empty host",
            head("Host:\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0"),
        ),
        (
            "two hosts",
            head("Host: h\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0"),
        ),
        (
            "user in host",
            head("Host: u@h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0"),
        ),
        (
            "blank before colon",
            head("Host : h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0"),
        ),
        (
            "folded line",
            head("Host: h\r\nBITS-Packet-Type: Ping\r\n Ping\r\nContent-Length: 0"),
        ),
        ("NUL in a value", head("Host: h\r\nA: b\0c\r\nContent-Length: 0")),
        ("control in a name", head("Host: h\r\nA\x01: b\r\nContent-Length: 0")),
        ("bare carriage return", head("Host: h\r\nA: b\rc\r\nContent-Length: 0")),
        (
            "bare line feeds",
            b"BITS_POST /up/a HTTP/1.1\nHost: h\nBITS-Packet-Type: Ping\n\n".to_vec(),
        ),
        (
            "one bare line feed",
            b"BITS_POST /up/a HTTP/1.1\r\nHost: h\nBITS-Packet-Type: Ping\r\n\r\n".to_vec(),
        ),
        (
            "NUL in the target",
            b"BITS_POST /up/a\0b HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n".to_vec(),
        ),
        (
            "control in the target",
            b"BITS_POST /up/a\x01b HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n".to_vec(),
        ),
        (
            "encoded NUL in the target",
            b"BITS_POST /up/a%00b HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "UTF-8 in the target",
            "BITS_POST /up/\u{e4} HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes().to_vec(),
        ),
        (
            "no UTF-8 in the target",
            b"BITS_POST /up/\xff HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "fragment in the target",
            b"BITS_POST /up/a#b HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "other host in the target",
            b"BITS_POST http://other/up/a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "user in the target",
            b"BITS_POST http://u:p@h/up/a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "other scheme",
            b"BITS_POST ftp://h/up/a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ),
        (
            "long target",
            format!("BITS_POST /up/{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(5000)).into_bytes(),
        ),
        (
            "300 headers",
            head(&format!("Host: h\r\n{}A: b", "A: b\r\n".repeat(300))),
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        refused(&house, name, &bytes);
    }
}

#[test]
fn a_packet_behind_a_head_in_doubt_is_never_served() {
    let house = House::new();
    let mut client = house.connect();
    let head = "BITS_POST /up/a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Fragment\r\nContent-Length: 4\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    client.send(format!("{head}{}", ping()));
    assert_eq!(client.answer().status, 400);
    assert!(client.is_over());
}

#[test]
fn a_refused_packet_is_refused_in_the_form_of_an_ack() {
    let house = House::new();
    let answer = house
        .connect()
        .send("BITS_POST /up/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        .answer();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.spelled("BITS-Packet-Type"), Some("Ack"));
    assert_eq!(answer.spelled("BITS-Error-Code"), Some("0x80070057"));
    assert_eq!(answer.spelled("Server"), Some("bits-gateway"));
}

#[test]
fn long_heads_are_refused_before_they_fill_the_memory() {
    let house = House::new();
    let long = |length: usize| {
        format!(
            "BITS_POST /up/a HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
            "a".repeat(length)
        )
    };
    let mut client = house.connect();
    let answer = client.send(long(127 * 1024)).answer();
    assert_eq!(
        (answer.status, answer.keeps_alive()),
        (400, true),
        "a long value is the packet's mistake"
    );
    let mut client = house.connect();
    client.send(long(130 * 1024));
    assert_eq!(client.answer().status, 431);
    assert!(client.is_over());
    let mut client = house.connect();
    client.push(long(900 * 1024).as_bytes());
    assert_eq!(client.answer().status, 431);
    assert!(client.is_over());
}

#[test]
fn tickets_of_64_kib_are_let_through() {
    let house = House::new();
    let ticket = "a".repeat(64 * 1024);
    let headers = [("Content-Length", "0"), ("Authorization", ticket.as_str())];
    assert_eq!(
        house.connect().send(packet("Ping", "/up/a", &headers)).answer().status,
        200
    );
}

#[test]
fn a_hundred_headers_are_fine() {
    let house = House::new();
    let more: Vec<_> = (0..95)
        .map(|_| ("X-Any", "value"))
        .chain([("Content-Length", "0")])
        .collect();
    assert_eq!(
        house.connect().send(packet("Ping", "/up/a", &more)).answer().status,
        200
    );
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let house = House::new();
    assert_eq!(house.connect().send(format!("\r\n\r\n{}", ping())).answer().status, 200);
}

#[test]
fn the_method_counts_by_letter_case() {
    let house = House::new();
    let mut client = house.connect();
    let answer = client.send(ping().replace("BITS_POST", "bits_post")).answer();
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("BITS_POST")));
    serves_on(&mut client);
}

#[test]
fn names_of_headers_do_not() {
    let house = House::new();
    let head = "BITS_POST /up/a HTTP/1.1\r\nhOST: h\r\nbits-PACKET-type: pInG\r\ncontent-LENGTH: 0\r\n\r\n";
    assert_eq!(house.connect().send(head).answer().status, 200);
}

#[test]
fn absolute_targets_are_served_and_so_are_targets_without_a_length() {
    let house = House::new();
    let mut client = house.connect();
    let head = "BITS_POST http://h:8080/up/a HTTP/1.1\r\nHost: h:8080\r\nBITS-Packet-Type: Ping\r\n\r\n";
    assert_eq!(client.send(head).answer().status, 200);
    serves_on(&mut client);
}

#[test]
fn http_1_0_is_answered_and_then_closed() {
    let house = House::new();
    for more in ["", "Connection: keep-alive\r\n", "Host: h\r\n"] {
        let mut client = house.connect();
        client.send(format!(
            "BITS_POST /up/a HTTP/1.0\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n{more}\r\n"
        ));
        let answer = client.answer();
        assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.1"));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert!(client.is_over());
    }
}

#[test]
fn connect_is_no_way_out() {
    let house = House::new();
    let mut client = house.connect();
    assert_eq!(
        client
            .send("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n")
            .answer()
            .status,
        405
    );
    assert!(client.is_over());
}

#[test]
fn a_chunked_fragment_is_taken_when_its_length_is_that_of_its_range() {
    let house = House::new();
    let mut client = house.connect();
    let session = create(&mut client, "/up/a");
    let head = |first: u64, length: u64, total: u64| {
        let last = first + length - 1;
        let range = format!("bytes {first}-{last}/{total}");
        packet(
            "Fragment",
            "/up/a",
            &[
                ("BITS-Session-Id", &session),
                ("Content-Range", &range),
                ("Transfer-Encoding", "chunked"),
            ],
        )
    };
    let answer = client
        .send(head(0, 8, 20))
        .send("3;ext=1\r\nabc\r\n5\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n")
        .answer();
    assert_eq!(
        (answer.status, answer.header("BITS-Received-Content-Range")),
        (200, Some("8")),
        "{answer:?}"
    );
    assert!(answer.keeps_alive());
    for (name, body) in [
        ("short", "3\r\nabc\r\n0\r\n\r\n"),
        ("long", "9\r\nabcdefghi\r\n0\r\n\r\n"),
        ("broken", "zz\r\nabc"),
    ] {
        let mut client = house.connect();
        let answer = client.send(head(8, 8, 20)).send(body).answer();
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert_eq!(answer.header("BITS-Error"), Some("0x80070057"), "{name}");
        assert_eq!(answer.header("BITS-Session-Id"), Some(session.as_str()), "{name}");
        assert!(client.is_over(), "{name}");
    }
    let answer = client
        .send(fragment("/up/a", &session, 8, 12, 20, &[]))
        .send("ijklmnopqrst")
        .answer();
    assert_eq!(
        (answer.status, answer.header("BITS-Received-Content-Range")),
        (200, Some("20")),
        "{answer:?}"
    );
}
