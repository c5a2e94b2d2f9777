//! Three gateways on one bucket, every packet to any of them, one after another killed, and the store as well: every upload ends, byte
//! by byte the same, in the session in which it began, and nothing stays behind.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bits_gateway::cleanup::Broom;
use bits_gateway::client::raw::{Answer, Connection, Packet};
use bits_gateway::metrics::Metrics;
use bits_gateway::staging::Sha256;
use bits_gateway::store::{Key, Settings, Store};
use bits_gateway::upload::{Checksum, Coordination, Durability, Place as Route, Rules};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::http::{Proxy, Request, Spoil};
use crate::servers::{Azurite, SeaweedFs};
use crate::support::{Config, Dice, Gateway, Hand, KIB, Line, MIB, PART, Place, assert_same, content, seed, within};

const GATEWAYS: usize = 3;
const CLIENTS: u64 = 6;

/// Kills of a gateway in an ordinary run; `STORM_KILLS=2000` makes it as many.
const KILLS: usize = 200;

/// The same where the store is slower.
const AZURE_KILLS: usize = 40;

/// Uploads of each client to a store that spoils requests.
const SPOILED_UPLOADS: usize = 12;

/// The store is killed once in so many of them.
const STORE_KILLED_EVERY: usize = 40;

/// The rules of the route.
const RULES: &str = "part_size = \"5MiB\"\nchecksum = \"sha256\"\nchecksum_sidecar = true";

/// How long it may take until a packet is answered by a gateway that is not in trouble. One that hears nothing from its store says so
/// only after three minutes, and it may be one of those that were sent the packet next.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What clients and the storm know of each other.
struct World {
    place: Place,
    /// Where the gateways listen that are alive.
    addresses: Mutex<[Option<SocketAddr>; GATEWAYS]>,
    answered: AtomicUsize,
    /// Seconds until the packet was answered that took longest.
    slowest: AtomicU64,
    is_over: watch::Sender<bool>,
}

impl World {
    fn new(place: Place) -> Self {
        Self {
            place,
            addresses: Mutex::default(),
            answered: AtomicUsize::new(0),
            slowest: AtomicU64::new(0),
            is_over: watch::Sender::new(false),
        }
    }

    fn any(&self, dice: &mut Dice) -> Option<SocketAddr> {
        let gateway = dice.between(0, GATEWAYS as u64 - 1) as usize;
        self.addresses.lock().expect("no panic")[gateway]
    }

    fn is_at(&self, gateway: usize, address: Option<SocketAddr>) {
        self.addresses.lock().expect("no panic")[gateway] = address;
    }

    /// The object at `key`, as soon as the store tells.
    async fn look(&self, key: &str) -> Option<Bytes> {
        within(PATIENCE, "the store answers", async || self.place.look(key).await.ok()).await
    }

    /// Sends a packet to any gateway, again and again, until one answers that is not in trouble.
    async fn ask(&self, dice: &mut Dice, head: &Packet, body: &[u8]) -> Answer {
        let begin = Instant::now();
        let answer = within(PATIENCE, "somebody answers", async || {
            let answer = match (self.any(dice)?, self.any(dice)) {
                // Somebody in between gave up waiting, and sent it once more.
                (one, Some(other)) if dice.once_in(8) => {
                    let (first, second) = tokio::join!(send(one, head, body), send(other, head, body));
                    first.or(second)?
                }
                (one, _) => send(one, head, body).await?,
            };
            (answer.status != 503).then_some(answer)
        });
        let answer = answer.await;
        self.slowest.fetch_max(begin.elapsed().as_secs(), Ordering::Relaxed);
        answer
    }
}

