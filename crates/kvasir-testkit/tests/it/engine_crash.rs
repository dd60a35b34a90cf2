//! `kill -9` of a process that holds a store, at random moments, again and again.

use std::path::Path;

use kvasir_testkit::crash::{Plan, engine};

/// Kills of a plain run; `KVASIR_TEST_EFFORT` multiplies them.
const KILLS: u32 = 8;

#[allow(clippy::print_stdout, reason = "shown with --nocapture")]
async fn survive(scheme: &str) {
    let writer = Path::new(env!("CARGO_BIN_EXE_kvasir-crash-writer"));
    let mut plan = Plan::from_env(KILLS);
    let (mut commits, mut recovered, mut vanished) = (0, 0, 0);
    while let Some((seed, kills)) = plan.next_story() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("{scheme}:{}", folder.path().join("store").display());
        let history = engine::story(writer, &url, seed, kills).await;
        let report = plan.judge(&history);
        commits += report.commits;
        recovered += report.recovered;
        vanished += report.vanished;
    }
    println!("{commits} commits, {recovered} of them without an answer; {vanished} lost ones");
    assert!(commits > 0, "nothing was written before a kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_keeps_every_acknowledged_write_through_kills() {
    survive("embedded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_every_acknowledged_write_through_kills() {
    survive("sqlite").await;
}
