//! As much HTTP/1.1 as a server for tests needs, and a proxy that spoils answers.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they were sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An answer as bytes: head and body. None at all is a connection that breaks.
pub(crate) type Answer = Option<Vec<u8>>;

/// An answer with these headers and this body.
pub(crate) fn answer(status: u16, headers: &[(&str, String)], body: &[u8]) -> Answer {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    Some([head.as_bytes(), body].concat())
}

/// A server that answers each request by a function, one per connection, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<F>(handler: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let handler = Arc::new(handler);
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await?;
                    let answer = handler(request).await?;
                    stream.write_all(&answer).await.ok()?;
                    stream.shutdown().await.ok()
                });
            }
        });
        Self { port, accepting }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    let mut body = read.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}

/// What a proxy does to one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spoil {
    /// Passes it on, and breaks the connection instead of answering.
    Break,
    /// Passes it on, and answers 500.
    Fail,
    /// Does not pass it on, and answers 409.
    Refuse,
    /// Does not pass it on, and answers 503.
    Overload,
    /// Does not pass it on, and answers 200 with an error in the body.
    Embed,
    /// Does not pass it on, and breaks the connection.
    Lose,
    /// Passes it on, and breaks the connection in the middle of the answer.
    Truncate,
    /// Passes it on after a while.
    Delay,
    /// Passes it on with one bit in the middle of its body turned.
    Damage,
}

/// How long a slow answer takes longer.
const DELAY: Duration = Duration::from_millis(200);

type Choice = Box<dyn FnMut(&Request) -> Option<Spoil> + Send>;

/// A proxy to a server on this machine.
pub(crate) struct Proxy {
    pub(crate) server: Server,
    choice: Arc<Mutex<Choice>>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let choice: Arc<Mutex<Choice>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let chosen = Arc::clone(&choice);
        let server = Server::start(move |mut request| {
            let spoil = (chosen.lock().unwrap())(&request);
            async move {
                match spoil {
                    None => pass(port, &request).await,
                    Some(Spoil::Break) => pass(port, &request).await.and(None),
                    Some(Spoil::Fail) => pass(port, &request).await.and(answer(500, &[], b"")),
                    Some(Spoil::Refuse) => answer(409, &[], b"<Error><Code>OperationAborted</Code></Error>"),
                    Some(Spoil::Overload) => answer(503, &[], b"<Error><Code>SlowDown</Code></Error>"),
                    Some(Spoil::Lose) => None,
                    Some(Spoil::Truncate) => pass(port, &request).await.map(|mut answer| {
                        answer.truncate(answer.len() / 2);
                        answer
                    }),
                    Some(Spoil::Delay) => {
                        #[expect(clippy::disallowed_methods, reason = "to be slow is what this is for")]
                        tokio::time::sleep(DELAY).await;
                        pass(port, &request).await
                    }
                    Some(Spoil::Damage) => {
                        let middle = request.body.len() / 2;
                        if let Some(byte) = request.body.get_mut(middle) {
                            *byte ^= 1;
                        }
                        pass(port, &request).await
                    }
                    Some(Spoil::Embed) => answer(200, &[], b"<Error><Code>InternalError</Code></Error>"),
                }
            }
        })
        .await;
        Self { server, choice }
    }

    /// A proxy to a server that has never heard of some headers: they are gone from every request.
    pub(crate) async fn deaf_to(headers: &'static [&'static str], port: u16) -> Self {
        let server = Server::start(move |mut request| async move {
            request.headers.retain(|(name, _)| !headers.contains(&name.as_str()));
            pass(port, &request).await
        })
        .await;
        let choice: Choice = Box::new(|_| None);
        Self {
            server,
            choice: Arc::new(Mutex::new(choice)),
        }
    }

    /// A proxy that refuses every request with one of these headers as something that it does not know.
    pub(crate) async fn refusing(headers: &'static [&'static str], port: u16) -> Self {
        let server = Server::start(move |request| async move {
            if headers.iter().any(|name| request.header(name).is_some()) {
                let body = b"<Error><Code>NotImplemented</Code><Message>A header implies functionality that is not implemented</Message></Error>";
                return answer(501, &[], body);
            }
            pass(port, &request).await
        })
        .await;
        let choice: Choice = Box::new(|_| None);
        Self {
            server,
            choice: Arc::new(Mutex::new(choice)),
        }
    }

    /// Asks `choice` from now on what to do to each request.
    pub(crate) fn choose(&self, choice: impl FnMut(&Request) -> Option<Spoil> + Send + 'static) {
        *self.choice.lock().unwrap() = Box::new(choice);
    }

    /// Spoils the next requests that `matches`, one after the other.
    pub(crate) fn spoil(&self, matches: impl Fn(&Request) -> bool + Send + 'static, spoils: &'static [Spoil]) {
        let mut spoils = spoils.iter().copied();
        let choice = move |request: &Request| matches(request).then(|| spoils.next()).flatten();
        self.choose(choice);
    }
}

/// Passes a request on to a server on this machine.
pub(crate) async fn pass(port: u16, request: &Request) -> Answer {
    let mut upstream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nconnection: close\r\n",
        request.method, request.target
    );
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    upstream.write_all(head.as_bytes()).await.ok()?;
    upstream.write_all(&request.body).await.ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await.ok()?;
    Some(answer)
}
