//! The clock of the machine. The only place of this crate that asks the operating system for time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvasir_kv::clock::Sleep;
use kvasir_kv::{Clock, UnixMillis};

/// Longest sleep without another look at the time of day, which may have been set meanwhile.
const RECHECK: Duration = Duration::from_secs(5);

/// Time of day as the operating system tells it.
///
/// Sleeping needs a tokio runtime with its timer enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_micros(&self) -> u64 {
        // A clock before 1970 is not set at all; stamps still rise by `HybridClock`.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2)
        })
    }

    fn sleep_until(&self, at: UnixMillis) -> Sleep {
        Box::pin(async move {
            loop {
                let left = at.0.saturating_sub(SystemClock.now().0);
                if left <= 0 {
                    return;
                }
                let left = Duration::from_millis(left.unsigned_abs());
                tokio::time::sleep(left.min(RECHECK)).await;
            }
        })
    }
}

/// A reading for measuring durations, not subject to the time of day.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place for it in this crate"
)]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_or_after_its_moment_and_at_once_for_the_past() {
        let now = SystemClock.now();
        assert!(now > UnixMillis(1_700_000_000_000));
        SystemClock.sleep_until(UnixMillis(now.0 - 1)).await;
        let at = UnixMillis(now.0 + 5);
        SystemClock.sleep_until(at).await;
        assert!(SystemClock.now() >= at);
    }
}
