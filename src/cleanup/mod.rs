//! The broom: sessions past their time-out, and what crashes left behind: events that nobody told anybody of, too.
//!
//! It may run anywhere and twice: every change it makes to a session is a compare-and-swap on the version that it read,
//! and what it deletes was found to belong to nobody, by a read that was made after the list. All ages are measured by
//! the store's own clock.

mod broom;
#[cfg(test)]
mod clocks;
mod events;
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
pub use events::{Gathered, Gatherer, deliver_what_is_left};
pub use finding::{Deed, Finding, Report};
pub use settings::Settings;

use crate::clock::random_id;
use crate::metrics::CleanupOutcome;
use crate::upload::{Place, Rules, Uploads};

/// How often the sessions that nobody asks for are forgotten by this process.
const FORGET: Duration = Duration::from_secs(60);

/// Findings that a sweep may be ahead of whoever listens.
const FINDINGS_AHEAD: usize = 64;

/// Sweeps the stores of `places` for ever, one of all replicas in every `interval`, and tells how each sweep of a store `ended`. To be
/// dropped when the process ends.
#[expect(clippy::disallowed_methods, reason = "a timer is what this is")]
pub async fn run(uploads: Uploads, places: Vec<Arc<Place>>, interval: Duration, ended: impl Fn(CleanupOutcome) + Send) {
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
                ended(sweep(broom, interval).await);
            }
            until_sweep = jittered(interval);
        }
    }
}

async fn sweep(broom: &mut Broom, interval: Duration) -> CleanupOutcome {
    // A replica that is alone sweeps each time that it asks.
    let report = match broom.store().elect_sweeper(interval - interval / JITTER).await {
        Ok(Some(now)) => broom.sweep(now).await,
        Ok(None) => {
            debug!(store = %broom.store(), "another replica swept in this interval");
            return CleanupOutcome::Skipped;
        }
        Err(error) => {
            warn!(store = %broom.store(), %error, "no sweep this time");
            return CleanupOutcome::Failed;
        }
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
            if report.failed == 0 {
                CleanupOutcome::Swept
            } else {
                CleanupOutcome::Incomplete
            }
        }
        Err(error) => {
            warn!(store = %broom.store(), %error, "the sweep broke off");
            CleanupOutcome::Failed
        }
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
        let known = brooms
            .iter_mut()
            .find(|broom| broom.store().shares_sessions_with(&place.store));
        match known {
            Some(broom) => broom.serve(place),
            None => brooms.push(Broom::new(place)),
        }
    }
    for broom in &mut brooms {
        for (route, rules) in rules {
            broom.learn(route, rules);
        }
    }
    brooms
}

/// `interval`, shortened at random by up to a tenth, so that replicas that started together don't all ask together.
fn jittered(interval: Duration) -> Duration {
    let thousandth = u32::try_from(random_id().as_u128() % 100).unwrap_or_default();
    interval - interval / JITTER / 100 * thousandth
}

/// By which part of it an interval may be shortened: a tenth.
const JITTER: u32 = 10;

#[cfg(test)]
mod tests {

    use tokio::sync::mpsc;

    use super::*;
    use crate::bits::SessionId;
    use crate::budget::Budget;
    use crate::clock::{Clock, SystemClock};
    use crate::metrics::Metrics;
    use crate::session::{Before, Principal, RECORD_VERSION, Record, Target};
    use crate::store::Store;
    use crate::store::depot::{Depot, Line};
    use crate::upload::{Checksum, Coordination, Durability, Rules};

    const HOUR: Duration = Duration::from_secs(3600);

    fn place(store: Store) -> Arc<Place> {
        let rules = Rules {
            overwrite: false,
            max_upload_size: 1 << 20,
            max_fragment_size: 1 << 20,
            part_size: 64,
            session_timeout: 24 * HOUR,
            closed_session_memory: 24 * HOUR,
            durability: Durability::Fragment,
            coordination: Coordination::Shared,
            checksum: Checksum::Off,
            checksum_sidecar: false,
        };
        Arc::new(Place {
            route: "/".to_owned(),
            store,
            rules,
            application: None,
            events: None,
        })
    }

    /// What a replica that sweeps `store` every hour tells.
    fn replica(store: Store) -> mpsc::UnboundedReceiver<CleanupOutcome> {
        let uploads = Uploads::new(Budget::new(1024, HOUR), Arc::new(SystemClock), Metrics::new(["/"]));
        let (told, outcomes) = mpsc::unbounded_channel();
        tokio::spawn(run(uploads, vec![place(store)], HOUR, move |outcome| {
            // The receiver may be gone at the end of a test.
            let _ = told.send(outcome);
        }));
        outcomes
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_alone_sweeps_in_every_interval() {
        let depot = Depot::memory();
        let mut outcomes = replica(depot.store());
        for _ in 0..5 {
            assert_eq!(outcomes.recv().await, Some(CleanupOutcome::Swept));
            // It asks again after a little less than the interval.
            depot.advance(HOUR * 9 / 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_another_replica_did_is_told_from_one_that_failed() {
        let depot = Depot::memory();
        let line = Line::new();
        let mut outcomes = replica(depot.over(&line));
        assert_eq!(outcomes.recv().await, Some(CleanupOutcome::Swept));
        // By the clock of the store no time went by.
        assert_eq!(outcomes.recv().await, Some(CleanupOutcome::Skipped));
        line.cut();
        assert_eq!(outcomes.recv().await, Some(CleanupOutcome::Failed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_left_a_session_behind_is_told_as_incomplete() {
        let depot = Depot::memory();
        let store = depot.store();
        let target = Target {
            route: "/".to_owned(),
            key: "f".to_owned(),
            query: None,
        };
        let id = SessionId::new(random_id());
        let (nobody, url, absent) = (Principal::anonymous(), String::new(), Before::Absent);
        let record = Record::begin(id, nobody, target, url, 64, 64, false, absent, SystemClock.now());
        let newer = Record {
            min_reader: RECORD_VERSION + 1,
            ..record
        };
        store.create_record(&newer).await.unwrap();
        depot.advance(2 * HOUR);
        assert_eq!(replica(depot.store()).recv().await, Some(CleanupOutcome::Incomplete));
    }
}
