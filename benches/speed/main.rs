//! Benchmarks of whole servers, each beside what people would use instead. docs/performance.md says what they measure and found.
//!
//! ```text
//! cargo bench --bench speed -- NAME [--rounds N] [--only TEXT]
//! ```

mod content;
mod disk;
mod downloads;
mod ingest;
mod load;
mod measure;
mod packets;
mod replicas;
mod report;
mod s3;
mod scale;
mod servers;
mod small_files;

use std::io;
use std::process::ExitCode;

/// The allocator of the program: what runs here in its place shall not differ from it in that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the command line asks for.
pub(crate) struct Asked {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Only cases whose name holds this.
    only: String,
}

impl Asked {
    pub(crate) fn wants(&self, case: &str) -> bool {
        case.contains(&self.only)
    }
}

type Benchmark = fn(&Asked) -> io::Result<()>;

const BENCHMARKS: [(&str, &str, Benchmark); 10] = [
    ("ingest", "fragments into a store that keeps nothing", ingest::null),
    ("ingest-disk", "fragments into a directory", ingest::disk),
    ("ingest-s3", "fragments into S3", ingest::s3),
    ("packets", "packets that carry nothing", packets::run),
    ("small-files", "whole sessions that carry little", small_files::run),
    (
        "disk",
        "fragments that are safe on a disk, beside a loop that syncs",
        disk::run,
    ),
    ("s3", "a gibibyte to S3, beside who else could bring it there", s3::run),
    ("downloads", "files on their way out, beside nginx", downloads::run),
    (
        "replicas",
        "several gateways on one bucket, and sessions that move between them",
        replicas::run,
    ),
    ("scale", "many idle connections, many sessions, large files", scale::run),
];

fn main() -> ExitCode {
    // Fails only when there is a default already, and nobody was here before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["serve", role] => servers::serve(role),
        [name, options @ ..] => run(name, options),
        [] => {
            for (name, about, _) in BENCHMARKS {
                println!("{name:<16} {about}");
            }
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, options: &[&str]) -> io::Result<()> {
    let mut asked = Asked {
        rounds: 5,
        only: String::new(),
    };
    for option in options.chunks(2) {
        match option {
            ["--rounds", number] => asked.rounds = number.parse().map_err(io::Error::other)?,
            ["--only", text] => (*text).clone_into(&mut asked.only),
            other => return Err(io::Error::other(format!("what is {other:?}?"))),
        }
    }
    let found = BENCHMARKS.iter().find(|(known, ..)| *known == name);
    let (.., benchmark) = found.ok_or_else(|| io::Error::other(format!("there is no benchmark {name}")))?;
    benchmark(&asked)
}
