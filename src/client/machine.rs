//! The state machine of an upload client (MC-BUP 3.1.5.1, figure 4), pure: answers in, the next request or a verdict out.
//!
//! The caller sends what [`Machine::request`] returns, hands what came of it to [`Machine::heard`], and does what the
//! [`Step`] says. Time is an argument, randomness comes from a seed, so that every run can be repeated.
//!
//! ```text
//! CREATE_SESSION ──(Host-Id: PING)──▶ FRAGMENT* ──▶ CLOSE ──▶ done
//!       ▲                                │            │
//!       ├── 0x8020001F ──────────────────┴────────────┤
//!       └── trouble: wait, then PING, then go on ◀────┘
//! ```

use std::time::Duration;

use super::authority::Authority;
use super::event::{Event, Failure, Trouble};
use super::sizes::{Dice, LEAST, Sizes};
use super::told::Told;
use crate::bits::{PROTOCOL, PacketKind};

/// What to send next, and to which host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The packet.
    pub packet: Outgoing,
    /// The host that the server named in its `BITS-Host-Id`; without one the host of the URL.
    pub host: Option<Authority>,
}

/// A packet that a client sends (MC-BUP 2.2.2 to 2.2.8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outgoing {
    /// Asks for a session.
    CreateSession,
    /// Asks whether the server is there.
    Ping,
    /// Carries the bytes `from..to` of the file.
    Fragment {
        /// The session, as the server wrote it.
        session: String,
        /// Offset of the first byte.
        from: u64,
        /// Offset of the first byte after the fragment; equal to `from` only for a file of no bytes.
        to: u64,
    },
    /// Ends the session.
    CloseSession {
        /// The session, as the server wrote it.
        session: String,
    },
}

impl Outgoing {
    /// Which of the five packets this is.
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::CreateSession => PacketKind::CreateSession,
            Self::Ping => PacketKind::Ping,
            Self::Fragment { .. } => PacketKind::Fragment,
            Self::CloseSession { .. } => PacketKind::CloseSession,
        }
    }
}

/// How stubborn the client is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// The wait after the first trouble; it doubles with each further one.
    pub retry_delay: Duration,
    /// The longest wait, unless the server asks for a longer one with `Retry-After`.
    pub longest_delay: Duration,
    /// How long the upload may go without a byte acknowledged before it is given up; zero means that nothing is retried.
    pub give_up_after: Duration,
}

/// What outlives the process: enough to go on with the session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Memory {
    /// The session, as the server wrote it.
    pub session: String,
    /// The offset of the next byte to send, as far as is known.
    pub offset: u64,
    /// The server holds the whole file; only the Close-Session is missing.
    pub delivered: bool,
    /// The host that the server named for this session.
    pub host: Option<HostId>,
}

/// Where the server wants the rest of a session (MC-BUP 2.2.3.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostId {
    /// The host, with a port when the server named one.
    pub authority: Authority,
    /// How long that host may fail before the client goes back to the host of the URL; `None` is for ever.
    pub fallback_timeout: Option<Duration>,
}

/// What came of a request, and what to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What happened, for whoever watches.
    pub event: Event,
    /// What to do.
    pub then: Then,
}

/// What to do after a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Then {
    /// Send the next request at once.
    Send,
    /// Wait this long, then send the next request.
    Wait(Duration),
    /// The upload is done.
    Done,
    /// The upload has failed.
    Fail(Failure),
}

#[derive(Clone, Debug)]
struct Session {
    id: String,
    host: Option<HostId>,
}

#[derive(Clone, Debug)]
enum State {
    Creating,
    Pinging(Session),
    /// With the range on its way.
    Sending(Session, u64, u64),
    Closing(Session),
}

/// An upload in progress.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    total: u64,
    sizes: Sizes,
    patience: Patience,
    dice: Dice,
    /// FRAGMENT-START-OFFSET of MC-BUP 3.1.1.2.
    start: u64,
    delivered: bool,
    /// No fragment is larger: what 413 answers have left of the sizes.
    ceiling: u64,
    /// The highest offset that was acknowledged in this session.
    best: u64,
    progress_at: Duration,
    /// Troubles since the last progress.
    troubles: u32,
    /// Fragments in a row that were answered without progress.
    fruitless: u32,
    /// Sessions that the server lost, in all, and whether a byte was acknowledged since the last of them.
    lost: u32,
    lost_in_vain: bool,
    fallback_at: Option<Duration>,
}

/// Answers without progress before the client slows down: a rewind or two after a lost Ack are ordinary.
const FRUITLESS_ALLOWED: u32 = 4;

/// Sessions that may be lost in one run: a guess, far above what restarts and restores bring about.
const LOST_ALLOWED: u32 = 16;

