//! The whole program as a supervisor sees it: addresses, signals, exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Client, PATIENCE, PROTOCOL, create, fragment, packet, ping, until};

/// A configuration: the keys of the server, and everything else.
struct Config {
    server: String,
    rest: String,
}

impl Config {
    /// One route on a store in memory, on free ports, that leaves without delay.
    fn new() -> Self {
        let server = "listen = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\ndrain_delay = \"0s\"\n";
        let route = "[[routes]]\npath = \"/up/\"\nstore = \"memory:///\"\n";
        Self {
            server: server.to_owned(),
            rest: format!("[log]\nformat = \"json\"\n{route}"),
        }
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.server.retain_lines(|line| !line.starts_with(&format!("{key} =")));
        self.server.push_str(&format!("{key} = {value}\n"));
        self
    }

    fn instead_of(mut self, old: &str, new: &str) -> Self {
        assert!(self.rest.contains(old));
        self.rest = self.rest.replace(old, new);
        self
    }
}

trait RetainLines {
    fn retain_lines(&mut self, keep: impl Fn(&str) -> bool);
}

impl RetainLines for String {
    fn retain_lines(&mut self, keep: impl Fn(&str) -> bool) {
        *self = self
            .lines()
            .filter(|line| keep(line))
            .map(|line| format!("{line}\n"))
            .collect();
    }
}

/// A running program.
struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    _files: TempDir,
}

impl Program {
    fn start(config: &Config) -> Self {
        Self::start_with_limit(config, "")
    }

    /// Starts it after a command of the shell that lowers a limit.
    fn start_with_limit(config: &Config, limit: &str) -> Self {
        let files = tempfile::tempdir().expect("room for a file");
        let path = files.path().join("config.toml");
        let text = format!("[server]\n{}{}", config.server, config.rest);
        std::fs::write(&path, text).expect("room for a file");
        let program = env!("CARGO_BIN_EXE_bits-gateway");
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{limit}\nexec \"$0\" serve --config \"$1\"")])
            .arg(program)
            .arg(&path)
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let lines = Arc::new(Mutex::new(Vec::new()));
        listen_to(child.stdout.take().expect("piped"), &lines);
        listen_to(child.stderr.take().expect("piped"), &lines);
        Self {
            child,
            lines,
            _files: files,
        }
    }

    fn log(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    /// The log line with this message and this value of a field, once it is there.
    fn line(&mut self, message: &str, field: &str, value: &str) -> Value {
        let mut found = None;
        until(&format!("{message} {field}={value}"), || {
            let log = self.log();
            found = log
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| {
                    let is = |field: &str, value: &str| of(line, field).map(text).as_deref() == Some(value);
                    is("msg", message) && is(field, value)
                });
            let ended = self.child.try_wait().expect("a child").is_some();
            assert!(found.is_some() || !ended, "it ended: {log:#?}");
            found.is_some()
        });
        found.expect("found")
    }

    fn address(&mut self, listener: &str) -> SocketAddr {
        let line = self.line("listening", "listener", listener);
        text(of(&line, "address").expect("an address"))
            .parse()
            .expect("an address")
    }

    fn connect(&mut self) -> Client {
        let address = self.address("gateway");
        Client::connect(address)
    }

    fn wait_until_ready(&mut self) {
        until("it is ready", || self.page("/readyz").0 == 200);
    }

    /// A page of the admin listener.
    fn page(&mut self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("admin")).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes())
            .expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (status, body.unwrap_or_default())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("ended")
    }

    /// A client in the middle of a fragment, and its session.
    fn busy_client(&mut self) -> (Client, String) {
        self.wait_until_ready();
        let mut client = self.connect();
        let session = create(&mut client, "/up/a");
        client.send(fragment("/up/a", &session, 0, 9, 9, &[])).send("hel");
        until("the fragment is being taken", || {
            self.page("/metrics").1.contains("\nbitsgw_packets_in_flight 1\n")
        });
        (client, session)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen_to(pipe: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            lines.lock().expect("no panic").push(line);
        }
    });
}

/// A field of a log line.
fn of<'a>(line: &'a Value, field: &str) -> Option<&'a Value> {
    line.get(field)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn it_says_where_it_listens_and_serves_there() {
    let mut program = Program::start(&Config::new());
    assert_ne!(program.address("gateway").port(), 0);
    program.wait_until_ready();
    for page in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(program.page(page).0, 200, "{page}");
    }
    assert!(program.page("/readyz?verbose").1.contains("[+] store of /up/"));
    assert_eq!(program.connect().send(ping()).answer().status, 200);
    assert!(program.page("/metrics").1.contains("bitsgw_ready 1\n"));
    let line = program.line("request", "kind", "Ping");
    assert_eq!(of(&line, "status").and_then(Value::as_u64), Some(200), "{line}");
    assert_eq!(of(&line, "route").and_then(Value::as_str), Some("/up/"), "{line}");
}

