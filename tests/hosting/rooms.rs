//! Which room a request is sent to: uploads, downloads, an upstream, or none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;

use bits_gateway::bits::HostId;
use bits_gateway::gateway::{Limits, Route};
use bits_gateway::upload::Taking;

use crate::support::{
    Client, House, PATIENCE, PROTOCOL, content, create, fragment, of_protocol, packet, ping, route, upstreams,
};

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n")
}

/// A house whose one route also serves downloads.
fn library() -> House {
    House::serving(
        Limits::default(),
        vec![Route {
            download: true,
            ..route("/up/")
        }],
    )
}

fn upload(client: &mut Client, path: &str, bytes: &[u8]) {
    let session = create(client, path);
    let length = bytes.len() as u64;
    let answer = client
        .send(fragment(path, &session, 0, length, length, &[]))
        .send(bytes)
        .answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    let close = packet(
        "Close-Session",
        path,
        &[("BITS-Session-Id", &session), ("Content-Length", "0")],
    );
    assert_eq!(client.send(close).answer().status, 200);
}

/// An upstream that answers every request with `answer` and keeps what it was sent.
fn upstream(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.ends_with(b"\r\n\r\n") && !heard.ends_with(b"hello") {
            let length = stream.read(&mut buffer).expect("a request");
            assert_ne!(length, 0, "half a request");
            heard.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(answer.as_bytes()).expect("taken");
        String::from_utf8(heard).expect("text")
    });
    (address, serving)
}

fn route_to(upstream: SocketAddr) -> Route {
    Route {
        upstream: Some(upstreams(&[upstream])),
        ..route("/up/")
    }
}

#[test]
fn what_was_uploaded_can_be_fetched_over_the_same_connection() {
    let house = library();
    let mut client = house.connect();
    let bytes = content(100_000);
    upload(&mut client, "/up/a", &bytes);
    let whole = client.send(get("/up/a", "")).answer();
    assert_eq!(
        (whole.status, whole.keeps_alive(), whole.body == bytes),
        (200, true, true)
    );
    assert_eq!(whole.spelled("Server"), Some("bits-gateway"));
    let part = client.send(get("/up/a", "Range: bytes=10-19\r\n")).answer();
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..20]));
    assert_eq!(part.spelled("Content-Range"), Some("bytes 10-19/100000"));
    let beyond = client.send(get("/up/a", "Range: bytes=100000-\r\n")).answer();
    assert_eq!((beyond.status, beyond.keeps_alive()), (416, true));
    let etag = whole.header("ETag").expect("an ETag").to_owned();
    let same = client
        .send(get("/up/a", &format!("If-None-Match: {etag}\r\n")))
        .answer();
    assert_eq!((same.status, same.keeps_alive()), (304, true));
    assert_eq!(client.send(ping()).answer().status, 200);
    assert_eq!(house.metric("bitsgw_sent_bytes_total{route=\"/up/\"}"), "100010");
}

#[test]
fn a_head_has_the_length_of_the_file_and_no_body() {
    let house = library();
    let mut client = house.connect();
    upload(&mut client, "/up/a", b"hello");
    let head = client.send(get("/up/a", "").replace("GET", "HEAD")).head();
    assert_eq!(
        (head.status, head.header("Content-Length"), head.keeps_alive()),
        (200, Some("5"), true)
    );
    assert!(head.header("Last-Modified").is_some());
    assert_eq!(
        client.send(ping()).answer().status,
        200,
        "no byte of a body is in the way"
    );
}

#[test]
fn files_that_are_not_there_keep_the_connection() {
    let house = library();
    let mut client = house.connect();
    for (path, status) in [
        ("/up/nothing", 404),
        ("/up/", 404),
        ("/up", 404),
        ("/up/../up/a", 400),
        ("/up/a%2Fb", 400),
    ] {
        let answer = client.send(get(path, "")).answer();
        assert_eq!(
            (answer.status, answer.keeps_alive(), answer.body.len()),
            (status, true, 0),
            "{path}"
        );
        assert_eq!(answer.header("BITS-Packet-Type"), None, "{path}");
    }
    let answer = client.send("DELETE /up/a HTTP/1.1\r\nHost: h\r\n\r\n").answer();
    assert_eq!(
        (answer.status, answer.header("Allow")),
        (405, Some("GET, HEAD, BITS_POST"))
    );
}

#[test]
fn a_get_with_a_body_is_answered_and_its_body_drained() {
    let house = library();
    let mut client = house.connect();
    upload(&mut client, "/up/a", b"hello");
    let answer = client.send(get("/up/a", "Content-Length: 3\r\n")).send("abc").answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(client.send(ping()).answer().status, 200);
    let mut client = house.connect();
    assert_eq!(
        client
            .send(get("/up/a", "Transfer-Encoding: chunked\r\n"))
            .answer()
            .status,
        400
    );
    assert!(client.is_over());
}

#[test]
fn a_reader_that_hangs_is_cut() {
    let limits = Limits {
        write_timeout: std::time::Duration::from_millis(300),
        ..Limits::default()
    };
    let house = House::serving(
        limits,
        vec![Route {
            download: true,
            ..route("/up/")
        }],
    );
    let mut client = house.connect();
    upload(&mut client, "/up/a", &content(32 << 20));
    let mut reader = house.connect();
    reader.send(get("/up/a", ""));
    crate::support::until("it is counted as cut off", || {
        house.metric("bitsgw_download_requests_total{outcome=\"aborted\"}") == "1"
    });
}

