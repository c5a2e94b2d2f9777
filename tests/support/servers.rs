//! Real storage servers on this machine, for as long as a test runs. A server that is not installed fails the test: see `make test-tools`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bits_gateway::store::Settings;
use bits_gateway::units::SecretOr;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use tempfile::TempDir;

/// Linux gives ports from 32768 on to whoever asks for any.
const NOT_GIVEN_AWAY: Range<u16> = 16_384..32_768;

/// How long a server may take to begin: they share the machine with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Name and key of the one account that Azurite has; public.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The bucket, or container, that every server begins with.
const BUCKET: &str = "bucket";

/// What a server makes of signatures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Signatures {
    Demanded,
    Welcome,
    Ignored,
}

/// SeaweedFS: an S3 server.
pub(crate) struct SeaweedFs {
    server: Server,
    filer: u16,
    port: u16,
    metrics: u16,
    master: u16,
}

impl SeaweedFs {
    /// Begins one with an empty bucket.
    ///
    /// # Panics
    /// When it is not installed or does not begin.
    pub(crate) fn start() -> Self {
        Self::begin(Signatures::Demanded)
    }

    /// The same, but it asks nobody for a signature: what a proxy changes on the way is taken all the same.
    #[allow(dead_code, reason = "shared: other tests need the other half")]
    pub(crate) fn start_for_everybody() -> Self {
        Self::begin(Signatures::Ignored)
    }

    /// The same, but who does sign has to do it right.
    #[allow(dead_code, reason = "shared: other tests need the other half")]
    pub(crate) fn start_for_signed_and_unsigned() -> Self {
        Self::begin(Signatures::Welcome)
    }

    /// Ports that were free a moment ago may be taken when the server gets to them: then it is begun again.
    fn begin(signatures: Signatures) -> Self {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::attempt(signatures) {
                Ok(server) => return server,
                Err(why) if attempts < 3 && why.contains("address already in use") => {}
                Err(why) => panic!("{why}"),
            }
        }
    }

    fn attempt(signatures: Signatures) -> Result<Self, String> {
        // Every port has a second one for its protocol between servers, which it would else choose by itself.
        let ports = free_ports::<9>();
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder for data");
        let identities = folder.path().join("s3.json");
        let known = r#"{"name":"t","credentials":[{"accessKey":"testkey12345","secretKey":"testsecret12345"}],"actions":["Admin","Read","Write","List","Tagging"]}"#;
        let others = match signatures {
            Signatures::Welcome => r#",{"name":"anonymous","actions":["Admin","Read","Write","List","Tagging"]}"#,
            Signatures::Demanded | Signatures::Ignored => "",
        };
        fs::write(&identities, format!(r#"{{"identities":[{known}{others}]}}"#)).expect("a file");

        let mut command = Command::new(tool("seaweedfs/bin/weed"));
        // Else it leaves its logs in the folder for temporary files.
        command.arg(format!("-logdir={}", folder.path().display()));
        command.arg("server");
        command.arg(format!("-dir={}", data.display()));
        command.args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]);
        command.args(["-master.volumeSizeLimitMB=1024", "-volume.max=100"]);
        if signatures != Signatures::Ignored {
            command.arg(format!("-s3.config={}", identities.display()));
        }
        let names = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
            "metricsPort",
        ];
        for (name, port) in names.iter().zip(ports) {
            command.arg(format!("-{name}={port}"));
        }
        let [master, .., filer, _, port, _, metrics] = ports;
        let server = Server::start(command, folder);
        let mut started = Self {
            server,
            filer,
            port,
            metrics,
            master,
        };
        started.wait()?;
        Ok(started)
    }

    /// `kill -9`, and a new process on the same ports with the same data: again, when somebody took one of them meanwhile.
    pub(crate) fn kill_and_start_again(&mut self) {
        let begin = Instant::now();
        loop {
            self.server.kill_and_start_again();
            match self.wait() {
                Ok(()) => return,
                Err(why) if begin.elapsed() < PATIENCE && why.contains("address already in use") => pause(),
                Err(why) => panic!("{why}"),
            }
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        let (filer, port) = (self.filer, self.port);
        let (bucket, file) = (format!("POST /buckets/{BUCKET}/ HTTP/1.1"), "PUT /ready HTTP/1.1");
        self.server.wait_until("the file server makes folders", || {
            answers(filer, &bucket, "", &["201", "409"])
        })?;
        // A file with content needs a volume, which is there a little later.
        self.server.wait_until("the file server takes files", || {
            answers(filer, file, "ready", &["201"])
        })?;
        // Without a signature it refuses, which is an answer.
        self.server.wait_until("the S3 server answers", || {
            answers(port, &format!("GET /{BUCKET} HTTP/1.1"), "", &["403", "200"])
        })
    }

    /// Settings of a store in the bucket, below `prefix`.
    pub(crate) fn settings(&self, prefix: &str) -> Settings {
        self.settings_via(self.port, prefix)
    }

    /// The same for a store that is reached through a proxy.
    pub(crate) fn settings_via(&self, port: u16, prefix: &str) -> Settings {
        settings(
            format!("s3://{BUCKET}/{prefix}"),
            [
                ("aws_endpoint", format!("http://127.0.0.1:{port}")),
                ("aws_access_key_id", "testkey12345".to_owned()),
                ("aws_secret_access_key", "testsecret12345".to_owned()),
                ("aws_region", "us-east-1".to_owned()),
            ],
        )
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where it tells of itself on 127.0.0.1, below `/metrics`.
    #[allow(dead_code, reason = "shared: other tests need the other half")]
    pub(crate) const fn metrics(&self) -> u16 {
        self.metrics
    }

    /// Where it takes orders on 127.0.0.1, such as to give the disk back what was deleted (`/vol/vacuum`).
    #[allow(dead_code, reason = "shared: other tests need the other half")]
    pub(crate) const fn master(&self) -> u16 {
        self.master
    }

    /// What the server wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }
}

/// Azurite: an Azure Blob server.
pub(crate) struct Azurite {
    server: Server,
    port: u16,
}

impl Azurite {
    /// Begins one with an empty container.
    ///
    /// # Panics
    /// When it is not installed or does not begin.
    pub(crate) fn start() -> Self {
        let [port] = free_ports();
        let folder = TempDir::new().expect("a folder");
        let mut command = Command::new(tool("azurite/node_modules/.bin/azurite-blob"));
        command.args([
            "--silent",
            "--blobHost",
            "127.0.0.1",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ]);
        command.args(["--blobPort", &port.to_string()]);
        command.arg("--location").arg(folder.path().join("data"));
        let mut server = Server::start(command, folder);
        let head = new_container(port);
        let made = server.wait_until("it makes a container", || answers(port, &head, "", &["201", "409"]));
        made.unwrap_or_else(|why| panic!("{why}"));
        Self { server, port }
    }

    /// Settings of a store in the container, below `prefix`.
    pub(crate) fn settings(&self, prefix: &str) -> Settings {
        self.settings_via(self.port, prefix)
    }

    /// The same for a store that is reached through a proxy.
    pub(crate) fn settings_via(&self, port: u16, prefix: &str) -> Settings {
        settings(
            format!("az://{BUCKET}/{prefix}"),
            [
                ("azure_storage_account_name", AZURITE_ACCOUNT.to_owned()),
                ("azure_storage_account_key", AZURITE_KEY.to_owned()),
                (
                    "azure_storage_endpoint",
                    format!("http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"),
                ),
            ],
        )
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What the server wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }
}

/// The signed head of a request for a new container.
fn new_container(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/{AZURITE_ACCOUNT}/{BUCKET}?restype=container");
    let mut request = http::Request::put(url)
        .body(HttpRequestBody::empty())
        .expect("a request");
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(AZURITE_KEY).expect("a key"));
    AzureAuthorizer::new(&key, AZURITE_ACCOUNT)
        .try_authorize(&mut request)
        .expect("a signature");
    let line = format!("PUT {} HTTP/1.1", request.uri().path_and_query().expect("a path"));
    let fields = request
        .headers()
        .iter()
        .map(|(name, value)| format!("\r\n{name}: {}", value.to_str().expect("text")));
    line + &fields.collect::<String>()
}

