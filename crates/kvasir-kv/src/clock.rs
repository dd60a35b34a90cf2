//! Time comes from here, so that tests can set it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Milliseconds since 1970 in UTC.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Last millisecond of the year 9999, the latest time RFC 3339 can write.
    pub const MAX_RFC3339: UnixMillis = UnixMillis(253_402_300_799_999);

    /// This moment plus a number of milliseconds; `None` beyond the range of the type.
    pub fn checked_add_ms(self, ms: i64) -> Option<UnixMillis> {
        self.0.checked_add(ms).map(UnixMillis)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// A wait that ends at a moment of a [`Clock`].
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the time of day comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since 1970. May step back; who needs order uses [`crate::HybridClock`].
    fn now_micros(&self) -> u64;

    /// Completes when this clock has reached `at`, at once if it is past. Dropping it is free.
    fn sleep_until(&self, at: UnixMillis) -> Sleep;

    /// Milliseconds since 1970.
    fn now(&self) -> UnixMillis {
        UnixMillis(i64::try_from(self.now_micros() / 1000).expect("fits into 63 bits"))
    }

    /// How far this clock runs ahead of the time of day, in milliseconds. Only a [`SteadyClock`]
    /// ever does.
    fn lead_ms(&self) -> i64 {
        0
    }
}

/// A step back of less than this is waited out, in microseconds; a larger one is bridged.
const STEP_MICROS_MIN: u64 = 1_000_000;

/// Another clock, but one that never steps back.
///
/// Where the other one steps back by a second or more, this one goes on from where it was, at the
/// pace of the other, and so runs ahead of it by [`Clock::lead_ms`] until the other has caught up
/// or the process ends. Stores go by such a clock: what has expired stays expired.
#[derive(Debug)]
pub struct SteadyClock {
    inner: Arc<dyn Clock>,
    /// The highest reading that was given.
    high_micros: AtomicU64,
    /// Whether there is a bridge, so that nobody else looks for one.
    is_bridged: AtomicBool,
    bridge: Mutex<Option<Bridge>>,
}

/// How a step back is bridged.
#[derive(Debug)]
struct Bridge {
    /// The last reading of the other clock.
    seen: u64,
    /// The last reading that was given for it.
    given: u64,
}

impl SteadyClock {
    /// Follows `inner`.
    pub fn new(inner: Arc<dyn Clock>) -> SteadyClock {
        SteadyClock {
            high_micros: AtomicU64::new(inner.now_micros()),
            inner,
            is_bridged: AtomicBool::new(false),
            bridge: Mutex::default(),
        }
    }

    fn at(&self, real: u64) -> u64 {
        let mut high = self.high_micros.load(Ordering::Relaxed);
        if real > high {
            high = self
                .high_micros
                .fetch_max(real, Ordering::Relaxed)
                .max(real);
        }
        if high - real < STEP_MICROS_MIN {
            if self.is_bridged.load(Ordering::Relaxed) {
                *self.bridge() = None;
                self.is_bridged.store(false, Ordering::Relaxed);
            }
            return high;
        }
        let mut bridge = self.bridge();
        // Somebody else may have moved on while this one waited.
        let high = self.high_micros.load(Ordering::Relaxed);
        let (passed, seen) = match &*bridge {
            // A reading that is only a little lower was taken earlier, by who came later.
            Some(before) if before.given == high && before.seen < real + STEP_MICROS_MIN => {
                (real.saturating_sub(before.seen), real.max(before.seen))
            }
            _ => (0, real),
        };
        let given = high + passed;
        *bridge = Some(Bridge { seen, given });
        self.is_bridged.store(true, Ordering::Relaxed);
        self.high_micros.fetch_max(given, Ordering::Relaxed);
        given
    }

    fn bridge(&self) -> MutexGuard<'_, Option<Bridge>> {
        self.bridge.lock().expect("no panic while it is held")
    }
}

impl Clock for SteadyClock {
    fn now_micros(&self) -> u64 {
        self.at(self.inner.now_micros())
    }

    /// Waits for the other clock, and looks whether this one is there already only now and then.
    fn sleep_until(&self, at: UnixMillis) -> Sleep {
        let lead = self.lead_ms();
        self.inner
            .sleep_until(UnixMillis(at.0.saturating_sub(lead)))
    }