impl Machine {
    /// An upload of a file of `total` bytes; `memory` is what an earlier run left of it. `now` is any clock that never
    /// goes back; the same `seed` gives the same sizes and waits.
    pub fn new(total: u64, sizes: Sizes, patience: Patience, seed: u64, memory: Option<Memory>, now: Duration) -> Self {
        let mut machine = Self {
            state: State::Creating,
            total,
            sizes,
            patience,
            dice: Dice::new(seed),
            start: 0,
            delivered: false,
            ceiling: u64::MAX,
            best: 0,
            progress_at: now,
            troubles: 0,
            fruitless: 0,
            lost: 0,
            lost_in_vain: false,
            fallback_at: None,
        };
        if let Some(memory) = memory {
            machine.start = memory.offset.min(total);
            machine.best = machine.start;
            machine.delivered = memory.delivered;
            if machine.start == total && !machine.delivered {
                machine.start = 0;
            }
            // An interrupted session goes on with a Ping (MC-BUP 3.1.4.3, note 9).
            machine.state = State::Pinging(Session {
                id: memory.session,
                host: memory.host,
            });
        }
        machine
    }

    /// What is worth keeping for a later run; nothing before there is a session.
    pub fn memory(&self) -> Option<Memory> {
        self.session().map(|session| Memory {
            session: session.id.clone(),
            offset: self.start,
            delivered: self.delivered,
            host: session.host.clone(),
        })
    }

    /// What to send now. Call it once before each [`Machine::heard`].
    pub fn request(&mut self) -> Request {
        let host = self
            .session()
            .and_then(|session| session.host.as_ref())
            .map(|host| host.authority.clone());
        let packet = match &mut self.state {
            State::Creating => Outgoing::CreateSession,
            State::Pinging(_) => Outgoing::Ping,
            State::Sending(session, from, to) => {
                let length = self.sizes.draw(&mut self.dice).min(self.ceiling).max(1);
                *from = self.start;
                *to = self.start.saturating_add(length).min(self.total);
                Outgoing::Fragment {
                    session: session.id.clone(),
                    from: *from,
                    to: *to,
                }
            }
            State::Closing(session) => Outgoing::CloseSession {
                session: session.id.clone(),
            },
        };
        Request { packet, host }
    }

    /// Takes what came of the last request: an answer, or why none came.
    pub fn heard(&mut self, heard: Result<Told, String>, now: Duration) -> Step {
        let told = match heard {
            Ok(told) => told,
            Err(text) => return self.trouble(Trouble::Transport(text), None, now),
        };
        // The first rule of the ERROR state (MC-BUP 3.1.5.1.7), whatever was asked.
        if told.lost_session() {
            return self.session_lost(now);
        }
        match self.state.clone() {
            State::Creating => self.create_answered(&told, now),
            State::Pinging(session) => self.ping_answered(session, &told, now),
            State::Sending(session, from, to) => self.fragment_answered(session, from, to, &told, now),
            State::Closing(_) => self.close_answered(&told, now),
        }
    }

