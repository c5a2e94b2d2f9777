//! Everything that is measured, and what it is measured against.

pub(crate) mod engine;
pub(crate) mod gateway;
pub(crate) mod nginx;
mod nothing;
pub(crate) mod process;
mod role;
pub(crate) mod sink;
#[path = "../../../tests/support/servers.rs"]
#[allow(dead_code, reason = "shared: the tests need the other half")]
mod stores;
pub(crate) mod tls;
mod tus;
mod yes;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use bits_gateway::clock::random_id;
use bits_gateway::telemetry::Packets;

use crate::content;
use crate::load::{Client, Load, Ran, Style, run};
use process::Process;
use tls::Front;

pub(crate) use stores::SeaweedFs;

/// Threads of every server, or workers: as many as the machine of the targets has.
pub(crate) const THREADS: usize = 2;

/// Work that needs no server, and says how it went.
type Work = Box<dyn Fn(Load, &str) -> io::Result<Ran>>;

/// Something that is measured.
pub(crate) struct Running {
    /// One process, or several replicas.
    processes: Vec<Process>,
    /// What is done instead of sending to a server.
    work: Option<Work>,
    addresses: Vec<SocketAddr>,
    style: Style,
    proof: Proof,
    /// Where the store behind it tells how many requests it has answered.
    store: Option<SocketAddr>,
}

/// How it is known that the content came through.
pub(crate) enum Proof {
    /// The server says what it took.
    Own,
    /// So does the server behind it.
    Behind(Process),
    /// The files lie in this folder.
    Folder(PathBuf),
    /// The files can be fetched here, below this path; the store is tidied by way of its master.
    Bucket {
        address: SocketAddr,
        path: String,
        master: SocketAddr,
    },
    /// There is no content.
    None,
}

impl Proof {
    fn bucket(seaweed: &SeaweedFs, prefix: &str) -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self::Bucket {
            address: at(seaweed.port()),
            path: format!("/bucket/{prefix}"),
            master: at(seaweed.master()),
        }
    }
}

impl Running {
    /// A server that was started.
    pub(crate) fn server(process: Process, address: SocketAddr, style: Style, proof: Proof) -> Self {
        Self {
            processes: vec![process],
            ..Self::elsewhere(address, style)
        }
        .proving(proof)
    }

    fn proving(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }

    /// In front of this store.
    fn before(self, seaweed: &SeaweedFs) -> Self {
        Self {
            store: Some(SocketAddr::from(([127, 0, 0, 1], seaweed.metrics()))),
            ..self
        }
    }

    /// A server that somebody else keeps, and whose costs are not counted.
    pub(crate) fn elsewhere(address: SocketAddr, style: Style) -> Self {
        Self {
            processes: Vec::new(),
            work: None,
            addresses: vec![address],
            style,
            proof: Proof::None,
            store: None,
        }
    }

