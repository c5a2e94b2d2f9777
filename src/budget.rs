//! One process-wide budget of buffered bytes (`limits.memory`): nothing is buffered that was not reserved here first.
//!
//! Reservations are granted in the order in which they were asked for, so a large one is never starved by small ones.
//! Whoever waits holds nothing (or only what somebody else will release for certain): so there is no deadlock.

mod slabs;

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::slabs::Filling;
use self::slabs::{SLAB, Slabs};

/// Reservations are counted in units of this many bytes.
const UNIT: u64 = 1024;

/// The budget stayed spent for as long as anybody is made to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the memory budget stayed exhausted for {} s", .waited.as_secs())]
pub struct Exhausted {
    /// How long the reservation waited in vain.
    pub waited: Duration,
}

/// Something that holds reserved bytes which it can do without.
pub trait Evict: Send + Sync {
    /// Gives back at least `bytes` bytes, if it has as many to spare.
    fn evict(&self, bytes: u64);
}

/// The budget. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    units: Arc<Semaphore>,
    total: u64,
    wait: Duration,
    waiting: watch::Sender<usize>,
    slabs: Slabs,
    evict: OnceLock<Weak<dyn Evict>>,
}

impl Budget {
    /// A budget of `bytes` bytes; a reservation waits for at most `wait`.
    pub fn new(bytes: u64, wait: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            units: Arc::new(Semaphore::new(units)),
            total: bytes,
            wait,
            waiting: watch::Sender::new(0),
            slabs: Slabs::default(),
            evict: OnceLock::new(),
        }))
    }

    /// Names the one that is asked to give back what it can do without before anybody is made to wait.
    pub fn evict_from(&self, owner: Weak<dyn Evict>) {
        // Only the first owner counts: there is one table of uploads in a process.
        let _ = self.0.evict.set(owner);
    }

    /// Reserves `bytes` bytes at once, or not at all.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let units = units(bytes)?;
        if let Ok(permit) = Arc::clone(&self.0.units).try_acquire_many_owned(units) {
            return Some(Reservation { permit, bytes });
        }
        self.0.evict.get().and_then(Weak::upgrade)?.evict(bytes);
        let permit = Arc::clone(&self.0.units).try_acquire_many_owned(units).ok()?;
        Some(Reservation { permit, bytes })
    }

    /// Reserves `bytes` bytes, waiting in the queue for them if need be.
    ///
    /// # Errors
    /// [`Exhausted`] when they don't become free in time, or when they are more than there are.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, Exhausted> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        let impossible = Exhausted { waited: Duration::ZERO };
        let units = units(bytes).ok_or(impossible)?;
        if bytes > self.0.total {
            return Err(impossible);
        }
        let _waiting = Waiting::enter(&self.0.waiting);
        let acquired = tokio::time::timeout(self.0.wait, Arc::clone(&self.0.units).acquire_many_owned(units)).await;
        match acquired {
            Ok(Ok(permit)) => Ok(Reservation { permit, bytes }),
            Ok(Err(_)) | Err(_) => Err(Exhausted { waited: self.0.wait }),
        }
    }

    /// Memory for up to `wanted` bytes that are reserved, as far as one piece goes.
    pub fn room(&self, wanted: u64) -> Filling {
        if wanted < SLAB as u64 {
            self.take_elsewhere(wanted);
        }
        self.0.slabs.room(usize::try_from(wanted).unwrap_or(usize::MAX))
    }

    /// Notes that `bytes` bytes that are reserved come from elsewhere than [`Budget::room`], so that what is kept for that makes way for them.
    pub fn take_elsewhere(&self, bytes: u64) {
        self.0.slabs.make_way(bytes, self.total() - self.used());
    }

    /// Gives the system back what [`Budget::room`] did not need since the last call. To be called from time to time.
    pub fn trim(&self) {
        self.0.slabs.trim();
    }

    /// Resolves as soon as somebody waits for memory.
    pub async fn pressed(&self) {
        let mut waiting = self.0.waiting.subscribe();
        // The sender lives as long as this budget: the wait cannot fail.
        let _ = waiting.wait_for(|count| *count > 0).await;
    }

    /// Whether somebody waits for memory.
    pub fn is_pressed(&self) -> bool {
        *self.0.waiting.borrow() > 0
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Bytes reserved at the moment.
    pub fn used(&self) -> u64 {
        self.0
            .total
            .saturating_sub(self.0.units.available_permits() as u64 * UNIT)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("total", &self.total())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT)).ok()
}

