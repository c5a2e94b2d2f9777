//! What a connection is doing, for how long already, and what it holds meanwhile.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};

use tokio::time::{Instant, sleep_until};

use super::limits::Limits;

/// Bytes of a head after which the connection is cut without a look at it: the engine itself would buffer a mebibyte for
/// each. Twice the 128 KiB that are refused in good form, because what is read may hold some of a body as well.
const HOPELESS_HEAD: u64 = 260 * 1024;

/// Bytes of a head that every connection may hold. What is beyond comes out of a room that all share.
const SMALL_HEAD: u64 = 16 * 1024;

/// The least of that room: some clients with large Kerberos tickets, where few connections are allowed.
const LEAST_ROOM: u64 = 4 << 20;

/// Requests at once up to which each may read as much of its body as there is.
const FEW: usize = 256;

/// What one of more than these reads at once.
const SMALL_READ: usize = 16 * 1024;

/// What all connections together hold beyond the little that each may. Without it their memory would be theirs to decide.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Bytes that large heads may still take.
    room: AtomicU64,
    /// Requests that are being answered.
    busy: AtomicUsize,
}

impl Crowd {
    /// Of at most this many connections.
    pub(super) fn of(connections: usize) -> Self {
        let room = (connections as u64).saturating_mul(SMALL_HEAD).max(LEAST_ROOM);
        Self {
            room: AtomicU64::new(room),
            busy: AtomicUsize::new(0),
        }
    }

    fn claim(&self, bytes: u64) -> bool {
        let take = |room: u64| room.checked_sub(bytes);
        bytes == 0
            || self
                .room
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.room.fetch_add(bytes, Ordering::Relaxed);
    }

    fn moved(&self, from: Phase, to: Phase) {
        match (from == Phase::Busy, to == Phase::Busy) {
            (false, true) => drop(self.busy.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.busy.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
    }
}

/// What is thought of the bytes that a client sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Nothing.
    Fine,
    /// That they will never be a head.
    TooLong,
    /// That there are too many like them.
    NoRoom,
}

/// Where in a request a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Between two requests.
    Idle,
    /// A head is on its way.
    Head,
    /// A request is being answered.
    Busy,
}

/// What a connection is doing, as both its reader and its watch see it.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    crowd: Arc<Crowd>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    head_bytes: u64,
    /// Bytes of the common room that the head of the request takes.
    claimed: u64,
    /// Something was sent in this phase.
    spoke: bool,
    /// Bytes of the client may be unread when the connection ends.
    unread: bool,
}

