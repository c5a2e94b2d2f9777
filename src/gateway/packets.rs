//! Packets: from the head of a `BITS_POST` to its Ack.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use http::HeaderMap;
use pingora::proxy::Session;

use super::Route;
use super::body::FragmentBody;
use super::desk::Desk;
use super::reply::{self, Reached};
use super::rescue::{Rescue, Trouble, rescue};
use super::visit::Visit;
use crate::bits::{Ack, BodyLength, ContentRange, Fragment, Malformed, Packet, PacketKind, SentSessionId, SessionId};
use crate::session::{Principal, Target};
use crate::store::{Error as StoreError, Key, KeyRefused};
use crate::upload::{Asked, Body, Fragmented, Refused, ReplyAt, Taking, Uploads};

/// Where a packet goes, as its URL says, and who sends it.
#[derive(Debug)]
pub struct Destination<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// The raw path below the route.
    pub below: &'a str,
    /// The raw query.
    pub query: Option<&'a str>,
    /// The absolute URL as the client sent it.
    pub url: String,
    /// Who sends it.
    pub principal: Principal,
    /// From where, as far as that is believed.
    pub client: Option<IpAddr>,
}

impl Destination<'_> {
    /// What is asked of the upload room.
    fn asked(&self) -> Result<Asked, KeyRefused> {
        let target = Target {
            route: self.route.place.route.clone(),
            key: Key::from_request(self.below)?.as_str().to_owned(),
            query: self.query.map(str::to_owned),
        };
        Ok(Asked {
            principal: self.principal.clone(),
            target,
            url: self.url.clone(),
            client: self.client,
        })
    }
}

/// What the head of a packet says, or why it says nothing.
#[derive(Debug)]
pub struct PacketHead {
    kind: PacketKind,
    sent: Option<SentSessionId>,
    packet: Result<Packet, Malformed>,
}

impl PacketHead {
    /// Reads the headers of a `BITS_POST`.
    pub fn read(headers: &HeaderMap) -> Self {
        let kind = PacketKind::of(headers);
        let sent = kind.has_session().then(|| SentSessionId::find(headers)).flatten();
        let packet = BodyLength::of(headers).and_then(|length| Packet::parse(headers, length));
        Self { kind, sent, packet }
    }

    /// The bytes that its body must hold, if it is a fragment.
    pub const fn range(&self) -> Option<ContentRange> {
        match &self.packet {
            Ok(Packet::Fragment(fragment)) => Some(fragment.range),
            _ => None,
        }
    }
}

/// What is done about a packet.
#[derive(Debug)]
pub struct Reply {
    /// Its Ack; none when nobody would read it.
    pub ack: Option<Ack>,
    /// Whether the connection ends with it.
    pub hang_up: bool,
    /// The session that the packet began.
    pub(super) began: Option<SessionId>,
    /// Why it failed, and what was done about it.
    pub(super) failed: Option<(Trouble, Rescue)>,
}

/// Why a packet failed, and how far its session is where that is known.
struct Failed {
    trouble: Trouble,
    next: Option<u64>,
}

impl<T: Into<Trouble>> From<T> for Failed {
    fn from(trouble: T) -> Self {
        Self {
            trouble: trouble.into(),
            next: None,
        }
    }
}

/// Carries out packets, whatever they came in by: it sees heads and bodies and no connection.
#[derive(Clone, Debug)]
pub struct Clerk {
    uploads: Uploads,
}

impl Clerk {
    /// The clerk in front of this upload room.
    pub const fn new(uploads: Uploads) -> Self {
        Self { uploads }
    }

    /// Where the reply lies that a session keeps for `principal`; `None` when there is none for him.
    pub(super) async fn reply(
        &self,
        route: &Route,
        principal: &Principal,
        session: SessionId,
    ) -> Result<Option<Key>, StoreError> {
        self.uploads.reply(&route.place, principal, session).await
    }

    /// Carries out a packet and says what to answer. `body` must break when it is not as long as [`PacketHead::range`]; it is read
    /// only as far as it is wanted.
    pub async fn answer(&self, head: &PacketHead, to: &Destination<'_>, body: &mut impl Body) -> Reply {
        // Nobody looks where a Ping goes.
        let asked = LazyLock::new(|| to.asked());
        let failed = match self.carry_out(head, to.route, &asked, body).await {
            Ok((ack, began)) => {
                if head.kind != PacketKind::Ping {
                    to.route.note(None);
                }
                return Reply {
                    ack: Some(ack),
                    hang_up: false,
                    began,
                    failed: None,
                };
            }
            Err(failed) => failed,
        };
        if failed.trouble.is_ours() {
            to.route.note(Some(&failed.trouble.to_string()));
        }
        let next = match (failed.next, head.kind, &*asked, &head.sent) {
            // Refused before the upload room saw it: that room is asked now, since every answer to a fragment tells the true
            // next offset where there is one (protocol digest, part 0).
            (None, PacketKind::Fragment, Ok(asked), Some(sent))
                if to.route.is_open() && !failed.trouble.was_uploads() =>
            {
                self.uploads.next_offset(&to.route.place, asked, sent.id).await
            }
            (next, ..) => next,
        };
        let rescue = rescue(&failed.trouble);
        Reply {
            ack: refusal(&rescue, head.sent.as_ref(), next),
            hang_up: rescue.hang_up,
            began: None,
            failed: Some((failed.trouble, rescue)),
        }
    }

