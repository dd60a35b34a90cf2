//! How many requests may be in progress at once, and whether writes may come at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use kvasir_api::ApiError;
use kvasir_store::StoreMetrics;

/// Requests of the admin API that are let in beyond the limit, so that an overloaded server can
/// still be looked at.
const ADMIN_SHARE: usize = 64;

/// So many waiting writes are no overload, however long a slow disk makes them wait: one group takes
/// them all.
const WAITING_WRITES_MIN: i64 = 256;

/// Lets in at most so many requests, and no new writes while those that wait do so for too long; the
/// others are told to come back. Nothing waits here: what may wait is bounded by the store's own
/// queue.
#[derive(Debug)]
pub struct Gate {
    in_progress: AtomicUsize,
    limit: AtomicUsize,
    queue: Arc<StoreMetrics>,
    queue_wait_max_seconds: f64,
}

impl Gate {
    /// A gate for `limit` requests in front of a store that counts with `queue`.
    pub fn new(limit: usize, queue: Arc<StoreMetrics>, queue_wait_max: Duration) -> Gate {
        Gate {
            in_progress: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            queue,
            queue_wait_max_seconds: queue_wait_max.as_secs_f64(),
        }
    }

    /// From now on lets in this many.
    pub fn set(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A permit to hold while a request of `dialect` is answered, if there is one.
    pub(super) fn enter(&self, dialect: Option<&str>, method: &Method) -> Option<Permit<'_>> {
        let is_admin = dialect == Some("admin");
        if !is_admin && !method.is_safe() && self.is_queue_slow() {
            return None;
        }
        let share = if is_admin { ADMIN_SHARE } else { 0 };
        let permit = Permit(self);
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.load(Ordering::Relaxed).saturating_add(share)).then_some(permit)
    }

    fn is_queue_slow(&self) -> bool {
        self.queue.queue_writes.get() >= WAITING_WRITES_MIN
            && self.queue.queue_wait_p90_seconds.get() > self.queue_wait_max_seconds
    }

    /// What the others are told.
    pub(super) fn refusal() -> ApiError {
        ApiError::unavailable("too many requests are in progress, try again in a moment")
            .with_code("overloaded")
    }
}

/// One request's place.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Gate);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limit: usize) -> Gate {
        Gate::new(limit, Arc::default(), Duration::from_millis(50))
    }

    #[test]
    fn the_request_over_the_limit_is_refused_until_one_ends() {
        let gate = gate(2);
        let first = gate.enter(None, &Method::GET);
        let _second = gate.enter(Some("rest"), &Method::PUT).unwrap();
        assert!(gate.enter(Some("rest"), &Method::GET).is_none());
        assert!(gate.enter(Some("admin"), &Method::GET).is_some());
        drop(first);
        assert!(gate.enter(Some("rest"), &Method::GET).is_some());
    }

    #[test]
    fn writes_are_refused_while_very_many_wait_for_too_long() {
        let gate = gate(1_000);
        for (waiting, wait, is_let_in) in [
            (WAITING_WRITES_MIN, 0.051, false),
            (WAITING_WRITES_MIN, 0.05, true),
            (WAITING_WRITES_MIN - 1, 10.0, true),
            (5_000, 0.001, true),
        ] {
            gate.queue.queue_writes.set(waiting);
            gate.queue.queue_wait_p90_seconds.set(wait);
            let put = gate.enter(Some("rest"), &Method::PUT);
            assert_eq!(put.is_some(), is_let_in, "{waiting} for {wait} s");
            assert!(gate.enter(Some("rest"), &Method::GET).is_some());
            assert!(gate.enter(Some("admin"), &Method::PUT).is_some());
        }
    }
}
