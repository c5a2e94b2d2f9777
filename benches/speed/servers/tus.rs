//! The reference server of tus with its store for S3, as its documentation sets it up.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::process::{Process, free_port};
use super::stores::tool;

/// Starts it over the bucket at `endpoint`, with its files below `prefix`.
pub(crate) fn start(endpoint: &str, prefix: &str) -> io::Result<(Process, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/speed/tus/server.mjs");
    let mut command = Command::new("node");
    command.arg(script);
    command.args([&address.port().to_string(), endpoint, prefix]);
    command.env("TUS_PACKAGES", tool("tus")).env("NODE_ENV", "production");
    let mut process = Process::start(&mut command, tempfile::tempdir()?)?;
    process.until("tus listens", |_| TcpStream::connect(address).ok())?;
    Ok((process, address))
}
