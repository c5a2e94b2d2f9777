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
use crate::upload::{Place, Uploads};

/// How often the sessions that nobody asks for are forgotten by this process.
const FORGET: Duration = Duration::from_secs(60);

/// Sweeps the stores of `places` for ever, one of all replicas in every `interval`. To be dropped when the process ends.
#[expect(clippy::disallowed_methods, reason = "a timer is what this is")]
pub async fn run(uploads: Uploads, places: Vec<Arc<Place>>, interval: Duration, swept: impl Fn(&Report) + Send) {
    let mut brooms = by_store(places);
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
    interval - interval / 1000 * thousandth
}
