//! A gateway as somebody would start it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running gateway; killed when it is dropped.
pub struct Gateway {
    child: Child,
    pub address: String,
    pub admin: String,
}

/// The program that is under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    // The settings of whoever runs the tests are none of theirs.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

impl Gateway {
    /// Starts `command serve …` on free ports with `more` arguments, and waits until it is ready.
    pub fn start(mut command: Command, more: &[&str]) -> Self {
        let [address, admin] = free_addresses();
        let child = command
            .args(["serve", "--listen", &address, "--admin-listen", &admin])
            .args(more)
            .stdin(Stdio::null())
            // Some of what starts a gateway leaves it behind when it is killed itself.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut gateway = Self { child, address, admin };
        until("the gateway is ready", || {
            let ended = gateway.child.try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {ended:?}");
            get(&gateway.admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Polls until `done`, at most a minute.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a GET answers: head and body.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn free_addresses<const N: usize>() -> [String; N] {
    // All at once, so that they differ.
    let listeners: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

/// Runs a command and returns what it prints; fails with everything that it said.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The lines of a shell, stopping at the first that fails, in `folder`.
pub fn shell(folder: &Path, lines: &str) -> String {
    output(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", lines])
            // A proxy of whoever runs the tests does not lead to this machine.
            .env("no_proxy", "127.0.0.1")
            .current_dir(folder),
    )
}