    fn lead_ms(&self) -> i64 {
        let real = self.inner.now_micros();
        let lead = (self.at(real) / 1000).saturating_sub(real / 1000);
        let lead = i64::try_from(lead).expect("fits into 63 bits");
        let waited_out = i64::try_from(STEP_MICROS_MIN / 1000).expect("small");
        let own = if lead < waited_out { 0 } else { lead };
        own + self.inner.lead_ms()
    }
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<ManualTime>>);

#[derive(Debug, Default)]
struct ManualTime {
    micros: u64,
    sleepers: Vec<(UnixMillis, Waker)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixMillis) -> ManualClock {
        let clock = ManualClock::default();
        clock.set(now);
        clock
    }

    /// Moves to `now`, back or forth, and wakes whoever waited for it.
    pub fn set(&self, now: UnixMillis) {
        let due = {
            let mut time = self.0.lock().expect("no panic while the clock is held");
            time.micros = u64::try_from(now.0).expect("not before 1970") * 1000;
            let (due, waiting) = std::mem::take(&mut time.sleepers)
                .into_iter()
                .partition::<Vec<_>, _>(|(at, _)| *at <= now);
            time.sleepers = waiting;
            due
        };
        for (_, waker) in due {
            waker.wake();
        }
    }

    /// Moves forward by `ms` milliseconds.
    pub fn advance_ms(&self, ms: i64) {
        self.set(UnixMillis(self.now().0 + ms));
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0
            .lock()
            .expect("no panic while the clock is held")
            .micros
    }

    fn sleep_until(&self, at: UnixMillis) -> Sleep {
        Box::pin(ManualSleep {
            clock: self.clone(),
            at,
        })
    }
}

struct ManualSleep {
    clock: ManualClock,
    at: UnixMillis,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self
            .clock
            .0
            .lock()
            .expect("no panic while the clock is held");
        let now = UnixMillis(i64::try_from(time.micros / 1000).expect("fits into 63 bits"));
        if now >= self.at {
            return Poll::Ready(());
        }
        time.sleepers.push((self.at, cx.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn steady(at: i64) -> (ManualClock, SteadyClock) {
        let manual = ManualClock::at(UnixMillis(at));
        let steady = SteadyClock::new(Arc::new(manual.clone()));
        (manual, steady)
    }

    #[test]
    fn a_steady_clock_follows_and_runs_on_after_a_step_back() {
        let (manual, steady) = steady(10 * DAY_MS);
        manual.advance_ms(5);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 5));
        assert_eq!(steady.lead_ms(), 0);

        manual.set(UnixMillis(9 * DAY_MS));
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 5));
        assert_eq!(steady.lead_ms(), DAY_MS + 5);
        manual.advance_ms(1_000);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 1_005));
        // Back once more.
        manual.set(UnixMillis(8 * DAY_MS));
        manual.advance_ms(0);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 1_005));
        manual.advance_ms(10);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 1_015));

        // And forth again: there is nothing left to bridge.
        manual.set(UnixMillis(11 * DAY_MS));
        assert_eq!(steady.now(), UnixMillis(11 * DAY_MS));
        assert_eq!(steady.lead_ms(), 0);
        manual.set(UnixMillis(10 * DAY_MS));
        manual.advance_ms(7);
        let first = steady.now();
        assert_eq!(first, UnixMillis(11 * DAY_MS));
        manual.advance_ms(7);
        assert_eq!(steady.now(), UnixMillis(11 * DAY_MS + 7));
    }

    #[test]
    fn a_step_back_that_was_made_good_does_not_count_for_the_next_one() {
        let (manual, steady) = steady(10 * DAY_MS);
        manual.set(UnixMillis(9 * DAY_MS));
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS));
        manual.set(UnixMillis(10 * DAY_MS));
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS));
        manual.advance_ms(-2_000);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS));
        manual.advance_ms(3);
        assert_eq!(steady.now(), UnixMillis(10 * DAY_MS + 3));
    }

    #[test]
    fn a_small_step_back_is_waited_out() {
        let (manual, steady) = steady(5_000);
        manual.set(UnixMillis(4_500));
        assert_eq!(steady.now(), UnixMillis(5_000));
        manual.set(UnixMillis(4_900));
        assert_eq!((steady.now(), steady.lead_ms()), (UnixMillis(5_000), 0));
        manual.set(UnixMillis(5_001));
        assert_eq!(steady.now(), UnixMillis(5_001));
    }
}
