//! Bodies on their way in: past the engine where that is possible, through its own reader where it is not.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Tap, TappedBody};
use super::limits::Limits;
use super::pace::Pace;
use crate::budget::{Budget, Filling};
use crate::upload::{Body, BodyBroken};

/// How much is read at once of what nobody wants to keep.
const UNWANTED: usize = 16 * 1024;

/// A body on its way in: exactly as long as its range, and at a pace that is worth a connection.
pub(super) struct FragmentBody<'s> {
    session: &'s mut Session,
    tap: Option<Tap>,
    budget: Budget,
    /// What came of a piece that is not full yet.
    filling: Option<Filling>,
    /// Bytes that must still come.
    missing: u64,
    patience: Duration,
    pace: Pace,
    /// Why it broke: it stays broken.
    broken: Option<BodyBroken>,
}

impl<'s> FragmentBody<'s> {
    /// The body of `session`, which must bring `length` bytes.
    pub(super) fn new(session: &'s mut Session, length: u64, limits: &Limits, budget: &Budget) -> Self {
        Self {
            tap: tapped(session, length),
            session,
            budget: budget.clone(),
            filling: None,
            missing: length,
            patience: limits.body_timeout,
            pace: Pace::new(limits.body_timeout, limits.body_min_rate),
            broken: None,
        }
    }

    async fn read(&mut self, wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if expects_continue(self.session) {
            ask_for_body(self.session).await.map_err(|error| reason(&error))?;
        }
        match self.tap.clone() {
            Some(tap) => self.fill(&tap, wanted).await,
            None => self.read_chunk().await,
        }
    }

    /// Fills one piece of memory from the socket. What came of it stays when the future is dropped.
    async fn fill(&mut self, tap: &Tap, wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if self.missing == 0 {
            return Ok(None);
        }
        let filling = self
            .filling
            .get_or_insert_with(|| self.budget.room(wanted.min(self.missing)));
        while filling.room() > 0 && self.missing > 0 {
            let began = Instant::now();
            let room = filling.room();
            let read = timeout(self.patience, tap.read(filling.bytes(), room)).await;
            let length = read
                .map_err(|_| BodyBroken::TimedOut)?
                .map_err(|_| BodyBroken::Disconnected)? as u64;
            self.missing = self.missing.saturating_sub(length);
            if !self.pace.keeps_up(length, began.elapsed()) {
                return Err(BodyBroken::TimedOut);
            }
        }
        Ok(self.filling.take().and_then(Filling::take))
    }

