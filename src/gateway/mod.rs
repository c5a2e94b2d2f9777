//! The front desk: connections, routing, bodies and answers. The only room that names the HTTP engine.
//!
//! A request walks through it once: `listener` lets its connection in, `desk` checks its framing and finds its route,
//! `packets` or `files` has another room carry it out and `answer` sends what came of it; whatever fails on the way is
//! turned into an answer by `rescue` alone. `connection` watches over what the engine does not time.

mod announced;
mod answer;
mod authorities;
mod body;
mod connection;
mod desk;
mod files;
mod forwarded;
mod framing;
mod intake;
mod limits;
mod listener;
mod pace;
mod packets;
mod pulse;
mod reply;
mod rescue;
mod routes;
mod settings;
mod upstream;
mod visit;

pub use authorities::{Authorities, AuthoritiesError};
pub use limits::Limits;
pub use listener::{BindError, Door, raise_open_files};
pub use packets::{Clerk, Destination, PacketHead, Reply};
pub use settings::{ConnectionSettings, MethodOverride, RouteSettings, Settings};
pub use upstream::Upstreams;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use self::desk::Desk;
use self::forwarded::Trusted;
use self::listener::{Front, House, InFlight};
use self::rescue::{Trouble, rescue};
use self::routes::{Location, Routes};
use crate::bits::HostId;
use crate::budget::Budget;
use crate::download::Downloads;
use crate::metrics::Metrics;
use crate::telemetry::Packets;
use crate::upload::{Place, Taking, Uploads};

/// Time after the last answer in which the next packet of somebody who was just served may still come in.
const SETTLE: Duration = Duration::from_millis(50);

/// How often memory that was not needed for bodies lately is given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// A URL prefix and what is done with the requests below it.
#[derive(Debug)]
pub struct Route {
    /// The store, the rules, and the name.
    pub place: Arc<Place>,
    /// The path prefix.
    pub path: String,
    /// The host that it is bound to, if any.
    pub host: Option<String>,
    /// Where its clients are sent for the rest of a session.
    pub host_id: Option<HostId>,
    /// What becomes of packets.
    pub upload: Taking,
    /// Whether a packet may come as a POST.
    pub method_override: MethodOverride,
    /// Whether what was uploaded can be read again.
    pub download: bool,
    /// Where requests go that are neither.
    pub upstream: Option<Arc<Upstreams>>,
    /// Set once the store has passed its probe; until then packets are told to come back.
    pub open: Arc<AtomicBool>,
    /// What went wrong last; nothing when the last packet went well.
    pub trouble: Arc<Mutex<Option<String>>>,
}

impl Route {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Notes how the last packet went, as far as it tells of the store and of this process.
    fn note(&self, trouble: Option<&str>) {
        let mut noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.as_deref() != trouble {
            *noted = trouble.map(str::to_owned);
        }
    }

    /// Whether `below` is where a reply may be.
    fn keeps_reply(&self, below: &str) -> bool {
        self.place.application.is_some() && reply::session_of(below).is_some()
    }

    /// What `Allow` says (RFC 9110 10.2.1).
    fn methods(&self) -> String {
        let mut methods = Vec::new();
        if self.download {
            methods.extend(["GET", "HEAD"]);
        }
        if self.upload == Taking::Yes {
            methods.push("BITS_POST");
        }
        methods.join(", ")
    }
}

/// What the front desk is made of.
#[derive(Debug)]
pub struct Parts {
    /// The bounds on what clients may take.
    pub limits: Limits,
    /// Every route.
    pub routes: Vec<Route>,
    /// The upload room.
    pub uploads: Uploads,
    /// The download room.
    pub downloads: Downloads,
    /// The proxies in front of us whose word counts about whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of those proxies begin with an announcement (PROXY protocol).
    pub proxy_protocol: bool,
    /// Which requests the log tells of.
    pub access_log: Packets,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Worker threads of the runtime that it will run on.
    pub threads: usize,
}

/// The front desk, between its first connection and its last answer.
pub struct Gateway {
    front: Arc<Front>,
    in_flight: InFlight,
    budget: Budget,
    upstreams: Vec<Arc<Upstreams>>,
    leaving: watch::Sender<bool>,
    closed: watch::Sender<bool>,
}

