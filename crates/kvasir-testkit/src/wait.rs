//! Waits that end: nothing in a test may hang, and nothing may sleep and hope.
//!
//! Deadlines are generous, because tests share two cores with builds; a test that passes never
//! waits longer than it has to.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long something may take that normally takes milliseconds.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two looks of [`eventually`].
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Asks again until `probe` gives a value, and returns it.
///
/// # Panics
///
/// If there is none before the deadline; `what` is the sentence that did not become true.
#[track_caller]
pub fn eventually<T, F>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            match tokio::time::timeout(left, probe()).await {
                Ok(Some(value)) => return value,
                Ok(None) if start.elapsed() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                Ok(None) | Err(_) => panic!("{caller}: not within {deadline:?}: {what}"),
            }
        }
    }
}

/// Waits for a future, but not for ever.
///
/// # Panics
///
/// If it is not ready before the deadline.
#[track_caller]
pub fn within<F: Future>(
    deadline: Duration,
    what: &str,
    future: F,
) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(deadline, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: not within {deadline:?}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_probe_is_asked_until_it_answers() {
        let asked = AtomicU32::new(0);
        let answer = eventually(DEADLINE, "three looks", || async {
            (asked.fetch_add(1, Ordering::Relaxed) == 2).then_some("seen")
        })
        .await;
        assert_eq!(answer, "seen");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    #[should_panic(expected = "not within 20ms: a miracle")]
    async fn a_probe_that_never_answers_fails_the_test() {
        let () = eventually(Duration::from_millis(20), "a miracle", || async { None }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "not within 20ms: the end")]
    async fn a_future_that_hangs_fails_the_test() {
        within(
            Duration::from_millis(20),
            "the end",
            std::future::pending::<()>(),
        )
        .await;
    }
}
