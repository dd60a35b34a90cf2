//! Figures of this process, read from `/proc` when somebody asks.

use std::fs;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second in which the kernel tells times of processes: `USER_HZ`, which is 100 on every
/// architecture that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process. Where there is no `/proc` they are left out.
#[derive(Debug)]
pub struct Process {
    started: Instant,
}

/// What `/proc` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Time on processors, in seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Most open file descriptors; `u64::MAX` for no limit.
    pub fds_max: u64,
    /// Threads.
    pub threads: u64,
}

impl Figures {
    /// The figures now.
    pub fn read() -> Option<Figures> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // `proc(5)` counts from 1, and the first two are gone.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let fds_max = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_whitespace().next())
            .map_or(u64::MAX, |soft| soft.parse().unwrap_or(u64::MAX));
        Some(Figures {
            resident_bytes: resident * 1024,
            cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            fds_max,
            threads: field(20)?,
        })
    }
}

impl Process {
    /// Counts the uptime from `started`.
    pub fn new(started: Instant) -> Process {
        Process { started }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let uptime = self.started.elapsed().as_secs_f64();
        gauge("process_uptime_seconds", "Time since the start", uptime)?;
        let Some(figures) = Figures::read() else {
            return Ok(());
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory in use",
            figures.resident_bytes as f64,
        )?;
        gauge(
            "process_open_fds",
            "Open file descriptors",
            figures.open_fds as f64,
        )?;
        gauge(
            "process_max_fds",
            "Most open file descriptors",
            figures.fds_max as f64,
        )?;
        gauge("process_threads", "Threads", figures.threads as f64)?;
        let name = "process_cpu_seconds";
        let help = "Time on processors";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_make_sense() {
        let figures = Figures::read().unwrap();
        assert!(figures.resident_bytes > 1024 * 1024);
        assert!(figures.open_fds >= 3 && figures.open_fds <= figures.fds_max);
        assert!(figures.threads >= 1);
    }
}
