//! The loop around the machine: send what it asks for, tell it what came, remember what a later run needs.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::authority::Authority;
use super::event::Event;
use super::head::{Letterhead, content_name};
use super::machine::{Machine, Memory, Outgoing, Then};
use super::source::{Opened, SourceError};
use super::state::StateFile;
use super::tls::Trust;
use super::told::Told;
use super::transport::{Body, Broken, Transport};
use super::{Done, Failed, Upload, reply};
use crate::clock::{self, Clock, SystemClock};

/// Carries out `upload`.
pub(super) async fn run(upload: &Upload, mut events: impl FnMut(Event)) -> Result<Done, Failed> {
    let options = &upload.options;
    let origin = origin(&upload.url)?;
    let trust = match upload.url.scheme() {
        "https" => Some(Trust::load(options.ca_file.as_deref())?),
        _ => None,
    };
    let mut source = upload.source.open().await?;
    let total = source.identity().size;
    let state = options
        .state
        .as_deref()
        .map(|path| StateFile::new(path, upload.url.as_str()));
    let mut saved = match &state {
        Some(state) => remembered(state, &source).await?,
        None => None,
    };
    if let (Some(memory), true) = (&mut saved, options.reply.is_some()) {
        hear_again(memory, total);
    }
    let letterhead = Letterhead {
        target: target(&upload.url),
        agent: options.user_agent.clone(),
        name: options.content_name.as_deref().or(source.name()).and_then(content_name),
        total,
    };
    let mut transport = Transport {
        trust,
        send_timeout: options.send_timeout,
        response_timeout: options.response_timeout,
        idle: None,
    };
    let started = Instant::now();
    let seed = options.seed.unwrap_or_else(random_seed);
    let mut machine = Machine::new(
        total,
        options.sizes,
        options.patience,
        seed,
        saved.clone(),
        started.elapsed(),
    );
    let mut done = Done {
        session: String::new(),
        resumed: saved.is_some(),
        total,
        fragments: 0,
        bytes: 0,
        reply_url: None,
        reply_size: None,
    };
    if let Some(memory) = &saved {
        events(Event::Resumed {
            session: memory.session.clone(),
            offset: memory.offset,
        });
    }

    loop {
        let request = machine.request();
        if let (Outgoing::CloseSession { .. }, Some(into), Some(at), None) =
            (&request.packet, &options.reply, &done.reply_url, done.reply_size)
        {
            done.reply_size = Some(reply::fetch(at, &upload.url, into, options).await?);
        }
        let (from, to) = match request.packet {
            Outgoing::Fragment { from, to, .. } => (from, to),
            _ => (0, 0),
        };
        if to > from {
            source.unchanged().await?;
        }
        let host = match request.host {
            Some(host) => host.or_port(upload.url.port()),
            None => origin.clone(),
        };
        let head = letterhead.head(&request.packet, &host.to_string());
        let packet = request.packet.kind();
        events(Event::Sending(request.packet));

        let mut body = Body {
            source: &mut source,
            from,
            to,
        };
        let exchange = transport
            .exchange(&host, &head, &mut body, &mut |offset| events(Event::Sent { offset }))
            .await;
        let heard = match exchange {
            Ok(answer) => Ok(Told::read(&answer, SystemClock.now())),
            Err(Broken::Transport(text)) => Err(text),
            Err(Broken::Untrusted(reason)) => {
                return Err(Failed::Untrusted {
                    host: host.to_string(),
                    reason,
                });
            }
            Err(Broken::Source(error)) => return Err(error.into()),
        };
        if let Ok(told) = &heard {
            events(Event::Answered {
                packet,
                status: told.status,
            });
            if to > from || total == 0 && packet == crate::bits::PacketKind::Fragment {
                done.fragments += 1;
                done.bytes += to - from;
                done.reply_url = told.reply_url.clone().or(done.reply_url);
            }
        }

        let step = machine.heard(heard, started.elapsed());
        if let Some(memory) = machine.memory()
            && saved.as_ref() != Some(&memory)
        {
            // Before anything is done that only makes sense with it.
            if let Some(state) = &state {
                state.save(&memory, source.identity()).await?;
            }
            saved = Some(memory);
        }
        events(step.event);
        match step.then {
            Then::Send => {}
            Then::Wait(delay) => back_off(delay).await,
            Then::Done => break,
            Then::Fail(failure) => return Err(failure.into()),
        }
    }
    if let Some(state) = &state {
        state.remove().await?;
    }
    done.session = saved.map(|memory| memory.session).unwrap_or_default();
    Ok(done)
}

