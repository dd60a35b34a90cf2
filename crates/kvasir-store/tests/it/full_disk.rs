//! The embedded store on a disk that runs full: a small tmpfs, with a file that takes most of it.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kvasir_kv::{AtomicWrite, Clock, Error, Key, Mutation, Store, UnixMillis, Value};
use kvasir_store::embedded::verify::verify;
use kvasir_store::{EmbeddedSettings, EmbeddedStore, FatalHook, OpenOptions, SystemClock};
use tempfile::TempDir;

const MIB: u64 = 1024 * 1024;

/// A tmpfs that is unmounted at the end.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None`, loudly, where this process may not mount.
    fn mount(mib: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
            return None;
        }
        Some(SmallDisk { dir })
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Lets a file of other programs grow by `bytes`.
    fn fill(&self, bytes: u64) {
        let grown = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler());
        let mut left = bytes;
        while left > 0 {
            let piece = vec![1; left.min(MIB) as usize];
            std::io::Write::write_all(&mut grown.as_ref().unwrap(), &piece).unwrap();
            left -= piece.len() as u64;
        }
    }

    /// Until the engine has written out what it was about to. Nobody can keep it from failing if
    /// others take the space that it is just using.
    async fn wait_for_rest(&self) {
        let mut calm = 0;
        for _ in 0..400 {
            let before = self.free();
            tokio::time::sleep(Duration::from_millis(50)).await;
            calm = if self.free() == before { calm + 1 } else { 0 };
            if calm == 20 {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.dir.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status();
        assert!(unmounted.unwrap().success());
    }
}

fn options() -> OpenOptions {
    OpenOptions {
        embedded: EmbeddedSettings {
            reserve_bytes: 96 * MIB,
            ballast_bytes: 32 * MIB,
            ..EmbeddedSettings::default()
        },
        fatal: FatalHook::new(|error| panic!("{error}: {}", error.source)),
        sweeper: false,
        ..OpenOptions::default()
    }
}

fn key(number: usize) -> Key {
    Key::from_strings([format!("{number:06}")])
}

fn set(number: usize, expires_at: Option<UnixMillis>) -> AtomicWrite {
    let value = Value::bytes(vec![number as u8; 32 * 1024]);
    AtomicWrite::new().push(Mutation::set_expiring(key(number), value, expires_at))
}

fn delete(number: usize) -> AtomicWrite {
    AtomicWrite::new().push(Mutation::delete(key(number)))
}

async fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, &options()).await.unwrap()
}

/// Until the store takes writes again, by itself.
async fn wait_for_writes(store: &EmbeddedStore) {
    for _ in 0..200 {
        match store.commit(set(999_999, None)).await {
            Ok(_) => return,
            Err(Error::NoSpace) => tokio::time::sleep(Duration::from_millis(25)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("writes do not come back");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_deletes_and_recovers_alone() {
    let Some(disk) = SmallDisk::mount(400) else {
        return;
    };
    let store = open(&disk.store()).await;
    let ballast = disk.store().join("store.ballast");
    // Expired ones, swept while the disk is full.
    let soon = UnixMillis(SystemClock.now().0 + 1);
    for number in 500_000..500_010 {
        store.commit(set(number, Some(soon))).await.unwrap();
    }
    disk.fill(180 * MIB);

    let mut written = 0;
    loop {
        match store.commit(set(written, None)).await {
            Ok(_) => written += 1,
            Err(Error::NoSpace) => break,
            Err(error) => panic!("after {written}: {error}"),
        }
        assert!(written < 10_000, "the disk never runs full");
    }
    assert!(written > 100);
    assert!(ballast.exists());
    assert!(matches!(store.ping().await, Err(Error::NoSpace)));
    assert!(store.get(&key(0)).await.unwrap().is_some());
    store.commit(delete(0)).await.unwrap();
    let limit = NonZeroU32::new(100).unwrap();
    let swept = store.sweep(SystemClock.now(), limit).await.unwrap();
    assert_eq!(swept, 10);

    // Others take more. The ballast makes room for deletes.
    disk.wait_for_rest().await;
    disk.fill(disk.free().saturating_sub(50 * MIB));
    for number in 1..100 {
        store.commit(delete(number)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!ballast.exists());
    assert!(matches!(
        store.commit(set(1, None)).await,
        Err(Error::NoSpace)
    ));

    // Others take everything. Nothing reaches the engine, so nothing breaks.
    disk.wait_for_rest().await;
    disk.fill(disk.free());
    assert!(matches!(
        store.commit(delete(100)).await,
        Err(Error::NoSpace)
    ));
    assert!(store.get(&key(100)).await.unwrap().is_some());

    std::fs::remove_file(disk.filler()).unwrap();
    wait_for_writes(&store).await;
    store.ping().await.unwrap();
    assert!(ballast.exists());
    store.close().await.unwrap();

    let report = verify(&disk.store(), &options()).unwrap();
    assert_eq!(report.problems, []);
    let store = open(&disk.store()).await;
    assert!(store.get(&key(99)).await.unwrap().is_none());
    assert!(store.get(&key(100)).await.unwrap().is_some());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_opens_on_a_full_disk_for_reads() {
    let Some(disk) = SmallDisk::mount(160) else {
        return;
    };
    let store = open(&disk.store()).await;
    store.commit(set(1, None)).await.unwrap();
    store.close().await.unwrap();
    disk.fill(disk.free().saturating_sub(MIB));
    let store = open(&disk.store()).await;
    assert!(store.get(&key(1)).await.unwrap().is_some());
    assert!(matches!(
        store.commit(set(2, None)).await,
        Err(Error::NoSpace)
    ));
    store.close().await.unwrap();
}