    async fn carry_out(
        &self,
        head: &PacketHead,
        route: &Route,
        asked: &LazyLock<Result<Asked, KeyRefused>, impl FnOnce() -> Result<Asked, KeyRefused>>,
        body: &mut impl Body,
    ) -> Result<(Ack, Option<SessionId>), Failed> {
        if route.upload != Taking::Yes {
            return Err(Trouble::Disabled.into());
        }
        let packet = head.packet.as_ref().map_err(Clone::clone)?;
        if *packet == Packet::Ping {
            // It says that we are here; it never asks the store (MC-BUP 2.2.4).
            return Ok((Ack::pong(), None));
        }
        let asked = LazyLock::force(asked).as_ref().map_err(|refused| *refused)?;
        if !route.is_open() {
            return Err(Trouble::NotReady.into());
        }
        let place = &route.place;
        // Large futures, all of them: what only pings, waits or downloads shall not carry room for them around.
        let ack = match packet {
            Packet::Ping => Ack::pong(),
            Packet::CreateSession => {
                let id = Box::pin(self.uploads.create(place, asked.clone())).await?;
                return Ok((Ack::created(&id, route.host_id.as_ref()), Some(id)));
            }
            Packet::Fragment(fragment) => Box::pin(self.take(route, asked, fragment, body)).await?,
            Packet::CloseSession(sent) => {
                Box::pin(self.uploads.close(place, asked, sent.id)).await?;
                Ack::closed(sent)
            }
            Packet::CancelSession(sent) => {
                Box::pin(self.uploads.cancel(place, asked, sent.id)).await?;
                Ack::cancelled(sent)
            }
        };
        Ok((ack, None))
    }

    async fn take(
        &self,
        route: &Route,
        asked: &Asked,
        fragment: &Fragment,
        body: &mut impl Body,
    ) -> Result<Ack, Failed> {
        let Fragment { session, range } = fragment;
        let Fragmented { next, verdict, reply } = self
            .uploads
            .fragment(&route.place, asked, session.id, *range, body)
            .await;
        match (verdict, next) {
            (Ok(()), Some(next)) => match reply {
                None => Ok(Ack::fragment(session, next)),
                Some(at) => Ok(Ack::fragment(session, next).replied_at(&reply_url(route, at)?)),
            },
            (Ok(()), None) => Ok(Ack::fragment(session, range.end())),
            (Err(refused), next) => Err(Failed {
                trouble: refused.into(),
                next,
            }),
        }
    }
}

/// The absolute URL that a client is sent to for its reply.
fn reply_url(route: &Route, at: ReplyAt) -> Result<String, Refused> {
    match at {
        ReplyAt::Elsewhere(url) => Ok(url),
        ReplyAt::Here { session, url } => {
            let application = route.place.application.as_ref();
            let reached = Reached {
                created: &url,
                host_id: route.host_id.as_ref().map(|id| id.host.as_str()),
                origin: application.and_then(|application| application.reply_origin()),
            };
            reply::url(&reached, &route.path, session).ok_or(Refused::InvalidArgument(
                "the URL of the reply is longer than a client takes",
            ))
        }
    }
}

impl Desk {
    /// Has a packet carried out that came over a connection.
    pub(super) async fn receive(&self, session: &mut Session, visit: &mut Visit, to: Destination<'_>) -> Reply {
        let head = PacketHead::read(&session.req_header().headers);
        visit.session = head.sent.as_ref().map(|sent| sent.id.to_string());
        visit.range = head.range();
        let length = visit.range.map_or(0, |range| range.len());
        let mut body = FragmentBody::new(session, length, &self.limits, &self.budget);
        let reply = self.clerk.answer(&head, &to, &mut body).await;
        if let Some(id) = reply.began {
            visit.session = Some(id.to_string());
        }
        if let Some((trouble, rescue)) = &reply.failed {
            visit.fail(trouble, rescue);
        }
        reply
    }
}

/// The Ack of a failure; `None` when nobody is there to read one.
pub(super) fn refusal(rescue: &Rescue, sent: Option<&SentSessionId>, next: Option<u64>) -> Option<Ack> {
    let ack = Ack::refused(rescue.status?, rescue.error).about(sent).holding(next);
    Some(match rescue.retry_after {
        Some(after) => ack.retry_after(after),
        None => ack,
    })
}
