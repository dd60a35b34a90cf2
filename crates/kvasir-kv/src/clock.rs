//! Time comes from here, so that tests can set it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
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
