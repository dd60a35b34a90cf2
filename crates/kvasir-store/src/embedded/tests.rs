//! What the embedded store adds to the common contract: opening, closing, failing.

use std::sync::Mutex;

use futures_util::StreamExt;
use kvasir_kv::{Error, ManualClock, Mutation, Page, RangeRead, Value};
use tempfile::TempDir;

use super::*;
use crate::FatalHook;

fn options() -> OpenOptions {
    OpenOptions {
        embedded: EmbeddedSettings {
            ballast_bytes: 0,
            ..EmbeddedSettings::default()
        },
        fatal: FatalHook::new(|error| panic!("{error}: {}", error.source)),
        ..OpenOptions::default()
    }
}

async fn open(dir: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(dir.path(), &options()).await.unwrap()
}

fn key(name: impl AsRef<str>) -> Key {
    Key::from_strings([name])
}

fn set(name: impl AsRef<str>, value: &str) -> AtomicWrite {
    let value = Value::bytes(value.to_owned());
    AtomicWrite::new().push(Mutation::set(key(name), value))
}

async fn commit(store: &EmbeddedStore, write: AtomicWrite) -> Versionstamp {
    let outcome = store.commit(write).await.unwrap();
    outcome.committed().unwrap().versionstamp
}

async fn value(store: &EmbeddedStore, name: &str) -> Option<Vec<u8>> {
    let entry = store.get(&key(name)).await.unwrap()?;
    Some(entry.value.bytes.to_vec())
}

fn everything() -> KeyRange {
    KeyRange::starting_with(&Key::default())
}

async fn scanned(store: &EmbeddedStore, reverse: bool) -> Vec<Entry> {
    let pages: Vec<Page> = store
        .scan(everything(), reverse)
        .map(Result::unwrap)
        .collect()
        .await;
    pages.into_iter().flat_map(|page| page.entries).collect()
}

#[tokio::test]
async fn commits_are_there_after_a_close_and_after_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let first = commit(&store, set("a", "1")).await;
    commit(&store, set("b", "2")).await;
    commit(&store, AtomicWrite::new().push(Mutation::delete(key("b")))).await;
    let empty = commit(&store, AtomicWrite::new()).await;
    store.close().await.unwrap();

    let store = open(&dir).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(value(&store, "b").await, None);
    assert_eq!(store.versionstamp().await.unwrap(), empty);
    assert_eq!(
        store.get(&key("a")).await.unwrap().unwrap().versionstamp,
        first
    );
    assert!(commit(&store, set("c", "3")).await > empty);
    store.close().await.unwrap();
}

