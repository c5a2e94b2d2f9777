//! Literal bytes to a server and its answers back: what tests need to say what no well-behaved client says.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use bits_gateway::client::raw::{Connection, Packet};
//!
//! let mut connection = Connection::open("127.0.0.1:8080").await?;
//! connection.send(Packet::create_session("/uploads/f.bin")).await?;
//! let created = connection.answer().await?;
//! assert_eq!(created.status, 200);
//! let session = created.header("BITS-Session-Id").unwrap_or_default().to_owned();
//!
//! connection.send(Packet::fragment("/uploads/f.bin", &session, 0..10, 10)).await?;
//! connection.send_body(b"01234").await?;
//! connection.reset()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use super::stream::Stream;
use super::tls::Trust;
use super::wire::read_answer;
use crate::bits::{PROTOCOL, header};

pub use super::wire::Answer;

/// How long a connection waits for the server before it reports a time-out, unless told otherwise: a test must end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest body of an answer that is read, in bytes.
const MOST_BODY: usize = 256 << 20;

/// One connection, on which nothing happens by itself.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffer: BytesMut,
    patience: Duration,
}

impl Connection {
    /// Connects without TLS.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn open(address: impl ToSocketAddrs) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Self {
            stream: Stream::Plain(tcp),
            buffer: BytesMut::new(),
            patience: PATIENCE,
        })
    }

    /// Connects under TLS to a server whose certificate must name `host`.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn open_tls(host: &str, port: u16, trust: &Trust) -> io::Result<Self> {
        let stream = Stream::connect(host, port, Some(trust)).await?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            patience: PATIENCE,
        })
    }

    /// Waits at most this long for each step from now on; 60 s at first.
    #[must_use]
    pub const fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends these bytes, whatever they are: a [`Packet`], the [`lines`] of a transcript, several requests at once, half a head.
    ///
    /// # Errors
    /// What the socket says; `TimedOut` when the server does not take them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        timeout(self.patience, sending)
            .await
            .map_err(|_| timed_out("sending"))?
    }

    /// The same as [`Connection::send`], for the bytes of a body, all of them or some.
    ///
    /// # Errors
    /// As for [`Connection::send`].
    pub async fn send_body(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.send(bytes).await
    }

    /// The next answer, an interim one (100) included.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closes the connection first, `TimedOut` when it stays silent, `InvalidData` when what it
    /// says is no HTTP/1, what the socket says otherwise.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.next_answer(false).await
    }

    /// The next answer, to a `HEAD`: without a body whatever its length says.
    ///
    /// # Errors
    /// As for [`Connection::answer`].
    pub async fn answer_to_head(&mut self) -> io::Result<Answer> {
        self.next_answer(true).await
    }

    /// Sends a request without a body and returns its answer.
    ///
    /// # Errors
    /// As for [`Connection::send`] and [`Connection::answer`].
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> io::Result<Answer> {
        self.ask_with(request, b"").await
    }

    /// Sends a head and a body and returns the answer, also one that came before the body was through.
    ///
    /// # Errors
    /// As for [`Connection::answer`]; the errors of sending only when there is no answer.
    pub async fn ask_with(&mut self, head: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> io::Result<Answer> {
        let sent = async {
            self.send(head).await?;
            self.send_body(body).await
        }
        .await;
        let answer = self.answer().await;
        match (sent, answer) {
            (Err(error), Err(_)) => Err(error),
            (_, answer) => answer,
        }
    }

    /// Waits until the server closes the connection; true when it does so in an orderly way (FIN), false for a reset.
    ///
    /// # Errors
    /// `InvalidData` when it says something instead, `TimedOut` when it keeps the connection.
    pub async fn closed(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            match timeout(self.patience, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) => return Err(timed_out("closing")),
                Ok(Ok(0)) => return Ok(true),
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
                Ok(Err(_)) => return Ok(false),
                Ok(Ok(_)) => {}
            }
        }
        let said = String::from_utf8_lossy(&self.buffer).into_owned();
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("instead of closing the server said: {said}"),
        ))
    }

    /// Says that nothing more will be sent (FIN), and goes on listening.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Closes the connection in an orderly way (FIN), whatever was under way.
    pub fn cut(self) {
        drop(self);
    }

    /// Tears the connection down (RST): what was sent may not arrive.
    ///
    /// # Errors
    /// What the socket says.
    pub fn reset(self) -> io::Result<()> {
        self.stream.tcp().set_zero_linger()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What the socket says.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.tcp().local_addr()
    }

    async fn next_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let reading = read_answer(&mut self.stream, &mut self.buffer, to_head, MOST_BODY);
        timeout(self.patience, reading)
            .await
            .map_err(|_| timed_out("the answer"))?
    }
}

