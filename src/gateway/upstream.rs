//! Where requests go that are neither packets nor downloads: one web server, or several in turn.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use http::header::HOST;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck};
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::authorities::Authorities;
use super::forwarded::{Origin, hops, told};
use crate::units::HttpOrigin;

/// Time to reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which a server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(180);

/// How often the names of servers are looked up again, and whether they take connections: so long a dead one is asked at most.
const ROUND: Duration = Duration::from_secs(5);

/// Servers that are tried for one request. Until one of them takes the connection, nothing of the request was sent.
pub(super) const ATTEMPTS: usize = 4;

/// The web servers behind a route.
pub struct Upstreams {
    balancer: LoadBalancer<RoundRobin>,
    authorities: Option<Authorities>,
    believe_the_machine: bool,
}

impl Upstreams {
    /// These servers, in turn. None is looked up before it is needed. One is well when it answers a GET of `health`, a path and query, with 2xx
    /// or 3xx; without such a path, when it takes a connection. Those that speak https are believed when `authorities` vouch for them, without
    /// any when those of this machine do.
    pub fn new(origins: Vec<HttpOrigin>, health: Option<&Uri>, authorities: Option<Authorities>) -> Self {
        let are_several = origins.len() > 1;
        let believe_the_machine = authorities.is_none() && origins.iter().any(HttpOrigin::tls);
        let check: Option<Box<dyn HealthCheck + Send + Sync>> = match health {
            Some(path) => Some(Box::new(Answers::at(path, &origins, authorities.as_ref()))),
            None if are_several => Some(Box::new(TakesConnections)),
            None => None,
        };
        let mut backends = Backends::new(Box::new(Names(origins)));
        if let Some(check) = check {
            backends.set_health_check(check);
        }
        Self {
            balancer: LoadBalancer::from_backends(backends),
            authorities,
            believe_the_machine,
        }
    }

    /// Whether any of them is believed by the authorities of this machine.
    pub(super) const fn believe_the_machine(&self) -> bool {
        self.believe_the_machine
    }

    /// Keeps addresses and health fresh until `closed` says so.
    pub(super) async fn watch(self: Arc<Self>, mut closed: watch::Receiver<bool>) {
        let mut rounds = interval(ROUND);
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                _ = closed.wait_for(|closed| *closed) => return,
            }
            self.look().await;
        }
    }

    async fn look(&self) {
        if let Err(error) = self.balancer.update().await {
            tracing::warn!(%error, "the names of the upstream could not be looked up; the last addresses are kept");
        }
        self.balancer.backends().run_health_check(true).await;
    }

    /// The next server that is well and was not `tried` for this request; when none is, the next that was not tried: it may be well by now.
    pub(super) async fn next(&self, tried: &[SocketAddr]) -> pingora::Result<Box<HttpPeer>> {
        if self.balancer.backends().get_backend().is_empty() {
            self.balancer.update().await?;
        }
        let count = self.balancer.backends().get_backend().len();
        let is_new = |backend: &Backend| backend.addr.as_inet().is_some_and(|address| !tried.contains(address));
        let next = self
            .balancer
            .select_with(b"", count, |backend, is_well| is_well && is_new(backend))
            .or_else(|| self.balancer.select_with(b"", count, |backend, _| is_new(backend)))
            .ok_or_else(|| Error::explain(ErrorType::ConnectError, "no server takes the request"))?;
        let mut peer = peer(&next)?;
        if let Some(authorities) = &self.authorities {
            authorities.judge(&mut peer);
        }
        Ok(Box::new(peer))
    }

    /// Whether there is a server that was not tried yet.
    pub(super) fn has_more_than(&self, tried: &[SocketAddr]) -> bool {
        self.balancer.backends().get_backend().len() > tried.len()
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = self.balancer.backends().get_backend();
        f.debug_list()
            .entries(backends.iter().map(|backend| &backend.addr))
            .finish()
    }
}

fn peer(backend: &Backend) -> pingora::Result<HttpPeer> {
    let origin = backend
        .ext
        .get::<HttpOrigin>()
        .ok_or_else(|| Error::explain(ErrorType::InternalError, "an address of no server"))?;
    let mut peer = HttpPeer::new(backend, origin.tls(), bare(origin).to_owned());
    peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.read_timeout = Some(READ_TIMEOUT);
    peer.options.write_timeout = Some(READ_TIMEOUT);
    Ok(peer)
}

