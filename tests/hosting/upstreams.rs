//! Web servers behind a route: which of them is asked, what it is told, and what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bits_gateway::gateway::{Limits, MethodOverride, Route};
use bits_gateway::upload::Taking;

use crate::support::{House, PATIENCE, PROTOCOL, fragment, packet, ping, route, until, upstreams, upstreams_asked_at};

/// A web server that tells its name and what it was asked, until the test is over.
struct WebServer {
    address: SocketAddr,
    heads: Receiver<String>,
    /// It answers 503 to who asks how it is.
    is_ill: Arc<AtomicBool>,
}

impl WebServer {
    fn begin(name: &'static str) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").expect("a free port"), name)
    }

    fn at(listener: TcpListener, name: &'static str) -> Self {
        let address = listener.local_addr().expect("bound");
        let (tell, heads) = channel();
        let is_ill = Arc::new(AtomicBool::new(false));
        let health = Arc::clone(&is_ill);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tell, health) = (tell.clone(), Arc::clone(&health));
                thread::spawn(move || serve(stream.expect("a connection"), name, &tell, &health));
            }
        });
        Self { address, heads, is_ill }
    }

    fn head(&self) -> String {
        self.heads.recv_timeout(PATIENCE).expect("it was asked")
    }
}

/// Answers until the connection ends; one that asks for it is an echo from then on.
fn serve(mut stream: TcpStream, name: &str, tell: &Sender<String>, is_ill: &AtomicBool) {
    while let Some(head) = read_head(&mut stream) {
        if head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n") {
            let status = if is_ill.load(Ordering::Relaxed) { 503 } else { 204 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("taken");
            continue;
        }
        let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade: ");
        // Nobody listens any more when the test is over.
        let _ = tell.send(head);
        let answer = if is_upgrade {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".to_owned()
        } else {
            let hop = "Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5";
            format!("HTTP/1.1 200 OK\r\n{hop}\r\nX-Name: {name}\r\nContent-Length: 2\r\n\r\nok")
        };
        stream.write_all(answer.as_bytes()).expect("taken");
        if is_upgrade {
            return echo(stream);
        }
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        stream.write_all(&buffer[..length]).expect("taken");
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend_from_slice(&byte);
    }
    Some(String::from_utf8(head).expect("text"))
}

fn route_to(addresses: &[SocketAddr]) -> Route {
    Route {
        upstream: Some(upstreams(addresses)),
        ..route("/up/")
    }
}

