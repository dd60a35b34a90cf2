//! `cargo xtask cluster`: the long form of the fault test on real database servers.
//!
//! It runs the same tests as CI, longer and with more killed: every Galera node at once among them.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Arguments of `cargo xtask cluster`.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// How long the clients of each test write, in seconds, restarts of servers not counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// How often each test is run.
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// Only tests whose name holds this: `mariadb`, `postgres` or `galera`.
    #[arg(long, default_value = "nothing_is_lost")]
    only: String,
}

/// Runs the fault tests one after the other.
pub(crate) fn run(args: &ClusterArgs) -> Result<()> {
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        let status = Command::new("cargo")
            .args(["test", "-p", "kvasir-store", "--test", "it", "--"])
            .args(["--test-threads=1", "--nocapture", &args.only])
            .args([
                "--skip",
                "conformance",
                "--skip",
                "agreement",
                "--skip",
                "histories",
            ])
            .args(["--skip", "opening", "--skip", "faults"])
            .env("KVASIR_CLUSTER_SECONDS", args.seconds.to_string())
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("a fault test failed in round {round}: {status}");
        }
    }
    Ok(())
}
