//! Our client through the servers that people put in front, configured as deploy/fronts says.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bits_gateway::client::raw::{Connection, Packet};
use bits_gateway::client::{Pattern, Sizes, Source, Upload};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Config, Gateway, MIB, PART, Place, assert_same, content, seed, until};

/// Where the configurations say that the front and the gateway are.
const FRONT: &str = "127.0.0.1:8000";
const GATEWAY: &str = "127.0.0.1:8080";

/// The largest fragment of a Windows client.
const LARGEST: u64 = 13 * MIB;

/// A server in front of a gateway; ended with the test.
struct Front {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Front {
    /// Starts `program` with the configuration of this name, changed by `change`. `None`: it is not installed.
    async fn start(
        program: &str,
        args: &[&str],
        file: &str,
        gateway: SocketAddr,
        change: impl Fn(String) -> String,
    ) -> Option<Self> {
        let program = find(program)?;
        let folder = tempfile::tempdir().expect("room for a file");
        let address = TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("bound");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("deploy/fronts").join(file)).expect("a configuration");
        let port = |address: SocketAddr| format!("port_value: {}", address.port());
        let text = text
            .replace(FRONT, &address.to_string())
            .replace(GATEWAY, &gateway.to_string())
            .replace("port_value: 8000", &port(address))
            .replace("port_value: 8080", &port(gateway));
        let config = folder.path().join(file);
        std::fs::write(&config, change(text)).expect("room for a file");
        let fill = |arg: &&str| {
            arg.replace("FILE", config.to_str().expect("text"))
                .replace("FOLDER", folder.path().to_str().expect("text"))
        };
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(args.iter().map(fill))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("it is installed");
        let log = folder.path().join("log");
        let mut front = Self {
            child,
            address,
            _folder: folder,
        };
        until("the front listens", async || {
            let ended = front.child.try_wait().expect("its state");
            assert_eq!(ended, None, "{}", std::fs::read_to_string(&log).unwrap_or_default());
            TcpStream::connect(address).ok()
        })
        .await;
        Some(front)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Their workers end only with a word to the first process.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let tools = std::env::var_os("BITS_GATEWAY_TEST_TOOLS").map(|tools| PathBuf::from(tools).join("fronts/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .chain(tools)
        .map(|folder| folder.join(program))
        .find(|program| program.exists())
}

/// A gateway behind such a server.
async fn gateway(place: &Place, proxy_protocol: bool) -> Gateway {
    let lines = place.lines("part_size = \"5MiB\"");
    let config = Config::new()
        .server(&format!(
            "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = {proxy_protocol}"
        ))
        .route("/up/", &lines);
    Gateway::start(&config).await
}

/// Uploads through the front; it has to be there when it `must`.
async fn travels_through(program: &str, args: &[&str], file: &str, must: bool) {
    let place = Place::directory();
    let gateway = gateway(&place, file.contains("tcp")).await;
    let Some(front) = Front::start(program, args, file, gateway.address, |text| text).await else {
        assert!(!must, "{program} is missing: .ci/need test installs it");
        println!("SKIPPED: {program} is not installed; docs/fronts.md says how the others are");
        return;
    };
    let pattern = Pattern {
        seed: seed(1300),
        length: 3 * LARGEST + PART + 7,
    };
    for (name, sizes) in [
        ("large", Sizes::Fixed(LARGEST)),
        (
            "small",
            Sizes::Varying {
                least: 64 << 10,
                most: 3 * MIB,
            },
        ),
    ] {
        let url = format!("http://{}/up/{name}.bin", front.address)
            .parse()
            .expect("a URL");
        let mut upload = Upload::new(url, Source::Pattern(pattern));
        upload.options.sizes = sizes;
        let done = upload.run(|_| {}).await.expect("nothing is in the way");
        assert_eq!(done.bytes, pattern.length, "no byte was sent twice: {done:?}");
        let stored = place.object(&format!("{name}.bin")).await.expect("it is in the store");
        assert_same(&content(pattern.seed, pattern.length), &stored, name);
    }
    let clients = gateway.requests(|line| {
        let client = line.get("client").and_then(Value::as_str)?;
        (line.get("msg").and_then(Value::as_str) == Some("request")).then(|| client.to_owned())
    });
    assert!(!clients.is_empty());
    // Of a client that a header names, the port is not known; the one that is announced has its own.
    let is_named = |client: &String| client.ends_with(":0") != file.contains("tcp");
    assert!(clients.iter().all(is_named), "{clients:?}");
}

#[tokio::test]
async fn uploads_travel_through_nginx() {
    travels_through("nginx", &["-p", "FOLDER", "-c", "FILE"], "nginx.conf", true).await;
}

#[tokio::test]
async fn uploads_travel_through_haproxy() {
    travels_through("haproxy", &["-f", "FILE"], "haproxy.cfg", true).await;
}

#[tokio::test]
async fn uploads_travel_through_haproxy_that_announces_its_clients() {
    travels_through("haproxy", &["-f", "FILE"], "haproxy-tcp.cfg", true).await;
}

#[tokio::test]
async fn uploads_travel_through_apache() {
    let args = ["-X", "-d", "FOLDER", "-f", "FILE"];
    travels_through("apache2", &args, "apache.conf", false).await;
}

#[tokio::test]
async fn uploads_travel_through_caddy() {
    let args = ["run", "--config", "FILE", "--adapter", "caddyfile"];
    travels_through("caddy", &args, "Caddyfile", false).await;
}

#[tokio::test]
async fn uploads_travel_through_envoy() {
    travels_through("envoy", &["-c", "FILE", "--base-id", "4711"], "envoy.yaml", false).await;
}

/// What docs/fronts.md warns of.
#[tokio::test]
async fn nginx_that_nobody_told_otherwise_refuses_fragments() {
    let place = Place::directory();
    let gateway = gateway(&place, false).await;
    let without = |text: String| text.replace("client_max_body_size 0;", "");
    let front = Front::start(
        "nginx",
        &["-p", "FOLDER", "-c", "FILE"],
        "nginx.conf",
        gateway.address,
        without,
    )
    .await;
    let front = front.expect("nginx is missing: .ci/need test installs it");
    let mut connection = Connection::open(front.address).await.expect("it listens");
    let fragment = Packet::fragment(
        "/up/f.bin",
        "{00000000-0000-0000-0000-000000000001}",
        0..2 * MIB,
        2 * MIB,
    );
    let body = vec![0; 2 << 20];
    let answer = connection.ask_with(&fragment, &body).await.expect("an answer");
    assert_eq!(answer.status, 413);
}