/// One in the queue: counted as long as it lives, also when its future is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn enter(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Bytes that may be buffered. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    bytes: u64,
}

impl Reservation {
    /// How many bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what `other` reserved to this one.
    pub fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
        self.bytes += other.bytes;
        self.round();
    }

    /// Gives back all but `bytes` bytes.
    pub fn shrink(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
        self.round();
    }

    /// Gives back the units beyond those that the bytes fill: small reservations that were merged take up one each.
    fn round(&mut self) {
        let keep = units(self.bytes).map_or(usize::MAX, |units| units as usize);
        if let Some(surplus) = self.permit.num_permits().checked_sub(keep) {
            drop(self.permit.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const KIB: u64 = 1024;

    #[tokio::test(start_paused = true)]
    async fn a_reservation_that_cannot_be_had_in_time_is_refused() {
        let budget = Budget::new(10 * KIB, Duration::from_secs(60));
        let held = budget.reserve(8 * KIB).await.unwrap();
        assert_eq!(
            budget.reserve(4 * KIB).await.unwrap_err(),
            Exhausted {
                waited: Duration::from_secs(60)
            }
        );
        assert!(!budget.is_pressed());
        drop(held);
        assert_eq!(budget.reserve(10 * KIB).await.unwrap().bytes(), 10 * KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_there_is_is_refused_at_once() {
        let budget = Budget::new(10 * KIB, Duration::from_secs(60));
        assert_eq!(
            budget.reserve(11 * KIB).await.unwrap_err(),
            Exhausted { waited: Duration::ZERO }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_reservation_is_not_starved_by_small_ones_behind_it() {
        let budget = Budget::new(10 * KIB, Duration::from_secs(60));
        let first = budget.reserve(6 * KIB).await.unwrap();
        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(8 * KIB).await }
        });
        budget.pressed().await;
        assert!(budget.try_reserve(KIB).is_none(), "the small one does not overtake");
        drop(first);
        assert_eq!(large.await.unwrap().unwrap().bytes(), 8 * KIB);
    }

    #[tokio::test]
    async fn what_can_be_done_without_is_given_back_before_anybody_waits() {
        struct Cache(Mutex<Option<Reservation>>);
        impl Evict for Cache {
            fn evict(&self, _bytes: u64) {
                self.0.lock().unwrap().take();
            }
        }
        let budget = Budget::new(10 * KIB, Duration::from_secs(60));
        let cache = Arc::new(Cache(Mutex::new(budget.try_reserve(9 * KIB))));
        let owner: Arc<dyn Evict> = cache.clone();
        budget.evict_from(Arc::downgrade(&owner));
        assert!(budget.try_reserve(5 * KIB).is_some());
        assert!(cache.0.lock().unwrap().is_none());
    }

    #[test]
    fn many_small_reservations_that_are_merged_take_no_more_than_their_sum() {
        let budget = Budget::new(10 * KIB, Duration::ZERO);
        let mut all = budget.try_reserve(1).unwrap();
        for _ in 0..1999 {
            all.merge(budget.try_reserve(1).unwrap());
        }
        assert_eq!((all.bytes(), budget.used()), (2000, 2 * KIB));
    }

    #[test]
    fn shrinking_and_merging_keep_the_count() {
        let budget = Budget::new(10 * KIB, Duration::ZERO);
        let mut one = budget.try_reserve(5 * KIB).unwrap();
        one.merge(budget.try_reserve(3 * KIB).unwrap());
        assert_eq!((one.bytes(), budget.used()), (8 * KIB, 8 * KIB));
        one.shrink(KIB);
        assert_eq!((one.bytes(), budget.used()), (KIB, KIB));
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
