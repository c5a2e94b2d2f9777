//! Everything that can be done to a local directory, on a machine whose power fails at any operation of its disk, and again while the
//! directory is opened afterwards. The oracle is what was answered, and what somebody was shown.
//!
//! `POWER_SEEDS=10000` runs as many seeds, `POWER_FIRST=4711` begins with that one. What one task does alone is the same each time; of
//! several at once the system decides who comes first.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path as Name;
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use uuid::Uuid;

use super::LocalDirectory;
use super::lossy::{Habits, LossyDisk, Machine};
use super::objects::SESSION;
use crate::bits::SessionId;
use crate::clock::random_id;
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};
use crate::store::bucket::Bucket;
use crate::store::dice::Dice;
use crate::store::{CompleteError, Terms};

/// How many seeds an ordinary run tries.
const SEEDS: u64 = 400;

/// Bytes of a part, not a multiple of what a disk writes at once.
const PART: u64 = 5000;

const NAMES: [&str; 6] = [
    "a",
    "in/b",
    "in/deep/er/c",
    "in/deep/d",
    "other/e",
    ".bits-gateway/sessions/1/record",
];

/// What happens in one run, as its seed says.
#[derive(Clone, Debug)]
struct Plan {
    habits: Habits,
    tasks: u64,
    rounds: u64,
    steps: u64,
    names: usize,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let tasks = *dice.pick(&[1, 1, 1, 2, 4]);
        Self {
            habits: Habits {
                careful_renames: dice.chance(700),
                attributes: dice.chance(700),
                restless: tasks > 1,
            },
            tasks,
            rounds: 2 + dice.below(3),
            steps: 1 + dice.below(16) / tasks,
            names: usize::try_from(1 + dice.below(NAMES.len() as u64)).unwrap(),
        }
    }
}

/// From when to when something went on. Its effect, if it had one, lies in between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Span {
    begun: u64,
    /// Nobody knows how it ended until the machine is started again.
    ended: Option<u64>,
}

impl Span {
    fn is_over_before(&self, other: Self) -> bool {
        self.ended.is_some_and(|ended| ended < other.begun)
    }

    fn may_follow(&self, other: Self) -> bool {
        self.ended.is_none_or(|ended| ended > other.begun)
    }
}

/// A write of a content that no other write has. Its place in the list is its number.
#[derive(Debug)]
struct Attempt {
    name: &'static str,
    size: usize,
    /// Who wrote it, as it is noted on the file.
    session: Option<String>,
    span: Span,
    /// It was answered that the condition does not hold.
    refused: bool,
}

/// A file that somebody was told of.
#[derive(Debug)]
struct Evidence {
    name: &'static str,
    tag: String,
    span: Span,
}

#[derive(Debug)]
struct Removal {
    name: &'static str,
    span: Span,
}

/// An upload in parts.
#[derive(Clone, Debug)]
struct Upload {
    name: &'static str,
    session: SessionId,
    id: UploadId,
    mark: Option<String>,
    content: Vec<u8>,
    number: usize,
    /// By index; none where no answer came.
    parts: Vec<Option<PartId>>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Open,
    /// A completion was sent and not answered.
    Completing(Span),
    Aborted,
    Published,
}

impl Upload {
    fn range(&self, index: usize) -> PartRange {
        let from = index as u64 * PART;
        PartRange {
            index: u32::try_from(index).unwrap(),
            from,
            to: (from + PART).min(self.content.len() as u64),
        }
    }

    fn part(&self, index: usize) -> PutPayload {
        let range = self.range(index);
        let bytes = &self.content[range.from as usize..range.to as usize];
        // Of two chunks each.
        let (one, two) = bytes.split_at(bytes.len() / 3);
        [one, two].into_iter().map(bytes::Bytes::copy_from_slice).collect()
    }

    fn recorded(&self) -> Option<Vec<RecordedPart>> {
        let parts = self.parts.iter().enumerate();
        parts
            .map(|(index, id)| Some(RecordedPart(id.clone()?, self.range(index).to)))
            .collect()
    }
}

