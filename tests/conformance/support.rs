//! A gateway without sockets over stores in memory, and what its Acks have to look like.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bits_gateway::bits::{Ack, HostId, SessionId};
use bits_gateway::budget::Budget;
use bits_gateway::client::raw::Packet;
use bits_gateway::clock::SystemClock;
use bits_gateway::gateway::{Clerk, Destination, MethodOverride, PacketHead, Route};
use bits_gateway::metrics::Metrics;
use bits_gateway::session::Principal;
use bits_gateway::store::{Key, Name, Settings, Store};
use bits_gateway::upload::{Body, BodyBroken, Checksum, Coordination, Durability, Place, Rules, Taking, Uploads};
use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};

pub const SESSION_NOT_FOUND: &str = "0x8020001F";
pub const ACCESS_DENIED: &str = "0x80070005";
pub const INVALID_ARGUMENT: &str = "0x80070057";
pub const TOO_LARGE: &str = "0x80200020";
pub const DISK_FULL: &str = "0x80070070";

/// The protocol's one GUID (MC-BUP 1.7.1).
pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// A session id that was never given out.
pub const STRANGER: &str = "{01234567-89AB-4CDE-8F01-23456789ABCD}";

/// How long anything may take before a test gives up. Far more than it takes: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a part in these tests: small, so that small files have several.
pub const PART: u64 = 1024;

/// Sizes of files around those at which something changes: none, one byte, a little, a part exactly and more, several parts.
pub const SIZES: [u64; 7] = [0, 1, 10, PART - 1, PART, PART + 1, 5 * PART + 100];

/// What an Ack tells: its status and its headers, spelled as they were sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
}

/// An Ack with this status and the headers that every one has. What else is expected of it is added by the methods.
pub fn ack(status: u16) -> Told {
    let told = Told {
        status,
        headers: BTreeMap::new(),
    };
    told.with("Pragma", "no-cache")
        .with("BITS-Packet-Type", "Ack")
        .with("Content-Length", "0")
}

impl Told {
    /// With these headers, each of which may be there once.
    pub fn new<'a>(status: u16, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let told = Self {
            status,
            headers: BTreeMap::new(),
        };
        headers
            .into_iter()
            .fold(told, |told, (name, value)| told.with(name, value))
    }

    /// With this header as well.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let twice = self.headers.insert(name.to_owned(), value.to_owned());
        assert_eq!(twice, None, "{name} twice: {self:?}");
        self
    }

    /// About this session, as the client wrote it.
    pub fn of(self, session: &str) -> Self {
        self.with("BITS-Session-Id", session)
    }

    /// Telling the next offset.
    pub fn next(self, offset: u64) -> Self {
        self.with("BITS-Received-Content-Range", &offset.to_string())
    }

    /// Telling an error that the server found, under both names and with its context.
    pub fn error(self, code: &str) -> Self {
        self.with("BITS-Error", code)
            .with("BITS-Error-Code", code)
            .with("BITS-Error-Context", "0x5")
    }

    /// The value of a header in this spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl From<&Ack> for Told {
    fn from(ack: &Ack) -> Self {
        let headers: Vec<_> = ack.headers().collect();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, text(value))).collect();
        Self::new(
            ack.status(),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
        )
    }
}

/// A file on its way to the gateway.
#[derive(Clone, Debug)]
pub struct Upload {
    pub target: String,
    /// The session, as the gateway named it.
    pub id: String,
    pub file: Vec<u8>,
}

impl Upload {
    /// The head of the fragment that carries `range` of the file.
    pub fn fragment(&self, range: Range<u64>) -> Packet {
        Packet::fragment(&self.target, &self.id, range, self.file.len() as u64)
    }

    /// The bytes of `range`.
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        &self.file[range.start as usize..range.end as usize]
    }

    /// The bytes in the file.
    pub fn size(&self) -> u64 {
        self.file.len() as u64
    }
}

/// Something that takes packets: the clerk, or a connection.
pub trait Door {
    /// Sends a packet and says what is told.
    async fn ask(&self, packet: &Packet, body: &[u8]) -> Told;

    /// Begins a session for `file`.
    async fn begin(&self, target: &str, file: &[u8]) -> Upload {
        let told = self.ask(&Packet::create_session(target), b"").await;
        assert_eq!(told.status, 200, "{told:?}");
        let id = told.header("BITS-Session-Id").expect("a session").to_owned();
        Upload {
            target: target.to_owned(),
            id,
            file: file.to_owned(),
        }
    }

    /// Sends `range` of the file.
    async fn send(&self, upload: &Upload, range: Range<u64>) -> Told {
        self.ask(&upload.fragment(range.clone()), upload.bytes(range)).await
    }

