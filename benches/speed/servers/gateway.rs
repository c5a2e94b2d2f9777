//! The gateway: the real program over a real store, and the same rooms over a store that keeps nothing.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bits_gateway::budget::Budget;
use bits_gateway::clock::{SystemClock, stamp};
use bits_gateway::config::Settings;
use bits_gateway::download::Downloads;
use bits_gateway::gateway::{Door, Gateway, Limits, MethodOverride, Parts, Route};
use bits_gateway::metrics::Metrics;
use bits_gateway::store::Store;
use bits_gateway::telemetry::{self, Format, Packets};
use bits_gateway::upload::{Place, Taking, Uploads};
use tempfile::TempDir;

use super::nothing::Nothing;
use super::process::Process;
use super::role::{attend, runtime};
use super::stores::SeaweedFs;
use crate::load::Client;

/// The program with these lines in its configuration, ready to take uploads below `/up/`.
pub(crate) fn start(folder: TempDir, server: &str, sections: &str) -> io::Result<(Process, SocketAddr)> {
    start_believing(None, folder, server, sections)
}

/// The same, and it believes stores whose certificate is in this file.
pub(crate) fn start_believing(
    authority: Option<&Path>,
    folder: TempDir,
    server: &str,
    sections: &str,
) -> io::Result<(Process, SocketAddr)> {
    let file = folder.path().join("gateway.toml");
    let threads = super::THREADS;
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nthreads = {threads}\n{server}\n{sections}"
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    command.args(["serve", "--config"]).arg(&file).env_clear();
    command.envs(authority.map(|file| ("SSL_CERT_FILE", file)));
    let mut process = Process::start(&mut command, folder)?;
    let address = process.until("the gateway listens", |process| listener(&process.log(), "gateway"))?;
    let admin = process.until("its admin listens", |process| listener(&process.log(), "admin"))?;
    process.until("it is ready", |_| {
        let answer = Client::connect(admin).and_then(|mut client| client.ask("GET", "/readyz"));
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    })?;
    Ok((process, address))
}

/// Where a listener is, by the log.
fn listener(log: &str, name: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line.get("listener")?.as_str()? == name).then(|| line.get("address")?.as_str()?.parse().ok())?
    })
}

/// A route that keeps its files in a directory.
pub(crate) fn route_to(directory: &Path) -> String {
    format!("[[routes]]\npath = \"/up/\"\nstore = \"{}\"\n", directory.display())
}

/// A route that keeps its files in the bucket, below `prefix`, with further lines for the store and for itself.
pub(crate) fn route_to_bucket(seaweed: &SeaweedFs, prefix: &str, options: &str, lines: &str) -> String {
    let settings = seaweed.settings(prefix);
    let given = settings.options.iter();
    let given: String = given
        .map(|(name, value)| format!("{name} = \"{}\"\n", value.expose()))
        .collect();
    format!(
        "[[routes]]\npath = \"/up/\"\nstore = \"{}\"\n{lines}\n[routes.store_options]\n{options}\n{given}",
        settings.url
    )
}

/// The rooms of the gateway as `app` puts them together, over a store that keeps nothing. Never returns.
pub(crate) fn serve_over_nothing(access_log: Packets) -> io::Result<()> {
    let settings = Settings::default();
    let _log = telemetry::start(Format::Json, &settings.log.level, stamp).map_err(io::Error::other)?;
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let door = Door::bind(&"127.0.0.1:0").map_err(io::Error::other)?;
    let address = door.address();
    let metrics = Metrics::new(["/up/"]);
    let memory = &settings.limits.upload;
    let budget = Budget::new(memory.memory.bytes(), memory.memory_wait);
    let gateway = Gateway::new(Parts {
        limits: Limits::default(),
        routes: vec![Route {
            place: Arc::new(Place {
                route: "/up/".to_owned(),
                store: Store::over_bucket("null:///".to_owned(), Arc::new(Nothing::new()), None),
                rules: bits_gateway::upload::Settings::default().rules(),
                application: None,
                events: None,
            }),
            path: "/up/".to_owned(),
            host: None,
            host_id: None,
            upload: Taking::Yes,
            method_override: MethodOverride::Off,
            download: false,
            upstream: None,
            open: Arc::new(AtomicBool::new(true)),
            trouble: Arc::default(),
        }],
        uploads: Uploads::new(budget.clone(), Arc::new(SystemClock), metrics.clone()),
        downloads: Downloads::new(budget, memory.memory_wait),
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        access_log,
        metrics,
        threads: super::THREADS,
    });
    gateway.open(vec![door])?;
    attend(address);
    runtime.block_on(std::future::pending())
}