    const fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Creating => None,
            State::Pinging(session) | State::Sending(session, ..) | State::Closing(session) => Some(session),
        }
    }

    /// MC-BUP 3.1.5.2.2.
    fn create_answered(&mut self, told: &Told, now: Duration) -> Step {
        if !told.success() {
            return self.refused(PacketKind::CreateSession, told, now);
        }
        let wrong = if !told.ack {
            Some("a success without \"BITS-Packet-Type: Ack\"")
        } else if !told
            .protocol
            .as_deref()
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL))
        {
            Some("it chose no protocol that this client speaks")
        } else if told.session.is_none() {
            Some("it named no session")
        } else {
            None
        };
        let (None, Some(id)) = (wrong, &told.session) else {
            return fail(Failure::NotBits(wrong.unwrap_or("it named no session")));
        };
        let host = match &told.host {
            None => None,
            Some(text) => match Authority::parse(text) {
                Some(authority) => Some(HostId {
                    authority,
                    fallback_timeout: told.fallback_timeout,
                }),
                None => return fail(Failure::NotBits("its BITS-Host-Id is not a host")),
            },
        };
        self.best = 0;
        self.fruitless = 0;
        self.delivered = false;
        self.fallback_at = None;
        // A re-created session starts at the old offset (MC-BUP 3.1.5.1.7 goes to CREATE_SESSION, not to INIT), and the
        // server corrects it. Only an offset at the end can't be sent from.
        if self.start >= self.total {
            self.start = 0;
        }
        let session = Session { id: id.clone(), host };
        // A Host-Id is tried with a Ping first (MC-BUP 2.2.4, note 9).
        self.state = match session.host {
            Some(_) => State::Pinging(session),
            None => State::Sending(session, self.start, self.start),
        };
        Step {
            event: Event::Created { session: id.clone() },
            then: Then::Send,
        }
    }

    fn ping_answered(&mut self, session: Session, told: &Told, now: Duration) -> Step {
        if !told.success() {
            return self.refused(PacketKind::Ping, told, now);
        }
        if !told.ack {
            return self.trouble(Trouble::Unusable("it is no Ack"), told.retry_after, now);
        }
        self.state = match self.delivered {
            true => State::Closing(session),
            false => State::Sending(session, self.start, self.start),
        };
        Step {
            event: Event::Reached,
            then: Then::Send,
        }
    }

    /// MC-BUP 3.1.5.1.4 and 3.1.5.2.4.
    fn fragment_answered(&mut self, session: Session, from: u64, to: u64, told: &Told, now: Duration) -> Step {
        if told.status == 413 && to - from > LEAST {
            self.ceiling = ((to - from) / 2).max(LEAST);
            return Step {
                event: Event::Shrunk { most: self.ceiling },
                then: Then::Send,
            };
        }
        if !(told.success() || (told.status == 416 && told.ack)) {
            return self.refused(PacketKind::Fragment, told, now);
        }
        let unusable = match told.received {
            _ if !told.ack => Some("it is no Ack"),
            None => Some("it names no offset in BITS-Received-Content-Range"),
            Some(offset) if offset > self.total => Some("it names an offset beyond the end of the file"),
            Some(_) => None,
        };
        let (None, Some(offset)) = (unusable, told.received) else {
            return self.trouble(
                Trouble::Unusable(unusable.unwrap_or("it names no offset")),
                told.retry_after,
                now,
            );
        };

        self.start = offset;
        if offset > self.best || offset == self.total {
            self.best = offset;
            self.progress_at = now;
            self.troubles = 0;
            self.fruitless = 0;
            self.lost_in_vain = false;
            self.fallback_at = None;
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        if offset == self.total {
            self.delivered = true;
            self.state = State::Closing(session);
        } else if self.fruitless > FRUITLESS_ALLOWED {
            return self.trouble(Trouble::Stuck, told.retry_after, now);
        }
        let event = match offset == to {
            true => Event::Stored { offset },
            false => Event::Moved { from: to, to: offset },
        };
        Step {
            event,
            then: Then::Send,
        }
    }

    /// MC-BUP 3.1.5.2.5; what is sent again is told by the win32 page "Ack for Close-Session": 500 to 599 only.
    fn close_answered(&mut self, told: &Told, now: Duration) -> Step {
        if told.success() && told.ack {
            return Step {
                event: Event::Closed,
                then: Then::Done,
            };
        }
        if told.success() {
            return self.trouble(Trouble::Unusable("it is no Ack"), told.retry_after, now);
        }
        let refusal = told.refusal(PacketKind::CloseSession);
        match (500..=599).contains(&told.status) {
            true => self.trouble(Trouble::Answered(refusal), told.retry_after, now),
            false => fail(Failure::Refused(refusal)),
        }
    }

    fn refused(&mut self, packet: PacketKind, told: &Told, now: Duration) -> Step {
        let refusal = told.refusal(packet);
        match told.may_pass() {
            true => self.trouble(Trouble::Answered(refusal), told.retry_after, now),
            false => fail(Failure::Refused(refusal)),
        }
    }

    /// The session is unknown to the server: a new one, at once (MC-BUP 3.1.5.1.7), but with a wait when nothing was
    /// stored since it happened the last time.
    fn session_lost(&mut self, now: Duration) -> Step {
        self.state = State::Creating;
        self.delivered = false;
        self.lost = self.lost.saturating_add(1);
        if self.lost > LOST_ALLOWED {
            let idle = now.saturating_sub(self.progress_at);
            return fail(Failure::Exhausted {
                trouble: Trouble::Forgetful,
                idle,
            });
        }
        if std::mem::replace(&mut self.lost_in_vain, true) {
            return self.trouble(Trouble::Forgetful, None, now);
        }
        Step {
            event: Event::SessionLost,
            then: Then::Send,
        }
    }

    /// The rest of the ERROR state: the fallback timer, then a wait, then a Ping and whatever was interrupted.
    fn trouble(&mut self, trouble: Trouble, retry_after: Option<Duration>, now: Duration) -> Step {
        self.troubles = self.troubles.saturating_add(1);
        let idle = now.saturating_sub(self.progress_at);
        let left = self.patience.give_up_after.saturating_sub(idle);
        if left.is_zero() || retry_after.is_some_and(|asked| asked > left) {
            return fail(Failure::Exhausted { trouble, idle });
        }
        let wait = self.wait(retry_after).min(left);
        let back_to_origin = self.fall_back(now, wait);
        self.state = match self.session().cloned() {
            Some(session) => State::Pinging(session),
            None => State::Creating,
        };
        Step {
            event: Event::Troubled {
                trouble,
                wait,
                back_to_origin,
            },
            then: Then::Wait(wait),
        }
    }

    fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        if let Some(asked) = retry_after {
            // A server that asks for no wait at all does not get a busy loop.
            return asked.max(self.patience.retry_delay.min(Duration::from_secs(1)));
        }
        let doublings = self.troubles.saturating_sub(1).min(30);
        let whole = self
            .patience
            .retry_delay
            .saturating_mul(1 << doublings)
            .min(self.patience.longest_delay);
        // Between half and all of it: clients that were cut off together shall not come back together.
        let half = whole / 2;
        half + half.mul_f64(self.dice.fraction())
    }

    /// Host-Id fallback (MC-BUP 3.1.6.3): the timer starts with the first failure, and once it has run out, the next message
    /// goes to the host of the URL. True when that is so.
    fn fall_back(&mut self, now: Duration, wait: Duration) -> bool {
        let (State::Pinging(session) | State::Sending(session, ..) | State::Closing(session)) = &mut self.state else {
            return false;
        };
        let Some(timeout) = session.host.as_ref().and_then(|host| host.fallback_timeout) else {
            return false;
        };
        let at = *self.fallback_at.get_or_insert(now.saturating_add(timeout));
        let over = at <= now.saturating_add(wait);
        if over {
            session.host = None;
            self.fallback_at = None;
        }
        over
    }
}

