//! One world: a store, replicas that serve it over bad lines, clients that upload, and somebody who decides what happens next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bits_gateway::bits::{ContentRange, Hresult, PROTOCOL, SessionId};
use bits_gateway::budget::Budget;
use bits_gateway::cleanup::Broom;
use bits_gateway::client::machine::{Machine, Then};
use bits_gateway::client::{Outgoing, Patience, Sizes, Told};
use bits_gateway::metrics::Metrics;
use bits_gateway::session::{Principal, Target};
use bits_gateway::staging::{Cutting, UploadId};
use bits_gateway::upload::{
    Asked, Body, BodyBroken, Checksum, Coordination, Durability, Fragmented, Place, Refused, Rules, Uploads,
};
use bytes::Bytes;

use crate::depot::{Depot, Habit, SkewedClock, Time};
use crate::dice::Dice;
use crate::line::{Lines, Number, Request};
use crate::oracle::{File, Oracle};
use crate::table::{FAULTS, Fault, Step, Table};

pub const KIB: u64 = 1024;
pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every world has at least so many.
pub const PACKETS: u64 = 30;
pub const FAULTY: u64 = 3;

/// What may happen in a world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub habit: Habit,
    pub replicas: usize,
    pub clients: usize,
    pub memory: u64,
    pub part_size: u64,
    /// What parts the store takes.
    pub cutting: Cutting,
    /// Every other process is told that it takes equal ones only.
    pub at_odds: bool,
    /// Files have more parts than a page holds.
    pub is_large: bool,
    pub overwrite: bool,
    /// There is a file at the destinations before.
    pub old: bool,
    /// All files go to one key.
    pub one_key: bool,
    /// Of a thousand requests, so many meet a fault.
    pub trouble: u64,
    /// Somebody takes files away as soon as they are there.
    pub consumers: bool,
    /// Somebody else writes to the destinations.
    pub foreign: bool,
    /// The store ends multipart uploads by itself.
    pub ends_uploads: bool,
    /// `durability = "part"`.
    pub is_forgetful: bool,
    /// `checksum = "sha256"`.
    pub is_digested: bool,
}

impl Plan {
    pub fn of(dice: &mut Dice) -> Self {
        let is_large = dice.chance(60);
        Self {
            is_large,
            habit: *dice.pick(&[
                Habit::ContentTags,
                Habit::ContentTags,
                Habit::ContentTags,
                Habit::WriteASecond,
                Habit::FreshPartIds,
            ]),
            replicas: *dice.pick(&[2, 2, 3]),
            clients: *dice.pick(&[2, 2, 3]),
            memory: *dice.pick(&[4 * KIB, 6 * KIB, 1024 * KIB]),
            part_size: if is_large { 4 } else { *dice.pick(&[4, 7, 16, 64, 64]) },
            cutting: *dice.pick(&[
                Cutting::Claimed,
                Cutting::Claimed,
                Cutting::Claimed,
                Cutting::Alike,
                Cutting::Free,
            ]),
            at_odds: dice.chance(150),
            overwrite: dice.chance(400),
            old: dice.chance(300),
            one_key: dice.chance(300),
            trouble: *dice.pick(&[15, 40, 100, 250]),
            consumers: dice.chance(200),
            foreign: dice.chance(60),
            ends_uploads: dice.chance(60),
            is_forgetful: false,
            is_digested: dice.chance(500),
        }
    }

    /// A world of one replica that keeps in memory what is beyond the last part.
    pub fn forgetful(dice: &mut Dice) -> Self {
        Self {
            replicas: 1,
            is_forgetful: true,
            is_large: false,
            ..Self::of(dice)
        }
    }

    /// The rules of the route.
    pub fn rules(&self) -> Rules {
        Rules {
            overwrite: self.overwrite,
            max_upload_size: 1 << 40,
            max_fragment_size: 1 << 40,
            part_size: self.part_size,
            session_timeout: 4 * HOUR,
            closed_session_memory: 2 * HOUR,
            durability: if self.is_forgetful {
                Durability::Part
            } else {
                Durability::Fragment
            },
            coordination: Coordination::Shared,
            checksum: if self.is_digested {
                Checksum::Sha256
            } else {
                Checksum::Off
            },
            checksum_sidecar: false,
        }
    }
}

/// A process in its place behind the load balancer.
struct Replica {
    number: Number,
    uploads: Uploads,
    budget: Budget,
    place: Arc<Place>,
    broom: Arc<tokio::sync::Mutex<Broom>>,
    is_frozen: bool,
}

