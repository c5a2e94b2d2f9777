//! A real server application: a process of its own, judged by the bytes that it stored.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::until;

/// A running application; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Application {
    child: Child,
    folder: TempDir,
    pub(crate) port: u16,
}

/// The head of a request that it got.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) target: String,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Application {
    /// One that answers its n-th request as the n-th entry of `plan` says, and all further ones as the last.
    pub(crate) fn start(plan: &Value) -> Self {
        Self::begin(plan, &[])
    }

    /// The same over TLS.
    pub(crate) fn start_tls(plan: &Value, certificate: &Path, key: &Path) -> Self {
        Self::begin(plan, &[certificate, key])
    }

    fn begin(plan: &Value, tls: &[&Path]) -> Self {
        let folder = tempfile::tempdir().expect("room for files");
        std::fs::write(folder.path().join("plan.json"), plan.to_string()).expect("room for a file");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journey/support/application.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(folder.path())
            .args(tls)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut said)
            .expect("it says its port");
        let port = said.trim().parse().expect("a port");
        Self { child, folder, port }
    }

    /// Where it is told, with `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Lets those answers out that wait.
    pub(crate) fn go(&self) {
        std::fs::write(self.folder.path().join("go"), b"").expect("room for a file");
    }

    /// How often it was told.
    pub(crate) fn count(&self) -> usize {
        (0..).take_while(|number| self.file(*number, "head").exists()).count()
    }

    /// Waits until it was told for the `number`th time, counted from 0.
    pub(crate) async fn told(&self, number: usize) -> Heard {
        let head = self.file(number, "head");
        let text = until("the application is told", async || std::fs::read_to_string(&head).ok()).await;
        let head: Value = serde_json::from_str(&text).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let headers = head["headers"].as_array().expect("a list").iter();
        Heard {
            target: text(&head["target"]),
            headers: headers.map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        }
    }

    /// The whole body of that request, if it came whole.
    pub(crate) fn body(&self, number: usize) -> Option<Bytes> {
        std::fs::read(self.file(number, "body")).ok().map(Bytes::from)
    }

    /// What it read from where the request said that the file lies.
    pub(crate) fn read(&self, number: usize) -> Option<Bytes> {
        std::fs::read(self.file(number, "read")).ok().map(Bytes::from)
    }

    /// Waits until that body is there.
    pub(crate) async fn whole(&self, number: usize) {
        until("the application has the file", async || self.body(number).map(drop)).await;
    }

    fn file(&self, number: usize, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{number}.{kind}"))
    }
}

impl Heard {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A plan of one answer for everything.
pub(crate) fn always(answer: Value) -> Value {
    json!([answer])
}

/// Bytes of a long reply.
pub(crate) fn long_reply(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

impl Drop for Application {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