    /// Sends `range` of the file, and it is taken.
    async fn store(&self, upload: &Upload, range: Range<u64>) {
        let next = range.end;
        assert_eq!(
            self.send(upload, range).await,
            ack(200).of(&upload.id).next(next),
            "{upload:?}"
        );
    }

    /// Closes the session.
    async fn close(&self, upload: &Upload) -> Told {
        self.ask(&Packet::close_session(&upload.target, &upload.id), b"").await
    }

    /// Cancels the session.
    async fn cancel(&self, upload: &Upload) -> Told {
        self.ask(&Packet::cancel_session(&upload.target, &upload.id), b"").await
    }

    /// Where the session stands, asked by a fragment that is none: it changes nothing.
    async fn next_of(&self, upload: &Upload) -> Option<u64> {
        let told = self.ask(&upload.fragment(0..0).without("Content-Range"), b"").await;
        assert_eq!(told.status, 400, "{told:?}");
        told.header("BITS-Received-Content-Range")
            .map(|next| next.parse().expect("a number"))
    }

    /// Uploads a whole file.
    async fn put(&self, target: &str, file: &[u8]) -> Upload {
        let upload = self.begin(target, file).await;
        self.store(&upload, 0..upload.size()).await;
        assert_eq!(self.close(&upload).await, ack(200).of(&upload.id));
        upload
    }
}

/// A route of a gateway.
#[derive(Clone)]
pub struct Room {
    pub place: Arc<Place>,
    pub upload: Taking,
    pub host_id: Option<HostId>,
    pub open: Arc<AtomicBool>,
}

impl Room {
    /// `/up/` over an empty store in memory, without overwriting.
    pub fn new() -> Self {
        Self::over(Store::memory())
    }

    pub fn over(store: Store) -> Self {
        let rules = Rules {
            overwrite: false,
            max_upload_size: 1 << 40,
            max_fragment_size: 64 << 20,
            part_size: PART,
            session_timeout: Duration::from_secs(14 * 24 * 3600),
            closed_session_memory: Duration::from_secs(14 * 24 * 3600),
            durability: Durability::Fragment,
            coordination: Coordination::Shared,
            checksum: Checksum::Off,
            checksum_sidecar: false,
        };
        let place = Place {
            route: "/up/".to_owned(),
            store,
            rules,
            application: None,
            events: None,
        };
        Self {
            place: Arc::new(place),
            upload: Taking::Yes,
            host_id: None,
            open: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The same route elsewhere.
    pub fn at(self, route: &str) -> Self {
        self.placed(|place| route.clone_into(&mut place.route))
    }

    /// With other rules.
    pub fn ruled(self, change: impl FnOnce(&mut Rules)) -> Self {
        self.placed(|place| change(&mut place.rules))
    }

    /// With a server application.
    pub fn telling(self, settings: &bits_gateway::notify::Settings) -> Self {
        let messenger = bits_gateway::notify::Messenger::new(settings).expect("settings that hold together");
        self.placed(|place| place.application = messenger.map(Arc::new))
    }

    /// With overwriting.
    pub fn overwriting(self) -> Self {
        self.ruled(|rules| rules.overwrite = true)
    }

    /// Without uploads.
    pub fn disabled(self) -> Self {
        Self {
            upload: Taking::No,
            ..self
        }
    }

    fn placed(self, change: impl FnOnce(&mut Place)) -> Self {
        let mut place = Place {
            route: self.place.route.clone(),
            store: self.place.store.clone(),
            rules: self.place.rules.clone(),
            application: self.place.application.clone(),
            events: None,
        };
        change(&mut place);
        Self {
            place: Arc::new(place),
            ..self
        }
    }

    pub fn route(&self) -> Route {
        Route {
            place: Arc::clone(&self.place),
            path: self.place.route.clone(),
            host: None,
            host_id: self.host_id.clone(),
            upload: self.upload,
            method_override: MethodOverride::Off,
            download: true,
            upstream: None,
            open: Arc::clone(&self.open),
            trouble: Arc::default(),
        }
    }

    /// The content of a file.
    pub async fn file(&self, key: &str) -> Option<Vec<u8>> {
        let key = Key::parse(key).expect("a key");
        self.place.store.look(&key).await.expect("a store")?;
        let read = self.place.store.read(&key, None, None).await.expect("a file");
        let pieces: Vec<Bytes> = read.stream.try_collect().await.expect("a file");
        Some(pieces.concat())
    }

    /// What lies in the store for a session beside its record: tails, pages and unfinished multipart uploads.
    pub async fn staged(&self, upload: &Upload) -> usize {
        let store = &self.place.store;
        let id: SessionId = upload.id.parse().expect("a session");
        let objects = store.list_session(id).await.expect("a store");
        let key = Key::from_request(self.below(&upload.target)).expect("a key");
        let uploads = store.list_uploads(&key).await.expect("a store");
        let beside = objects.iter().filter(|object| object.name != Name::Record).count();
        beside + uploads.len()
    }

    /// Waits until nothing of that is left: what is refused is given up when its parts have landed.
    pub async fn cleared(&self, upload: &Upload) {
        let deadline = Instant::now() + PATIENCE;
        while self.staged(upload).await != 0 {
            assert!(
                Instant::now() < deadline,
                "in vain: something is left of {}",
                upload.target
            );
            tokio::task::yield_now().await;
        }
    }

    /// How many sessions the store knows.
    pub async fn sessions(&self) -> usize {
        let sessions: Vec<_> = self.place.store.list_sessions().try_collect().await.expect("a store");
        sessions.len()
    }

    fn below<'t>(&self, target: &'t str) -> &'t str {
        target.strip_prefix(self.place.route.as_str()).expect("below the route")
    }
}

