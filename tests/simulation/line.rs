//! The lines between the processes and the store. Every request waits here until the world says what becomes of it: so the world
//! decides in which order requests are carried out, which are lost, and which process never learns of its answer.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bits_gateway::bits::SessionId;
use bits_gateway::clock::{Deadline, Timestamp};
use bits_gateway::session::ObjectTag;
use bits_gateway::staging::{Cutting, PartId, PartRange, RecordedPart, UploadId};
use bits_gateway::store::{Attempt, Bucket, CompleteError, Error, Publication, Store, Terms, attributes, mode_of};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::oneshot;

use crate::depot::{Depot, No, RESERVED, session_of};
use crate::table::{Fault, Step, Table};

/// A process, as the lines know it.
pub type Number = usize;

/// The line of the oracle: nothing ever happens to it.
const TRUTH: Number = usize::MAX;

/// All lines.
#[derive(Debug)]
pub struct Lines {
    pub depot: Depot,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// Requests that are on their way.
    pub waiting: Vec<Request>,
    /// Requests that nobody waits for any more, and that may still arrive.
    pub strays: Vec<Request>,
    processes: HashMap<Number, Process>,
    /// Requests are carried out at once: the lines are good again.
    pub is_healed: bool,
    pub table: Table,
    /// When each process last saw the record of each session, by the time of the world.
    looks: HashMap<(Number, SessionId), Duration>,
    /// What is wrong with a request that was made.
    pub wrong: Option<String>,
    /// When the process that published last had looked at the record before.
    pub published_on: Option<Duration>,
    requests: u64,
}

#[derive(Default)]
struct Process {
    is_dead: bool,
    is_frozen: bool,
    /// Answers that came while it was frozen.
    mailbox: VecDeque<Box<dyn Errand>>,
    wakers: Vec<Waker>,
}

/// A request on its way.
pub struct Request {
    pub number: u64,
    pub process: Number,
    pub step: Step,
    pub session: Option<SessionId>,
    /// The upload that it speaks of.
    pub upload: Option<UploadId>,
    /// The object that it speaks of, or the beginning of the names that it lists.
    pub path: String,
    /// When its process had last seen the record.
    pub looked: Option<Duration>,
    errand: Box<dyn Errand>,
}

/// What is to be done in the store, and told afterwards.
trait Errand: Send {
    fn carry(&mut self, depot: &Depot);
    fn answer(&mut self);
    fn fail(&mut self, fault: Fault);
}

struct Job<T, E, F> {
    job: Option<F>,
    done: Option<Result<T, E>>,
    answer: Option<oneshot::Sender<Result<T, E>>>,
}

impl<T: Send, E: Failing, F: FnOnce(&Depot) -> Result<T, E> + Send> Errand for Job<T, E, F> {
    fn carry(&mut self, depot: &Depot) {
        self.done = self.job.take().map(|job| job(depot));
    }

    fn answer(&mut self) {
        if let (Some(answer), Some(done)) = (self.answer.take(), self.done.take()) {
            let _ = answer.send(done);
        }
    }

    fn fail(&mut self, fault: Fault) {
        if let Some(answer) = self.answer.take() {
            // A client library that repeats a request meets its own success as a conflict; and what failed for another reason as that.
            let error = match (fault, self.done.take()) {
                (Fault::Echo, Some(Ok(_))) => E::echoed(),
                (Fault::Echo, Some(Err(error))) => error,
                (Fault::Refused, _) => E::refused(),
                _ => E::lost(),
            };
            let _ = answer.send(Err(error));
        }
    }
}

/// What a client library says of a request that failed.
trait Failing: Send {
    fn lost() -> Self;
    fn refused() -> Self;
    fn echoed() -> Self;
    fn of(no: No) -> Self;
}

fn generic(why: &'static str) -> object_store::Error {
    object_store::Error::Generic {
        store: "simulated",
        source: why.into(),
    }
}

impl Failing for object_store::Error {
    fn lost() -> Self {
        generic("no answer")
    }

    // `object_store` calls every 409 so.
    fn refused() -> Self {
        Self::of(No::Exists)
    }

