//! A server as a process: started, measured from outside, and ended with its owner.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// What begins a line that a server of ours says to us, and not to its log.
pub(crate) const MARK: &str = "bench: ";

/// Clock ticks in a second, as /proc counts: the same on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: Option<BufReader<ChildStderr>>,
    folder: TempDir,
}

impl Process {
    /// Starts a program with a folder of its own; what it prints goes into a file there, as a log does.
    pub(crate) fn start(command: &mut Command, folder: TempDir) -> io::Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self {
            child,
            said: None,
            folder,
        })
    }

    /// Starts this very program in the role of a server, which says where it listens.
    pub(crate) fn start_role(arguments: &[String]) -> io::Result<(Self, SocketAddr)> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(Stdio::piped())
            .spawn()?;
        let said = child.stderr.take().map(BufReader::new);
        let mut process = Self { child, said, folder };
        let address = process.hear()?.parse().map_err(io::Error::other)?;
        // The engine only opens its door after it has said which one.
        process.until("it listens", |_| TcpStream::connect(address).ok())?;
        Ok((process, address))
    }

    /// Asks a server of ours something, and waits for its answer.
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<String> {
        let stdin = self.child.stdin.as_mut().expect("a server of ours");
        writeln!(stdin, "{question}")?;
        self.hear()
    }

    fn hear(&mut self) -> io::Result<String> {
        let said = self.said.as_mut().expect("a server of ours");
        loop {
            let mut line = String::new();
            if said.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("it ended: {}", self.log())));
            }
            match line.trim_end().strip_prefix(MARK) {
                Some(answer) => return Ok(answer.to_owned()),
                None => eprint!("{line}"),
            }
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks again and again until there is an answer.
    pub(crate) fn until<T>(&mut self, goal: &str, mut look: impl FnMut(&Self) -> Option<T>) -> io::Result<T> {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if self.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("in vain: {goal}\n{}", self.log())));
            }
            pause();
        }
    }

    /// CPU seconds that it and its workers have used, in the kernel and outside of it.
    pub(crate) fn cpu(&self) -> f64 {
        self.family().into_iter().map(|id| cpu(id).unwrap_or(0.0)).sum()
    }

    /// The highest resident set of it and its workers, in bytes, since the last call of [`Process::forget_peak`].
    pub(crate) fn peak(&self) -> u64 {
        let peaks = self.family().into_iter().map(|id| status(id, "VmHWM:").unwrap_or(0));
        peaks.sum()
    }

    /// The resident set now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let sizes = self.family().into_iter().map(|id| status(id, "VmRSS:").unwrap_or(0));
        sizes.sum()
    }

    pub(crate) fn forget_peak(&self) {
        for id in self.family() {
            // Refused to other users only; the peak is then that of its whole life.
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    fn family(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(own).chain(children).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The workers first: they would outlive a master that is killed.
        for id in self.family().into_iter().rev() {
            let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn cpu(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program stands in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn status(id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// A port that nobody uses now, for programs that can't choose one by themselves.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// A little time between two questions.
#[expect(
    clippy::disallowed_methods,
    reason = "the server is a process of its own, and says nothing when it is ready"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
