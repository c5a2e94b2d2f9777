//! A line between client and server that breaks when it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::PATIENCE;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// Bytes that are carried in `direction` before it happens.
    pub after: u64,
    pub direction: Direction,
    pub end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Closed on both sides.
    Cut,
    /// Reset on both sides.
    Reset,
    /// Nothing is carried any more until the client is gone.
    Silence,
}

/// Carries connections to wherever it leads.
#[derive(Debug)]
pub(crate) struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: watch::Sender<Option<SocketAddr>>,
    fates: Mutex<VecDeque<Fate>>,
    /// Connections whose limit was reached, and those that are over since.
    reached: watch::Sender<usize>,
    over: watch::Sender<usize>,
    requests: watch::Sender<Requests>,
}

/// What was asked over a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    /// How often somebody began to ask.
    pub begun: usize,
    /// How many have no answer yet.
    pub open: usize,
}

impl Line {
    /// A line that leads nowhere yet: whoever connects is reset.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            target: watch::Sender::new(None),
            fates: Mutex::default(),
            reached: watch::Sender::new(0),
            over: watch::Sender::new(0),
            requests: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where new connections lead from now on.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.shared.target.send_replace(Some(target));
    }

    /// What becomes of the next connections, in this order; later ones are left alone.
    pub(crate) fn doom(&self, fates: impl IntoIterator<Item = Fate>) {
        self.shared.fates.lock().expect("no panic").extend(fates);
    }

    /// Waits until the fate of `count` connections has begun.
    pub(crate) async fn reached(&self, count: usize) {
        at_least(&self.shared.reached, count).await;
    }

    /// Waits until `count` connections are over because of their fate.
    pub(crate) async fn over(&self, count: usize) {
        at_least(&self.shared.over, count).await;
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> watch::Receiver<Requests> {
        self.shared.requests.subscribe()
    }

    /// How many connections are still doomed.
    pub(crate) fn doomed(&self) -> usize {
        self.shared.fates.lock().expect("no panic").len()
    }
}

async fn at_least(known: &watch::Sender<usize>, count: usize) {
    let mut known = known.subscribe();
    let wait = timeout(PATIENCE, known.wait_for(|known| *known >= count)).await;
    assert!(wait.is_ok(), "in vain: {count} lines break");
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(carry(client, Arc::clone(&shared)));
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let target = *shared.target.borrow();
    let connected = match target {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(mut server) = connected else {
        // A refused client shall not linger.
        let _ = client.set_zero_linger();
        return;
    };
    let fate = shared.fates.lock().expect("no panic").pop_front();
    let limit = |wanted: fn(&Direction) -> bool| match fate {
        Some(fate) if wanted(&fate.direction) => fate.after,
        _ => u64::MAX,
    };
    let (up, down) = (
        limit(|direction| matches!(direction, Direction::ToServer)),
        limit(|direction| matches!(direction, Direction::ToClient)),
    );
    let question = Question {
        requests: &shared.requests,
        is_open: AtomicBool::new(false),
    };
    let reached = {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
        tokio::select! {
            reached = pump(&mut from_client, &mut to_server, up, || question.begin()) => reached,
            reached = pump(&mut from_server, &mut to_client, down, || question.end()) => reached,
        }
    };
    drop(question);
    let Some(fate) = fate.filter(|_| reached) else { return };
    shared.reached.send_modify(|count| *count += 1);
    match fate.end {
        End::Cut => {}
        End::Reset => {
            // Both are open: nothing can be wrong with them.
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        End::Silence => {
            let mut unheard = [0; 16 * 1024];
            while client.read(&mut unheard).await.is_ok_and(|read| read > 0) {}
        }
    }
    drop((client, server));
    shared.over.send_modify(|count| *count += 1);
}

/// Whether what was asked over a connection has been answered.
struct Question<'a> {
    requests: &'a watch::Sender<Requests>,
    is_open: AtomicBool,
}

impl Question<'_> {
    fn begin(&self) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.requests.send_modify(|requests| {
                requests.begun += 1;
                requests.open += 1;
            });
        }
    }

    fn end(&self) {
        if self.is_open.swap(false, Ordering::Relaxed) {
            self.requests.send_modify(|requests| requests.open -= 1);
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Carries bytes until `limit` is reached (true) or either side is over (false).
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    limit: u64,
    note: impl Fn(),
) -> bool {
    let mut left = limit;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => {
                note();
                if to.write_all(&buffer[..read]).await.is_err() {
                    return false;
                }
                left -= read as u64;
            }
        }
    }
    true
}
