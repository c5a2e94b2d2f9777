//! One connection: the socket as the HTTP engine sees it, and the watch over what the engine does not time.
//!
//! The engine bounds the time between two reads, but neither a whole head nor, on a connection that it uses again, anything
//! at all; and it writes heads without a time-out. So the socket itself notes where in a request the connection is, and
//! its pulse says when it has been there for too long.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

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
    /// Taken only when the connection ends.
    stream: Option<TcpStream>,
    pulse: Arc<Pulse>,
    digest: Arc<SocketDigest>,
    established: SystemTime,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: (u64, Duration),
    /// Kept until the socket is closed.
    slot: Option<Box<dyn Send + Sync>>,
}

impl Connection {
    /// Takes over an accepted socket; `slot` is dropped when it is closed.
    pub(super) fn new(
        stream: TcpStream,
        limits: &Limits,
        crowd: &Arc<Crowd>,
        slot: impl Send + Sync + 'static,
    ) -> Self {
        Self {
            pulse: Arc::new(Pulse::new(Arc::clone(crowd))),
            digest: Arc::new(SocketDigest::from_raw_fd(stream.as_raw_fd())),
            established: SystemClock.now().into(),
            write_timeout: limits.write_timeout,
            stalled: None,
            linger: (limits.drain_bytes, limits.linger),
            slot: Some(Box::new(slot)),
            stream: Some(stream),
        }
    }

    /// What the connection is doing.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The pulse of the connection below an engine's stream.
    pub(super) fn pulse_of(stream: &dyn IO) -> Option<Arc<Pulse>> {
        stream.as_any().downcast_ref::<Self>().map(Self::pulse)
    }

    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
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
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (Some(stream), slot) = (self.stream.take(), self.slot.take()) else {
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
    fn take_in(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let most = self.pulse.most_at_once();
        if buffer.remaining() <= most {
            let before = buffer.filled().len();
            ready!(self.socket()?.poll_read(cx, buffer))?;
            return Poll::Ready(Ok(buffer.filled().len() - before));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(self.socket()?.poll_read(cx, &mut part))?;
        let bytes = part.filled().len();
        buffer.advance(bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Ends a conversation that never became one.
    fn refuse(&self, answer: &[u8], why: &'static str) -> io::Error {
        // One small write into an empty buffer: either it fits or the client is not worth waiting for.
        let _ = self.stream.as_ref().map(|stream| stream.try_write(answer));
        self.pulse.speak();
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
        let written = self.socket()?.poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket()?.poll_write_vectored(cx, pieces);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(cx)
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
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
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