    /// Takes what the engine read.
    async fn read_chunk(&mut self) -> Result<Option<Bytes>, BodyBroken> {
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
    async fn next(&mut self, wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let read = self.read(wanted).await;
        if let Err(broken) = &read {
            self.broken = Some(*broken);
        }
        read
    }

    fn so_far(&mut self) -> Option<Bytes> {
        self.filling.take().and_then(Filling::take)
    }
}

/// Opens a tap for a body of `length` bytes, if the engine has not seen any of it and its length is told by a `Content-Length`.
fn tapped(session: &mut Session, length: u64) -> Option<Tap> {
    let told = session
        .get_header(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse::<u64>()
        .ok()?;
    if told != length || length == 0 || session.get_header(header::TRANSFER_ENCODING).is_some() {
        return None;
    }
    let tap = tap(session)?;
    let head = session.as_downstream().as_http1()?.get_headers_raw_bytes().len();
    if !tap.is_ready(head) {
        return None;
    }
    // The engine looks at the length when it is first asked about the body: to it, there is none.
    session
        .req_header_mut()
        .insert_header(header::CONTENT_LENGTH, "0")
        .ok()?;
    tap.open(length);
    Some(tap)
}

/// The tap of the connection of `session`.
pub(super) fn tap(session: &Session) -> Option<Tap> {
    Some(Connection::below(&**session.stream()?)?.tap())
}

fn tapped_body(session: &Session) -> Option<TappedBody> {
    tap(session)?.body()
}

/// Bytes of its body that were read so far.
pub(super) fn bytes_read(session: &Session) -> u64 {
    tapped_body(session).map_or_else(|| session.body_bytes_read() as u64, |body| body.read)
}

/// Whether all of its body was read.
pub(super) fn is_done(session: &mut Session) -> bool {
    session.is_body_done() && tapped_body(session).is_none_or(|body| body.missing == 0)
}

/// Bytes of its body that are still to come, where its head tells.
pub(super) fn unread(session: &Session) -> Option<u64> {
    if let Some(body) = tapped_body(session) {
        return Some(body.missing);
    }
    let length: u64 = session
        .get_header(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(length.saturating_sub(session.body_bytes_read() as u64))
}

/// Reads the rest of its body, of at most `most` bytes, and throws it away. Whether it came to its end in `patience`.
pub(super) async fn discard(session: &mut Session, most: u64, patience: Duration) -> bool {
    let mut room = most;
    let reading = async {
        let mut unwanted = Vec::new();
        loop {
            match discard_some(session, &mut unwanted).await {
                Ok(0) => return true,
                Ok(bytes) => match room.checked_sub(bytes) {
                    Some(left) => room = left,
                    None => return false,
                },
                Err(_) => return false,
            }
        }
    };
    timeout(patience, reading).await.unwrap_or(false)
}

/// How many bytes came; 0 at the end.
async fn discard_some(session: &mut Session, unwanted: &mut Vec<u8>) -> Result<u64, BodyBroken> {
    if let Some(tap) = tap(session).filter(|tap| tap.body().is_some()) {
        unwanted.clear();
        unwanted.reserve(UNWANTED);
        let read = tap.read(unwanted, UNWANTED).await;
        return read.map(|bytes| bytes as u64).map_err(|_| BodyBroken::Disconnected);
    }
    loop {
        let chunk = session.as_downstream_mut().read_request_body().await;
        match chunk.map_err(|error| reason(&error))? {
            Some(chunk) if chunk.is_empty() => {}
            chunk => return Ok(chunk.map_or(0, |chunk| chunk.len() as u64)),
        }
    }
}

/// Whether the client waits for a word before it sends its body (RFC 9110 10.1.1), and has not had it.
pub(super) fn expects_continue(session: &Session) -> bool {
    let head = session.req_header();
    head.version == http::Version::HTTP_11
        && session.response_written().is_none()
        && bytes_read(session) == 0
        && head
            .headers
            .get(header::EXPECT)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;
    use http::Version;
    use pingora::protocols::http::ServerSession;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::pulse::{Crowd, Phase};
    use super::*;

    const WHOLE: u64 = 3 * 1024 * 1024 + 7;

    /// A client, and the connection that it has to us.
    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (stream, address) = accepted.expect("a client");
        let connection = Connection::new(stream, address, &Limits::default(), &Arc::new(Crowd::of(1)), ());
        (client.expect("a listener"), connection)
    }

    type Stream = Box<dyn pingora::protocols::IO>;

    /// The next request of a connection, as the desk would welcome it. `prefix`: what the engine had read of it before.
    async fn asked(stream: Stream, prefix: Option<BytesMut>) -> Session {
        let connection = Connection::below(&*stream).expect("ours");
        let pulse = connection.pulse();
        connection.tap().begin();
        let mut session = Session::new_h1(stream);
        session.set_keepalive(Some(0));
        if let (Some(prefix), ServerSession::H1(http1)) = (prefix, session.as_downstream_mut()) {
            http1.set_pipelined_prefix(prefix);
        }
        assert!(session.as_downstream_mut().read_request().await.expect("a head"));
        session.set_pipelining_enabled(true);
        pulse.enter(Phase::Busy);
        session
    }

    fn head(framing: &str) -> Vec<u8> {
        format!("BITS_POST /f HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n").into_bytes()
    }

    fn content(length: u64) -> Vec<u8> {
        (0..length).map(|at| (at / 251 + at) as u8).collect()
    }

    fn body<'s>(session: &'s mut Session, length: u64, budget: &Budget) -> FragmentBody<'s> {
        FragmentBody::new(session, length, &Limits::default(), budget)
    }

