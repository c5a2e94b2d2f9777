//! The load: whole uploads over blocking sockets, one thread for each connection, nothing computed while the clock runs.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bits_gateway::bits::PROTOCOL;

use crate::content;

/// The round in which every byte is looked at.
pub(crate) const LOOK: &str = "look";

/// The name of the file that is fetched, below `/up/`.
pub(crate) const FILE: &str = "file";

/// Bytes of a chunk of tus: what its store takes as a part.
const CHUNK: u64 = 8 << 20;

/// What is read at once of an answer.
const AT_ONCE: usize = 256 << 10;

/// How the bytes are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// Sessions of BITS.
    Sessions,
    /// The same, but each packet goes to the next of several servers.
    Roaming,
    /// One `PUT` for each fragment, each a file of its own.
    Puts,
    /// Pings, one for each fragment.
    Pings,
    /// One `GET` for each fragment, always of the same file, which is as long.
    Gets,
    /// Uploads of tus 1.0, in chunks of [`CHUNK`] whatever the fragment is.
    Tus,
}

/// What every connection does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) fragment: u64,
    /// Fragments of one file.
    pub(crate) fragments: u64,
    /// Files of one connection, one after the other.
    pub(crate) files: u64,
    pub(crate) connections: u64,
}

impl Load {
    /// Files of about `file` bytes over these connections, about `total` bytes in all.
    pub(crate) fn of(fragment: u64, connections: u64, file: u64, total: u64) -> Self {
        let fragments = (file / fragment).max(1);
        Self {
            fragment,
            fragments,
            files: (total / (connections * fragments * fragment)).max(1),
            connections,
        }
    }

    pub(crate) const fn file(&self) -> u64 {
        self.fragment * self.fragments
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.file() * self.files * self.connections
    }

    pub(crate) const fn requests(&self) -> u64 {
        self.fragments * self.files * self.connections
    }

    /// The names of all files of a round, below `/up/`.
    pub(crate) fn names(&self, style: Style, round: &str) -> Vec<(String, u64, u64)> {
        let mut names = Vec::new();
        for connection in 0..self.connections {
            for file in 0..self.files {
                let name = format!("{round}-{connection}-{file}");
                match style {
                    Style::Sessions | Style::Roaming | Style::Tus => names.push((name, 0, self.file())),
                    Style::Puts => names.extend((0..self.fragments).map(|fragment| {
                        let from = fragment * self.fragment;
                        (format!("{name}-{from}"), from, self.fragment)
                    })),
                    Style::Pings | Style::Gets => {}
                }
            }
        }
        names
    }
}

/// How it went.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) time: Duration,
    /// Of each fragment, from its first byte to its answer; in order.
    answers: Vec<Duration>,
}

impl Ran {
    pub(crate) fn new(time: Duration, mut answers: Vec<Duration>) -> Self {
        answers.sort_unstable();
        Self { time, answers }
    }

    /// The time in which this share of the answers came.
    pub(crate) fn within(&self, share: f64) -> Duration {
        let rank = (self.answers.len() as f64 * share).ceil() as usize;
        let at = rank.saturating_sub(1).min(self.answers.len().saturating_sub(1));
        self.answers.get(at).copied().unwrap_or_default()
    }
}