/// What a packet asks for.
#[derive(Clone, Debug)]
pub enum Packet {
    Create,
    Fragment(SessionId, ContentRange),
    Close(SessionId),
    Cancel(SessionId),
}

/// What came of it.
#[derive(Debug)]
enum Did {
    Created(Result<SessionId, Refused>),
    Took(Fragmented),
    Ended(Result<(), Refused>),
}

/// A packet that some process works on.
struct Turn {
    number: u64,
    process: Number,
    file: usize,
    packet: Packet,
    /// What its client knew when it was sent.
    told: u64,
    sent: Duration,
    /// The client that waits for the answer.
    client: Option<usize>,
}

/// A client: the state machine of Windows, and what it is at.
struct Client {
    machine: Machine,
    file: usize,
    session: Option<SessionId>,
    waits_for: Option<u64>,
    /// It has had enough, and ends the session.
    gives_up: bool,
    is_done: bool,
}

/// What turns hand in, in the order in which they end.
type Outcomes = Arc<Mutex<VecDeque<(u64, Option<Did>)>>>;

pub struct World {
    pub plan: Plan,
    pub dice: Dice,
    pub lines: Arc<Lines>,
    pub oracle: Oracle,
    replicas: Vec<Replica>,
    processes: Number,
    clients: Vec<Client>,
    /// Every session that a client was told of.
    told: Vec<SessionId>,
    turns: Vec<Turn>,
    outcomes: Outcomes,
    sweeps: Arc<Mutex<Vec<Number>>>,
    pub packets: u64,
    pub faults: u64,
    pub steps: u64,
    /// How long it lasted, when it is over.
    lasted: Duration,
    serial: u64,
    log: Vec<String>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.plan)?;
        self.log.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self:?}");
        }
    }
}

/// Counters that nobody reads, shared by all worlds.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::new(["/"])).clone()
}

#[expect(clippy::disallowed_methods, reason = "the clock is the world's own")]
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

impl World {
    pub fn new(plan: Plan, dice: Dice) -> Self {
        let time = Arc::new(Time::begin());
        let mut depot = Depot::new(plan.habit, plan.ends_uploads.then_some(DAY), time);
        (depot.cutting, depot.at_odds) = (plan.cutting, plan.at_odds);
        let lines = Lines::new(depot);
        let rules = plan.rules();
        let oracle = Oracle::new(&lines, &rules);
        let mut world = Self {
            oracle,
            lines,
            replicas: Vec::new(),
            processes: 0,
            clients: Vec::new(),
            told: Vec::new(),
            turns: Vec::new(),
            outcomes: Arc::default(),
            sweeps: Arc::default(),
            packets: 0,
            faults: 0,
            steps: 0,
            lasted: Duration::ZERO,
            serial: 0,
            log: Vec::new(),
            plan,
            dice,
        };
        for _ in 0..world.plan.replicas {
            let replica = world.start();
            world.replicas.push(replica);
        }
        world
    }

    pub fn table(&self) -> Table {
        self.lines.state().table.clone()
    }

    /// What happened, told by numbers: names are random.
    pub fn story(&self) -> (u64, u64, u64, Duration, String) {
        (
            self.packets,
            self.faults,
            self.steps,
            self.lasted,
            self.table().to_string(),
        )
    }

    pub fn note(&mut self, what: impl Into<String>) {
        let passed = self.lines.depot.time.passed();
        self.log.push(format!("{passed:?} {}", what.into()));
    }

