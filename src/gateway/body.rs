//! The body of a fragment, as the upload room reads it.

use bytes::Bytes;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::limits::Limits;
use super::pace::Pace;
use crate::upload::{Body, BodyBroken};

/// A body on its way in: exactly as long as its range, and at a pace that is worth a connection.
pub(super) struct FragmentBody<'s> {
    session: &'s mut Session,
    /// Bytes that must still come.
    missing: u64,
    pace: Pace,
    /// Why it broke: it stays broken.
    broken: Option<BodyBroken>,
}

impl<'s> FragmentBody<'s> {
    /// The body of `session`, which must bring `length` bytes.
    pub(super) fn new(session: &'s mut Session, length: u64, limits: &Limits) -> Self {
        let pace = Pace::new(limits.body_timeout, limits.body_min_rate);
        Self {
            session,
            missing: length,
            pace,
            broken: None,
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, BodyBroken> {
        if expects_continue(self.session) {
            ask_for_body(self.session).await.map_err(|error| reason(&error))?;
        }
        loop {
            let began = Instant::now();
            let read = self
                .session
                .as_downstream_mut()
                .read_request_body()
                .await
                .map_err(|error| reason(&error))?;
            let Some(chunk) = read else {
                // Only a chunked body can end early: other lengths were compared with the range before.
                return if self.missing == 0 {
                    Ok(None)
                } else {
                    Err(BodyBroken::Malformed)
                };
            };
            let length = chunk.len() as u64;
            self.missing = self.missing.checked_sub(length).ok_or(BodyBroken::Malformed)?;
            if !self.pace.keeps_up(length, began.elapsed()) {
                return Err(BodyBroken::TimedOut);
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

impl Body for FragmentBody<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyBroken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let read = self.read().await;
        if let Err(broken) = &read {
            self.broken = Some(*broken);
        }
        read
    }
}

/// Whether the client waits for a word before it sends its body (RFC 9110 10.1.1), and has not had it.
pub(super) fn expects_continue(session: &Session) -> bool {
    let head = session.req_header();
    head.version == http::Version::HTTP_11
        && session.response_written().is_none()
        && session.body_bytes_read() == 0
        && head
            .headers
            .get(http::header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Tells the client that its body is wanted.
async fn ask_for_body(session: &mut Session) -> pingora::Result<()> {
    // The engine takes any head that is written before the body is read, this one too, for a reason to close the connection.
    let keep_alive = session.get_keepalive();
    session.as_downstream_mut().write_continue_response().await?;
    session.set_keepalive(keep_alive);
    Ok(())
}

fn reason(error: &Error) -> BodyBroken {
    match error.etype() {
        ErrorType::ReadTimedout => BodyBroken::TimedOut,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout => {
            BodyBroken::Disconnected
        }
        _ => BodyBroken::Malformed,
    }
}