const fn fail(failure: Failure) -> Step {
    Step {
        event: Event::GivenUp,
        then: Then::Fail(failure),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bits::{ErrorContext, Hresult};
    use crate::client::event::Refusal;
    use crate::client::sizes::MOST;

    const PATIENCE: Patience = Patience {
        retry_delay: Duration::from_secs(5),
        longest_delay: Duration::from_secs(600),
        give_up_after: Duration::from_secs(3_600),
    };

    const NOW: Duration = Duration::ZERO;

    fn machine(total: u64) -> Machine {
        Machine::new(total, Sizes::Fixed(10_000), PATIENCE, 1, None, NOW)
    }

    fn ack(status: u16) -> Told {
        Told {
            status,
            ack: true,
            ..Told::default()
        }
    }

    fn created(session: &str) -> Told {
        Told {
            protocol: Some(PROTOCOL.to_uppercase()),
            session: Some(session.to_owned()),
            ..ack(200)
        }
    }

    fn received(status: u16, offset: u64) -> Told {
        Told {
            received: Some(offset),
            ..ack(status)
        }
    }

    fn error(status: u16, code: u32) -> Told {
        Told {
            error: Some(Hresult(code)),
            context: Some(ErrorContext::RemoteFile),
            ..ack(status)
        }
    }

    /// Sends and hears; returns what was sent and what is to be done.
    fn turn(machine: &mut Machine, told: Told) -> (Outgoing, Then) {
        let request = machine.request();
        (request.packet, machine.heard(Ok(told), NOW).then)
    }

    fn fragment(from: u64, to: u64) -> Outgoing {
        Outgoing::Fragment {
            session: "s".to_owned(),
            from,
            to,
        }
    }

    fn waits(then: &Then) -> bool {
        matches!(then, Then::Wait(_))
    }

    #[test]
    fn a_file_goes_up_in_fragments_and_the_session_is_closed() {
        let mut machine = machine(25_000);
        assert_eq!(turn(&mut machine, created("s")), (Outgoing::CreateSession, Then::Send));
        assert_eq!(
            turn(&mut machine, received(200, 10_000)),
            (fragment(0, 10_000), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, received(200, 20_000)),
            (fragment(10_000, 20_000), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, received(200, 25_000)),
            (fragment(20_000, 25_000), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, ack(200)),
            (
                Outgoing::CloseSession {
                    session: "s".to_owned()
                },
                Then::Done
            )
        );
    }

    #[test]
    fn a_file_of_no_bytes_is_one_empty_fragment() {
        let mut machine = machine(0);
        turn(&mut machine, created("s"));
        assert_eq!(turn(&mut machine, received(200, 0)), (fragment(0, 0), Then::Send));
        assert!(matches!(
            turn(&mut machine, ack(200)),
            (Outgoing::CloseSession { .. }, Then::Done)
        ));
    }

    #[test]
    fn the_told_offset_is_followed_up_and_down_at_once() {
        let mut machine = machine(100_000);
        turn(&mut machine, created("s"));
        assert_eq!(
            turn(&mut machine, received(416, 30_000)),
            (fragment(0, 10_000), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, received(416, 5)),
            (fragment(30_000, 40_000), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, received(200, 60_000)),
            (fragment(5, 10_005), Then::Send)
        );
        assert_eq!(
            turn(&mut machine, received(416, 100_000)),
            (fragment(60_000, 70_000), Then::Send)
        );
        assert!(matches!(
            turn(&mut machine, ack(200)),
            (Outgoing::CloseSession { .. }, Then::Done)
        ));
    }

    #[test]
    fn trouble_is_followed_by_a_wait_and_a_ping_and_the_same_offset() {
        let mut machine = machine(30_000);
        turn(&mut machine, created("s"));
        turn(&mut machine, received(200, 10_000));
        machine.request();
        let step = machine.heard(Err("reset".to_owned()), NOW);
        assert!(waits(&step.then));
        assert_eq!(turn(&mut machine, ack(200)), (Outgoing::Ping, Then::Send));
        assert_eq!(machine.request().packet, fragment(10_000, 20_000));
    }

    #[test]
    fn trouble_before_there_is_a_session_is_followed_by_another_create_session() {
        let mut machine = machine(1);
        assert!(waits(&turn(&mut machine, ack(503)).1));
        assert_eq!(machine.request().packet, Outgoing::CreateSession);
    }

    #[test]
    fn a_lost_session_is_created_again_and_keeps_the_offset() {
        let mut machine = machine(100_000);
        turn(&mut machine, created("s"));
        turn(&mut machine, received(200, 50_000));
        assert_eq!(
            turn(&mut machine, error(500, 0x8020_001F)),
            (fragment(50_000, 60_000), Then::Send)
        );
        assert_eq!(turn(&mut machine, created("t")), (Outgoing::CreateSession, Then::Send));
        let again = |from, to| Outgoing::Fragment {
            session: "t".to_owned(),
            from,
            to,
        };
        assert_eq!(
            turn(&mut machine, received(416, 0)),
            (again(50_000, 60_000), Then::Send)
        );
        assert_eq!(machine.request().packet, again(0, 10_000));
    }

    #[test]
    fn a_session_lost_on_ping_or_close_is_created_again_too() {
        for delivered in [false, true] {
            let memory = Memory {
                session: "s".to_owned(),
                offset: 20_000,
                delivered,
                host: None,
            };
            let mut machine = Machine::new(20_000, Sizes::Fixed(10_000), PATIENCE, 1, Some(memory), NOW);
            if delivered {
                turn(&mut machine, ack(200));
            }
            turn(&mut machine, error(500, 0x8020_001F));
            assert_eq!(turn(&mut machine, created("t")), (Outgoing::CreateSession, Then::Send));
            // Nothing can be sent from the end of the file.
            assert!(matches!(machine.request().packet, Outgoing::Fragment { from: 0, .. }));
        }
    }

    #[test]
    fn a_server_that_loses_every_session_is_given_time_and_then_up() {
        let mut machine = machine(1);
        let mut now = NOW;
        for round in 0.. {
            machine.request();
            match machine.heard(Ok(error(500, 0x8020_001F)), now).then {
                Then::Send => assert_eq!(round, 0, "only the first loss is answered at once"),
                Then::Wait(delay) => now += delay,
                Then::Fail(failure) => {
                    assert!(matches!(
                        failure,
                        Failure::Exhausted {
                            trouble: Trouble::Forgetful,
                            ..
                        }
                    ));
                    break;
                }
                Then::Done => panic!("nothing was uploaded"),
            }
        }
    }

    #[test]
    fn a_fragment_that_is_too_large_is_halved_down_to_the_floor_and_not_below() {
        let mut machine = Machine::new(1 << 40, Sizes::Fixed(MOST), PATIENCE, 1, None, NOW);
        turn(&mut machine, created("s"));
        let mut sizes = Vec::new();
        loop {
            let Outgoing::Fragment { from: 0, to, .. } = machine.request().packet else {
                panic!("no fragment")
            };
            sizes.push(to);
            match machine.heard(Ok(ack(413)), NOW).then {
                Then::Send => {}
                then => {
                    assert!(matches!(
                        then,
                        Then::Fail(Failure::Refused(Refusal { status: 413, .. }))
                    ));
                    break;
                }
            }
        }
        assert!(
            sizes.windows(2).all(|pair| pair[1] == (pair[0] / 2).max(LEAST)),
            "{sizes:?}"
        );
        assert_eq!(sizes.last(), Some(&LEAST));
    }

    #[test]
    fn a_host_id_is_pinged_first_and_then_used() {
        let mut machine = machine(10_000);
        turn(
            &mut machine,
            Told {
                host: Some("NODE1".to_owned()),
                ..created("s")
            },
        );
        let node = Authority::parse("NODE1");
        for packet in [
            Outgoing::Ping,
            fragment(0, 10_000),
            Outgoing::CloseSession {
                session: "s".to_owned(),
            },
        ] {
            let request = machine.request();
            assert_eq!((&request.packet, &request.host), (&packet, &node));
            machine.heard(Ok(received(200, 10_000)), NOW);
        }
    }

    #[test]
    fn a_host_that_fails_for_its_fallback_time_is_given_up_for_the_origin() {
        let mut machine = machine(20_000);
        let timeout = Duration::from_secs(110);
        turn(
            &mut machine,
            Told {
                host: Some("NODE1".to_owned()),
                fallback_timeout: Some(timeout),
                ..created("s")
            },
        );
        let (mut now, mut fell_back) = (NOW, false);
        while !fell_back {
            assert!(machine.request().host.is_some());
            assert!(now <= timeout);
            let step = machine.heard(Err("refused".to_owned()), now);
            let Then::Wait(delay) = step.then else {
                panic!("{step:?}")
            };
            now += delay;
            fell_back = matches!(
                step.event,
                Event::Troubled {
                    back_to_origin: true,
                    ..
                }
            );
            assert_eq!(fell_back, now >= timeout);
        }
        assert_eq!(
            machine.request(),
            Request {
                packet: Outgoing::Ping,
                host: None
            }
        );
        assert_eq!(machine.memory().map(|memory| memory.host), Some(None));
    }

    #[test]
    fn a_good_fragment_stops_the_fallback_timer_and_no_time_out_means_never() {
        let host = |fallback_timeout| Told {
            host: Some("N".to_owned()),
            fallback_timeout,
            ..created("s")
        };
        for fallback in [Some(Duration::from_secs(100)), None] {
            let mut machine = machine(100_000);
            turn(&mut machine, host(fallback));
            turn(&mut machine, ack(200));
            for (round, second) in [0, 60, 120, 180].into_iter().enumerate() {
                let now = Duration::from_secs(second);
                machine.request();
                assert!(waits(&machine.heard(Ok(ack(503)), now).then));
                turn(&mut machine, ack(200));
                assert!(machine.request().host.is_some());
                machine.heard(Ok(received(200, (round as u64 + 1) * 10_000)), now);
            }
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_progress() {
        let mut machine = machine(30_000);
        turn(&mut machine, created("s"));
        let mut now = NOW;
        let mut wait = |machine: &mut Machine| {
            machine.request();
            let Then::Wait(delay) = machine.heard(Err("gone".to_owned()), now).then else {
                panic!("no wait")
            };
            now += delay;
            delay.as_secs_f64()
        };
        for longest in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0] {
            let waited = wait(&mut machine);
            assert!((longest / 2.0..=longest).contains(&waited), "{waited} of {longest}");
        }
        turn(&mut machine, ack(200));
        turn(&mut machine, received(200, 10_000));
        assert!(wait(&mut machine) <= 5.0);
    }

    #[test]
    fn retry_after_is_obeyed_unless_it_is_longer_than_the_patience() {
        let ask = |seconds| {
            let told = Told {
                retry_after: Some(Duration::from_secs(seconds)),
                ..ack(503)
            };
            turn(&mut machine(1), told).1
        };
        assert_eq!(ask(1_000), Then::Wait(Duration::from_secs(1_000)));
        assert_eq!(ask(0), Then::Wait(Duration::from_secs(1)));
        assert!(matches!(
            ask(3_601),
            Then::Fail(Failure::Exhausted {
                trouble: Trouble::Answered(_),
                ..
            })
        ));
    }

    #[test]
    fn the_upload_is_given_up_when_the_patience_is_over_and_tried_once_when_there_is_none() {
        let mut machine = machine(1);
        let mut now = NOW;
        let failure = loop {
            machine.request();
            match machine.heard(Ok(ack(500)), now).then {
                Then::Wait(delay) => now += delay,
                Then::Fail(failure) => break failure,
                then => panic!("{then:?}"),
            }
        };
        assert!(matches!(failure, Failure::Exhausted { idle, .. } if idle == PATIENCE.give_up_after && idle == now));

        let patience = Patience {
            give_up_after: Duration::ZERO,
            ..PATIENCE
        };
        let mut machine = Machine::new(1, Sizes::default(), patience, 1, None, NOW);
        assert!(matches!(
            turn(&mut machine, ack(503)).1,
            Then::Fail(Failure::Exhausted { .. })
        ));
    }

    #[test]
    fn fatal_answers_end_the_upload_with_their_code_and_context() {
        for (status, code) in [
            (403, 0x8007_0005),
            (400, 0x8007_0057),
            (501, 0x8007_0005),
            (500, 0x8020_0020),
        ] {
            for packets_before in 0..2 {
                let mut machine = machine(1);
                if packets_before > 0 {
                    turn(&mut machine, created("s"));
                }
                let Then::Fail(Failure::Refused(refusal)) = turn(&mut machine, error(status, code)).1 else {
                    panic!("{status} is fatal")
                };
                assert_eq!((refusal.status, refusal.error), (status, Some(Hresult(code))));
                assert_eq!(refusal.context, Some(ErrorContext::RemoteFile));
            }
        }
    }

    #[test]
    fn close_is_sent_again_after_any_5xx_and_after_nothing_else() {
        for (status, again) in [
            (500, true),
            (501, true),
            (599, true),
            (404, false),
            (408, false),
            (302, false),
        ] {
            let memory = Memory {
                session: "s".to_owned(),
                offset: 1,
                delivered: true,
                host: None,
            };
            let mut machine = Machine::new(1, Sizes::default(), PATIENCE, 1, Some(memory), NOW);
            turn(&mut machine, ack(200));
            let (packet, then) = turn(&mut machine, ack(status));
            assert!(matches!(packet, Outgoing::CloseSession { .. }));
            assert_eq!(waits(&then), again, "{status}");
            if again {
                turn(&mut machine, ack(200));
                assert!(matches!(machine.request().packet, Outgoing::CloseSession { .. }));
            }
        }
    }

    #[test]
    fn what_is_no_bits_server_is_found_at_create_session() {
        let good = created("s");
        for told in [
            Told {
                ack: false,
                ..good.clone()
            },
            Told {
                protocol: None,
                ..good.clone()
            },
            Told {
                protocol: Some("{00000000-249b-430f-820d-3d2a9bef4931}".to_owned()),
                ..good.clone()
            },
            Told {
                session: None,
                ..good.clone()
            },
            Told {
                host: Some("no host".to_owned()),
                ..good.clone()
            },
        ] {
            assert!(matches!(turn(&mut machine(1), told).1, Then::Fail(Failure::NotBits(_))));
        }
    }

    #[test]
    fn answers_that_break_the_protocol_are_discarded() {
        for told in [
            received(200, 10_001),
            ack(200),
            ack(416),
            Told {
                ack: false,
                ..received(200, 10_000)
            },
            Told {
                status: 204,
                ..received(200, 10_000)
            },
        ] {
            let mut machine = machine(10_000);
            turn(&mut machine, created("s"));
            assert!(waits(&turn(&mut machine, told.clone()).1), "{told:?}");
            assert_eq!(
                machine.memory().map(|memory| (memory.offset, memory.delivered)),
                Some((0, false))
            );
        }
    }

    #[test]
    fn a_server_that_answers_the_same_416_for_ever_is_not_asked_in_a_busy_loop() {
        let mut machine = machine(10_000);
        turn(&mut machine, created("s"));
        let mut now = NOW;
        let mut at_once = 0;
        loop {
            let told = match machine.request().packet {
                Outgoing::Ping => ack(200),
                _ => received(416, 0),
            };
            match machine.heard(Ok(told), now).then {
                Then::Send => at_once += 1,
                Then::Wait(delay) => now += delay,
                Then::Fail(failure) => {
                    assert!(matches!(
                        failure,
                        Failure::Exhausted {
                            trouble: Trouble::Stuck,
                            ..
                        }
                    ));
                    break;
                }
                Then::Done => panic!("nothing was uploaded"),
            }
        }
        assert!(at_once < 40, "{at_once}");
    }

    #[test]
    fn what_is_remembered_is_taken_up_with_a_ping() {
        let mut first = machine(100_000);
        turn(
            &mut first,
            Told {
                host: Some("N:81".to_owned()),
                ..created("s")
            },
        );
        turn(&mut first, ack(200));
        turn(&mut first, received(200, 40_000));
        let mut second = Machine::new(100_000, Sizes::Fixed(10_000), PATIENCE, 2, first.memory(), NOW);
        assert_eq!(second.memory(), first.memory());
        assert_eq!(turn(&mut second, ack(200)), (Outgoing::Ping, Then::Send));
        let request = second.request();
        assert_eq!(
            request,
            Request {
                packet: fragment(40_000, 50_000),
                host: Authority::parse("N:81")
            }
        );
    }

    /// What befalls a packet.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Served,
        /// It is served, but its answer is lost.
        AnswerLost,
        /// Some of its body arrives, and no answer.
        Torn(u16),
        Refused(u16),
        TooLarge,
        /// Before it comes, the server is restored from a backup.
        Rewound(u16),
        /// Before it comes, the server forgets the session.
        Forgotten,
        /// The server takes no overlap.
        Strict,
        /// An answer that is none.
        Nonsense,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let fate = prop_oneof![
            6 => Just(Fate::Served),
            2 => Just(Fate::AnswerLost),
            2 => any::<u16>().prop_map(Fate::Torn),
            2 => prop_oneof![Just(500), Just(502), Just(503), Just(408), Just(409)].prop_map(Fate::Refused),
            1 => Just(Fate::TooLarge),
            1 => any::<u16>().prop_map(Fate::Rewound),
            1 => Just(Fate::Forgotten),
            1 => Just(Fate::Strict),
            1 => Just(Fate::Nonsense),
        ];
        prop::collection::vec(fate, 0..40)
    }

    /// A server that follows the protocol: what it holds is a prefix of the file.
    #[derive(Debug, Default)]
    struct Model {
        sessions: u32,
        known: bool,
        held: u64,
        closed_with: Option<u64>,
    }

    impl Model {
        fn serve(&mut self, packet: &Outgoing, total: u64, fate: Fate) -> Result<Told, String> {
            match fate {
                // A file that was whole is published: no backup takes that back.
                Fate::Rewound(share) if self.held < total => {
                    self.held = self.held * u64::from(share) / u64::from(u16::MAX);
                }
                Fate::Forgotten => self.known = false,
                // A Close-Session is given up on 408 and 409.
                Fate::Refused(status) if status >= 500 || !matches!(packet, Outgoing::CloseSession { .. }) => {
                    return Ok(ack(status));
                }
                Fate::Nonsense if !matches!(packet, Outgoing::CreateSession) => {
                    return Ok(Told {
                        status: 200,
                        ..Told::default()
                    });
                }
                Fate::TooLarge if matches!(packet, Outgoing::Fragment { from, to, .. } if to - from > LEAST) => {
                    return Ok(ack(413));
                }
                _ => {}
            }
            let told = self.act(packet, total, fate);
            match fate {
                Fate::AnswerLost | Fate::Torn(_) => Err("connection reset".to_owned()),
                _ => Ok(told),
            }
        }

        fn act(&mut self, packet: &Outgoing, total: u64, fate: Fate) -> Told {
            match packet {
                Outgoing::Ping => ack(200),
                Outgoing::CreateSession => {
                    *self = Self {
                        sessions: self.sessions + 1,
                        known: true,
                        ..Self::default()
                    };
                    created(&self.sessions.to_string())
                }
                Outgoing::Fragment { session, .. } | Outgoing::CloseSession { session }
                    if !self.known || *session != self.sessions.to_string() =>
                {
                    error(500, 0x8020_001F)
                }
                Outgoing::Fragment { from, to, .. } => {
                    if *from > self.held || (matches!(fate, Fate::Strict) && *from != self.held) {
                        return received(416, self.held);
                    }
                    let arrived = match fate {
                        Fate::Torn(share) => from + (to - from) * u64::from(share) / u64::from(u16::MAX),
                        _ => *to,
                    };
                    self.held = self.held.max(arrived);
                    received(200, self.held)
                }
                Outgoing::CloseSession { .. } => {
                    self.closed_with = Some(self.held.min(total));
                    ack(200)
                }
            }
        }
    }

    proptest! {
        /// Whatever befalls its packets and its process, the client ends with the whole file delivered and its session closed,
        /// and never sends what a Windows client would not.
        #[test]
        fn every_upload_ends_well_once_the_trouble_ends(
            total in prop_oneof![Just(0), Just(1), 1_u64..100_000, 1_u64..1 << 45],
            fates in fates(),
            deaths in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            seed: u64,
        ) {
            // Large files in large fragments, or the test takes for ever.
            let sizes = if total > 1 << 30 { Sizes::Fixed(1 << 40) } else { Sizes::default() };
            let patience = Patience { give_up_after: Duration::from_secs(1 << 40), ..PATIENCE };
            let deaths: Vec<usize> = deaths.iter().map(|index| index.index(40)).collect();
            let mut model = Model::default();
            let mut machine = Machine::new(total, sizes, patience, seed, None, NOW);
            let mut saved = None;
            let mut now = NOW;
            for round in 0.. {
                prop_assert!(round < 100_000, "no end");
                let request = machine.request();
                if let Outgoing::Fragment { from, to, .. } = &request.packet {
                    prop_assert!(from < to && *to <= total || total == 0 && *to == 0);
                    let sizes_of_windows = LEAST..=MOST;
                    prop_assert!(total > 1 << 30 || *to == total || sizes_of_windows.contains(&(to - from)));
                }
                let fate = fates.get(round).copied().unwrap_or(Fate::Served);
                let heard = model.serve(&request.packet, total, fate);
                if deaths.contains(&round) {
                    // Killed before it could hear: the next process knows what was saved.
                    machine = Machine::new(total, sizes, patience, seed ^ 1, saved.clone(), now);
                    continue;
                }
                let step = machine.heard(heard, now);
                saved = machine.memory().or(saved);
                match step.then {
                    Then::Send => {}
                    Then::Wait(delay) => now += delay,
                    Then::Done => break,
                    Then::Fail(failure) => return Err(TestCaseError::fail(format!("{failure:?}"))),
                }
            }
            prop_assert_eq!(model.closed_with, Some(total));
        }

        /// No answer, however odd, makes it panic, send outside the file, or run for ever.
        #[test]
        fn any_answers_lead_to_an_end(
            total in prop_oneof![Just(0), 1_u64..100_000],
            answers in prop::collection::vec(
                (prop_oneof![Just(200_u16), Just(416), 100_u16..600], any::<bool>(), prop::option::of(0_u64..100_001), any::<bool>()),
                1..60,
            ),
            seed: u64,
        ) {
            let mut machine = Machine::new(total, Sizes::default(), PATIENCE, seed, None, NOW);
            let mut now = NOW;
            for round in 0.. {
                prop_assert!(round < 100_000, "no end");
                let packet = machine.request().packet;
                if let Outgoing::Fragment { from, to, .. } = &packet {
                    prop_assert!(from < to && *to <= total || total == 0 && *to == 0);
                }
                let (status, ack, received, lost) = answers[round % answers.len()];
                let error = lost.then_some(Hresult(0x8020_001F));
                let told = Told { status, ack, received, error, ..created("s") };
                match machine.heard(Ok(told), now).then {
                    Then::Send => now += Duration::from_secs(1),
                    Then::Wait(delay) => now += delay,
                    Then::Done | Then::Fail(_) => break,
                }
            }
        }
    }
}
