//! The servers under test, as processes of their own that end with the run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long a server may take to come up.
const READY_WITHIN: Duration = Duration::from_secs(20);

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

    /// A server that says nothing when it is ready: it is when it takes connections at `addr`.
    pub(crate) fn start_silent(command: &mut Command, addr: SocketAddr) -> Result<Process> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let process = Process { child, addr };
        let deadline = Instant::now() + READY_WITHIN;
        while std::net::TcpStream::connect(addr).is_err() {
            ensure!(
                Instant::now() < deadline,
                "{command:?} takes no connections"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(process)
    }

    /// Processor time that the process has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields 14 and 15, counted behind the name in parentheses, which is field 2.
        let (_, fields) = stat.rsplit_once(')').context("no such process")?;
        let ticks: Vec<f64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse().ok())
            .collect();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Ok(ticks.iter().sum::<f64>() / ticks_per_second)
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
