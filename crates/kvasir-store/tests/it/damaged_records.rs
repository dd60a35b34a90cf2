//! Damage below the store: in the engine's tables, and in records that the engine believes.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use kvasir_kv::{
    AtomicWrite, Error, Key, KeyRange, Mutation, RangeRead, SnapshotRead, Store, Value,
};
use kvasir_store::embedded::{store_path, verify::verify};
use kvasir_store::{EmbeddedStore, OpenOptions};

const ENTRIES: usize = 50;

fn key(number: usize) -> Key {
    Key::from_strings([format!("{number:04}")])
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::default();
    options.embedded.ballast_bytes = 0;
    options.sweeper = false;
    options
}

/// A store whose entries all lie in tables.
async fn store_in_tables(dir: &Path) {
    let store = EmbeddedStore::open(dir, &options()).await.unwrap();
    for number in 0..ENTRIES {
        let value = Value::bytes(vec![number as u8; 2_000]);
        let write = AtomicWrite::new().push(Mutation::set(key(number), value));
        store.commit(write).await.unwrap();
    }
    store.close().await.unwrap();
    // The engine itself writes its tables out.
    let db = fjall::Database::builder(store_path(dir)).open().unwrap();
    let data = db.keyspace("data", || unreachable!("it exists")).unwrap();
    data.rotate_memtable_and_wait().unwrap();
}

/// The one table that holds the entries.
fn table(dir: &Path) -> PathBuf {
    let tables = store_path(dir).join("keyspaces/1/tables");
    let mut found = std::fs::read_dir(tables).unwrap();
    let table = found.next().unwrap().unwrap().path();
    assert!(found.next().is_none());
    table
}

#[tokio::test]
async fn a_flipped_bit_in_a_table_is_an_error_and_never_another_value() {
    let dir = tempfile::tempdir().unwrap();
    store_in_tables(dir.path()).await;
    let table = table(dir.path());
    let length = table.metadata().unwrap().len();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&table)
        .unwrap();
    assert_eq!(verify(dir.path(), &options()).unwrap().problems, []);

    let mut noticed = 0;
    for step in 0..40 {
        let place = length / 41 * step + 17;
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << (step % 8))], place)
            .unwrap();

        match EmbeddedStore::open(dir.path(), &options()).await {
            Err(error) => {
                assert_eq!(error.exit_code(), 8, "{error:?}");
                noticed += 1;
            }
            Ok(store) => {
                for number in 0..ENTRIES {
                    match store.get(&key(number)).await {
                        Ok(Some(entry)) => {
                            assert_eq!(entry.value.bytes, vec![number as u8; 2_000]);
                        }
                        Ok(None) => panic!("entry {number} vanished at byte {place}"),
                        Err(Error::Corrupt(_)) => noticed += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                store.close().await.unwrap();
                let report = verify(dir.path(), &options()).unwrap();
                assert_ne!(report.problems_found, 0, "verify overlooks byte {place}");
                assert!(report.problems.iter().any(|problem| problem.file == table));
            }
        }
        file.write_all_at(&byte, place).unwrap();
    }
    assert!(noticed > 30);
    assert_eq!(verify(dir.path(), &options()).unwrap().problems, []);
}

#[tokio::test]
async fn a_record_that_the_engine_believes_but_is_wrong_is_an_error_that_names_the_key() {
    let dir = tempfile::tempdir().unwrap();
    store_in_tables(dir.path()).await;
    {
        let db = fjall::Database::builder(store_path(dir.path()))
            .open()
            .unwrap();
        let data = db.keyspace("data", || unreachable!("it exists")).unwrap();
        let swapped = data.get(key(7).as_bytes()).unwrap().unwrap();
        let mut flipped = swapped.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        data.insert(key(6).as_bytes(), swapped).unwrap();
        data.insert(key(7).as_bytes(), flipped).unwrap();
        data.rotate_memtable_and_wait().unwrap();
        let meta = db.keyspace("meta", || unreachable!("it exists")).unwrap();
        meta.rotate_memtable_and_wait().unwrap();
    }
    // These two writes lack the seal, so the journal would be refused; they are in tables by now.
    std::fs::write(store_path(dir.path()).join("0.jnl"), "").unwrap();

    let options = options();
    let store = EmbeddedStore::open(dir.path(), &options).await.unwrap();
    let names_it = |error: Error, number: usize| {
        assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
        assert!(error.to_string().contains(&format!("{number:04}")));
    };
    names_it(store.get(&key(6)).await.unwrap_err(), 6);
    names_it(store.get(&key(7)).await.unwrap_err(), 7);
    let range = KeyRange::new(key(5), key(9));
    let read = SnapshotRead::range(RangeRead::new(range.clone(), 10));
    names_it(store.read(read).await.unwrap_err(), 6);
    let page = store.scan(range, false).next().await.unwrap();
    names_it(page.unwrap_err(), 6);
    let check = AtomicWrite::new().check_absent(key(7));
    names_it(store.commit(check).await.unwrap_err(), 7);
    assert_eq!(options.metrics.corrupt_records.get(), 5);

    // Writing it anew heals it, and other keys were never affected.
    assert!(store.get(&key(8)).await.unwrap().is_some());
    let write = AtomicWrite::new().push(Mutation::set(key(7), Value::json("1")));
    store.commit(write).await.unwrap();
    assert!(store.get(&key(7)).await.unwrap().is_some());
    store.close().await.unwrap();
    let report = verify(dir.path(), &options).unwrap();
    assert_eq!(report.problems_found, 1);
    assert!(report.problems[0].what.contains("0006"));
}
