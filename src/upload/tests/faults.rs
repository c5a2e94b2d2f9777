//! Several replicas over one store that fails, clients that repeat and overlap, processes that are killed at any await. The oracle is
//! the file itself.
//!
//! `FAULT_SEEDS=10000` runs as many seeds, `FAULT_FIRST=4711` begins with that one.

#![expect(clippy::large_futures, reason = "a run lives on the stack of its test, once")]

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures::future::join;
use tokio::sync::watch;

use super::*;
use crate::cleanup::Broom;
use crate::store::Name;

/// How many seeds an ordinary run tries.
const SEEDS: u64 = 300;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a client means to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Complete,
    Cancel,
    CloseEarly,
    Vanish,
}

/// What happens in one run, as its seed says.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    part_size: u64,
    replicas: usize,
    memory: u64,
    overwrite: bool,
    /// The destination exists before.
    old: bool,
    trouble: u64,
    /// Publications that were given up may be carried out later.
    late_publications: bool,
    /// Somebody else writes to the destination.
    foreign: bool,
    sizes: Vec<usize>,
    /// The files go to one key.
    one_key: bool,
    steps: u64,
    /// What is beyond the last part is in the memory of the one process only, and may be taken back.
    forgetful: bool,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let forgetful = dice.chance(120);
        let part_size = *dice.pick(&[4, 7, 16, 64, 64]);
        let clients = if dice.chance(300) { 2 } else { 1 };
        let size = |dice: &mut Dice| {
            let parts = *dice.pick(&[1, 1, 2, 5, 12]);
            let size = dice.below(part_size * parts) + u64::from(dice.chance(900));
            // More parts than a page holds.
            let size = if part_size == 4 && dice.chance(300) {
                size + 900
            } else {
                size
            };
            usize::try_from(size).unwrap()
        };
        Self {
            seed,
            part_size,
            replicas: match dice.below(2) {
                _ if forgetful => 1,
                0 => 2,
                _ => 3,
            },
            memory: *dice.pick(&[4 * KIB, 6 * KIB, 1024 * KIB]),
            overwrite: dice.chance(400),
            old: dice.chance(400),
            trouble: *dice.pick(&[0, 20, 60, 150, 300]),
            late_publications: dice.chance(500),
            foreign: clients == 1 && dice.chance(150),
            sizes: (0..clients).map(|_| size(dice)).collect(),
            one_key: dice.chance(400),
            steps: 5 + dice.below(25),
            forgetful,
        }
    }

    fn key_of(&self, client: usize) -> &'static str {
        if client == 1 && !self.one_key { "g.bin" } else { "f.bin" }
    }
}

/// A process.
struct Replica {
    uploads: Uploads,
    budget: Budget,
    place: Arc<Place>,
    line: Line,
    dead: watch::Sender<bool>,
}

/// Everything there is.
struct World {
    plan: Plan,
    depot: Depot,
    truth: Store,
    metrics: Metrics,
    rules: Rules,
    replicas: Mutex<Vec<Arc<Replica>>>,
    dice: Mutex<Dice>,
    trouble: AtomicUsize,
    /// Requests that were given up and will be carried out all the same.
    late: Arc<AtomicUsize>,
    /// Turns that nobody waits for.
    ghosts: AtomicUsize,
}

impl World {
    fn new(plan: Plan) -> Arc<Self> {
        let depot = Depot::memory();
        let rules = Rules {
            overwrite: plan.overwrite,
            session_timeout: 14 * DAY,
            closed_session_memory: 2 * DAY,
            durability: if plan.forgetful {
                Durability::Part
            } else {
                Durability::Fragment
            },
            ..rules(plan.part_size)
        };
        let world = Arc::new(Self {
            truth: depot.store(),
            depot,
            metrics: Metrics::new(["/"]),
            rules,
            replicas: Mutex::default(),
            dice: Mutex::new(Dice::new(plan.seed ^ 0xD1CE)),
            trouble: AtomicUsize::new(plan.trouble as usize),
            late: Arc::default(),
            ghosts: AtomicUsize::new(0),
            plan,
        });
        let replicas = (0..world.plan.replicas).map(|_| world.start()).collect();
        *world.replicas.lock().unwrap() = replicas;
        world
    }

