//! `cargo xtask crash`: the crash and fault tests of every change, for as many kills as wanted.
//!
//! It runs the same tests with another number of kills; a failure names the seed to repeat it with.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Arguments of `cargo xtask crash`.
#[derive(Args, Debug)]
pub(crate) struct CrashArgs {
    /// Kills of each store.
    #[arg(long, default_value_t = 1_000)]
    rounds: u32,

    /// Where the random choices begin.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Only tests whose name holds this, such as `sqlite` or `server`.
    #[arg(long, default_value = "through_kills")]
    only: String,

    /// Instead of killing, let every single file call of a workload of 200 commits fail, once and
    /// from then on. Needs `strace`; takes about an hour.
    #[arg(long, conflicts_with_all = ["rounds", "only"])]
    faults: bool,
}

/// Runs the crash tests one after the other, so that a kill hits a store under full load.
pub(crate) fn run(args: &CrashArgs) -> Result<()> {
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--test", "it", "--", "--nocapture"]);
    if args.faults {
        tests.arg("faults::").env("KVASIR_FAULTS", "all");
    } else {
        tests
            .args(["--test-threads=1", &args.only])
            .env("KVASIR_CRASH_KILLS", args.rounds.to_string());
    }
    let status = tests
        .env("KVASIR_TEST_SEED", args.seed.to_string())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("a crash test failed: {status}");
    }
    Ok(())
}