#[test]
fn an_address_that_is_taken_ends_it_with_69_and_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (key, value) in [
        ("listen", format!("[\"{address}\"]")),
        ("admin_listen", format!("\"{address}\"")),
    ] {
        let mut program = Program::start(&Config::new().with(key, &value));
        assert_eq!(program.end().code(), Some(69));
        until("it says why", || {
            program
                .log()
                .iter()
                .any(|line| line.contains(&format!("cannot listen on {address}")))
        });
    }
}

#[test]
fn an_idle_program_ends_at_sigterm() {
    let mut program = Program::start(&Config::new());
    program.wait_until_ready();
    let mut idle = program.connect();
    assert_eq!(idle.send(ping()).answer().status, 200);
    program.signal(Signal::TERM);
    assert_eq!(program.end().code(), Some(0));
    assert!(idle.is_over());
}

#[test]
fn a_program_that_never_became_ready_ends_at_sigterm_too() {
    let config = Config::new().instead_of("\"memory:///\"", "\"s3://bucket\"\n[routes.store_options]\naws_endpoint = \"http://127.0.0.1:9\"\naws_allow_http = \"true\"\naws_access_key_id = \"a\"\naws_secret_access_key = \"b\"\naws_region = \"us-east-1\"");
    let mut program = Program::start(&config);
    assert_eq!(program.page("/readyz").0, 503);
    assert_eq!(program.page("/startupz").0, 503);
    assert_eq!(program.page("/livez").0, 200);
    let headers = [("BITS-Supported-Protocols", PROTOCOL), ("Content-Length", "0")];
    let answer = program
        .connect()
        .send(packet("Create-Session", "/up/a", &headers))
        .answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("5")));
    program.line("the store failed its probe", "route", "/up/");
    until("it tells why it is not ready", || {
        program.page("/readyz").1.starts_with("[-] store of /up/: ")
    });
    program.signal(Signal::TERM);
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn readiness_goes_before_the_doors_close() {
    let config = Config::new()
        .with("drain_delay", "\"1h\"")
        .with("grace_period", "\"2h\"");
    let mut program = Program::start(&config);
    program.wait_until_ready();
    program.signal(Signal::TERM);
    until("it is not ready any more", || program.page("/readyz").0 == 503);
    assert!(program.page("/readyz").1.contains("draining"));
    assert_eq!(program.page("/livez").0, 200);
    let answer = program.connect().send(ping()).answer();
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (200, Some("close")),
        "still served, and told to go"
    );
    program.signal(Signal::TERM);
    assert_eq!(program.end().code(), Some(143));
}

#[test]
fn sigterm_waits_for_the_last_request_and_not_longer() {
    let mut program = Program::start(&Config::new().with("grace_period", "\"1h\""));
    let (mut client, _) = program.busy_client();
    program.signal(Signal::TERM);
    let address = program.address("gateway");
    until("connections are refused", || TcpStream::connect(address).is_err());
    let answer = client.send("lo you").answer();
    assert_eq!(
        (answer.status, answer.header("BITS-Received-Content-Range")),
        (200, Some("9"))
    );
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn the_grace_period_is_the_most_that_sigterm_waits() {
    let mut program = Program::start(&Config::new().with("grace_period", "\"1s\""));
    let (mut client, _) = program.busy_client();
    program.signal(Signal::TERM);
    assert_eq!(program.end().code(), Some(0));
    assert!(client.is_over());
    until("it says so", || {
        program
            .log()
            .iter()
            .any(|line| line.contains("the grace period is over"))
    });
}

#[test]
fn a_second_sigterm_or_sigint_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut program = Program::start(&Config::new().with("grace_period", "\"1h\""));
        let (mut client, _) = program.busy_client();
        program.signal(Signal::TERM);
        program.line("draining", "in_flight", "1");
        program.signal(signal);
        assert_eq!(program.end().code(), Some(code));
        assert!(client.is_over());
    }
}

#[test]
fn sigint_ends_it_at_once() {
    let mut program = Program::start(&Config::new().with("grace_period", "\"1h\""));
    let (mut client, _) = program.busy_client();
    program.signal(Signal::INT);
    assert_eq!(program.end().code(), Some(130));
    assert!(client.is_over());
}

