//! The hooks of the HTTP engine: each asks one question of the rooms behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::Peer;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::sync::watch;

use super::answer::{self, Answer};
use super::connection::Connection;
use super::forwarded::{Origin, Trusted};
use super::framing::Head;
use super::limits::Limits;
use super::listener::InFlight;
use super::packets::{Clerk, Destination, refusal};
use super::pulse::Phase;
use super::rescue::{Trouble, rescue};
use super::routes::{Asked, Routes};
use super::visit::{Kind, Visit};
use super::{MethodOverride, Route, upstream};
use crate::bits::{Ack, PacketKind};
use crate::budget::Budget;
use crate::download::{Downloads, Verb};
use crate::metrics::Metrics;
use crate::session::Principal;
use crate::telemetry::Packets;
use crate::upload::{BodyBroken, Refused, Taking};

/// The method of every packet, in exactly this letter case (MC-BUP 2.2.1).
const BITS_POST: &str = "BITS_POST";

/// The method that a POST stands for.
const METHOD_OVERRIDE: &str = "X-Http-Method-Override";

/// Everything that answers requests.
pub(super) struct Desk {
    pub(super) limits: Arc<Limits>,
    pub(super) routes: Routes<Arc<Route>>,
    pub(super) clerk: Clerk,
    pub(super) downloads: Downloads,
    pub(super) trusted: Trusted,
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) in_flight: InFlight,
    pub(super) budget: Budget,
    pub(super) access_log: Packets,
    pub(super) metrics: Metrics,
}

/// What the desk does with a request itself; `None`: it goes to the upstream.
type Settled = Option<()>;

impl Desk {
    /// Prepares the connection for the request whose head was just read.
    fn welcome(&self, session: &mut Session, visit: &mut Visit) {
        visit.in_flight = Some(self.in_flight.enter());
        if let Some(peer) = peer(session) {
            visit.peer = Some(peer);
            visit.origin = Some(Origin::of(peer, &session.req_header().headers, &self.trusted));
        }
        if let Some(connection) = session.stream().and_then(|stream| Connection::below(&**stream)) {
            connection.pulse().enter(Phase::Busy);
        }
        // Without it the engine drops a request that came in with the one before, after a promise to keep the connection.
        session.set_pipelining_enabled(true);
        session.set_read_timeout(Some(self.limits.body_timeout));
        if session.req_header().version != Version::HTTP_11 || *self.leaving.borrow() {
            session.set_keepalive(None);
        }
    }

    /// Answers the request, or says that the upstream shall.
    async fn settle(&self, session: &mut Session, visit: &mut Visit) -> Settled {
        let head = session.req_header();
        let is_packet = head.method.as_str() == BITS_POST;
        visit.kind = if is_packet {
            visit.packet = Some(self.metrics.packet_begins());
            Kind::Packet(PacketKind::of(&head.headers))
        } else {
            Kind::Method(head.method.as_str().to_owned())
        };
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let asked = Asked::parse(&target);
        visit.path = asked.map_or(target.as_str(), |asked| asked.path).to_owned();
        let asked = match (check(session, visit), asked) {
            (Ok(()), Some(asked)) => asked,
            (Err(doubt), _) => return self.refuse(session, visit, &Trouble::Doubt(doubt)).await,
            (Ok(()), None) => return self.refuse(session, visit, &Trouble::NoRoute).await,
        };
        let host = host(session, &asked);
        let Some((route, below)) = self.routes.find(&host, asked.path) else {
            return self.refuse(session, visit, &Trouble::NoRoute).await;
        };
        visit.route = Some(Arc::clone(route));
        let is_overridden = !is_packet && route.method_override != MethodOverride::Off && stands_for_a_packet(session);
        if is_overridden {
            visit.packet = Some(self.metrics.packet_begins());
            visit.kind = Kind::Packet(PacketKind::of(&session.req_header().headers));
        }
        if (is_packet || is_overridden) && route.upload == Taking::Proxy {
            return None;
        }
        if is_packet || is_overridden {
            let client = visit.origin.as_ref().map(|origin| origin.client.ip().to_canonical());
            let url = if asked.authority.is_some() {
                target.clone()
            } else {
                let scheme = visit.origin.map_or("http", |origin| origin.scheme());
                format!("{scheme}://{host}{target}")
            };
            let reply = self
                .receive(
                    session,
                    visit,
                    Destination {
                        route,
                        below,
                        query: asked.query,
                        url,
                        principal: Principal::anonymous(),
                        client,
                    },
                )
                .await;
            let ack = match route.method_override {
                MethodOverride::Created if is_overridden => reply.ack.map(Ack::as_created),
                _ => reply.ack,
            };
            let answer = ack.map(|ack| Answer::ack(&ack).hanging_up(reply.hang_up));
            self.send(session, visit, answer).await;
            return Some(());
        }
        match Verb::of(&session.req_header().method) {
            Some(verb) if route.download || route.keeps_reply(below) => {
                match self.serve(session, visit, route, below, verb).await {
                    Ok(()) => Some(()),
                    Err(trouble) => self.refuse(session, visit, &trouble).await,
                }
            }
            _ if route.upstream.is_some() => None,
            _ => self.refuse(session, visit, &Trouble::NotAllowed).await,
        }
    }

