//! The embedded store when file calls fail.
//!
//! A child process commits 200 times while `strace` lets its n-th write, sync, rename, folder or
//! length call fail, once or from then on. After that: no commit was acknowledged after the first
//! failure, the process ended with the documented code and in time, and the folder opens again with
//! every acknowledged commit, each unknown one whole or absent.
//!
//! The short form tries some n; `cargo xtask crash --faults` tries every one.
#![allow(
    clippy::disallowed_methods,
    reason = "the child is told what to do by its environment"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kvasir_kv::{AtomicWrite, Error, Key, Mutation, Store, Value};
use kvasir_store::fatal::FATAL_EXIT_CODE;
use kvasir_store::{EmbeddedStore, OpenOptions};

/// Commits of the child.
const COMMITS: usize = 200;

/// Bytes of a large value: 200 commits of two make 40 MB, some tables.
const LARGE_BYTES: usize = 100_000;

/// Longest life of a child: its work, and the 10 s after which a hanging commit ends it.
const CHILD_MAX: Duration = Duration::from_secs(60);

fn options() -> OpenOptions {
    let mut options = OpenOptions::default();
    options.embedded.ballast_bytes = 1024 * 1024;
    options
}

/// Values are small, or large enough that the engine writes out tables meanwhile.
fn write(number: usize, is_large: bool) -> AtomicWrite {
    let bytes = if is_large { LARGE_BYTES } else { 100 };
    let value = Value::bytes(vec![number as u8; bytes]);
    AtomicWrite::new()
        .push(Mutation::set(key("a", number), value.clone()))
        .push(Mutation::set(key("b", number), value))
}

fn key(name: &str, number: usize) -> Key {
    Key::from_strings([name.to_owned(), format!("{number:04}")])
}

/// Not a test of its own: what the other tests start as a process.
#[test]
fn the_child() {
    let Ok(dir) = std::env::var("KVASIR_FAULTS_DIR") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let is_large = std::env::var("KVASIR_FAULTS_LARGE").is_ok();
    let code = runtime.block_on(work(Path::new(&dir), is_large));
    std::process::exit(code);
}

async fn work(dir: &Path, is_large: bool) -> i32 {
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    };
    let store = match EmbeddedStore::open(dir, &options()).await {
        Ok(store) => store,
        Err(error) => {
            say(format!("refused {error}"));
            return i32::from(error.exit_code());
        }
    };
    for number in 0..COMMITS {
        match store.commit(write(number, is_large)).await {
            Ok(_) => say(format!("acked {number}")),
            Err(Error::OutcomeUnknown(_)) => say(format!("unknown {number}")),
            Err(_) => {
                // The process is about to end; a hang here would be caught by the parent.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    match store.close().await {
        Ok(()) => 0,
        Err(error) => {
            say(format!("unclean {error}"));
            std::future::pending().await
        }
    }
}

#[derive(Debug, Default)]
struct Told {
    acked: BTreeSet<usize>,
    unknown: BTreeSet<usize>,
    late: bool,
    refused: bool,
    code: Option<i32>,
}

/// Runs the child under `strace` with one fault.
fn run(dir: &Path, fault: &str, paths: &[&str]) -> Told {
    let call = fault.split(':').next().unwrap();
    let mut command = Command::new("strace");
    command
        .args(["-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null"])
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={fault}")]);
    for path in paths {
        command.arg("-P").arg(dir.join(path));
    }
    if paths == TABLES {
        command.env("KVASIR_FAULTS_LARGE", "1");
    }
    let mut child = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::the_child", "--nocapture"])
        .env("KVASIR_FAULTS_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = Told::default();
    let started = Instant::now();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (lines, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    while let Ok(line) = received.recv_timeout(CHILD_MAX) {
        let number = || line.rsplit(' ').next().unwrap().parse().unwrap();
        if line.starts_with("acked") {
            told.late |= !told.unknown.is_empty();
            told.acked.insert(number());
        } else if line.starts_with("unknown") {
            told.unknown.insert(number());
        } else if line.starts_with("refused") {
            told.refused = true;
        }
        assert!(started.elapsed() < CHILD_MAX, "{fault}: the child hangs");
    }
    told.code = child.wait().unwrap().code();
    told
}

/// Whether the process under test can be traced here.
fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        kvasir_testkit::skip("faults need strace and the right to trace");
    }
    can
}

fn numbers() -> Vec<usize> {
    match std::env::var("KVASIR_FAULTS").as_deref() {
        Ok("all") => (1..=COMMITS + 10).collect(),
        _ => vec![1, 3, 60],
    }
}

/// Those for a further error of a call that was tried with another one.
fn fewer_numbers() -> Vec<usize> {
    match std::env::var("KVASIR_FAULTS").as_deref() {
        Ok("all") => numbers(),
        _ => vec![2],
    }
}

/// What the folder holds, opened without faults.
fn check_folder(dir: &Path, told: &Told, fault: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(dir, &options()).await;
        let store = store.unwrap_or_else(|error| panic!("{fault}: {error:?} after {told:?}"));
        for number in 0..COMMITS {
            let a = store.get(&key("a", number)).await.unwrap();
            let b = store.get(&key("b", number)).await.unwrap();
            let stamps = [&a, &b].map(|entry| entry.as_ref().map(|entry| entry.versionstamp));
            assert_eq!(stamps[0], stamps[1], "{fault}: commit {number} is torn");
            if told.acked.contains(&number) {
                let value = a
                    .unwrap_or_else(|| panic!("{fault}: {number} is lost"))
                    .value;
                assert!(value.len() >= 100);
                assert!(value.bytes.iter().all(|byte| *byte == number as u8));
            } else if !told.unknown.contains(&number) {
                assert!(a.is_none(), "{fault}: commit {number} was never begun");
            }
        }
        store.commit(write(COMMITS, false)).await.unwrap();
        store.close().await.unwrap();
    });
}

