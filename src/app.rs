//! Composition: from settings to a running gateway, and to its end. The only file that knows every room.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::admin::{self, Guard, Health, Pages, Room, Sessions, StoreHealth};
use crate::bits::HostId;
use crate::budget::Budget;
use crate::cleanup;
use crate::clock::{Clock, SystemClock};
use crate::config::{Route as RouteSettings, Settings};
use crate::download::Downloads;
use crate::gateway::{
    Authorities, AuthoritiesError, BindError, Door, Gateway, Limits, Parts, Route,
    RouteSettings as GatewayRouteSettings, Upstreams, raise_open_files,
};
use crate::metrics::Metrics;
use crate::notify::{Herald, Messenger, Setup};
use crate::store::{OpenError, ProbeError, Store};
use crate::telemetry;
use crate::upload::{Coordination, Outbox, Place, Register, Uploads};

/// Exit codes beyond success (sysexits.h), as users and supervisors know them.
pub mod exit {
    use crate::store::OpenError;

    /// Something that this process needs is not there: an address, a thread.
    pub const UNAVAILABLE: u8 = 69;
    /// The configuration asks for what cannot be.
    pub const CONFIG: u8 = 78;
    /// Added to the number of a signal that ended the process at once.
    pub const SIGNALLED: u8 = 128;

    /// The one that tells of a store that cannot be opened. A supervisor starts the process again unless it is [`CONFIG`].
    pub const fn of(error: &OpenError) -> u8 {
        match error {
            OpenError::InUse { .. } | OpenError::Nothing { .. } => UNAVAILABLE,
            OpenError::Settings { .. } => CONFIG,
        }
    }
}

/// First pause between two probes of a store that cannot be reached; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest pause between two probes.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How long the end of a process waits for its events: an endpoint that is well takes them at once.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Descriptors beyond those of clients: listeners, connections to stores, open files of local directories, standard streams.
const OWN_FILES: u64 = 512;

/// Threads for what blocks: as many as the readers and writers of one local directory keep busy. What more of them could do for several
/// directories on one machine is less than what they would hold: each keeps memory of its own. No work waits there for other work that may
/// still have to get a thread.
const BLOCKING_THREADS: usize = 96;

/// Why a gateway ended that nobody asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A store cannot be opened.
    #[error("the route {route} cannot be served: {cause}")]
    Open {
        /// The route.
        route: String,
        /// Which store, and why.
        cause: OpenError,
    },
    /// Those who are to be told of its uploads cannot be told of anything.
    #[error("the route {route} cannot be served: {cause}")]
    Unheard {
        /// The route.
        route: String,
        /// Why.
        cause: Setup,
    },
    /// The web servers behind it cannot be believed.
    #[error("the route {route} cannot be served: upstream_ca_file: {cause}")]
    Upstream {
        /// The route.
        route: String,
        /// Why.
        cause: AuthoritiesError,
    },
    /// A store lacks what sessions rest on.
    #[error("the route {route} cannot be served from {store}: {cause}")]
    Unfit {
        /// The route.
        route: String,
        /// The store.
        store: String,
        /// What it lacks.
        cause: ProbeError,
    },
    /// The system lacks what every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl Failed {
    /// The exit code that tells of it.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Bind(_) | Self::System(_) => exit::UNAVAILABLE,
            Self::Open { cause, .. } => exit::of(cause),
            Self::Unfit { .. } | Self::Unheard { .. } | Self::Upstream { .. } => exit::CONFIG,
        }
    }
}

/// Serves until a signal says otherwise. Everything worth telling is logged; the exit code tells the rest.
pub fn run(settings: &Settings) -> ExitCode {
    match serve(settings) {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            error!("{failed}");
            ExitCode::from(failed.exit_code())
        }
    }
}

fn serve(settings: &Settings) -> Result<u8, Failed> {
    let threads = threads(settings.server.threads);
    let runtime = runtime(threads)?;
    // What is still running when the end has come shall not hold it up.
    let code = runtime.block_on(async { App::build(settings, threads)?.live().await });
    runtime.shutdown_background();
    code
}

fn threads(wanted: u32) -> usize {
    match usize::try_from(wanted) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(wanted) => wanted,
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("worker")
        .enable_all()
        .build()
}

/// A gateway whose doors are bound but not yet open.
pub struct App {
    gateway: Gateway,
    doors: Vec<Door>,
    health: Arc<Health>,
    metrics: Metrics,
    uploads: Uploads,
    stores: Vec<StoreOfRoute>,
    grace_period: Duration,
    drain_delay: Duration,
    cleanup_interval: Duration,
    events_interval: Duration,
    signals: Signals,
}

