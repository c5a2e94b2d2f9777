//! One request, one answer: connections that are kept between requests, bodies that are read from the source as they are sent,
//! answers that are read even when they come before the body is through.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::authority::Authority;
use super::source::{Opened, SourceError};
use super::stream::Stream;
use super::tls::{Trust, is_untrusted};
use super::wire::{Answer, read_answer, read_body, take_head};

/// Bytes that are read from the source at once. Large enough that the calls do not count.
const CHUNK: usize = 256 * 1024;

/// Bytes of an answer's body that are read and thrown away; an Ack has none.
const MOST_BODY: usize = 256 * 1024;

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection: later it may work.
    Transport(String),
    /// The server's certificate is not to be believed.
    Untrusted(String),
    /// The bytes to send could not be read.
    Source(SourceError),
}

/// The bytes `from..to` of a source.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) source: &'a mut Opened,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Whom to talk to, and how patiently.
#[derive(Debug)]
pub(super) struct Transport {
    /// With TLS, whom to believe.
    pub(super) trust: Option<Trust>,
    /// How long connecting, or the sending of a piece, may take.
    pub(super) send_timeout: Duration,
    /// How long the answer may take after the last byte was sent.
    pub(super) response_timeout: Duration,
    /// A connection that can be used again.
    pub(super) idle: Option<(Authority, Line)>,
}

impl Transport {
    /// Sends a head and its body to `to` and returns the answer. `sent` is told the offset up to which the body was handed to the
    /// network.
    pub(super) async fn exchange(
        &mut self,
        to: &Authority,
        head: &str,
        body: &mut Body<'_>,
        sent: &mut impl FnMut(u64),
    ) -> Result<Answer, Broken> {
        if let Some((peer, mut line)) = self.idle.take()
            && peer == *to
            && line.is_quiet().await
        {
            match self.round_trip(&mut line, head, body, sent).await {
                Ok((answer, keep)) => return Ok(self.keep(to, line, keep, answer)),
                Err(Ended::Source(error)) => return Err(Broken::Source(error)),
                // A server may close a connection just when the next request is under way: no trouble, another connection. With a
                // body it counts as trouble, because what became of the body is worth a Ping.
                Err(Ended::Connection(error))
                    if body.from == body.to && line.buffer.is_empty() && error.kind() != io::ErrorKind::TimedOut => {}
                Err(Ended::Connection(error)) => return Err(broken(to, &error)),
            }
        }
        let port = to.port().unwrap_or(if self.trust.is_some() { 443 } else { 80 });
        let connecting = timeout(self.send_timeout, Stream::connect(to.host(), port, self.trust.as_ref()));
        let stream = connecting
            .await
            .unwrap_or_else(|_| Err(timed_out("connecting")))
            .map_err(|error| broken(to, &error))?;
        let mut line = Line {
            stream,
            buffer: BytesMut::new(),
        };
        match self.round_trip(&mut line, head, body, sent).await {
            Ok((answer, keep)) => Ok(self.keep(to, line, keep, answer)),
            Err(Ended::Source(error)) => Err(Broken::Source(error)),
            Err(Ended::Connection(error)) => Err(broken(to, &error)),
        }
    }

    fn keep(&mut self, to: &Authority, line: Line, keep: bool, answer: Answer) -> Answer {
        if keep && answer.keeps_connection() && line.buffer.is_empty() {
            self.idle = Some((to.clone(), line));
        }
        answer
    }

    /// The answer, and whether the request was sent whole.
    async fn round_trip(
        &self,
        line: &mut Line,
        head: &str,
        body: &mut Body<'_>,
        sent: &mut impl FnMut(u64),
    ) -> Result<(Answer, bool), Ended> {
        let mut out = Vec::with_capacity(CHUNK + head.len());
        out.extend_from_slice(head.as_bytes());
        let mut position = body.from;
        loop {
            if position < body.to {
                let most = usize::try_from(body.to - position).unwrap_or(CHUNK).min(CHUNK);
                position += body
                    .source
                    .read(position, most, &mut out)
                    .await
                    .map_err(Ended::Source)? as u64;
            }
            if let Some(answer) = self.write(line, &out).await? {
                return Ok((answer, false));
            }
            out.clear();
            if body.to > body.from {
                sent(position);
            }
            if position == body.to {
                break;
            }
        }
        let answering = timeout(self.response_timeout, line.answer());
        Ok((answering.await.unwrap_or_else(|_| Err(timed_out("the answer")))?, true))
    }

    /// Writes `bytes`, unless an answer comes first.
    async fn write(&self, line: &mut Line, bytes: &[u8]) -> Result<Option<Answer>, Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let writing = timeout(self.send_timeout, line.write_some(rest));
            match writing.await.unwrap_or_else(|_| Err(timed_out("sending"))) {
                Ok(Some(written)) => rest = &rest[written..],
                Ok(None) => {
                    if let Some(answer) = self.early_answer(line).await? {
                        return Ok(Some(answer));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error.into()),
                // A server that refuses may answer and then reset: what it said before is still in the socket.
                Err(error) => match timeout(self.response_timeout, line.answer()).await {
                    Ok(Ok(answer)) => return Ok(Some(answer)),
                    _ => return Err(error.into()),
                },
            }
        }
        timeout(self.send_timeout, line.stream.flush())
            .await
            .unwrap_or_else(|_| Err(timed_out("sending")))?;
        Ok(None)
    }

    /// What came while the body was being sent, when it is a whole head of a final answer.
    async fn early_answer(&self, line: &mut Line) -> Result<Option<Answer>, Ended> {
        while let Some(mut answer) = take_head(&mut line.buffer)? {
            if !answer.interim() {
                let reading = timeout(
                    self.response_timeout,
                    read_body(&mut line.stream, &mut line.buffer, &answer, false, MOST_BODY),
                );
                answer.body = reading.await.unwrap_or_else(|_| Err(timed_out("the answer")))?;
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

/// How a round trip ends without an answer.
enum Ended {
    Connection(io::Error),
    Source(SourceError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// A connection, and what was received but not yet understood.
#[derive(Debug)]
pub(super) struct Line {
    stream: Stream,
    buffer: BytesMut,
}

impl Line {
    /// Whether nothing has come since the last answer: no end of the stream, no word of a server that gives the connection up.
    async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| {
            let mut space = [0; 1];
            Poll::Ready(
                Pin::new(&mut self.stream)
                    .poll_read(cx, &mut ReadBuf::new(&mut space))
                    .is_pending(),
            )
        })
        .await
    }

    /// Writes some of `bytes`; `None` when something came in instead.
    async fn write_some(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        poll_fn(|cx| {
            let mut space = [0; 4096];
            let mut heard = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut heard) {
                Poll::Ready(Ok(())) if heard.filled().is_empty() => {
                    let error = "the server closed the connection before it had the whole request";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
                }
                Poll::Ready(Ok(())) => {
                    self.buffer.extend_from_slice(heard.filled());
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => Poll::Ready(written.map(Some)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let answer = read_answer(&mut self.stream, &mut self.buffer, false, MOST_BODY).await?;
            if !answer.interim() {
                return Ok(answer);
            }
        }
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"))
}

fn broken(to: &Authority, error: &io::Error) -> Broken {
    match is_untrusted(error) {
        true => Broken::Untrusted(error.to_string()),
        false => Broken::Transport(format!("{to}: {error}")),
    }
}
