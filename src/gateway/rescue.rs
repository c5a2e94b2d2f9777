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
        Refused::Application { status, code, .. } => Rescue {
            error: Some((*code, ErrorContext::RemoteApplication)),
            level: Level::WARN,
            ..Rescue::bare(*status, "application")
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Refused {
        Refused::Busy {
            retry_after: Duration::from_secs(30),
            why: "the store is slow".to_owned(),
        }
    }

    /// Every trouble with its status and code, as the digest's part 0 rules them.
    fn table() -> Vec<(Trouble, u16, Option<u32>)> {
        let upstream = |slow| Trouble::Upstream {
            slow,
            why: "gone".to_owned(),
        };
        let refused = |refused: Refused| Trouble::Refused(refused);
        vec![
            (Doubt::LengthAndCoding.into(), 400, Some(0x8007_0057)),
            (Doubt::HeadTooLong.into(), 431, Some(0x8007_0057)),
            (Trouble::TooManyConnections, 503, None),
            (Trouble::NoRoute, 404, None),
            (Trouble::NotAllowed, 405, None),
            (Trouble::Disabled, 501, Some(0x8007_0005)),
            (Trouble::NotReady, 503, None),
            (Malformed::LengthMissing.into(), 411, Some(0x8007_0057)),
            (Malformed::RangeMissing.into(), 400, Some(0x8007_0057)),
            (Malformed::SessionId.into(), 500, Some(0x8020_001F)),
            (KeyRefused::Directory.into(), 400, Some(0x8007_0057)),
            (refused(Refused::SessionNotFound), 500, Some(0x8020_001F)),
            (refused(Refused::Exists), 403, Some(0x8007_0005)),
            (
                refused(Refused::InvalidArgument("another total")),
                400,
                Some(0x8007_0057),
            ),
            (refused(Refused::TooLarge), 500, Some(0x8020_0020)),
            (refused(Refused::FragmentTooLarge), 413, None),
            (refused(Refused::OutOfStep), 416, None),
            (refused(Refused::Lost("its parts are gone")), 500, Some(0x8020_001F)),
            (refused(busy()), 503, None),
            (refused(Refused::Full("quota".to_owned())), 500, Some(0x8007_0070)),
            (refused(BodyBroken::TimedOut.into()), 408, Some(0x8019_0198)),
            (refused(BodyBroken::Malformed.into()), 400, Some(0x8007_0057)),
            (Failure::NotFound.into(), 404, None),
            (Failure::Internal("denied".to_owned()).into(), 500, None),
            (upstream(false), 502, None),
            (upstream(true), 504, None),
        ]
    }

    #[test]
    fn every_trouble_has_the_status_and_the_code_of_the_rulings() {
        for (trouble, status, code) in table() {
            let rescue = rescue(&trouble);
            assert_eq!(rescue.status, Some(status), "{trouble:?}");
            assert_eq!(rescue.error.map(|(code, _)| code.0), code, "{trouble:?}");
            assert!(
                rescue
                    .error
                    .is_none_or(|(_, context)| context == ErrorContext::RemoteFile),
                "{trouble:?}"
            );
        }
    }

    #[test]
    fn trouble_of_ours_is_never_final_to_a_client() {
        for trouble in [Trouble::NotReady, Trouble::TooManyConnections, busy().into()] {
            let rescue = rescue(&trouble);
            assert_eq!(rescue.status, Some(503));
            assert!(rescue.retry_after.is_some(), "{trouble:?}");
        }
    }

    #[test]
    fn nobody_is_answered_who_is_gone() {
        let rescue = rescue(&Trouble::Refused(BodyBroken::Disconnected.into()));
        assert_eq!((rescue.status, rescue.hang_up), (None, true));
    }

    #[test]
    fn only_doubts_and_broken_bodies_cost_the_connection() {
        for (trouble, ..) in table() {
            let costs = matches!(
                trouble,
                Trouble::Doubt(_) | Trouble::TooManyConnections | Trouble::Refused(Refused::Body(_))
            );
            assert_eq!(rescue(&trouble).hang_up, costs, "{trouble:?}");
        }
        assert!(rescue(&Malformed::LengthAndCoding.into()).hang_up);
    }
}
