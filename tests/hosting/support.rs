//! A front desk on a free port over a store in memory, and a client that sends exactly the bytes it is given.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bits_gateway::budget::Budget;
use bits_gateway::clock::SystemClock;
use bits_gateway::download::Downloads;
use bits_gateway::gateway::{Door, Gateway, Limits, MethodOverride, Parts, Route, Upstreams};
use bits_gateway::metrics::Metrics;
use bits_gateway::store::Store;
use bits_gateway::telemetry::Packets;
use bits_gateway::upload::{Checksum, Coordination, Durability, Place, Rules, Taking, Uploads};

/// How long anything may take before a test gives up. Far more than it takes: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol's one GUID (MC-BUP 1.7.1).
pub(crate) const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// A front desk that serves `/up/` with uploads, and nothing else.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) metrics: Metrics,
    runtime: Option<tokio::runtime::Runtime>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other bounds than the default ones.
    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::serving(limits, vec![route("/up/")])
    }

    pub(crate) fn serving(limits: Limits, routes: Vec<Route>) -> Self {
        Self::behind(&[], limits, routes)
    }

    /// With proxies in front whose word counts.
    pub(crate) fn behind(proxies: &[&str], limits: Limits, routes: Vec<Route>) -> Self {
        Self::built(proxies, false, limits, routes)
    }

    /// With load balancers in front that announce whom each connection is from.
    pub(crate) fn announced_by(balancers: &[&str], routes: Vec<Route>) -> Self {
        Self::built(balancers, true, Limits::default(), routes)
    }

    fn built(proxies: &[&str], proxy_protocol: bool, limits: Limits, routes: Vec<Route>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let door = Door::bind(&"127.0.0.1:0").expect("a free port");
        let address = door.address();
        let metrics = Metrics::new(["/up/"]);
        let budget = Budget::new(256 << 20, PATIENCE);
        let gateway = {
            let _inside = runtime.enter();
            let gateway = Gateway::new(Parts {
                limits,
                routes,
                uploads: Uploads::new(budget.clone(), Arc::new(SystemClock), metrics.clone()),
                downloads: Downloads::new(budget, PATIENCE),
                proxy_protocol,
                trusted_proxies: proxies.iter().map(|proxy| proxy.parse().expect("a network")).collect(),
                access_log: Packets::All,
                metrics: metrics.clone(),
                threads: 2,
            });
            gateway.open(vec![door]).expect("room for a door");
            Arc::new(gateway)
        };
        Self {
            address,
            gateway,
            metrics,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Runs a future on the runtime of the house.
    pub(crate) fn wait_for<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.as_ref().expect("still standing");
        runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.ok() })
    }

    /// Begins a future on the runtime of the house.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        self.runtime.as_ref().expect("still standing").spawn(future)
    }

    /// The value of a metric without labels, or with exactly these.
    pub(crate) fn metric(&self, name: &str) -> String {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().to_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A route over an empty store in memory that takes uploads.
pub(crate) fn route(path: &str) -> Route {
    let rules = Rules {
        overwrite: true,
        max_upload_size: 1 << 30,
        max_fragment_size: 64 << 20,
        part_size: 8 << 20,
        session_timeout: Duration::from_secs(3600),
        closed_session_memory: Duration::from_secs(3600),
        durability: Durability::Fragment,
        coordination: Coordination::Shared,
        checksum: Checksum::Off,
        checksum_sidecar: false,
    };
    Route {
        place: Arc::new(Place {
            route: path.to_owned(),
            store: Store::memory(),
            rules,
            application: None,
            events: None,
        }),
        path: path.to_owned(),
        host: None,
        host_id: None,
        upload: Taking::Yes,
        method_override: MethodOverride::Off,
        download: false,
        upstream: None,
        open: Arc::new(AtomicBool::new(true)),
        trouble: Arc::default(),
    }
}

/// These web servers.
pub(crate) fn upstreams(addresses: &[SocketAddr]) -> Arc<Upstreams> {
    let origins = addresses
        .iter()
        .map(|address| format!("http://{address}").parse().expect("an origin"));
    Arc::new(Upstreams::new(origins.collect(), None, None))
}

/// The same, and they are asked how they are.
pub(crate) fn upstreams_asked_at(path: &'static str, addresses: &[SocketAddr]) -> Arc<Upstreams> {
    let origins = addresses
        .iter()
        .map(|address| format!("http://{address}").parse().expect("an origin"));
    Arc::new(Upstreams::new(
        origins.collect(),
        Some(&path.parse().expect("a path")),
        None,
    ))
}

/// Waits until `done`, which is asked again and again.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The header spelled like this and not otherwise.
    pub(crate) fn spelled(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.header("Connection") == Some("keep-alive")
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the server takes it");
        self
    }

    /// Sends as much as the server takes. Whether it took everything.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends the connection as a process does that exits.
    pub(crate) fn vanish(self) {}

    /// Stops sending, but would still listen: who stops in mid-body gets no answer.
    pub(crate) fn go_quiet(mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a socket");
        let answer = self.try_answer();
        assert!(answer.is_none(), "{answer:?}");
    }

    /// Ends the connection with a reset: a zero linger time makes the kernel forget it.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket");
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The head of the next answer, which has no body whatever its length says.
    pub(crate) fn head(&mut self) -> Answer {
        self.try_head().expect("an answer")
    }

    /// The next answer; `None` when the connection ends before its first byte.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut answer = self.try_head()?;
        let length = answer
            .header("Content-Length")
            .map_or(0, |length| length.parse().expect("a number"));
        if answer.status >= 200 {
            while self.ahead.len() < length {
                assert!(self.read_more(), "the body ends early");
            }
            answer.body = self.ahead.drain(..length).collect();
        }
        Some(answer)
    }

    fn try_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more() {
                assert!(
                    self.ahead.is_empty(),
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.ahead)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.ahead.drain(..end).collect()).expect("a head is ASCII");
        Some(parse(&head))
    }

    /// Whether the connection has come to its end, with nothing more to read.
    pub(crate) fn is_over(&mut self) -> bool {
        !self.read_more() && self.ahead.is_empty()
    }

    /// Reads for a moment. Whether the connection is over.
    pub(crate) fn ends_within(&mut self, moment: Duration) -> bool {
        self.stream.set_read_timeout(Some(moment)).expect("a socket");
        let mut one = [0];
        let over = match self.stream.read(&mut one) {
            Ok(0) => true,
            Ok(_) => panic!("more to read: {one:?}"),
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        over
    }

    /// The next answer, if it comes within a moment.
    pub(crate) fn answer_within(&mut self, moment: Duration) -> Option<Answer> {
        self.stream.set_read_timeout(Some(moment)).expect("a socket");
        let mut one = [0];
        let came = matches!(self.stream.peek(&mut one), Ok(1));
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        came.then(|| self.answer())
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.ahead.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) => {
                assert!(
                    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "nothing came"
                );
                false
            }
        }
    }
}

