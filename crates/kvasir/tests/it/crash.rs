//! `kill -9` of the server under load, again and again: nothing acknowledged is lost.
//!
//! The short form; `cargo xtask crash --rounds N --only server` is the long one.

use kvasir_testkit::ServerOptions;
use kvasir_testkit::crash::{Plan, server};

/// Kills of a plain run.
const KILLS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_every_acknowledged_write_through_kills() {
    let mut plan = Plan::from_env(KILLS);
    let mut commits = 0;
    while let Some((seed, kills)) = plan.next_story() {
        let options = ServerOptions::new(env!("CARGO_BIN_EXE_kvasir"));
        let history = server::story(options, seed, kills).await;
        commits += plan.judge(&history).commits;
    }
    println!("{commits} commits were judged");
    assert!(commits > 0, "nothing was written before a kill");
}
