//! nginx, as Debian has it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use super::process::{Process, free_port};

/// Starts it with one of the configurations of `benches/speed/nginx`; each `{NAME}` there is replaced by its value.
pub(crate) fn start(configuration: &str, values: &[(&str, &str)]) -> io::Result<(Process, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    for name in ["files", "temporary"] {
        fs::create_dir(folder.path().join(name))?;
    }
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (at, threads) = (folder.path().display().to_string(), super::THREADS.to_string());
    let common = [
        ("{COMMON}", include_str!("../nginx/common.conf")),
        ("{FOLDER}", at.as_str()),
        ("{ADDRESS}", &address.to_string()),
        ("{WORKERS}", &threads),
    ];
    let mut text = configuration.to_owned();
    for (name, value) in common.iter().chain(values) {
        text = text.replace(name, value);
    }
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let mut process = Process::start(&mut command, folder)?;
    process.until("nginx listens", |_| TcpStream::connect(address).ok())?;
    Ok((process, address))
}
