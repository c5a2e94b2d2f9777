//! One connection: the socket as the HTTP engine sees it, and the watch over what the engine does not time.
//!
//! The engine bounds the time between two reads, but neither a whole head nor, on a connection that it uses again, anything
//! at all; and it writes heads without a time-out. So the socket itself notes where in a request the connection is, and
//! its pulse says when it has been there for too long.
//!
//! And the engine sees the heads of requests only, as long as nothing speaks against it: a [`Tap`] reads their bodies past it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::BufMut;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::intake::Intake;
use super::limits::Limits;
use super::pulse::{Crowd, Heard, Pulse};
use crate::clock::{Clock, SystemClock};

/// The answer to a head that does not end.
const HEAD_TOO_LONG: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nServer: bits-gateway\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The answer to a large head where many have one.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nServer: bits-gateway\r\n\
    Content-Length: 0\r\nRetry-After: 10\r\nConnection: close\r\n\r\n";

/// The socket of a connection.
pub(super) struct Connection {
    line: Arc<Mutex<Line>>,
    client: SocketAddr,
    pulse: Arc<Pulse>,
    digest: Arc<SocketDigest>,
    established: SystemTime,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: (u64, Duration),
    /// Kept until the socket is closed.
    slot: Option<Box<dyn Send + Sync>>,
}

/// The bytes of a connection, as its engine and its taps share them.
struct Line {
    /// Taken only when the connection ends.
    stream: Option<TcpStream>,
    intake: Intake,
    body: Option<TappedBody>,
}

/// How far a body is that is read past the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct TappedBody {
    /// Bytes that came.
    pub(super) read: u64,
    /// Bytes that must still come.
    pub(super) missing: u64,
}

impl Line {
    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Connection {
    /// Takes over the socket of `client`, however that is known; `slot` is dropped when it is closed.
    pub(super) fn new(
        stream: TcpStream,
        client: SocketAddr,
        limits: &Limits,
        crowd: &Arc<Crowd>,
        slot: impl Send + Sync + 'static,
    ) -> Self {
        Self {
            client,
            pulse: Arc::new(Pulse::new(Arc::clone(crowd))),
            digest: Arc::new(SocketDigest::from_raw_fd(stream.as_raw_fd())),
            established: SystemClock.now().into(),
            write_timeout: limits.write_timeout,
            stalled: None,
            linger: (limits.drain_bytes, limits.linger),
            slot: Some(Box::new(slot)),
            line: Arc::new(Mutex::new(Line {
                stream: Some(stream),
                intake: Intake::new(),
                body: None,
            })),
        }
    }

    /// Who is at the other end: the one whom a load balancer announced, if it did.
    pub(super) const fn client(&self) -> SocketAddr {
        self.client
    }

    /// What the connection is doing.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The connection below an engine's stream.
    pub(super) fn below(stream: &dyn IO) -> Option<&Self> {
        stream.as_any().downcast_ref()
    }

    /// Its bytes, past the engine.
    pub(super) fn tap(&self) -> Tap {
        Tap(Arc::clone(&self.line))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bounds how long a client may leave a write waiting: the engine has no bound on the writing of heads.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            self.pulse.speak();
            return written;
        }
        let limit = self.write_timeout;
        ready!(
            self.stalled
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)))
                .as_mut()
                .poll(cx)
        );
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no bytes",
        )))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.line().stream)
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let slot = self.slot.take();
        let Some(stream) = self.line().stream.take() else {
            return;
        };
        if !self.pulse.wants_lingering() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(linger(stream, self.linger, slot));
        }
    }
}

/// Says goodbye and reads on for a moment, so that what was answered is not lost with the reset that unread bytes cause.
pub(super) async fn linger<S: Send>(mut stream: TcpStream, (bytes, time): (u64, Duration), slot: S) {
    let _kept = slot;
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(bytes), &mut tokio::io::sink()).await
    };
    // Whatever happens to a connection that is over, there is nothing left to do for it.
    let _ = timeout(time, reading).await;
}

impl Connection {
    fn take_in(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let most = self.pulse.most_at_once().min(buffer.remaining());
        let mut line = self.line();
        let its_own = line.intake.ask(most);
        if !its_own.is_empty() {
            buffer.put_slice(&its_own);
            return Poll::Ready(Ok(its_own.len()));
        }
        let before = buffer.filled().len();
        if most == buffer.remaining() {
            ready!(line.socket()?.poll_read(cx, buffer))?;
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            ready!(line.socket()?.poll_read(cx, &mut part))?;
            let bytes = part.filled().len();
            buffer.advance(bytes);
        }
        let bytes = line.intake.sort(&buffer.filled()[before..]);
        buffer.set_filled(before + bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Ends a conversation that never became one.
    fn refuse(&self, answer: &[u8], why: &'static str) -> io::Error {
        // One small write into an empty buffer: either it fits or the client is not worth waiting for.
        let _ = self.line().stream.as_ref().map(|stream| stream.try_write(answer));
        self.pulse.speak();
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes = ready!(self.take_in(cx, buffer))?;
        Poll::Ready(match self.pulse.hear(bytes) {
            Heard::Fine => Ok(()),
            Heard::TooLong => Err(self.refuse(HEAD_TOO_LONG, "the head does not end")),
            Heard::NoRoom => Err(self.refuse(NO_ROOM, "too many large heads at once")),
        })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.line().socket()?.poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.line().socket()?.poll_write_vectored(cx, pieces);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line().socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line().socket()?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.line().stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for Connection {}

impl Peek for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest {
            established_ts: self.established,
            ..TimingDigest::default()
        })]
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

/// The bytes of a connection, past its engine.
#[derive(Clone)]
pub(super) struct Tap(Arc<Mutex<Line>>);

impl Tap {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request begins.
    pub(super) fn begin(&self) {
        let mut line = self.line();
        line.intake.begin();
        line.body = None;
    }

    /// Whether the engine, whose head has this many bytes, has seen nothing else: whoever wants may read what follows.
    pub(super) fn is_ready(&self, head: usize) -> bool {
        self.line().intake.is_at_the_end_of_a_head(head)
    }

    /// From now on the body of the request, which is this long, is read here only.
    pub(super) fn open(&self, length: u64) {
        self.line().body = Some(TappedBody {
            read: 0,
            missing: length,
        });
    }

    /// How far the body of the request is, if it is read here.
    pub(super) fn body(&self) -> Option<TappedBody> {
        self.line().body
    }

    /// Adds some bytes of the body to `buffer`, at most `most`, and gives back how many: 0 when the body is over, or `most` is.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection is lost, or closed before the end of the body.
    pub(super) async fn read(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        poll_fn(|cx| self.line().poll_read_body(cx, buffer, most)).await
    }
}

impl Line {
    fn poll_read_body(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<u8>, most: usize) -> Poll<io::Result<usize>> {
        let Some(body) = self.body else {
            return Poll::Ready(Ok(0));
        };
        let most = usize::try_from(body.missing).unwrap_or(usize::MAX).min(most);
        if most == 0 {
            return Poll::Ready(Ok(0));
        }
        let here = self.intake.take(most);
        let read = if here.is_empty() {
            let mut room = (&mut *buffer).limit(most);
            let mut socket = self.socket()?;
            let read = ready!(pin!(socket.read_buf(&mut room)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            read
        } else {
            buffer.put_slice(&here);
            here.len()
        };
        self.body = Some(TappedBody {
            read: body.read + read as u64,
            missing: body.missing - read as u64,
        });
        Poll::Ready(Ok(read))
    }
}