    fn echoed() -> Self {
        Self::of(No::Differs)
    }

    fn of(no: No) -> Self {
        let path = "some".to_owned();
        match no {
            No::Missing => Self::NotFound {
                path,
                source: "404".into(),
            },
            No::Exists => Self::AlreadyExists {
                path,
                source: "409".into(),
            },
            No::Differs => Self::Precondition {
                path,
                source: "412".into(),
            },
            No::Throttled => generic("429 Too Many Requests"),
            No::UnknownUpload => Self::NotFound {
                path,
                source: "NoSuchUpload".into(),
            },
            No::InvalidPart => generic("InvalidPart"),
        }
    }
}

impl Failing for Error {
    fn lost() -> Self {
        object_store::Error::lost().into()
    }

    fn refused() -> Self {
        Self::Conflict
    }

    fn echoed() -> Self {
        Self::Conflict
    }

    fn of(no: No) -> Self {
        object_store::Error::of(no).into()
    }
}

impl Failing for Attempt {
    fn lost() -> Self {
        Error::lost().into()
    }

    fn refused() -> Self {
        Error::refused().into()
    }

    // The upload is gone by then.
    fn echoed() -> Self {
        Self::of(No::UnknownUpload)
    }

    fn of(no: No) -> Self {
        match no {
            No::InvalidPart => Self::InvalidPart("a part is not the one that was stored".to_owned()),
            other => Error::of(other).into(),
        }
    }
}

impl Request {
    /// Whether it makes no difference which of the two is carried out first.
    pub fn commutes_with(&self, other: &Self) -> bool {
        if self.process == other.process {
            return false;
        }
        let lists_uploads = |one: &Self| matches!(one.step, Step::ListUploads);
        let of_uploads = |one: &Self| one.upload.is_some() || one.step == Step::Begin;
        if (lists_uploads(self) && of_uploads(other)) || (lists_uploads(other) && of_uploads(self)) {
            return false;
        }
        if self.upload.is_some() && self.upload == other.upload {
            return false;
        }
        let (one, other, writes) = (&self.path, &other.path, self.step.writes() || other.step.writes());
        !writes || one.is_empty() || other.is_empty() || !(one.starts_with(other) || other.starts_with(one))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.waiting.iter().map(|one| one.step)).finish()
    }
}

