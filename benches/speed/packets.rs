//! What a packet costs that carries nothing: a Ping.

use std::io;

use crate::Asked;
use crate::load::{Load, Style};
use crate::measure::{CPU_PER_REQUEST, Contender, compare};
use crate::report::Bound::AtMost;
use crate::report::{Report, Target};
use crate::servers::{Proof, Running, gateway, nginx};

const SILENT: &str = "gateway, access log off";
const LOGS: &str = "gateway, access log on";
const ENGINE: &str = "bare pingora";

const PINGS: u64 = 100_000;

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let contenders = [
        Contender::new(SILENT, || pinged("errors")),
        Contender::new(LOGS, || pinged("all")),
        Contender::new(ENGINE, || Running::uncounted("engine", Style::Pings)),
        Contender::new("nginx return 200", || {
            let (process, address) = nginx::start(include_str!("nginx/yes.conf"), &[])?;
            Ok(Running::server(process, address, Style::Pings, Proof::None))
        }),
    ];
    let mut report = Report::default();
    for connections in [1, 64] {
        let case = format!("Ping, {connections} clients");
        if !asked.wants(&case) {
            continue;
        }
        let load = Load {
            fragment: 0,
            fragments: PINGS / connections,
            files: 1,
            connections,
        };
        let outcomes = compare(&case, load, &contenders, asked.rounds)?;
        Report::tell(&outcomes);
        report.outcomes.extend(outcomes);
        report.judge(&[(SILENT, 1.1), (LOGS, 1.25)].map(|(of, most)| Target {
            case: case.clone(),
            measure: CPU_PER_REQUEST,
            of,
            over: ENGINE,
            bound: AtMost(most),
        }));
    }
    report.finish("packets", CPU_PER_REQUEST)
}

fn pinged(log: &str) -> io::Result<Running> {
    let sections = format!("[log]\npackets = \"{log}\"\n[[routes]]\npath = \"/up/\"\nstore = \"memory:///\"\n");
    let (process, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
    Ok(Running::server(process, address, Style::Pings, Proof::None))
}
