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
use std::sync::{Arc, Mutex, PoisonError};
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
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::limits::Limits;
use crate::clock::{Clock, SystemClock};

/// Bytes of a head after which the connection is cut without a look at it: the engine itself would buffer a mebibyte for
/// each. Well above the 128 KiB that are refused in good form, because what is read may hold some of a body as well.
const HOPELESS_HEAD: u64 = 384 * 1024;

/// The answer to it.
const HEAD_TOO_LONG: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nServer: bits-gateway\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Time in which a client that was told to go away gets to read why, before unread bytes of his make the kernel reset the
/// connection and the answer with it (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(5);

/// Where in a request a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// A head is on its way.
    Head,
    /// A request is being answered.
    Busy,
}

/// What a connection is doing, as both its reader and its watch see it.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    head_bytes: u64,
    /// Something was sent in this phase.
    spoke: bool,
    /// Bytes of the client may be unread when the connection ends.
    unread: bool,
}

impl Pulse {
    fn new() -> Self {
        let state = State {
            phase: Phase::Head,
            since: Instant::now(),
            head_bytes: 0,
            spoke: false,
            unread: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that the connection is now in `phase`.
    pub(super) fn enter(&self, phase: Phase) {
        self.with(|state| {
            (state.phase, state.since, state.head_bytes, state.spoke) = (phase, Instant::now(), 0, false);
        });
        self.changed.notify_one();
    }

    /// Notes that the connection will end although the client may still be sending.
    pub(super) fn leave_unread(&self) {
        self.with(|state| state.unread = true);
    }

    /// Notes `bytes` from the client. Whether they may still become a request.
    fn hear(&self, bytes: usize) -> bool {
        let (began, bearable) = self.with(|state| match state.phase {
            Phase::Busy => (false, true),
            Phase::Idle | Phase::Head => {
                let began = state.phase == Phase::Idle;
                if began {
                    (state.phase, state.since) = (Phase::Head, Instant::now());
                }
                state.head_bytes += bytes as u64;
                (began, state.head_bytes <= HOPELESS_HEAD)
            }
        });
        if began {
            self.changed.notify_one();
        }
        bearable
    }

    /// Notes that something was sent.
    fn speak(&self) {
        self.with(|state| state.spoke = true);
    }

    /// Whether something was answered to a head that is no request: the engine's own refusal of what it cannot read.
    pub(super) fn spoke_to_a_head(&self) -> bool {
        self.with(|state| state.phase == Phase::Head && state.spoke)
    }

    /// Whether an answer is on its way to a client who may still be sending.
    fn wants_lingering(&self) -> bool {
        self.with(|state| state.unread) || self.spoke_to_a_head()
    }

    /// Resolves when the connection has been in a phase for longer than `limits` allow; never while a request is answered.
    pub(super) async fn overdue(&self, limits: &Limits) -> Phase {
        loop {
            let changed = self.changed.notified();
            let (phase, since) = self.with(|state| (state.phase, state.since));
            let patience = match phase {
                Phase::Idle => limits.idle_timeout,
                Phase::Head => limits.header_timeout,
                Phase::Busy => {
                    changed.await;
                    continue;
                }
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(since + patience) => return phase,
            }
        }
    }
}

/// The socket of a connection.
pub(super) struct Connection {
    /// Taken only when the connection ends.
    stream: Option<TcpStream>,
    pulse: Arc<Pulse>,
    digest: Arc<SocketDigest>,
    established: SystemTime,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger_bytes: u64,
    /// Kept until the socket is closed.
    slot: Option<Box<dyn Send + Sync>>,
}

impl Connection {
    /// Takes over an accepted socket; `slot` is dropped when it is closed.
    pub(super) fn new(stream: TcpStream, limits: &Limits, slot: impl Send + Sync + 'static) -> Self {
        Self {
            pulse: Arc::new(Pulse::new()),
            digest: Arc::new(SocketDigest::from_raw_fd(stream.as_raw_fd())),
            established: SystemClock.now().into(),
            write_timeout: limits.write_timeout,
            stalled: None,
            linger_bytes: limits.drain_bytes,
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
            runtime.spawn(linger(stream, self.linger_bytes, slot));
        }
    }
}

/// Says goodbye and reads on for a moment, so that what was answered is not lost with the reset that unread bytes cause.
pub(super) async fn linger<S: Send>(mut stream: TcpStream, bytes: u64, slot: S) {
    let _kept = slot;
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(bytes), &mut tokio::io::sink()).await
    };
    // Whatever happens to a connection that is over, there is nothing left to do for it.
    let _ = timeout(LINGER, reading).await;
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.socket()?.poll_read(cx, buffer))?;
        let bytes = buffer.filled().len() - before;
        if bytes > 0 && !self.pulse.hear(bytes) {
            // One small write into an empty buffer: either it fits or the client is not worth waiting for.
            let _ = self.stream.as_ref().map(|stream| stream.try_write(HEAD_TOO_LONG));
            self.pulse.speak();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the head does not end")));
        }
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            header_timeout: 15 * SECOND,
            idle_timeout: 100 * SECOND,
            ..Limits::default()
        }
    }

    /// After how many seconds from now on the pulse finds that a phase took too long.
    async fn overdue_after(pulse: &Pulse) -> (Phase, u64) {
        let began = Instant::now();
        let phase = pulse.overdue(&limits()).await;
        (phase, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_connection_owes_a_head_from_the_start() {
        assert_eq!(overdue_after(&Pulse::new()).await, (Phase::Head, 15));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_a_head_runs_from_its_first_byte() {
        let pulse = Pulse::new();
        pulse.enter(Phase::Idle);
        tokio::time::advance(50 * SECOND).await;
        assert!(pulse.hear(1));
        tokio::time::advance(10 * SECOND).await;
        assert!(pulse.hear(1));
        assert_eq!(overdue_after(&pulse).await, (Phase::Head, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_has_its_own_limit() {
        let pulse = Pulse::new();
        pulse.enter(Phase::Busy);
        pulse.enter(Phase::Idle);
        assert_eq!(overdue_after(&pulse).await, (Phase::Idle, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_overdue_while_a_request_is_answered() {
        let pulse = Pulse::new();
        pulse.enter(Phase::Busy);
        let watched = timeout(1_000_000 * SECOND, overdue_after(&pulse)).await;
        assert!(watched.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_begun_sees_what_happens() {
        let pulse = Arc::new(Pulse::new());
        let began = Instant::now();
        let watched = tokio::spawn({
            let pulse = Arc::clone(&pulse);
            async move { (pulse.overdue(&limits()).await, began.elapsed()) }
        });
        tokio::time::advance(10 * SECOND).await;
        pulse.enter(Phase::Busy);
        tokio::time::advance(500 * SECOND).await;
        pulse.enter(Phase::Idle);
        assert_eq!(watched.await.expect("no panic"), (Phase::Idle, 610 * SECOND));
    }

    #[tokio::test]
    async fn heads_without_end_are_noticed_and_bodies_are_not() {
        let pulse = Pulse::new();
        assert!(pulse.hear(usize::try_from(HOPELESS_HEAD).expect("it is small")));
        assert!(!pulse.hear(1));
        pulse.enter(Phase::Busy);
        assert!(pulse.hear(1 << 30));
    }

    #[tokio::test]
    async fn only_who_may_still_be_sending_is_lingered_for() {
        let pulse = Pulse::new();
        assert!(!pulse.wants_lingering(), "nothing was answered");
        pulse.speak();
        assert!(pulse.wants_lingering(), "a head was refused");
        pulse.enter(Phase::Busy);
        pulse.speak();
        assert!(!pulse.wants_lingering(), "a request was answered");
        pulse.leave_unread();
        assert!(pulse.wants_lingering(), "its body was not read");
    }
}
