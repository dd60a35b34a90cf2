//! How many requests may be in progress at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use kvasir_api::ApiError;

/// Requests of the admin API that are let in beyond the limit, so that an overloaded server can
/// still be looked at.
const ADMIN_SHARE: usize = 64;

/// Lets in at most so many requests; the others are told to come back. Nothing waits here: what
/// may wait is bounded by the store's own queue.
#[derive(Debug)]
pub struct Gate {
    in_progress: AtomicUsize,
    limit: usize,
}

impl Gate {
    /// A gate for `limit` requests.
    pub fn new(limit: usize) -> Gate {
        Gate {
            in_progress: AtomicUsize::new(0),
            limit,
        }
    }

    /// A permit to hold while a request of `dialect` is answered, if there is one.
    pub(super) fn enter(&self, dialect: Option<&str>) -> Option<Permit<'_>> {
        let share = match dialect {
            Some("admin") => ADMIN_SHARE,
            _ => 0,
        };
        let permit = Permit(self);
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        (before < self.limit + share).then_some(permit)
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

    #[test]
    fn the_request_over_the_limit_is_refused_until_one_ends() {
        let gate = Gate::new(2);
        let first = gate.enter(None);
        let _second = gate.enter(Some("rest")).unwrap();
        assert!(gate.enter(Some("rest")).is_none());
        assert!(gate.enter(Some("admin")).is_some());
        drop(first);
        assert!(gate.enter(Some("rest")).is_some());
    }
}