impl Gateway {
    /// A desk that has not opened yet.
    pub fn new(parts: Parts) -> Self {
        let limits = Arc::new(parts.limits);
        let trusted = Trusted::new(parts.trusted_proxies);
        let (in_flight, budget) = (InFlight::new(), parts.uploads.budget().clone());
        let leaving = watch::Sender::new(false);
        let upstreams: Vec<_> = parts.routes.iter().filter_map(|route| route.upstream.clone()).collect();
        let conf = Arc::new(engine_settings(parts.threads, &upstreams));
        let desk = Desk {
            limits: Arc::clone(&limits),
            routes: table(parts.routes),
            clerk: Clerk::new(parts.uploads),
            downloads: parts.downloads,
            trusted: trusted.clone(),
            leaving: leaving.subscribe(),
            in_flight: in_flight.clone(),
            budget: budget.clone(),
            access_log: parts.access_log,
            metrics: parts.metrics.clone(),
        };
        let house = House {
            limits,
            announcers: if parts.proxy_protocol {
                trusted
            } else {
                Trusted::default()
            },
            leaving: leaving.subscribe(),
            metrics: parts.metrics,
            full: full_house(),
        };
        let front = Front::new(http_proxy(&conf, desk), house);
        Self {
            front: Arc::new(front),
            in_flight,
            budget,
            upstreams,
            leaving,
            closed: watch::Sender::new(false),
        }
    }

    /// Takes in connections at `doors` on the runtime of the caller.
    ///
    /// # Errors
    /// The runtime has no room for a door.
    pub fn open(&self, doors: Vec<Door>) -> io::Result<()> {
        for door in doors {
            let accepting = Arc::clone(&self.front).accept(door.into_listener()?, self.closed.subscribe());
            tokio::spawn(accepting);
        }
        tokio::spawn(trim(self.budget.clone(), self.closed.subscribe()));
        for upstreams in &self.upstreams {
            tokio::spawn(Arc::clone(upstreams).watch(self.closed.subscribe()));
        }
        Ok(())
    }

    /// From now on every answer ends its connection, so that clients come back to somebody who stays.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Lets nobody in any more. Who is in may still ask.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Resolves when no request is being answered, and none came in for a moment.
    pub async fn finished(&self) {
        loop {
            self.in_flight.none().await;
            #[expect(clippy::disallowed_methods, reason = "that nothing comes is no event")]
            sleep(SETTLE).await;
            if self.in_flight.count() == 0 {
                return;
            }
        }
    }

    /// Requests that are being answered now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

async fn trim(budget: Budget, mut closed: watch::Receiver<bool>) {
    let mut moments = interval(TRIM_INTERVAL);
    loop {
        tokio::select! {
            _ = moments.tick() => budget.trim(),
            _ = closed.wait_for(|closed| *closed) => return,
        }
    }
}

fn table(routes: Vec<Route>) -> Routes<Arc<Route>> {
    let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
    Routes::new(routes.iter().map(|route| {
        let at = Location {
            path: &route.path,
            host: route.host.as_deref(),
            host_id: route.host_id.as_ref().map(|id| id.host.as_str()),
        };
        (at, Arc::clone(route))
    }))
}

fn engine_settings(threads: usize, upstreams: &[Arc<Upstreams>]) -> ServerConf {
    let believes_the_machine = upstreams.iter().any(|upstreams| upstreams.believe_the_machine());
    ServerConf {
        threads,
        max_retries: upstream::ATTEMPTS,
        // The engine reads the certificates of the system at start and panics where one of them is broken: only who needs
        // them shall depend on that.
        ca_file: if believes_the_machine {
            None
        } else {
            Some("/dev/null".to_owned())
        },
        ..ServerConf::default()
    }
}

/// What a connection beyond the cap is told, as bytes: no engine is spent on it.
fn full_house() -> Bytes {
    let rescue = rescue(&Trouble::TooManyConnections);
    let answer = packets::refusal(&rescue, None, None).map(|ack| answer::Answer::ack(&ack));
    let mut wire = BytesMut::new();
    if let Some(answer) = answer {
        answer.write_to(&mut wire);
    }
    wire.freeze()
}
