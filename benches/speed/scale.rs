//! What grows, and what must not: memory of idle connections and sessions, the cost of a fragment as its file grows.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::thread;

use bits_gateway::clock::random_id;
use bits_gateway::gateway::raise_open_files;

use crate::Asked;
use crate::load::Client;
use crate::measure::CPU_PER_GB;
use crate::report::Bound::AtMost;
use crate::report::Report;
use crate::servers::process::Process;
use crate::servers::{SeaweedFs, gateway};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Connections from one address: it has some 28,000 ports.
const PER_ADDRESS: usize = 20_000;

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let mut report = Report::default();
    if asked.wants("connections") {
        for count in [1_000, 10_000, 50_000] {
            connections(&mut report, count)?;
        }
    }
    if asked.wants("sessions") {
        sessions(&mut report, 5_000)?;
    }
    if asked.wants("crowd") {
        crowd(&mut report, 500)?;
    }
    if asked.wants("parts") {
        parts(&mut report)?;
    }
    report.finish("scale", CPU_PER_GB)
}

fn per(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / count as f64 / KIB as f64
}

/// Resident memory of a connection that brought a file of 64 KiB and rests.
fn connections(report: &mut Report, count: usize) -> io::Result<()> {
    let needed = count as u64 + 1000;
    if raise_open_files(needed).is_some_and(|files| files < needed) {
        println!("SKIPPED: {count} connections: the system allows fewer open files");
        return Ok(());
    }
    let sections = format!(
        "[limits]\nconnections = {}\n[[routes]]\npath = \"/up/\"\nstore = \"memory:///\"\noverwrite = true\n",
        count + 10
    );
    let (process, address) = gateway::start(tempfile::tempdir()?, "keepalive_timeout = \"1h\"", &sections)?;
    let connect = connector()?;
    // All of them to one file: the store in memory holds it once, and the sessions that are over.
    let mut warm = connect(address, 0)?;
    for _ in 0..100 {
        warm.session("/up/f", 64 * KIB, 1, &mut Vec::new())?;
    }
    let before = process.resident();
    let mut idle = Vec::new();
    for number in 0..count {
        let mut client = connect(address, number)?;
        client.session("/up/f", 64 * KIB, 1, &mut Vec::new())?;
        idle.push(client);
    }
    let after = process.resident();
    // What the store keeps of as many sessions, without their connections.
    for _ in 0..count.min(5_000) {
        warm.session("/up/f", 64 * KIB, 1, &mut Vec::new())?;
    }
    let kept = per(after, process.resident(), count.min(5_000));
    let each = per(before, after, count) - kept;
    println!(
        "{count} connections: {each:.1} KiB each ({kept:.1} KiB more are what the store in memory keeps of the session)"
    );
    report.verdict(format!("{count} idle connections: KiB each"), each, AtMost(60.0));
    Ok(())
}

/// Opens connections, from as many addresses as it takes.
fn connector() -> io::Result<impl Fn(SocketAddr, usize) -> io::Result<Client>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(move |address, number: usize| {
        let octet = u8::try_from(number / PER_ADDRESS + 1).map_err(io::Error::other)?;
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, octet), 0)))?;
            socket.connect(address).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Client::over(stream)
    })
}

/// Resident memory of a session that nobody works on, right after its first fragment.
fn sessions(report: &mut Report, count: usize) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_everybody();
    let sections = gateway::route_to_bucket(&seaweed, &random_id().to_string(), "", "");
    let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
    let mut client = Client::connect(address)?;
    let mut begin = |number: usize| {
        let path = format!("/up/{number}");
        let session = client.create(&path)?;
        // Not a whole file: the session goes on.
        client.fragment(&path, &session, 0, 100, 200)
    };
    for number in 0..100 {
        begin(number)?;
    }
    let before = process.resident();
    for number in 100..count + 100 {
        begin(number)?;
    }
    let each = per(before, process.resident(), count);
    println!("{count} sessions: {each:.2} KiB each");
    report.verdict(format!("{count} idle sessions: KiB each"), each, AtMost(2.0));
    Ok(())
}

/// Memory beyond `limits.memory` while so many clients send at once, and come again when they are told to.
fn crowd(report: &mut Report, count: usize) -> io::Result<()> {
    const MEMORY: u64 = 128 * MIB;
    let files = tempfile::tempdir()?;
    let store = files.path().join("files");
    let sections = format!("[limits]\nmemory = \"{MEMORY}B\"\n[[routes]]\npath = \"/up/\"\nstore = {store:?}\n");
    let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
    process.forget_peak();
    let ready = Barrier::new(count);
    let told = thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let client = Client::connect(address);
                    ready.wait();
                    client?.patient_session(&format!("/up/{number}"), 13 * MIB, 1)
                })
            })
            .collect();
        let all = clients.into_iter().map(|client| client.join().expect("no panic"));
        all.sum::<io::Result<u64>>()
    })?;
    let more = process.peak().saturating_sub(MEMORY) as f64 / MIB as f64;
    println!("{count} clients with 13 MiB each: {more:.1} MiB more than limits.memory; {told} times 503");
    report.verdict(
        format!("{count} uploading clients: MiB beyond limits.memory"),
        more,
        AtMost(96.0),
    );
    Ok(())
}

/// Server CPU of a fragment that is a part, at the beginning and at the end of a file of 10,000 parts.
fn parts(report: &mut Report) -> io::Result<()> {
    const PARTS: u64 = 10_000;
    const WINDOW: u64 = 500;
    let (process, address) = Process::start_role(&["nothing".to_owned()])?;
    let mut client = Client::connect(address)?;
    let session = client.create("/up/f")?;
    let total = PARTS * 8 * MIB;
    let mut windows = Vec::new();
    for window in 0..PARTS / WINDOW {
        let before = process.cpu();
        for part in window * WINDOW..(window + 1) * WINDOW {
            client.fragment("/up/f", &session, part * 8 * MIB, 8 * MIB, total)?;
        }
        windows.push((process.cpu() - before) / WINDOW as f64 * 1e3);
    }
    client.close("/up/f", &session)?;
    println!("CPU ms per part of 8 MiB, 500 parts each: {windows:.2?}");
    if let [first, .., last] = windows.as_slice() {
        report.verdict(
            "a part at the end of 10,000 over one at the beginning".to_owned(),
            last / first,
            AtMost(1.2),
        );
    }
    Ok(())
}