#[expect(
    clippy::disallowed_methods,
    reason = "back-off: nothing tells when the server is well again"
)]
pub(super) async fn back_off(delay: Duration) {
    tokio::time::sleep(delay).await;
}

/// Where the reply is was told to the run that sent the last fragment, and it is told again to who sends a part of that again.
fn hear_again(memory: &mut Memory, total: u64) {
    if memory.delivered {
        memory.delivered = false;
        memory.offset = total.saturating_sub(1);
    }
}

/// What an earlier run left, as long as it was about the same file.
async fn remembered(state: &StateFile, source: &Opened) -> Result<Option<Memory>, Failed> {
    match state.load().await? {
        None => Ok(None),
        Some((memory, file)) if file == source.identity() => Ok(Some(memory)),
        Some(_) => Err(SourceError::Changed.into()),
    }
}

fn origin(url: &Url) -> Result<Authority, Failed> {
    let refuse = |why: &str| Failed::Usage(format!("{url} can't be uploaded to: {why}"));
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("only http and https are spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("credentials in the URL are not supported"));
    }
    let host = url
        .host_str()
        .and_then(Authority::parse)
        .ok_or_else(|| refuse("its host is none"))?;
    Ok(host.or_port(url.port()))
}

/// Path and query: what stands in the request line.
fn target(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn random_seed() -> u64 {
    let (high, low) = clock::random_id().as_u64_pair();
    high ^ low
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    use bytes::Bytes;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tempfile::TempDir;

    use super::*;
    use crate::bits::{Hresult, PacketKind};
    use crate::client::{Options, Patience, Pattern, Refusal, Sizes, Source, Trouble};

    /// A server on a port of its own that plays its part and then hangs up.
    pub(in crate::client) struct Scripted {
        pub(in crate::client) address: SocketAddr,
        thread: JoinHandle<Vec<Heard>>,
        over: Arc<AtomicBool>,
    }

    /// What it does with a request.
    #[derive(Clone, Debug)]
    pub(in crate::client) enum Reply {
        /// Takes all of it, then says this.
        Say(String),
        /// Takes all of it, says this, and closes the connection without having announced it.
        SayAndClose(String),
        /// Says this as soon as it has the head, and resets the connection: the body stays unread.
        Interrupt(String),
        /// Takes this many bytes of the body, then closes the connection.
        Cut(usize),
        /// Takes all of it and says nothing.
        Silence,
    }

    /// A request as it came.
    #[derive(Debug)]
    pub(in crate::client) struct Heard {
        pub(in crate::client) head: String,
        pub(in crate::client) body: Vec<u8>,
        /// On which connection, counted from zero.
        pub(in crate::client) connection: usize,
    }

    impl Heard {
        fn header(&self, name: &str) -> Option<&str> {
            let lines = self.head.lines().filter_map(|line| line.split_once(": "));
            lines
                .into_iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        }

        fn kind(&self) -> &str {
            self.header("BITS-Packet-Type").unwrap_or_default()
        }

        fn range(&self) -> &str {
            self.header("Content-Range").unwrap_or_default()
        }
    }

    impl Scripted {
        pub(in crate::client) fn play(replies: impl IntoIterator<Item = Reply>) -> Self {
            Self::start(None, replies.into_iter().collect())
        }

        fn play_tls(config: rustls::ServerConfig, replies: impl IntoIterator<Item = Reply>) -> Self {
            Self::start(Some(Arc::new(config)), replies.into_iter().collect())
        }

        fn start(tls: Option<Arc<rustls::ServerConfig>>, replies: Vec<Reply>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let thread = std::thread::spawn({
                let over = Arc::clone(&over);
                move || {
                    let mut replies = replies.into_iter();
                    let mut heard = Vec::new();
                    for connection in 0.. {
                        if replies.len() == 0 {
                            break;
                        }
                        let (socket, _) = listener.accept().unwrap();
                        let before = heard.len();
                        match &tls {
                            None => converse(socket, connection, &mut replies, &mut heard),
                            Some(config) => {
                                let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                                let stream = rustls::StreamOwned::new(session, socket);
                                converse(stream, connection, &mut replies, &mut heard);
                            }
                        }
                        // The call that only tells that it is over says nothing.
                        if over.load(Ordering::SeqCst) && heard.len() == before {
                            break;
                        }
                    }
                    heard
                }
            });
            Self { address, thread, over }
        }

        fn url(&self) -> Url {
            Url::parse(&format!("http://{}/up/f.bin?a=b", self.address)).unwrap()
        }

        /// What it heard. Ends it, also when not all of the script was played: then somebody must be told.
        pub(in crate::client) fn heard(self) -> Vec<Heard> {
            self.over.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(self.address);
            self.thread.join().unwrap()
        }
    }

    /// Plays until the script is over, or the connection.
    fn converse(
        mut stream: impl Read + Write,
        connection: usize,
        replies: &mut impl Iterator<Item = Reply>,
        heard: &mut Vec<Heard>,
    ) {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if !more(&mut stream, &mut buffer) {
                    return;
                }
            };
            let mut request = Heard {
                head: String::from_utf8(buffer.drain(..end).collect()).unwrap(),
                body: Vec::new(),
                connection,
            };
            let length: usize = request.header("Content-Length").unwrap().parse().unwrap();
            let reply = replies.next().unwrap_or(Reply::Cut(0));
            let wanted = match &reply {
                Reply::Interrupt(_) => 0,
                Reply::Cut(most) => length.min(*most),
                _ => length,
            };
            while buffer.len() < wanted && more(&mut stream, &mut buffer) {}
            request.body = buffer.drain(..wanted.min(buffer.len())).collect();
            heard.push(request);
            match reply {
                // The client may have gone: then the next request shows it.
                Reply::Say(text) => drop(stream.write_all(text.as_bytes())),
                Reply::SayAndClose(text) | Reply::Interrupt(text) => {
                    let _ = stream.write_all(text.as_bytes());
                    return;
                }
                Reply::Cut(_) => return,
                Reply::Silence => {
                    while more(&mut stream, &mut buffer) {}
                    return;
                }
            }
        }
    }

    fn more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> bool {
        let mut space = [0; 65_536];
        let read = stream.read(&mut space).unwrap_or(0);
        buffer.extend_from_slice(&space[..read]);
        read > 0
    }

    fn answer(status: u16, lines: &str) -> String {
        format!("HTTP/1.1 {status} x\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n{lines}\r\n")
    }

    fn say(status: u16, lines: &str) -> Reply {
        Reply::Say(answer(status, lines))
    }

    fn created(session: &str) -> Reply {
        say(
            200,
            &format!("BITS-Protocol: {{7DF0354D-249b-430f-820d-3d2a9bef4931}}\r\nBITS-Session-Id: {session}\r\n"),
        )
    }

    fn received(status: u16, offset: u64) -> Reply {
        say(status, &format!("BITS-Received-Content-Range: {offset}\r\n"))
    }

    fn ok() -> Reply {
        say(200, "")
    }

    fn lost() -> Reply {
        say(500, "BITS-Error-Code: 0x8020001F\r\nBITS-Error-Context: 0x5\r\n")
    }

    const PATTERN: Pattern = Pattern {
        seed: 7,
        length: 25_000,
    };

    fn bytes(pattern: Pattern) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(pattern.length).unwrap()];
        pattern.fill(0, &mut bytes);
        bytes
    }

    /// Uploads 25,000 bytes in fragments of 10,000, and loses no time.
    fn upload(url: Url) -> Upload {
        let mut upload = Upload::new(url, Source::Pattern(PATTERN));
        upload.options = Options {
            sizes: Sizes::Fixed(10_000),
            seed: Some(1),
            patience: Patience {
                retry_delay: Duration::from_millis(1),
                longest_delay: Duration::from_millis(5),
                give_up_after: Duration::from_secs(60),
            },
            ..Options::default()
        };
        upload
    }

    fn impatient(mut upload: Upload) -> Upload {
        upload.options.patience.give_up_after = Duration::ZERO;
        upload
    }

    async fn watched(upload: &Upload) -> (Result<Done, Failed>, Vec<Event>) {
        let mut events = Vec::new();
        let result = upload.run(|event| events.push(event)).await;
        (result, events)
    }

    fn kinds(heard: &[Heard]) -> Vec<&str> {
        heard.iter().map(Heard::kind).collect()
    }

    fn troubles(events: &[Event]) -> usize {
        events
            .iter()
            .filter(|event| matches!(event, Event::Troubled { .. }))
            .count()
    }

    #[tokio::test]
    async fn a_file_arrives_over_one_connection_in_the_words_of_windows() {
        let server = Scripted::play([
            created("{A}"),
            received(200, 10_000),
            received(200, 20_000),
            received(200, 25_000),
            ok(),
        ]);
        let mut upload = upload(server.url());
        upload.options.content_name = Some("f.bin".to_owned());
        let host = server.address;
        let (done, events) = watched(&upload).await;
        let done = done.unwrap();
        assert_eq!((done.session.as_str(), done.fragments, done.bytes), ("{A}", 3, 25_000));
        assert!(!done.resumed && done.reply_url.is_none());
        assert_eq!(events.last(), Some(&Event::Closed));

        let heard = server.heard();
        let kinds = kinds(&heard);
        assert_eq!(
            kinds,
            ["Create-Session", "Fragment", "Fragment", "Fragment", "Close-Session"]
        );
        assert!(heard.iter().all(|request| request.connection == 0));
        let body: Vec<u8> = heard.iter().flat_map(|request| request.body.clone()).collect();
        assert_eq!(body, bytes(PATTERN));
        assert_eq!(
            heard[2].head,
            format!(
                "BITS_POST /up/f.bin?a=b HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: {{A}}\r\n\
                 Content-Name: f.bin\r\nContent-Range: bytes 10000-19999/25000\r\n\
                 User-Agent: Microsoft BITS/7.8 (bits-gateway upload)\r\nHost: {host}\r\nContent-Length: 10000\r\n\
                 Connection: Keep-Alive\r\n\r\n"
            )
        );
    }

    #[tokio::test]
    async fn a_file_of_no_bytes_arrives() {
        let server = Scripted::play([created("{A}"), received(200, 0), ok()]);
        let upload = Upload {
            source: Source::Bytes(Bytes::new()),
            ..upload(server.url())
        };
        let done = watched(&upload).await.0.unwrap();
        assert_eq!((done.total, done.fragments, done.bytes), (0, 1, 0));
        let heard = server.heard();
        assert_eq!(kinds(&heard), ["Create-Session", "Fragment", "Close-Session"]);
        assert_eq!(heard[1].range(), "bytes 0-0/0");
    }

    #[tokio::test]
    async fn a_file_on_disk_is_read_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.bin");
        let pattern = Pattern {
            seed: 3,
            length: 3_000_001,
        };
        std::fs::write(&path, bytes(pattern)).unwrap();
        let server = Scripted::play([created("{A}"), received(200, 2_000_000), received(200, 3_000_001), ok()]);
        let mut upload = Upload {
            source: Source::File(path),
            ..upload(server.url())
        };
        upload.options.sizes = Sizes::Fixed(2_000_000);
        let (done, events) = watched(&upload).await;
        done.unwrap();
        assert!(events.contains(&Event::Sent { offset: 2_000_000 }));
        let heard = server.heard();
        assert_eq!([&heard[1].body[..], &heard[2].body].concat(), bytes(pattern));
        assert_eq!(heard[1].header("Content-Name"), Some("big.bin"));
    }

    #[tokio::test]
    async fn the_offset_that_the_server_tells_is_followed_down_and_up() {
        let server = Scripted::play([
            created("{A}"),
            received(200, 10_000),
            received(416, 5),
            received(416, 15_000),
            received(200, 25_000),
            ok(),
        ]);
        let (done, events) = watched(&upload(server.url())).await;
        assert_eq!(done.unwrap().bytes, 40_000);
        assert_eq!(troubles(&events), 0);
        let heard = server.heard();
        let ranges: Vec<_> = heard.iter().map(Heard::range).collect();
        assert_eq!(
            ranges[1..5],
            [
                "bytes 0-9999/25000",
                "bytes 10000-19999/25000",
                "bytes 5-10004/25000",
                "bytes 15000-24999/25000"
            ]
        );
        assert_eq!(heard[3].body, bytes(PATTERN)[5..10_005]);
        assert_eq!(heard[4].body, bytes(PATTERN)[15_000..]);
    }

    #[tokio::test]
    async fn fragments_shrink_on_413_and_the_upload_fails_at_the_floor() {
        let too_large = || Reply::Say("HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n".to_owned());
        let server = Scripted::play([created("{A}"), too_large(), received(200, 5_120), too_large()]);
        let (failed, events) = watched(&upload(server.url())).await;
        let failed = failed.unwrap_err();
        assert!(matches!(&failed, Failed::Refused(Refusal { status: 413, .. })));
        assert_eq!(failed.exit_code(), 1);
        assert!(failed.advice().unwrap().contains("max_fragment_size"));
        assert!(events.contains(&Event::Shrunk { most: 5_120 }));
        let heard = server.heard();
        let lengths: Vec<_> = heard[1..].iter().map(|request| request.body.len()).collect();
        assert_eq!(lengths, [10_000, 5_120, 5_120]);
    }

    #[tokio::test]
    async fn a_lost_session_is_begun_again_from_the_old_offset_and_rewinds_when_told() {
        let server = Scripted::play([
            created("{A}"),
            received(200, 10_000),
            lost(),
            created("{B}"),
            received(416, 0),
            received(200, 10_000),
            received(200, 20_000),
            received(200, 25_000),
            ok(),
        ]);
        let (done, events) = watched(&upload(server.url())).await;
        assert_eq!(done.unwrap().session, "{B}");
        assert!(events.contains(&Event::SessionLost) && troubles(&events) == 0);
        let heard = server.heard();
        assert_eq!(heard[3].kind(), "Create-Session");
        assert_eq!(
            (heard[4].header("BITS-Session-Id"), heard[4].range()),
            (Some("{B}"), "bytes 10000-19999/25000")
        );
        assert_eq!(heard[5].range(), "bytes 0-9999/25000");
    }

    #[tokio::test]
    async fn a_503_is_followed_by_a_ping_and_the_same_fragment() {
        let server = Scripted::play([
            created("{A}"),
            say(503, "Retry-After: 0\r\n"),
            ok(),
            received(200, 10_000),
            received(200, 20_000),
            received(200, 25_000),
            say(500, ""),
            ok(),
            ok(),
        ]);
        let (done, events) = watched(&upload(server.url())).await;
        done.unwrap();
        assert_eq!(troubles(&events), 2);
        let heard = server.heard();
        let kinds = kinds(&heard);
        assert_eq!(kinds[1..4], ["Fragment", "Ping", "Fragment"]);
        assert_eq!(kinds[6..], ["Close-Session", "Ping", "Close-Session"]);
        assert_eq!(heard[1].range(), heard[3].range());
        assert_eq!(heard[2].header("BITS-Session-Id"), None);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_in_mid_body_is_replaced() {
        let server = Scripted::play([
            created("{A}"),
            received(200, 10_000),
            Reply::Cut(4_000),
            ok(),
            received(416, 14_000),
            received(200, 24_000),
            received(200, 25_000),
            ok(),
        ]);
        let (done, events) = watched(&upload(server.url())).await;
        done.unwrap();
        assert_eq!(troubles(&events), 1);
        let heard = server.heard();
        assert_eq!(heard[2].body.len(), 4_000);
        assert_eq!(kinds(&heard)[2..5], ["Fragment", "Ping", "Fragment"]);
        assert_eq!((heard[2].connection, heard[3].connection), (0, 1));
        assert_eq!(heard[5].range(), "bytes 14000-23999/25000");
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_a_large_body_is_through_is_not_lost() {
        let pattern = Pattern {
            seed: 1,
            length: 60_000_000,
        };
        let early = |status, lines| Reply::Interrupt(answer(status, lines));
        let server = Scripted::play([
            created("{A}"),
            early(413, ""),
            early(416, "BITS-Received-Content-Range: 59999999\r\n"),
            received(200, 60_000_000),
            ok(),
        ]);
        let mut upload = Upload {
            source: Source::Pattern(pattern),
            ..upload(server.url())
        };
        upload.options.sizes = Sizes::Fixed(pattern.length);
        let (done, events) = watched(&upload).await;
        done.unwrap();
        assert_eq!(troubles(&events), 0, "{events:?}");
        assert!(events.contains(&Event::Shrunk { most: 30_000_000 }));
        let sent_whole = |event: &Event| matches!(event, Event::Sent { offset: 30_000_000 });
        assert!(
            !events.iter().any(sent_whole),
            "the body was sent although the answer was there"
        );
        assert_eq!(server.heard()[3].body.len(), 1);
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over() {
        let create = answer(
            200,
            "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nBITS-Session-Id: x\r\n",
        );
        let server = Scripted::play([
            Reply::Say(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\n{create}")),
            received(200, 25_000),
            ok(),
        ]);
        assert_eq!(watched(&upload(server.url())).await.0.unwrap().session, "x");
        server.heard();
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_while_it_was_idle_is_no_trouble() {
        let server = Scripted::play([
            created("{A}"),
            Reply::SayAndClose(answer(200, "BITS-Received-Content-Range: 25000\r\n")),
            ok(),
        ]);
        let (done, events) = watched(&upload(server.url())).await;
        done.unwrap();
        assert_eq!(troubles(&events), 0);
        let connections: Vec<_> = server.heard().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1]);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_left_after_the_time_out() {
        let server = Scripted::play([Reply::Silence, created("{A}"), received(200, 25_000), ok()]);
        let mut upload = upload(server.url());
        upload.options.response_timeout = Duration::from_secs(1);
        let (done, events) = watched(&upload).await;
        done.unwrap();
        let took_too_long = |event: &Event| matches!(event, Event::Troubled { trouble: Trouble::Transport(text), .. } if text.contains("took too long"));
        assert!(events.iter().any(took_too_long), "{events:?}");
        server.heard();
    }

    #[tokio::test]
    async fn the_named_host_gets_a_ping_and_the_rest() {
        let node = Scripted::play([ok(), received(200, 25_000), ok()]);
        let host = format!("localhost:{}", node.address.port());
        let front = Scripted::play([say(
            200,
            &format!(
                "BITS-Protocol: {{7df0354d-249b-430f-820d-3d2a9bef4931}}\r\nBITS-Session-Id: {{A}}\r\nBITS-Host-Id: {host}\r\n"
            ),
        )]);
        watched(&upload(front.url())).await.0.unwrap();
        assert_eq!(kinds(&front.heard()), ["Create-Session"]);
        let heard = node.heard();
        assert_eq!(kinds(&heard), ["Ping", "Fragment", "Close-Session"]);
        assert!(heard.iter().all(|request| request.header("Host") == Some(&host)));
    }

    #[tokio::test]
    async fn a_named_host_that_fails_is_given_up_for_the_host_of_the_url() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let front = Scripted::play([
            say(
                200,
                &format!(
                    "BITS-Protocol: {{7df0354d-249b-430f-820d-3d2a9bef4931}}\r\nBITS-Session-Id: {{A}}\r\n\
                     BITS-Host-Id: {gone}\r\nBITS-Host-Id-Fallback-Timeout: 0\r\n"
                ),
            ),
            ok(),
            lost(),
            created("{B}"),
            received(200, 25_000),
            ok(),
        ]);
        let (done, events) = watched(&upload(front.url())).await;
        assert_eq!(done.unwrap().session, "{B}");
        assert!(events.iter().any(|event| matches!(
            event,
            Event::Troubled {
                back_to_origin: true,
                ..
            }
        )));
        let heard = front.heard();
        assert_eq!(
            kinds(&heard),
            [
                "Create-Session",
                "Ping",
                "Fragment",
                "Create-Session",
                "Fragment",
                "Close-Session"
            ]
        );
    }

    #[tokio::test]
    async fn fatal_answers_end_the_upload_and_say_why() {
        for (status, lines, words) in [
            (
                403,
                "BITS-Error: 0x80070005\r\nBITS-Error-Context: 0x5\r\n",
                "HTTP 403 Forbidden, 0x80070005 E_ACCESSDENIED",
            ),
            (
                400,
                "BITS-Error-Code: 0x80070057\r\nBITS-Error-Context: 0x5\r\n",
                "HTTP 400 Bad Request, 0x80070057 E_INVALIDARG",
            ),
            (
                501,
                "BITS-Error: 0x80070005\r\nBITS-Error-Context: 0x5\r\n",
                "HTTP 501 Not Implemented, 0x80070005",
            ),
            (404, "", "HTTP 404 Not Found"),
        ] {
            let server = Scripted::play([say(status, lines)]);
            let (failed, _) = watched(&upload(server.url())).await;
            let failed = failed.unwrap_err();
            let text = failed.to_string();
            assert!(
                text.starts_with("the server answered the Create-Session with ") && text.contains(words),
                "{text}"
            );
            assert_eq!(text.contains("context 0x5"), !lines.is_empty());
            assert!(failed.advice().is_some());
            assert_eq!(failed.exit_code(), 1);
            server.heard();
        }
    }

    #[tokio::test]
    async fn a_server_that_knows_no_bits_is_told_from_one_that_does() {
        let server = Scripted::play([Reply::Say(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        )]);
        let failed = watched(&upload(server.url())).await.0.unwrap_err();
        assert!(matches!(failed, Failed::NotBits(_)));
        assert_eq!(failed.exit_code(), 1);
        server.heard();
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = Url::parse(&format!("http://{gone}/f")).unwrap();
        let failed = watched(&impatient(upload(url))).await.0.unwrap_err();
        assert!(matches!(failed, Failed::Unavailable { .. }), "{failed}");
        assert_eq!(failed.exit_code(), 69);
    }

    #[tokio::test]
    async fn urls_that_can_not_be_uploaded_to_are_a_mistake() {
        for url in ["ftp://h/f", "http://user:secret@h/f", "file:///f"] {
            let failed = watched(&upload(Url::parse(url).unwrap())).await.0.unwrap_err();
            assert_eq!(failed.exit_code(), 64, "{failed}");
        }
    }

    fn with_state(mut upload: Upload, folder: &Path) -> Upload {
        let file = folder.join("f.bin");
        if !file.exists() {
            std::fs::write(&file, bytes(PATTERN)).unwrap();
        }
        upload.source = Source::File(file);
        upload.options.state = Some(folder.join("state"));
        upload
    }

    #[tokio::test]
    async fn the_session_is_on_disk_before_the_first_fragment_is_sent_and_gone_after_the_close() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let server = Scripted::play([created("{A}"), received(200, 10_000), received(200, 25_000), ok()]);
        let upload = with_state(upload(server.url()), folder.path());
        let mut saved = Vec::new();
        let watch = |event| {
            if let Event::Sending(packet) = event {
                let text = std::fs::read_to_string(&state).unwrap_or_default();
                let known: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                saved.push((packet.kind(), known["session"] == "{A}", known["offset"].as_u64()));
            }
        };
        upload.run(watch).await.unwrap();
        assert_eq!(
            saved,
            [
                (PacketKind::CreateSession, false, None),
                (PacketKind::Fragment, true, Some(0)),
                (PacketKind::Fragment, true, Some(10_000)),
                (PacketKind::CloseSession, true, Some(25_000)),
            ]
        );
        assert!(!state.exists());
        server.heard();
    }

    /// Two runs of the same command; the first one dies where the script says.
    async fn two_runs(
        first: Vec<Reply>,
        change: impl FnOnce(&TempDir),
        second: Vec<Reply>,
    ) -> (Result<Done, Failed>, Vec<Heard>) {
        let folder = tempfile::tempdir().unwrap();
        let server = Scripted::play(first.into_iter().chain([say(503, "")]).chain(second));
        let run = with_state(upload(server.url()), folder.path());
        let failed = watched(&impatient(run.clone())).await.0.unwrap_err();
        assert!(
            failed
                .advice()
                .unwrap()
                .ends_with("The same command goes on where this one stopped.")
        );
        change(&folder);
        let result = watched(&run).await.0;
        (result, server.heard())
    }

    #[tokio::test]
    async fn the_same_command_goes_on_with_a_ping_and_the_next_fragment() {
        let (done, heard) = two_runs(
            vec![created("{A}"), received(200, 10_000)],
            |_| {},
            vec![ok(), received(200, 20_000), received(200, 25_000), ok()],
        )
        .await;
        let done = done.unwrap();
        assert!(done.resumed);
        assert_eq!((done.session.as_str(), done.bytes), ("{A}", 15_000));
        assert_eq!(kinds(&heard)[3..], ["Ping", "Fragment", "Fragment", "Close-Session"]);
        assert_eq!(heard[4].range(), "bytes 10000-19999/25000");
        assert_eq!(heard[4].header("BITS-Session-Id"), Some("{A}"));
    }

    #[tokio::test]
    async fn the_same_command_closes_what_only_needs_closing() {
        let (done, heard) = two_runs(vec![created("{A}"), received(200, 25_000)], |_| {}, vec![ok(), ok()]).await;
        assert_eq!(done.unwrap().bytes, 0);
        assert_eq!(kinds(&heard)[2..], ["Close-Session", "Ping", "Close-Session"]);
    }

    #[tokio::test]
    async fn a_file_that_changed_between_two_runs_is_not_mixed_with_the_old_one() {
        let change = |folder: &TempDir| std::fs::write(folder.path().join("f.bin"), b"another").unwrap();
        let (failed, heard) = two_runs(vec![created("{A}"), received(200, 10_000)], change, vec![ok()]).await;
        let failed = failed.unwrap_err();
        assert!(matches!(failed, Failed::Source(SourceError::Changed)));
        assert_eq!(failed.exit_code(), 1);
        assert!(failed.advice().unwrap().contains("--restart"));
        assert_eq!(heard.len(), 3, "nothing more was sent");
    }

    #[tokio::test]
    async fn a_file_that_changes_during_the_upload_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let server = Scripted::play([created("{A}"), received(200, 10_000), received(200, 20_000)]);
        let upload = with_state(upload(server.url()), folder.path());
        let watch = |event| {
            if matches!(event, Event::Stored { offset: 10_000 }) {
                std::fs::write(folder.path().join("f.bin"), b"another").unwrap();
            }
        };
        assert!(matches!(
            upload.run(watch).await,
            Err(Failed::Source(SourceError::Changed))
        ));
        assert_eq!(server.heard().len(), 2);
    }

    /// An authority and a certificate of it for 127.0.0.1, in `folder`.
    fn certificates(folder: &Path) -> rustls::ServerConfig {
        let openssl = |arguments: &str| {
            let output = std::process::Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder)
                .output()
                .expect("the openssl command is needed for this test");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
        ));
        openssl(&format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=server"));
        std::fs::write(
            folder.join("leaf.ext"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile leaf.ext",
        );
        let chain = CertificateDer::pem_file_iter(folder.join("leaf.pem"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_file(folder.join("leaf.key")).unwrap();
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    #[tokio::test]
    async fn https_works_with_the_authority_that_is_named_and_with_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let config = certificates(folder.path());
        let pattern = Pattern {
            seed: 5,
            length: 2_000_000,
        };
        let replies = [created("{A}"), received(200, 1_500_000), received(200, 2_000_000), ok()];
        for named in [true, false] {
            let server = Scripted::play_tls(config.clone(), replies.clone());
            let url = server.url().to_string().replace("http://", "https://");
            let mut upload = Upload {
                source: Source::Pattern(pattern),
                ..upload(Url::parse(&url).unwrap())
            };
            upload.options.sizes = Sizes::Fixed(1_500_000);
            upload.options.ca_file = named.then(|| folder.path().join("ca.pem"));
            if !named {
                // Another authority, so that the test does not depend on those of the machine.
                let other = tempfile::tempdir().unwrap();
                certificates(other.path());
                std::fs::rename(other.path().join("ca.pem"), folder.path().join("other.pem")).unwrap();
                upload.options.ca_file = Some(folder.path().join("other.pem"));
            }
            let (result, events) = watched(&upload).await;
            let heard = server.heard();
            if named {
                result.unwrap();
                assert_eq!(troubles(&events), 0);
                assert!(heard.iter().all(|request| request.connection == 0));
                assert_eq!([&heard[1].body[..], &heard[2].body].concat(), bytes(pattern));
            } else {
                let failed = result.unwrap_err();
                assert!(matches!(failed, Failed::Untrusted { .. }), "{failed}");
                assert!(failed.advice().unwrap().contains("--ca-file"));
                assert!(heard.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn an_answer_over_tls_that_comes_before_a_large_body_is_through_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let config = certificates(folder.path());
        let server = Scripted::play_tls(
            config,
            [
                created("{A}"),
                Reply::Interrupt(answer(416, "BITS-Received-Content-Range: 59999999\r\n")),
                received(200, 60_000_000),
                ok(),
            ],
        );
        let url = server.url().to_string().replace("http://", "https://");
        let source = Source::Pattern(Pattern {
            seed: 1,
            length: 60_000_000,
        });
        let mut upload = Upload {
            source,
            ..upload(Url::parse(&url).unwrap())
        };
        upload.options.sizes = Sizes::Fixed(60_000_000);
        upload.options.ca_file = Some(folder.path().join("ca.pem"));
        let (done, events) = watched(&upload).await;
        done.unwrap();
        assert_eq!(troubles(&events), 0, "{events:?}");
        server.heard();
    }

    #[tokio::test]
    async fn a_file_without_certificates_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();
        for name in ["empty.pem", "none.pem"] {
            let mut upload = upload(Url::parse("https://127.0.0.1:1/f").unwrap());
            upload.options.ca_file = Some(folder.path().join(name));
            assert_eq!(watched(&upload).await.0.unwrap_err().exit_code(), 64);
        }
    }

    #[test]
    fn codes_are_told_with_their_names() {
        let refusal = Refusal {
            packet: PacketKind::Fragment,
            status: 500,
            error: Some(Hresult::TOO_LARGE),
            context: None,
        };
        assert_eq!(
            refusal.to_string(),
            "the server answered the Fragment with HTTP 500 Internal Server Error, 0x80200020 BG_E_TOO_LARGE"
        );
    }
}