    /// Which replica a process is.
    pub fn place_of(&self, process: Number) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.number == process)
    }

    /// A new process.
    fn start(&mut self) -> Replica {
        let number = self.processes;
        self.processes += 1;
        let budget = Budget::new(self.plan.memory, MINUTE);
        // Some think that it is yesterday, some that it is tomorrow.
        let skew = *self.dice.pick(&[0, 0, 86_400_000, -86_400_000]);
        let clock = SkewedClock {
            time: Arc::clone(&self.lines.depot.time),
            skew,
        };
        let place = Arc::new(Place {
            route: "/".to_owned(),
            store: self.lines.store(number),
            rules: self.plan.rules(),
            application: None,
            events: None,
        });
        Replica {
            number,
            uploads: Uploads::new(budget.clone(), Arc::new(clock), metrics()),
            budget,
            broom: Arc::new(tokio::sync::Mutex::new(Broom::new(&place))),
            place,
            is_frozen: false,
        }
    }

    /// A file that is to be uploaded.
    pub fn file(&mut self, key: String, size: u64) -> usize {
        let number = self.oracle.files.len();
        let data = (0..size).map(|at| (at * 31 % 251) as u8 ^ (number as u8 + 1)).collect();
        self.oracle.files.push(File {
            key,
            data: Arc::new(data),
        });
        number
    }

    fn asked(&self, file: usize) -> Asked {
        let key = self.oracle.files[file].key.clone();
        Asked {
            principal: Principal::anonymous(),
            target: Target {
                route: "/".to_owned(),
                key: key.clone(),
                query: None,
            },
            url: format!("http://h/{key}?file={file}"),
            client: None,
        }
    }

    fn size(&self, file: usize) -> u64 {
        self.oracle.files[file].data.len() as u64
    }

    /// A client that uploads another file.
    fn begin(&mut self) -> Client {
        let part = self.plan.part_size;
        let parts = *self.dice.pick(&[1, 1, 2, 5, 12]);
        let size = match self.dice.below(40) {
            0 => 0,
            1..20 if self.plan.is_large => 1640 + self.dice.below(40),
            _ => 1 + self.dice.below(part * parts),
        };
        let files = self.oracle.files.len();
        let key = match (self.plan.overwrite, self.plan.one_key) {
            (true, true) => "0.bin".to_owned(),
            (true, false) => format!("{}.bin", files % 2),
            // Files stay where they are: two race for each key.
            (false, true) => format!("{}.bin", files / 2),
            (false, false) => format!("{files}.bin"),
        };
        let file = self.file(key, size);
        let patience = Patience {
            retry_delay: SECOND,
            longest_delay: MINUTE,
            give_up_after: 1000 * DAY,
        };
        let sizes = match size > 800 {
            true => Sizes::Varying { least: 100, most: 400 },
            false => Sizes::Varying {
                least: 1,
                most: 2 * part,
            },
        };
        Client {
            machine: Machine::new(size, sizes, patience, self.dice.roll(), None, Duration::ZERO),
            file,
            session: None,
            waits_for: None,
            gives_up: false,
            is_done: false,
        }
    }

    /// Hands a packet to the replica behind `at`.
    pub fn send(&mut self, at: usize, file: usize, packet: Packet, client: Option<usize>) -> u64 {
        self.serial += 1;
        self.packets += 1;
        let number = self.serial;
        let replica = &self.replicas[at];
        let process = replica.number;
        let told = match &packet {
            Packet::Fragment(id, range) => {
                let facts = self.oracle.sessions.get_mut(id);
                facts.map_or(0, |facts| {
                    facts.sent_last |= range.end() == range.total();
                    facts.told
                })
            }
            Packet::Close(id) | Packet::Cancel(id) => {
                if let Some(facts) = self.oracle.sessions.get_mut(id) {
                    facts.was_ended = true;
                }
                0
            }
            Packet::Create => 0,
        };
        let (lines, outcomes) = (Arc::clone(&self.lines), Arc::clone(&self.outcomes));
        let (uploads, place, asked) = (replica.uploads.clone(), Arc::clone(&replica.place), self.asked(file));
        let work: std::pin::Pin<Box<dyn Future<Output = Did> + Send>> = match packet.clone() {
            Packet::Create => Box::pin(async move { Did::Created(uploads.create(&place, asked).await) }),
            Packet::Fragment(id, range) => {
                let mut body = self.body(file, range);
                Box::pin(async move { Did::Took(uploads.fragment(&place, &asked, id, range, &mut body).await) })
            }
            Packet::Close(id) => Box::pin(async move { Did::Ended(uploads.close(&place, &asked, id).await) }),
            Packet::Cancel(id) => Box::pin(async move { Did::Ended(uploads.cancel(&place, &asked, id).await) }),
        };
        tokio::spawn(async move {
            let done = lines.within(process, work).await;
            outcomes.lock().unwrap().push_back((number, done));
        });
        self.note(format!("packet {number} to process {process}: {packet:?}"));
        self.turns.push(Turn {
            number,
            process,
            file,
            packet,
            told,
            sent: self.lines.depot.time.passed(),
            client,
        });
        number
    }

    fn body(&mut self, file: usize, range: ContentRange) -> Uneven {
        let data = &self.oracle.files[file].data;
        let (from, to) = (range.first() as usize, (range.end() as usize).min(data.len()));
        let bytes = data.get(from..to).map(<[u8]>::to_vec).unwrap_or_default();
        let (came, breaks) = if !bytes.is_empty() && self.dice.chance(40) {
            (self.dice.below(bytes.len() as u64) as usize, true)
        } else {
            (bytes.len(), false)
        };
        let chunk = 1 + self.dice.below(40) as usize;
        Uneven {
            chunks: bytes[..came].chunks(chunk).map(Bytes::copy_from_slice).collect(),
            breaks,
            pause: self.dice.chance(30).then(|| Duration::from_secs(self.dice.below(9))),
        }
    }

    /// Lets everything run that need not wait for the world, and looks at what came of it.
    pub async fn settle(&mut self) {
        self.let_pass(Duration::from_millis(1)).await;
    }

    pub async fn let_pass(&mut self, time: Duration) {
        pass(time).await;
        self.oracle.check();
        loop {
            let next = self.outcomes.lock().unwrap().pop_front();
            let Some((number, done)) = next else { break };
            self.ended(number, done);
        }
    }

    fn ended(&mut self, number: u64, done: Option<Did>) {
        let at = self
            .turns
            .iter()
            .position(|turn| turn.number == number)
            .expect("it was sent");
        let turn = self.turns.remove(at);
        self.note(format!("packet {number}: {done:?}"));
        match (&turn.packet, &done) {
            (Packet::Fragment(id, range), Some(Did::Took(answer))) => {
                self.oracle.judge(*id, *range, turn.told, turn.sent, answer)
            }
            (Packet::Close(id) | Packet::Cancel(id), Some(Did::Ended(Ok(())))) => {
                let phase = self.oracle.phase(*id);
                assert_eq!(
                    phase, "closed",
                    "the end of a session was confirmed, its record says {phase}"
                );
            }
            _ => {}
        }
        let Some(client) = turn.client else { return };
        if self.clients[client].waits_for == Some(number) {
            self.hear(client, turn.packet, done);
        }
    }

    /// A client learns what came of its packet.
    fn hear(&mut self, at: usize, packet: Packet, done: Option<Did>) {
        let now = self.lines.depot.time.passed();
        let client = &mut self.clients[at];
        client.waits_for = None;
        if let Packet::Cancel(_) = packet {
            client.is_done = matches!(done, Some(Did::Ended(Ok(()) | Err(Refused::SessionNotFound))));
            return;
        }
        let told = match done {
            None => Err("reset".to_owned()),
            Some(Did::Created(Ok(id))) => {
                client.session = Some(id);
                self.told.push(id);
                Ok(Told {
                    protocol: Some(PROTOCOL.to_owned()),
                    session: Some(id.as_key()),
                    ..ack(200)
                })
            }
            Some(Did::Took(Fragmented { next, verdict, .. })) => match verdict {
                Ok(()) => Ok(Told {
                    received: next,
                    ..ack(200)
                }),
                Err(refused) => refusal(&refused).map(|told| Told { received: next, ..told }),
            },
            Some(Did::Ended(Ok(()))) => Ok(ack(200)),
            Some(Did::Created(Err(refused)) | Did::Ended(Err(refused))) => refusal(&refused),
        };
        let step = client.machine.heard(told, now);
        match step.then {
            Then::Send | Then::Wait(_) => {}
            Then::Done => client.is_done = true,
            Then::Fail(why) => {
                client.is_done = true;
                let file = client.file;
                self.failed(file, &why);
            }
        }
    }

    /// A client gave up: only where the file of somebody else is in the way.
    fn failed(&mut self, file: usize, why: &bits_gateway::client::Failure) {
        self.note(format!("the client of file {file} gives up: {why:?}"));
        let in_the_way = self.oracle.was_shown(&self.oracle.files[file].key);
        assert!(!self.plan.overwrite && in_the_way, "a client gives up: {why:?}");
    }

    /// Sends what the client wants to send next.
    fn advance(&mut self, at: usize) {
        let now = self.lines.depot.time.passed();
        let replica = self.dice.below(self.replicas.len() as u64) as usize;
        let client = &mut self.clients[at];
        let file = client.file;
        if client.gives_up {
            let Some(id) = client.session else {
                client.is_done = true;
                return;
            };
            let number = self.send(replica, file, Packet::Cancel(id), Some(at));
            self.clients[at].waits_for = Some(number);
            return;
        }
        let packet = match client.machine.request().packet {
            Outgoing::Ping => {
                client.machine.heard(Ok(ack(200)), now);
                return;
            }
            Outgoing::CreateSession => Packet::Create,
            Outgoing::Fragment { from, to, .. } => {
                let total = self.oracle.files[file].data.len() as u64;
                let range = ContentRange::new(from, to, total).expect("a range of the file");
                Packet::Fragment(self.clients[at].session.expect("a session"), range)
            }
            Outgoing::CloseSession { .. } => Packet::Close(client.session.expect("a session")),
        };
        let number = self.send(replica, file, packet, Some(at));
        self.clients[at].waits_for = Some(number);
    }

    /// A packet such as no client sends, for some session that there is or was.
    fn stray(&mut self) {
        let recent = self.told.len().saturating_sub(4);
        let recent = &self.told[recent..];
        if recent.is_empty() {
            return;
        }
        let id = *self.dice.pick(recent);
        let Some(facts) = self.oracle.sessions.get(&id) else {
            return;
        };
        let (file, told) = (facts.file, facts.told);
        let (total, part) = (self.size(file), self.plan.part_size);
        if total == 0 {
            return;
        }
        let first = match self.dice.below(6) {
            0 | 1 => told,
            2 => told.saturating_sub(self.dice.below(2 * part)),
            3 => told + self.dice.below(part),
            4 => 0,
            _ => told / part * part,
        };
        let first = first.min(total - 1);
        let length = match self.dice.below(6) {
            0 | 1 => 1 + self.dice.below(part),
            2 => 1 + self.dice.below(4 * part),
            3 => part - first % part,
            4 => total - first,
            _ => 1 + self.dice.below(3),
        };
        let end = (first + length).min(total);
        // A client that contradicts itself; before anything is stored it would be the one that is right.
        let total = if told > 0 && self.dice.chance(30) {
            total + 1
        } else {
            total
        };
        let range = ContentRange::new(first, end, total).expect("a range of the file");
        let replica = self.dice.below(self.replicas.len() as u64) as usize;
        self.send(replica, file, Packet::Fragment(id, range), None);
    }

    /// The load balancer sends a packet once more, to another replica.
    fn duplicate(&mut self) {
        let again: Vec<_> = self
            .turns
            .iter()
            .filter(|turn| turn.client.is_some() && !matches!(turn.packet, Packet::Create))
            .map(|turn| (turn.file, turn.packet.clone(), turn.process))
            .collect();
        if again.is_empty() {
            return;
        }
        let (file, packet, process) = self.dice.pick(&again).clone();
        let others: Vec<_> = (0..self.replicas.len())
            .filter(|&at| self.replicas[at].number != process)
            .collect();
        let replica = if others.is_empty() { 0 } else { *self.dice.pick(&others) };
        self.send(replica, file, packet, None);
    }

    fn kill(&mut self) {
        let at = self.dice.below(self.replicas.len() as u64) as usize;
        self.kill_at(at);
    }

    /// Kills the process behind `at`, and starts another one in its place.
    pub fn kill_at(&mut self, at: usize) {
        let new = self.start();
        let old = std::mem::replace(&mut self.replicas[at], new);
        self.note(format!("process {} is killed", old.number));
        self.faults += 1;
        self.lines.kill(old.number);
    }

    /// The process behind `at` stands still, at whatever it is.
    pub fn freeze_at(&mut self, at: usize) {
        self.replicas[at].is_frozen = true;
        self.lines.freeze(self.replicas[at].number);
    }

    /// It goes on as if nothing had been.
    pub fn thaw_at(&mut self, at: usize) {
        self.replicas[at].is_frozen = false;
        self.lines.thaw(self.replicas[at].number);
    }

    fn freeze_or_thaw(&mut self) {
        let at = self.dice.below(self.replicas.len() as u64) as usize;
        let is_frozen = self.replicas.iter().any(|replica| replica.is_frozen);
        let (number, stands) = (self.replicas[at].number, self.replicas[at].is_frozen);
        if stands {
            self.thaw_at(at);
            self.note(format!("process {number} wakes"));
        } else if !is_frozen {
            self.freeze_at(at);
            self.faults += 1;
            self.note(format!("process {number} freezes"));
        }
    }

    fn sweep(&mut self) {
        let at = self.dice.below(self.replicas.len() as u64) as usize;
        self.sweep_from(at);
    }

    /// The replica behind `at` sweeps, unless it is at it.
    pub fn sweep_from(&mut self, at: usize) {
        self.sweep_often(at, 1);
    }

    /// The same, so many times without a pause.
    pub fn sweep_often(&mut self, at: usize, times: usize) {
        let replica = &self.replicas[at];
        let (number, broom) = (replica.number, Arc::clone(&replica.broom));
        if self.sweeps.lock().unwrap().contains(&number) {
            return;
        }
        let is_elected = self.dice.chance(300);
        let (lines, sweeps) = (Arc::clone(&self.lines), Arc::clone(&self.sweeps));
        sweeps.lock().unwrap().push(number);
        self.note(format!("process {number} sweeps"));
        tokio::spawn(async move {
            let work = async {
                let mut broom = broom.lock().await;
                let store = broom.store().clone();
                let now = if is_elected {
                    store.elect_sweeper(HOUR).await
                } else {
                    store.now().await.map(Some)
                };
                if let Ok(Some(now)) = now {
                    for _ in 0..times {
                        let _ = broom.sweep(now).await;
                    }
                }
            };
            let work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
            lines.within(number, work).await;
            sweeps.lock().unwrap().retain(|&sweeping| sweeping != number);
        });
    }

    /// Whether nothing is under way but what is frozen, and what nobody waits for has arrived or not.
    fn is_calm(&self) -> bool {
        let is_frozen = |number: Number| {
            self.replicas
                .iter()
                .any(|replica| replica.number == number && replica.is_frozen)
        };
        let state = self.lines.state();
        state.strays.is_empty()
            && state.waiting.iter().all(|request| is_frozen(request.process))
            && self.turns.iter().all(|turn| is_frozen(turn.process))
            && self.sweeps.lock().unwrap().iter().all(|&number| is_frozen(number))
    }

    /// For a while nothing happens but what is frozen.
    async fn jump(&mut self) {
        let by = *self
            .dice
            .pick(&[6 * SECOND, 61 * SECOND, 11 * MINUTE, 16 * MINUTE, 70 * MINUTE, 3 * HOUR]);
        self.lines.depot.time.jump(by).await;
        self.note(format!("{by:?} go by"));
        if by > HOUR && self.dice.chance(500) {
            self.sweep();
        }
    }

    fn consume(&mut self) {
        let key = self.some_key();
        let path = object_store::path::Path::from(key.as_str());
        if self.lines.depot.remove(&path, false).is_ok() {
            self.note(format!("a consumer takes {key}"));
        }
    }

    fn write_over(&mut self) {
        let key = self.some_key();
        self.note(format!("somebody else writes {key}"));
        self.put_foreign(&key);
    }

    /// The destination of one of the latest files.
    fn some_key(&mut self) -> String {
        let files = self.oracle.files.len() as u64;
        let latest = files - 1 - self.dice.below(files.min(4));
        self.oracle.files[latest as usize].key.clone()
    }

    fn put_foreign(&mut self, key: &str) {
        let path = object_store::path::Path::from(key);
        let body = format!("foreign {}", self.serial);
        let mode = object_store::PutMode::Overwrite;
        let _ = self
            .lines
            .depot
            .put(&path, Bytes::from(body), &mode, object_store::Attributes::new());
    }

    fn end_upload(&mut self, at: usize) -> bool {
        let (session, upload, step) = {
            let state = self.lines.state();
            let request = &state.waiting[at];
            (request.session, request.upload.clone(), request.step)
        };
        let (Some(session), Some(upload)) = (session, upload) else {
            return false;
        };
        if !matches!(self.oracle.phase(session), "open" | "expiring" | "publishing")
            || !self.end_upload_named(session, &upload)
        {
            return false;
        }
        self.lines.state().table.count(step, Fault::Ended);
        self.faults += 1;
        self.note(format!("the store ends an upload of {session}"));
        true
    }

    /// The store ends the upload of a session by itself.
    pub fn end_upload_of(&mut self, session: SessionId) {
        let uploads: Vec<_> = self
            .lines
            .depot
            .state()
            .uploads
            .iter()
            .map(|upload| upload.id.clone())
            .collect();
        for upload in uploads {
            self.end_upload_named(session, &upload);
        }
    }

    /// Whether there was such an upload.
    fn end_upload_named(&mut self, session: SessionId, upload: &UploadId) -> bool {
        let is_recorded = self.oracle.names_upload(session, upload);
        let Some(ended) = self.lines.depot.end(upload) else {
            return false;
        };
        // No part of another one may be in the record at any time.
        let held = if is_recorded { ended.parts.len() } else { usize::MAX };
        self.oracle.sessions.get_mut(&session).expect("it is live").lost_upload = Some(held);
        true
    }

    /// One request goes on, in one way or another.
    async fn carry_one(&mut self, count: usize) {
        let at = self.dice.choose(count);
        let (number, step, process, lost_before) = {
            let state = self.lines.state();
            let request = &state.waiting[at];
            (request.number, request.step, request.process, state.strays.len())
        };
        let missing = FAULTY.saturating_sub(self.faults) > 0 && self.packets >= PACKETS;
        let trouble = match missing || step.is_rare() {
            true => 500,
            false => self.plan.trouble,
        };
        if !self.dice.chance(trouble) {
            self.note(format!("request {number}, {step:?} of process {process}"));
            self.lines.carry(at);
            return;
        }
        let fates: Vec<_> = FAULTS
            .iter()
            .copied()
            .filter(|fault| fault.befalls(step))
            .filter(|fault| match fault {
                Fault::Throttled | Fault::Raced => false,
                Fault::Killed | Fault::Frozen => step.is_rare(),
                Fault::Ended => self.plan.ends_uploads,
                Fault::Late => lost_before < 3,
                _ => true,
            })
            .collect();
        let fault = *self.dice.pick(&fates);
        let of = self.place_of(process);
        match (fault, of) {
            (Fault::Ended, _) => {
                self.end_upload(at);
                return;
            }
            (Fault::Killed, Some(of)) => return self.kill_at(of),
            (Fault::Frozen, Some(of)) => {
                self.faults += 1;
                return self.freeze_at(of);
            }
            _ => {}
        }
        self.faults += 1;
        self.note(format!("request {number}, {step:?} of process {process}: {fault:?}"));
        if fault == Fault::Slow {
            {
                let state = &mut *self.lines.state();
                let steps: Vec<_> = state.waiting.iter().map(|request| request.step).collect();
                for step in steps {
                    state.table.count(step, Fault::Slow);
                }
            }
            self.let_pass(31 * SECOND).await;
            return;
        }
        self.lines.spoil(at, fault);
    }

    /// Something happens.
    pub async fn step(&mut self) {
        self.steps += 1;
        let waiting = self.lines.state().waiting.len();
        let strays = self.lines.state().strays.len();
        match self.dice.below(1000) {
            0..600 if waiting > 0 => self.carry_one(waiting).await,
            600..630 if strays > 0 => {
                let (at, arrives) = (self.dice.choose(strays), self.dice.chance(700));
                self.note(format!("a request that was given up arrives: {arrives}"));
                self.lines.settle_stray(at, arrives);
            }
            0..750 => {
                let ready: Vec<_> = (0..self.clients.len())
                    .filter(|&at| self.clients[at].waits_for.is_none() && !self.clients[at].is_done)
                    .collect();
                if ready.is_empty() {
                    if waiting == 0 {
                        self.let_pass(Duration::from_millis(200)).await;
                    }
                } else {
                    let at = *self.dice.pick(&ready);
                    self.advance(at);
                }
            }
            750..790 => self.duplicate(),
            790..815 => self.stray(),
            815..830 => {
                // A client that waited for too long, or lost its line.
                let at = self.dice.below(self.clients.len() as u64) as usize;
                if self.clients[at].waits_for.is_some() {
                    self.note(format!("client {at} lost its line"));
                    self.hear(at, Packet::Create, None);
                }
            }
            830..840 => self.kill(),
            840..860 => self.freeze_or_thaw(),
            860..868 => self.sweep(),
            868..880 if self.is_calm() => self.jump().await,
            880..884 if self.plan.consumers => self.consume(),
            884..886 if self.plan.foreign => self.write_over(),
            886..889 => {
                let at = self.dice.below(self.clients.len() as u64) as usize;
                if self.clients[at].session.is_some() && !self.clients[at].is_done {
                    self.clients[at].gives_up = true;
                    self.note(format!("client {at} has had enough"));
                }
            }
            889..892 => {
                let at = self.dice.below(self.replicas.len() as u64) as usize;
                self.replicas[at].uploads.forget_idle();
            }
            892..920 if waiting == 0 => self.let_pass(2 * SECOND).await,
            920..1000 if waiting > 0 => self.carry_one(waiting).await,
            _ => {}
        }
        self.settle().await;
        // The parts of a large file would be most of what happens.
        while self.plan.is_large && self.dice.chance(950) {
            let waiting = |request: &Request| request.step == Step::PutPart;
            let Some(at) = self.lines.state().waiting.iter().position(waiting) else {
                break;
            };
            self.lines.carry(at);
            self.settle().await;
        }
        for at in 0..self.clients.len() {
            if self.clients[at].is_done && self.packets < PACKETS {
                self.clients[at] = self.begin();
            }
        }
    }

    /// Goes on until there was enough of everything, then finishes whatever is under way.
    pub async fn play(&mut self) {
        if self.plan.old {
            for key in ["0.bin", "1.bin"] {
                self.put_foreign(key);
            }
        }
        for _ in 0..self.plan.clients {
            let client = self.begin();
            self.clients.push(client);
        }
        while self.packets < PACKETS || self.faults < FAULTY {
            self.step().await;
            assert!(self.steps < 20_000, "nothing moves any more");
        }
        if self.dice.chance(100) {
            self.next_day().await;
        }
        self.finish().await;
        self.lasted = self.lines.depot.time.passed();
    }

    /// Hours later the replicas sweep, over lines as bad as before.
    async fn next_day(&mut self) {
        for _ in 0..2 {
            self.note("hours go by");
            for _ in 0..500 {
                if self.is_calm() {
                    break;
                }
                let waiting = self.lines.state().waiting.len();
                match waiting {
                    0 => self.let_pass(SECOND).await,
                    _ => self.carry_one(waiting).await,
                }
                while !self.lines.state().strays.is_empty() {
                    self.lines.settle_stray(0, true);
                }
                self.settle().await;
            }
            self.lines.depot.time.jump(5 * HOUR).await;
            self.sweep();
            self.sweep();
            self.settle().await;
            for _ in 0..80 {
                let waiting = self.lines.state().waiting.len();
                match self.dice.below(60) {
                    0 => self.kill(),
                    1 => self.freeze_or_thaw(),
                    2 => self.sweep(),
                    _ if waiting > 0 => self.carry_one(waiting).await,
                    _ => break,
                }
                self.settle().await;
            }
        }
    }

    /// The lines are good again: every upload comes to its end.
    pub async fn finish(&mut self) {
        self.note("the lines are good again");
        for at in 0..self.replicas.len() {
            if std::mem::take(&mut self.replicas[at].is_frozen) {
                self.lines.thaw(self.replicas[at].number);
            }
        }
        while !self.lines.state().strays.is_empty() {
            let arrives = self.dice.chance(700);
            self.lines.settle_stray(0, arrives);
            self.settle().await;
        }
        while !self.lines.state().waiting.is_empty() {
            self.lines.carry(0);
            self.settle().await;
        }
        self.lines.state().is_healed = true;
        self.lines.carry_all();
        self.come_to_rest().await;
        let mut patience = 0;
        while let Some(at) = self.clients.iter().position(|client| !client.is_done) {
            assert!(patience < 1000, "client {at} is stuck");
            patience += 1;
            self.advance(at);
            self.come_to_rest().await;
            if patience % 20 == 0 {
                self.lines.depot.time.jump(5 * MINUTE).await;
            }
        }
        self.sweep_up().await;
    }

    /// Whether nothing is under way.
    pub fn is_at_rest(&self) -> bool {
        self.turns.is_empty() && self.sweeps.lock().unwrap().is_empty()
    }

    pub async fn come_to_rest(&mut self) {
        let mut patience = 0;
        self.settle().await;
        while !self.is_at_rest() {
            assert!(patience < 1000, "turns that never end");
            patience += 1;
            self.let_pass(Duration::from_millis(500)).await;
        }
    }

    /// Long after, nothing staged is left.
    pub async fn sweep_up(&mut self) {
        for replica in &self.replicas {
            replica.uploads.forget_idle();
        }
        let truth = self.lines.truth();
        let place = Arc::new(Place {
            route: "/".to_owned(),
            store: truth.clone(),
            rules: self.plan.rules(),
            application: None,
            events: None,
        });
        let mut broom = Broom::new(&place);
        for _ in 0..6 {
            self.lines.depot.time.jump(2 * DAY).await;
            let now = truth.now().await.unwrap();
            let report = broom.sweep(now).await.unwrap();
            assert_eq!(report.failed, 0, "the sweep failed over a line without faults");
            self.oracle.check();
        }
        self.oracle.check_nothing_left();
        for replica in &self.replicas {
            let all = replica.budget.try_reserve(self.plan.memory);
            assert!(all.is_some(), "memory is held for ever");
        }
    }
}

