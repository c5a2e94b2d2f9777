//! Whole sessions that carry little: create, one fragment of 4 KiB, close.

use std::io;

use crate::Asked;
use crate::load::Load;
use crate::measure::{CPU_PER_REQUEST, Contender, compare};
use crate::report::Bound::AtMost;
use crate::report::Report;
use crate::servers::{Running, SeaweedFs};

const NULL: &str = "gateway, null store";

/// Bytes of a file.
const FILE: u64 = 4096;

/// Server CPU of a session into the null store, in µs.
const MOST: f64 = 300.0;

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_everybody();
    // A figure needs half a second of the server's time, and a slow store as long as it takes.
    let stores = [
        (Contender::new(NULL, || Running::role("nothing")), 10_000),
        (Contender::new("bare pingora", || Running::role("engine")), 10_000),
        (Contender::new("gateway, directory", Running::local), 2_000),
        (Contender::new("gateway, S3", || Running::s3(&seaweed, "")), 1_000),
    ];
    let mut report = Report::default();
    for connections in [1, 8, 64] {
        let case = format!("4 KiB, {connections} clients");
        if !asked.wants(&case) {
            continue;
        }
        for (contender, sessions) in &stores {
            let load = Load::of(FILE, connections, FILE, FILE * sessions);
            let outcomes = compare(&case, load, std::slice::from_ref(contender), asked.rounds)?;
            Report::tell(&outcomes);
            for outcome in outcomes.iter().filter(|outcome| outcome.contender == NULL) {
                let what = format!("{case}: server CPU µs per session into the null store");
                report.verdict(what, outcome.median.cpu_us_per_request, AtMost(MOST));
            }
            report.outcomes.extend(outcomes);
        }
    }
    report.finish("small-files", CPU_PER_REQUEST)
}
