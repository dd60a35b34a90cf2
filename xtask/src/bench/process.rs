//! The servers under test, as processes of their own that end with the run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A running server.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// Starts a command and waits for its ready line, in which the first address is the server's.
    pub(crate) fn start(command: &mut Command) -> Result<Process> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines
            .next()
            .context("the server ended before it was ready")??;
        // Whatever it prints later must not block it.
        std::thread::spawn(move || for _ in lines {});
        let addr = ready
            .split([' ', '=', ','])
            .find_map(|word| word.parse().ok())
            .with_context(|| format!("no address in {ready:?}"))?;
        Ok(Process { child, addr })
    }

    /// Kvasir on a data folder, one plain port.
    pub(crate) fn kvasir(binary: &Path, data: &Path, more: &[&str]) -> Result<Process> {
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", "127.0.0.1:0"])
            .args(more);
        Process::start(&mut command)
    }

    /// Resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib = line
            .split_whitespace()
            .nth(1)
            .context("no figure")?
            .parse::<f64>()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
