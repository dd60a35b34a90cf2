//! `cargo xtask cluster`: the long form of the fault test on real database servers.
//!
//! It runs the same tests as CI, longer and with more killed: every Galera node at once among them.
//! What each judged stands at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

/// Arguments of `cargo xtask cluster`.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// How long the clients of each test write, in seconds, restarts of servers not counted.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// How often each test is run.
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// Only this database.
    #[arg(long, value_enum)]
    only: Option<Database>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Database {
    Mariadb,
    Galera,
    Postgres,
}

impl Database {
    fn name(self) -> &'static str {
        match self {
            Database::Mariadb => "mariadb",
            Database::Galera => "galera",
            Database::Postgres => "postgres",
        }
    }
}

/// How the names of the fault tests begin; the database follows.
const TESTS: &str = "nothing_is_lost_when_";

/// How the line with a test's figures begins.
const FIGURES: &str = "judged ";

/// Runs the fault tests one after the other.
pub(crate) fn run(args: &ClusterArgs) -> Result<()> {
    let database = args.only.map_or("", Database::name);
    let mut judged = Vec::new();
    for round in 1..=args.rounds {
        println!("round {round} of {}", args.rounds);
        let mut tests = Command::new("cargo")
            // The whole workspace, so that features are those of every other build.
            .args(["test", "--workspace", "--test", "it", "--"])
            .args(["--test-threads=1", "--nocapture"])
            .arg(format!("{TESTS}{database}"))
            .env("KVASIR_CLUSTER_SECONDS", args.seconds.to_string())
            .current_dir(crate::root())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let output = tests.stdout.take().context("the output was piped")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some((_, figures)) = line.split_once(FIGURES) {
                judged.push(format!("round {round}: {figures}"));
            }
        }
        let status = tests.wait()?;
        if !status.success() {
            bail!("a fault test failed in round {round}: {status}");
        }
    }
    ensure!(
        !judged.is_empty(),
        "nothing was judged: no database is installed"
    );
    println!("\nnothing lost, doubled, reordered, torn, old or untold:");
    for figures in judged {
        println!("  {figures}");
    }
    Ok(())
}
