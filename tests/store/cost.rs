//! What an upload costs in requests to its store. Every kind of request is in it, those that go wrong too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bits_gateway::bits::ContentRange;
use bits_gateway::budget::Budget;
use bits_gateway::clock::SystemClock;
use bits_gateway::metrics::Metrics;
use bits_gateway::notify::events::Mode;
use bits_gateway::notify::{EventSettings, Herald};
use bits_gateway::session::{Principal, Target};
use bits_gateway::store::{Settings, Store};
use bits_gateway::upload::{
    Asked, Body, BodyBroken, Checksum, Coordination, Durability, Outbox, Place, Rules, Uploads,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The default of `part_size`.
const PART: u64 = 8 * MIB;

/// Who serves an upload.
#[derive(Clone, Copy, Debug)]
enum Routing {
    /// One replica, all the time.
    One,
    /// Any of three, as a load balancer without memory does it.
    Random,
}

/// Requests by what they ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Cost(BTreeMap<String, u64>);

impl Cost {
    fn of(metrics: &Metrics) -> Self {
        let page = metrics.render();
        let counted = page.lines().filter_map(|line| {
            let line = line.strip_prefix("bitsgw_storage_requests_total{operation=\"")?;
            let operation = line.split('"').next()?.to_owned();
            Some((operation, line.rsplit(' ').next()?.parse::<u64>().expect("a count")))
        });
        let mut cost = Self::default();
        for (operation, count) in counted.filter(|(_, count)| *count > 0) {
            *cost.0.entry(operation).or_default() += count;
        }
        cost
    }

    fn map(&self, mut with: impl FnMut(&str, u64) -> u64) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, count)| (name.clone(), with(name, *count)))
                .collect(),
        )
    }

    fn get(&self, operation: &str) -> u64 {
        self.0.get(operation).copied().unwrap_or_default()
    }

    /// What most stores charge most for.
    fn writes(&self) -> u64 {
        ["put", "put_part", "begin_multipart", "complete_multipart"]
            .map(|operation| self.get(operation))
            .iter()
            .sum()
    }

    fn reads(&self) -> u64 {
        self.get("get") + self.get("head")
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self
            .0
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}"));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl Body for Whole {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        Ok(self.0.take())
    }
}

/// Uploads a file of `size` bytes in fragments of `fragment` bytes, and closes it.
async fn cost(size: u64, fragment: u64, durability: Durability, routing: Routing) -> Cost {
    cost_under(|rules| Rules { durability, ..rules }, size, fragment, routing).await
}

/// The same under other rules.
async fn cost_under(change: impl Fn(Rules) -> Rules, size: u64, fragment: u64, routing: Routing) -> Cost {
    cost_and_marks(change, size, fragment, routing, None).await
}

/// The same where the endpoint at `told` hears of it; and until as many events are marked as it says.
async fn cost_and_marks(
    change: impl Fn(Rules) -> Rules,
    size: u64,
    fragment: u64,
    routing: Routing,
    told: Option<(&str, usize)>,
) -> Cost {
    let metrics = Metrics::new(["/"]);
    let settings = Settings {
        url: "memory:///".to_owned(),
        ..Settings::default()
    };
    let store = Store::open(&settings, &metrics).expect("a store");
    let rules = change(Rules {
        overwrite: false,
        max_upload_size: 1 << 40,
        max_fragment_size: 64 * MIB,
        part_size: PART,
        session_timeout: Duration::from_secs(3600),
        closed_session_memory: Duration::from_secs(3600),
        durability: Durability::Fragment,
        coordination: Coordination::Shared,
        checksum: Checksum::Off,
        checksum_sidecar: false,
    });
    let place = Arc::new(Place {
        route: "/".to_owned(),
        store: store.clone(),
        rules,
        application: None,
        events: told.map(|(url, _)| Arc::new(outbox(url, &metrics))),
    });
    let replica = |_| {
        let budget = Budget::new(256 * MIB, Duration::from_secs(60));
        Uploads::new(budget, Arc::new(SystemClock), metrics.clone())
    };
    let replicas: Vec<Uploads> = (0..3).map(replica).collect();
    let asked = Asked {
        principal: Principal::anonymous(),
        target: Target {
            route: "/".to_owned(),
            key: "file".to_owned(),
            query: None,
        },
        url: "http://h/file".to_owned(),
        client: None,
    };
    // Repeatable, and it knows no pattern that a fragment size could fall in with.
    let mut state = 1_u64;
    let mut any = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match routing {
            Routing::One => &replicas[0],
            Routing::Random => &replicas[(state >> 33) as usize % replicas.len()],
        }
    };
    let id = any().create(&place, asked.clone()).await.expect("a session");
    let zeros = Bytes::from(vec![0; fragment as usize]);
    let mut at = 0;
    while at < size {
        let end = (at + fragment).min(size);
        let range = ContentRange::new(at, end, size).expect("a range");
        let mut body = Whole(Some(zeros.slice(..(end - at) as usize)));
        let taken = any().fragment(&place, &asked, id, range, &mut body).await;
        taken.verdict.expect("it is taken");
        assert_eq!(taken.next, Some(end));
        at = end;
    }
    any().close(&place, &asked, id).await.expect("it is closed");
    let marks = told.map_or(0, |(_, marks)| marks);
    if marks > 0 {
        let told = || {
            metrics
                .render()
                .lines()
                .filter(|line| line.starts_with("bitsgw_events_pending"))
                .any(|line| line.ends_with(" 0"))
        };
        while !told() {
            tokio::task::yield_now().await;
        }
    }
    let answered = Cost::of(&metrics);
    // What is deleted behind the answers counts, the looks of this test do not.
    while store.list_session(id).await.expect("a store").len() > 1 + marks {
        tokio::task::yield_now().await;
    }
    let settled = Cost::of(&metrics);
    settled.map(|operation, count| match operation {
        "delete" => count,
        _ => answered.get(operation),
    })
}

