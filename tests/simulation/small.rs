//! Small worlds, tried in every way: two packets in flight on two replicas, one fault. What happens in them is a script of choices; each
//! run goes through one, and the next one is the script that comes after it, until there is none.

use std::sync::atomic::{AtomicUsize, Ordering};

use bits_gateway::bits::{ContentRange, SessionId};
use bits_gateway::staging::Cutting;

use crate::Replay;
use crate::depot::Habit;
use crate::dice::Dice;
use crate::line::Request;
use crate::table::Fault;
use crate::world::{HOUR, KIB, MINUTE, Packet, Plan, SECOND, World};

/// A packet of a scene, for the session of this number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    /// The bytes from here to there.
    Sends(usize, u64, u64),
    Cancels(usize),
    Closes(usize),
    Sweeps,
    SweepsTwice,
}

/// How a small world begins, and which two packets are in flight in it.
#[derive(Clone, Debug)]
struct Scene {
    name: &'static str,
    overwrite: bool,
    cutting: Cutting,
    /// The sizes of the files, one session for each, all for one key.
    sizes: &'static [u64],
    /// What was sent before, to one replica after the other.
    before: &'static [Act],
    /// So much later.
    later: std::time::Duration,
    acts: [Act; 2],
}

const PART: u64 = 4;
const NOW: std::time::Duration = std::time::Duration::ZERO;

use Act::{Cancels, Closes, Sends, Sweeps, SweepsTwice};