fn check(call: &str, error: &str, paths: &[&str]) {
    check_at(&numbers(), call, error, paths);
}

/// With each error that a full disk or an exhausted quota is told by, too.
fn check_with_every_error(call: &str) {
    check(call, "EIO", &[]);
    for error in ["ENOSPC", "EDQUOT"] {
        check_at(&fewer_numbers(), call, error, &[]);
    }
}

fn check_at(numbers: &[usize], call: &str, error: &str, paths: &[&str]) {
    if !can_trace() {
        return;
    }
    let mut hits = 0;
    for number in numbers {
        for then in ["", "+"] {
            let dir = tempfile::tempdir().unwrap();
            let fault = format!("{call}:error={error}:when={number}{then}");
            let told = run(dir.path(), &fault, paths);
            assert!(!told.late, "{fault}: acknowledged after a failure");
            match told.code {
                Some(0) => assert_eq!(told.acked.len(), COMMITS, "{fault}"),
                Some(FATAL_EXIT_CODE) => hits += 1,
                Some(1) if told.refused => hits += 1,
                // A failure while closing is no failure of a commit.
                _ if told.acked.len() == COMMITS => hits += 1,
                code => panic!("{fault}: ended with {code:?} after {told:?}"),
            }
            check_folder(dir.path(), &told, &fault);
        }
    }
    assert!(hits > 0, "{call} was never hit");
}

const TABLES: &[&str] = &[
    "store/keyspaces/1/tables/0",
    "store/keyspaces/1/tables/1",
    "store/keyspaces/1/tables/2",
];

/// The engine's threads fail on their own; commits may then wait for ever.
#[test]
fn a_failure_behind_the_commits_ends_the_process_too() {
    if !can_trace() {
        return;
    }
    for call in ["write:error=EIO", "fsync:error=EIO", "write:error=ENOSPC"] {
        let dir = tempfile::tempdir().unwrap();
        let fault = format!("{call}:when=1+");
        let told = run(dir.path(), &fault, TABLES);
        assert!(!told.late, "{fault}");
        assert_eq!(told.code, Some(FATAL_EXIT_CODE), "{fault}: {told:?}");
        check_folder(dir.path(), &told, &fault);
    }
}

const JOURNALS: &[&str] = &["store/0.jnl", "store.new/0.jnl"];

#[test]
fn a_failed_write_is_final_and_loses_nothing() {
    check("write", "EIO", JOURNALS);
}

#[test]
fn a_full_disk_that_the_guard_did_not_see_is_final_and_loses_nothing() {
    check("write", "ENOSPC", JOURNALS);
}

#[test]
fn an_exhausted_quota_is_final_and_loses_nothing() {
    check_at(&fewer_numbers(), "write", "EDQUOT", JOURNALS);
}

#[test]
fn without_room_for_the_ballast_the_store_goes_on() {
    if !can_trace() {
        return;
    }
    for error in ["ENOSPC", "EDQUOT", "EIO"] {
        let dir = tempfile::tempdir().unwrap();
        let fault = format!("fallocate:error={error}:when=1+");
        let told = run(dir.path(), &fault, &[]);
        // Only the ballast is missing then.
        assert_eq!(told.code, Some(0), "{fault}: {told:?}");
        assert_eq!(told.acked.len(), COMMITS, "{fault}");
        check_folder(dir.path(), &told, &fault);
    }
}

#[test]
fn a_file_that_cannot_be_opened_leaves_a_folder_that_opens() {
    let paths = ["store", "store.new", "store.state", "store.state.new"];
    check("openat", "EIO", &[JOURNALS, &paths].concat());
}

#[test]
fn a_failed_sync_of_data_is_final_and_loses_nothing() {
    check("fdatasync", "EIO", &[]);
}

#[test]
fn a_failed_sync_is_final_and_loses_nothing() {
    check("fsync", "EIO", &[]);
}

#[test]
fn a_failed_rename_leaves_a_folder_that_opens() {
    check_with_every_error("rename");
}

#[test]
fn a_failed_new_folder_leaves_a_folder_that_opens() {
    check_with_every_error("mkdir");
}

#[test]
fn a_failed_change_of_length_leaves_a_folder_that_opens() {
    check_with_every_error("ftruncate");
}

#[test]
fn an_interrupted_call_goes_on() {
    if !can_trace() {
        return;
    }
    for (call, paths) in [
        ("write", JOURNALS),
        ("fdatasync", &[]),
        ("fsync", &[]),
        ("ftruncate", &[]),
        ("fallocate", &[]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fault = format!("{call}:error=EINTR:when=3+7");
        let told = run(dir.path(), &fault, paths);
        assert_eq!(told.code, Some(0), "{fault}: {told:?}");
        assert_eq!(told.acked.len(), COMMITS, "{fault}");
        check_folder(dir.path(), &told, &fault);
    }
}
