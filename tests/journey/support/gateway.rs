//! The real program.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use bits_gateway::client::raw::{Answer, Packet, exchange};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use super::{PATIENCE, until};

/// The program, without the settings of whoever runs the tests.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A configuration on free ports.
#[derive(Clone, Debug)]
pub struct Config(String);

impl Config {
    pub fn new() -> Self {
        let server = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\ndrain_delay = \"0s\"\n";
        Self(format!("{server}[log]\nformat = \"json\"\n"))
    }

    /// As the file that it is.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// With these lines of `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.0 = self.0.replacen("[server]\n", &format!("[server]\n{lines}\n"), 1);
        self
    }

    /// With these lines of `[limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.0 += &format!("[limits]\n{lines}\n");
        self
    }

    /// With a route below `path`; `lines` say where it keeps its files and what its rules are.
    pub fn route(mut self, path: &str, lines: &str) -> Self {
        self.0 += &format!("[[routes]]\npath = \"{path}\"\ndownload = true\n{lines}\n");
        self
    }

    /// Writes it into a folder. Where it is.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("gateway.toml");
        std::fs::write(&path, &self.0).expect("room for a file");
        path
    }
}

impl From<String> for Config {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A running gateway; killed when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: watch::Receiver<Vec<String>>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    _files: TempDir,
}

impl Gateway {
    /// Starts it and waits until it is ready.
    pub async fn start(config: &Config) -> Self {
        let mut gateway = Self::launch(config).await;
        gateway.ready().await;
        gateway
    }

    /// Starts it and waits until it listens.
    pub async fn launch(config: &Config) -> Self {
        let files = tempfile::tempdir().expect("room for a file");
        let mut child = program()
            .args(["serve", "--config"])
            .arg(config.write(files.path()))
            .current_dir(files.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let (sender, log) = watch::channel(Vec::new());
        listen_to(child.stdout.take().expect("piped"), sender.clone());
        listen_to(child.stderr.take().expect("piped"), sender);
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self {
            child,
            log,
            address: unknown,
            admin: unknown,
            _files: files,
        };
        gateway.address = gateway.listener("gateway").await;
        gateway.admin = gateway.listener("admin").await;
        gateway
    }

    async fn listener(&mut self, name: &str) -> SocketAddr {
        self.logged(&format!("it listens for {name}"), |line| {
            let is_it = line.get("listener").and_then(Value::as_str) == Some(name);
            is_it.then(|| line.get("address")?.as_str()?.parse().ok()).flatten()
        })
        .await
    }

    /// Waits for a line of the log.
    pub async fn logged<T>(&mut self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let mut found = None;
        let look = self.log.wait_for(|lines| {
            found = lines
                .iter()
                .filter_map(|line| find(&serde_json::from_str(line).ok()?))
                .next();
            found.is_some()
        });
        let seen = timeout(PATIENCE, look).await.is_ok_and(|seen| seen.is_ok());
        assert!(seen, "in vain: {what}\n{}", self.last_lines());
        found.expect("seen")
    }

    /// The lines of the access log that `pick` picks.
    pub fn requests<T>(&self, pick: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let lines = self.log.borrow();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        parsed.filter_map(|line: Value| pick(&line)).collect()
    }

    /// Waits until it is ready for every store.
    pub async fn ready(&mut self) {
        until("it is ready", async || {
            (self.page("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// A page of the admin listener.
    pub async fn page(&mut self, path: &str) -> Answer {
        let page = exchange(self.admin, Packet::new("GET", path).with("Connection", "close"), b"").await;
        page.unwrap_or_else(|error| {
            panic!(
                "{path}: {error}; it is {:?}\n{}",
                self.child.try_wait(),
                self.last_lines()
            )
        })
    }

    /// A number in `/metrics`: the sum over all labels of this name.
    pub async fn metric(&mut self, name: &str) -> f64 {
        let page = self.page("/metrics").await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{'])
                .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())
                .flatten()
        });
        values.sum()
    }

    /// Where `path` is on this gateway.
    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().expect("a URL")
    }

    /// Every line of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Fetches a file, if there is one.
    pub async fn get(&self, path: &str) -> Option<Answer> {
        let answer = exchange(self.address, Packet::new("GET", path), b"")
            .await
            .expect("an answer");
        assert!(matches!(answer.status, 200 | 404), "{path}: {}", answer.status);
        (answer.status == 200).then_some(answer)
    }

    /// The highest resident set so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that is the process's own now, in bytes: without pages of files that are mapped.
    pub(crate) fn memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a line of /proc");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib << 10
    }

    /// Waits until it ends by itself: its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        until("it ends", async || self.child.try_wait().expect("a child"))
            .await
            .code()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    }

    /// `kill -9`, and nothing is left of it but its files.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("a child");
        assert_eq!(
            status.code(),
            None,
            "it ended by itself: {status}\n{}",
            self.last_lines()
        );
    }

    fn last_lines(&self) -> String {
        let lines = self.log.borrow();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the last words of the gateway:\n{}", self.last_lines());
        }
    }
}

fn listen_to(pipe: impl Read + Send + 'static, log: watch::Sender<Vec<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.send_modify(|lines| lines.push(line));
        }
    });
}
