//! The machine: file limit, clock, swap.

use std::path::Path;
use std::time::UNIX_EPOCH;

use kvasir_kv::UnixMillis;
use rustix::process::{Resource, getrlimit};

use super::finding::{Finding, State};

/// File handles that the server needs besides its connections: tables of the store, listeners, files
/// of its own.
const FILES_BESIDES: u64 = 1024;

/// The folder of systemd's time service, and the file in it once the clock was set.
const TIMESYNC: &str = "/run/systemd/timesync";

/// How far a file may be ahead of the clock, in milliseconds: file systems round.
const AHEAD_MAX_MS: i64 = 2_000;

/// Whether there are handles for all connections.
pub(super) fn file_limit(connections: usize) -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    judge_file_limit(limit, connections as u64)
}

fn judge_file_limit(limit: Option<u64>, connections: u64) -> Finding {
    const CHECK: &str = "file limit";
    let wanted = connections + FILES_BESIDES;
    match limit {
        Some(limit) if limit < wanted => Finding::of(
            CHECK,
            State::Warning,
            format!("{limit} files may be open, limits.connections = {connections} needs {wanted}"),
            format!("LimitNOFILE={wanted} in the unit, `ulimit -n {wanted}`, or fewer connections"),
        ),
        Some(limit) => Finding::good(CHECK, format!("{limit} files may be open")),
        None => Finding::good(CHECK, "any number of files may be open"),
    }
}

/// Whether the clock goes right, as far as that can be seen from here.
pub(super) fn clock(data: &Path, now: UnixMillis) -> Finding {
    const CHECK: &str = "clock";
    let newest = newest_change(data);
    if let Some(ahead_ms) = newest
        .map(|newest| newest - now.0)
        .filter(|ms| *ms > AHEAD_MAX_MS)
    {
        let what = format!(
            "a file of the data folder is {} s ahead of the clock",
            ahead_ms / 1000
        );
        let remedy =
            "the clock went back: set it by NTP. Versions stay in order, but run ahead of it";
        return Finding::of(CHECK, State::Bad, what, remedy);
    }
    let folder = Path::new(TIMESYNC);
    if folder.is_dir() && !folder.join("synchronized").exists() {
        let remedy = "look at `timedatectl timesync-status`; signed requests allow 30 s";
        return Finding::of(
            CHECK,
            State::Warning,
            "it has not been set by NTP yet",
            remedy,
        );
    }
    Finding::good(CHECK, "not behind the data")
}

/// When a file of the folder was last changed.
fn newest_change(data: &Path) -> Option<i64> {
    let entries = std::fs::read_dir(data).ok()?.flatten();
    let changed = entries.filter_map(|entry| {
        let changed = entry.metadata().ok()?.modified().ok()?;
        i64::try_from(changed.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    });
    changed.max()
}

/// Whether memory with secrets in it may reach a disk.
pub(super) fn swap() -> Finding {
    let table = std::fs::read_to_string("/proc/swaps");
    judge_swap(table.ok().as_deref())
}

fn judge_swap(table: Option<&str>) -> Finding {
    const CHECK: &str = "swap";
    let Some(table) = table else {
        let remedy = "look whether the system swaps to a disk that is not encrypted";
        return Finding::of(CHECK, State::Unknown, "/proc/swaps cannot be read", remedy);
    };
    let devices: Vec<&str> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        // In compressed memory, not on a disk.
        .filter(|device| !device.starts_with("/dev/zram"))
        .collect();
    if devices.is_empty() {
        return Finding::good(CHECK, "nothing is swapped to a disk");
    }
    let what = format!("memory may be written to {}", devices.join(", "));
    let remedy = "secrets in memory may reach that disk and answers may wait for it: encrypt it, or \
                  MemorySwapMax=0 in the unit";
    Finding::of(CHECK, State::Warning, what, remedy)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_file_limit_has_to_do_for_all_connections() {
        assert_eq!(judge_file_limit(Some(5119), 4096).state, State::Warning);
        assert_eq!(judge_file_limit(Some(5120), 4096).state, State::Good);
        assert_eq!(judge_file_limit(None, 4096).state, State::Good);
        let remedy = judge_file_limit(Some(1), 4096).remedy.unwrap();
        assert!(remedy.contains("LimitNOFILE=5120"), "{remedy}");
    }

    #[test]
    fn a_clock_behind_the_data_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("a")).unwrap();
        let ms: u64 = 1_800_000_000_000;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        file.set_modified(changed).unwrap();
        let at = |offset: i64| UnixMillis(i64::try_from(ms).unwrap() + offset);
        let behind = clock(folder.path(), at(-AHEAD_MAX_MS - 1));
        assert_eq!(behind.state, State::Bad);
        assert!(behind.remedy.unwrap().contains("NTP"));
        assert_ne!(clock(folder.path(), at(-AHEAD_MAX_MS)).state, State::Bad);
    }

    #[test]
    fn swap_on_a_disk_is_told() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert_eq!(judge_swap(Some(head)).state, State::Good);
        let zram = format!("{head}/dev/zram0 partition 1 0 100\n");
        assert_eq!(judge_swap(Some(&zram)).state, State::Good);
        let disk = format!("{head}/dev/sda2 partition 1 0 -2\n");
        assert_eq!(judge_swap(Some(&disk)).state, State::Warning);
        let remedy = judge_swap(Some(&disk)).remedy.unwrap();
        assert!(remedy.contains("MemorySwapMax=0"), "{remedy}");
        assert_eq!(judge_swap(None).state, State::Unknown);
    }
}
