//! What every failure of every room means to a client: the one place that turns an error into an answer.
//!
//! The table is the protocol digest's, part 0. A Windows client treats 4xx as final, all but 408 and 409, and 5xx as passing,
//! all but 501 and 505: so our own trouble is never a 4xx.

use std::time::Duration;

use tracing::Level;

use super::framing::Doubt;
use crate::bits::{ErrorContext, Hresult, Malformed};
use crate::download::Failure;
use crate::store::KeyRefused;
use crate::upload::{BodyBroken, Refused};

/// When a client shall come back whose route is not ready yet.
const NOT_READY_RETRY: Duration = Duration::from_secs(5);

/// When a client shall come back for whom there is no connection left.
const CROWDED_RETRY: Duration = Duration::from_secs(10);

/// The error of HTTP status 408 as BITS counts them: 0x80190000 + status.
const REQUEST_TIMEOUT: Hresult = Hresult(0x8019_0198);

/// Why a request did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Its framing is in doubt.
    #[error(transparent)]
    Doubt(#[from] Doubt),
    /// There are as many connections as may be.
    #[error("too many connections")]
    TooManyConnections,
    /// No route answers there.
    #[error("no such route")]
    NoRoute,
    /// The route does not do this. `Allow` names what it does.
    #[error("the route does not take this method")]
    NotAllowed,
    /// Uploads are switched off on the route.
    #[error("the route takes no uploads")]
    Disabled,
    /// The store of the route has not passed its probe yet.
    #[error("the store has not passed its probe yet")]
    NotReady,
    /// The packet breaks a rule of MC-BUP 2.2.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The path is not the key of any file.
    #[error(transparent)]
    Key(#[from] KeyRefused),
    /// The upload room refused it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The download room has no answer.
    #[error(transparent)]
    Download(#[from] Failure),
    /// The upstream did not answer.
    #[error("{why}")]
    Upstream {
        /// Whether it was out of time.
        slow: bool,
        /// What went wrong, for the log.
        why: String,
    },
}

impl Trouble {
    /// Whether the store, or this process, is in trouble rather than the client.
    pub(super) const fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Refused(Refused::Busy { .. } | Refused::Full(_) | Refused::Lost(_))
        )
    }

    /// Whether the upload room had its say: it knows how far the session is.
    pub(super) const fn was_uploads(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What is done about a [`Trouble`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rescue {
    /// The status of the answer; `None`: nobody is there to read one.
    pub(super) status: Option<u16>,
    /// What the error headers of an Ack say.
    pub(super) error: Option<(Hresult, ErrorContext)>,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
    /// Whether the connection cannot be used any further.
    pub(super) hang_up: bool,
    /// How loud the log is.
    pub(super) level: Level,
    /// What the log calls it, in one word of a closed set.
    pub(super) label: &'static str,
}

impl Rescue {
    /// A refusal that carries none of the three error headers.
    const fn bare(status: u16, label: &'static str) -> Self {
        Self {
            status: Some(status),
            error: None,
            retry_after: None,
            hang_up: false,
            level: Level::INFO,
            label,
        }
    }

    /// A refusal of ours with an HRESULT.
    const fn coded(status: u16, code: Hresult, label: &'static str) -> Self {
        let bare = Self::bare(status, label);
        Self {
            error: Some((code, ErrorContext::RemoteFile)),
            ..bare
        }
    }

    const fn busy(retry_after: Duration, label: &'static str) -> Self {
        Self {
            retry_after: Some(retry_after),
            level: Level::WARN,
            ..Self::bare(503, label)
        }
    }

    const fn hang_up(self) -> Self {
        Self { hang_up: true, ..self }
    }

    const fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }
}

/// What `trouble` means to the client.
pub(super) fn rescue(trouble: &Trouble) -> Rescue {
    match trouble {
        Trouble::TooManyConnections => Rescue::busy(CROWDED_RETRY, "too_many_connections").hang_up(),
        Trouble::Doubt(Doubt::HeadTooLong) => Rescue::coded(431, Hresult::INVALID_ARGUMENT, "framing").hang_up(),
        Trouble::Doubt(
            Doubt::TargetTooLong
            | Doubt::Target
            | Doubt::BareLineFeed
            | Doubt::TwoLengths
            | Doubt::LengthAndCoding
            | Doubt::Coding
            | Doubt::CodingHere
            | Doubt::NoHost,
        ) => Rescue::coded(400, Hresult::INVALID_ARGUMENT, "framing").hang_up(),
        Trouble::NoRoute => Rescue::bare(404, "no_route"),
        Trouble::NotAllowed => Rescue::bare(405, "not_allowed"),
        Trouble::Disabled => Rescue::coded(501, Hresult::ACCESS_DENIED, "disabled"),
        Trouble::NotReady => Rescue::busy(NOT_READY_RETRY, "not_ready"),
        Trouble::Malformed(malformed) => of_malformed(malformed),
        Trouble::Key(_) => Rescue::coded(400, Hresult::INVALID_ARGUMENT, "bad_path"),
        Trouble::Refused(refused) => of_refused(refused),
        Trouble::Download(Failure::NotFound) => Rescue::bare(404, "no_file"),
        Trouble::Download(Failure::Busy { retry_after, .. }) => Rescue::busy(*retry_after, "busy"),
        Trouble::Download(Failure::Internal(_)) => Rescue::bare(500, "internal").level(Level::ERROR),
        Trouble::Upstream { slow: false, .. } => Rescue::bare(502, "upstream").level(Level::WARN),
        Trouble::Upstream { slow: true, .. } => Rescue::bare(504, "upstream").level(Level::WARN),
    }
}

fn of_malformed(malformed: &Malformed) -> Rescue {
    let (status, code) = malformed.status();
    let rescue = match code {
        Some(code) => Rescue::coded(status, code, "malformed"),
        None => Rescue::bare(status, "malformed"),
    };
    if malformed.unframed() { rescue.hang_up() } else { rescue }
}

fn of_refused(refused: &Refused) -> Rescue {
    match refused {
        Refused::SessionNotFound => Rescue::coded(500, Hresult::SESSION_NOT_FOUND, "session_not_found"),
        Refused::Exists => Rescue::coded(403, Hresult::ACCESS_DENIED, "exists"),
        Refused::InvalidArgument(_) => Rescue::coded(400, Hresult::INVALID_ARGUMENT, "invalid_argument"),
        Refused::TooLarge => Rescue::coded(500, Hresult::TOO_LARGE, "too_large"),
        Refused::FragmentTooLarge => Rescue::bare(413, "fragment_too_large"),
        Refused::OutOfStep => Rescue::bare(416, "out_of_step"),
        Refused::Lost(_) => Rescue::coded(500, Hresult::SESSION_NOT_FOUND, "lost").level(Level::WARN),
        Refused::Busy { retry_after, .. } => Rescue::busy(*retry_after, "busy"),
        Refused::Full(_) => Rescue::coded(500, Hresult::DISK_FULL, "full").level(Level::ERROR),
        Refused::Body(BodyBroken::Disconnected) => Rescue {
            status: None,
            ..Rescue::bare(400, "disconnected")
        }
        .hang_up(),
        Refused::Body(BodyBroken::TimedOut) => Rescue::coded(408, REQUEST_TIMEOUT, "body_timeout").hang_up(),
        Refused::Body(BodyBroken::Malformed) => {
            Rescue::coded(400, Hresult::INVALID_ARGUMENT, "body_malformed").hang_up()
        }
    }
}