/// Sends one request over a connection of its own and returns the answer.
///
/// # Errors
/// As for [`Connection::open`] and [`Connection::ask_with`].
pub async fn exchange(
    address: impl ToSocketAddrs,
    head: impl AsRef<[u8]>,
    body: impl AsRef<[u8]>,
) -> io::Result<Answer> {
    Connection::open(address).await?.ask_with(head, body).await
}

/// Text with the line ends of HTTP: a transcript as it stands in a document becomes the bytes on the wire.
pub fn lines(text: &str) -> Vec<u8> {
    text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes()
}

/// The head of a request, header by header: a right one first, which a test then makes wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    text: Vec<u8>,
    start_line: String,
    headers: Vec<(String, String)>,
}

impl Packet {
    /// A request line with a `Host` and nothing else.
    pub fn new(method: &str, target: &str) -> Self {
        let mut packet = Self {
            text: Vec::new(),
            start_line: format!("{method} {target} HTTP/1.1"),
            headers: Vec::new(),
        };
        packet.headers.push(("Host".to_owned(), "gateway.test".to_owned()));
        packet.written()
    }

    /// A `BITS_POST` with a packet type, whatever that is, and no body.
    pub fn bits(target: &str, kind: &str) -> Self {
        Self::new("BITS_POST", target)
            .with(header::PACKET_TYPE, kind)
            .with(header::CONTENT_LENGTH, "0")
    }

    /// A Ping.
    pub fn ping(target: &str) -> Self {
        Self::bits(target, "Ping")
    }

    /// A Create-Session.
    pub fn create_session(target: &str) -> Self {
        Self::bits(target, "Create-Session").with(header::SUPPORTED_PROTOCOLS, PROTOCOL)
    }

    /// A Fragment with the bytes `range` of a file of `total` bytes; the empty range of an empty file is `bytes 0-0/0`.
    pub fn fragment(target: &str, session: &str, range: Range<u64>, total: u64) -> Self {
        let last = range.end.saturating_sub(1).max(range.start);
        Self::bits(target, "Fragment")
            .with(header::SESSION_ID, session)
            .with(header::CONTENT_RANGE, &format!("bytes {}-{last}/{total}", range.start))
            .with(
                header::CONTENT_LENGTH,
                &range.end.saturating_sub(range.start).to_string(),
            )
    }

    /// A Close-Session.
    pub fn close_session(target: &str, session: &str) -> Self {
        Self::bits(target, "Close-Session").with(header::SESSION_ID, session)
    }

    /// A Cancel-Session.
    pub fn cancel_session(target: &str, session: &str) -> Self {
        Self::bits(target, "Cancel-Session").with(header::SESSION_ID, session)
    }

