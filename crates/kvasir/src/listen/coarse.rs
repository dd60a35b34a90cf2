//! A clock for deadlines of seconds that costs one load to read.
//!
//! Connections note the time at every read and write. Asking the operating system each time would
//! cost more than the note; the reaper moves this clock on with every tick instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the clock moves, and the reaper looks at deadlines.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Milliseconds since the clock was made, up to one [`TICK`] behind. Clones share the time.
#[derive(Clone, Debug)]
pub(super) struct CoarseClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    now_ms: AtomicU64,
}

impl CoarseClock {
    pub(super) fn new() -> CoarseClock {
        CoarseClock(Arc::new(Inner {
            started: Instant::now(),
            now_ms: AtomicU64::new(0),
        }))
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }

    /// Reads the real clock.
    pub(super) fn tick(&self) -> u64 {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.now_ms.store(now, Ordering::Relaxed);
        now
    }

    #[cfg(test)]
    pub(super) fn set(&self, now_ms: u64) {
        self.0.now_ms.store(now_ms, Ordering::Relaxed);
    }
}
