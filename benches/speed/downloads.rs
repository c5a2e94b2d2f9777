//! Files on their way out.

use std::fs;
use std::io;
use std::net::SocketAddr;

use bits_gateway::clock::random_id;

use crate::Asked;
use crate::content;
use crate::load::{Client, FILE, Load, Style};
use crate::measure::{CPU_PER_GB, Contender, GB_PER_SECOND, compare};
use crate::report::Bound::AtLeast;
use crate::report::{Report, Target};
use crate::servers::{Proof, Running, SeaweedFs, gateway, nginx};

const LOCAL: &str = "gateway, directory";
const NGINX: &str = "nginx sendfile";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes of files, and how much of each is fetched in all.
const SIZES: [(&str, u64, u64); 3] = [
    ("64 KiB", 64 * KIB, 512 * MIB),
    ("1 MiB", MIB, 1024 * MIB),
    ("256 MiB", 256 * MIB, 2048 * MIB),
];

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_everybody();
    let mut report = Report::default();
    for (size, length, total) in SIZES {
        for connections in [1, 8] {
            let case = format!("{size}, {connections} clients");
            if !asked.wants(&case) {
                continue;
            }
            let load = |part: u64| Load {
                fragment: length,
                fragments: (total / part / length / connections).max(1),
                files: 1,
                connections,
            };
            let disk = [
                Contender::new(LOCAL, || from_directory(length)),
                Contender::new(NGINX, || from_nginx(length)),
            ];
            let bucket = [Contender::new("gateway, S3", || from_bucket(&seaweed, length))];
            for (contenders, load) in [(&disk[..], load(1)), (&bucket[..], load(4))] {
                let outcomes = compare(&case, load, contenders, asked.rounds)?;
                Report::tell(&outcomes);
                report.outcomes.extend(outcomes);
            }
            let least = match length {
                MIB => 0.75,
                length if length > MIB => 0.9,
                _ => continue,
            };
            report.judge(&[Target {
                case,
                measure: GB_PER_SECOND,
                of: LOCAL,
                over: NGINX,
                bound: AtLeast(least),
            }]);
        }
    }
    report.finish("downloads", CPU_PER_GB)
}

/// Puts the file there as any client would.
fn upload(address: SocketAddr, length: u64) -> io::Result<()> {
    let fragment = length.min(4 * MIB);
    Client::connect(address)?.session(&format!("/up/{FILE}"), fragment, length / fragment, &mut Vec::new())
}

fn from_directory(length: u64) -> io::Result<Running> {
    let folder = tempfile::tempdir()?;
    let route = gateway::route_to(&folder.path().join("files"));
    let (process, address) = gateway::start(folder, "", &format!("{route}download = true\n"))?;
    upload(address, length)?;
    Ok(Running::server(process, address, Style::Gets, Proof::None))
}

fn from_nginx(length: u64) -> io::Result<Running> {
    let (process, address) = nginx::start(include_str!("nginx/files.conf"), &[])?;
    let folder = process.folder().join("files/up");
    fs::create_dir(&folder)?;
    let mut bytes = Vec::new();
    for at in (0..length).step_by(64 << 10) {
        bytes.extend_from_slice(content::at(at, 64 << 10));
    }
    fs::write(folder.join(FILE), bytes)?;
    Ok(Running::server(process, address, Style::Gets, Proof::None))
}

fn from_bucket(seaweed: &SeaweedFs, length: u64) -> io::Result<Running> {
    let sections = gateway::route_to_bucket(seaweed, &random_id().to_string(), "", "download = true");
    let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
    upload(address, length)?;
    Ok(Running::server(process, address, Style::Gets, Proof::None))
}
