//! A client in our hand: packet by packet, and it notices every promise that is not kept.

use std::io;
use std::net::SocketAddr;

use bits_gateway::client::raw::{Answer, Connection, Packet};
use bytes::Bytes;

use super::until;

/// One upload. It holds the gateway to its word: no byte that was acknowledged is ever asked for again.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    pub path: String,
    pub content: Bytes,
    /// As the gateway wrote it.
    pub session: String,
    /// The highest offset that the gateway ever told.
    acknowledged: u64,
    /// The offset from which the client would go on: what it has heard of.
    pub start: u64,
}

impl Hand {
    pub(crate) fn new(path: &str, content: Bytes) -> Self {
        Self {
            path: path.to_owned(),
            content,
            session: String::new(),
            acknowledged: 0,
            start: 0,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.content.len() as u64
    }

    pub(crate) fn is_through(&self) -> bool {
        self.start == self.total()
    }

    pub(crate) fn create_session(&self) -> Packet {
        Packet::create_session(&self.path)
    }

    pub(crate) fn close_session(&self) -> Packet {
        Packet::close_session(&self.path, &self.session)
    }

    /// The head of a fragment from the client's offset on, and its body.
    pub(crate) fn fragment(&self, length: u64) -> (Packet, Bytes) {
        let end = (self.start + length).min(self.total());
        let packet = Packet::fragment(&self.path, &self.session, self.start..end, self.total());
        let index = |offset: u64| usize::try_from(offset).expect("within the content");
        (packet, self.content.slice(index(self.start)..index(end)))
    }

    /// Begins a session.
    pub(crate) async fn begin(&mut self, address: SocketAddr) {
        let answer = ask(address, &self.create_session(), b"").await.expect("an answer");
        self.created(&answer);
    }

    /// Takes the answer to a Create-Session.
    pub(crate) fn created(&mut self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{answer:?}");
        self.session = answer.header("BITS-Session-Id").expect("a session").to_owned();
    }

    /// Sends a fragment and takes its answer.
    pub(crate) async fn send(&mut self, address: SocketAddr, length: u64) {
        let (head, body) = self.fragment(length);
        let answer = ask(address, &head, &body).await.expect("an answer");
        self.told(&answer);
    }

    /// The same after connections that broke: the gateway may hear of those later than of this packet, take theirs for newer, and ask
    /// for patience.
    pub(crate) async fn send_patiently(&mut self, address: SocketAddr, length: u64) {
        let (head, body) = self.fragment(length);
        let answer = until("it is this packet's turn", async || {
            let answer = ask(address, &head, &body).await.expect("an answer");
            (answer.status != 503).then_some(answer)
        });
        let answer = answer.await;
        self.told(&answer);
    }

    /// Takes over what the gateway said to `other`, and that this client never heard: it is held to that, too.
    pub(crate) fn inherit(&mut self, other: &Self) {
        self.acknowledged = self.acknowledged.max(other.acknowledged);
    }

    /// Takes the answer to a fragment that began where the client believed.
    pub(crate) fn told(&mut self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let next = answer.header("BITS-Received-Content-Range").expect("an offset");
        let next: u64 = next.parse().expect("a number");
        assert!(
            next >= self.acknowledged,
            "{} was acknowledged, and is asked for again from {next}",
            self.acknowledged
        );
        assert!(next <= self.total(), "{next} of {}", self.total());
        self.acknowledged = next;
        self.start = next;
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Connection {
        Connection::open(address).await.expect("somebody listens")
    }

    pub(crate) async fn close(&self, address: SocketAddr) {
        let closed = ask(address, &self.close_session(), b"").await.expect("an answer");
        assert_eq!(closed.status, 200, "{closed:?}");
    }
}

async fn ask(address: SocketAddr, head: &Packet, body: &[u8]) -> io::Result<Answer> {
    Connection::open(address).await?.ask_with(head, body).await
}
