//! The time and the dice, as components: the only room that may ask the machine for either.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

/// A moment, in milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved on by `by`, at most to the end of the scale.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// As RFC 3339 writes it, in UTC, to the second: `2026-11-23T01:46:59Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Years begin with March here, so that the day that is
/// there in some years only comes last, and 400 of them have the same number of days.
const fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, wraps) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + wraps, month, of_month)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        Self::UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

/// The time of day of this machine as RFC 3339 writes it, in UTC, to the microsecond: `2026-11-23T01:46:59.123456Z`.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub fn stamp() -> String {
    stamped(
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// The same of a moment so long after the Unix epoch. Every line of the log begins with one, so digits are put one by one: the machinery
/// of `format!` takes several times as long.
fn stamped(since: Duration) -> String {
    const DAY: u64 = 86_400;
    let mut text = String::with_capacity("2026-11-23T01:46:59.123456Z".len());
    let (year, month, day) = civil(since.as_secs() / DAY);
    let second = since.as_secs() % DAY;
    let micros = u64::from(since.subsec_micros());
    let pieces = [
        (1000, year, '-'),
        (10, month, '-'),
        (10, day, 'T'),
        (10, second / 3600, ':'),
        (10, second / 60 % 60, ':'),
        (10, second % 60, '.'),
        (100_000, micros, 'Z'),
    ];
    for (mut unit, number, end) in pieces {
        while unit > 0 {
            text.push(char::from(b'0' + (number / unit % 10) as u8));
            unit /= 10;
        }
        text.push(end);
    }
    text
}

/// Where a room gets the time from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day of this machine, which may be wrong: what hurts when it is wrong asks the store instead.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that moves only when it is told to, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock on by `by`.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.plus(by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A point on a clock that only runs forward and also counts the time for which the machine was suspended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Uptime(Duration);

impl Uptime {
    /// Now.
    pub fn now() -> Self {
        // The clock of the runtime, which tests hold in their hands, stands still while the machine is suspended.
        Self(Instant::now().duration_since(Instant::from_std(*BEGIN)) + suspended())
    }

    /// How long ago this was.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// A moment of this process that lies before all that are compared.
static BEGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// For how long the machine was suspended so far.
fn suspended() -> Duration {
    /// The longest that was seen, in nanoseconds. Two clocks can't be read at once: in this order each reading is too small, if anything.
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let counting = reading(ClockId::Boottime);
    let standing_still = reading(ClockId::Monotonic);
    let read = counting.saturating_sub(standing_still).as_nanos();
    let read = u64::try_from(read).unwrap_or_default();
    Duration::from_nanos(SEEN.fetch_max(read, Ordering::Relaxed).max(read))
}

fn reading(clock: ClockId) -> Duration {
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// From when on something must not be begun any more, however long the machine was suspended meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadline(Uptime);

impl Deadline {
    /// One that never comes.
    pub const NEVER: Self = Self(Uptime(Duration::MAX));

    /// The moment `patience` after `since`.
    pub fn after(since: Uptime, patience: Duration) -> Self {
        Self(Uptime(since.0.saturating_add(patience)))
    }

    /// Whether it is too late.
    pub fn has_passed(self) -> bool {
        self.0 <= Uptime::now()
    }
}

/// A fresh random identifier (122 random bits from the operating system).
#[expect(clippy::disallowed_methods, reason = "this is the one place that rolls them")]
pub fn random_id() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_people_and_programs_read_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_764_000_000, "2025-11-24T16:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::from_millis(seconds * 1000).to_string(), text);
        }
    }

    #[test]
    fn a_stamp_says_the_same_to_the_microsecond() {
        for (seconds, micros) in [
            (0, 0),
            (951_782_400, 7),
            (1_764_000_000, 999_999),
            (1_798_761_599, 120_000),
        ] {
            let shown = Timestamp::from_millis(seconds * 1000).to_string();
            let exact = format!(".{micros:06}Z");
            let stamp = stamped(Duration::from_secs(seconds) + Duration::from_micros(micros));
            assert_eq!(stamp, shown.replace('Z', &exact));
        }
        assert_eq!(stamp().len(), stamped(Duration::ZERO).len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_with_the_clock_of_the_runtime_and_never_before() {
        let (since, patience) = (Uptime::now(), Duration::from_secs(60));
        let deadline = Deadline::after(since, patience);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!deadline.has_passed());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(deadline.has_passed());
        assert!(since.elapsed() >= patience);
        assert!(!Deadline::NEVER.has_passed());
    }
}
