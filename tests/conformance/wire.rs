//! The same gateway behind a socket, through the HTTP engine.

use std::net::SocketAddr;
use std::time::Instant;

use bits_gateway::budget::Budget;
use bits_gateway::client::raw::{Answer, Connection, Packet};
use bits_gateway::download::Downloads;
use bits_gateway::gateway::{self, Gateway, Limits, Parts};
use bits_gateway::metrics::Metrics;
use bits_gateway::telemetry::Packets;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Door, House, PATIENCE, Told};

/// A front desk on a port of its own.
pub struct Server {
    pub address: SocketAddr,
    pub gateway: Gateway,
}

impl Server {
    /// Opens a house to the loopback interface.
    pub fn open(house: &House) -> Self {
        let door = gateway::Door::bind(&"127.0.0.1:0").expect("a free port");
        let address = door.address();
        let gateway = Gateway::new(Parts {
            limits: Limits::default(),
            routes: house.rooms.iter().map(|room| room.route()).collect(),
            uploads: house.uploads.clone(),
            downloads: Downloads::new(Budget::new(64 << 20, PATIENCE), PATIENCE),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            access_log: Packets::All,
            metrics: Metrics::new(house.rooms.iter().map(|room| room.place.route.as_str())),
            threads: 1,
        });
        gateway.open(vec![door]).expect("room for a door");
        Self { address, gateway }
    }

    pub async fn connect(&self) -> Line {
        let connection = Connection::open(self.address).await.expect("somebody listens");
        Line(Mutex::new(connection.patient(PATIENCE)))
    }

    /// Waits until exactly this many requests are being answered.
    pub async fn busy_with(&self, requests: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.gateway.in_flight() != requests {
            assert!(
                Instant::now() < deadline,
                "in vain: {} in flight",
                self.gateway.in_flight()
            );
            tokio::task::yield_now().await;
        }
    }
}

/// A connection.
pub struct Line(Mutex<Connection>);

impl Line {
    /// The bare connection.
    pub async fn raw(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().await
    }

    /// Sends bytes and waits for the answer to them.
    pub async fn exchange(&self, head: impl AsRef<[u8]>, body: &[u8]) -> Answer {
        self.raw().await.ask_with(head, body).await.expect("an answer")
    }

    /// Gives the connection up; true when not one more byte came over it.
    pub async fn stays_silent(self) -> bool {
        let mut connection = self.0.into_inner();
        connection.finish().await.expect("still open");
        connection.closed().await.is_ok()
    }

    pub fn into_raw(self) -> Connection {
        self.0.into_inner()
    }
}

impl Door for Line {
    async fn ask(&self, packet: &Packet, body: &[u8]) -> Told {
        told(&self.exchange(packet, body).await)
    }
}

/// What an answer tells, without the headers that the engine has on every answer.
pub fn told(answer: &Answer) -> Told {
    assert_eq!(answer.minor, 1, "{answer:?}");
    assert!(answer.body.is_empty(), "{answer:?}");
    let of_engine = |name: &str| ["Date", "Server", "Connection"].contains(&name);
    let headers = answer.headers.iter().filter(|(name, _)| !of_engine(name));
    Told::new(
        answer.status,
        headers.map(|(name, value)| (name.as_str(), value.as_str())),
    )
}