    async fn read_all(body: &mut FragmentBody<'_>) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = body.next(u64::MAX).await.expect("a whole body") {
            all.extend_from_slice(&piece);
        }
        all
    }

    /// Gives the connection back, as the engine does after an answer.
    async fn reused(session: Session) -> (Stream, Option<BytesMut>) {
        let downstream: ServerSession = *session.downstream_session;
        let reused = downstream.finish().await.expect("a connection");
        reused.expect("it is kept").into_parts()
    }

    #[tokio::test]
    async fn request_after_request_is_read_past_the_engine_however_they_come() {
        let (mut client, connection) = connected().await;
        let sent = content(WHOLE);
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move {
                // The second head comes in one piece with the end of the first body, and its own body with it.
                let first = [head(&format!("Content-Length: {WHOLE}")), sent].concat();
                let second = [head("Content-Length: 5"), b"tail\n".to_vec()].concat();
                let third = head("Content-Length: 0");
                client
                    .write_all(&[first, second, third].concat())
                    .await
                    .expect("a reader");
                client
            }
        });
        let budget = Budget::new(64 << 20, Duration::ZERO);
        let mut session = asked(Box::new(connection), None).await;
        let mut whole = body(&mut session, WHOLE, &budget);
        assert!(whole.tap.is_some());
        assert_eq!(read_all(&mut whole).await, sent);
        drop(whole);
        assert!(is_done(&mut session));
        assert_eq!((bytes_read(&session), unread(&session)), (WHOLE, Some(0)));

        let (stream, prefix) = reused(session).await;
        assert_eq!(prefix, None);
        let mut session = asked(stream, prefix).await;
        let mut small = body(&mut session, 5, &budget);
        assert!(small.tap.is_some());
        assert_eq!(read_all(&mut small).await, b"tail\n");

        let (stream, prefix) = reused(session).await;
        assert_eq!(prefix, None);
        let mut session = asked(stream, prefix).await;
        assert_eq!(session.req_header().version, Version::HTTP_11);
        assert!(is_done(&mut session));
        assert!(sending.await.is_ok());
    }

    #[tokio::test]
    async fn what_the_engine_has_begun_to_read_is_left_to_it() {
        let (mut client, connection) = connected().await;
        let chunked = [head("Transfer-Encoding: chunked"), b"5\r\nabcde\r\n0\r\n\r\n".to_vec()].concat();
        let next = [head("Content-Length: 3"), b"xyz".to_vec()].concat();
        client
            .write_all(&[chunked, next.clone(), next].concat())
            .await
            .expect("a reader");
        let budget = Budget::new(64 << 20, Duration::ZERO);
        let mut session = asked(Box::new(connection), None).await;
        let mut first = body(&mut session, 5, &budget);
        assert!(first.tap.is_none(), "no length is told");
        assert_eq!(read_all(&mut first).await, b"abcde");
        for _ in 0..2 {
            let (stream, prefix) = reused(session).await;
            session = asked(stream, prefix).await;
            let mut next = body(&mut session, 3, &budget);
            assert!(next.tap.is_none(), "some of it may be in the engine");
            assert_eq!(read_all(&mut next).await, b"xyz");
        }
    }

    #[tokio::test]
    async fn what_came_of_a_piece_is_there_when_its_client_falls_silent_or_goes() {
        let (mut client, connection) = connected().await;
        let head = head(&format!("Content-Length: {WHOLE}"));
        client.write_all(&[&head[..], b"abc"].concat()).await.expect("a reader");
        let budget = Budget::new(64 << 20, Duration::ZERO);
        let mut session = asked(Box::new(connection), None).await;
        let mut body = body(&mut session, WHOLE, &budget);
        let silent = timeout(Duration::ZERO, body.next(u64::MAX)).await;
        assert!(silent.is_err());
        assert_eq!(body.so_far().as_deref(), Some(&b"abc"[..]));
        assert_eq!(body.so_far(), None);
        client.write_all(b"def").await.expect("a reader");
        drop(client);
        assert_eq!(body.next(u64::MAX).await, Err(BodyBroken::Disconnected));
        assert_eq!(body.so_far().as_deref(), Some(&b"def"[..]));
        assert_eq!(
            body.next(u64::MAX).await,
            Err(BodyBroken::Disconnected),
            "it stays broken"
        );
    }

    #[tokio::test]
    async fn a_body_that_nobody_wants_is_read_to_its_end_and_no_further() {
        let (mut client, connection) = connected().await;
        let wire = [head("Content-Length: 6"), b"abcdef".to_vec(), head("Content-Length: 0")].concat();
        client.write_all(&wire).await.expect("a reader");
        let budget = Budget::new(64 << 20, Duration::ZERO);
        let mut session = asked(Box::new(connection), None).await;
        drop(body(&mut session, 6, &budget));
        assert_eq!(unread(&session), Some(6));
        assert!(!is_done(&mut session));
        assert!(discard(&mut session, 6, Duration::from_secs(60)).await);
        assert!(is_done(&mut session));
        let (stream, prefix) = reused(session).await;
        asked(stream, prefix).await;
    }
}
