//! How each backend makes an empty store for a test.

use std::sync::Arc;

use kvasir_kv::ManualClock;
use kvasir_store::{OpenOptions, open};
use kvasir_testkit::conformance::{Bed, START};

/// Options of a store that goes by `clock` and is swept only by the test.
pub(crate) fn options(clock: &ManualClock) -> OpenOptions {
    OpenOptions {
        clock: Arc::new(clock.clone()),
        sweeper: false,
        ..OpenOptions::default()
    }
}

/// The specification.
pub(crate) async fn memory() -> Bed {
    let clock = ManualClock::at(START);
    let store = open("memory:", options(&clock)).await.unwrap();
    Bed::new(store, clock)
}