/// What was done, answered and shown.
#[derive(Debug, Default)]
struct History {
    now: u64,
    attempts: Vec<Attempt>,
    evidence: Vec<Evidence>,
    removals: Vec<Removal>,
    /// Which attempt a tag belongs to.
    tags: HashMap<String, usize>,
    uploads: Vec<Upload>,
    log: Vec<String>,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn begin(&mut self) -> Span {
        Span {
            begun: self.tick(),
            ended: None,
        }
    }

    fn end(&mut self, span: Span) -> Span {
        Span {
            ended: Some(self.tick()),
            ..span
        }
    }

    fn attempt(&mut self, name: &'static str, size: usize, session: Option<String>) -> usize {
        let span = self.begin();
        self.attempts.push(Attempt {
            name,
            size,
            session,
            span,
            refused: false,
        });
        self.attempts.len() - 1
    }

    /// `tag` is what `name` had at some moment of `span`.
    fn shown(&mut self, name: &'static str, tag: &str, span: Span) {
        self.evidence.push(Evidence {
            name,
            tag: tag.to_owned(),
            span,
        });
    }

    /// `tag` belongs to the content of attempt `number`, and to no other.
    fn belongs(&mut self, tag: &str, number: usize) {
        let known = *self.tags.entry(tag.to_owned()).or_insert(number);
        assert_eq!(known, number, "two contents have the tag {tag}");
    }

    fn answered(&mut self, number: usize, tag: &str) {
        let span = self.attempts[number].span;
        let span = self.end(span);
        self.attempts[number].span = span;
        self.belongs(tag, number);
        self.shown(self.attempts[number].name, tag, span);
    }

    fn refused(&mut self, number: usize) {
        let span = self.attempts[number].span;
        self.attempts[number].span = self.end(span);
        self.attempts[number].refused = true;
    }

    /// Nothing that went on goes on any more.
    fn stop(&mut self) {
        let now = self.tick();
        let spans = self.attempts.iter_mut().map(|attempt| &mut attempt.span);
        let spans = spans.chain(self.removals.iter_mut().map(|removal| &mut removal.span));
        for span in spans {
            span.ended.get_or_insert(now);
        }
    }

    /// Holds a look at a name against everything before it, and tells which attempt was seen.
    fn judge(&mut self, name: &'static str, seen: Option<(&[u8], &str)>, span: Span) -> Option<usize> {
        let Some((bytes, tag)) = seen else {
            let excused = |evidence: &Evidence| {
                let mut removals = self.removals.iter().filter(|removal| removal.name == name);
                removals.any(|removal| removal.span.may_follow(evidence.span))
            };
            let before = self.evidence.iter().filter(|evidence| evidence.name == name);
            let lost = before.filter(|evidence| evidence.span.is_over_before(span));
            let lost: Vec<_> = lost.filter(|evidence| !excused(evidence)).collect();
            assert!(lost.is_empty(), "{name} is lost: {lost:?}");
            return None;
        };
        let number = number_of(bytes).unwrap_or_else(|| panic!("{name} has {} bytes of nobody", bytes.len()));
        let attempt = &self.attempts[number];
        assert_eq!(attempt.name, name, "the content of another name");
        assert!(bytes == content(number, attempt.size), "{name} is not whole");
        assert!(
            !attempt.refused,
            "{name} was written although it was refused: {attempt:?}"
        );
        let later = self.evidence.iter().find(|evidence| {
            let between = attempt.span.is_over_before(evidence.span) && evidence.span.is_over_before(span);
            evidence.name == name && evidence.tag != tag && between
        });
        assert!(later.is_none(), "{name} is {attempt:?} again, after {later:?}");
        let own = self.tags.iter().find(|(_, whose)| **whose == number);
        assert!(
            own.is_none_or(|(known, _)| known == tag),
            "{name}: {own:?} has become {tag}"
        );
        self.belongs(tag, number);
        self.shown(name, tag, span);
        Some(number)
    }
}

/// Bytes that tell who wrote them.
fn content(number: usize, size: usize) -> Vec<u8> {
    let mut bytes = (number as u64).to_le_bytes().to_vec();
    bytes.extend((8..size.max(8)).map(|at| (at * 31 % 251) as u8 ^ (number % 256) as u8));
    bytes
}

fn number_of(bytes: &[u8]) -> Option<usize> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    usize::try_from(number).ok().filter(|number| *number < 1 << 20)
}