/// The answer, if there is one.
async fn send(address: SocketAddr, head: &Packet, body: &[u8]) -> Option<Answer> {
    Connection::open(address).await.ok()?.ask_with(head, body).await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_and_whenever_every_upload_to_s3_ends_as_it_began() {
    let kills = std::env::var("STORM_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let server = SeaweedFs::start();
    let port = server.port();
    let server = Arc::new(Mutex::new(server));
    let settings = |port| server.lock().expect("no panic").settings_via(port, "storm");
    storm(seed(900), kills, port, settings, Some(&server)).await;
}

/// The store itself is not killed: this one keeps in memory for a while what it has acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_and_whenever_every_upload_to_azure_ends_as_it_began() {
    let server = Azurite::start();
    let settings = |port| server.settings_via(port, "storm");
    storm(seed(950), AZURE_KILLS, server.port(), settings, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_spoils_every_sixth_request_costs_patience_and_nothing_else() {
    let mut dice = Dice::new(seed(970));
    let server = SeaweedFs::start();
    let proxy = Proxy::to(server.port()).await;
    let place = Place::bucket(server.settings_via(proxy.server.port, "spoiled"));
    let config = Config::new().route("/up/", &place.lines(RULES));
    let gateways = [Gateway::start(&config).await, Gateway::start(&config).await];
    let world = World::new(Place::bucket(server.settings("spoiled")));
    for (number, gateway) in gateways.iter().enumerate() {
        world.is_at(number, Some(gateway.address));
    }
    let (spoiled, mut chance) = (Arc::new(AtomicUsize::new(0)), Dice::new(dice.next()));
    let counted = Arc::clone(&spoiled);
    proxy.choose(move |request| {
        let spoil = spoil(request, &mut chance);
        counted.fetch_add(usize::from(spoil.is_some()), Ordering::Relaxed);
        spoil
    });
    let clients = (0..CLIENTS).map(|number| {
        let (world, mut dice) = (&world, Dice::new(dice.next()));
        async move {
            let keys = (0..SPOILED_UPLOADS).map(|upload| format!("{number}-{upload}.bin"));
            let keys: Vec<_> = keys.collect();
            for key in &keys {
                upload(world, key, &mut dice).await;
            }
            keys
        }
    });
    let keys = join_all(clients.collect::<Vec<_>>()).await.concat();
    let spoiled = spoiled.load(Ordering::Relaxed);
    println!("{} uploads, {spoiled} requests spoiled", keys.len());
    assert!(spoiled > 100, "{spoiled}");
    drop(gateways);
    sweep(&world.place, &keys).await;
}

/// What becomes of a request to the store: nothing in five of six cases.
fn spoil(request: &Request, dice: &mut Dice) -> Option<Spoil> {
    if !dice.once_in(6) {
        return None;
    }
    let is_completion = request.method == "POST" && request.target.contains("uploadId=");
    let is_conditional = request.header("if-match").is_some() || request.header("if-none-match").is_some();
    Some(match dice.between(1, 7) {
        1 => Spoil::Break,
        2 => Spoil::Fail,
        3 => Spoil::Overload,
        4 => Spoil::Truncate,
        5 => Spoil::Delay,
        6 if is_completion => Spoil::Embed,
        7 if is_conditional => Spoil::Refuse,
        _ => Spoil::Lose,
    })
}

/// Uploads to the store at `port` while gateways are killed, and the store as well where it is given.
async fn storm(
    seed: u64,
    kills: usize,
    port: u16,
    settings: impl Fn(u16) -> Settings,
    store: Option<&Arc<Mutex<SeaweedFs>>>,
) {
    let mut dice = Dice::new(seed);
    let world = World::new(Place::bucket(settings(port)));
    let mut gateways = Vec::new();
    for number in 0..GATEWAYS {
        let line = Line::new().await;
        line.lead_to(([127, 0, 0, 1], port).into());
        let place = Place::bucket(settings(line.address.port()));
        let config = Config::new().route("/up/", &place.lines(RULES));
        let gateway = Gateway::start(&config).await;
        world.is_at(number, Some(gateway.address));
        gateways.push((line, config, gateway));
    }
    let clients = (0..CLIENTS).map(|number| upload_again_and_again(&world, number, dice.next()));
    let clients = join_all(clients.collect::<Vec<_>>());
    let storm = rage(&world, store, &mut gateways, &mut dice, kills);
    let (keys, ()) = tokio::join!(clients, storm);
    let keys = keys.concat();
    println!(
        "{} uploads, {} packets, the slowest answered after {} s",
        keys.len(),
        world.answered.load(Ordering::Relaxed),
        world.slowest.load(Ordering::Relaxed)
    );
    drop(gateways);
    sweep(&world.place, &keys).await;
}

/// Kills gateways and the store, and starts them again.
async fn rage(
    world: &World,
    store: Option<&Arc<Mutex<SeaweedFs>>>,
    gateways: &mut [(Line, Config, Gateway)],
    dice: &mut Dice,
    kills: usize,
) {
    let (mut with_open_requests, mut of_the_store) = (0, 0);
    for kill in 1..=kills {
        let victim = dice.between(0, GATEWAYS as u64 - 1) as usize;
        let (line, config, gateway) = &mut gateways[victim];
        // Somewhere in the middle of what it does, which is mostly to wait for the store.
        let mut requests = line.requests();
        let more = requests.borrow().begun + usize::try_from(dice.between(1, 40)).expect("small");
        let is_busy = requests.wait_for(|requests| requests.begun >= more && requests.open > 0);
        let waited = timeout(Duration::from_secs(2), is_busy).await;
        drop(waited);
        with_open_requests += usize::from(requests.borrow().open > 0);
        world.is_at(victim, None);
        gateway.kill();
        if let Some(store) = store.filter(|_| kill % STORE_KILLED_EVERY == 0) {
            let store = Arc::clone(store);
            let again = spawn_blocking(move || store.lock().expect("no panic").kill_and_start_again());
            again.await.expect("no panic");
            of_the_store += 1;
        }
        *gateway = Gateway::launch(config).await;
        world.is_at(victim, Some(gateway.address));
    }
    world.is_over.send_replace(true);
    println!(
        "{kills} kills, {with_open_requests} of them with a request to the store open, and {of_the_store} of the store"
    );
    assert!(with_open_requests * 4 >= kills, "{with_open_requests} of {kills}");
}

/// Uploads until the storm is over; gives back the keys.
async fn upload_again_and_again(world: &World, client: u64, seed: u64) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let mut keys = Vec::new();
    while !*world.is_over.borrow() {
        let key = format!("{client}-{}.bin", keys.len());
        upload(world, &key, &mut dice).await;
        keys.push(key);
    }
    keys
}

async fn upload(world: &World, key: &str, dice: &mut Dice) {
    let most = *[100, 64 * KIB, MIB, 3 * PART]
        .get(dice.between(0, 3) as usize)
        .expect("one of four");
    let bytes = content(dice.next(), dice.between(1, most));
    let mut hand = Hand::new(&format!("/up/{key}"), bytes.clone());
    let created = world.ask(dice, &hand.create_session(), b"").await;
    hand.created(&created);
    while !hand.is_through() {
        if dice.once_in(4) {
            assert_eq!(world.look(key).await, None, "nothing is seen before the end");
        }
        let (head, body) = hand.fragment(dice.between(5 * KIB, 4 * MIB));
        let answer = world.ask(dice, &head, &body).await;
        hand.told(&answer);
        world.answered.fetch_add(1, Ordering::Relaxed);
    }
    let stored = world.look(key).await.expect("the last byte publishes it");
    assert_same(&bytes, &stored, key);
    let sidecar = world
        .look(&format!("{key}.sha256"))
        .await
        .expect("it comes before the answer");
    assert_eq!(sidecar, format!("{}  {key}\n", Sha256::of(&bytes)).as_bytes());
    let closed = world.ask(dice, &hand.close_session(), b"").await;
    assert_eq!(closed.status, 200, "{closed:?}");
}

/// Sweeps until everything is too old, and finds that nothing is left.
async fn sweep(place: &Place, keys: &[String]) {
    let store = Store::open(place.settings(), &Metrics::new(["/up/"])).expect("a store");
    let route = Arc::new(Route {
        route: "/up/".to_owned(),
        store: store.clone(),
        rules: Rules {
            overwrite: false,
            max_upload_size: u64::MAX,
            max_fragment_size: u64::MAX,
            part_size: PART,
            session_timeout: 14 * DAY,
            closed_session_memory: 14 * DAY,
            durability: Durability::Fragment,
            coordination: Coordination::Shared,
            checksum: Checksum::Off,
            checksum_sidecar: false,
        },
        application: None,
        events: None,
    });
    let mut broom = Broom::new(&route);
    let now = store.now().await.expect("a clock");
    let mut report = Default::default();
    for days in [400, 800, 1200, 1600] {
        report = broom.sweep(now.plus(days * DAY)).await.expect("a store");
        println!("{report:?}");
    }
    // What a busy store did not do for an earlier one is made up for.
    assert_eq!(report.failed, 0);
    let left: Vec<_> = store.list_sessions().try_collect().await.expect("a list");
    assert!(left.is_empty(), "{left:?}");
    for key in keys {
        let key = Key::from_request(key).expect("a key");
        assert_eq!(store.list_uploads(&key).await.expect("a list"), []);
    }
}
