//! Whole worlds in memory: clients, replicas and a store that fails in every way that stores fail, with the order of everything
//! decided by a seed. It drives the code of the gateway, nothing but the lines and the store behind them is made up. See docs/testing.md.
//!
//! `SIMULATION_WORLDS=100000` runs as many worlds, `SIMULATION_FIRST=4711` begins with that seed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    unreachable_pub,
    missing_docs,
    reason = "tests: they may panic, and nobody reaches into them"
)]

mod bugs;
mod depot;
mod dice;
mod line;
mod oracle;
mod small;

mod table;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dice::Dice;
use table::Table;
use world::{FAULTY, PACKETS, Plan, World};

/// How many worlds an ordinary run tries.
const WORLDS: u64 = 10_000;

/// What a run amounts to.
#[derive(Debug, Default)]
struct Sum {
    table: Table,
    packets: u64,
    faults: u64,
    steps: u64,
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// One thread, and a clock that stands still while anything can go on.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Every world has a thread to itself.
fn on_all_cores(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// Lives through one world.
fn live(plan: impl FnOnce(&mut Dice) -> Plan, seed: u64) -> World {
    runtime().block_on(async {
        let mut dice = Dice::new(seed);
        let plan = plan(&mut dice);
        let mut world = World::new(plan, dice);
        // In a box: unoptimised, its frames fill the stack of a test.
        Box::pin(world.play()).await;
        world
    })
}

/// Whether some world has failed: then the others need not be seen.
static FAILED: AtomicBool = AtomicBool::new(false);

fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Says how to see a world again that failed.
enum Replay {
    Seed(u64),
    Script(&'static str, Vec<usize>),
}

impl Drop for Replay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        FAILED.store(true, Ordering::Relaxed);
        match self {
            Self::Seed(seed) => eprintln!(
                "seed {seed} failed, again: SIMULATION_FIRST={seed} SIMULATION_WORLDS=1 cargo test --test simulation worlds"
            ),
            // They come in the same order in every run.
            Self::Script(scene, script) => {
                eprintln!("{scene}, {script:?} failed, again: cargo test --test simulation packets");
            }
        }
    }
}

/// How many of the worlds in which one replica keeps in memory what is beyond the last part.
const FORGETFUL: u64 = 300;

#[test]
fn with_the_durability_of_parts_one_replica_goes_back_to_a_part_and_keeps_every_other_promise() {
    for seed in 0..FORGETFUL {
        live(Plan::forgetful, seed);
    }
}

/// A seed is worth something only if it shows the same world again.
#[test]
fn the_same_seed_makes_the_same_world() {
    let story = |seed| live(Plan::of, seed).story();
    for seed in 0..20 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}

#[test]
fn in_10_000_worlds_every_promise_is_kept() {
    let (first, worlds) = (number("SIMULATION_FIRST", 0), number("SIMULATION_WORLDS", WORLDS));
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    on_all_cores(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + worlds || has_failed() {
                break;
            }
            let replay = Replay::Seed(seed);
            let world = live(Plan::of, seed);
            drop(replay);
            assert!(world.packets >= PACKETS && world.faults >= FAULTY);
            let mut sum = sum.lock().unwrap();
            sum.table.merge(&world.table());
            sum.packets += world.packets;
            sum.faults += world.faults;
            sum.steps += world.steps;
        }
    });
    let Sum {
        table,
        packets,
        faults,
        steps,
    } = sum.into_inner().unwrap();
    println!("{worlds} worlds from seed {first}: {packets} packets, {faults} faults, {steps} steps\n{table}");
    if worlds >= WORLDS {
        let empty = table.empty();
        assert!(empty.is_empty(), "nobody tried {empty:?}");
    }
}