    /// Refuses a request before it reached any room, in the form that its method calls for.
    async fn refuse(&self, session: &mut Session, visit: &mut Visit, trouble: &Trouble) -> Settled {
        let rescue = rescue(trouble);
        visit.fail(trouble, &rescue);
        let answer = match visit.kind {
            Kind::Packet(_) => refusal(&rescue, None, None).map(|ack| Answer::ack(&ack)),
            Kind::Method(_) => Answer::plain(&rescue),
        };
        let answer = match (answer, trouble, &visit.route) {
            (Some(answer), Trouble::NotAllowed, Some(route)) => Some(answer.allowing(&route.methods())),
            (answer, ..) => answer,
        };
        self.send(session, visit, answer.map(|answer| answer.hanging_up(rescue.hang_up)))
            .await;
        Some(())
    }

    /// Sends an answer; without one, the connection ends.
    async fn send(&self, session: &mut Session, visit: &mut Visit, answer: Option<Answer>) {
        if *self.leaving.borrow() {
            session.set_keepalive(None);
        }
        visit.answered(answer.as_ref().map(Answer::status));
        match answer {
            Some(answer) => answer::send(session, answer, &self.limits).await,
            None => session.set_keepalive(None),
        }
    }

    /// What the upstream's failure means to the client. The status of the answer, 0 when there is none.
    async fn give_up(&self, session: &mut Session, visit: &mut Visit, error: &Error) -> u16 {
        let gone = *error.esource() == ErrorSource::Downstream;
        let trouble = if gone {
            Refused::Body(BodyBroken::Disconnected).into()
        } else {
            Trouble::Upstream {
                slow: is_timeout(error.etype()),
                why: error.to_string(),
            }
        };
        let rescue = rescue(&trouble);
        visit.fail(&trouble, &rescue);
        let begun = session
            .response_written()
            .is_some_and(|head| !head.status.is_informational());
        let answer = if gone || begun { None } else { Answer::plain(&rescue) };
        let status = answer.as_ref().map_or(0, Answer::status);
        self.send(session, visit, answer.map(|answer| answer.hanging_up(true)))
            .await;
        status
    }
}

fn stands_for_a_packet(session: &Session) -> bool {
    let is_post = session.req_header().method == Method::POST;
    is_post
        && session
            .get_header(METHOD_OVERRIDE)
            .is_some_and(|method| method == BITS_POST)
}

const fn is_timeout(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout
    )
}

/// Whether everybody who reads the head finds the same request in it.
fn check(session: &Session, visit: &Visit) -> Result<(), super::framing::Doubt> {
    let head = session.req_header();
    let raw = session
        .as_downstream()
        .as_http1()
        .map(|http1| http1.get_headers_raw_bytes())
        .unwrap_or_default();
    let may_be_chunked = match &visit.kind {
        Kind::Packet(kind) => *kind == PacketKind::Fragment,
        Kind::Method(_) => head.method != Method::GET && head.method != Method::HEAD,
    };
    Head {
        raw: &raw,
        http_11: head.version == Version::HTTP_11,
        may_be_chunked,
    }
    .check()
}

/// Who is at the other end of the connection.
fn peer(session: &Session) -> Option<SocketAddr> {
    Some(Connection::below(&**session.stream()?)?.client())
}

/// The host that is asked, with its port; our own address where an old client names none.
fn host(session: &Session, asked: &Asked<'_>) -> String {
    if let Some(authority) = asked.authority {
        return authority.to_owned();
    }
    let named = session
        .get_header(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    match (named, session.server_addr()) {
        (Some(host), _) => host.to_owned(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    }
}

#[async_trait]
impl ProxyHttp for Desk {
    type CTX = Visit;

    fn new_ctx(&self) -> Visit {
        Visit::new()
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // None: nothing is ever compressed here.
    }

    async fn early_request_filter(&self, session: &mut Session, visit: &mut Visit) -> pingora::Result<()> {
        self.welcome(session, visit);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, visit: &mut Visit) -> pingora::Result<bool> {
        Ok(self.settle(session, visit).await.is_some())
    }

    async fn upstream_peer(&self, _session: &mut Session, visit: &mut Visit) -> pingora::Result<Box<HttpPeer>> {
        let Some(upstreams) = visit.route.as_ref().and_then(|route| route.upstream.as_ref()) else {
            return Error::e_explain(ErrorType::ConnectError, "the route names no upstream");
        };
        upstreams.next(&visit.tried).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        visit: &mut Visit,
        mut error: Box<Error>,
    ) -> Box<Error> {
        visit.tried.extend(Peer::address(peer).as_inet());
        let upstreams = visit.route.as_ref().and_then(|route| route.upstream.as_ref());
        // Nothing was sent: another server may have it, whatever it is.
        error.set_retry(upstreams.is_some_and(|upstreams| upstreams.has_more_than(&visit.tried)));
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        visit: &mut Visit,
    ) -> pingora::Result<()> {
        match (visit.peer, &visit.origin) {
            (Some(peer), Some(origin)) => upstream::introduce(session, peer, origin, request),
            _ => Error::e_explain(ErrorType::InternalError, "a request from nowhere"),
        }
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        _visit: &mut Visit,
    ) -> pingora::Result<()> {
        upstream::leave_behind(response);
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, visit: &mut Visit) -> FailToProxy {
        let error_code = self.give_up(session, visit, error).await;
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _session: &Session, _visit: &Visit, _error: &Error) -> bool {
        // The access line says it, at the level that it deserves.
        true
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, visit: &mut Visit) {
        if visit.status.is_none() && visit.took.is_none() {
            visit.answered(session.response_written().map(|head| head.status.as_u16()));
        }
        visit.count(session, &self.metrics);
        visit.log(session, self.access_log);
    }
}
