//! Developer commands that need more than `cargo` itself.
//!
//! `cargo xtask tidy` checks the rules that the compiler cannot; `cargo xtask ci` is everything a
//! change has to pass except real clients (`./test` adds those); `cargo xtask bench` measures
//! ratios. Run `cargo xtask help` for the rest.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command line program"
)]

mod bench;
mod cluster;
mod crash;
mod fuzz;
mod release;
mod sizes;
mod tidy;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Kvasir")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Formatting, lints, layering rules, tests and documentation: the whole truth before review.
    Ci,
    /// Only the rules that the compiler cannot check.
    Tidy,
    /// Measures Kvasir against bare servers in one run and prints ratios.
    Bench(bench::BenchArgs),
    /// Kills stores and the server while clients write, and judges what is left.
    Crash(crash::CrashArgs),
    /// Gives every parser of foreign bytes mangled inputs, for longer than CI does.
    Fuzz(fuzz::FuzzArgs),
    /// Kills database servers and frontends while clients write, for longer than CI does.
    Cluster(cluster::ClusterArgs),
    /// Moves large stores and watches how much memory that takes.
    Sizes(sizes::SizesArgs),
    /// Builds what users get: program, Debian package, list of components, checksums.
    Release(release::ReleaseArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Ci => ci(),
        Verb::Tidy => tidy::check(&root()),
        Verb::Bench(args) => bench::run(&args),
        Verb::Crash(args) => crash::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Cluster(args) => cluster::run(&args),
        Verb::Sizes(args) => sizes::run(&args),
        Verb::Release(args) => release::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder, one above this crate's.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask lies in the workspace")
        .to_path_buf()
}

fn ci() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::check(&root())?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])?;
    if Command::new("cargo")
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--profile",
            "ci",
        ])?;
    } else {
        cargo(&["test", "--workspace", "--locked", "--all-targets"])?;
    }
    cargo(&["test", "--workspace", "--locked", "--doc"])?;
    if Command::new("cargo")
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        cargo(&["deny", "check", "licenses", "bans", "sources"])?;
    } else {
        eprintln!("skipped: cargo-deny is not installed, so licences were not checked");
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    eprintln!("$ cargo {}", args.join(" "));
    let status = Command::new("cargo")
        .args(args)
        .current_dir(root())
        .status();
    let status = status.context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} failed", args.first().unwrap_or(&""));
    }
    Ok(())
}