/// The store of one route on its way to being open.
#[derive(Clone)]
struct StoreOfRoute {
    place: Arc<Place>,
    health: StoreHealth,
}

impl App {
    /// Binds every address, opens every store and puts the rooms together, on the runtime of the caller. Nobody is let in yet.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn build(settings: &Settings, threads: usize) -> Result<Self, Failed> {
        // First of all, so that a signal that comes early is not lost.
        let signals = Signals::new()?;
        let limits = limits(settings);
        let doors = settings
            .server
            .listen
            .iter()
            .map(Door::bind)
            .collect::<Result<Vec<_>, _>>()?;
        let admin_door = Door::bind(&settings.server.admin_listen)?;
        let routes: Vec<_> = settings.routes.iter().map(|route| route.gateway.name()).collect();
        let metrics = Metrics::new(routes.iter().map(String::as_str));
        let panics = metrics.clone();
        telemetry::report_panics(move || panics.panicked());
        let budget = Budget::new(
            settings.limits.upload.memory.bytes(),
            settings.limits.upload.memory_wait,
        );
        let uploads = Uploads::new(budget.clone(), Arc::new(SystemClock), metrics.clone());
        let stores = settings
            .routes
            .iter()
            .map(|route| StoreOfRoute::open(route, settings.cleanup.events_interval, &metrics))
            .collect::<Result<Vec<_>, _>>()?;
        let routes = settings
            .routes
            .iter()
            .zip(&stores)
            .map(|(route, store)| store.route(route))
            .collect::<Result<_, _>>()?;
        let health = Arc::new(Health::new(stores.iter().map(|store| store.health.clone()).collect()));
        let gateway = Gateway::new(Parts {
            limits,
            routes,
            uploads: uploads.clone(),
            downloads: Downloads::new(budget.clone(), settings.limits.upload.memory_wait),
            proxy_protocol: settings.server.proxy_protocol,
            trusted_proxies: settings.server.trusted_proxies.clone(),
            access_log: settings.log.packets,
            metrics: metrics.clone(),
            threads,
        });
        let places: Vec<_> = stores.iter().map(|store| Arc::clone(&store.place)).collect();
        let sessions = Sessions {
            guard: Guard::new(admin_door.address(), settings.server.admin_token.clone()),
            register: Register::new(uploads.clone(), places.clone()),
            sweep: Box::new(move |dry_run| sweep(&places, dry_run)),
            runtime: Handle::current(),
            room: Room::default(),
        };
        open_admin(admin_door, &health, &metrics, budget, sessions)?;
        Ok(Self {
            gateway,
            doors,
            health,
            metrics,
            uploads,
            stores,
            grace_period: settings.server.grace_period,
            drain_delay: settings.server.drain_delay,
            cleanup_interval: settings.cleanup.interval,
            events_interval: settings.cleanup.events_interval,
            signals,
        })
    }

    /// Lets clients in and serves them until a signal comes. The exit code.
    ///
    /// # Errors
    /// [`Failed`], when a store turns out to be unfit.
    pub async fn live(mut self) -> Result<u8, Failed> {
        for door in &self.doors {
            info!(listener = "gateway", address = %door.address(), "listening");
        }
        self.gateway.open(std::mem::take(&mut self.doors))?;
        let (unfit, mut found_unfit) = mpsc::channel(1);
        let opened = self.probe_stores(&unfit);
        tokio::spawn(self.once_open(opened));
        tokio::select! {
            asked = self.signals.next() => match asked {
                Asked::Terminate => Ok(self.drain().await),
                Asked::Interrupt => Ok(cut_short(Asked::Interrupt)),
            },
            Some(failed) = found_unfit.recv() => Err(failed),
        }
    }

    /// Probes every store in the background. The receivers tell when each one is open.
    fn probe_stores(&self, unfit: &mpsc::Sender<Failed>) -> Vec<watch::Receiver<bool>> {
        let probe = |store: &StoreOfRoute| {
            let (opened, is_open) = watch::channel(false);
            let (store, unfit, metrics) = (store.clone(), unfit.clone(), self.metrics.clone());
            tokio::spawn(async move {
                match store.probe(&metrics).await {
                    Ok(()) => drop(opened.send(true)),
                    // The receiver lives as long as the process does.
                    Err(failed) => drop(unfit.send(failed).await),
                }
            });
            is_open
        };
        self.stores.iter().map(probe).collect()
    }

    /// What begins once every store is open: readiness, and the sweeps.
    fn once_open(&self, opened: Vec<watch::Receiver<bool>>) -> impl Future<Output = ()> + use<> {
        let (metrics, uploads, interval) = (self.metrics.clone(), self.uploads.clone(), self.cleanup_interval);
        let events_interval = self.events_interval;
        let places: Vec<_> = self.stores.iter().map(|store| Arc::clone(&store.place)).collect();
        async move {
            for mut store in opened {
                // Without its sender a store is unfit, and the process ends.
                if store.wait_for(|open| *open).await.is_err() {
                    return;
                }
            }
            info!("ready");
            metrics.set_ready(true);
            let ended = |outcome| metrics.cleanup_ended(outcome, SystemClock.now().as_millis() / 1000);
            tokio::join!(
                cleanup::deliver_what_is_left(places.clone(), events_interval, metrics.clone()),
                cleanup::run(uploads, places, interval, ended),
            );
        }
    }

    /// Says goodbye: first to those who send clients here, then to the clients, then to everybody. The exit code.
    async fn drain(&mut self) -> u8 {
        let began = Instant::now();
        let deadline = began + self.grace_period;
        info!(grace_period = ?self.grace_period, in_flight = self.gateway.in_flight(), "draining");
        self.health.drain();
        self.metrics.set_ready(false);
        self.metrics.set_draining();
        self.gateway.leave();
        let leave = async {
            // Load balancers see that /readyz says no before connections are refused, and clients in the middle of an upload
            // are told to come back over another connection.
            tokio::time::sleep_until((began + self.drain_delay).min(deadline)).await;
            self.gateway.close();
            let finished = timeout_at(deadline, self.gateway.finished()).await;
            say_what_is_to_be_said(&self.stores, deadline.min(Instant::now() + LAST_WORDS)).await;
            finished
        };
        tokio::select! {
            finished = leave => {
                match finished {
                    Ok(()) => info!("stopped"),
                    Err(_) => warn!(in_flight = self.gateway.in_flight(), "stopped: the grace period is over"),
                }
                0
            }
            asked = self.signals.next() => cut_short(asked),
        }
    }
}