/// One who uses the store.
struct Task {
    store: LocalDirectory,
    disk: Arc<LossyDisk>,
    history: Arc<Mutex<History>>,
    dice: Dice,
    plan: Plan,
    keeps_attributes: bool,
}

impl Task {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn log(&self, text: String) {
        self.history().log.push(text);
    }

    async fn play(mut self) {
        for _ in 0..self.plan.steps {
            if self.disk.is_dead() {
                return;
            }
            let name = NAMES[..self.plan.names][usize::try_from(self.dice.below(self.plan.names as u64)).unwrap()];
            match self.dice.below(100) {
                0..35 => self.put(name).await,
                35..45 => self.look(name).await,
                45..50 => self.list().await,
                50..58 => self.remove(name).await,
                58..68 => self.begin(name).await,
                _ => self.go_on().await,
            }
        }
    }

    /// The tag that `name` had last, as far as is known.
    fn last_tag(&self, name: &str) -> Option<String> {
        let history = self.history();
        let last = history.evidence.iter().rfind(|evidence| evidence.name == name);
        last.map(|evidence| evidence.tag.clone())
    }

    /// The error of somebody who found that a condition does not hold, or whose machine is off.
    fn excuse(&self, error: &dyn std::fmt::Display, is_refusal: bool) -> bool {
        assert!(is_refusal || self.disk.is_dead(), "{error}");
        is_refusal
    }

