//! `cargo xtask bench`: ratios, measured side by side in one run.

use anyhow::Result;
use clap::Args;

/// What to measure.
#[derive(Args)]
pub(crate) struct BenchArgs {}

/// Measures and prints.
pub(crate) fn run(_args: &BenchArgs) -> Result<()> {
    Ok(())
}
