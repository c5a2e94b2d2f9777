//! What came out: a table for whoever waits, JSON for programs, a plot for documents, and whether the targets hold.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::measure::{Figures, Measure, Outcome, middle};

/// What a ratio of two servers has to be. Measured in each round, and the middle of that: what slows the machine slows both.
pub(crate) struct Target {
    pub(crate) case: String,
    pub(crate) measure: Measure,
    pub(crate) of: &'static str,
    pub(crate) over: &'static str,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How a target was met.
#[derive(Debug, Serialize)]
struct Verdict {
    sentence: String,
    value: f64,
    holds: bool,
}

/// Everything that a benchmark found out.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    verdicts: Vec<Verdict>,
}

impl Report {
    /// Compares with targets; those about servers that did not take part are passed over.
    pub(crate) fn judge(&mut self, targets: &[Target]) {
        for target in targets {
            let Some(value) = self.ratio(&target.case, target.measure, target.of, target.over) else {
                continue;
            };
            let sentence = format!(
                "{}: {} of {} over {}",
                target.case, target.measure.name, target.of, target.over
            );
            self.verdict(sentence, value, target.bound);
        }
    }

    /// The middle of the ratios of all rounds.
    fn ratio(&self, case: &str, measure: Measure, of: &str, over: &str) -> Option<f64> {
        let rounds = self.find(case, of)?.rounds.iter().zip(&self.find(case, over)?.rounds);
        Some(middle(
            rounds.map(|(of, over)| (measure.read)(of) / (measure.read)(over)),
        ))
    }

    fn find(&self, case: &str, contender: &str) -> Option<&Outcome> {
        let mut outcomes = self.outcomes.iter();
        outcomes.find(|outcome| outcome.case == case && outcome.contender == contender)
    }

    /// The figures of one server with one load.
    pub(crate) fn median(&self, case: &str, contender: &str) -> Option<Figures> {
        self.find(case, contender).map(|outcome| outcome.median)
    }

    /// Notes whether a value is as it has to be.
    pub(crate) fn verdict(&mut self, what: String, value: f64, bound: Bound) {
        let (holds, bound) = match bound {
            Bound::AtMost(most) => (value <= most, format!("at most {most}")),
            Bound::AtLeast(least) => (value >= least, format!("at least {least}")),
        };
        self.verdicts.push(Verdict {
            sentence: format!("{what}: {bound}"),
            value,
            holds,
        });
    }

    /// Prints what came in last.
    pub(crate) fn tell(outcomes: &[Outcome]) {
        for outcome in outcomes {
            let figures = outcome.median;
            println!(
                "{:<26} {:<22} {:>7.3} s/GB {:>8.1} µs/request {:>7.3} GB/s {:>7.0} requests/s {:>6.0} MiB {:>6.0} to the store p50 {:>8.2} ms p99 {:>8.2} ms",
                outcome.case,
                outcome.contender,
                figures.cpu_per_gb,
                figures.cpu_us_per_request,
                figures.gb_per_second,
                figures.requests_per_second,
                figures.peak_mib,
                figures.store_requests,
                figures.median_ms,
                figures.p99_ms,
            );
        }
    }

    /// Writes `name.json` and `name.svg`, and says what holds.
    pub(crate) fn finish(&self, name: &str, measure: Measure) -> io::Result<()> {
        for verdict in &self.verdicts {
            let word = if verdict.holds { "holds " } else { "MISSED" };
            println!("{word} {:>6.2}  {}", verdict.value, verdict.sentence);
        }
        let folder = folder();
        fs::create_dir_all(&folder)?;
        let told = json!({
            "benchmark": name,
            "machine": machine(),
            "targets": self.verdicts,
            "outcomes": self.outcomes,
        });
        let file = |extension: &str| folder.join(name).with_extension(extension);
        fs::write(file("json"), format!("{told:#}\n"))?;
        fs::write(file("svg"), plot(name, measure, &self.outcomes))?;
        println!("{}", file("json").display());
        Ok(())
    }
}

/// Where results go: the folder named by `BENCH_RESULTS`, or one among the build products.
fn folder() -> PathBuf {
    let named = std::env::var_os("BENCH_RESULTS").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("benches"))
}

fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name"));
    json!({
        "cpu": model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

const COLOURS: [&str; 6] = ["#2f6f9f", "#d0843a", "#5a9367", "#8c8c8c", "#a05195", "#c8b23c"];
const BAR: usize = 14;
const LEFT: usize = 190;
const WIDTH: usize = 420;

/// Bars, one group for each case.
fn plot(name: &str, measure: Measure, outcomes: &[Outcome]) -> String {
    let value = |outcome: &Outcome| (measure.read)(&outcome.median);
    let most = outcomes.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let mut contenders: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !contenders.contains(&outcome.contender) {
            contenders.push(outcome.contender);
        }
    }
    let colour = |name: &str| {
        let at = contenders.iter().position(|known| *known == name);
        COLOURS[at.unwrap_or(0) % COLOURS.len()]
    };
    let mut drawn = String::new();
    let mut y = 24;
    for (at, name) in contenders.iter().enumerate() {
        let (x, row) = (12 + at % 3 * 220, y + at / 3 * 18);
        let _ = writeln!(
            drawn,
            "<rect x=\"{x}\" y=\"{row}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            colour(name),
            x + 15,
            row + 9
        );
    }
    y += contenders.len().div_ceil(3) * 18 + 8;
    let mut case = "";
    for outcome in outcomes {
        if outcome.case != case {
            case = &outcome.case;
            y += 8;
            let _ = writeln!(drawn, "<text x=\"12\" y=\"{}\">{case}</text>", y + BAR - 3);
        }
        let width = (value(outcome) / most * WIDTH as f64).max(1.0);
        let _ = writeln!(
            drawn,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"{}\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{}\">{:.3}</text>",
            BAR - 2,
            colour(outcome.contender),
            LEFT as f64 + width + 5.0,
            y + BAR - 3,
            value(outcome)
        );
        y += BAR;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"680\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"16\" font-weight=\"bold\">{name}: {}</text>\n{drawn}</svg>\n",
        measure.name,
        height = y + 12,
    )
}
