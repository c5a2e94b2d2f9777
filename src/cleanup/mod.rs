//! The broom: sessions past their time-out, and what crashes left behind.
//!
//! It may run anywhere and twice: every change it makes to a session is a compare-and-swap on the version that it read,
//! and what it deletes was found to belong to nobody, by a read that was made after the list. All ages are measured by
//! the store's own clock.

mod broom;
mod finding;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

pub use broom::Broom;
pub use finding::{Deed, Finding, Report};
pub use settings::Settings;

use crate::clock::random_id;
use crate::upload::{Place, Rules, Uploads};

/// How often the sessions that nobody asks for are forgotten by this process.
const FORGET: Duration = Duration::from_secs(60);

/// Findings that a sweep may be ahead of whoever listens.
const FINDINGS_AHEAD: usize = 64;

/// Sweeps the stores of `places` for ever, one of all replicas in every `interval`. To be dropped when the process ends.
#[expect(clippy::disallowed_methods, reason = "a timer is what this is")]
pub async fn run(uploads: Uploads, places: Vec<Arc<Place>>, interval: Duration, swept: impl Fn(&Report) + Send) {
    let rules: Vec<_> = rules_of(&places).collect();
    let mut brooms = by_store(&places, &rules);
    let mut until_sweep = jittered(interval);
    loop {
        let pause = until_sweep.min(FORGET);
        tokio::time::sleep(pause).await;
        uploads.forget_idle();
        until_sweep -= pause;
        if until_sweep.is_zero() {
            for broom in &mut brooms {
                sweep(broom, interval, &swept).await;
            }
            until_sweep = jittered(interval);
        }
    }
}

async fn sweep(broom: &mut Broom, interval: Duration, swept: &(impl Fn(&Report) + Send)) {
    let report = match broom.store().elect_sweeper(interval).await {
        Ok(Some(now)) => broom.sweep(now).await,
        Ok(None) => return debug!(store = %broom.store(), "another replica sweeps in this interval"),
        Err(error) => return warn!(store = %broom.store(), %error, "no sweep this time"),
    };
    match report {
        Ok(report) => {
            info!(
                store = %broom.store(),
                sessions = report.sessions,
                expired = report.expired,
                forgotten = report.forgotten,
                orphans = report.orphans,
                aborted = report.aborted,
                failed = report.failed,
                "swept"
            );
            swept(&report);
        }
        Err(error) => warn!(store = %broom.store(), %error, "the sweep broke off"),
    }
}

/// What a sweep that somebody asked for tells.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Something that it does.
    Found(Finding),
    /// That it is through with a store.
    Swept {
        /// The store.
        store: String,
        /// What it did there.
        report: Report,
    },
    /// That it is not, and why.
    Failed {
        /// The store.
        store: String,
        /// Why.
        why: String,
    },
}

/// Sweeps the stores of `places` now, whoever has swept when: it may run beside other sweeps. `rules` are those of every route that
/// keeps sessions there. Nothing happens until somebody listens, and nothing more when nobody does. With `rehearse` it only says what it
/// would do; a small object is written even then, which tells the store's time.
pub fn at_once(places: &[Arc<Place>], rules: &[(String, Rules)], rehearse: bool) -> BoxStream<'static, Told> {
    let sweeps = by_store(places, rules).into_iter().map(move |broom| {
        let (listener, findings) = mpsc::channel(FINDINGS_AHEAD);
        let broom = broom.telling(listener);
        let broom = if rehearse { broom.rehearsing() } else { broom };
        let (end, ended) = oneshot::channel();
        let sweep = stream::once(async move {
            // Whoever would hear of it keeps this going.
            let _ = end.send(sweep_now(broom).await);
        });
        let found = stream::select(findings.map(Some), sweep.map(|()| None));
        // The end comes last, whatever is still on its way when it is there.
        let found = found.filter_map(|found| future::ready(found.map(Told::Found)));
        found.chain(stream::once(ended).filter_map(|ended| future::ready(ended.ok())))
    });
    stream::iter(sweeps).flatten().boxed()
}

async fn sweep_now(mut broom: Broom) -> Told {
    let store = broom.store().to_string();
    let swept = match broom.store().now().await {
        Ok(now) => broom.sweep(now).await,
        Err(error) => Err(error),
    };
    match swept {
        Ok(report) => Told::Swept { store, report },
        Err(error) => Told::Failed {
            store,
            why: error.to_string(),
        },
    }
}

/// The rules of each route.
pub fn rules_of(places: &[Arc<Place>]) -> impl Iterator<Item = (String, Rules)> {
    places.iter().map(|place| (place.route.clone(), place.rules.clone()))
}

/// One broom for each store: routes may share one. Each knows the rules of all routes, whose sessions may lie where one would not
/// expect them.
fn by_store(places: &[Arc<Place>], rules: &[(String, Rules)]) -> Vec<Broom> {
    let mut brooms: Vec<Broom> = Vec::new();
    for place in places {
        if brooms
            .iter()
            .any(|broom| broom.store().shares_sessions_with(&place.store))
        {
            continue;
        }
        let mut broom = Broom::new(place);
        for (route, rules) in rules {
            broom.learn(route, rules);
        }
        brooms.push(broom);
    }
    brooms
}

/// `interval`, shortened at random by up to a tenth, so that replicas that started together don't all ask together.
fn jittered(interval: Duration) -> Duration {
    let thousandth = u32::try_from(random_id().as_u128() % 100).unwrap_or_default();
    interval - interval / 1000 * thousandth
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::bits::{ContentRange, SessionId};
    use crate::budget::Budget;
    use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
    use crate::metrics::Metrics;
    use crate::session::{Principal, Target};
    use crate::store::faulty::Depot;
    use crate::upload::{Asked, Body, BodyBroken, Coordination, Durability, Register, Standing};

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
            };
            Self {
                uploads: Uploads::new(budget, Arc::new(clock), Metrics::new(["/"])),
                place: Arc::new(Place {
                    route: "/".to_owned(),
                    store: depot.store(),
                    rules,
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
            let sweeping = tokio::spawn(run(wrong.uploads.clone(), places, HOUR, move |report| {
                told.send(*report).unwrap();
            }));
            let mut expired = 0;
            for hour in 0..20 {
                for (replica, id, key) in [(&right, live[0], "live-1"), (&wrong, live[1], "live-2")] {
                    replica.send(key, id, hour * 10).await;
                }
                depot.advance(HOUR + Duration::from_secs(1));
                expired += swept.recv().await.unwrap().expired;
                if hour == 4 {
                    for id in dead {
                        assert_eq!(right.standing(id).await, Some(Standing::Open), "not before its time");
                    }
                }
            }
            sweeping.abort();
            assert_eq!(expired, 2);
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
}