fn bare(origin: &HttpOrigin) -> &str {
    origin.host().trim_start_matches('[').trim_end_matches(']')
}

/// The addresses that the names of the servers have now: servers may move, and one name may stand for several.
struct Names(Vec<HttpOrigin>);

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        let mut failed = None;
        for origin in &self.0 {
            let found = lookup_host((bare(origin), origin.port()))
                .await
                .or_err_with(ErrorType::ConnectError, || format!("{origin} was not found"));
            match found {
                Ok(addresses) => backends.extend(addresses.map(|address| backend(address, origin))),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if backends.is_empty() => Err(error),
            _ if backends.is_empty() => Error::e_explain(ErrorType::ConnectError, "the upstream has no address"),
            _ => Ok((backends, HashMap::new())),
        }
    }
}

fn backend(address: SocketAddr, origin: &HttpOrigin) -> Backend {
    let mut ext = http::Extensions::new();
    ext.insert(origin.clone());
    Backend {
        addr: pingora::protocols::l4::socket::SocketAddr::Inet(address),
        weight: 1,
        ext,
    }
}

/// A server is well when it takes a connection.
struct TakesConnections;

#[async_trait]
impl HealthCheck for TakesConnections {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let Some(address) = target.addr.as_inet() else {
            return Ok(());
        };
        timeout(ROUND, TcpStream::connect(address))
            .await
            .or_err(ErrorType::ConnectTimedout, "no connection in time")?
            .or_err(ErrorType::ConnectError, "no connection")?;
        Ok(())
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// A server is well when it says so.
struct Answers(HashMap<HttpOrigin, HttpHealthCheck>);

impl Answers {
    fn at(path: &Uri, origins: &[HttpOrigin], authorities: Option<&Authorities>) -> Self {
        let check = |origin: &HttpOrigin| {
            let mut check = HttpHealthCheck::new(bare(origin), origin.tls());
            check.req.set_uri(path.clone());
            // A name with a port: several servers may be told apart by it. What an origin is made of, a header takes.
            let named = format!("{}:{}", origin.host(), origin.port());
            let _ = check.req.insert_header(HOST, named);
            check.peer_template.options.connection_timeout = Some(ROUND);
            check.peer_template.options.total_connection_timeout = Some(ROUND);
            check.peer_template.options.read_timeout = Some(ROUND);
            if let Some(authorities) = authorities {
                authorities.judge(&mut check.peer_template);
            }
            check.validator = Some(Box::new(|answer| match answer.status.as_u16() {
                200..=399 => Ok(()),
                other => Error::e_explain(ErrorType::HTTPStatus(other), "the server is not well"),
            }));
            (origin.clone(), check)
        };
        Self(origins.iter().map(check).collect())
    }
}

#[async_trait]
impl HealthCheck for Answers {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        match target.ext.get::<HttpOrigin>().and_then(|origin| self.0.get(origin)) {
            Some(check) => check.check(target).await,
            None => Ok(()),
        }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

fn is_upgrade(session: &Session) -> bool {
    let http1 = session.as_downstream().as_http1();
    http1.is_some_and(|http1| http1.is_upgrade_req())
}

/// Tells the server whom it is answering, and nothing of the connection that the request came over.
pub(super) fn introduce(
    session: &Session,
    peer: SocketAddr,
    origin: &Origin,
    request: &mut RequestHeader,
) -> pingora::Result<()> {
    let headers = &session.req_header().headers;
    for name in hops(headers, is_upgrade(session)) {
        request.remove_header(&name);
    }
    for (name, value) in told(headers, peer, origin) {
        match value {
            Some(value) => request.insert_header(name, value)?,
            None => drop(request.remove_header(name)),
        }
    }
    Ok(())
}

/// Takes out of an answer what speaks of the connection to the server.
pub(super) fn leave_behind(response: &mut ResponseHeader) {
    let is_upgrade = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    for name in hops(&response.headers, is_upgrade) {
        response.remove_header(&name);
    }
}