/// Lets events out that are on their way. What is not out by then is told by another replica, or by the next one here.
async fn say_what_is_to_be_said(stores: &[StoreOfRoute], deadline: Instant) {
    for outbox in stores.iter().filter_map(|store| store.place.events.as_ref()) {
        if timeout_at(deadline, outbox.idle()).await.is_err() {
            info!("events are left to be delivered by others");
            return;
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("gateway", &self.gateway)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl StoreOfRoute {
    fn open(settings: &RouteSettings, window: Duration, metrics: &Metrics) -> Result<Self, Failed> {
        let route = settings.gateway.name();
        let store = Store::open(&settings.store, metrics).map_err(|cause| Failed::Open {
            route: route.clone(),
            cause,
        })?;
        let health = StoreHealth {
            route: route.clone(),
            open: Arc::new(AtomicBool::new(false)),
            trouble: Arc::new(Mutex::new(None)),
        };
        let unheard = |cause| Failed::Unheard {
            route: route.clone(),
            cause,
        };
        let application = Messenger::new(&settings.notify).map_err(unheard)?;
        let herald = Herald::new(&settings.events).map_err(unheard)?;
        let outbox = |herald| Outbox::new(herald, window, Arc::new(SystemClock), metrics.clone());
        Ok(Self {
            place: Arc::new(Place {
                route: route.clone(),
                store,
                rules: settings.upload.rules(),
                application: application.map(Arc::new),
                events: herald.map(outbox).map(Arc::new),
            }),
            health,
        })
    }

    fn route(&self, settings: &RouteSettings) -> Result<Route, Failed> {
        let host_id = settings.gateway.host_id.as_ref().map(|host| HostId {
            host: host.clone(),
            fallback_timeout: Some(settings.gateway.host_id_fallback_timeout),
        });
        let upstream = upstreams(&settings.gateway).map_err(|cause| Failed::Upstream {
            route: self.place.route.clone(),
            cause,
        })?;
        Ok(Route {
            place: Arc::clone(&self.place),
            path: settings.gateway.path.clone(),
            host: settings.gateway.host.clone(),
            host_id,
            upload: settings.upload.taking,
            method_override: settings.gateway.method_override,
            download: settings.download.enabled,
            upstream,
            open: Arc::clone(&self.health.open),
            trouble: Arc::clone(&self.health.trouble),
        })
    }

    /// Probes the store until it answers, with growing pauses; then packets are let through to it.
    async fn probe(&self, metrics: &Metrics) -> Result<(), Failed> {
        let (route, store) = (&self.place.route, &self.place.store);
        let mut pause = FIRST_RETRY;
        loop {
            let shared = self.place.rules.coordination == Coordination::Shared;
            let probed = store.probe().await;
            let cause = match probed.and_then(|found| found.suffice(shared).map(|()| found)) {
                Ok(found) => {
                    info!(%route, %store, %found, "the store passed its probe");
                    break;
                }
                Err(cause @ ProbeError::Lacks { .. }) => {
                    return Err(Failed::Unfit {
                        route: route.clone(),
                        store: store.to_string(),
                        cause,
                    });
                }
                Err(ProbeError::Unclear(error)) => error.to_string(),
            };
            warn!(%route, %store, %cause, retry_in = ?pause, "the store failed its probe");
            self.note(Some(cause));
            #[expect(clippy::disallowed_methods, reason = "back-off: there is no event to wait for")]
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
        self.note(None);
        metrics.set_storage_up(route, true);
        self.health.open.store(true, Ordering::Release);
        Ok(())
    }

    fn note(&self, trouble: Option<String>) {
        *self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

fn upstreams(settings: &GatewayRouteSettings) -> Result<Option<Arc<Upstreams>>, AuthoritiesError> {
    let origins: Vec<_> = settings.upstream.iter().chain(&settings.upstreams).cloned().collect();
    if origins.is_empty() {
        return Ok(None);
    }
    let health = settings.upstream_health_path.as_ref();
    let health = health.and_then(|path| path.parse().ok());
    let authorities = settings.upstream_ca_file.as_ref();
    let authorities = authorities.map(|file| Authorities::load(file.as_ref())).transpose()?;
    Ok(Some(Arc::new(Upstreams::new(origins, health.as_ref(), authorities))))
}

/// The bounds on clients, as far as the system lets us have them.
fn limits(settings: &Settings) -> Limits {
    let wanted = u64::from(settings.limits.gateway.connections);
    // A client has a socket, and one who sends to a local directory a file at times.
    let files = raise_open_files(wanted * 2 + OWN_FILES);
    let room = files.map_or(wanted, |files| files.saturating_sub(OWN_FILES)).max(1);
    let connections = wanted.min(room);
    if connections < wanted {
        warn!(
            open_files = files,
            connections, wanted, "fewer connections than configured: RLIMIT_NOFILE cannot be raised"
        );
    } else {
        info!(open_files = files, connections, "limits");
    }
    Limits {
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        header_timeout: settings.server.header_timeout,
        idle_timeout: settings.server.keepalive_timeout,
        body_timeout: settings.server.read_timeout,
        write_timeout: settings.server.write_timeout,
        ..Limits::default()
    }
}

/// Sweeps now, and tells in lines of JSON.
fn sweep(places: &[Arc<Place>], dry_run: bool) -> BoxStream<'static, String> {
    let rules: Vec<_> = cleanup::rules_of(places).collect();
    let told = cleanup::at_once(places, &rules, dry_run);
    told.map(|told| admin::line(&told)).boxed()
}

fn open_admin(
    door: Door,
    health: &Arc<Health>,
    metrics: &Metrics,
    budget: Budget,
    sessions: Sessions,
) -> Result<(), Failed> {
    let metrics = metrics.clone();
    let pages = Pages {
        health: Arc::clone(health),
        metrics: Box::new(move || {
            metrics.set_buffer(budget.used(), budget.total());
            metrics.render()
        }),
        sessions,
    };
    info!(listener = "admin", address = %door.address(), "listening");
    Ok(admin::open(TcpListener::from(door), pages)?)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Terminate,
    Interrupt,
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }
}

/// The exit code of a process that does not wait for its requests. Nothing is lost: what was acknowledged is stored.
fn cut_short(asked: Asked) -> u8 {
    let kind = match asked {
        Asked::Terminate => SignalKind::terminate(),
        Asked::Interrupt => SignalKind::interrupt(),
    };
    warn!("stopped at once");
    u8::try_from(kind.as_raw_value()).map_or(u8::MAX, |number| exit::SIGNALLED.saturating_add(number))
}
