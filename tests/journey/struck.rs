//! Uploads that are struck in the middle: `kill -9` of the gateway, and lines that break. Whatever was acknowledged stays, nothing
//! half done is ever seen, and the file is whole in the end.

use bits_gateway::client::raw::{Connection, Packet};
use bits_gateway::staging::Sha256;
use bytes::Bytes;

use crate::servers::SeaweedFs;
use crate::support::{Config, Dice, Gateway, Hand, KIB, MIB, PART, Place, assert_same, content, seed};

/// Three parts and a bit, cut so that fragments end before, at and beyond the ends of parts.
const FRAGMENTS: [u64; 5] = [5 * KIB, 2 * MIB, PART - 2 * MIB - 5 * KIB, 7 * MIB, 4 * MIB];

/// A file that never becomes more than tails and one put.
const SMALL_FRAGMENTS: [u64; 2] = [300 * KIB, 70_001];

/// How far the answer came before the gateway was killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// To the client.
    Heard,
    /// It was sent, and lost on the way.
    Lost,
    /// Whether there was one, nobody knows: the kill came right behind the last byte of the packet.
    Unknown,
}

/// A packet of a fixed upload.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Fragment(u64),
    Close,
}

/// What strikes.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9` of the gateway.
    Kill,
    /// The connection is closed.
    Cut,
    /// The connection is reset.
    Reset,
}

#[tokio::test]
async fn a_kill_at_any_packet_boundary_takes_nothing_back_in_a_directory() {
    let mut struck = Struck::new(Place::directory()).await;
    for answer in [Answer::Heard, Answer::Lost, Answer::Unknown] {
        struck.at_every_boundary(&FRAGMENTS, answer).await;
        struck.at_every_boundary(&SMALL_FRAGMENTS, answer).await;
    }
}

#[tokio::test]
async fn a_kill_at_any_packet_boundary_takes_nothing_back_in_a_bucket() {
    let server = SeaweedFs::start();
    let mut struck = Struck::new(Place::bucket(server.settings("struck"))).await;
    struck.at_every_boundary(&FRAGMENTS, Answer::Heard).await;
    struck.at_every_boundary(&SMALL_FRAGMENTS, Answer::Lost).await;
}

#[tokio::test]
async fn kills_in_mid_body_take_nothing_back_in_a_directory() {
    let mut struck = Struck::new(Place::directory()).await;
    struck.in_mid_body(seed(100), 100, &[Blow::Kill]).await;
}

#[tokio::test]
async fn kills_in_mid_body_take_nothing_back_in_a_bucket() {
    let server = SeaweedFs::start();
    let mut struck = Struck::new(Place::bucket(server.settings("struck"))).await;
    struck.in_mid_body(seed(200), 15, &[Blow::Kill]).await;
}

#[tokio::test]
async fn connections_that_break_in_mid_body_take_nothing_back_in_a_directory() {
    let mut struck = Struck::new(Place::directory()).await;
    struck.in_mid_body(seed(300), 100, &[Blow::Cut, Blow::Reset]).await;
}

#[tokio::test]
async fn connections_that_break_in_mid_body_take_nothing_back_in_a_bucket() {
    let server = SeaweedFs::start();
    let mut struck = Struck::new(Place::bucket(server.settings("struck"))).await;
    struck.in_mid_body(seed(400), 25, &[Blow::Cut, Blow::Reset]).await;
}

/// A gateway that is struck, and what it serves.
struct Struck {
    place: Place,
    config: Config,
    gateway: Gateway,
    uploads: usize,
}

/// One upload: what the destination may show until its last byte was sent, and after.
struct Destination {
    key: String,
    before: Option<Bytes>,
    content: Bytes,
}

impl Struck {
    async fn new(place: Place) -> Self {
        let rules = "overwrite = true\npart_size = \"5MiB\"\nchecksum = \"sha256\"\nchecksum_sidecar = true";
        let config = Config::new().route("/up/", &place.lines(rules));
        let gateway = Gateway::start(&config).await;
        Self {
            place,
            config,
            gateway,
            uploads: 0,
        }
    }

    /// A new upload of `length` bytes, over an old file or to where there is nothing.
    async fn upload(&mut self, length: u64) -> (Hand, Destination) {
        let number = self.uploads;
        self.uploads += 1;
        let destination = Destination {
            key: format!("{number}.bin"),
            before: (number % 2 == 1).then(|| Bytes::from_static(b"what was here before")),
            content: content(number as u64, length),
        };
        if let Some(before) = &destination.before {
            self.place.put(&destination.key, before.clone()).await;
        }
        let path = format!("/up/{}", destination.key);
        (Hand::new(&path, destination.content.clone()), destination)
    }

    async fn kill(&mut self, destination: &Destination) {
        self.gateway.kill();
        self.look(destination).await;
        self.gateway = Gateway::start(&self.config).await;
        self.look(destination).await;
    }