/// What 1 GiB costs: what its `beginning` costs, and as much more for each `step` beyond as the first one does.
async fn cost_of_a_gib(fragment: u64, (beginning, step): (u64, u64), durability: Durability, routing: Routing) -> Cost {
    let short = cost(beginning, fragment, durability, routing).await;
    let long = cost(beginning + step, fragment, durability, routing).await;
    long.map(|operation, long| {
        let short = short.get(operation);
        short + (long - short) * (GIB - beginning) / step
    })
}

#[tokio::test]
async fn an_upload_costs_what_is_written_down() {
    for (size, fragment, expected) in [
        (4 * KIB, 4 * KIB, "head 1, put 4"),
        (100 * KIB, 50 * KIB, "delete 1, head 1, list 1, put 6"),
        (
            PART + KIB,
            13 * MIB,
            "begin_multipart 1, complete_multipart 1, head 1, list 1, put 4, put_part 1",
        ),
        (
            26 * MIB,
            13 * MIB,
            "begin_multipart 1, complete_multipart 1, head 1, list 1, put 7, put_part 2",
        ),
    ] {
        let cost = cost(size, fragment, Durability::Fragment, Routing::One).await;
        println!("{size} in {fragment}: {cost}");
        assert_eq!(cost.to_string(), expected, "{size} bytes in fragments of {fragment}");
    }
}

fn outbox(url: &str, metrics: &Metrics) -> Outbox {
    let settings = EventSettings {
        mode: Mode::Structured,
        url: Some(url.to_owned()),
        ..EventSettings::default()
    };
    let herald = Herald::new(&settings).expect("settings").expect("it is on");
    Outbox::new(
        herald,
        Duration::from_secs(3600),
        Arc::new(SystemClock),
        metrics.clone(),
    )
}

/// The URL of somebody who takes what he is told, or never says a word.
async fn endpoint(answers: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if !answers {
                silent.push(stream);
                continue;
            }
            let mut request = Vec::new();
            while !request.ends_with(b"}}") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
            let taken = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(taken).await.expect("somebody listens");
        }
    });
    url
}

#[tokio::test]
async fn events_cost_a_mark_each_and_nothing_on_the_way() {
    let (silent, quick) = (endpoint(false).await, endpoint(true).await);
    for (size, fragment, before, after) in [
        (4 * KIB, 4 * KIB, "head 1, put 4", "head 1, put 6"),
        (
            26 * MIB,
            13 * MIB,
            "begin_multipart 1, complete_multipart 1, head 1, list 1, put 7, put_part 2",
            "begin_multipart 1, complete_multipart 1, head 1, list 1, put 9, put_part 2",
        ),
    ] {
        for (url, marks, expected) in [(&silent, 0, before), (&quick, 2, after)] {
            let told = Some((&**url, marks));
            let cost = cost_and_marks(|rules| rules, size, fragment, Routing::One, told).await;
            // A tail that is being deleted may be found, and deleted once more.
            let cost = cost.map(|operation, count| if operation == "delete" { 0 } else { count });
            assert_eq!(cost.to_string(), expected, "{size} bytes in fragments of {fragment}");
        }
    }
}

#[tokio::test]
async fn a_digest_costs_no_request_and_one_beside_the_file_costs_four() {
    let with = |checksum_sidecar| {
        move |rules| Rules {
            checksum: Checksum::Sha256,
            checksum_sidecar,
            ..rules
        }
    };
    for (size, fragment) in [(4 * KIB, 4 * KIB), (26 * MIB, 13 * MIB)] {
        let plain = cost(size, fragment, Durability::Fragment, Routing::One).await;
        assert_eq!(cost_under(with(false), size, fragment, Routing::One).await, plain);
        let beside = cost_under(with(true), size, fragment, Routing::One).await;
        assert_eq!(
            (beside.writes(), beside.reads()),
            (plain.writes() + 1, plain.reads() + 3)
        );
    }
}

#[tokio::test]
async fn the_documents_tell_what_a_gib_costs() {
    let mut table = String::new();
    for (name, fragment, measured) in [
        ("5 KiB", 5 * KIB, (2 * PART, PART)),
        ("128 KiB", 128 * KIB, (2 * PART, 4 * PART)),
        ("1 MiB", MIB, (4 * PART, 8 * PART)),
        ("13 MiB", 13 * MIB, (13 * PART, 13 * PART)),
    ] {
        let mut row = format!("| {name} |");
        for (durability, routing) in [
            (Durability::Fragment, Routing::One),
            (Durability::Fragment, Routing::Random),
            (Durability::Part, Routing::One),
        ] {
            let cost = cost_of_a_gib(fragment, measured, durability, routing).await;
            println!("{name} {durability:?} {routing:?}: {cost}");
            row += &format!(" {} / {} / {} |", cost.writes(), cost.reads(), cost.get("list"));
        }
        table += &row;
        table += "\n";
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/storage.md");
    let document = std::fs::read_to_string(path).expect("a document");
    assert!(document.contains(&table), "docs/storage.md has to say:\n{table}");
}
