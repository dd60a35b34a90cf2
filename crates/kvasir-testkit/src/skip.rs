//! Tests that cannot run here say so, and are counted.

use std::io::Write;

/// Says that something was not tested, and adds a line to the file that `KVASIR_TEST_SKIPS` names,
/// from which `./test` counts.
#[allow(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
pub fn skip(why: &str) {
    // That the note cannot be left is no reason to fail the test.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    if let Some(path) = std::env::var_os("KVASIR_TEST_SKIPS")
        && let Ok(mut file) = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
    {
        let _ = writeln!(file, "{why}");
    }
}