/// A gateway without sockets.
pub struct House {
    pub rooms: Vec<Room>,
    pub uploads: Uploads,
    routes: Vec<Arc<Route>>,
    clerk: Clerk,
}

impl House {
    /// With one route, `/up/`, over an empty store in memory, without overwriting.
    pub fn new() -> Self {
        Self::of([Room::new()])
    }

    pub fn of(rooms: impl IntoIterator<Item = Room>) -> Self {
        let rooms: Vec<Room> = rooms.into_iter().collect();
        let metrics = Metrics::new(rooms.iter().map(|room| room.place.route.as_str()));
        let budget = Budget::new(256 << 20, PATIENCE);
        let uploads = Uploads::new(budget, Arc::new(SystemClock), metrics);
        Self {
            routes: rooms.iter().map(|room| Arc::new(room.route())).collect(),
            rooms,
            clerk: Clerk::new(uploads.clone()),
            uploads,
        }
    }

    /// The same gateway after a restart: nothing is left but what the stores hold.
    pub fn restarted(&self) -> Self {
        Self::of(self.rooms.iter().cloned())
    }

    /// The first route.
    pub fn room(&self) -> &Room {
        &self.rooms[0]
    }

    /// The content of a file of the first route.
    pub async fn file(&self, key: &str) -> Option<Vec<u8>> {
        self.room().file(key).await
    }

    /// Sends a packet with a body that comes by and by. Nothing when nobody would read an answer.
    pub async fn answer(&self, packet: &Packet, body: &mut impl Body, principal: Principal) -> Option<Told> {
        let (target, headers) = taken_apart(packet);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let below = |route: &Arc<Route>| path.strip_prefix(route.place.route.as_str()).map(str::to_owned);
        let found = self.routes.iter().find_map(|route| Some((route, below(route)?)));
        let (route, below) = found.unwrap_or_else(|| panic!("no route for {target}"));
        let to = Destination {
            route,
            below: &below,
            query,
            url: format!("http://{}{target}", headers["host"].to_str().expect("ASCII")),
            principal,
            client: None,
        };
        let head = PacketHead::read(&headers);
        let reply = self.clerk.answer(&head, &to, body).await;
        reply.ack.as_ref().map(Told::from)
    }
}

impl Door for House {
    async fn ask(&self, packet: &Packet, body: &[u8]) -> Told {
        let told = self.answer(packet, &mut Pieces::of(body), Principal::anonymous()).await;
        told.expect("an answer")
    }
}

/// The target and the headers of a packet.
fn taken_apart(packet: &Packet) -> (String, HeaderMap) {
    let text = packet.to_string();
    let mut lines = text.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a target");
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    (target.to_owned(), headers)
}

/// A body in small pieces, whose ends lie nowhere in particular. After them, as many more as the head promises never come.
pub struct Pieces<'b>(&'b [u8]);

impl<'b> Pieces<'b> {
    pub const fn of(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }
}

impl Body for Pieces<'_> {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        let (piece, rest) = self.0.split_at(self.0.len().min(700));
        self.0 = rest;
        Ok((!piece.is_empty()).then(|| Bytes::copy_from_slice(piece)))
    }
}

/// Bytes that are not all the same, and others for every seed.
pub fn content(length: u64, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) % 251) as u8 ^ seed).collect()
}

/// A store in a local directory.
pub fn directory(path: &Path) -> Store {
    let settings = Settings {
        url: path.to_str().expect("UTF-8").to_owned(),
        ..Settings::default()
    };
    Store::open(&settings, &Metrics::new(["/up/"])).expect("a directory")
}
