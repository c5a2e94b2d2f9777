//! Whole uploads to a local directory on a machine whose power fails again and again. The oracle is the file itself, and what the client
//! was told.
//!
//! `POWER_SEEDS=10000` runs as many seeds, `POWER_FIRST=4711` begins with that one.

use futures::TryStreamExt;
use futures::future::join_all;

use super::*;
use crate::cleanup::Broom;
use crate::store::dice::Dice;
use crate::store::lossy::{Habits, LossyDisk, Machine};

/// How many seeds an ordinary run tries.
const SEEDS: u64 = 100;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Somebody who uploads a file, whatever happens to the server.
struct Client {
    key: &'static str,
    data: Vec<u8>,
    dice: Dice,
    id: Option<SessionId>,
    /// Bytes that the server told it has, and must never ask for again.
    told: usize,
    closed: bool,
    log: Vec<String>,
}

impl Client {
    /// Uploads until the server is dead, or nothing is left to do.
    async fn upload(&mut self, uploads: &Uploads, place: &Arc<Place>, disk: &LossyDisk) {
        while !self.closed && !disk.is_dead() {
            let Some(id) = self.id else {
                let created = uploads.create(place, asked(self.key)).await;
                self.log.push(format!("create: {created:?}"));
                match created {
                    Ok(id) => self.id = Some(id),
                    Err(refused) => assert!(disk.is_dead(), "{refused:?}"),
                }
                continue;
            };
            if self.told == self.data.len() {
                assert!(self.is_published(place, disk).await, "the file was told to be there");
                let closed = uploads.close(place, &asked(self.key), id).await;
                self.log.push(format!("close: {closed:?}"));
                match closed {
                    Ok(()) => self.closed = true,
                    Err(refused) => assert!(disk.is_dead(), "{refused:?}"),
                }
                continue;
            }
            self.send(uploads, place, disk, id).await;
        }
    }

    async fn send(&mut self, uploads: &Uploads, place: &Arc<Place>, disk: &LossyDisk, id: SessionId) {
        // A client repeats what it got no answer for, and sometimes what it did.
        let first = if self.dice.chance(800) {
            self.told
        } else {
            self.told / 2
        };
        let left = self.data.len() - self.told;
        let length = 1 + usize::try_from(self.dice.below(left as u64)).unwrap();
        let length = if self.dice.chance(500) { length.min(700) } else { length };
        let end = self.told + length;
        let range = ContentRange::new(first as u64, end as u64, self.data.len() as u64).unwrap();
        let mut body = Whole::of(&self.data[first..end], 999);
        let fragmented = uploads.fragment(place, &asked(self.key), id, range, &mut body).await;
        self.log.push(format!("{first}..{end}: {fragmented:?}"));
        let next = fragmented.next.map(|next| usize::try_from(next).unwrap());
        if let Some(next) = next {
            assert!(next >= self.told, "{} was told, now {next} is asked for", self.told);
            self.told = next;
        }
        match fragmented.verdict {
            Ok(()) => assert!(next.unwrap() >= end, "a fragment was taken, but not whole"),
            // Some of it was stored before the power failed.
            Err(Refused::OutOfStep) => assert!(next.unwrap() > first, "nothing is missing before {first}"),
            Err(refused) => assert!(disk.is_dead(), "{refused:?}"),
        }
    }

    /// Whether the file is there. A machine that is off tells nothing.
    async fn is_published(&self, place: &Arc<Place>, disk: &LossyDisk) -> bool {
        let stored = stored(&place.store, self.key).await;
        stored.as_ref() == Some(&self.data) || disk.is_dead()
    }

    /// Nobody ever sees half of a file.
    async fn look(&self, place: &Arc<Place>, disk: &LossyDisk) {
        let stored = stored(&place.store, self.key).await;
        let is_whole = stored.as_ref().is_none_or(|stored| *stored == self.data);
        assert!(is_whole, "half a file");
        if self.told == self.data.len() {
            assert!(stored.is_some() || disk.is_dead(), "the file is gone");
        }
    }
}

/// From the start of the machine until its power fails or everything is done.
async fn up(machine: &Machine, disk: Arc<LossyDisk>, clients: &mut [Client], part_size: u64) -> bool {
    let Some(store) = disk.store() else {
        return false;
    };
    let place = place(&store, rules(part_size));
    let uploads = replica(KIB * KIB);
    for client in &*clients {
        client.look(&place, &disk).await;
    }
    let all = clients.iter_mut().map(|client| client.upload(&uploads, &place, &disk));
    join_all(all).await;
    drop(uploads);
    let done = clients.iter().all(|client| client.closed) && !machine.is_off();
    if done {
        machine.fail_after(None);
    }
    done && !disk.is_dead()
}

/// What is left goes with the sweep.
async fn sweep(disk: Arc<LossyDisk>, clients: &[Client], part_size: u64) {
    let store = disk.store().unwrap();
    let place = place(&store, rules(part_size));
    for round in 1..=4 {
        let now = store.now().await.unwrap().plus(DAY * 15 * round);
        Broom::new(&place).sweep(now).await.unwrap();
    }
    for client in clients {
        client.look(&place, &disk).await;
        let uploads = store.list_uploads(&Key::parse(client.key).unwrap()).await.unwrap();
        assert!(uploads.is_empty(), "uploads are left for ever: {uploads:?}");
    }
    let sessions: Vec<_> = store
        .list_sessions()
        .map_ok(|session| session.id)
        .try_collect()
        .await
        .unwrap();
    assert!(sessions.is_empty(), "sessions are left for ever: {sessions:?}");
}

/// As a process has it: when it is over, nothing of it goes on.
fn process<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn run(seed: u64) {
    let dice = &mut Dice::new(seed ^ 0xB175);
    let part_size = *dice.pick(&[64, 5000, 8192]);
    let count = if dice.chance(300) { 2 } else { 1 };
    let habits = Habits {
        careful_renames: dice.chance(700),
        attributes: dice.chance(700),
        restless: count > 1,
    };
    let machine = Machine::new(Dice::new(dice.roll()), habits);
    let mut clients: Vec<_> = ["f.bin", "in/g.bin"][..count]
        .iter()
        .map(|key| Client {
            key,
            data: pattern(usize::try_from(1 + dice.below(5 * part_size)).unwrap()),
            dice: Dice::new(dice.roll()),
            id: None,
            told: 0,
            closed: false,
            log: Vec::new(),
        })
        .collect();
    let printed = Printed(format!("seed {seed}: parts of {part_size}, {habits:?}"));
    // The longer it takes, the longer the power lasts: it comes to an end.
    for boot in 1.. {
        let disk = machine.start();
        machine.fail_after(Some(dice.below(40 * boot)));
        for client in &mut clients {
            client.log.push(format!("boot {boot}"));
        }
        if process(up(&machine, disk, &mut clients, part_size)) {
            break;
        }
        // The process is killed, and most of the time the machine with it.
        if dice.chance(800) {
            machine.lose_power();
        }
    }
    machine.lose_power();
    machine.fail_after(None);
    process(sweep(machine.start(), &clients, part_size));
    drop(printed);
}

/// Says which run it was, when it fails.
struct Printed(String);

impl Drop for Printed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}, {} bytes: {}", self.key, self.data.len(), self.log.join("\n  "));
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn however_often_the_power_fails_no_acknowledged_byte_is_asked_for_again() {
    let (first, seeds) = (number("POWER_FIRST", 0), number("POWER_SEEDS", SEEDS));
    (first..first + seeds).for_each(run);
}
