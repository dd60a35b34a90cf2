//! `cargo xtask fuzz`: every fuzz target on mangled inputs for as long as wanted, on any toolchain.
//!
//! These are the tests of every change with more time; libFuzzer, which follows coverage, needs a
//! nightly compiler and drives the same targets from the folder `fuzz`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Arguments of `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct FuzzArgs {
    /// Time for each target, in seconds.
    #[arg(long, default_value_t = 45)]
    seconds: u64,

    /// Where the random choices begin.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Only targets whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs the targets, as many at once as there are processors.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let status = Command::new("cargo")
        .args(["test", "--workspace", "--test", "it", "--", "--nocapture"])
        .arg(format!("fuzz::{}", args.only))
        .env("KVASIR_FUZZ_SECONDS", args.seconds.to_string())
        .env("KVASIR_TEST_SEED", args.seed.to_string())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("a fuzz target failed: {status}");
    }
    Ok(())
}