impl Pulse {
    /// Of a connection that has just come in.
    pub(super) fn new(crowd: Arc<Crowd>) -> Self {
        let state = State {
            phase: Phase::Head,
            since: Instant::now(),
            head_bytes: 0,
            claimed: 0,
            spoke: false,
            unread: false,
        };
        Self {
            state: Mutex::new(state),
            crowd,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that the connection is now in `phase`.
    pub(super) fn enter(&self, phase: Phase) {
        self.with(|state| {
            self.crowd.moved(state.phase, phase);
            if phase == Phase::Idle {
                // The engine keeps a head for as long as its request lasts.
                self.crowd.give_back(std::mem::take(&mut state.claimed));
            }
            (state.phase, state.since, state.head_bytes, state.spoke) = (phase, Instant::now(), 0, false);
        });
    }

    /// How much may be read at once. The engine's buffer for bodies has 64 KiB, of which only what was read into takes memory.
    pub(super) fn most_at_once(&self) -> usize {
        if self.crowd.busy.load(Ordering::Relaxed) > FEW {
            SMALL_READ
        } else {
            usize::MAX
        }
    }

    /// Notes that the connection will end although the client may still be sending.
    pub(super) fn leave_unread(&self) {
        self.with(|state| state.unread = true);
    }

    /// Notes `bytes` from the client.
    pub(super) fn hear(&self, bytes: usize) -> Heard {
        self.with(|state| {
            if state.phase == Phase::Busy || bytes == 0 {
                return Heard::Fine;
            }
            if state.phase == Phase::Idle {
                (state.phase, state.since) = (Phase::Head, Instant::now());
            }
            state.head_bytes += bytes as u64;
            self.weigh(state)
        })
    }

    fn weigh(&self, state: &mut State) -> Heard {
        if state.head_bytes > HOPELESS_HEAD {
            return Heard::TooLong;
        }
        let large = state.head_bytes.saturating_sub(SMALL_HEAD);
        let more = large.saturating_sub(state.claimed);
        if !self.crowd.claim(more) {
            return Heard::NoRoom;
        }
        state.claimed += more;
        Heard::Fine
    }

    /// Notes that something was sent.
    pub(super) fn speak(&self) {
        self.with(|state| state.spoke = true);
    }

    /// Whether something was answered to a head that is no request: the engine's own refusal of what it cannot read.
    pub(super) fn spoke_to_a_head(&self) -> bool {
        self.with(|state| state.phase == Phase::Head && state.spoke)
    }

    /// Whether an answer is on its way to a client who may still be sending.
    pub(super) fn wants_lingering(&self) -> bool {
        self.with(|state| state.unread) || self.spoke_to_a_head()
    }

    /// Resolves when the connection has been in a phase for longer than `limits` allow; never while a request is answered.
    ///
    /// Belongs into the task that reads and writes the connection, behind the future that does: whatever that one changes is seen at the
    /// end of the same poll, and nobody has to be woken for it. A packet that is answered in one poll moves no timer.
    pub(super) async fn overdue(&self, limits: &Limits) -> Phase {
        let mut alarm = pin!(sleep_until(Instant::now() + limits.header_timeout));
        poll_fn(|cx| {
            loop {
                let (phase, since) = self.with(|state| (state.phase, state.since));
                let due = match phase {
                    Phase::Idle => Some(since + limits.idle_timeout),
                    Phase::Head => Some(since + limits.header_timeout),
                    Phase::Busy => None,
                };
                if let Some(due) = due.filter(|due| alarm.deadline() != *due) {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(cx));
                match due {
                    Some(_) => return Poll::Ready(phase),
                    // Another look later, whoever may have changed it meanwhile.
                    None => alarm.as_mut().reset(Instant::now() + limits.header_timeout),
                }
            }
        })
        .await
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.crowd.moved(state.phase, Phase::Idle);
        self.crowd.give_back(state.claimed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn alone() -> Pulse {
        Pulse::new(Arc::new(Crowd::of(1)))
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            header_timeout: 15 * SECOND,
            idle_timeout: 100 * SECOND,
            ..Limits::default()
        }
    }

    /// After how many seconds from now on the pulse finds that a phase took too long.
    async fn overdue_after(pulse: &Pulse) -> (Phase, u64) {
        let began = Instant::now();
        let phase = pulse.overdue(&limits()).await;
        (phase, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_connection_owes_a_head_from_the_start() {
        assert_eq!(overdue_after(&alone()).await, (Phase::Head, 15));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_a_head_runs_from_its_first_byte() {
        let pulse = alone();
        pulse.enter(Phase::Idle);
        tokio::time::advance(50 * SECOND).await;
        assert_eq!(pulse.hear(1), Heard::Fine);
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(pulse.hear(1), Heard::Fine);
        assert_eq!(overdue_after(&pulse).await, (Phase::Head, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_has_its_own_limit() {
        let pulse = alone();
        pulse.enter(Phase::Busy);
        pulse.enter(Phase::Idle);
        assert_eq!(overdue_after(&pulse).await, (Phase::Idle, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_overdue_while_a_request_is_answered() {
        let pulse = alone();
        pulse.enter(Phase::Busy);
        let watched = timeout(1_000_000 * SECOND, overdue_after(&pulse)).await;
        assert!(watched.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_begun_sees_what_happens() {
        let pulse = Arc::new(alone());
        let began = Instant::now();
        let watched = tokio::spawn({
            let pulse = Arc::clone(&pulse);
            async move { (pulse.overdue(&limits()).await, began.elapsed()) }
        });
        tokio::time::advance(10 * SECOND).await;
        pulse.enter(Phase::Busy);
        tokio::time::advance(500 * SECOND).await;
        pulse.enter(Phase::Idle);
        assert_eq!(watched.await.expect("no panic"), (Phase::Idle, 610 * SECOND));
    }

    #[tokio::test]
    async fn heads_without_end_are_noticed_and_bodies_are_not() {
        let pulse = alone();
        for _ in 0..HOPELESS_HEAD / 1024 {
            assert_eq!(pulse.hear(1024), Heard::Fine);
        }
        assert_eq!(pulse.hear(1), Heard::TooLong);
        pulse.enter(Phase::Busy);
        assert_eq!(pulse.hear(1 << 30), Heard::Fine);
    }

    #[tokio::test]
    async fn large_heads_share_a_room_until_their_requests_are_over() {
        let crowd = Arc::new(Crowd::of(1));
        let large = || {
            let pulse = Pulse::new(Arc::clone(&crowd));
            (pulse.hear(128 * 1024), pulse)
        };
        let mut pulses: Vec<_> = (0..LEAST_ROOM / (112 * 1024)).map(|_| large()).collect();
        assert!(pulses.iter().all(|(heard, _)| *heard == Heard::Fine));
        assert_eq!(large().0, Heard::NoRoom);
        assert_eq!(
            Pulse::new(Arc::clone(&crowd)).hear(16 * 1024),
            Heard::Fine,
            "small heads need no room"
        );
        let (_, pulse) = &pulses[0];
        pulse.enter(Phase::Busy);
        assert_eq!(large().0, Heard::NoRoom, "the engine still has the head");
        pulse.enter(Phase::Idle);
        assert_eq!(large().0, Heard::Fine);
        pulses.clear();
        assert_eq!(crowd.room.load(Ordering::Relaxed), LEAST_ROOM);
    }

    #[tokio::test]
    async fn only_a_crowd_reads_in_small_pieces() {
        let crowd = Arc::new(Crowd::of(1));
        let pulses: Vec<_> = (0..=FEW).map(|_| Pulse::new(Arc::clone(&crowd))).collect();
        let (last, others) = pulses.split_last().expect("there are some");
        others.iter().for_each(|pulse| pulse.enter(Phase::Busy));
        assert_eq!(last.most_at_once(), usize::MAX);
        last.enter(Phase::Busy);
        assert_eq!(last.most_at_once(), SMALL_READ);
        drop(pulses);
        assert_eq!(crowd.busy.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn only_who_may_still_be_sending_is_lingered_for() {
        let pulse = alone();
        assert!(!pulse.wants_lingering(), "nothing was answered");
        pulse.speak();
        assert!(pulse.wants_lingering(), "a head was refused");
        pulse.enter(Phase::Busy);
        pulse.speak();
        assert!(!pulse.wants_lingering(), "a request was answered");
        pulse.leave_unread();
        assert!(pulse.wants_lingering(), "its body was not read");
    }
}
