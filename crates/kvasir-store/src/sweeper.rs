//! Removes expired entries soon after their moment.
//!
//! Expired entries are invisible at once without this module; it gives their space back and lets
//! followers see the removal. A task sleeps until the nearest expiry that the store knows of, told
//! by [`ExpiryHint`], and sweeps in bounded commits. Sweeps keep a distance from each other, so
//! that a thousand entries with a thousand different moments do not cost a thousand syncs.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use kvasir_kv::{Clock, Error, Store, UnixMillis};
use tokio::sync::Notify;

/// Longest pause between two sweeps, in milliseconds. Catches what no hint told. Expired entries
/// are to be removed within 10 s.
pub const SWEEP_PAUSE_MAX_MS: i64 = 4_000;

/// Shortest pause between two sweeps, in milliseconds.
pub const SWEEP_PAUSE_MIN_MS: i64 = 500;

/// Most entries removed by one commit of the sweeper.
pub const SWEEP_ENTRIES: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");

/// The nearest expiry that a store knows of. Told by commits, asked by the sweeper.
#[derive(Debug)]
pub struct ExpiryHint {
    at: AtomicI64,
    earlier: Notify,
    closed: AtomicBool,
}

impl Default for ExpiryHint {
    fn default() -> Self {
        ExpiryHint {
            at: AtomicI64::new(i64::MAX),
            earlier: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }
}

impl ExpiryHint {
    /// An entry that expires at `at` was written.
    pub fn observe(&self, at: UnixMillis) {
        if self.at.fetch_min(at.0, Ordering::AcqRel) > at.0 {
            self.earlier.notify_one();
        }
    }

    /// The nearest expiry told since the last [`ExpiryHint::take`].
    pub fn nearest(&self) -> UnixMillis {
        UnixMillis(self.at.load(Ordering::Acquire))
    }

    /// Forgets what was told. Called before a sweep looks for itself.
    pub fn take(&self) {
        self.at.store(i64::MAX, Ordering::Release);
    }

    /// Ends the sweeper.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.earlier.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Sweeps `store` until it is closed or dropped.
///
/// Must be called inside a tokio runtime.
pub fn spawn(store: Weak<dyn Store>, clock: Arc<dyn Clock>, hint: Arc<ExpiryHint>) {
    tokio::spawn(async move {
        let mut pause_until = UnixMillis(0);
        loop {
            wait(&clock, &hint, pause_until).await;
            let Some(store) = store.upgrade().filter(|_| !hint.is_closed()) else {
                return;
            };
            hint.take();
            match store.sweep(clock.now(), SWEEP_ENTRIES).await {
                Ok(removed) if removed == SWEEP_ENTRIES.get() => {
                    // There is more: go on at once.
                    hint.observe(clock.now());
                    pause_until = UnixMillis(0);
                    continue;
                }
                Ok(_) => {}
                // Said elsewhere and often: the next round tries again.
                Err(Error::Unavailable(_)) => {}
                Err(error) => tracing::warn!(%error, "could not remove expired entries"),
            }
            pause_until = UnixMillis(clock.now().0 + SWEEP_PAUSE_MIN_MS);
        }
    });
}

/// Waits for the nearest expiry, but not less and not more than the pauses allow.
async fn wait(clock: &Arc<dyn Clock>, hint: &ExpiryHint, pause_until: UnixMillis) {
    let longest = UnixMillis(clock.now().0 + SWEEP_PAUSE_MAX_MS);
    loop {
        let at = hint.nearest().max(pause_until).min(longest);
        if clock.now() >= at || hint.is_closed() {
            return;
        }
        tokio::select! {
            () = clock.sleep_until(at) => return,
            () = hint.earlier.notified() => {}
        }
    }
}
