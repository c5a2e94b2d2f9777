//! The broom: sessions past their time-out, and what crashes left behind.
//!
//! It may run anywhere and twice: every change it makes to a session is a compare-and-swap on the version that it read,
//! and what it deletes was found to belong to nobody, by a read that was made after the list. All ages are measured by
//! the store's own clock.

mod broom;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

pub use broom::{Broom, Report};
pub use settings::Settings;

use crate::clock::random_id;
use crate::metrics::CleanupOutcome;
use crate::upload::{Place, Uploads};

/// How often the sessions that nobody asks for are forgotten by this process.
const FORGET: Duration = Duration::from_secs(60);

/// Sweeps the stores of `places` for ever, one of all replicas in every `interval`, and tells how each sweep of a store `ended`. To be
/// dropped when the process ends.
#[expect(clippy::disallowed_methods, reason = "a timer is what this is")]
pub async fn run(uploads: Uploads, places: Vec<Arc<Place>>, interval: Duration, ended: impl Fn(CleanupOutcome) + Send) {
    let mut brooms = by_store(places);
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

/// One broom for each store: routes may share one.
fn by_store(places: Vec<Arc<Place>>) -> Vec<Broom> {
    let mut brooms: Vec<Broom> = Vec::new();
    for place in places {
        match brooms
            .iter_mut()
            .find(|broom| broom.store().to_string() == place.store.to_string())
        {
            Some(broom) => broom.add(&place),
            None => brooms.push(Broom::new(&place)),
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
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;

    use super::*;
    use crate::bits::SessionId;
    use crate::budget::Budget;
    use crate::clock::{Clock, SystemClock};
    use crate::metrics::Metrics;
    use crate::session::{Before, Principal, RECORD_VERSION, Record, Target};
    use crate::store::Store;
    use crate::store::faulty::{Depot, Dice, Line};
    use crate::upload::{Coordination, Durability, Rules};

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
        };
        Arc::new(Place {
            route: "/".to_owned(),
            store,
            rules,
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
        let line = Line::new(Dice::new(1), 0, false, &Arc::<AtomicUsize>::default());
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
