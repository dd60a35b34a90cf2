//! `cargo xtask release`: the files that users get.
//!
//! The program, a Debian package, a list of everything that is built into it (CycloneDX), and
//! checksums of all. Times inside are the commit's, so that the same commit gives the same files.

mod bom;
mod deb;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{cargo, root};

/// What to build.
#[derive(Args)]
pub(crate) struct ReleaseArgs {
    /// Folder for the files.
    #[arg(long, default_value = "target/release-files")]
    out: PathBuf,
    /// Takes this program instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Builds for this target, for example x86_64-unknown-linux-musl for the container.
    #[arg(long, conflicts_with = "binary")]
    target: Option<String>,
    /// Version of the package, if it is not the workspace's.
    #[arg(long)]
    package_version: Option<String>,
}

pub(crate) fn run(args: &ReleaseArgs) -> Result<()> {
    let out = std::path::absolute(&args.out)?;
    std::fs::create_dir_all(out.join("empty"))?;
    let built = match &args.binary {
        Some(binary) => binary.clone(),
        None => build(args.target.as_deref())?,
    };
    let program = out.join("kvasir");
    std::fs::copy(&built, &program).with_context(|| format!("no {}", built.display()))?;
    // What is left of symbols is of no use to users and half of the size.
    output(Command::new("strip").arg("--strip-unneeded").arg(&program))?;

    let version = match &args.package_version {
        Some(version) => version.clone(),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    };
    let package = deb::Package {
        version: &version,
        program: &program,
        seconds: commit_seconds()?,
    };
    let mut files = vec![program.clone(), package.build(&out)?];
    files.push(bom::write(&out, &version)?);
    write_checksums(&out, &files)?;
    for file in files {
        println!("{}", file.display());
    }
    Ok(())
}

fn build(target: Option<&str>) -> Result<PathBuf> {
    let mut args = vec!["build", "--release", "--locked", "--workspace", "--bins"];
    args.extend(target.iter().flat_map(|target| ["--target", target]));
    cargo(&args)?;
    let folder = std::env::var_os("CARGO_TARGET_DIR");
    let folder = folder.map_or_else(|| root().join("target"), PathBuf::from);
    Ok(folder
        .join(target.unwrap_or_default())
        .join("release")
        .join("kvasir"))
}

/// When the commit was made, in seconds; 0 outside of a repository.
fn commit_seconds() -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(root());
    match output(&mut git) {
        Ok(text) => Ok(text.trim().parse()?),
        Err(_) => Ok(0),
    }
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn write_checksums(out: &Path, files: &[PathBuf]) -> Result<()> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = output(Command::new("sha256sum").args(names).current_dir(out))?;
    Ok(std::fs::write(out.join("SHA256SUMS"), sums)?)
}

/// Runs a command and returns what it wrote.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