#[test]
fn other_methods_go_to_the_upstream() {
    let (address, serving) = upstream("HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-From: upstream\r\n\r\nok");
    let house = House::serving(Limits::default(), vec![route_to(address)]);
    let mut client = house.connect();
    let request = "PUT /up/a?b=c HTTP/1.1\r\nHost: front:8080\r\nX-Odd: 1\r\nContent-Length: 5\r\n\r\nhello";
    let answer = client.send(format!("{}{request}{}", ping(), ping()));
    assert_eq!(answer.answer().status, 200);
    let proxied = client.answer();
    assert_eq!(
        (proxied.status, proxied.header("X-From"), proxied.body.as_slice()),
        (201, Some("upstream"), &b"ok"[..])
    );
    assert_eq!(
        client.answer().status,
        200,
        "packets and other requests share a connection"
    );
    let heard = serving.join().expect("it was asked");
    assert!(heard.starts_with("PUT /up/a?b=c HTTP/1.1\r\n"), "{heard}");
    for line in [
        "Host: front:8080",
        "X-Odd: 1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: front:8080",
        "X-Forwarded-Proto: http",
    ] {
        assert!(heard.contains(&format!("\r\n{line}\r\n")), "{line}: {heard}");
    }
}

#[test]
fn packets_never_go_to_the_upstream() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound");
    let closed = Route {
        upload: Taking::No,
        ..route_to(nobody)
    };
    let house = House::serving(Limits::default(), vec![closed]);
    let mut client = house.connect();
    let answer = client.send(ping()).answer();
    assert_eq!((answer.status, answer.header("BITS-Error")), (501, Some("0x80070005")));
    let answer = client.send(get("/up/a", "")).answer();
    assert_eq!(
        (answer.status, answer.header("Server")),
        (502, Some("bits-gateway")),
        "nobody is there"
    );
    assert!(client.is_over());
}

#[test]
fn a_route_without_uploads_refuses_every_packet() {
    let house = House::serving(
        Limits::default(),
        vec![Route {
            upload: Taking::No,
            ..route("/up/")
        }],
    );
    let mut client = house.connect();
    let unknown = "{00000000-0000-0000-0000-000000000001}";
    let ids = [("BITS-Session-Id", unknown), ("Content-Length", "0")];
    for request in [
        ping(),
        packet(
            "Create-Session",
            "/up/a",
            &[("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")],
        ),
        fragment("/up/a", unknown, 0, 5, 5, &[]) + "hello",
        packet("Close-Session", "/up/a", &ids),
        packet("Cancel-Session", "/up/a", &ids),
        packet("Nonsense", "/up/a", &ids),
    ] {
        let answer = client.send(&request).answer();
        assert_eq!((answer.status, answer.keeps_alive()), (501, true), "{request}");
        assert_eq!(of_protocol(&answer)["BITS-Error"], "0x80070005");
        assert_eq!(of_protocol(&answer)["BITS-Error-Context"], "0x5");
    }
    let answer = client.send(get("/up/a", "")).answer();
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("")));
}

#[test]
fn packets_wait_outside_until_the_store_is_open() {
    let late = route("/up/");
    late.open.store(false, Ordering::Release);
    let open = std::sync::Arc::clone(&late.open);
    let house = House::serving(Limits::default(), vec![late]);
    let mut client = house.connect();
    let begin = packet(
        "Create-Session",
        "/up/a",
        &[("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")],
    );
    let answer = client.send(&begin).answer();
    assert_eq!((answer.status, answer.keeps_alive()), (503, true));
    assert_eq!(answer.header("Retry-After"), Some("5"));
    assert_eq!(
        (answer.header("BITS-Error"), answer.header("BITS-Packet-Type")),
        (None, Some("Ack"))
    );
    assert_eq!(client.send(ping()).answer().status, 200, "a Ping never asks the store");
    open.store(true, Ordering::Release);
    assert_eq!(client.send(&begin).answer().status, 200);
}

#[test]
fn a_host_id_is_told_and_answers_as_well() {
    let sent_on = HostId {
        host: "node1.example".to_owned(),
        fallback_timeout: Some(PATIENCE),
    };
    let routes = vec![
        Route {
            host: Some("front.example".to_owned()),
            host_id: Some(sent_on),
            ..route("/up/")
        },
        Route {
            upload: Taking::No,
            ..route("/")
        },
    ];
    let house = House::serving(Limits::default(), routes);
    let mut client = house.connect();
    let to = |host: &str, request: String| request.replace("Host: test", &format!("Host: {host}"));
    let begin = packet(
        "Create-Session",
        "/up/a",
        &[("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")],
    );
    let answer = client.send(to("FRONT.example:80", begin)).answer();
    assert_eq!(answer.spelled("BITS-Host-Id"), Some("node1.example"), "{answer:?}");
    assert_eq!(answer.spelled("BITS-Host-Id-Fallback-Timeout"), Some("60"));
    let session = answer.header("BITS-Session-Id").expect("a session");
    let first = to("node1.example", fragment("/up/a", session, 0, 5, 5, &[]));
    assert_eq!(client.send(first).send("hello").answer().status, 200);
    assert_eq!(
        client.send(to("other.example", ping())).answer().status,
        501,
        "that is another route"
    );
}