    fn dice(&self) -> Dice {
        Dice::new(self.dice.lock().unwrap().roll())
    }

    fn line(&self) -> Line {
        let trouble = self.trouble.load(Ordering::Relaxed) as u64;
        Line::new(self.dice(), trouble, self.plan.late_publications, &self.late)
    }

    fn start(&self) -> Arc<Replica> {
        let line = self.line();
        let budget = Budget::new(self.plan.memory, Duration::from_secs(60));
        Arc::new(Replica {
            uploads: Uploads::new(budget.clone(), Arc::new(SystemClock), self.metrics.clone()),
            budget,
            place: place(&self.depot.over(&line), self.rules.clone()),
            line,
            dead: watch::Sender::new(false),
        })
    }

    fn replica(&self, dice: &mut Dice) -> Arc<Replica> {
        Arc::clone(dice.pick(&self.replicas.lock().unwrap()))
    }

    /// Kills a process, and starts a new one in its place.
    fn crash(&self, dice: &mut Dice) {
        let mut replicas = self.replicas.lock().unwrap();
        let index = usize::try_from(dice.below(replicas.len() as u64)).unwrap();
        let killed = std::mem::replace(&mut replicas[index], self.start());
        killed.line.cut();
        killed.dead.send_replace(true);
    }

    /// From now on no request meets a fault.
    fn heal(&self) {
        self.trouble.store(0, Ordering::Relaxed);
        for replica in self.replicas.lock().unwrap().iter() {
            replica.line.set_trouble(0);
        }
    }

