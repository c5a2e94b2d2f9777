//! Fragments that are safe on a disk, beside a loop that does no more than that: create, write, sync, in one process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::Asked;
use crate::content;
use crate::load::{Load, Ran};
use crate::measure::{Contender, GB_PER_SECOND, REQUESTS_PER_SECOND, compare};
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Report, Target};
use crate::servers::Running;

const GATEWAY: &str = "gateway, directory";
const LOOP: &str = "create, write, sync";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Size of a fragment, of a file, and of all files of one client.
const SIZES: [(&str, u64, u64, u64); 3] = [
    ("4 KiB", 4 * KIB, 64 * KIB, MIB),
    ("1 MiB", MIB, 64 * MIB, 128 * MIB),
    ("13 MiB", 13 * MIB, 104 * MIB, 312 * MIB),
];

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let mut report = Report::default();
    for (size, fragment, file, total) in SIZES {
        for connections in [1, 64] {
            let case = case(size, connections);
            if !asked.wants(&case) {
                continue;
            }
            // Many clients send no more than a few seconds' worth together.
            let load = Load::of(
                fragment,
                connections,
                file.min(total * 8 / connections).max(fragment),
                total * connections.min(8),
            );
            let mut contenders = vec![Contender::new(GATEWAY, Running::local)];
            if connections == 1 {
                contenders.push(Contender::new(LOOP, sync_loop));
            }
            let outcomes = compare(&case, load, &contenders, asked.rounds)?;
            Report::tell(&outcomes);
            report.outcomes.extend(outcomes);
        }
    }
    judge(&mut report);
    report.finish("disk", GB_PER_SECOND)
}

fn case(size: &str, connections: u64) -> String {
    format!("{size}, {connections} clients")
}

/// Each fragment becomes a file of its own.
fn sync_loop() -> io::Result<Running> {
    let folder = tempfile::tempdir()?;
    Ok(Running::here(move |load, _| {
        let file = |fragment: u64| folder.path().join(fragment.to_string());
        let mut answers = Vec::new();
        let begin = Instant::now();
        for fragment in 0..load.requests() {
            let began = Instant::now();
            let piece = content::at(fragment * load.fragment, usize::try_from(load.fragment).expect("small"));
            let mut file = File::create(file(fragment))?;
            file.write_all(piece)?;
            file.sync_all()?;
            answers.push(began.elapsed());
        }
        let ran = Ran::new(begin.elapsed(), answers);
        for fragment in 0..load.requests() {
            if !content::is_at(fragment * load.fragment, &fs::read(file(fragment))?) {
                return Err(io::Error::other("the file is not as it was written"));
            }
            fs::remove_file(file(fragment))?;
        }
        Ok(ran)
    }))
}

fn judge(report: &mut Report) {
    report.judge(&[("13 MiB", 0.8), ("1 MiB", 0.6)].map(|(size, least)| Target {
        case: case(size, 1),
        measure: GB_PER_SECOND,
        of: GATEWAY,
        over: LOOP,
        bound: AtLeast(least),
    }));
    for (size, least) in [("1 MiB", 1.5), ("4 KiB", 5.0)] {
        let of = |connections| report.median(&case(size, connections), GATEWAY);
        if let (Some(many), Some(one)) = (of(64), of(1)) {
            let ratio = (REQUESTS_PER_SECOND.read)(&many) / (REQUESTS_PER_SECOND.read)(&one);
            report.verdict(
                format!("{size}: fragments per second of 64 clients over 1"),
                ratio,
                AtLeast(least),
            );
        }
    }
    if let Some(many) = report.median(&case("13 MiB", 64), GATEWAY) {
        let most = Duration::from_secs(3).as_secs_f64() * 1e3;
        report.verdict(
            "13 MiB, 64 clients: p99 of the Ack in ms".to_owned(),
            many.p99_ms,
            AtMost(most),
        );
    }
}
