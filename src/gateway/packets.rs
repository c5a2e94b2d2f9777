//! Packets: from the head of a `BITS_POST` to its Ack.

use std::sync::Arc;

use pingora::proxy::Session;

use super::Route;
use super::body::FragmentBody;
use super::desk::Desk;
use super::rescue::{Rescue, Trouble, rescue};
use super::visit::Visit;
use crate::bits::{Ack, BodyLength, Fragment, Packet, PacketKind, SentSessionId};
use crate::session::{Principal, Target};
use crate::store::{Key, KeyRefused};
use crate::upload::{Asked, Fragmented};

/// Where a packet goes, as its URL says.
#[derive(Debug)]
pub(super) struct Destination<'a> {
    /// The route.
    pub(super) route: &'a Arc<Route>,
    /// The raw path below the route.
    pub(super) below: &'a str,
    /// The raw query.
    pub(super) query: Option<&'a str>,
    /// The absolute URL as the client sent it.
    pub(super) url: String,
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
            principal: Principal::anonymous(),
            target,
            url: self.url.clone(),
        })
    }
}

/// What is done about a packet: its Ack, and whether the connection ends with it. No Ack when nobody would read it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) ack: Option<Ack>,
    pub(super) hang_up: bool,
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

impl Desk {
    /// Carries out a packet.
    pub(super) async fn receive(&self, session: &mut Session, visit: &mut Visit, to: Destination<'_>) -> Reply {
        let headers = &session.req_header().headers;
        let kind = PacketKind::of(headers);
        let sent = names_session(kind).then(|| SentSessionId::find(headers)).flatten();
        visit.session = sent.as_ref().map(|sent| sent.id.to_string());
        let asked = to.asked();
        let failed = match self.carry_out(session, visit, to.route, &asked).await {
            Ok(ack) => {
                if kind != PacketKind::Ping {
                    to.route.note(None);
                }
                return Reply {
                    ack: Some(ack),
                    hang_up: false,
                };
            }
            Err(failed) => failed,
        };
        if failed.trouble.is_ours() {
            to.route.note(Some(&failed.trouble.to_string()));
        }
        let next = match (failed.next, kind, &asked, &sent) {
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
        visit.fail(&failed.trouble, &rescue);
        Reply {
            ack: refusal(&rescue, sent.as_ref(), next),
            hang_up: rescue.hang_up,
        }
    }

    async fn carry_out(
        &self,
        session: &mut Session,
        visit: &mut Visit,
        route: &Arc<Route>,
        asked: &Result<Asked, KeyRefused>,
    ) -> Result<Ack, Failed> {
        if !route.upload {
            return Err(Trouble::Disabled.into());
        }
        let headers = &session.req_header().headers;
        let packet = Packet::parse(headers, BodyLength::of(headers)?)?;
        if packet == Packet::Ping {
            // It says that we are here; it never asks the store (MC-BUP 2.2.4).
            return Ok(Ack::pong());
        }
        let asked = asked.as_ref().map_err(|refused| *refused)?;
        if !route.is_open() {
            return Err(Trouble::NotReady.into());
        }
        let place = &route.place;
        match packet {
            Packet::Ping => Ok(Ack::pong()),
            Packet::CreateSession => {
                let id = self.uploads.create(place, asked.clone()).await?;
                visit.session = Some(id.to_string());
                Ok(Ack::created(&id, route.host_id.as_ref()))
            }
            Packet::Fragment(fragment) => {
                visit.range = Some(fragment.range);
                self.take(session, route, asked, &fragment).await
            }
            Packet::CloseSession(sent) => {
                self.uploads.close(place, asked, sent.id).await?;
                Ok(Ack::closed(&sent))
            }
            Packet::CancelSession(sent) => {
                self.uploads.cancel(place, asked, sent.id).await?;
                Ok(Ack::cancelled(&sent))
            }
        }
    }

    async fn take(
        &self,
        session: &mut Session,
        route: &Arc<Route>,
        asked: &Asked,
        fragment: &Fragment,
    ) -> Result<Ack, Failed> {
        let mut body = FragmentBody::new(session, fragment.range.len(), &self.limits);
        let id = fragment.session.id;
        let Fragmented { next, verdict } = self
            .uploads
            .fragment(&route.place, asked, id, fragment.range, &mut body)
            .await;
        match (verdict, next) {
            (Ok(()), next) => Ok(Ack::fragment(&fragment.session, next.unwrap_or(fragment.range.end()))),
            (Err(refused), next) => Err(Failed {
                trouble: refused.into(),
                next,
            }),
        }
    }
}

/// Whether packets of this kind speak of a session, so that their Acks name it.
const fn names_session(kind: PacketKind) -> bool {
    matches!(
        kind,
        PacketKind::Fragment | PacketKind::CloseSession | PacketKind::CancelSession
    )
}

/// The Ack of a failure; `None` when nobody is there to read one.
pub(super) fn refusal(rescue: &Rescue, sent: Option<&SentSessionId>, next: Option<u64>) -> Option<Ack> {
    let ack = Ack::refused(rescue.status?, rescue.error).about(sent).holding(next);
    Some(match rescue.retry_after {
        Some(after) => ack.retry_after(after),
        None => ack,
    })
}