impl Lines {
    pub fn new(depot: Depot) -> Arc<Self> {
        Arc::new(Self {
            depot,
            state: Mutex::default(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The store as the process of this number reaches it.
    pub fn store(self: &Arc<Self>, process: Number) -> Store {
        let bucket = Line {
            lines: Arc::clone(self),
            process,
        };
        Store::over_bucket("simulated".to_owned(), Arc::new(bucket), self.depot.multipart_lifetime)
    }

    /// The store as it is.
    pub fn truth(self: &Arc<Self>) -> Store {
        self.store(TRUTH)
    }

    /// Carries out `work` in the process: it stands still while the process is frozen, and is gone when the process is.
    pub async fn within<T>(&self, process: Number, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            {
                let mut state = self.state();
                let known = state.processes.entry(process).or_default();
                if known.is_dead {
                    return Poll::Ready(None);
                }
                if !known.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    known.wakers.push(context.waker().clone());
                }
                if known.is_frozen {
                    return Poll::Pending;
                }
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// What becomes of the waiting request at `at`.
    pub fn carry(&self, at: usize) {
        let mut request = self.state().waiting.remove(at);
        self.execute(&mut request);
        self.saw(&request);
        self.deliver(request);
    }

    /// A fault meets the waiting request at `at`.
    pub fn spoil(&self, at: usize, fault: Fault) {
        let mut request = self.state().waiting.remove(at);
        self.state().table.count(request.step, fault);
        match fault {
            Fault::AnswerLost | Fault::Echo => {
                self.execute(&mut request);
                request.errand.fail(fault);
            }
            Fault::Late => {
                request.errand.fail(fault);
                self.state().strays.push(request);
            }
            _ => request.errand.fail(fault),
        }
    }

    /// A request that was given up arrives after all, or never.
    pub fn settle_stray(&self, at: usize, arrives: bool) {
        let mut request = self.state().strays.remove(at);
        if arrives {
            self.execute(&mut request);
        }
    }

    fn execute(&self, request: &mut Request) {
        if request.step.publishes() {
            self.state().published_on = request.looked;
        }
        let throttled = self.depot.state().throttled;
        request.errand.carry(&self.depot);
        if self.depot.state().throttled > throttled {
            self.state().table.count(request.step, Fault::Throttled);
        }
    }

    /// Requests that nobody waits for are strays from now on.
    pub fn kill(&self, process: Number) {
        let state = &mut *self.state();
        let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|request| request.process == process);
        state.waiting = left;
        for request in &gone {
            state.table.count(request.step, Fault::Killed);
        }
        state.strays.extend(gone);
        let known = state.processes.entry(process).or_default();
        known.is_dead = true;
        known.mailbox.clear();
        known.wakers.drain(..).for_each(Waker::wake);
    }

    pub fn freeze(&self, process: Number) {
        let state = &mut *self.state();
        for request in state.waiting.iter().filter(|request| request.process == process) {
            state.table.count(request.step, Fault::Frozen);
        }
        state.processes.entry(process).or_default().is_frozen = true;
    }

    pub fn thaw(&self, process: Number) {
        let (mut mailbox, wakers) = {
            let state = &mut *self.state();
            let known = state.processes.entry(process).or_default();
            known.is_frozen = false;
            (std::mem::take(&mut known.mailbox), std::mem::take(&mut known.wakers))
        };
        mailbox.iter_mut().for_each(|errand| errand.answer());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn deliver(&self, mut request: Request) {
        let state = &mut *self.state();
        let known = state.processes.entry(request.process).or_default();
        if known.is_frozen {
            known.mailbox.push_back(request.errand);
        } else if !known.is_dead {
            request.errand.answer();
        }
    }

    /// Notes that a process saw the record of a session.
    fn saw(&self, request: &Request) {
        if let (Some(session), Step::ReadRecord | Step::SaveRecord | Step::CreateRecord) =
            (request.session, request.step)
        {
            let now = self.depot.time.passed();
            self.state().looks.insert((request.process, session), now);
        }
    }
}

/// The line of one process.
#[derive(Clone, Debug)]
struct Line {
    lines: Arc<Lines>,
    process: Number,
}

/// What a request speaks of.
#[derive(Clone, Debug, Default)]
struct About {
    session: Option<SessionId>,
    upload: Option<UploadId>,
    path: String,
}

impl Line {
    async fn ask<T: Send + 'static, E: Failing + 'static>(
        &self,
        step: Step,
        about: About,
        job: impl FnOnce(&Depot) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        if self.process == TRUTH {
            return job(&self.lines.depot);
        }
        let (answer, answered) = oneshot::channel();
        {
            let state = &mut *self.lines.state();
            let known = state.processes.entry(self.process).or_default();
            let is_dead = known.is_dead;
            state.requests += 1;
            let looked = about
                .session
                .and_then(|session| state.looks.get(&(self.process, session)).copied());
            let request = Request {
                number: state.requests,
                process: self.process,
                step,
                session: about.session,
                upload: about.upload,
                path: about.path,
                looked,
                errand: Box::new(Job {
                    job: Some(job),
                    done: None,
                    answer: Some(answer),
                }),
            };
            if step.publishes() && !is_dead {
                let since = looked.map(|looked| self.lines.depot.time.passed() - looked);
                if since.is_none_or(|since| since > PUBLISH_DEADLINE) {
                    state.wrong = Some(format!("{step:?} begins {since:?} after the last look at the record"));
                }
            }
            let races = state.waiting.iter().find(|other| {
                other.session.is_some() && other.session == request.session && other.process != request.process
            });
            if let Some(other) = races {
                let other = other.step;
                state.table.count(step, Fault::Raced);
                state.table.count(other, Fault::Raced);
            }
            if !is_dead {
                state.waiting.push(request);
            }
        }
        if self.lines.state().is_healed {
            self.lines.carry_all();
        }
        match answered.await {
            Ok(answer) => answer,
            // Nobody is there to wait for it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// No request that publishes is sent later than this after its process last looked at the record.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(60);

/// The connections of real stores send nothing that is too late.
fn in_time<E: Failing>(by: Option<&Deadline>) -> Result<(), E> {
    match by {
        Some(by) if by.has_passed() => Err(E::lost()),
        _ => Ok(()),
    }
}

impl Lines {
    /// Carries out all that waits.
    pub fn carry_all(&self) {
        while !self.state().waiting.is_empty() {
            self.carry(0);
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

fn flat(payload: &PutPayload) -> Bytes {
    payload.iter().flat_map(|chunk| chunk.iter().copied()).collect()
}

#[async_trait]
impl Bucket for Line {
    fn objects(&self) -> &dyn ObjectStore {
        self
    }

    fn cutting(&self) -> Cutting {
        let depot = &self.lines.depot;
        if depot.at_odds && self.process % 2 == 1 {
            Cutting::Alike
        } else {
            depot.cutting
        }
    }

    async fn begin(&self, path: &Path, session: SessionId) -> Result<UploadId, Error> {
        let path = path.clone();
        let about = About {
            session: Some(session),
            ..About::default()
        };
        self.ask(Step::Begin, about, move |depot| Ok(depot.begin(&path, session)))
            .await
    }

    async fn put_part(
        &self,
        path: &Path,
        upload: &UploadId,
        part: PartRange,
        payload: PutPayload,
    ) -> Result<PartId, Error> {
        let (path, upload, bytes) = (path.clone(), upload.clone(), flat(&payload));
        self.ask(Step::PutPart, self.about(&upload), move |depot| {
            depot.put_part(&path, &upload, part.index, bytes).map_err(Error::of)
        })
        .await
    }

    async fn mark(&self, _path: &Path, _upload: &UploadId) -> Result<Option<String>, Error> {
        Ok(None)
    }

    async fn complete(
        &self,
        path: &Path,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        terms: Terms<'_>,
        _mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = parts.last().map_or(0, RecordedPart::end);
        let parts: Vec<_> = parts.iter().map(|part| (part.id().clone(), part.end())).collect();
        let about = About {
            session: Some(session),
            upload: Some(upload.clone()),
            path: path.to_string(),
        };
        let mut publication = Publication::new(self, path, session, size, terms);
        loop {
            let (path, upload, parts, mode) = (path.clone(), upload.clone(), parts.clone(), mode_of(terms.before));
            let attempt = async {
                in_time::<Attempt>(Some(&terms.by))?;
                self.ask(Step::Complete, about.clone(), move |depot| {
                    depot
                        .complete(&path, &upload, &parts, &mode, attributes(session))
                        .map_err(Attempt::of)
                })
                .await
            };
            match attempt.await {
                Ok(etag) => {
                    return Ok(ObjectTag {
                        etag: Some(etag),
                        version: None,
                        size,
                    });
                }
                Err(failed) => {
                    if let Some(tag) = publication.judge(failed).await? {
                        return Ok(tag);
                    }
                }
            }
        }
    }

    async fn abort(&self, _path: &Path, upload: &UploadId) -> Result<(), Error> {
        let gone = upload.clone();
        self.ask(Step::Abort, self.about(upload), move |depot| {
            depot.abort(&gone);
            Ok(())
        })
        .await
    }

    async fn uploads(&self, path: &Path) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let path = path.clone();
        self.ask(Step::ListUploads, About::default(), move |depot| {
            Ok(depot.uploads(&path))
        })
        .await
    }
}

impl Line {
    fn about(&self, upload: &UploadId) -> About {
        let state = self.lines.depot.state();
        let session = state.uploads.iter().find(|known| known.id == *upload);
        About {
            session: session.map(|known| known.session),
            upload: Some(upload.clone()),
            path: String::new(),
        }
    }
}

#[async_trait]
impl ObjectStore for Line {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let known = session_of(path.as_ref());
        let step = match (known, &options.mode) {
            (Some((_, "record")), PutMode::Create) => Step::CreateRecord,
            (Some((_, "record")), _) => Step::SaveRecord,
            (Some((_, name)), _) if name.starts_with("tail/") => Step::CreateTail,
            (Some(_), _) => Step::WritePage,
            (None, _) if path.as_ref().ends_with("/clock") => Step::Clock,
            (None, _) if path.as_ref().starts_with(RESERVED) => Step::Elect,
            (None, _) => Step::PutFile,
        };
        let by = options
            .attributes
            .get(&object_store::Attribute::Metadata("bitssession".into()));
        let about = About {
            session: known.map(|(id, _)| id).or_else(|| by.and_then(|id| id.parse().ok())),
            upload: None,
            path: path.to_string(),
        };
        let (path, bytes) = (path.clone(), flat(&payload));
        in_time::<object_store::Error>(options.extensions.get())?;
        let etag = self
            .ask(step, about, move |depot| {
                depot
                    .put(&path, bytes, &options.mode, options.attributes)
                    .map_err(object_store::Error::of)
            })
            .await?;
        Ok(PutResult {
            e_tag: Some(etag),
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _path: &Path,
        _options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(object_store::Error::NotImplemented {
            operation: "put_multipart".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let known = session_of(path.as_ref());
        let step = match known {
            Some((_, "record")) => Step::ReadRecord,
            Some((_, name)) if name.starts_with("tail/") && options.head => Step::FindTail,
            Some((_, name)) if name.starts_with("tail/") => Step::ReadTail,
            Some(_) => Step::ReadPage,
            None if path.as_ref().ends_with("/clock") => Step::Clock,
            None if path.as_ref().starts_with(RESERVED) => Step::Elect,
            None => Step::Look,
        };
        let about = About {
            session: known.map(|(id, _)| id),
            upload: None,
            path: path.to_string(),
        };
        let asked = path.clone();
        let (meta, attributes, bytes) = self
            .ask(step, about, move |depot| {
                let found = depot.get(&asked).map_err(object_store::Error::of)?;
                options.check_preconditions(&found.0)?;
                Ok::<_, object_store::Error>(found)
            })
            .await?;
        Ok(GetResult {
            range: 0..meta.size,
            meta,
            attributes,
            payload: GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed()),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let line = self.clone();
        let deletion = move |path: object_store::Result<Path>| {
            let line = line.clone();
            async move {
                let path = path?;
                let known = session_of(path.as_ref());
                let step = match known {
                    Some((_, "record")) => Step::RemoveRecord,
                    _ => Step::RemoveStaged,
                };
                let about = About {
                    session: known.map(|(id, _)| id),
                    upload: None,
                    path: path.to_string(),
                };
                let gone = path.clone();
                line.ask(step, about, move |depot| {
                    // S3 says nothing of what was not there.
                    match depot.remove(&gone, true) {
                        Ok(()) | Err(_) => Ok::<_, object_store::Error>(()),
                    }
                })
                .await?;
                Ok(path)
            }
        };
        paths.then(deletion).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = prefix.map(|prefix| prefix.as_ref().to_owned()).unwrap_or_default();
        let known = session_of(&prefix);
        let step = match known {
            Some((_, "tail")) => Step::ListTails,
            Some(_) => Step::ListSession,
            None => Step::ListSessions,
        };
        let about = About {
            session: known.map(|(id, _)| id),
            upload: None,
            path: prefix.clone(),
        };
        let line = self.clone();
        let listed = async move {
            let found = line
                .ask(step, about, move |depot| {
                    Ok::<_, object_store::Error>(depot.list(&prefix))
                })
                .await?;
            Ok::<_, object_store::Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> object_store::Result<ListResult> {
        Err(object_store::Error::NotImplemented {
            operation: "list_with_delimiter".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> object_store::Result<()> {
        Err(object_store::Error::NotImplemented {
            operation: "copy".to_owned(),
            implementer: self.to_string(),
        })
    }
}
