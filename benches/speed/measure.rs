//! Rounds: everybody in turn, again and again, so that whatever else the machine does meets all of them alike.

use std::io;

use serde::Serialize;

use crate::load::{LOOK, Load, Ran};
use crate::servers::Running;

/// What one round of one server showed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// CPU seconds of the server for 10^9 bytes, in the kernel and outside of it.
    pub(crate) cpu_per_gb: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) gb_per_second: f64,
    pub(crate) requests_per_second: f64,
    /// Highest resident set of the server.
    pub(crate) peak_mib: f64,
    /// Requests to the store, where they are counted.
    pub(crate) store_requests: f64,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
}

/// One of the figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) read: fn(&Figures) -> f64,
}

pub(crate) const CPU_PER_GB: Measure = Measure {
    name: "server CPU seconds per GB",
    read: |figures| figures.cpu_per_gb,
};

pub(crate) const CPU_PER_REQUEST: Measure = Measure {
    name: "server CPU µs per request",
    read: |figures| figures.cpu_us_per_request,
};

pub(crate) const GB_PER_SECOND: Measure = Measure {
    name: "GB per second",
    read: |figures| figures.gb_per_second,
};

pub(crate) const REQUESTS_PER_SECOND: Measure = Measure {
    name: "requests per second",
    read: |figures| figures.requests_per_second,
};

pub(crate) const PEAK: Measure = Measure {
    name: "highest resident set in MiB",
    read: |figures| figures.peak_mib,
};

pub(crate) const STORE_REQUESTS: Measure = Measure {
    name: "requests to the store",
    read: |figures| figures.store_requests,
};

/// A server that takes part.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) start: Box<dyn Fn() -> io::Result<Running> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, start: impl Fn() -> io::Result<Running> + 'a) -> Self {
        Self {
            name,
            start: Box::new(start),
        }
    }
}

/// All rounds of one server with one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) contender: &'static str,
    pub(crate) median: Figures,
    pub(crate) rounds: Vec<Figures>,
}

/// Measures each of `contenders` under `load`.
///
/// A round before those that count compares every byte; in those that count every byte is counted. When one of the first contender's is
/// missing, that is the end of the benchmark; another contender that fails is told of, and left out.
pub(crate) fn compare(case: &str, load: Load, contenders: &[Contender<'_>], rounds: usize) -> io::Result<Vec<Outcome>> {
    let is_ours = |contender: &Contender<'_>| contenders.first().is_some_and(|first| first.name == contender.name);
    let mut running = Vec::new();
    for contender in contenders {
        let started = (contender.start)().and_then(|mut server| {
            round(&mut server, Load { files: 1, ..load }, LOOK, true)?;
            Ok(server)
        });
        match started {
            Ok(server) => running.push((contender, server, Vec::new())),
            Err(error) if is_ours(contender) => return Err(about(case, contender)(error)),
            Err(error) => println!("LEFT OUT {}", about(case, contender)(error)),
        }
    }
    for number in 0..rounds {
        let mut able = Vec::new();
        for (contender, mut server, mut figures) in running {
            match round(&mut server, load, &number.to_string(), false) {
                Ok(one) => {
                    figures.push(one);
                    able.push((contender, server, figures));
                }
                Err(error) if is_ours(contender) => return Err(about(case, contender)(error)),
                Err(error) => println!("LEFT OUT {}", about(case, contender)(error)),
            }
        }
        running = able;
        // Nobody always comes after the same one.
        let others = running.len().min(1);
        running.rotate_left(others);
        if number % 2 == 1 {
            running.reverse();
        }
    }
    let outcomes = contenders.iter().filter_map(|contender| {
        let (.., rounds) = running.iter().find(|(one, ..)| one.name == contender.name)?;
        Some(Outcome {
            case: case.to_owned(),
            contender: contender.name,
            median: median(rounds),
            rounds: rounds.clone(),
        })
    });
    Ok(outcomes.collect())
}

fn about<'a>(case: &'a str, contender: &'a Contender<'_>) -> impl Fn(io::Error) -> io::Error + 'a {
    move |error| io::Error::other(format!("{case}, {}: {error}", contender.name))
}

fn round(server: &mut Running, load: Load, name: &str, looks: bool) -> io::Result<Figures> {
    server.begin(looks)?;
    server.forget_peak();
    let (asked_before, before) = (server.store_requests()?, server.cpu());
    let ran = server.bear(load, name)?;
    let cpu = server.cpu() - before;
    let (asked, peak) = (server.store_requests()? - asked_before, server.peak());
    server.check(load, name)?;
    Ok(figures(load, &ran, cpu, peak, asked))
}

fn figures(load: Load, ran: &Ran, cpu: f64, peak: u64, store_requests: f64) -> Figures {
    let (gb, requests, seconds) = (
        load.bytes() as f64 / 1e9,
        load.requests() as f64,
        ran.time.as_secs_f64(),
    );
    Figures {
        cpu_per_gb: if gb > 0.0 { cpu / gb } else { 0.0 },
        cpu_us_per_request: cpu / requests * 1e6,
        gb_per_second: gb / seconds,
        requests_per_second: requests / seconds,
        peak_mib: peak as f64 / f64::from(1 << 20),
        store_requests,
        median_ms: ran.within(0.5).as_secs_f64() * 1e3,
        p99_ms: ran.within(0.99).as_secs_f64() * 1e3,
    }
}

fn median(rounds: &[Figures]) -> Figures {
    let of = |read: fn(&Figures) -> f64| middle(rounds.iter().map(read));
    Figures {
        cpu_per_gb: of(|figures| figures.cpu_per_gb),
        cpu_us_per_request: of(|figures| figures.cpu_us_per_request),
        gb_per_second: of(|figures| figures.gb_per_second),
        requests_per_second: of(|figures| figures.requests_per_second),
        peak_mib: of(|figures| figures.peak_mib),
        store_requests: of(|figures| figures.store_requests),
        median_ms: of(|figures| figures.median_ms),
        p99_ms: of(|figures| figures.p99_ms),
    }
}

/// The middle one; the mean of the two in the middle where there is none.
pub(crate) fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.get((values.len().max(1) - 1) / 2)) {
        (Some(one), Some(other)) => f64::midpoint(*one, *other),
        _ => f64::NAN,
    }
}