const SCENES: &[Scene] = &[
    claimed(
        "two first fragments that are parts",
        &[20],
        &[],
        [Sends(0, 0, 5), Sends(0, 0, 6)],
    ),
    claimed(
        "the same part twice",
        &[20],
        &[Sends(0, 0, 5)],
        [Sends(0, 5, 10), Sends(0, 5, 10)],
    ),
    claimed(
        "two parts that begin at one place",
        &[20],
        &[Sends(0, 0, 5)],
        [Sends(0, 5, 10), Sends(0, 5, 11)],
    ),
    claimed(
        "a part and a tail within it",
        &[20],
        &[Sends(0, 0, 5)],
        [Sends(0, 5, 10), Sends(0, 5, 8)],
    ),
    claimed(
        "a part over a tail and one beyond it",
        &[20],
        &[Sends(0, 0, 5), Sends(0, 5, 7)],
        [Sends(0, 7, 9), Sends(0, 7, 10)],
    ),
    claimed(
        "a part that was claimed before its size was known",
        &[20],
        &[Sends(0, 0, 2), Sends(0, 2, 4)],
        [Sends(0, 4, 9), Sends(0, 4, 11)],
    ),
    claimed(
        "the last part and one that ends before it",
        &[10],
        &[Sends(0, 0, 5)],
        [Sends(0, 5, 10), Sends(0, 5, 9)],
    ),
    claimed(
        "a stale replica behind an unequal part",
        &[20],
        &[Sends(0, 0, 5), Sends(0, 5, 7)],
        [Sends(0, 5, 10), Sends(0, 7, 12)],
    ),
    scene(
        "the same tail twice",
        &[10],
        &[Sends(0, 0, 2)],
        [Sends(0, 2, 3), Sends(0, 2, 3)],
    ),
    scene(
        "two tails of different lengths",
        &[10],
        &[Sends(0, 0, 1)],
        [Sends(0, 1, 2), Sends(0, 1, 3)],
    ),
    scene(
        "a tail and the part over it",
        &[10],
        &[Sends(0, 0, 2)],
        [Sends(0, 2, 3), Sends(0, 2, 6)],
    ),
    scene(
        "two begin the upload",
        &[10],
        &[Sends(0, 0, 2)],
        [Sends(0, 2, 4), Sends(0, 2, 5)],
    ),
    scene("two first fragments", &[10], &[], [Sends(0, 0, 2), Sends(0, 0, 5)]),
    scene(
        "a stale replica behind a part",
        &[10],
        &[Sends(0, 0, 2), Sends(0, 2, 5)],
        [Sends(0, 2, 6), Sends(0, 5, 7)],
    ),
    scene(
        "the last byte of a small file twice",
        &[4],
        &[Sends(0, 0, 2)],
        [Sends(0, 2, 4), Sends(0, 2, 4)],
    ),
    scene(
        "the last byte of parts twice",
        &[5],
        &[Sends(0, 0, 4)],
        [Sends(0, 4, 5), Sends(0, 4, 5)],
    ),
    scene(
        "the last byte and the one before it",
        &[6],
        &[Sends(0, 0, 4)],
        [Sends(0, 4, 6), Sends(0, 4, 5)],
    ),
    scene(
        "the end of a small file and Cancel",
        &[4],
        &[Sends(0, 0, 2)],
        [Sends(0, 2, 4), Cancels(0)],
    ),
    scene(
        "the end of parts and Cancel",
        &[5],
        &[Sends(0, 0, 4)],
        [Sends(0, 4, 5), Cancels(0)],
    ),
    scene("a part and Close", &[10], &[], [Sends(0, 0, 4), Closes(0)]),
    scene("Close twice", &[6], &[Sends(0, 0, 6)], [Closes(0), Closes(0)]),
    scene(
        "a race for one key",
        &[4, 4],
        &[Sends(0, 0, 2), Sends(1, 0, 2)],
        [Sends(0, 2, 4), Sends(1, 2, 4)],
    ),
    scene(
        "a race of parts for one key",
        &[5, 5],
        &[Sends(0, 0, 4), Sends(1, 0, 4)],
        [Sends(0, 4, 5), Sends(1, 4, 5)],
    ),
    Scene {
        overwrite: true,
        ..scene(
            "a race to overwrite one key",
            &[4, 5],
            &[Sends(0, 0, 2), Sends(1, 0, 4)],
            [Sends(0, 2, 4), Sends(1, 4, 5)],
        )
    },
    Scene {
        later: HOUR.saturating_mul(5),
        ..scene(
            "a sweep finds the session silent",
            &[10],
            &[Sends(0, 0, 2)],
            [Sweeps, Sends(0, 2, 3)],
        )
    },
    Scene {
        later: HOUR.saturating_mul(5),
        ..scene(
            "a sweep finds the session silent and a part is full",
            &[10],
            &[Sends(0, 0, 2)],
            [Sweeps, Sends(0, 2, 5)],
        )
    },
    Scene {
        later: MINUTE.saturating_mul(70),
        ..scene(
            "a sweep finds the session still silent",
            &[10],
            &[Sends(0, 0, 2), Sweeps],
            [Sweeps, Sends(0, 2, 3)],
        )
    },
    Scene {
        later: HOUR.saturating_mul(5),
        ..scene(
            "a sweep comes right after the one that found the session silent",
            &[10],
            &[Sends(0, 0, 2)],
            [SweepsTwice, Sends(0, 2, 3)],
        )
    },
    Scene {
        later: HOUR.saturating_mul(3),
        ..scene(
            "a sweep forgets a session and another one for its key begins an upload",
            &[5, 10],
            &[Cancels(0)],
            [Sweeps, Sends(1, 0, 4)],
        )
    },
];

/// A scene at a store that takes parts of any length, under numbers.
const fn claimed(name: &'static str, sizes: &'static [u64], before: &'static [Act], acts: [Act; 2]) -> Scene {
    Scene {
        cutting: Cutting::Claimed,
        ..scene(name, sizes, before, acts)
    }
}

const fn scene(name: &'static str, sizes: &'static [u64], before: &'static [Act], acts: [Act; 2]) -> Scene {
    Scene {
        name,
        overwrite: false,
        cutting: Cutting::Alike,
        sizes,
        before,
        later: NOW,
        acts,
    }
}

const FATES: [Fault; 5] = [Fault::Lost, Fault::AnswerLost, Fault::Late, Fault::Echo, Fault::Refused];

/// What can happen next, to the request of this number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Carry(u64),
    Spoil(u64, Fault),
    /// The process that waits for it dies.
    Kill(u64),
    Arrives,
}