#[tokio::test]
async fn after_close_everything_is_unavailable_and_streams_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, set("a", "1")).await;
    let mut watch = store.watch(vec![key("a")]);
    watch.next().await.unwrap().unwrap();
    // Polled once, it holds a snapshot; that must not keep the folder locked.
    let mut scan = store.scan(everything(), false);
    store.close().await.unwrap();
    store.close().await.unwrap();

    assert!(watch.next().await.is_none());
    assert!(matches!(
        scan.next().await,
        Some(Err(Error::Unavailable(_)))
    ));
    assert!(matches!(
        store.get(&key("a")).await,
        Err(Error::Unavailable(_))
    ));
    assert!(store.read(SnapshotRead::default()).await.is_err());
    assert!(store.commit(set("a", "2")).await.is_err());
    assert!(store.ping().await.is_err());
    assert!(store.versionstamp().await.is_err());
    let again = open(&dir).await;
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_second_opening_is_refused_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let error = EmbeddedStore::open(dir.path(), &options())
        .await
        .unwrap_err();
    assert!(
        matches!(error, OpenError::Locked { holder: Some(pid), .. } if pid == std::process::id())
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn ranges_and_scans_come_from_one_snapshot_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let names: Vec<_> = (0..1_200).map(|number| format!("{number:05}")).collect();
    let mut write = AtomicWrite::new();
    for name in &names {
        write = write.push(Mutation::set(key(name), Value::bytes("x")));
    }
    let stamp = commit(&store, write).await;

    let mut pages = store.scan(everything(), false);
    let first = pages.next().await.unwrap().unwrap();
    assert_eq!(first.versionstamp, stamp);
    commit(&store, set("99999", "late")).await;
    let mut rest = 0;
    while let Some(page) = pages.next().await {
        rest += page.unwrap().entries.len();
    }
    assert_eq!(first.entries.len() + rest, names.len());

    assert_eq!(scanned(&store, false).await.len(), names.len() + 1);
    let mut backwards = scanned(&store, true).await;
    backwards.reverse();
    assert_eq!(backwards, scanned(&store, false).await);

    let ranges = vec![
        RangeRead::new(everything(), 3).reversed(),
        RangeRead::key(key("00007")),
        RangeRead::key(key("absent")),
        RangeRead::new(everything(), 1_000),
        RangeRead::new(KeyRange::new(key("5"), key("4")), 10),
        RangeRead::new(everything(), 0),
    ];
    let snapshot = store.read(SnapshotRead { ranges }).await.unwrap();
    let counts: Vec<_> = snapshot
        .ranges
        .iter()
        .map(|range| range.entries.len())
        .collect();
    assert_eq!(counts, [3, 1, 0, 1_000, 0, 0]);
    assert_eq!(snapshot.ranges[0].entries[0].key, key("99999"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn expired_entries_are_unseen_and_swept_and_renewed_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(UnixMillis(1_000_000));
    let options = OpenOptions {
        clock: Arc::new(clock.clone()),
        ..options()
    };
    let store = EmbeddedStore::open(dir.path(), &options).await.unwrap();
    let expiring = |name: &str, at: i64| {
        let value = Value::bytes("x");
        AtomicWrite::new().push(Mutation::set_expiring(
            key(name),
            value,
            Some(UnixMillis(at)),
        ))
    };
    for name in ["a", "b", "c"] {
        commit(&store, expiring(name, 1_001_000)).await;
    }
    commit(&store, expiring("b", 1_002_000)).await;
    commit(&store, set("c", "for ever")).await;
    assert_eq!(store.hint.nearest(), UnixMillis(1_001_000));

    clock.set(UnixMillis(1_001_000));
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(scanned(&store, false).await.len(), 2);
    let mut changes = store.changes(everything());
    let limit = NonZeroU32::new(100).unwrap();
    assert_eq!(store.sweep(clock.now(), limit).await.unwrap(), 1);
    assert_eq!(changes.next().await.unwrap().keys, [(key("a"), false)]);
    assert_eq!(store.sweep(clock.now(), limit).await.unwrap(), 0);
    store.close().await.unwrap();

    let store = EmbeddedStore::open(dir.path(), &options).await.unwrap();
    assert_eq!(store.hint.nearest(), UnixMillis(1_002_000));
    clock.set(UnixMillis(1_002_000));
    assert_eq!(store.sweep(clock.now(), limit).await.unwrap(), 1);
    assert_eq!(value(&store, "c").await.as_deref(), Some(&b"for ever"[..]));
    store.close().await.unwrap();
    let report = verify::verify(dir.path(), &options).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.entries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_both_keys_of_a_commit_or_neither_whatever_the_cache_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir).await);
    let both = |number: u64| {
        let value = Value::u64(number);
        AtomicWrite::new()
            .push(Mutation::set(key("x"), value.clone()))
            .push(Mutation::set(key("y"), value))
    };
    commit(&store, both(0)).await;
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 1..400 {
                commit(&store, both(number)).await;
            }
        }
    });
    let read = |name: &'static str| {
        let store = Arc::clone(&store);
        async move {
            let entry = store.get(&key(name)).await.unwrap().unwrap();
            entry.value.as_u64().unwrap()
        }
    };
    while !writer.is_finished() {
        let x = read("x").await;
        let y = read("y").await;
        assert!(y >= x, "x was {x} before y was {y}");
        let keys = SnapshotRead::keys([key("x"), key("y")]);
        let firsts: Vec<_> = store.read(keys).await.unwrap().into_firsts().collect();
        let [Some(x), Some(y)] = &firsts[..] else {
            panic!("{firsts:?}")
        };
        assert_eq!(x.versionstamp, y.versionstamp);
        let again = read("x").await;
        assert!(again >= x.value.as_u64().unwrap());
    }
    writer.await.unwrap();
    store.close().await.unwrap();
}

#[test]
fn creation_may_be_interrupted_after_every_step() {
    let settings = EmbeddedSettings::default();
    let seen = Mutex::new(Vec::new());
    for interrupted_after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let mut steps = 0;
        let created = create(&folder, &settings, &mut |step| {
            seen.lock().unwrap().push(step);
            steps += 1;
            if steps > interrupted_after {
                return Err(damaged(dir.path(), 0, "interrupted"));
            }
            Ok(())
        });
        let opened = Opened::open(dir.path(), &options()).unwrap();
        assert_eq!(opened.last, Versionstamp::ZERO);
        assert!(!folder.new_store().exists());
        if created.is_ok() {
            break;
        }
    }
    assert_eq!(seen.lock().unwrap().last(), Some(&Created::Durable));
}

#[tokio::test]
async fn a_store_that_vanished_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.close().await.unwrap();
    std::fs::remove_dir_all(store_path(dir.path())).unwrap();
    let error = EmbeddedStore::open(dir.path(), &options())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 8);
}

#[tokio::test]
async fn an_older_copy_of_a_closed_store_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    commit(&store, set("a", "1")).await;
    store.close().await.unwrap();
    let folder = Folder::new(dir.path());
    let last = Versionstamp::new(u64::MAX / 4, 0);
    folder.set_state(&State::Closed { last }).unwrap();
    let error = EmbeddedStore::open(dir.path(), &options())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 8);
}
