//! Several gateways on one bucket: what each adds, and what it costs to go on with a session that another one began.

use std::io;
use std::time::Instant;

use bits_gateway::clock::random_id;

use crate::Asked;
use crate::load::{Client, Load, Style};
use crate::measure::{CPU_PER_GB, Contender, compare, middle};
use crate::report::Report;
use crate::servers::{Running, SeaweedFs, gateway};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The smallest part that stores take, so that files of many parts are small here.
const PART: u64 = 5 * MIB;

pub(crate) fn run(asked: &Asked) -> io::Result<()> {
    let mut report = Report::default();
    for (size, fragment) in [("1 MiB", MIB), ("13 MiB", 13 * MIB)] {
        let case = format!("{size}, 8 clients");
        if asked.wants(&case) {
            side_by_side(
                &mut report,
                &case,
                Load::of(fragment, 8, 64 * MIB, 512 * MIB),
                asked.rounds,
            )?;
        }
    }
    if asked.wants("elsewhere") {
        elsewhere(asked.rounds)?;
    }
    report.finish("replicas", CPU_PER_GB)
}

/// The same load on one to four of them: each client stays with one, or every packet goes to the next.
fn side_by_side(report: &mut Report, case: &str, load: Load, rounds: usize) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_signed_and_unsigned();
    let of = |name, count, style| {
        let seaweed = &seaweed;
        Contender::new(name, move || Running::replicas(seaweed, count, style))
    };
    let contenders = [
        of("one", 1, Style::Sessions),
        of("two", 2, Style::Sessions),
        of("three", 3, Style::Sessions),
        of("four", 4, Style::Sessions),
        of("two, every packet", 2, Style::Roaming),
        of("four, every packet", 4, Style::Roaming),
    ];
    let outcomes = compare(case, load, &contenders, rounds)?;
    Report::tell(&outcomes);
    report.outcomes.extend(outcomes);
    Ok(())
}

/// How much longer a fragment takes at a gateway that has never heard of its session, by what the session consists of.
fn elsewhere(rounds: usize) -> io::Result<()> {
    let seaweed = SeaweedFs::start_for_signed_and_unsigned();
    let lines = format!("part_size = \"{PART}B\"");
    let sections = gateway::route_to_bucket(&seaweed, &random_id().to_string(), "", &lines);
    for (what, fragment, fragments) in [
        ("1 tail", KIB, 1),
        ("100 tails", KIB, 100),
        ("1,000 tails", KIB, 1_000),
        ("1 part", PART, 1),
        ("30 parts", PART, 30),
        ("300 parts", PART, 300),
    ] {
        let (_here, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
        let mut client = Client::connect(address)?;
        let path = format!("/up/{}", random_id());
        let session = client.create(&path)?;
        let total = fragment * fragments + KIB;
        for from in (0..fragments).map(|index| index * fragment) {
            client.fragment(&path, &session, from, fragment, total)?;
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for round in 0..rounds as u64 {
            let (_there, address) = gateway::start(tempfile::tempdir()?, "", &sections)?;
            let mut client = Client::connect(address)?;
            // Its connections to the store are warm then.
            client.create(&format!("/up/{}", random_id()))?;
            for (times, from) in [(&mut first, 2 * round), (&mut second, 2 * round + 1)] {
                let begin = Instant::now();
                client.fragment(&path, &session, fragment * fragments + from, 1, total)?;
                times.push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
        let (first, second) = (middle(first.into_iter()), middle(second.into_iter()));
        println!("{what}: the first fragment elsewhere {first:.1} ms, the second {second:.1} ms");
    }
    Ok(())
}