/// What need not be tried here: it was tried before what came since, and nothing that came since makes a difference to it (sleep sets:
/// every state of the world is still reached).
type Tried = Vec<Next>;

/// Two replicas, and nothing that is left to chance.
pub fn plan(overwrite: bool, cutting: Cutting) -> Plan {
    Plan {
        habit: Habit::ContentTags,
        replicas: 2,
        clients: 0,
        memory: 64 * KIB,
        part_size: PART,
        cutting,
        at_odds: false,
        is_large: false,
        overwrite,
        old: false,
        one_key: true,
        trouble: 0,
        consumers: false,
        foreign: false,
        ends_uploads: false,
        is_forgetful: false,
        is_digested: true,
    }
}

impl Scene {
    /// One way through the scene; `false` when all that could happen was tried in other orders before.
    async fn play(&self, script: Vec<usize>) -> (World, bool) {
        let mut world = World::new(plan(self.overwrite, self.cutting), Dice::scripted(script));
        world.note(format!("{self:?}"));
        world.lines.state().is_healed = true;
        let mut sessions = Vec::new();
        for &size in self.sizes {
            let file = world.file("0.bin".to_owned(), size);
            world.send(0, file, Packet::Create, None);
            world.come_to_rest().await;
            let session = world.oracle.sessions.iter().find(|(_, facts)| facts.file == file);
            sessions.push(*session.expect("it was created").0);
        }
        for (at, &act) in self.before.iter().enumerate() {
            if let Sweeps = act {
                world.lines.depot.time.jump(5 * HOUR).await;
            }
            self.begin(&mut world, &sessions, at % 2, act);
            world.come_to_rest().await;
        }
        world.lines.depot.time.jump(self.later).await;
        world.lines.state().is_healed = false;
        for (at, &act) in self.acts.iter().enumerate() {
            self.begin(&mut world, &sessions, at, act);
        }
        let mut faults = 1;
        let mut tried = Tried::new();
        loop {
            world.settle().await;
            let mut options = options(&world, faults);
            let is_over = options.is_empty();
            options.retain(|next| !tried.contains(next));
            match options.len() {
                0 if is_over && world.is_at_rest() => break,
                0 if is_over => world.let_pass(SECOND).await,
                0 => return (world, false),
                count => {
                    let chosen = world.dice.choose(count);
                    let next = options[chosen];
                    tried.extend(&options[..chosen]);
                    tried.retain(|&earlier| commute(&world, earlier, next));
                    world.note(format!("{next:?}"));
                    go_on(&mut world, next, &mut faults);
                }
            }
        }
        self.finish(&mut world, &sessions).await;
        (world, true)
    }

    fn begin(&self, world: &mut World, sessions: &[SessionId], at: usize, act: Act) {
        let packet = match act {
            Sends(file, from, to) => {
                let range = ContentRange::new(from, to, self.sizes[file]).expect("a range of the file");
                Packet::Fragment(sessions[file], range)
            }
            Cancels(file) => Packet::Cancel(sessions[file]),
            Closes(file) => Packet::Close(sessions[file]),
            Sweeps => return world.sweep_from(at),
            SweepsTwice => return world.sweep_often(at, 2),
        };
        let (Sends(file, ..) | Cancels(file) | Closes(file)) = act else {
            return;
        };
        world.send(at, file, packet, None);
    }

