//! One packet at a time per session in this process; a newer packet makes the older one stop and yield.
//!
//! The connection that carried the older packet may look alive long after its client gave it up. Between processes
//! there is no turn: the store's conditional writes decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};

use super::view::View;

/// A session in the table of this process.
#[derive(Debug)]
pub(super) struct Entry {
    view: Mutex<Option<View>>,
    newest: Arc<Newest>,
    /// Whether it stands in the list of those that hold bytes.
    enlisted: AtomicBool,
}

/// The ticket of the newest packet. A channel would do the same, and be half of what an idle session costs.
#[derive(Debug, Default)]
struct Newest {
    ticket: AtomicU64,
    came: Notify,
}

/// The right to act for a session.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) view: MutexGuard<'a, Option<View>>,
    newest: Arc<Newest>,
    ticket: u64,
}

impl Entry {
    pub(super) fn new(view: Option<View>) -> Self {
        Self {
            view: Mutex::new(view),
            newest: Arc::default(),
            enlisted: AtomicBool::new(false),
        }
    }

    /// Takes the turn, waiting at most `patience` for the packet that has it to stop.
    /// `None` when it does not, or when a still newer packet came meanwhile.
    pub(super) async fn turn(&self, patience: Duration) -> Option<Turn<'_>> {
        let newest = Arc::clone(&self.newest);
        let ticket = newest.ticket.fetch_add(1, Ordering::AcqRel) + 1;
        newest.came.notify_waiters();
        let view = tokio::time::timeout(patience, self.view.lock()).await.ok()?;
        let turn = Turn { view, newest, ticket };
        (!turn.is_superseded()).then_some(turn)
    }

    /// Notes that the session holds bytes; `false` when that was known.
    pub(super) fn enlist(&self) -> bool {
        !self.enlisted.swap(true, Ordering::AcqRel)
    }

    /// Gives back the memory of the bytes that are held for an idle session.
    pub(super) fn drop_held(&self) {
        self.enlisted.store(false, Ordering::Release);
        if let Ok(mut state) = self.view.try_lock() {
            match state.as_mut() {
                Some(view) if view.volatile => *state = None,
                Some(view) => view.held = None,
                None => {}
            }
        }
    }

    /// Whether nobody acts for the session and nothing is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.view.try_lock().is_ok_and(|view| view.is_none())
    }

    /// Whether nobody acts for the session, and nobody has for `idle`; where bytes would be lost with it, for `volatile`.
    pub(super) fn is_idle(&self, idle: Duration, volatile: Duration) -> bool {
        let Ok(view) = self.view.try_lock() else { return false };
        view.as_ref().is_none_or(|view| {
            let idle = if view.volatile { volatile } else { idle };
            view.used.elapsed() >= idle
        })
    }
}

impl Turn<'_> {
    /// Whether a newer packet waits for the turn.
    pub(super) fn is_superseded(&self) -> bool {
        self.newest.ticket.load(Ordering::Acquire) != self.ticket
    }

    /// What resolves as soon as a newer packet waits for the turn.
    pub(super) fn superseded(&self) -> impl Future<Output = ()> + Send + 'static {
        let (newest, ticket) = (Arc::clone(&self.newest), self.ticket);
        async move {
            loop {
                // Made before the look, it hears of every packet that comes after it.
                let came = newest.came.notified();
                if newest.ticket.load(Ordering::Acquire) != ticket {
                    return;
                }
                came.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_newer_packet_makes_the_older_one_yield() {
        let entry = Entry::new(None);
        let older = entry.turn(PATIENCE).await.unwrap();
        let superseded = older.superseded();
        let (newer, ()) = tokio::join!(entry.turn(PATIENCE), async {
            superseded.await;
            assert!(older.is_superseded());
            drop(older);
        });
        assert!(!newer.unwrap().is_superseded());
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_that_wait_only_the_newest_gets_the_turn() {
        let entry = Entry::new(None);
        let holder = entry.turn(PATIENCE).await.unwrap();
        let (middle, newest, ()) = tokio::join!(entry.turn(PATIENCE), entry.turn(PATIENCE), async { drop(holder) });
        assert!(middle.is_none());
        assert!(newest.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_stop_is_not_waited_for_for_ever() {
        let entry = Entry::new(None);
        let _holder = entry.turn(PATIENCE).await.unwrap();
        assert!(entry.turn(PATIENCE).await.is_none());
    }
}