#[test]
fn admin_pages_are_there_while_the_front_is_full() {
    let config = Config::new().instead_of("[log]", "[limits]\nconnections = 1\n[log]");
    let mut program = Program::start(&config);
    program.wait_until_ready();
    let mut only = program.connect();
    assert_eq!(only.send(ping()).answer().status, 200);
    assert_eq!(program.connect().answer().status, 503);
    assert_eq!(program.page("/readyz").0, 200);
    assert!(program.page("/metrics").1.contains("bitsgw_connections_active 1\n"));
}

#[test]
fn it_has_as_many_workers_as_it_is_told() {
    let mut program = Program::start(&Config::new().with("threads", "3"));
    program.wait_until_ready();
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", program.child.id())).expect("it runs");
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "worker").count()
    };
    // A thread has its name a moment after it was begun.
    until("all have their names", || workers() == 3);
}

#[test]
fn it_makes_room_for_its_connections() {
    let config = Config::new().instead_of("[log]", "[limits]\nconnections = 100\n[log]");
    let mut program = Program::start_with_limit(&config, "ulimit -Sn 256");
    let line = program.line("limits", "connections", "100");
    assert_eq!(of(&line, "open_files").and_then(Value::as_u64), Some(712), "{line}");
}

#[test]
fn it_takes_fewer_connections_where_there_is_no_room() {
    let config = Config::new().instead_of("[log]", "[limits]\nconnections = 100\n[log]");
    let mut program = Program::start_with_limit(&config, "ulimit -n 600");
    let line = program.line(
        "fewer connections than configured: RLIMIT_NOFILE cannot be raised",
        "wanted",
        "100",
    );
    assert_eq!(of(&line, "connections").and_then(Value::as_u64), Some(88), "{line}");
    program.wait_until_ready();
}

#[test]
fn clients_that_go_away_are_no_errors() {
    let mut program = Program::start(&Config::new());
    program.wait_until_ready();
    let mut client = program.connect();
    let session = create(&mut client, "/up/a");
    for beginning in ["BITS_POST /up/a HTTP/1.1\r\nHo", "nonsense\r\n\r\n"] {
        let mut visitor = program.connect();
        visitor.send(beginning);
        visitor.vanish();
    }
    let mut quitter = program.connect();
    quitter.send(fragment("/up/a", &session, 0, 9, 9, &[])).send("hel");
    quitter.reset();
    let line = program.line("request", "reason", "disconnected");
    assert_eq!(
        (of(&line, "status"), of(&line, "session").map(text)),
        (None, Some(session)),
        "{line}"
    );
    program.signal(Signal::TERM);
    program.end();
    let is_loud = |line: &&String| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\"");
    let loud: Vec<_> = program.log().iter().filter(is_loud).cloned().collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

#[test]
fn what_is_no_request_at_all_has_a_line_in_the_log_too() {
    let mut program = Program::start(&Config::new());
    program.wait_until_ready();
    let mut client = program.connect();
    assert_eq!(client.send("nonsense\r\n\r\n").answer().status, 400);
    let line = program.line("request", "reason", "unreadable");
    assert!(of(&line, "client").is_some(), "{line}");
}

#[test]
fn the_log_tells_of_as_many_packets_as_it_is_told_to() {
    for (packets, told) in [
        ("all", "Ping Create-Session Close-Session GET"),
        ("sessions", "Create-Session Close-Session GET"),
        ("errors", "Close-Session GET"),
    ] {
        let log = format!("[log]\npackets = \"{packets}\"");
        let mut program = Program::start(&Config::new().instead_of("[log]", &log));
        program.wait_until_ready();
        let mut client = program.connect();
        assert_eq!(client.send(ping()).answer().status, 200);
        create(&mut client, "/up/a");
        let unknown = [
            ("BITS-Session-Id", "{00000000-0000-0000-0000-000000000001}"),
            ("Content-Length", "0"),
        ];
        assert_eq!(
            client.send(packet("Close-Session", "/up/a", &unknown)).answer().status,
            500
        );
        let odd = "GET /up/a%0d%1b?secret=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: a\"b\u{2028}\r\n\r\n";
        assert_eq!(client.send(odd).answer().status, 400);
        program.line("request", "kind", "GET");
        let lines: Vec<Value> = program
            .log()
            .iter()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let requests = lines
            .iter()
            .filter(|line| of(line, "msg").map(text).as_deref() == Some("request"));
        let kinds: Vec<_> = requests.filter_map(|line| of(line, "kind").map(text)).collect();
        assert_eq!(kinds.join(" "), told, "{packets}");
        assert!(
            !program.log().iter().any(|line| line.contains("secret")),
            "queries may hold secrets"
        );
    }
}
