//! MOV-2: what is taken in memory does not grow with what is backed up, restored or moved.

use kvasir_testkit::TestServer;
use kvasir_testkit::effort::Effort;

use super::*;

/// MOV-2 of the operator's contract: extra memory for any size.
const EXTRA_KIB_MAX: u64 = 64 * 1024;

/// What SQLite caches of its file by its settings, whoever fills it.
const SQLITE_CACHE_KIB: u64 = 32 * 1024;

/// What the embedded engine may take to merge tables, whoever fills it.
const MERGES_KIB: u64 = 32 * 1024;

/// MiB of values in a plain run; `cargo xtask sizes` takes more.
const VALUES_MIB: u32 = 96;

/// A figure of a process, in KiB: `VmRSS` is what it has in memory, `VmHWM` the most it ever had.
fn kib_of(pid: u32, figure: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    line?
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()
}

/// Runs a verb and returns the most memory it ever had, in KiB.
async fn peak_kib(args: &[&str]) -> u64 {
    let mut child = tokio::process::Command::new(KVASIR)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let mut peak = 0;
    let deadline = DEADLINE * 4 * Effort::from_env().factor;
    let ended = eventually(deadline, "the command ends", || {
        peak = kib_of(pid, "VmHWM").unwrap_or(0).max(peak);
        let ended = child.try_wait().unwrap();
        async move { ended }
    });
    let ended = ended.await;
    assert!(ended.success(), "{args:?}");
    peak
}

/// Lets a server do something, and returns how much more memory it had at most than before, in KiB.
async fn extra_kib(server: &TestServer, args: &[&str]) -> u64 {
    // The kernel forgets the peak so far.
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let before = kib_of(server.pid(), "VmRSS").unwrap();
    let data = server.data().to_string_lossy().into_owned();
    peak_kib(&[args, &["--data", &data]].concat()).await;
    let peak = kib_of(server.pid(), "VmHWM").unwrap();
    peak.saturating_sub(before)
}

async fn filled(data: &Path, mib: u64) {
    let filled = store(&format!("embedded:{}", data.display())).await;
    fill(&filled, mib * 300).await;
    fill_with_noise(&filled, mib * 5, 200 * 1024).await;
    filled.close().await.unwrap();
}

fn newest_backup(data: &Path) -> String {
    let found = fs::read_dir(data.join("backups")).unwrap().flatten().next();
    found.unwrap().path().to_string_lossy().into_owned()
}

/// The server's caches are the same with and without a backup, so they are warm before it is looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_backup_that_a_server_takes_reads_and_rehearses() {
    let scratch = tempfile::tempdir().unwrap();
    let mib = Effort::from_env().times(VALUES_MIB);
    let data = scratch.path().join("data");
    filled(&data, mib.into()).await;
    let server = options().data(&data).start().await;
    let lines = scratch.path().join("lines.jsonl");
    let lines = lines.to_string_lossy().into_owned();
    let shown = data.to_string_lossy().into_owned();
    peak_kib(&["export", &lines, "--data", &shown]).await;
    fs::remove_file(&lines).unwrap();
    let create = extra_kib(&server, &["backup", "create", "--no-verify"]).await;
    let verify = extra_kib(&server, &["backup", "verify"]).await;
    let rehearse = extra_kib(&server, &["restore-drill"]).await;
    let export = extra_kib(&server, &["export", &lines]).await;
    let extra = [
        ("create", create, 0),
        ("verify", verify, 0),
        ("rehearse", rehearse, MERGES_KIB),
        ("export", export, 0),
    ];
    println!("KiB more in a server, with {mib} MiB: {extra:?}");
    for (what, kib, engine) in extra {
        assert!(kib < EXTRA_KIB_MAX + engine, "{what}: {kib} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_backup_that_is_restored() {
    let scratch = tempfile::tempdir().unwrap();
    let mib = Effort::from_env().times(VALUES_MIB);
    let mut peaks = Vec::new();
    for (name, mib) in [("small", 1), ("large", u64::from(mib))] {
        let data = scratch.path().join(name);
        filled(&data, mib).await;
        let shown = data.to_string_lossy().into_owned();
        peak_kib(&["backup", "create", "--no-verify", "--data", &shown]).await;
        let file = newest_backup(&data);
        let to = scratch.path().join(format!("{name}-restored"));
        let folder = to.to_string_lossy().into_owned();
        let sqlite = format!("sqlite:{folder}.db");
        let restore = peak_kib(&["restore", &file, "--data", &folder]).await;
        fs::remove_dir_all(&to).unwrap();
        let to_sqlite = peak_kib(&["restore", &file, "--store", &sqlite]).await;
        let read = peak_kib(&["restore", &file, "--dry-run"]).await;
        fs::remove_dir_all(&data).unwrap();
        peaks.push([
            ("restore", restore, MERGES_KIB),
            ("restore to SQLite", to_sqlite, SQLITE_CACHE_KIB),
            ("read", read, 0),
        ]);
    }
    println!("peaks in KiB with about 1 MiB and {mib} MiB: {peaks:?}");
    for ((what, small, engine), (_, large, _)) in peaks[0].iter().zip(&peaks[1]) {
        let most = small + EXTRA_KIB_MAX + engine;
        assert!(*large < most, "{what}: {large} KiB instead of {small}");
    }
}