/// Sends all of it to `addresses`, which the connections share; `round` tells its files from those of other rounds.
pub(crate) fn run(addresses: &[SocketAddr], style: Style, load: Load, round: &str) -> io::Result<Ran> {
    // Made before the clock runs.
    content::at(0, 1);
    let ready = Barrier::new(usize::try_from(load.connections).expect("few") + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections)
            .map(|connection| {
                let (ready, prefix) = (&ready, format!("{round}-{connection}"));
                let own = addresses.iter().cycle().skip(usize::try_from(connection).expect("few"));
                let own = own.take(if style == Style::Roaming { addresses.len() } else { 1 });
                let own: Vec<_> = own.copied().collect();
                scope.spawn(move || {
                    let clients: io::Result<Vec<_>> = own.into_iter().map(Client::connect).collect();
                    ready.wait();
                    match clients?.as_mut_slice() {
                        [client] => client.all(style, load, &prefix, round == LOOK),
                        clients => roam(clients, load, &prefix),
                    }
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        let mut answers = Vec::new();
        for thread in threads {
            answers.extend(thread.join().expect("no panic")?);
        }
        Ok(Ran::new(begin.elapsed(), answers))
    })
}

/// Whole uploads, each packet to the next server.
fn roam(clients: &mut [Client], load: Load, prefix: &str) -> io::Result<Vec<Duration>> {
    let mut turns = (0..clients.len()).cycle();
    let mut next = || turns.next().expect("it never ends");
    let mut answers = Vec::new();
    for file in 0..load.files {
        let path = format!("/up/{prefix}-{file}");
        let session = clients[next()].create(&path)?;
        for from in (0..load.fragments).map(|index| index * load.fragment) {
            let begin = Instant::now();
            clients[next()].fragment(&path, &session, from, load.fragment, load.file())?;
            answers.push(begin.elapsed());
        }
        clients[next()].close(&path, &session)?;
    }
    Ok(answers)
}

/// An answer, as far as anybody here looks at it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // Whatever hangs shall not hang for ever.
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        stream.set_write_timeout(Some(Duration::from_secs(300)))?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    fn all(&mut self, style: Style, load: Load, prefix: &str, looks: bool) -> io::Result<Vec<Duration>> {
        let mut answers = Vec::with_capacity(usize::try_from(load.fragments * load.files).expect("few"));
        for file in 0..load.files {
            let path = format!("/up/{prefix}-{file}");
            match style {
                Style::Sessions | Style::Roaming => self.session(&path, load.fragment, load.fragments, &mut answers)?,
                Style::Puts => {
                    for from in (0..load.file()).step_by(usize::try_from(load.fragment).expect("small")) {
                        let head = format!(
                            "PUT {path}-{from} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n",
                            load.fragment
                        );
                        let begin = Instant::now();
                        let answer = self.exchange(&head, piece(from, load.fragment))?;
                        answers.push(begin.elapsed());
                        expect(&answer, &[200, 201, 204], &head)?;
                    }
                }
                Style::Tus => self.tus(&format!("{prefix}-{file}"), load.file(), &mut answers)?,
                Style::Gets => {
                    for _ in 0..load.fragments {
                        let begin = Instant::now();
                        self.fetch(&format!("/up/{FILE}"), load.fragment, looks)?;
                        answers.push(begin.elapsed());
                    }
                }
                Style::Pings => {
                    let head = format!(
                        "BITS_POST {path} HTTP/1.1\r\nHost: bench\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
                    );
                    for _ in 0..load.fragments {
                        let begin = Instant::now();
                        let answer = self.exchange(&head, &[])?;
                        answers.push(begin.elapsed());
                        expect(&answer, &[200], &head)?;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// A whole upload by a client that comes again when it is told to. How often it was.
    pub(crate) fn patient_session(&mut self, path: &str, fragment: u64, fragments: u64) -> io::Result<u64> {
        let mut told = 0;
        let session = self.patiently(&mut told, |client| client.create(path))?;
        let total = fragment * fragments;
        for from in (0..fragments).map(|index| index * fragment) {
            self.patiently(&mut told, |client| {
                client.fragment(path, &session, from, fragment, total)
            })?;
        }
        self.patiently(&mut told, |client| client.close(path, &session))?;
        Ok(told)
    }

    fn patiently<T>(&mut self, told: &mut u64, ask: impl Fn(&mut Self) -> io::Result<T>) -> io::Result<T> {
        loop {
            match ask(self) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    *told += 1;
                    #[expect(clippy::disallowed_methods, reason = "a client that was told to come later")]
                    thread::sleep(Duration::from_secs(1));
                    *self = Self::connect(self.stream.peer_addr()?)?;
                }
                answered => return answered,
            }
        }
    }

    /// A whole upload.
    pub(crate) fn session(
        &mut self,
        path: &str,
        fragment: u64,
        fragments: u64,
        answers: &mut Vec<Duration>,
    ) -> io::Result<()> {
        let session = self.create(path)?;
        let total = fragment * fragments;
        for from in (0..fragments).map(|index| index * fragment) {
            let begin = Instant::now();
            self.fragment(path, &session, from, fragment, total)?;
            answers.push(begin.elapsed());
        }
        self.close(path, &session)
    }

    pub(crate) fn create(&mut self, path: &str) -> io::Result<String> {
        let head = format!(
            "BITS_POST {path} HTTP/1.1\r\nHost: bench\r\nBITS-Packet-Type: Create-Session\r\n\
             BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = self.exchange(&head, &[])?;
        expect(&answer, &[200], &head)?;
        let session = answer.header("BITS-Session-Id");
        session.map(str::to_owned).ok_or_else(|| odd(&answer, &head))
    }

    pub(crate) fn fragment(&mut self, path: &str, session: &str, from: u64, length: u64, total: u64) -> io::Result<()> {
        let last = from + length - 1;
        let head = format!(
            "BITS_POST {path} HTTP/1.1\r\nHost: bench\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: {session}\r\n\
             Content-Range: bytes {from}-{last}/{total}\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = self.exchange(&head, piece(from, length))?;
        expect(&answer, &[200], &head)?;
        let next = answer.header("BITS-Received-Content-Range");
        match next.and_then(|next| next.parse::<u64>().ok()) {
            Some(next) if from + length == next => Ok(()),
            _ => Err(odd(&answer, &head)),
        }
    }

    pub(crate) fn close(&mut self, path: &str, session: &str) -> io::Result<()> {
        let head = format!(
            "BITS_POST {path} HTTP/1.1\r\nHost: bench\r\nBITS-Packet-Type: Close-Session\r\n\
             BITS-Session-Id: {session}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = self.exchange(&head, &[])?;
        expect(&answer, &[200], &head)
    }

    /// A whole upload of tus: the server takes the name from a header, since what the protocol has for it is in Base64.
    fn tus(&mut self, name: &str, total: u64, answers: &mut Vec<Duration>) -> io::Result<()> {
        let head = format!(
            "POST /up HTTP/1.1\r\nHost: bench\r\nTus-Resumable: 1.0.0\r\nUpload-Length: {total}\r\nX-Name: {name}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let answer = self.exchange(&head, &[])?;
        expect(&answer, &[201], &head)?;
        let location = answer
            .header("Location")
            .and_then(|url| url.find("/up/").map(|at| url[at..].to_owned()));
        let location = location.ok_or_else(|| odd(&answer, &head))?;
        for from in (0..total).step_by(usize::try_from(CHUNK).expect("small")) {
            let length = CHUNK.min(total - from);
            let head = format!(
                "PATCH {location} HTTP/1.1\r\nHost: bench\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {from}\r\n\
                 Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
            );
            let begin = Instant::now();
            let answer = self.exchange(&head, piece(from, length))?;
            answers.push(begin.elapsed());
            expect(&answer, &[204], &head)?;
            if answer.header("Upload-Offset").and_then(|next| next.parse().ok()) != Some(from + length) {
                return Err(odd(&answer, &head));
            }
        }
        Ok(())
    }

    /// Fetches a file of this length, and compares it if that is asked for.
    fn fetch(&mut self, path: &str, length: u64, looks: bool) -> io::Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(head.as_bytes())?;
        let answer = self.head()?;
        expect(&answer, &[200], &head)?;
        if answer.header("Content-Length").and_then(|length| length.parse().ok()) != Some(length) {
            return Err(odd(&answer, &head));
        }
        let mut at = answer.body.len() as u64;
        let mut right = !looks || content::is_at(0, &answer.body);
        let mut buffer = std::mem::take(&mut self.read);
        buffer.resize(AT_ONCE, 0);
        while at < length {
            let most = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            right &= !looks || content::is_at(at, &buffer[..read]);
            at += read as u64;
        }
        self.read = buffer;
        if right { Ok(()) } else { Err(odd(&answer, &head)) }
    }

    /// A request without a body, and its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> io::Result<Answer> {
        self.exchange(
            &format!("{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n"),
            &[],
        )
    }

    pub(crate) fn exchange(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        // Head and body leave in one call, as they do from a client that is in a hurry.
        let mut pieces = [IoSlice::new(head.as_bytes()), IoSlice::new(body)];
        let mut pieces = &mut pieces[..];
        while pieces.iter().any(|piece| !piece.is_empty()) {
            match self.stream.write_vectored(pieces) {
                Ok(sent) => IoSlice::advance_slices(&mut pieces, sent),
                // Who refuses a body may hang up before it has read it all.
                Err(error) => return self.answer().map_err(|_| error),
            }
        }
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head()?;
        let length = answer.header("Content-Length").and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or(0);
        if let Some(missing) = length.checked_sub(answer.body.len()) {
            let from = answer.body.len();
            answer.body.resize(from + missing, 0);
            self.stream.read_exact(&mut answer.body[from..])?;
        }
        Ok(answer)
    }

    /// The head of an answer, and what came with it of its body.
    fn head(&mut self) -> io::Result<Answer> {
        self.read.clear();
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer {
            status,
            head,
            body: self.read.split_off(end),
        })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.read.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

fn piece(from: u64, length: u64) -> &'static [u8] {
    content::at(from, usize::try_from(length).expect("a fragment fits into memory"))
}

fn expect(answer: &Answer, statuses: &[u16], head: &str) -> io::Result<()> {
    if statuses.contains(&answer.status) {
        Ok(())
    } else {
        Err(odd(answer, head))
    }
}

fn odd(answer: &Answer, head: &str) -> io::Error {
    let body = String::from_utf8_lossy(&answer.body);
    let kind = match answer.status {
        503 => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{head}was answered\n{}{body}", answer.head))
}