    /// Waits until everything that was let go has come to an end.
    async fn quiet(&self) {
        while self.late.load(Ordering::Relaxed) + self.ghosts.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
            pause(Duration::from_millis(50)).await;
        }
        // What a turn spawned is done by then.
        pause(Duration::from_secs(30)).await;
    }

    async fn sweep(&self, store: &Store) -> Result<crate::cleanup::Report, crate::store::Error> {
        let now = self.truth.now().await.unwrap();
        Broom::new(&place(store, self.rules.clone())).sweep(now).await
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock is the test's own")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Polls `turn` at most so many times; whatever it waits for then, it is dropped.
async fn cut_off<T>(polls: Option<u64>, turn: impl Future<Output = T>) -> Option<T> {
    let mut turn = pin!(turn);
    let mut left = polls.unwrap_or(u64::MAX);
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match turn.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl Replica {
    /// Carries out `turn` in this process: nothing comes of it when the process dies.
    async fn run<T>(&self, polls: Option<u64>, turn: impl Future<Output = T>) -> Option<T> {
        let mut dead = self.dead.subscribe();
        let dies = dead.wait_for(|dead| *dead);
        tokio::select! {
            biased;
            _ = dies => None,
            done = cut_off(polls, turn) => done,
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Whole,
    Breaks,
    Hangs,
}

/// A body that comes unevenly.
struct Uneven {
    chunks: VecDeque<Bytes>,
    end: End,
    dice: Dice,
    slow: bool,
}

impl Body for Uneven {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        match self.dice.below(8) {
            0 if self.slow => pause(Duration::from_secs(self.dice.below(9))).await,
            0..4 => tokio::task::yield_now().await,
            _ => {}
        }
        match (self.chunks.pop_front(), self.end) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, End::Whole) => Ok(None),
            (None, End::Breaks) => Err(BodyBroken::Disconnected),
            (None, End::Hangs) => {
                pause(Duration::from_secs(100)).await;
                Err(BodyBroken::TimedOut)
            }
        }
    }
}

/// A client, and what it was promised.
struct Client {
    world: Arc<World>,
    dice: Dice,
    asked: Asked,
    data: Vec<u8>,
    id: SessionId,
    /// The highest offset that any answer told.
    told: usize,
    /// The last byte was sent at least once.
    sent_last: bool,
    /// Why the session may have ended without its client's doing.
    displaced: bool,
    ended: bool,
    log: Vec<String>,
}

impl Client {
    async fn begin(world: &Arc<World>, index: usize, data: Vec<u8>) -> Self {
        let mut dice = Dice::new(world.plan.seed.wrapping_mul(31).wrapping_add(index as u64 + 1));
        let asked = asked(world.plan.key_of(index));
        let id = loop {
            let replica = world.replica(&mut dice);
            match replica
                .run(None, replica.uploads.create(&replica.place, asked.clone()))
                .await
            {
                Some(Ok(id)) => break id,
                Some(Err(Refused::Busy { .. })) | None => {}
                Some(Err(other)) => panic!("create: {other:?}"),
            }
        };
        Self {
            world: Arc::clone(world),
            dice,
            asked,
            data,
            id,
            told: 0,
            sent_last: false,
            displaced: false,
            ended: false,
            log: Vec::new(),
        }
    }

    fn total(&self) -> usize {
        self.data.len()
    }

    fn is_over(&self) -> bool {
        self.ended || self.is_complete()
    }

    fn is_complete(&self) -> bool {
        self.told == self.total() && self.total() > 0
    }

    /// A fragment such as some client might send.
    fn range(&mut self) -> ContentRange {
        let (told, total) = (self.told as u64, self.total() as u64);
        let part = self.world.plan.part_size;
        let last = total.saturating_sub(1);
        let first = match self.dice.below(20) {
            0..=12 => told,
            13..=15 => told.saturating_sub(self.dice.below(2 * part)),
            16 => told + self.dice.below(part),
            17 => 0,
            _ => told / part * part,
        };
        let first = first.min(last);
        let length = match self.dice.below(10) {
            0..=4 => 1 + self.dice.below(part),
            5..=6 => 1 + self.dice.below(4 * part),
            7 => part - first % part,
            8 if self.dice.chance(300) => total - first,
            _ => 1 + self.dice.below(3),
        };
        let end = (first + length).min(total);
        ContentRange::new(first, end, total).unwrap()
    }

    fn body(&mut self, range: ContentRange, end: End) -> Uneven {
        let bytes = &self.data[range.first() as usize..range.end() as usize];
        let came = match end {
            End::Whole => bytes,
            End::Breaks | End::Hangs => &bytes[..usize::try_from(self.dice.below(bytes.len() as u64)).unwrap_or(0)],
        };
        let chunk = 1 + usize::try_from(self.dice.below(20)).unwrap();
        Uneven {
            chunks: came.chunks(chunk).map(Bytes::copy_from_slice).collect(),
            end,
            slow: self.dice.chance(200),
            dice: Dice::new(self.dice.roll()),
        }
    }

    async fn fragment(&mut self, range: ContentRange, end: End, polls: Option<u64>) {
        let replica = self.world.replica(&mut self.dice);
        let mut body = self.body(range, end);
        self.sent_last |= range.end() == range.total();
        let told = self.told;
        let turn = replica
            .uploads
            .fragment(&replica.place, &self.asked, self.id, range, &mut body);
        let answer = replica.run(polls, Box::pin(turn)).await;
        self.judge(range, told, answer).await;
    }

    async fn two_at_once(&mut self) {
        let ranges = [self.range(), self.range()];
        let replicas = [self.world.replica(&mut self.dice), self.world.replica(&mut self.dice)];
        let mut bodies = [self.body(ranges[0], End::Whole), self.body(ranges[1], End::Whole)];
        let [one, other] = &mut bodies;
        let told = self.told;
        let polls = self.dice.chance(200).then(|| self.dice.below(60));
        let asked = &self.asked;
        let turn = |index: usize, body| {
            let (replica, range): (&Arc<Replica>, _) = (&replicas[index], ranges[index]);
            let turn = replica.uploads.fragment(&replica.place, asked, self.id, range, body);
            async move { replica.run(polls, turn).await }
        };
        let (one, other) = join(turn(0, one), turn(1, other)).await;
        for (range, answer) in ranges.into_iter().zip([one, other]) {
            self.sent_last |= range.end() == range.total();
            self.judge(range, told, answer).await;
        }
    }

    /// A turn whose client has gone, which nobody has told it.
    fn ghost(&mut self) {
        let range = self.range();
        let end = *self.dice.pick(&[End::Whole, End::Breaks, End::Hangs]);
        let mut body = self.body(range, end);
        self.sent_last |= range.end() == range.total();
        let (world, asked, id) = (Arc::clone(&self.world), self.asked.clone(), self.id);
        let replica = world.replica(&mut self.dice);
        self.log.push(format!("ghost {range:?} {end:?}"));
        world.ghosts.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let turn = replica.uploads.fragment(&replica.place, &asked, id, range, &mut body);
            replica.run(None, turn).await;
            world.ghosts.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn another_total(&mut self) {
        let range = ContentRange::new(0, 1, self.total() as u64 + 1).unwrap();
        let replica = self.world.replica(&mut self.dice);
        let mut body = Whole::of(b"x", 1);
        let turn = replica
            .uploads
            .fragment(&replica.place, &self.asked, self.id, range, &mut body);
        match replica.run(None, turn).await.map(|answer| answer.verdict) {
            None | Some(Err(Refused::InvalidArgument(_) | Refused::Busy { .. })) => {}
            other => panic!("another total: {other:?}"),
        }
    }

    /// The session seemed silent, in the midst of it; what is acknowledged from then on must keep it alive.
    async fn sweeps(&mut self) {
        let world = Arc::clone(&self.world);
        world.quiet().await;
        let session = self.stored().await;
        if !matches!(session.record.phase, Phase::Open(_) | Phase::Expiring(_)) {
            return;
        }
        let stored = usize::try_from(session.end()).unwrap();
        self.log.push("sweeps".to_owned());
        world.depot.advance(world.rules.session_timeout + HOUR);
        let line = world.line();
        let store = world.depot.over(&line);
        if self.dice.chance(500) {
            let range = self.range();
            let (_, ()) = join(world.sweep(&store), self.fragment(range, End::Whole, None)).await;
        } else {
            let _ = world.sweep(&store).await;
        }
        // Only progress counts: an answer about what was there before keeps nothing alive.
        while self.told <= stored && !self.is_over() {
            let range = self.next_range();
            self.fragment(range, End::Whole, None).await;
        }
        if self.is_over() {
            return;
        }
        world.quiet().await;
        for _ in 0..2 {
            world.depot.advance(HOUR + MINUTE);
            let polls = self.dice.chance(300).then(|| self.dice.below(40));
            cut_off(polls, world.sweep(&store)).await;
            self.check().await;
        }
        world.quiet().await;
        world.depot.advance(HOUR + MINUTE);
        world.sweep(&world.truth).await.unwrap();
        self.check().await;
    }

    fn next_range(&mut self) -> ContentRange {
        let first = self.told as u64;
        let longest = *self.dice.pick(&[3, 2 * self.world.plan.part_size]);
        let end = first + 1 + self.dice.below(longest);
        let total = self.total() as u64;
        ContentRange::new(first, end.min(total), total).unwrap()
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..=47 => {
                let range = self.range();
                self.fragment(range, End::Whole, None).await;
            }
            48..=57 => self.two_at_once().await,
            58..=64 => self.ghost(),
            65..=74 => {
                let (range, polls) = (self.range(), self.dice.below(60));
                self.fragment(range, End::Whole, Some(polls)).await;
            }
            75..=81 => {
                let range = self.range();
                self.fragment(range, End::Breaks, None).await;
            }
            82..=86 => self.world.crash(&mut self.dice),
            87..=91 => {
                let (world, mut dice) = (Arc::clone(&self.world), Dice::new(self.dice.roll()));
                let range = self.range();
                join(self.fragment(range, End::Whole, None), async {
                    pause(Duration::from_millis(dice.below(60))).await;
                    world.crash(&mut dice);
                })
                .await;
            }
            92..=95 if self.world.plan.sizes.len() == 1 && self.total() > 0 && !self.world.plan.forgetful => {
                self.sweeps().await;
            }
            96 if self.told > 0 => self.another_total().await,
            97 => {
                for replica in self.world.replicas.lock().unwrap().iter() {
                    replica.uploads.0.table.clear();
                }
            }
            98..=99 if self.world.plan.foreign && !self.displaced => self.foreign().await,
            _ => pause(Duration::from_millis(self.dice.below(3000))).await,
        }
    }

    /// Somebody else writes the destination, unless it is this session's file.
    async fn foreign(&mut self) {
        self.world.quiet().await;
        if self.shown().await.as_deref() != Some(&self.data[..]) {
            self.log.push("somebody else writes the destination".to_owned());
            self.world
                .depot
                .put(&Key::parse(&self.asked.target.key).unwrap(), b"foreign".to_vec())
                .await;
            self.displaced = true;
        }
    }

    async fn shown(&self) -> Option<Vec<u8>> {
        stored(&self.world.truth, &self.asked.target.key).await
    }

    /// Holds an answer against all that was promised. `told` was known when the fragment was sent.
    async fn judge(&mut self, range: ContentRange, told: usize, answer: Option<Fragmented>) {
        self.log.push(format!("{range:?} told {told}: {answer:?}"));
        let told = if self.world.plan.forgetful { 0 } else { told };
        let Some(Fragmented { next, verdict, .. }) = answer else {
            return self.check().await;
        };
        let next = next.map(|next| usize::try_from(next).unwrap());
        if let Some(next) = next {
            assert!(next >= told || verdict.is_ok(), "{told} was told, now {next}");
            assert!(next <= self.total(), "{next} is beyond the file");
        }
        match verdict {
            // A replica whose view is stale takes what follows its own end without a look: to a client that goes back further than
            // it was told, it may tell less than another one did. What was told stays stored all the same.
            Ok(()) if (range.first() as usize) < told => {
                let next = next.expect("an offset in every 200");
                assert!(next >= range.end() as usize, "a fragment was taken, but not whole");
            }
            Ok(()) => {
                let next = next.expect("an offset in every 200");
                assert!(next >= told, "{told} was told, now {next}");
                assert!(next >= range.end() as usize, "a fragment was taken, but not whole");
            }
            Err(Refused::OutOfStep) => {
                let next = next.expect("an offset in every 416");
                assert!(next < range.end() as usize, "a fragment that is stored was refused");
            }
            Err(Refused::Busy { .. } | Refused::Body(_)) => {}
            Err(Refused::Exists) => {
                assert!(
                    self.displaced && !self.world.plan.overwrite,
                    "nobody else's file is there"
                );
                self.ended = true;
            }
            Err(Refused::Lost(_)) => {
                assert!(
                    self.displaced && self.world.plan.overwrite,
                    "nobody else's file is there"
                );
                self.ended = true;
            }
            Err(Refused::SessionNotFound) => {
                // Of two turns at once only one tells that the session was given up.
                let given_up = self.displaced && self.world.plan.overwrite;
                assert!(self.ended || given_up, "the session is lost");
                self.ended = true;
            }
            Err(other) => panic!("{other:?}"),
        }
        if let Some(next) = next.filter(|_| !self.ended) {
            self.told = self.told.max(next);
            if self.world.plan.forgetful && self.told < self.total() {
                self.told = next;
            }
        }
        self.check().await;
    }

    /// Everything that was promised is there.
    async fn check(&self) {
        let shown = self.shown().await;
        if self.is_complete() {
            assert_eq!(shown.as_ref(), Some(&self.data), "the file was told to be published");
        }
        if self.ended || self.displaced {
            return;
        }
        let empty = |listed: &crate::store::Listed| matches!(listed.name, Name::Tail(_)) && listed.size == 0;
        let listed = self.world.truth.list_session(self.id).await.unwrap();
        assert!(
            !listed.iter().any(empty),
            "an empty tail takes the place of the next one"
        );
        let session = self.stored().await;
        let end = usize::try_from(session.end()).unwrap();
        let promised = if self.world.plan.forgetful && !self.is_complete() {
            0
        } else {
            self.told
        };
        assert!(
            end >= promised,
            "{} was told, only {end} is stored: {session:?}",
            self.told
        );
    }

    async fn stored(&self) -> Session {
        let loaded = self.world.truth.load(self.id).await.unwrap().expect("a record");
        Session {
            record: loaded.stored.record,
            tails: loaded.tails,
        }
    }

    async fn play(&mut self) {
        for _ in 0..self.world.plan.steps {
            if self.is_over() {
                return;
            }
            // In boxes: unoptimised, the frames of all that may be waited for at once fill the stack of a test.
            Box::pin(self.step()).await;
        }
    }

    /// Sends what is left, over lines that are good again.
    async fn finish(&mut self) {
        let mut patience = 4;
        while !self.is_over() {
            let (range, told) = (
                if self.total() == 0 {
                    ContentRange::new(0, 0, 0).unwrap()
                } else {
                    self.next_range()
                },
                self.told,
            );
            self.fragment(range, End::Whole, None).await;
            if self.total() == 0 && (self.shown().await == Some(Vec::new()) || self.displaced) {
                return;
            }
            if self.told == told {
                patience -= 1;
                assert!(patience > 0, "the session is stuck at {told}");
            } else {
                patience = 4;
            }
        }
    }

    async fn end(&mut self, cancel: bool) -> Result<(), Refused> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            if attempts == 10 {
                self.world.heal();
                self.world.quiet().await;
            }
            if attempts == 15 {
                self.world.depot.advance(20 * MINUTE);
            }
            assert!(attempts < 20, "the session can't be ended");
            let replica = self.world.replica(&mut self.dice);
            let polls = (attempts < 10 && self.dice.chance(200)).then(|| self.dice.below(30));
            let turn = async {
                if cancel {
                    replica.uploads.cancel(&replica.place, &self.asked, self.id).await
                } else {
                    replica.uploads.close(&replica.place, &self.asked, self.id).await
                }
            };
            let answer = replica.run(polls, turn).await;
            self.log.push(format!("end, cancel {cancel}: {answer:?}"));
            match answer {
                None | Some(Err(Refused::Busy { .. })) => {}
                Some(answer) => return answer,
            }
        }
    }
}