fn settings<const N: usize>(url: String, options: [(&str, String); N]) -> Settings {
    let options = options.map(|(key, value)| (key.to_owned(), SecretOr::Plain(value)));
    Settings {
        url,
        options: BTreeMap::from(options),
        ..Settings::default()
    }
}

/// A process that ends with its owner, and its folder.
struct Server {
    command: Command,
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start(mut command: Command, folder: TempDir) -> Self {
        let log = File::create(folder.path().join("log")).expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let process = spawn(&mut command);
        Self {
            command,
            process,
            folder,
        }
    }

    fn kill_and_start_again(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
        self.process = spawn(&mut self.command);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks again and again until it is ready.
    fn wait_until(&mut self, goal: &str, ready: impl Fn() -> bool) -> Result<(), String> {
        let begin = Instant::now();
        while !ready() {
            let ended = self.process.try_wait().expect("its state");
            let late = begin.elapsed() > PATIENCE;
            if ended.is_some() || late {
                let how = ended.map_or_else(|| "not in time".to_owned(), |status| format!("it ended: {status}"));
                return Err(format!(
                    "waiting until {goal}: {how}\n{:?}\n{}",
                    self.command,
                    self.log()
                ));
            }
            pause();
        }
        Ok(())
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A little time between two questions.
#[expect(
    clippy::disallowed_methods,
    reason = "the server is a process of its own, and says nothing when it is ready"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Whether a request is answered with one of these statuses.
fn answers(port: u16, head: &str, body: &str, statuses: &[&str]) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let length = body.len();
        let fields = format!("host: 127.0.0.1:{port}\r\ncontent-length: {length}\r\nconnection: close");
        write!(stream, "{head}\r\n{fields}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| {
        answer
            .split(' ')
            .nth(1)
            .is_some_and(|status| statuses.contains(&status))
    })
}

/// Ports that nobody uses now, and that nobody is given who asks for any: they stay free while a server is killed and started again.
fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until the last one is known: each is given once.
    let held = [(); N].map(|()| {
        let anywhere = || NOT_GIVEN_AWAY.start + (RandomState::new().hash_one(()) % NOT_GIVEN_AWAY.len() as u64) as u16;
        let mut tries = std::iter::repeat_with(anywhere).take(1000);
        tries
            .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            .expect("a port")
    });
    held.map(|listener| listener.local_addr().expect("its address").port())
}

/// Where a server is installed.
pub(crate) fn tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools =
        std::env::var_os("BITS_GATEWAY_TEST_TOOLS").map_or_else(|| root.join("target/test-tools"), PathBuf::from);
    let tool = tools.join(name);
    assert!(
        tool.exists(),
        "{} is missing: `make test-tools` installs what the tests need (or set BITS_GATEWAY_TEST_TOOLS to where it is)",
        tool.display()
    );
    tool
}