    /// Whatever happened, every session can be brought to its end, and nothing is left.
    async fn finish(&self, world: &mut World, sessions: &[SessionId]) {
        while !world.lines.state().strays.is_empty() {
            world.lines.settle_stray(0, true);
            world.settle().await;
        }
        world.lines.state().is_healed = true;
        if self.acts.iter().any(|act| matches!(act, Sweeps | SweepsTwice)) {
            world.lines.depot.time.jump(70 * MINUTE).await;
            world.sweep_from(0);
            world.come_to_rest().await;
        }
        for (file, &session) in sessions.iter().enumerate() {
            let total = self.sizes[file];
            for round in 0.. {
                assert!(round < 40, "a session can't be brought to its end");
                let told = world.oracle.sessions[&session].told;
                let packet = match world.oracle.phase(session) {
                    "closed" => break,
                    "published" => Packet::Close(session),
                    // The loser of a race can be cancelled only.
                    _ if round > 20 => Packet::Cancel(session),
                    _ => {
                        let from = told.min(total - 1);
                        let to = (from + PART - 1).min(total);
                        Packet::Fragment(
                            session,
                            ContentRange::new(from, to, total).expect("a range of the file"),
                        )
                    }
                };
                world.send(round % 2, file, packet, None);
                world.come_to_rest().await;
                if round > 10 {
                    world.lines.depot.time.jump(5 * MINUTE).await;
                }
            }
        }
        world.sweep_up().await;
    }
}

/// Everything that can happen next.
fn options(world: &World, faults: usize) -> Vec<Next> {
    let state = world.lines.state();
    let mut options = Vec::new();
    for request in &state.waiting {
        let number = request.number;
        options.push(Next::Carry(number));
        if faults == 0 {
            continue;
        }
        let fates = FATES.iter().filter(|fault| fault.befalls(request.step));
        // A question that is lost and one whose answer is lost are the same.
        let fates = fates.filter(|&&fault| request.step.writes() || fault != Fault::AnswerLost);
        options.extend(fates.map(|&fault| Next::Spoil(number, fault)));
        if request.step.writes() {
            options.push(Next::Kill(number));
        }
    }
    if !state.strays.is_empty() && !state.waiting.is_empty() {
        options.push(Next::Arrives);
    }
    options
}

/// Whether it makes no difference which of the two happens first.
fn commute(world: &World, one: Next, other: Next) -> bool {
    let state = world.lines.state();
    let request = |next: Next| match next {
        Next::Carry(number) | Next::Spoil(number, _) | Next::Kill(number) => {
            state.waiting.iter().find(|request| request.number == number)
        }
        Next::Arrives => state.strays.first(),
    };
    let (Some(first), Some(second)) = (request(one), request(other)) else {
        return false;
    };
    // There is one fault only, and what arrives late may be of a process that is dead.
    let spoils = |next| matches!(next, Next::Spoil(..) | Next::Kill(_));
    !(spoils(one) && spoils(other)) && first.commutes_with(second)
}

fn go_on(world: &mut World, next: Next, faults: &mut usize) {
    let found = |world: &World, number| {
        let state = world.lines.state();
        let at = state
            .waiting
            .iter()
            .position(|request: &Request| request.number == number);
        at.expect("it waits")
    };
    match next {
        Next::Carry(number) => world.lines.carry(found(world, number)),
        Next::Spoil(number, fault) => {
            *faults -= 1;
            world.lines.spoil(found(world, number), fault);
        }
        Next::Kill(number) => {
            *faults -= 1;
            let at = found(world, number);
            let process = world.lines.state().waiting[at].process;
            let at = world.place_of(process).expect("it lives");
            world.kill_at(at);
        }
        Next::Arrives => world.lines.settle_stray(0, true),
    }
}

/// Goes through every script of a scene; how many ways there are.
fn explore(scene: &Scene) -> usize {
    let mut script = Some(Vec::new());
    let mut ways = 0;
    while let Some(given) = script.filter(|_| !crate::has_failed()) {
        let replay = Replay::Script(scene.name, given.clone());
        let (world, is_new) = crate::runtime().block_on(async { Box::pin(scene.play(given)).await });
        drop(replay);
        script = world.dice.clone().next_script();
        ways += usize::from(is_new);
    }
    ways
}

#[test]
fn two_packets_and_one_fault_in_every_order_keep_every_promise() {
    let (next, all) = (AtomicUsize::new(0), AtomicUsize::new(0));
    crate::on_all_cores(|| {
        while let Some(scene) = SCENES.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ways = explore(scene);
            println!("{ways:6} ways: {}", scene.name);
            all.fetch_add(ways, Ordering::Relaxed);
        }
    });
    println!("{:6} ways in all", all.into_inner());
}
