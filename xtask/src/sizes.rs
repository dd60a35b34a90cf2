//! `cargo xtask sizes`: the tests that memory does not grow with what is moved, with much to move.
//!
//! They are the tests of every change on larger stores: backups taken, read, rehearsed and restored,
//! exports and imports.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// MiB of values that the tests move in a plain run.
const PLAIN_MIB: u32 = 96;

/// Arguments of `cargo xtask sizes`.
#[derive(Args, Debug)]
pub(crate) struct SizesArgs {
    /// MiB of values, in steps of 96. Needs four times as much space in the folder of temporary files.
    #[arg(long, default_value_t = 576)]
    mib: u32,
}

/// Runs the tests one after the other.
pub(crate) fn run(args: &SizesArgs) -> Result<()> {
    let effort = args.mib.div_ceil(PLAIN_MIB).max(1);
    let status = Command::new("cargo")
        .args([
            "test",
            "--workspace",
            "--test",
            "it",
            "memory_does_not_grow",
        ])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("KVASIR_TEST_EFFORT", effort.to_string())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("memory grows with size: {status}");
    }
    Ok(())
}