    /// With this header in place of all that have its name (in any letter case), in this spelling.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    /// With this header besides those that there are.
    #[must_use]
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self.written()
    }

    /// Without any header of this name, in any letter case.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.written()
    }

    /// With another request line.
    #[must_use]
    pub fn line(mut self, start_line: &str) -> Self {
        start_line.clone_into(&mut self.start_line);
        self.written()
    }

    fn written(mut self) -> Self {
        self.text = self.to_string().into_bytes();
        self
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\r\n", self.start_line)?;
        for (name, value) in &self.headers {
            write!(f, "{name}: {value}\r\n")?;
        }
        f.write_str("\r\n")
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::run::tests::{Reply, Scripted};

    const OK: &str = "HTTP/1.1 200 OK\r\nBITS-packet-TYPE: Ack\r\nContent-Length: 0\r\n\r\n";

    fn ok() -> Reply {
        Reply::Say(OK.to_owned())
    }

    #[test]
    fn a_packet_is_right_until_it_is_made_wrong() {
        let packet = Packet::fragment("/f", "{A}", 5..10, 20);
        assert_eq!(
            packet.to_string(),
            "BITS_POST /f HTTP/1.1\r\nHost: gateway.test\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: {A}\r\n\
             Content-Range: bytes 5-9/20\r\nContent-Length: 5\r\n\r\n"
        );
        let wrong = packet
            .line("bits_post /f HTTP/1.0")
            .without("host")
            .with("content-RANGE", "lines 1-2/3")
            .and("Content-Length", "6");
        assert_eq!(
            wrong.as_ref(),
            lines(
                "bits_post /f HTTP/1.0
BITS-Packet-Type: Fragment
BITS-Session-Id: {A}
Content-Length: 5
content-RANGE: lines 1-2/3
Content-Length: 6

"
            )
        );
        assert!(
            Packet::fragment("/f", "{A}", 0..0, 0)
                .to_string()
                .contains("bytes 0-0/0\r\nContent-Length: 0\r\n")
        );
    }

    #[tokio::test]
    async fn answers_to_pipelined_requests_come_one_by_one() {
        let server = Scripted::play([
            ok(),
            Reply::Say(OK.replace("200", "416")),
            Reply::SayAndClose(OK.to_owned()),
        ]);
        let mut connection = Connection::open(server.address).await.unwrap();
        let ping = Packet::ping("/f");
        connection.send([ping.as_ref(), ping.as_ref()].concat()).await.unwrap();
        assert_eq!(connection.answer().await.unwrap().status, 200);
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("bits-packet-type")), (416, Some("Ack")));
        assert_eq!(answer.names().next(), Some("BITS-packet-TYPE"));
        assert_eq!(connection.ask(&ping).await.unwrap().status, 200);
        assert!(connection.closed().await.unwrap());
        assert_eq!(server.heard().len(), 3);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_or_reset_arrives_in_part() {
        let server = Scripted::play([ok(), ok()]);
        for reset in [false, true] {
            let mut connection = Connection::open(server.address).await.unwrap();
            connection.send(Packet::fragment("/f", "{A}", 0..10, 10)).await.unwrap();
            connection.send_body(b"01234").await.unwrap();
            match reset {
                true => connection.reset().unwrap(),
                false => connection.cut(),
            }
        }
        let heard = server.heard();
        assert_eq!(heard[0].body, b"01234");
        assert!(heard.iter().all(|request| request.body.len() < 10));
    }

    #[tokio::test]
    async fn an_early_answer_is_read_though_the_body_did_not_get_through() {
        let refusal = OK.replace("200", "413");
        let server = Scripted::play([Reply::Interrupt(refusal)]);
        let body = vec![0; 60_000_000];
        let head = Packet::fragment("/f", "{A}", 0..60_000_000, 60_000_000);
        assert_eq!(exchange(server.address, head, body).await.unwrap().status, 413);
        server.heard();
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_told_from_words_and_from_silence() {
        let server = Scripted::play([ok(), Reply::Cut(0), ok()]);
        let mut connection = Connection::open(server.address).await.unwrap();
        connection.send(Packet::ping("/f")).await.unwrap();
        assert_eq!(
            connection.closed().await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        connection.answer().await.unwrap();
        let mut connection = connection.patient(Duration::from_millis(1));
        assert_eq!(connection.closed().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut connection = connection.patient(PATIENCE);
        let error = connection.ask(Packet::ping("/f")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        server.heard();
    }
}
