//! One request, from its head to its line in the log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use tokio::time::Instant;
use tracing::Level;

use super::Route;
use super::body::bytes_read;
use super::forwarded::Origin;
use super::listener::InFlightGuard;
use super::rescue::{Rescue, Trouble};
use crate::bits::{ContentRange, ErrorContext, Hresult, PacketKind};
use crate::metrics::{DownloadOutcome, InProgress, Metrics, PacketOutcome};
use crate::telemetry::{ACCESS, Packets};

/// Longest text of the client's choice that the log repeats, in bytes.
const MAX_TEXT: usize = 512;

/// What a request asks for, as the log and the metrics name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A packet.
    Packet(PacketKind),
    /// Anything else, by its method.
    Method(String),
}

impl Kind {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Packet(kind) => kind.name(),
            Self::Method(method) => method,
        }
    }

    fn shapes_session(&self) -> bool {
        matches!(
            self,
            Self::Packet(PacketKind::CreateSession | PacketKind::CloseSession | PacketKind::CancelSession)
        )
    }
}

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Visit {
    started: Instant,
    /// Counts it as being answered.
    pub(super) in_flight: Option<InFlightGuard>,
    /// Counts it as a packet in flight, if it is one.
    pub(super) packet: Option<InProgress>,
    /// Who sent it.
    pub(super) peer: Option<SocketAddr>,
    /// On whose behalf.
    pub(super) origin: Option<Origin>,
    /// Servers of the upstream that did not take it.
    pub(super) tried: Vec<SocketAddr>,
    pub(super) kind: Kind,
    /// The path as sent, without the query: that may hold secrets.
    pub(super) path: String,
    pub(super) route: Option<Arc<Route>>,
    /// The session as the log names it.
    pub(super) session: Option<String>,
    pub(super) range: Option<ContentRange>,
    pub(super) status: Option<u16>,
    pub(super) error: Option<(Hresult, ErrorContext)>,
    /// What went wrong, in one word and in a sentence.
    reason: Option<&'static str>,
    pub(super) why: Option<String>,
    level: Level,
    /// Whether it asks for a file of ours.
    pub(super) is_download: bool,
    /// Whether its answer could not be sent in full.
    pub(super) is_broken: bool,
    /// How long the answer took; the time that a drained body takes afterwards is not the answer's.
    pub(super) took: Option<Duration>,
}

impl Visit {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            in_flight: None,
            packet: None,
            peer: None,
            origin: None,
            tried: Vec::new(),
            kind: Kind::Method(String::new()),
            path: String::new(),
            route: None,
            session: None,
            range: None,
            status: None,
            error: None,
            reason: None,
            why: None,
            level: Level::INFO,
            is_download: false,
            is_broken: false,
            took: None,
        }
    }

    /// Notes what went wrong, and what was done about it.
    pub(super) fn fail(&mut self, trouble: &Trouble, rescue: &Rescue) {
        self.error = rescue.error;
        self.level = rescue.level;
        self.reason = Some(rescue.label);
        self.why = Some(trouble.to_string());
    }

    /// Notes that the answer is about to be sent.
    pub(super) fn answered(&mut self, status: Option<u16>) {
        self.status = status;
        self.took = Some(self.started.elapsed());
    }

    /// Time from the head to the answer.
    pub(super) fn duration(&self) -> Duration {
        self.took.unwrap_or_else(|| self.started.elapsed())
    }

    fn failed(&self) -> bool {
        self.is_broken || self.status.is_none_or(|status| status >= 400)
    }

    /// Counts the request, now that it is over.
    pub(super) fn count(&self, session: &Session, metrics: &Metrics) {
        if self.is_download {
            let whole = self.status.filter(|_| !self.is_broken);
            metrics.download_ended(whole.map_or(DownloadOutcome::Aborted, DownloadOutcome::of));
            if let Some(route) = &self.route {
                metrics.sent(&route.place.route, session.body_bytes_sent() as u64);
            }
        }
        let Kind::Packet(kind) = self.kind else { return };
        metrics.packet_ended(
            kind,
            self.status.map_or(PacketOutcome::Aborted, PacketOutcome::of),
            self.duration(),
        );
        if let (Some((code, context)), Some(_)) = (self.error, self.status) {
            metrics.error_answered(code, context);
        }
        if let Some(range) = self.range {
            metrics.fragment_announced(range.len());
        }
        if let (PacketKind::Fragment, Some(route)) = (kind, &self.route) {
            metrics.received(&route.place.route, bytes_read(session));
        }
    }

    /// Writes the access line, if `log` wants it.
    pub(super) fn log(&self, session: &Session, log: Packets) {
        let wanted = match log {
            Packets::All => true,
            Packets::Errors => self.failed(),
            Packets::Sessions => self.failed() || self.kind.shapes_session(),
        };
        if wanted {
            self.write(session);
        }
    }

    fn write(&self, session: &Session) {
        let client = self.origin.map(|origin| shown(origin.client));
        let agent = session.get_header(http::header::USER_AGENT);
        // A macro needs the level as a constant.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: ACCESS,
                    $level,
                    kind = %escaped(self.kind.name().as_bytes()),
                    route = self.route.as_ref().map(|route| route.place.route.as_str()),
                    path = %escaped(self.path.as_bytes()),
                    status = self.status,
                    hresult = self.error.map(|(code, _)| tracing::field::display(code)),
                    session = self.session.as_deref(),
                    range = self.range.map(|range| tracing::field::display(Shown(range))),
                    received = bytes_read(session),
                    sent = session.body_bytes_sent() as u64,
                    duration_ms = u64::try_from(self.duration().as_millis()).unwrap_or(u64::MAX),
                    client = client.as_deref(),
                    user_agent = agent.map(|agent| tracing::field::display(escaped(agent.as_bytes()))),
                    reason = self.reason,
                    why = self.why.as_deref(),
                    "request"
                )
            };
        }
        match self.level {
            Level::ERROR => line!(Level::ERROR),
            Level::WARN => line!(Level::WARN),
            _ => line!(Level::INFO),
        }
    }
}

/// A range as the log shows it.
struct Shown(ContentRange);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}/{}", self.0.first(), self.0.end(), self.0.total())
    }
}

/// What `Display` writes. It puts the number after every dot through all of the machinery of formats, and every access line has one.
fn shown(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        return address.to_string();
    };
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    for (octet, end) in address.ip().octets().into_iter().zip(['.', '.', '.', ':']) {
        text.push_str(itoa::Buffer::new().format(octet));
        text.push(end);
    }
    text.push_str(itoa::Buffer::new().format(address.port()));
    text
}

/// Text of the client's choice, as the log repeats it.
fn escaped(text: &[u8]) -> impl fmt::Display {
    text.get(..MAX_TEXT).unwrap_or(text).escape_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_everywhere_else() {
        for address in [
            "127.0.0.1:80",
            "255.255.255.255:65535",
            "0.0.0.0:0",
            "[2001:db8::1]:443",
        ] {
            assert_eq!(shown(address.parse().unwrap()), address);
        }
    }
}
