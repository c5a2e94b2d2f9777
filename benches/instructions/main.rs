//! Instructions and allocations of the pure rooms, counted by valgrind: the same on a busy machine as on an idle one, so that a check
//! can rest on them.
//!
//! ```text
//! cargo bench --bench instructions             compares with benches/instructions/expected.json
//! cargo bench --bench instructions -- accept   writes it anew
//! ```

mod cases;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use cases::CASES;

/// How much more than expected a case may take: another compiler or another version of a library moves it by a little.
const TOLERANCE: f64 = 0.05;

/// What a process does once, at its start and its end, is in both runs, and falls out of their difference.
const FEW: u64 = 100;
const MANY: u64 = 1100;

/// What one time of a case takes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["times", number, name] => times(number, name),
        // As `cargo bench` calls it.
        ["--bench"] => check(),
        ["accept", "--bench"] => accept(),
        // As `cargo test --all-targets` does, which only wants to know whether it builds.
        _ => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<bool, Box<dyn Error>>;

fn times(number: &str, name: &str) -> Done {
    let (_, case) = CASES.iter().find(|(known, _)| *known == name).ok_or("no such case")?;
    case(number.parse()?);
    Ok(true)
}

fn check() -> Done {
    let expected: BTreeMap<String, Cost> = serde_json::from_str(&std::fs::read_to_string(file())?)?;
    let mut holds = true;
    for (name, cost) in measured()? {
        let Some(expected) = expected.get(&name) else {
            println!("NEW    {name}: {cost:?}");
            holds = false;
            continue;
        };
        let ratio = cost.instructions as f64 / expected.instructions as f64;
        let word = match () {
            () if ratio > 1.0 + TOLERANCE || cost.allocations > expected.allocations => "WORSE ",
            () if ratio < 1.0 - TOLERANCE || cost.allocations < expected.allocations => "BETTER",
            () => "same  ",
        };
        holds &= word != "WORSE ";
        println!(
            "{word} {name}: {} instructions (expected {}), {} allocations ({})",
            cost.instructions, expected.instructions, cost.allocations, expected.allocations
        );
    }
    Ok(holds)
}

fn accept() -> Done {
    let costs = measured()?;
    std::fs::write(file(), format!("{}\n", serde_json::to_string_pretty(&costs)?))?;
    Ok(true)
}

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/expected.json")
}

fn measured() -> Result<BTreeMap<String, Cost>, Box<dyn Error>> {
    CASES
        .iter()
        .map(|(name, _)| Ok(((*name).to_owned(), cost(name)?)))
        .collect()
}

fn cost(name: &str) -> Result<Cost, Box<dyn Error>> {
    let difference = |tool: &[&str], before: &str, after: &str| -> Result<u64, Box<dyn Error>> {
        let few = number(&valgrind(tool, FEW, name)?, before, after)?;
        let many = number(&valgrind(tool, MANY, name)?, before, after)?;
        // To the nearest: what happens once in a while is no part of one time.
        Ok((many.saturating_sub(few) + (MANY - FEW) / 2) / (MANY - FEW))
    };
    Ok(Cost {
        instructions: difference(
            &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
            "Collected :",
            "\n",
        )?,
        allocations: difference(&["--tool=memcheck", "--leak-check=no"], "total heap usage:", "allocs")?,
    })
}

/// What valgrind says about a run.
fn valgrind(tool: &[&str], times: u64, name: &str) -> Result<String, Box<dyn Error>> {
    let ran = Command::new("valgrind")
        // Copies are counted by the byte where the processor has an instruction for them, and not all have.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-ERMS,-FSRM",
        )
        .args(tool)
        .arg(std::env::current_exe()?)
        .args(["times", &times.to_string(), name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.success() {
        Ok(said)
    } else {
        Err(said.into())
    }
}

fn number(said: &str, before: &str, after: &str) -> Result<u64, Box<dyn Error>> {
    let found = said.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    let digits: String = found.ok_or(said)?.0.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}
