//! Sweeps by machines whose clocks are wrong, and those that somebody asks for.

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::*;
use crate::bits::{ContentRange, SessionId};
use crate::budget::Budget;
use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use crate::metrics::Metrics;
use crate::session::{Principal, Target};
use crate::store::depot::Depot;
use crate::upload::{Asked, Body, BodyBroken, Checksum, Coordination, Durability, Register, Standing};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Whole(Option<Bytes>);

impl Body for Whole {
    async fn next(&mut self, _wanted: u64) -> Result<Option<Bytes>, BodyBroken> {
        Ok(self.0.take())
    }
}

/// A replica on a machine of its own, with the clock that it has.
struct Replica {
    uploads: Uploads,
    place: Arc<Place>,
}

impl Replica {
    fn on(depot: &Depot, clock: ManualClock) -> Self {
        let budget = Budget::new(1 << 20, Duration::from_secs(1));
        let rules = Rules {
            overwrite: false,
            max_upload_size: 1 << 40,
            max_fragment_size: 1 << 40,
            part_size: 64,
            session_timeout: 6 * HOUR,
            closed_session_memory: 6 * HOUR,
            durability: Durability::Fragment,
            coordination: Coordination::Shared,
            checksum: Checksum::Off,
            checksum_sidecar: false,
        };
        Self {
            uploads: Uploads::new(budget, Arc::new(clock), Metrics::new(["/"])),
            place: Arc::new(Place {
                route: "/".to_owned(),
                store: depot.store(),
                rules,
                application: None,
                events: None,
            }),
        }
    }

    fn asked(key: &str) -> Asked {
        Asked {
            principal: Principal::anonymous(),
            target: Target {
                route: "/".to_owned(),
                key: key.to_owned(),
                query: None,
            },
            url: format!("http://h/{key}"),
            client: None,
        }
    }

    async fn create(&self, key: &str) -> SessionId {
        self.uploads.create(&self.place, Self::asked(key)).await.unwrap()
    }

    async fn send(&self, key: &str, id: SessionId, from: u64) {
        let range = ContentRange::new(from, from + 10, 1000).unwrap();
        let mut body = Whole(Some(Bytes::from_static(&[1; 10])));
        let taken = self
            .uploads
            .fragment(&self.place, &Self::asked(key), id, range, &mut body)
            .await;
        assert_eq!((taken.verdict, taken.next), (Ok(()), Some(from + 10)));
    }

    async fn standing(&self, id: SessionId) -> Option<Standing> {
        let register = Register::new(self.uploads.clone(), vec![Arc::clone(&self.place)]);
        register.show(id).await.unwrap().map(|shown| shown.overview.phase)
    }
}

/// The clocks of two machines, of which one is a day off.
fn clocks(wrong: fn(Timestamp) -> Timestamp) -> [ManualClock; 2] {
    let right = SystemClock.now();
    [ManualClock::at(right), ManualClock::at(wrong(right))]
}

fn a_day_behind(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis() - DAY.as_millis() as u64)
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_clock_is_a_day_off_ends_no_live_session_and_keeps_no_dead_one() {
    for wrong in [a_day_behind as fn(Timestamp) -> Timestamp, |now: Timestamp| {
        now.plus(DAY)
    }] {
        let depot = Depot::memory();
        let [right, wrong] = clocks(wrong).map(|clock| Replica::on(&depot, clock));
        // Sessions of either, and it is the wrong one that sweeps, as it does while the program runs.
        let live = [right.create("live-1").await, wrong.create("live-2").await];
        let dead = [right.create("dead-1").await, wrong.create("dead-2").await];
        let (told, mut swept) = mpsc::unbounded_channel();
        let places = vec![Arc::clone(&wrong.place)];
        let sweeping = tokio::spawn(run(wrong.uploads.clone(), places, HOUR, move |outcome| {
            told.send(outcome).unwrap();
        }));
        for hour in 0..20 {
            for (replica, id, key) in [(&right, live[0], "live-1"), (&wrong, live[1], "live-2")] {
                replica.send(key, id, hour * 10).await;
            }
            depot.advance(HOUR + Duration::from_secs(1));
            assert_eq!(swept.recv().await, Some(CleanupOutcome::Swept));
            if hour == 4 {
                for id in dead {
                    assert_eq!(right.standing(id).await, Some(Standing::Open), "not before its time");
                }
            }
        }
        sweeping.abort();
        for id in live {
            assert_eq!(
                right.standing(id).await,
                Some(Standing::Open),
                "nobody ends what goes on"
            );
        }
        for id in dead {
            assert_eq!(
                right.standing(id).await,
                None,
                "it has ended, and its tombstone is forgotten"
            );
        }
    }
}

#[tokio::test]
async fn a_sweep_that_is_asked_for_goes_by_the_time_of_the_store_and_rehearses_without_a_trace() {
    let depot = Depot::memory();
    let [replica, _] = clocks(a_day_behind).map(|clock| Replica::on(&depot, clock));
    let (dead, live) = (replica.create("dead").await, replica.create("live").await);
    replica.send("dead", dead, 0).await;
    depot.advance(6 * HOUR);
    replica.send("live", live, 0).await;
    let places = [Arc::clone(&replica.place)];
    let rules: Vec<_> = rules_of(&places).collect();
    let sweep = async |rehearse| -> Vec<Told> { at_once(&places, &rules, rehearse).collect().await };
    let finding = Finding {
        deed: Deed::Expiring,
        session: dead,
        key: Some("dead".to_owned()),
        count: None,
        why: None,
    };
    let told = |report| {
        let store = replica.place.store.to_string();
        vec![Told::Found(finding.clone()), Told::Swept { store, report }]
    };
    let report = Report {
        sessions: 2,
        expiring: 1,
        ..Report::default()
    };
    let before = depot.names().await;
    assert_eq!(sweep(true).await, told(report));
    assert_eq!(replica.standing(dead).await, Some(Standing::Open));
    assert_eq!(sweep(false).await, told(report));
    assert_eq!(replica.standing(dead).await, Some(Standing::Expiring));

    depot.advance(HOUR);
    let would = sweep(true).await;
    assert!(
        matches!(&would[0], Told::Found(found) if found.deed == Deed::Expired),
        "{would:?}"
    );
    let after: Vec<_> = depot
        .names()
        .await
        .into_iter()
        .filter(|name| !name.ends_with("/clock"))
        .collect();
    assert_eq!(after, before, "nothing is gone, and nothing has come");
    assert_eq!(sweep(false).await, would);
    assert_eq!(replica.standing(dead).await, Some(Standing::Closed));
    assert_eq!(replica.standing(live).await, Some(Standing::Open));
}