    async fn put(&mut self, name: &'static str) {
        let mode = match self.dice.below(3) {
            0 => PutMode::Create,
            1 => PutMode::Overwrite,
            _ => PutMode::Update(UpdateVersion {
                e_tag: self.last_tag(name).or(Some("\"1-2-3\"".to_owned())),
                version: None,
            }),
        };
        let size = usize::try_from(*self.dice.pick(&[0, 100, 4096, 9000])).unwrap();
        let session = self.dice.chance(500).then(|| SessionId::new(random_id()).as_key());
        let number = self.history().attempt(name, size, session.clone());
        self.log(format!("put {number}, {name}, {mode:?}"));
        let mut options = PutOptions::from(mode);
        options.attributes = session.map(|session| (SESSION, session)).into_iter().collect();
        let payload = content(number, size).into();
        let put = self.store.put_opts(&Name::from(name), payload, options).await;
        self.log(format!("put {number}: {put:?}"));
        match put {
            Ok(put) => self.history().answered(number, &put.e_tag.unwrap()),
            Err(error) => {
                let refusal = matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. });
                if self.excuse(&error, refusal) {
                    self.history().refused(number);
                }
            }
        }
    }

    async fn look(&self, name: &'static str) {
        let span = self.history().begin();
        let read = async {
            let got = self.store.get_opts(&Name::from(name), GetOptions::default()).await?;
            let (tag, session) = (got.meta.e_tag.clone().unwrap(), got.attributes.get(&SESSION).cloned());
            Ok::<_, Error>((got.bytes().await?, tag, session))
        };
        let read = read.await;
        if self.disk.is_dead() {
            return;
        }
        let mut history = self.history();
        let span = history.end(span);
        history
            .log
            .push(format!("look at {name}: {:?}", read.as_ref().map(|(_, tag, _)| tag)));
        match read {
            Ok((bytes, tag, session)) => {
                let number = history.judge(name, Some((&bytes, &tag)), span);
                let wrote = number.and_then(|number| history.attempts[number].session.clone());
                let wrote = wrote.filter(|_| self.keeps_attributes);
                assert_eq!(session.as_deref(), wrote.as_deref(), "{name} has another session");
            }
            Err(Error::NotFound { .. }) => drop(history.judge(name, None, span)),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    async fn list(&self) {
        let span = self.history().begin();
        let listed: Result<Vec<ObjectMeta>, _> = self.store.list(None).try_collect().await;
        if self.disk.is_dead() {
            return;
        }
        let mut history = self.history();
        let span = history.end(span);
        history.log.push("list".to_owned());
        for meta in listed.unwrap() {
            let name = NAMES.iter().find(|name| **name == meta.location.as_ref());
            let name = name.unwrap_or_else(|| panic!("{} is nobody's", meta.location));
            history.shown(name, &meta.e_tag.unwrap(), span);
        }
    }

    async fn remove(&self, name: &'static str) {
        let index = {
            let mut history = self.history();
            let span = history.begin();
            history.log.push(format!("remove {name}"));
            history.removals.push(Removal { name, span });
            history.removals.len() - 1
        };
        match self.store.delete(&Name::from(name)).await {
            Ok(()) => {}
            Err(Error::NotFound { .. }) => {}
            Err(error) => {
                self.excuse(&error, false);
                return;
            }
        }
        let mut history = self.history();
        let span = history.removals[index].span;
        history.removals[index].span = history.end(span);
    }

    async fn begin(&mut self, name: &'static str) {
        let session = SessionId::new(random_id());
        let begun = self.store.begin(&Name::from(name), session).await;
        self.log(format!("begin {name}: {begun:?}"));
        let id = match begun {
            Ok(id) => id,
            Err(error) => {
                self.excuse(&error, false);
                return;
            }
        };
        let parts = usize::try_from(1 + self.dice.below(3)).unwrap();
        let size = (parts - 1) * PART as usize + usize::try_from(8 + self.dice.below(PART - 7)).unwrap();
        let mut history = self.history();
        let number = history.attempt(name, size, Some(session.as_key()));
        history.uploads.push(Upload {
            name,
            session,
            id,
            mark: None,
            content: content(number, size),
            number,
            parts: vec![None; parts],
            fate: Fate::Open,
        });
    }

    /// Does something for an upload that nobody else works on.
    async fn go_on(&mut self) {
        let mut upload = {
            let mut history = self.history();
            let open = history.uploads.iter().positions(|upload| upload.fate == Fate::Open);
            if open.is_empty() {
                return;
            }
            history.uploads.remove(*self.dice.clone().pick(&open))
        };
        self.dice.roll();
        let missing = upload.parts.iter().position(Option::is_none);
        match (self.dice.below(100), missing) {
            (0..8, _) => self.abort(&mut upload).await,
            (8..20, _) => {
                let index = usize::try_from(self.dice.below(upload.parts.len() as u64)).unwrap();
                self.put_part(&mut upload, index).await;
            }
            (_, Some(_)) if self.dice.chance(300) && self.plan.tasks > 1 => {
                self.put_rest(&mut upload).await;
            }
            (_, Some(index)) => self.put_part(&mut upload, index).await,
            (_, None) => self.complete(&mut upload).await,
        }
        self.history().uploads.push(upload);
    }

    async fn put_part(&self, upload: &mut Upload, index: usize) {
        let name = Name::from(upload.name);
        let put = self
            .store
            .put_part(&name, &upload.id, upload.range(index), upload.part(index))
            .await;
        self.log(format!("part {index} of {}: {put:?}", upload.number));
        match put {
            Ok(id) => upload.parts[index] = Some(id),
            Err(error) => drop(self.excuse(&error, false)),
        }
    }

    /// All parts that are missing, at once.
    async fn put_rest(&self, upload: &mut Upload) {
        let name = Name::from(upload.name);
        let missing = (0..upload.parts.len()).filter(|index| upload.parts[*index].is_none());
        let puts = missing.map(|index| {
            let (upload, name) = (&*upload, &name);
            async move {
                let put = self
                    .store
                    .put_part(name, &upload.id, upload.range(index), upload.part(index));
                (index, put.await)
            }
        });
        for (index, put) in join_all(puts.collect::<Vec<_>>()).await {
            match put {
                Ok(id) => upload.parts[index] = Some(id),
                Err(error) => drop(self.excuse(&error, false)),
            }
        }
    }

    async fn complete(&mut self, upload: &mut Upload) {
        let before = match self.last_tag(upload.name) {
            Some(tag) if self.dice.chance(600) => Before::Present(ObjectTag {
                etag: Some(tag),
                version: None,
                size: 0,
            }),
            _ => Before::Absent,
        };
        let name = Name::from(upload.name);
        upload.mark = match self.store.mark(&name, &upload.id).await {
            Ok(mark) => mark,
            Err(error) => {
                self.excuse(&error, false);
                return;
            }
        };
        let span = self.history().begin();
        self.history().attempts[upload.number].span = span;
        self.finish(upload, &before, span).await;
    }

    async fn finish(&self, upload: &mut Upload, before: &Before, span: Span) {
        let parts = upload.recorded().expect("all parts are there");
        let name = Name::from(upload.name);
        let terms = Terms::whenever(before);
        let complete = self
            .store
            .complete(&name, upload.session, &upload.id, &parts, terms, upload.mark.as_deref());
        let completed = complete.await;
        self.log(format!(
            "complete {}, {}, {before:?}: {completed:?}",
            upload.number, upload.name
        ));
        let mut history = self.history();
        match completed {
            Ok(tag) => {
                history.answered(upload.number, &tag.etag.unwrap());
                upload.fate = Fate::Published;
            }
            // The upload is still there, and may be completed on another condition.
            Err(CompleteError::Changed) => upload.fate = Fate::Open,
            Err(error) => {
                drop(history);
                self.excuse(&error, false);
                upload.fate = Fate::Completing(span);
            }
        }
    }

    async fn abort(&self, upload: &mut Upload) {
        let aborted = self.store.abort(&Name::from(upload.name), &upload.id).await;
        self.log(format!("abort {}: {aborted:?}", upload.number));
        upload.fate = Fate::Aborted;
        if let Err(error) = aborted {
            self.excuse(&error, false);
        }
    }

    /// What was promised before is there, now that the machine is up again.
    async fn check(&mut self) {
        for name in NAMES {
            self.look(name).await;
        }
        let uploads = std::mem::take(&mut self.history().uploads);
        for mut upload in uploads {
            self.check_upload(&mut upload).await;
            self.history().uploads.push(upload);
        }
    }

    async fn check_upload(&self, upload: &mut Upload) {
        if self.disk.is_dead() {
            return;
        }
        match upload.fate {
            Fate::Open => {
                let known = self.known(upload.name).await;
                if self.disk.is_dead() {
                    return;
                }
                assert!(known.contains(&upload.id), "upload {} is lost", upload.number);
                let id = Uuid::try_parse(&upload.id.0).unwrap();
                let staged = std::fs::read(self.store.root.staging(&Name::from(upload.name), id)).unwrap();
                for index in (0..upload.parts.len()).filter(|index| upload.parts[*index].is_some()) {
                    let range = upload.range(index).from as usize..upload.range(index).to as usize;
                    let same = staged.get(range.clone()) == Some(&upload.content[range]);
                    assert!(same, "part {index} of {} is lost", upload.number);
                }
            }
            Fate::Completing(span) => self.complete_again(upload, span).await,
            Fate::Aborted | Fate::Published => {}
        }
    }

    /// Repeats a completion of which nobody knows how it ended.
    async fn complete_again(&self, upload: &mut Upload, span: Span) {
        let before = match self.last_tag(upload.name) {
            Some(tag) => Before::Present(ObjectTag {
                etag: Some(tag),
                version: None,
                size: 0,
            }),
            None => Before::Absent,
        };
        let parts = upload.recorded().expect("all parts are there");
        let name = Name::from(upload.name);
        let terms = Terms::whenever(&before);
        let again = self.history().begin();
        let completed = self
            .store
            .complete(&name, upload.session, &upload.id, &parts, terms, upload.mark.as_deref())
            .await;
        self.log(format!("complete {} again: {completed:?}", upload.number));
        let mut history = self.history();
        match completed {
            Ok(tag) => {
                history.attempts[upload.number].span.ended = None;
                history.answered(upload.number, &tag.etag.unwrap());
                let span = history.end(again);
                history.evidence.last_mut().unwrap().span = span;
                upload.fate = Fate::Published;
            }
            Err(CompleteError::Changed) => {
                // An attempt that has had its time; the next completion is another one.
                upload.fate = Fate::Open;
            }
            Err(CompleteError::UnknownUpload) => {
                let others = history.attempts.iter().enumerate();
                let mut others = others.filter(|(number, other)| *number != upload.number && !other.refused);
                let replaced = others.any(|(_, other)| other.name == upload.name && other.span.may_follow(span));
                let mut removals = history.removals.iter();
                let removed = removals.any(|other| other.name == upload.name && other.span.may_follow(span));
                assert!(replaced || removed, "{} is lost while it was completed", upload.number);
                upload.fate = Fate::Published;
            }
            Err(error) => {
                drop(history);
                self.excuse(&error, false);
                self.history().attempts[upload.number].span.ended = None;
            }
        }
    }

    async fn known(&self, name: &str) -> Vec<UploadId> {
        match self.store.uploads(&Name::from(name)).await {
            Ok(uploads) => uploads.into_iter().map(|(id, _)| id).collect(),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Ends everything that is unfinished, as the sweep does.
    async fn tidy_up(&self) {
        for name in NAMES {
            for id in self.known(name).await {
                self.store.abort(&Name::from(name), &id).await.unwrap();
            }
        }
        self.history().uploads.clear();
    }
}

trait Positions: Iterator + Sized {
    fn positions(self, is: impl Fn(Self::Item) -> bool) -> Vec<usize> {
        let found = self.enumerate().filter_map(|(at, item)| is(item).then_some(at));
        found.collect()
    }
}

impl<I: Iterator> Positions for I {}

fn entries(directory: &Path) -> usize {
    directory.read_dir().unwrap().count()
}

/// A machine, and what is known of it.
struct World {
    plan: Plan,
    machine: Machine,
    history: Arc<Mutex<History>>,
    dice: Dice,
}

impl World {
    /// Starts processes until one has opened the directory and found everything that was promised. The power may fail on the way.
    async fn open(&mut self) -> Task {
        loop {
            let disk = self.machine.start();
            if let Some(store) = disk.open() {
                let temporary = entries(store.root.temporary().parent().unwrap());
                assert!(temporary == 0 || disk.is_dead(), "temporary files are left");
                let mut task = self.task(&store, &disk);
                task.check().await;
                if !disk.is_dead() {
                    return task;
                }
            }
            self.power_cut();
        }
    }

    fn task(&mut self, store: &LocalDirectory, disk: &Arc<LossyDisk>) -> Task {
        Task {
            store: store.clone(),
            disk: Arc::clone(disk),
            history: Arc::clone(&self.history),
            dice: Dice::new(self.dice.roll()),
            plan: self.plan.clone(),
            keeps_attributes: self.machine.keeps_attributes(),
        }
    }

    /// Nothing has the directory open.
    fn power_cut(&mut self) {
        self.machine.lose_power();
        let again = self.dice.chance(300).then(|| self.dice.below(30));
        self.machine.fail_after(again);
        let mut history = self.history.lock().unwrap();
        history.stop();
        history.log.push(format!("power cut; the next one {again:?}"));
    }

    fn killed(&mut self) {
        let mut history = self.history.lock().unwrap();
        history.stop();
        history.log.push("killed".to_owned());
    }

    async fn round(&mut self) {
        let task = self.open().await;
        let cut = self.dice.below(self.plan.steps * self.plan.tasks * 10);
        self.machine.fail_after(Some(cut));
        let tasks = (0..self.plan.tasks).map(|_| self.task(&task.store, &task.disk).play());
        join_all(tasks.collect::<Vec<_>>()).await;
        match self.dice.below(4) {
            0 => {
                // The next process finds it as this one has left it, and shows it around. A power cut follows, soon or later.
                let _killed = self.machine.start();
                drop(task);
                self.killed();
                if self.dice.chance(700) {
                    self.machine.fail_after(None);
                    drop(self.open().await);
                    self.power_cut();
                } else {
                    let cut = self.dice.below(60);
                    self.machine.fail_after(Some(cut));
                }
            }
            1 => {
                drop(task);
                self.history.lock().unwrap().log.push("closed in peace".to_owned());
                if self.machine.is_off() {
                    self.power_cut();
                }
            }
            _ => {
                drop(task);
                self.power_cut();
            }
        }
    }
}

async fn run(seed: u64) {
    let plan = Plan::of(seed);
    let mut dice = Dice::new(seed ^ 0xD1CE);
    let mut world = World {
        machine: Machine::new(Dice::new(dice.roll()), plan.habits),
        history: Arc::default(),
        dice,
        plan,
    };
    let printed = Printed(format!("seed {seed}: {:?}", world.plan), Arc::clone(&world.history));
    let first = world.dice.chance(300).then(|| world.dice.below(60));
    world.machine.fail_after(first);
    for _ in 0..world.plan.rounds {
        world.round().await;
    }
    world.machine.fail_after(None);
    let task = world.open().await;
    task.tidy_up().await;
    drop(task);
    let task = world.open().await;
    assert_eq!(
        entries(&task.store.root.all_uploads()),
        0,
        "unfinished uploads are left"
    );
    drop(printed);
}

/// Says which run it was and what happened in it, when it fails.
struct Printed(String, Arc<Mutex<History>>);

impl Drop for Printed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let history = self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            eprintln!("{}\n  {}", self.0, history.log.join("\n  "));
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn whenever_the_power_fails_what_was_answered_or_shown_is_there_and_every_file_is_old_or_whole() {
    let (first, seeds) = (number("POWER_FIRST", 0), number("POWER_SEEDS", SEEDS));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for seed in first..first + seeds {
        runtime.block_on(run(seed));
    }
}

/// Machines of one kind whose power fails in different ways.
fn machines(careful_renames: bool) -> impl Iterator<Item = Machine> {
    let habits = Habits {
        careful_renames,
        attributes: true,
        restless: false,
    };
    (0..40).map(move |seed| Machine::new(Dice::new(seed), habits))
}

#[tokio::test]
async fn a_directory_that_was_made_at_the_start_survives_with_all_that_is_in_it() {
    for machine in machines(true) {
        let store = machine.start().open().unwrap();
        store.put(&Name::from("file"), "x".into()).await.unwrap();
        drop(store);
        machine.lose_power();
        let store = machine.start().open().unwrap();
        assert_eq!(
            store.get(&Name::from("file")).await.unwrap().bytes().await.unwrap(),
            "x"
        );
    }
}

#[tokio::test]
async fn a_file_that_gets_its_name_by_a_link_always_has_one() {
    let (name, session) = (Name::from("in/file"), SessionId::new(random_id()));
    let range = PartRange {
        index: 0,
        from: 0,
        to: 1,
    };
    for (machine, operations) in machines(false).zip((0..10).cycle()) {
        let store = machine.start().open().unwrap();
        let upload = store.begin(&name, session).await.unwrap();
        let part = store.put_part(&name, &upload, range, "x".into()).await.unwrap();
        let mark = store.mark(&name, &upload).await.unwrap();
        let complete = async |store: &LocalDirectory| {
            let (parts, terms) = ([RecordedPart(part.clone(), 1)], Terms::whenever(&Before::Absent));
            store
                .complete(&name, session, &upload, &parts, terms, mark.as_deref())
                .await
        };
        machine.fail_after(Some(operations));
        let _unknown = complete(&store).await;
        drop(store);
        machine.lose_power();
        machine.fail_after(None);
        let store = machine.start().open().unwrap();
        complete(&store).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap().bytes().await.unwrap(), "x");
    }
}

#[tokio::test]
async fn an_upload_knows_its_session_whatever_happened_since_it_began() {
    let (name, session) = (Name::from("file"), SessionId::new(random_id()));
    for machine in machines(true).filter(Machine::keeps_attributes) {
        let store = machine.start().open().unwrap();
        let upload = store.begin(&name, session).await.unwrap();
        drop(store);
        machine.lose_power();
        let store = machine.start().open().unwrap();
        let terms = Terms::whenever(&Before::Absent);
        store.complete(&name, session, &upload, &[], terms, None).await.unwrap();
        let got = store.get(&name).await.unwrap();
        assert_eq!(
            got.attributes.get(&SESSION).map(AsRef::as_ref),
            Some(session.as_key().as_str())
        );
    }
}

#[tokio::test]
async fn what_a_removed_file_replaced_does_not_come_back() {
    let name = Name::from("in/deep/file");
    for machine in machines(true) {
        let store = machine.start().open().unwrap();
        store.put(&name, "old".into()).await.unwrap();
        let (file, new) = (store.root.file(&name).unwrap(), store.root.temporary());
        let publication = store.root.unsettled.begin(&file);
        let staged = store.root.disk().create(&new).unwrap();
        store.root.disk().sync_file(&staged).unwrap();
        store.root.disk().rename(&new, &file).unwrap();
        store.root.remove(&file).unwrap();
        publication.settle().unwrap();
        drop(store);
        machine.lose_power();
        let found = std::fs::read(machine.root().join("in/deep/file"));
        assert!(found.is_err() || found.unwrap().is_empty(), "an older file is back");
    }
}
