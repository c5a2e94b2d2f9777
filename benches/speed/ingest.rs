//! How fast fragments come in, of four sizes over one, eight and sixty-four connections.

use std::io;

use crate::Asked;
use crate::load::Load;
use crate::measure::{CPU_PER_GB, Contender, GB_PER_SECOND, compare};
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Report, Target};
use crate::servers::{Running, SeaweedFs};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes of fragments, with that of a file and of all files: enough for half a second of the server's time.
const SIZES: [(&str, u64, u64, u64); 4] = [
    ("5 KB", 5_000, 500_000, 128 * MIB),
    ("64 KiB", 64 * KIB, 16 * MIB, 1024 * MIB),
    ("1 MiB", MIB, 64 * MIB, 2048 * MIB),
    ("13 MiB", 13 * MIB, 104 * MIB, 3072 * MIB),
];

const CONNECTIONS: [u64; 3] = [1, 8, 64];

const GATEWAY: &str = "gateway, null store";
const SINK: &str = "raw TCP sink";
const ENGINE: &str = "bare pingora";

/// Into a store that keeps nothing.
pub(crate) fn null(asked: &Asked) -> io::Result<()> {
    let contenders = [
        Contender::new(GATEWAY, || Running::role("nothing")),
        Contender::new(SINK, || Running::role("sink")),
        Contender::new(ENGINE, || Running::role("engine")),
        Contender::new("nginx proxy_pass", Running::proxy),
        Contender::new("gateway, no access log", || Running::role("silent")),
    ];
    let mut report = measure(asked, &contenders, 1)?;
    report.judge(&targets());
    report.finish("ingest", CPU_PER_GB)
}

/// Onto the disk.
pub(crate) fn disk(asked: &Asked) -> io::Result<()> {
    let contenders = [
        Contender::new("gateway, directory", Running::local),
        Contender::new("nginx PUT (no sync)", Running::dav),
    ];
    measure(asked, &contenders, 4)?.finish("ingest-disk", CPU_PER_GB)
}

/// Into S3.
pub(crate) fn s3(asked: &Asked) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_everybody();
    let contenders = [
        Contender::new("gateway, S3", || {
            Running::s3(&seaweed, "aws_unsigned_payload = \"true\"")
        }),
        Contender::new("nginx, PUT to S3", || Running::proxy_to_bucket(&seaweed)),
    ];
    measure(asked, &contenders, 16)?.finish("ingest-s3", CPU_PER_GB)
}

/// Each size over each number of connections, with a part of the bytes.
pub(crate) fn measure(asked: &Asked, contenders: &[Contender<'_>], part: u64) -> io::Result<Report> {
    let mut report = Report::default();
    for (size, fragment, file, total) in SIZES {
        for connections in CONNECTIONS {
            let case = case(size, connections);
            if !asked.wants(&case) {
                continue;
            }
            let load = Load::of(
                fragment,
                connections,
                file.min(total / part / connections),
                total / part,
            );
            let outcomes = compare(&case, load, contenders, asked.rounds)?;
            Report::tell(&outcomes);
            report.outcomes.extend(outcomes);
        }
    }
    Ok(report)
}

fn case(size: &str, connections: u64) -> String {
    format!("{size}, {connections} clients")
}

fn targets() -> Vec<Target> {
    let bounds = [
        ("13 MiB", CPU_PER_GB, ENGINE, AtMost(0.65)),
        ("13 MiB", CPU_PER_GB, SINK, AtMost(1.5)),
        ("13 MiB", GB_PER_SECOND, SINK, AtLeast(0.75)),
        ("1 MiB", CPU_PER_GB, ENGINE, AtMost(1.0)),
        ("1 MiB", CPU_PER_GB, SINK, AtMost(1.7)),
        ("64 KiB", CPU_PER_GB, ENGINE, AtMost(1.0)),
    ];
    let each = bounds.into_iter().flat_map(|(size, measure, over, bound)| {
        CONNECTIONS.map(|connections| Target {
            case: case(size, connections),
            measure,
            of: GATEWAY,
            over,
            bound,
        })
    });
    each.collect()
}
