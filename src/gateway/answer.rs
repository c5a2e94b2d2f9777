//! Answers on the wire, and what becomes of the connection and of a body that nobody read.

use bytes::{BufMut, BytesMut};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::body;
use super::connection::Connection;
use super::limits::Limits;
use super::rescue::Rescue;
use crate::bits::Ack;

/// What we call ourselves: without a version, which would only help those who look for old ones.
pub(super) const SERVER_NAME: HeaderValue = HeaderValue::from_static("bits-gateway");

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    fields: Vec<(&'static str, HeaderValue)>,
    hang_up: bool,
}

impl Answer {
    /// With this status and these header fields.
    pub(super) const fn new(status: u16, fields: Vec<(&'static str, HeaderValue)>) -> Self {
        Self {
            status,
            fields,
            hang_up: false,
        }
    }

    /// An Ack.
    pub(super) fn ack(ack: &Ack) -> Self {
        Self::new(ack.status(), ack.headers().collect())
    }

    /// The answer to a request that is no packet. `None` when nobody is there to read it.
    pub(super) fn plain(rescue: &Rescue) -> Option<Self> {
        let mut fields = vec![("Content-Length", HeaderValue::from_static("0"))];
        if let Some(after) = rescue.retry_after {
            fields.push(("Retry-After", HeaderValue::from(after.as_secs().max(1))));
        }
        Some(Self::new(rescue.status?, fields))
    }

    /// With `Allow` (RFC 9110 10.2.1).
    pub(super) fn allowing(mut self, methods: &str) -> Self {
        self.fields
            .extend(HeaderValue::from_str(methods).ok().map(|methods| ("Allow", methods)));
        self
    }

    /// Ends the connection after it.
    pub(super) const fn hanging_up(mut self, hang_up: bool) -> Self {
        self.hang_up |= hang_up;
        self
    }

    /// The whole answer as it goes over the wire when it is the last one.
    pub(super) fn write_to(&self, wire: &mut BytesMut) {
        let reason = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason());
        wire.put_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or_default()).as_bytes());
        let own = [
            ("Server", SERVER_NAME),
            ("Connection", HeaderValue::from_static("close")),
        ];
        for (name, value) in own.iter().chain(&self.fields) {
            wire.put_slice(name.as_bytes());
            wire.put_slice(b": ");
            wire.put_slice(value.as_bytes());
            wire.put_slice(b"\r\n");
        }
        wire.put_slice(b"\r\n");
    }

    /// The status.
    pub(super) const fn status(&self) -> u16 {
        self.status
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rest {
    /// Nothing is in the way of the next request, if there may be one.
    Nothing,
    /// An unread body is: it is short enough to be read and thrown away.
    Drain,
    /// An unread body is, and it is not: the connection ends.
    Close,
}

/// Sends an answer that has no body and makes the connection ready for the next request, or for its end.
pub(super) async fn send(session: &mut Session, answer: Answer, limits: &Limits) {
    if let Some(rest) = begin(session, answer, limits).await {
        end(session, rest, limits).await;
    }
}

/// Sends the head of an answer; `None` when the client does not take it.
pub(super) async fn begin(session: &mut Session, answer: Answer, limits: &Limits) -> Option<Rest> {
    let rest = if answer.hang_up {
        Rest::Close
    } else {
        rest(session, limits)
    };
    prepare(session, rest);
    let sent = match head(&answer) {
        Ok(head) => session.write_response_header(Box::new(head), false).await,
        Err(error) => Err(error),
    };
    if sent.is_err() {
        session.set_keepalive(None);
        return None;
    }
    Some(rest)
}

/// Makes the connection ready for what comes after an answer that went out in full.
pub(super) async fn end(session: &mut Session, rest: Rest, limits: &Limits) {
    if rest == Rest::Drain && !body::discard(session, limits.drain_bytes, limits.drain_timeout).await {
        prepare(session, Rest::Close);
    }
}

fn rest(session: &mut Session, limits: &Limits) -> Rest {
    if body::is_done(session) {
        return Rest::Nothing;
    }
    // A client that was never told to go on may send its body or leave it: what comes next could be either.
    if body::expects_continue(session) || session.get_keepalive().is_none() {
        return Rest::Close;
    }
    match body::unread(session) {
        Some(bytes) if bytes > limits.drain_bytes => Rest::Close,
        Some(_) | None => Rest::Drain,
    }
}

fn prepare(session: &mut Session, rest: Rest) {
    match rest {
        Rest::Nothing => {}
        Rest::Drain => session
            .as_downstream_mut()
            .set_close_on_response_before_downstream_finish(false),
        Rest::Close => {
            session.set_keepalive(None);
            if let Some(connection) = session.stream().and_then(|stream| Connection::below(&**stream)) {
                connection.pulse().leave_unread();
            }
        }
    }
}

fn head(answer: &Answer) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(answer.status, Some(answer.fields.len() + 3))?;
    head.insert_header("Server", SERVER_NAME)?;
    for (name, value) in &answer.fields {
        head.append_header(*name, value.clone())?;
    }
    Ok(head)
}
