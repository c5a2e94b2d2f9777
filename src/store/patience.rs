//! How long a request may take, and how often an unclear one is made again.

use std::time::Duration;

use tokio::time::Instant;

use super::Error;
use crate::clock::Deadline;

/// Longest wait for a request that moves few bytes: records, lists, looks. Those that move parts have the time-outs of the connection.
const SHORT_REQUEST: Duration = Duration::from_secs(30);

/// A conditional write is made at most this often, and not again later than [`ENOUGH`] after the first time.
const ATTEMPTS: u32 = 5;
const ENOUGH: Duration = Duration::from_secs(30);

/// Waits for a request that moves few bytes.
pub(super) async fn briefly<T, E: Into<Error>>(request: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
    match tokio::time::timeout(SHORT_REQUEST, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Error::Unavailable(format!(
            "no answer within {} seconds",
            SHORT_REQUEST.as_secs()
        ))),
    }
}

/// Counts the attempts of one conditional write.
pub(super) struct Patience {
    since: Instant,
    attempts: u32,
    by: Deadline,
}

impl Patience {
    /// The first attempt is about to be made.
    pub(super) fn new() -> Self {
        Self::until(Deadline::NEVER)
    }

    /// The same, and no attempt is to be made from `by` on.
    pub(super) fn until(by: Deadline) -> Self {
        Self {
            since: Instant::now(),
            attempts: 1,
            by,
        }
    }

    /// Waits a little and allows one more attempt; false when it was tried often and long enough.
    #[expect(
        clippy::disallowed_methods,
        reason = "back-off between attempts at the same conditional write"
    )]
    pub(super) async fn again(&mut self) -> bool {
        if self.attempts >= ATTEMPTS || self.since.elapsed() > ENOUGH || self.by.has_passed() {
            return false;
        }
        // S3 answers 409 while another conditional write to the key is under way, which takes it some 100 ms.
        tokio::time::sleep(Duration::from_millis(50) * 2u32.pow(self.attempts)).await;
        self.attempts += 1;
        true
    }
}

/// What to do after a conditional write that was not answered by success.
pub(super) enum Unclear {
    /// It may have been carried out, by this attempt or by an earlier one of the client's own repeats: look.
    Look(Error),
    /// It was not, and trying again changes nothing.
    Failed(Error),
}

impl From<Error> for Unclear {
    fn from(error: Error) -> Self {
        match error {
            // `object_store` repeats requests by itself, so even a refusal may be the echo of one's own success;
            // and every 409 arrives as "already exists", whatever it means.
            Error::Conflict | Error::NotFound | Error::Unavailable(_) => Self::Look(error),
            Error::UnknownUpload
            | Error::Denied(_)
            | Error::Full(_)
            | Error::BadName(_)
            | Error::Corrupt(_)
            | Error::Newer(_) => Self::Failed(error),
        }
    }
}

/// What is told when patience ends.
pub(super) fn worn_out(last: Error) -> Error {
    match last {
        Error::Unavailable(why) => Error::Unavailable(why),
        other => Error::Unavailable(format!("a conditional write was refused again and again ({other})")),
    }
}
