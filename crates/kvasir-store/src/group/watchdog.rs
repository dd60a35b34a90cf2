//! Ends the process when a commit takes too long to ever end well.

use std::time::Duration;

use super::Failer;
use crate::fatal::FatalError;

/// How often the watchdog looks.
pub(crate) const WATCH_EVERY: Duration = Duration::from_millis(250);

/// Age of a commit at which it counts as failed. A sync takes milliseconds; disks that need longer
/// than this have lost it.
pub(crate) const COMMIT_AGE_MAX: Duration = Duration::from_secs(10);

/// Watches the committer until it has ended.
#[allow(
    clippy::disallowed_methods,
    reason = "a thread that only looks now and then"
)]
pub(super) fn start(failer: Failer) -> std::io::Result<()> {
    let watch = move || {
        while !failer.is_over() {
            std::thread::sleep(WATCH_EVERY);
            let age = failer.queue.busy_for();
            if age.is_some_and(|age| age > COMMIT_AGE_MAX) {
                let text = format!("it has lasted more than {COMMIT_AGE_MAX:?}");
                failer.fail(&FatalError::new("a commit does not end", text));
            }
        }
    };
    std::thread::Builder::new()
        .name("kvasir-watchdog".into())
        .spawn(watch)
        .map(drop)
}