fn ack(status: u16) -> Told {
    Told {
        status,
        ack: true,
        ..Told::default()
    }
}

/// What the front desk answers.
fn refusal(refused: &Refused) -> Result<Told, String> {
    let error = |status, code| Told {
        error: Some(Hresult(code)),
        ..ack(status)
    };
    Ok(match refused {
        Refused::SessionNotFound | Refused::Lost(_) => error(500, 0x8020_001F),
        Refused::Exists => error(403, 0x8007_0005),
        Refused::OutOfStep => ack(416),
        Refused::Busy { .. } => ack(503),
        Refused::Body(_) => return Err("the line broke".to_owned()),
        Refused::InvalidArgument(_) => error(400, 0x8007_0057),
        Refused::TooLarge => error(500, 0x8020_0020),
        Refused::FragmentTooLarge => ack(413),
        Refused::Full(_) => error(500, 0x8007_0070),
        Refused::Application { .. } => return Err("there is no application".to_owned()),
    })
}

/// A body that comes in pieces, and may break off.
struct Uneven {
    chunks: VecDeque<Bytes>,
    breaks: bool,
    pause: Option<Duration>,
}

impl Body for Uneven {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if let Some(time) = self.pause.take() {
            pass(time).await;
        }
        match self.chunks.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None if self.breaks => Err(BodyBroken::Disconnected),
            None => Ok(None),
        }
    }
}