async fn run(seed: u64) {
    let plan = Plan::of(seed);
    let world = World::new(plan.clone());
    let keys: HashSet<_> = (0..plan.sizes.len()).map(|client| plan.key_of(client)).collect();
    let old = b"what was there before".to_vec();
    if plan.old && plan.overwrite {
        for key in &keys {
            world.depot.put(&Key::parse(key).unwrap(), old.clone()).await;
        }
    }
    let mut clients = Vec::new();
    for (index, &size) in plan.sizes.iter().enumerate() {
        let data = (0..size).map(|at| (at * 31 % 251) as u8 ^ (index as u8 + 1)).collect();
        let mut client = Client::begin(&world, index, data).await;
        client.displaced = plan.one_key && plan.sizes.len() > 1;
        clients.push(client);
    }
    let dice = &mut world.dice();
    let ending = *dice.pick(&[
        Ending::Complete,
        Ending::Complete,
        Ending::Complete,
        Ending::Cancel,
        Ending::CloseEarly,
        Ending::Vanish,
    ]);
    let printed = Printed(format!("seed {seed}: {plan:?} {ending:?}"));
    match &mut clients[..] {
        [one] => Box::pin(one.play()).await,
        [one, other] => {
            join(Box::pin(one.play()), Box::pin(other.play())).await;
        }
        _ => unreachable!(),
    }
    if ending == Ending::Complete {
        world.heal();
        world.quiet().await;
        for client in &mut clients {
            Box::pin(client.finish()).await;
        }
    }
    let winners = clients.iter().filter(|client| client.is_complete()).count();
    assert!(
        winners <= keys.len(),
        "two files were told to be published under one name"
    );
    for client in &mut clients {
        match ending {
            Ending::Vanish => {}
            Ending::Complete | Ending::CloseEarly if !client.ended => {
                let closed = client.end(false).await;
                if client.is_complete() || (ending == Ending::Complete && !client.displaced) {
                    assert_eq!(closed, Ok(()), "the file is published");
                }
            }
            _ => {
                let cancelled = client.end(true).await;
                assert!(
                    cancelled == Ok(()) || client.displaced,
                    "every session can be cancelled: {cancelled:?}"
                );
            }
        }
    }
    world.heal();
    world.quiet().await;
    for client in &mut clients {
        let shown = client.shown().await;
        let theirs = [Some(&client.data), Some(&old), None, Some(&b"foreign".to_vec())].contains(&shown.as_ref());
        assert!(theirs || client.displaced, "half a file: {shown:?}");
        if !client.sent_last && !client.displaced {
            assert_ne!(shown.as_ref(), Some(&client.data), "published without its last byte");
        }
        if client.displaced && plan.foreign {
            assert_eq!(shown, Some(b"foreign".to_vec()), "somebody else's file was replaced");
        }
        if ending != Ending::Vanish {
            let range = ContentRange::new(0, client.total().min(1) as u64, client.total() as u64).unwrap();
            let replica = world.start();
            let mut body = client.body(range, End::Whole);
            let turn = replica
                .uploads
                .fragment(&replica.place, &client.asked, client.id, range, &mut body);
            assert_eq!(turn.await.verdict, Err(Refused::SessionNotFound));
        }
    }
    for replica in world.replicas.lock().unwrap().iter() {
        if ending != Ending::Vanish {
            // Other replicas may remember a session that has ended, until somebody needs the memory.
            assert!(
                replica.budget.try_reserve(plan.memory).is_some(),
                "memory is held for ever"
            );
        }
    }
    if ending != Ending::Vanish {
        world.depot.advance(HOUR + MINUTE);
        world.sweep(&world.truth).await.unwrap();
        for client in &clients {
            let left = world.truth.list_session(client.id).await.unwrap();
            let others: Vec<_> = left.iter().filter(|listed| listed.name != Name::Record).collect();
            assert!(others.is_empty(), "beside the tombstone: {others:?}");
        }
    }
    for _ in 0..4 {
        world.depot.advance(15 * DAY);
        world.sweep(&world.truth).await.unwrap();
    }
    let names = world.depot.names().await;
    let left: Vec<_> = names.iter().filter(|name| name.contains("/sessions/")).collect();
    assert!(left.is_empty(), "left for ever: {left:?}");
    for key in keys {
        let uploads = world.truth.list_uploads(&Key::parse(key).unwrap()).await.unwrap();
        assert!(uploads.is_empty(), "uploads are left for ever: {uploads:?}");
    }
    drop(printed);
    drop(clients);
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
            eprintln!("{:?}: {}", self.asked.target.key, self.log.join("\n  "));
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_fails_and_whenever_every_promise_is_kept() {
    let (first, seeds) = (number("FAULT_FIRST", 0), number("FAULT_SEEDS", SEEDS));
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(seed));
    }
}