    /// The destination shows the old content or the new one, whole.
    async fn look(&self, destination: &Destination) {
        let seen = self.place.object(&destination.key).await;
        if seen != destination.before {
            let seen = seen.expect("what was there before is not taken away");
            assert_same(&destination.content, &seen, "what is seen in between");
            // A digest that lies beside it is its own, or there is none yet.
            if let Some(sidecar) = self.place.object(&format!("{}.sha256", destination.key)).await {
                let digest = format!("{}  {}\n", Sha256::of(&seen), destination.key);
                assert_eq!(sidecar, digest.as_bytes());
            }
        }
    }

    /// The file is whole, and of the session nothing is left but what tells how it ended.
    async fn arrived(&self, hand: &Hand, destination: &Destination) {
        let stored = self.place.object(&destination.key).await.expect("it is published");
        assert_same(&destination.content, &stored, &destination.key);
        let sidecar = format!("{}.sha256", destination.key);
        let digest = format!("{}  {}\n", Sha256::of(&stored), destination.key);
        assert_eq!(self.place.object(&sidecar).await.as_deref(), Some(digest.as_bytes()));
        assert_eq!(
            self.place.kept_of(&hand.session).await,
            ["record"],
            "{}",
            destination.key
        );
        self.place.take_away(&destination.key).await;
        self.place.take_away(&sidecar).await;
    }

    async fn at_every_boundary(&mut self, fragments: &[u64], answer: Answer) {
        let packets = fragments.iter().map(|length| Step::Fragment(*length));
        let packets: Vec<_> = [Step::Create].into_iter().chain(packets).chain([Step::Close]).collect();
        for boundary in 0..packets.len() {
            println!("killed at packet {boundary} of {packets:?}, its answer: {answer:?}");
            let (mut hand, destination) = self.upload(fragments.iter().sum()).await;
            for (number, packet) in packets.iter().enumerate() {
                if number != boundary {
                    self.exchange(&mut hand, *packet).await;
                    continue;
                }
                match answer {
                    Answer::Heard => self.exchange(&mut hand, *packet).await,
                    Answer::Lost => {
                        let mut unaware = hand.clone();
                        self.exchange(&mut unaware, *packet).await;
                        hand.inherit(&unaware);
                    }
                    Answer::Unknown => {
                        let (head, body) = head_of(&hand, *packet);
                        drop(self.send(&head, &body).await);
                    }
                }
                self.kill(&destination).await;
                let pong = self.connect().await.ask(Packet::ping(&hand.path)).await;
                assert_eq!(pong.expect("an answer").status, 200);
                if answer != Answer::Heard {
                    self.exchange(&mut hand, *packet).await;
                }
            }
            self.arrived(&hand, &destination).await;
        }
    }

    /// Strikes `blows` times in the bodies of fragments, over as many uploads as that takes.
    async fn in_mid_body(&mut self, seed: u64, blows: usize, kinds: &[Blow]) {
        let mut dice = Dice::new(seed);
        let mut left = blows;
        while left > 0 {
            let length = dice.between(1, 4 * PART);
            let (mut hand, destination) = self.upload(length).await;
            hand.begin(self.gateway.address).await;
            while !hand.is_through() {
                let length = (5 * KIB) << dice.between(0, 11);
                if left == 0 || dice.once_in(3) {
                    match kinds {
                        [Blow::Kill] => hand.send(self.gateway.address, length).await,
                        _ => hand.send_patiently(self.gateway.address, length).await,
                    }
                    continue;
                }
                left -= 1;
                let (head, body) = hand.fragment(length);
                let sent = usize::try_from(dice.between(0, body.len() as u64)).expect("within the body");
                let blow = kinds[usize::try_from(dice.next() % kinds.len() as u64).expect("small")];
                println!(
                    "{}: {blow:?} {sent} bytes into {}+{}",
                    hand.path,
                    hand.start,
                    body.len()
                );
                let connection = self.send(&head, &body[..sent]).await;
                for _ in 0..dice.between(0, 3) {
                    // A moment that is not always the same.
                    self.gateway.page("/livez").await;
                }
                match blow {
                    Blow::Kill => self.kill(&destination).await,
                    Blow::Cut => connection.cut(),
                    Blow::Reset => connection.reset().expect("a socket"),
                }
                self.look(&destination).await;
            }
            hand.close(self.gateway.address).await;
            self.arrived(&hand, &destination).await;
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.gateway.address).await.expect("somebody listens")
    }

    /// Sends a packet, or the beginning of one. The gateway may have answered already, and closed.
    async fn send(&self, head: &Packet, body: &[u8]) -> Connection {
        let mut connection = self.connect().await;
        if connection.send(head).await.is_ok() {
            let _ = connection.send_body(body).await;
        }
        connection
    }

    async fn exchange(&self, hand: &mut Hand, packet: Step) {
        match packet {
            Step::Create => hand.begin(self.gateway.address).await,
            Step::Fragment(length) => hand.send(self.gateway.address, length).await,
            Step::Close => hand.close(self.gateway.address).await,
        }
    }
}

fn head_of(hand: &Hand, packet: Step) -> (Packet, Bytes) {
    match packet {
        Step::Create => (hand.create_session(), Bytes::new()),
        Step::Fragment(length) => hand.fragment(length),
        Step::Close => (hand.close_session(), Bytes::new()),
    }
}
