//! Doors: bound before anything else happens, closed before the last request is done.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::announced::announced;
use super::connection::{Connection, linger};
use super::desk::Desk;
use super::forwarded::Trusted;
use super::limits::Limits;
use super::pulse::{Crowd, Phase};
use crate::metrics::{Metrics, Rejection};
use crate::telemetry::ACCESS;

/// Connections beyond the cap that are told so at the same time; further ones are closed without a word.
const TURNED_AWAY_AT_ONCE: usize = 64;

/// Bytes of a turned-away request that are read so that the answer survives.
const TURNED_AWAY_BYTES: u64 = 64 * 1024;

/// Pause after an accept that failed: out of descriptors or memory, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    /// The address as configured.
    pub address: String,
    /// What the system says.
    pub cause: io::Error,
}

/// An open door, and where it is.
#[derive(Debug)]
pub struct Door {
    listener: StdListener,
    address: SocketAddr,
}

impl Door {
    /// Listens on `address`; port 0 takes any free one. A name that stands for several addresses takes the first that works.
    ///
    /// # Errors
    /// The address is taken, not ours, or not allowed.
    pub fn bind(address: &(impl std::net::ToSocketAddrs + fmt::Display)) -> Result<Self, BindError> {
        let open = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        open().map_err(|cause| BindError {
            address: address.to_string(),
            cause,
        })
    }

    /// The address that clients can reach, with the real port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands the door over to the runtime of the caller.
    pub(super) fn into_listener(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listener)
    }
}

impl From<Door> for StdListener {
    fn from(door: Door) -> Self {
        door.listener
    }
}

/// What connections need of the house.
pub(super) struct House {
    pub(super) limits: Arc<Limits>,
    /// Whose connections begin with an announcement of the client.
    pub(super) announcers: Trusted,
    /// Whether the process is on its way out: answers then end their connections.
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) metrics: Metrics,
    /// What a connection beyond the cap is told.
    pub(super) full: Bytes,
}

/// What every connection shares.
pub(super) struct Front {
    proxy: Arc<HttpProxy<Desk>>,
    house: House,
    crowd: Arc<Crowd>,
    slots: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Front {
    pub(super) fn new(proxy: HttpProxy<Desk>, house: House) -> Self {
        let slots = house.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            proxy: Arc::new(proxy),
            crowd: Arc::new(Crowd::of(house.limits.connections)),
            house,
            slots: Arc::new(Semaphore::new(slots)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
        }
    }

    /// Takes in connections until `closed` says so.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, mut closed: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                // Who is already waiting at the door is let in before it closes.
                biased;
                accepted = listener.accept() => accepted,
                _ = closed.wait_for(|closed| *closed) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    #[expect(clippy::disallowed_methods, reason = "back-off: there is no event to wait for")]
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // A socket that is dead already shows it at its first read.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let kept = (slot, self.house.metrics.connection_opens());
            let front = Arc::clone(self);
            tokio::spawn(async move { front.receive(stream, peer, kept).await });
            return;
        }
        self.house.metrics.connection_rejected(Rejection::Limit);
        if let Ok(slot) = Arc::clone(&self.turned_away).try_acquire_owned() {
            tracing::warn!(%peer, limit = self.house.limits.connections, "turned away: too many connections");
            // A fresh socket takes so few bytes, or the client is gone.
            let _ = stream.try_write(&self.house.full);
            tokio::spawn(linger(stream, (TURNED_AWAY_BYTES, self.house.limits.linger), slot));
        }
    }

    /// Finds out who is there, and answers.
    async fn receive(&self, mut stream: TcpStream, peer: SocketAddr, kept: impl Send + Sync + 'static) {
        let mut client = peer;
        if self.house.announcers.contains(peer.ip()) {
            match timeout(self.house.limits.header_timeout, announced(&mut stream)).await {
                Ok(Ok(named)) => client = named.unwrap_or(peer),
                Ok(Err(error)) => {
                    tracing::info!(target: ACCESS, client = %peer, reason = "unannounced", why = %error, "request");
                    return self.house.metrics.connection_rejected(Rejection::Malformed);
                }
                Err(_) => return self.house.metrics.connection_rejected(Rejection::HeaderTimeout),
            }
        }
        let connection = Connection::new(stream, client, &self.house.limits, &self.crowd, kept);
        self.converse(connection, client).await;
    }

    /// Answers request after request.
    async fn converse(&self, connection: Connection, peer: SocketAddr) {
        let (pulse, tap) = (connection.pulse(), connection.tap());
        let mut session = ServerSession::new_http1(Box::new(connection));
        // Without a timer of the engine's: the pulse has a better one.
        session.set_keepalive(Some(0));
        let mut served = false;
        let mut overdue = pin!(pulse.overdue(&self.house.limits));
        loop {
            let reused = tokio::select! {
                biased;
                reused = self.proxy.process_new_http(session, &self.house.leaving) => reused,
                phase = &mut overdue => {
                    tracing::debug!(%peer, ?phase, "closed a connection that was silent for too long");
                    self.rejected(served, Rejection::HeaderTimeout);
                    return;
                }
            };
            let Some((stream, kept)) = reused.map(|reused| reused.consume()) else {
                if pulse.spoke_to_a_head() {
                    // Nobody at the desk ever saw it: this is all that the log will tell.
                    tracing::info!(target: ACCESS, client = %peer, reason = "unreadable", "request");
                    self.rejected(served, Rejection::Malformed);
                }
                return;
            };
            served = true;
            pulse.enter(Phase::Idle);
            tap.begin();
            session = ServerSession::new_http1(stream);
            if let Some(kept) = kept {
                kept.apply_to_session(&mut session);
            }
        }
    }
}