fn get(more: &str) -> String {
    format!("GET /up/a HTTP/1.1\r\nHost: h\r\n{more}\r\n")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .into_iter()
        .find(|(its, _)| its.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[test]
fn several_servers_are_asked_in_turn() {
    let servers = [WebServer::begin("a"), WebServer::begin("b")];
    let house = House::serving(
        Limits::default(),
        vec![route_to(&servers.each_ref().map(|server| server.address))],
    );
    let mut client = house.connect();
    let mut names = Vec::new();
    for _ in 0..4 {
        let answer = client.send(get("")).answer();
        assert_eq!((answer.status, answer.keeps_alive()), (200, true));
        names.push(answer.header("X-Name").expect("its name").to_owned());
    }
    assert_ne!(names[0], names[1]);
    assert_eq!(names[..2], names[2..]);
}

#[test]
fn a_server_that_takes_no_connection_is_passed_over_whatever_the_request_is() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound");
    let alive = WebServer::begin("alive");
    let house = House::serving(Limits::default(), vec![route_to(&[dead, alive.address])]);
    let mut client = house.connect();
    for method in ["GET", "POST", "DELETE", "GET", "POST"] {
        let request = format!("{method} /up/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        let answer = client.send(request).answer();
        assert_eq!(
            (answer.status, answer.header("X-Name")),
            (200, Some("alive")),
            "{method}"
        );
    }
}

#[test]
fn a_server_that_comes_up_later_gets_its_share() {
    let place = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, first) = (place.local_addr().expect("bound"), WebServer::begin("first"));
    drop(place);
    let house = House::serving(Limits::default(), vec![route_to(&[address, first.address])]);
    let mut client = house.connect();
    assert_eq!(client.send(get("")).answer().header("X-Name"), Some("first"));
    let _late = WebServer::at(TcpListener::bind(address).expect("still free"), "late");
    until("it is found", || {
        client.send(get("")).answer().header("X-Name") == Some("late")
    });
}

#[test]
fn a_server_that_says_that_it_is_ill_is_passed_over_until_it_is_well() {
    let (ill, well) = (WebServer::begin("ill"), WebServer::begin("well"));
    ill.is_ill.store(true, Ordering::Relaxed);
    let route = Route {
        upstream: Some(upstreams_asked_at("/healthz?deep=1", &[ill.address, well.address])),
        ..route("/up/")
    };
    let house = House::serving(Limits::default(), vec![route]);
    let mut client = house.connect();
    let mut names = || -> Vec<String> {
        let mut name = || {
            client
                .send(get(""))
                .answer()
                .header("X-Name")
                .expect("its name")
                .to_owned()
        };
        vec![name(), name(), name(), name()]
    };
    until("it is noticed", || names().iter().all(|name| name == "well"));
    ill.is_ill.store(false, Ordering::Relaxed);
    until("it is noticed", || names().iter().any(|name| name == "ill"));
    // When nobody is well, somebody may be by now.
    ill.is_ill.store(true, Ordering::Relaxed);
    well.is_ill.store(true, Ordering::Relaxed);
    until("both are asked all the same", || {
        let names = names();
        names.iter().any(|name| name == "ill") && names.iter().any(|name| name == "well")
    });
}

#[test]
fn where_no_server_takes_a_connection_the_answer_is_502() {
    let nobody = || {
        TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("bound")
    };
    let house = House::serving(Limits::default(), vec![route_to(&[nobody(), nobody()])]);
    let answer = house.connect().send(get("")).answer();
    assert_eq!((answer.status, answer.header("Server")), (502, Some("bits-gateway")));
}

#[test]
fn what_a_stranger_says_of_itself_is_not_passed_on_and_what_a_trusted_proxy_says_is() {
    let claims = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.7\r\n";
    for (proxies, client, proto, forwarded) in [
        (&[][..], "127.0.0.1", "http", "for=127.0.0.1;host=\"h\";proto=http"),
        (
            &["127.0.0.0/8"],
            "192.0.2.7, 127.0.0.1",
            "https",
            "for=192.0.2.7, for=127.0.0.1;host=\"h\";proto=https",
        ),
    ] {
        let server = WebServer::begin("a");
        let house = House::behind(proxies, Limits::default(), vec![route_to(&[server.address])]);
        let answer = house.connect().send(get(claims)).answer();
        assert_eq!(answer.status, 200);
        let head = server.head();
        let told = ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"].map(|name| header(&head, name));
        assert_eq!(told, [Some(client), Some(proto), Some(forwarded)], "{head}");
    }
}

#[test]
fn a_load_balancer_announces_whom_a_connection_is_from() {
    let server = WebServer::begin("a");
    let house = House::announced_by(&["127.0.0.1/32"], vec![route_to(&[server.address])]);
    for (announcement, client) in [
        (&b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"[..], "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\x12\x34\0\x50",
            "192.0.2.8",
        ),
    ] {
        let mut connection = house.connect();
        connection.send(announcement).send(get(""));
        assert_eq!(connection.answer().status, 200);
        assert_eq!(header(&server.head(), "X-Forwarded-For"), Some(client));
        assert_eq!(connection.send(ping()).answer().status, 200, "it is announced once");
    }
    assert!(house.connect().send(ping()).is_over(), "without an announcement");
    until("it is counted", || {
        house.metric("bitsgw_connections_rejected_total{reason=\"malformed\"}") == "1"
    });
    let strangers = House::announced_by(&["192.0.2.1/32"], vec![route("/up/")]);
    assert_eq!(strangers.connect().send(ping()).answer().status, 200);
    let mut liar = strangers.connect();
    liar.send("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n").send(ping());
    assert_ne!(liar.try_answer().map(|answer| answer.status), Some(200));
}

#[test]
fn what_speaks_of_one_connection_is_not_passed_on_in_either_direction() {
    let server = WebServer::begin("a");
    let house = House::serving(Limits::default(), vec![route_to(&[server.address])]);
    let mut client = house.connect();
    let hops =
        "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nX-Public: 2\r\n";
    let answer = client.send(get(hops)).answer();
    let head = server.head();
    let passed = ["X-Private", "Keep-Alive", "TE", "X-Public", "Via"].map(|name| header(&head, name));
    assert_eq!(
        passed,
        [None, None, None, Some("2"), Some("1.1 bits-gateway")],
        "{head}"
    );
    let came = ["X-Secret", "Keep-Alive", "X-Name"].map(|name| answer.header(name));
    assert_eq!(came, [None, None, Some("a")]);
    assert!(answer.keeps_alive());
    assert_eq!(client.send(ping()).answer().status, 200);
}

#[test]
fn a_connection_that_changes_its_protocol_belongs_to_both_ends_from_then_on() {
    let server = WebServer::begin("a");
    let house = House::serving(Limits::default(), vec![route_to(&[server.address])]);
    // The engine ends a connection whose 101 overtakes the end of the request within it, as only a server on the same machine can.
    until("a connection lasts", || talks_to_the_echo(&house, &server));
}

/// Whether a connection that changed its protocol lasted until the first echo; after that nothing may go wrong any more.
fn talks_to_the_echo(house: &House, server: &WebServer) -> bool {
    let mut stream = TcpStream::connect(house.address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
        .write_all(get("Connection: Upgrade\r\nUpgrade: websocket\r\n").as_bytes())
        .expect("taken");
    let answer = read_head(&mut stream).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(header(&answer, "Upgrade"), Some("echo"));
    let head = server.head();
    assert_eq!(header(&head, "Upgrade"), Some("websocket"), "{head}");
    let mut is_first = true;
    for message in [&b"hello"[..], b"\r\n\r\n\0", &[7; 100_000]] {
        let mut echo = vec![0; message.len()];
        let came = stream.write_all(message).and_then(|()| stream.read_exact(&mut echo));
        if is_first && came.is_err() {
            return false;
        }
        came.expect("an echo");
        assert_eq!(echo, message);
        is_first = false;
    }
    true
}

#[test]
fn packets_of_a_route_that_passes_them_on_reach_the_server_as_they_came() {
    let server = WebServer::begin("iis");
    let iis = Route {
        upload: Taking::Proxy,
        ..route_to(&[server.address])
    };
    let house = House::serving(Limits::default(), vec![iis]);
    let mut client = house.connect();
    let packet = fragment("/up/a", "{00000000-0000-0000-0000-000000000001}", 0, 0, 5, &[]);
    let answer = client.send(&packet).answer();
    assert_eq!((answer.status, answer.header("X-Name")), (200, Some("iis")));
    let head = server.head();
    assert!(head.starts_with("BITS_POST /up/a HTTP/1.1\r\n"), "{head}");
    for line in packet.lines().skip(1).filter(|line| !line.is_empty()) {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
}

/// Covers what devices send whose networks know GET and POST only.
#[test]
fn a_post_that_says_so_is_a_packet_where_the_route_allows_it() {
    let begin = packet(
        "Create-Session",
        "/up/a",
        &[("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")],
    );
    let posted = |packet: &str, method: &str| {
        let head = packet.replacen("BITS_POST ", "POST ", 1);
        head.replacen("\r\n", &format!("\r\nX-HTTP-Method-Override: {method}\r\n"), 1)
    };
    for (method_override, created) in [(MethodOverride::On, 200), (MethodOverride::Created, 201)] {
        let house = House::serving(
            Limits::default(),
            vec![Route {
                method_override,
                ..route("/up/")
            }],
        );
        let mut client = house.connect();
        let answer = client.send(posted(&begin, "BITS_POST")).answer();
        assert_eq!((answer.status, answer.keeps_alive()), (created, true));
        let session = answer.header("BITS-Session-Id").expect("a session").to_owned();
        let whole = fragment("/up/a", &session, 0, 5, 5, &[]);
        let answer = client.send(posted(&whole, "BITS_POST")).send("hello").answer();
        assert_eq!(
            (answer.status, answer.header("BITS-Received-Content-Range")),
            (200, Some("5"))
        );
        assert_eq!(
            client.send(&begin).answer().status,
            200,
            "BITS_POST is answered as ever"
        );
        assert_eq!(client.send(posted(&begin, "bits_post")).answer().status, 405);
    }
    let house = House::new();
    assert_eq!(house.connect().send(posted(&begin, "BITS_POST")).answer().status, 405);
}