    /// Work in this process, which fails when its content is not as it has to be.
    pub(crate) fn here(work: impl Fn(Load, &str) -> io::Result<Ran> + 'static) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            work: Some(Box::new(work)),
            ..Self::elsewhere(nowhere, Style::Puts)
        }
    }

    /// A server of this program, by the name of its role.
    pub(crate) fn role(role: &str) -> io::Result<Self> {
        let (process, address) = Process::start_role(&[role.to_owned()])?;
        Ok(Self::server(process, address, Style::Sessions, Proof::Own))
    }

    /// The same, but nobody counts what it takes.
    pub(crate) fn uncounted(role: &str, style: Style) -> io::Result<Self> {
        let (process, address) = Process::start_role(&[role.to_owned()])?;
        Ok(Self::server(process, address, style, Proof::None))
    }

    /// nginx in front of a sink.
    pub(crate) fn proxy() -> io::Result<Self> {
        let (sink, behind) = Process::start_role(&["sink".to_owned()])?;
        let upstream = behind.to_string();
        let (process, address) = nginx::start(include_str!("../nginx/proxy.conf"), &[("{UPSTREAM}", &upstream)])?;
        Ok(Self::server(process, address, Style::Sessions, Proof::Behind(sink)))
    }

    /// nginx that puts files on the disk.
    pub(crate) fn dav() -> io::Result<Self> {
        let (process, address) = nginx::start(include_str!("../nginx/dav.conf"), &[])?;
        let files = process.folder().join("files/up");
        Ok(Self::server(process, address, Style::Puts, Proof::Folder(files)))
    }

    /// The gateway over a directory.
    pub(crate) fn local() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let files = folder.path().join("files");
        let (process, address) = gateway::start(folder, "", &gateway::route_to(&files))?;
        Ok(Self::server(process, address, Style::Sessions, Proof::Folder(files)))
    }

    /// The gateway over a bucket, with these further options of the store.
    pub(crate) fn s3(seaweed: &SeaweedFs, options: &str) -> io::Result<Self> {
        // Whoever comes later finds a bucket without his files.
        let prefix = random_id().to_string();
        let sections = gateway::route_to_bucket(seaweed, &prefix, options, "");
        let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
        let proof = Proof::bucket(seaweed, &prefix);
        Ok(Self::server(process, address, Style::Sessions, proof).before(seaweed))
    }

    /// The gateway over a bucket that is reached by https, with these further options of the store.
    pub(crate) fn s3_https(seaweed: &SeaweedFs, front: &Front, options: &str) -> io::Result<Self> {
        let prefix = random_id().to_string();
        let sections = gateway::route_to_bucket(seaweed, &prefix, options, "");
        let plain = format!("http://127.0.0.1:{}", seaweed.port());
        let sections = sections.replace(&plain, &format!("https://{}", front.address()));
        let authority = front.authority();
        let (process, address) = gateway::start_believing(Some(&authority), tempfile::tempdir()?, "", &sections)?;
        Ok(Self::server(process, address, Style::Sessions, Proof::bucket(seaweed, &prefix)).before(seaweed))
    }

    /// So many gateways over one bucket.
    pub(crate) fn replicas(seaweed: &SeaweedFs, count: usize, style: Style) -> io::Result<Self> {
        let prefix = random_id().to_string();
        let sections = gateway::route_to_bucket(seaweed, &prefix, "", "");
        let (mut processes, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
            processes.push(process);
            addresses.push(address);
        }
        let running = Self {
            processes,
            work: None,
            addresses,
            style,
            proof: Proof::bucket(seaweed, &prefix),
            store: None,
        };
        Ok(running.before(seaweed))
    }

    /// tus in front of a bucket.
    pub(crate) fn tus(seaweed: &SeaweedFs) -> io::Result<Self> {
        let prefix = random_id().to_string();
        let endpoint = format!("http://127.0.0.1:{}", seaweed.port());
        let (process, address) = tus::start(&endpoint, &prefix)?;
        Ok(Self::server(process, address, Style::Tus, Proof::bucket(seaweed, &prefix)).before(seaweed))
    }

    /// nginx in front of a bucket.
    pub(crate) fn proxy_to_bucket(seaweed: &SeaweedFs) -> io::Result<Self> {
        let upstream = format!("127.0.0.1:{}", seaweed.port());
        Self::nginx_to_bucket(
            seaweed,
            &[("{UPSTREAM}", &upstream), ("{SCHEME}", "http"), ("{TLS}", "")],
        )
    }

    /// The same over https.
    pub(crate) fn proxy_to_bucket_https(seaweed: &SeaweedFs, front: &Front) -> io::Result<Self> {
        let upstream = front.address().to_string();
        let tls = format!(
            "proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate {};",
            front.authority().display()
        );
        Self::nginx_to_bucket(
            seaweed,
            &[("{UPSTREAM}", &upstream), ("{SCHEME}", "https"), ("{TLS}", &tls)],
        )
    }

    fn nginx_to_bucket(seaweed: &SeaweedFs, values: &[(&str, &str)]) -> io::Result<Self> {
        let prefix = random_id().to_string();
        let values = [values, &[("{PREFIX}", prefix.as_str())]].concat();
        let (process, address) = nginx::start(include_str!("../nginx/bucket.conf"), &values)?;
        Ok(Self::server(process, address, Style::Puts, Proof::bucket(seaweed, &prefix)).before(seaweed))
    }

    /// Requests that the store has answered so far; 0 where nobody counts them.
    pub(crate) fn store_requests(&self) -> io::Result<f64> {
        let Some(address) = self.store else { return Ok(0.0) };
        // HTTP/1.0: what is counted comes in one piece, up to the end of the connection.
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        connection.read_to_string(&mut page)?;
        let counts = page
            .lines()
            .filter(|line| line.starts_with("SeaweedFS_s3_request_total{"));
        Ok(counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        self.processes.iter().map(Process::cpu).sum()
    }

    pub(crate) fn forget_peak(&self) {
        self.processes.iter().for_each(Process::forget_peak);
    }

    /// The highest resident set, in bytes: of all processes together.
    pub(crate) fn peak(&self) -> u64 {
        self.processes.iter().map(Process::peak).sum()
    }

    /// Puts `load` on it.
    pub(crate) fn bear(&self, load: Load, round: &str) -> io::Result<Ran> {
        match &self.work {
            Some(work) => work(load, round),
            None => run(&self.addresses, self.style, load, round),
        }
    }

    /// A round begins. `looks`: every byte is compared, which costs the server time.
    pub(crate) fn begin(&mut self, looks: bool) -> io::Result<()> {
        let question = if looks { "look" } else { "begin" };
        match &mut self.proof {
            Proof::Own => own(&mut self.processes)?.ask(question).map(drop),
            Proof::Behind(sink) => sink.ask(question).map(drop),
            Proof::Folder(_) | Proof::Bucket { .. } | Proof::None => Ok(()),
        }
    }

    /// Whether all of the load came through as it was sent; clears it away.
    pub(crate) fn check(&mut self, load: Load, round: &str) -> io::Result<()> {
        let wanted = load.bytes();
        let told = match &mut self.proof {
            Proof::Own => own(&mut self.processes)?.ask("count")?,
            Proof::Behind(sink) => sink.ask("count")?,
            Proof::None => return Ok(()),
            Proof::Folder(folder) => {
                let read = |name: &str| fs::read(folder.join(name));
                let found = compare(load, self.style, round, read)?;
                for (name, ..) in load.names(self.style, round) {
                    fs::remove_file(folder.join(name))?;
                }
                found
            }
            Proof::Bucket { address, path, master } => {
                let mut client = Client::connect(*address)?;
                let found = compare(load, self.style, round, |name| {
                    client.ask("GET", &format!("{path}/{name}")).map(|answer| answer.body)
                })?;
                for (name, ..) in load.names(self.style, round) {
                    client.ask("DELETE", &format!("{path}/{name}"))?;
                }
                // It keeps what was deleted until half of a volume is: some dozens of gibibytes in a run.
                Client::connect(*master)?.ask("GET", "/vol/vacuum?garbageThreshold=0.01")?;
                found
            }
        };
        if told == format!("{wanted} 0") {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{wanted} bytes were sent; counted and found wrong: {told}"
        )))
    }
}

fn own(processes: &mut [Process]) -> io::Result<&mut Process> {
    processes
        .first_mut()
        .ok_or_else(|| io::Error::other("there is no server"))
}

/// The bytes of a round that are there, and how many of its files are wrong, as a server of ours tells them.
fn compare(
    load: Load,
    style: Style,
    round: &str,
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
) -> io::Result<String> {
    let (mut bytes, mut wrong) = (0, 0);
    for (name, from, length) in load.names(style, round) {
        let found = read(&name)?;
        bytes += found.len() as u64;
        let right = found.len() as u64 == length && content::is_at(from, &found);
        wrong += u64::from(!right);
    }
    Ok(format!("{bytes} {wrong}"))
}

/// Serves as one of the servers of this program. Never returns but on failure.
pub(crate) fn serve(role: &str) -> io::Result<()> {
    match role {
        "sink" => sink::serve(),
        "engine" => engine::serve(),
        "nothing" => gateway::serve_over_nothing(Packets::All),
        "silent" => gateway::serve_over_nothing(Packets::Errors),
        other => Err(io::Error::other(format!("no server is called {other}"))),
    }
}