impl Front {
    fn rejected(&self, served: bool, why: Rejection) {
        if !served {
            self.house.metrics.connection_rejected(why);
        }
    }
}

/// How many requests are being answered.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    requests: AtomicUsize,
    /// Told when there is none any more.
    none: Notify,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Counts one request until the guard is dropped, however its task ends.
    pub(super) fn enter(&self) -> InFlightGuard {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(self.clone())
    }

    /// Resolves when no request is being answered.
    pub(super) async fn none(&self) {
        loop {
            // Asked for before the look: nothing that happens in between is missed.
            let none = self.0.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }

    /// How many there are now.
    pub(super) fn count(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }
}

/// One request that is being answered.
#[derive(Debug)]
pub(super) struct InFlightGuard(InFlight);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let count = &self.0.0;
        if count.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            count.none.notify_waiters();
        }
    }
}

/// Raises the limit on open files so that `wanted` fit, as far as the system lets us, and says what it is now.
/// `None` = no limit.
pub fn raise_open_files(wanted: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let old = getrlimit(Resource::Nofile);
    let current = old.current?;
    if current >= wanted {
        return Some(current);
    }
    let raised = old.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(raised),
            maximum: old.maximum,
        },
    ) {
        Ok(()) => Some(raised),
        Err(_) => Some(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_on_port_nought_knows_its_real_port() {
        let door = Door::bind(&"127.0.0.1:0").expect("a free port");
        assert_ne!(door.address().port(), 0);
    }

    #[test]
    fn a_taken_address_is_an_error_that_names_it() {
        let door = Door::bind(&"127.0.0.1:0").expect("a free port");
        let address = door.address().to_string();
        let error = Door::bind(&address).expect_err("taken");
        assert!(
            error.to_string().starts_with(&format!("cannot listen on {address}: ")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_gauge_falls_even_when_a_task_panics() {
        let gauge = InFlight::new();
        let guard = gauge.enter();
        let task = tokio::spawn(async move {
            let _guard = guard;
            std::panic::resume_unwind(Box::new(()));
        });
        assert_eq!(gauge.count(), 1);
        assert!(task.await.is_err());
        gauge.none().await;
    }

    #[test]
    fn open_files_are_never_lowered() {
        let before = raise_open_files(0);
        assert_eq!(raise_open_files(1), before);
    }
}