fn parse(head: &str) -> Answer {
    let mut lines = head.split("\r\n");
    let mut status = lines.next().expect("a status line").splitn(3, ' ');
    let version = status.next().unwrap_or_default().to_owned();
    let status = status.next().unwrap_or_default().parse().expect("a status");
    let headers = lines
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Answer {
        status,
        version,
        headers,
        body: Vec::new(),
    }
}

/// The head of a packet of this type, with these further headers.
pub(crate) fn packet(kind: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("BITS_POST {path} HTTP/1.1\r\nHost: test\r\nBITS-Packet-Type: {kind}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes everything");
    }
    head.push_str("\r\n");
    head
}

pub(crate) fn ping() -> String {
    packet("Ping", "/up/a", &[("Content-Length", "0")])
}

/// Begins a session and says what it is called.
pub(crate) fn create(client: &mut Client, path: &str) -> String {
    let headers = [("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")];
    let answer = client.send(packet("Create-Session", path, &headers)).answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("BITS-Session-Id").expect("a session").to_owned()
}

/// The head of a fragment.
pub(crate) fn fragment(
    path: &str,
    session: &str,
    first: u64,
    length: u64,
    total: u64,
    more: &[(&str, &str)],
) -> String {
    let range = format!("bytes {first}-{}/{total}", (first + length).wrapping_sub(1));
    let length = length.to_string();
    let mut headers = vec![
        ("BITS-Session-Id", session),
        ("Content-Range", &range),
        ("Content-Length", &length),
    ];
    headers.extend(more);
    packet("Fragment", path, &headers)
}

/// Bytes that are not all the same.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// The headers of an answer that belong to the protocol, without those of the connection.
pub(crate) fn of_protocol(answer: &Answer) -> BTreeMap<String, String> {
    let ours = |name: &str| name.starts_with("BITS-") || name == "Content-Length" || name == "Retry-After";
    answer.headers.iter().filter(|(name, _)| ours(name)).cloned().collect()
}
