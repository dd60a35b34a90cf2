//! `mend` on journals as a real store wrote them, damaged in every way that a power cut or a bad
//! disk was seen to damage them.

use std::path::Path;

use kvasir_kv::{AtomicWrite, Key, Mutation, Store, Value};
use tempfile::TempDir;

use super::super::EmbeddedStore;
use super::super::folder::{Folder, State};
use super::super::journal::{Seal, scan};
use super::*;
use crate::{FatalHook, OpenOptions};

/// Commits of the recorded store. Its first batch is the one of the creation.
pub(crate) const COMMITS: usize = 6;

/// A store as `kill -9` leaves it.
pub(crate) struct Recorded {
    pub(crate) dir: TempDir,
}

fn key(number: usize) -> Key {
    Key::from_strings([format!("key {number}")])
}

pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions {
        fatal: FatalHook::new(|error| panic!("{error}")),
        ..OpenOptions::default()
    };
    options.embedded.ballast_bytes = 0;
    options
}

fn copy(from: &Path, to: &Path) {
    try_copy(from, to).unwrap();
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for child in std::fs::read_dir(from)? {
        let child = child?;
        let to = to.join(child.file_name());
        if child.file_type()?.is_dir() {
            try_copy(&child.path(), &to)?;
        } else {
            std::fs::copy(child.path(), to)?;
        }
    }
    Ok(())
}

/// Names of all files below a folder, and when each was last written.
fn listing(folder: &Path) -> std::io::Result<Vec<(std::path::PathBuf, std::time::SystemTime)>> {
    let mut files = Vec::new();
    for child in std::fs::read_dir(folder)? {
        let child = child?;
        if child.file_type()?.is_dir() {
            files.extend(listing(&child.path())?);
        } else {
            files.push((child.path(), child.metadata()?.modified()?));
        }
    }
    files.sort();
    Ok(files)
}

/// A copy of a folder in use as it was at one moment: nothing changed while it was made.
fn copy_of_a_moment(from: &Path) -> TempDir {
    for _ in 0..100 {
        let copied = tempfile::tempdir().unwrap();
        let (Ok(before), Ok(())) = (listing(from), try_copy(from, copied.path())) else {
            continue;
        };
        if listing(from).is_ok_and(|after| after == before) {
            return copied;
        }
    }
    panic!("the engine never came to rest");
}

impl Recorded {
    pub(crate) async fn new() -> Recorded {
        let source = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(source.path(), &options())
            .await
            .unwrap();
        for number in 0..COMMITS {
            let value = Value::bytes(vec![number as u8 + 1; 100]);
            let write = AtomicWrite::new()
                .push(Mutation::set(key(number), value.clone()))
                .push(Mutation::set(key(number + 1_000), value));
            store.commit(write).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        copy(source.path(), dir.path());
        store.close().await.unwrap();
        Recorded { dir }
    }

    /// The same again, to be damaged.
    pub(crate) fn copy(&self) -> Recorded {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        Recorded { dir }
    }

    pub(crate) fn store(&self) -> std::path::PathBuf {
        super::super::store_path(self.dir.path())
    }

    pub(crate) fn journal(&self) -> std::path::PathBuf {
        self.store().join("0.jnl")
    }

    fn seal(&self) -> Seal {
        Identity::read(&self.store()).unwrap().seal
    }

    /// The journal without the zeros behind it, and where its batches end.
    pub(crate) fn batches(&self) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = std::fs::read(self.journal()).unwrap();
        let Scan::Clean { end } = scan(&bytes, &self.seal(), &mut None) else {
            panic!("a recorded journal is whole");
        };
        bytes.truncate(end);
        let mut ends = vec![0];
        while ends.last() != Some(&end) {
            let at = *ends.last().unwrap();
            // The shortest cut that is whole again is the end of the next batch.
            let next = (at + 1..=end).find(|&cut| {
                scan(&bytes[..cut], &self.seal(), &mut None) == Scan::Clean { end: cut }
            });
            ends.push(next.unwrap());
        }
        (bytes, ends)
    }

    pub(crate) fn write(&self, journal: &str, bytes: &[u8]) {
        std::fs::write(self.store().join(journal), bytes).unwrap();
    }

    pub(crate) async fn open(&self) -> Result<EmbeddedStore, OpenError> {
        EmbeddedStore::open(self.dir.path(), &options()).await
    }

    /// Opens it and counts its commits, of which each has to be whole.
    pub(crate) async fn commits(&self) -> usize {
        let store = self.open().await.unwrap();
        let mut found = 0;
        for number in 0..COMMITS {
            let one = store.get(&key(number)).await.unwrap();
            let other = store.get(&key(number + 1_000)).await.unwrap();
            let stamp = |entry: &Option<kvasir_kv::Entry>| entry.as_ref().map(|e| e.versionstamp);
            assert_eq!(stamp(&one), stamp(&other));
            if one.is_some() {
                assert_eq!(found, number, "no hole");
                found += 1;
            }
        }
        store.close().await.unwrap();
        found
    }

    async fn assert_refused(&self, file: &Path, what: &str) {
        let before = std::fs::read(file).ok();
        match self.open().await.unwrap_err() {
            OpenError::Damaged { file: found, .. } => assert_eq!(found, file, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(std::fs::read(file).ok(), before, "{what}: nothing changed");
    }
}

#[tokio::test]
async fn a_clean_journal_stays_as_it_is() {
    let recorded = Recorded::new().await;
    let (bytes, ends) = recorded.batches();
    assert_eq!(ends.len(), COMMITS + 2);
    assert_eq!(ends.last(), Some(&bytes.len()));
    let identity = Identity::read(&recorded.store()).unwrap();
    let metrics = StoreMetrics::default();
    let before = std::fs::read(recorded.journal()).unwrap();
    let mended = mend(&recorded.store(), &identity, false, &metrics).unwrap();
    assert_eq!(mended, Mended::default());
    assert_eq!(std::fs::read(recorded.journal()).unwrap(), before);
    assert_eq!(recorded.commits().await, COMMITS);
}

#[tokio::test]
async fn a_last_batch_torn_at_any_byte_is_cut_off_and_counted() {
    let recorded = Recorded::new().await;
    let (bytes, ends) = recorded.batches();
    let (begin, end) = (ends[COMMITS], ends[COMMITS + 1]);
    for cut in begin + 1..end {
        // As a shorter file, and as one whose length was preallocated.
        let short = bytes[..cut].to_vec();
        let mut long = short.clone();
        long.resize(bytes.len() + 5_000, 0);
        for torn in [short, long] {
            let found = scan(&torn, &recorded.seal(), &mut None);
            assert!(
                matches!(found, Scan::TornTail { end, .. } if end == begin),
                "{cut}"
            );
        }
    }
    for cut in [begin + 1, begin + 13, begin + 100, end - 5, end - 1] {
        let torn = recorded.copy();
        torn.write("0.jnl", &bytes[..cut]);
        let identity = Identity::read(&torn.store()).unwrap();
        let metrics = StoreMetrics::default();
        let mended = mend(&torn.store(), &identity, false, &metrics).unwrap();
        // Zeros at the end may have been preallocated, so they are not counted.
        assert!(mended.cut_bytes > 0 && mended.cut_bytes <= (cut - begin) as u64);
        assert_eq!(metrics.mend_repairs.get(), 1);
        assert_eq!(std::fs::read(torn.journal()).unwrap(), bytes[..begin]);
        assert_eq!(torn.commits().await, COMMITS - 1);
    }
}

#[tokio::test]
async fn a_last_batch_whose_end_survived_is_cut_off_too() {
    let recorded = Recorded::new().await;
    let (bytes, ends) = recorded.batches();
    let begin = ends[COMMITS];
    // fjall alone refuses to open after this.
    let mut torn = bytes.clone();
    torn[begin + 60..begin + 90].fill(0);
    let copy = recorded.copy();
    copy.write("0.jnl", &torn);
    assert_eq!(copy.commits().await, COMMITS - 1);

    // Its first bytes never came: the journal seems to end in zeros, but does not.
    let mut torn = bytes.clone();
    torn[begin..begin + 50].fill(0);
    let copy = recorded.copy();
    copy.write("0.jnl", &torn);
    assert_eq!(copy.commits().await, COMMITS - 1);
}

#[tokio::test]
async fn a_flipped_bit_in_any_earlier_batch_is_refused() {
    let recorded = Recorded::new().await;
    let (bytes, ends) = recorded.batches();
    for batch in 0..COMMITS {
        for place in ends[batch]..ends[batch + 1] {
            // A sequence number may rise a little as long as it stays below the next one: its
            // order, which is all that counts, is the same.
            let is_low_sequence = place == ends[batch] + 5;
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                let rises = damaged[place] > bytes[place];
                match scan(&damaged, &recorded.seal(), &mut None) {
                    Scan::Damaged { at, .. } if at == ends[batch] || at == ends[batch + 1] => {}
                    Scan::Clean { .. } if is_low_sequence && rises => {}
                    found => panic!(
                        "batch {batch}, byte {}, bit {bit}: {found:?}",
                        place - ends[batch]
                    ),
                }
            }
        }
    }
    let damaged = recorded.copy();
    let mut changed = bytes.clone();
    changed[ends[2] + 70] ^= 1;
    damaged.write("0.jnl", &changed);
    damaged
        .assert_refused(&damaged.journal(), "flipped bit")
        .await;
}

#[tokio::test]
async fn a_zeroed_page_with_batches_behind_it_is_refused() {
    let recorded = Recorded::new().await;
    let (mut bytes, ends) = recorded.batches();
    bytes[ends[1]..ends[3]].fill(0);
    let damaged = recorded.copy();
    damaged.write("0.jnl", &bytes);
    damaged
        .assert_refused(&damaged.journal(), "zeroed page")
        .await;
}

#[tokio::test]
async fn a_sealed_journal_has_to_be_whole() {
    let recorded = Recorded::new().await;
    let (bytes, ends) = recorded.batches();
    let split = ends[3];

    let sealed = recorded.copy();
    let mut padded = bytes[..split].to_vec();
    padded.resize(split + 4_096, 0);
    sealed.write("0.jnl", &padded);
    sealed.write("1.jnl", &bytes[split..]);
    assert_eq!(sealed.copy().commits().await, COMMITS);

    for (what, first) in [
        ("torn", bytes[..split - 1].to_vec()),
        ("flipped", {
            let mut first = bytes[..split].to_vec();
            first[split - 40] ^= 4;
            first
        }),
    ] {
        let damaged = sealed.copy();
        damaged.write("0.jnl", &first);
        damaged.assert_refused(&damaged.journal(), what).await;
    }

    // Journals in the wrong order: the sequence does not rise.
    let swapped = recorded.copy();
    swapped.write("0.jnl", &bytes[split..]);
    swapped.write("1.jnl", &bytes[..split]);
    let second = swapped.store().join("1.jnl");
    swapped.assert_refused(&second, "swapped").await;
}

#[tokio::test]
async fn after_a_clean_end_a_torn_tail_is_damage() {
    let recorded = Recorded::new().await;
    let store = recorded.open().await.unwrap();
    store.close().await.unwrap();
    let state = Folder::new(recorded.dir.path()).state().unwrap();
    assert!(matches!(state, Some(State::Closed { .. })));
    let bytes = std::fs::read(recorded.journal()).unwrap();
    recorded.write("0.jnl", &bytes[..bytes.len() - 1]);
    recorded
        .assert_refused(&recorded.journal(), "torn after close")
        .await;
}

#[tokio::test]
async fn bad_pointers_are_refused() {
    let recorded = Recorded::new().await;
    let current = |of: &Recorded, number: usize| {
        let keyspace = of.store().join("keyspaces").join(number.to_string());
        keyspace.join("current")
    };
    for number in 0..=KEYSPACES {
        let zeroed = recorded.copy();
        let path = current(&zeroed, number);
        std::fs::write(&path, [0; POINTER_BYTES]).unwrap();
        zeroed.assert_refused(&path, "zeroed").await;

        let missing = recorded.copy();
        let path = current(&missing, number);
        std::fs::remove_file(&path).unwrap();
        missing.assert_refused(&path, "missing").await;

        for bit in 0..POINTER_BYTES * 8 {
            let flipped = current(&recorded, number);
            let mut pointer = std::fs::read(&flipped).unwrap();
            pointer[bit / 8] ^= 1 << (bit % 8);
            let copy = tempfile::tempdir().unwrap();
            super::tests::copy(flipped.parent().unwrap(), copy.path());
            std::fs::write(copy.path().join("current"), pointer).unwrap();
            assert!(check_pointer(copy.path()).is_err(), "bit {bit}");
        }
    }
    // fjall's own keyspace has another manifest than a user's.
    let swapped = recorded.copy();
    let (meta, data) = (current(&swapped, 0), current(&swapped, 1));
    let (of_meta, of_data) = (std::fs::read(&meta).unwrap(), std::fs::read(&data).unwrap());
    std::fs::write(&meta, of_data).unwrap();
    std::fs::write(&data, of_meta).unwrap();
    swapped.assert_refused(&meta, "swapped").await;
}

#[tokio::test]
async fn unknown_and_missing_keyspaces_are_refused() {
    let recorded = Recorded::new().await;
    let more = recorded.copy();
    let unknown = more.store().join("keyspaces").join("4");
    std::fs::create_dir(&unknown).unwrap();
    more.assert_refused(&unknown, "unknown").await;
    let fewer = recorded.copy();
    let gone = fewer.store().join("keyspaces").join("2");
    std::fs::remove_dir_all(&gone).unwrap();
    fewer.assert_refused(&gone.join("current"), "gone").await;
}

/// A client may store bytes that look like a journal, even a copy of one of another store. Behind a
/// torn batch they must not pass for a whole one, or a power cut would make the store unusable.
#[tokio::test]
async fn a_batch_inside_a_value_is_no_batch() {
    let other = Recorded::new().await;
    let (image, _) = other.batches();
    let recorded = Recorded::new().await;
    let store = recorded.open().await.unwrap();
    let write = AtomicWrite::new().push(Mutation::set(key(7), Value::bytes(image.clone())));
    store.commit(write).await.unwrap();
    let killed = recorded.copy();
    store.close().await.unwrap();

    let (bytes, _) = killed.batches();
    killed.write("0.jnl", &bytes[..bytes.len() - 3]);
    assert_eq!(killed.commits().await, COMMITS);
}

#[tokio::test]
async fn journals_that_the_engine_sealed_are_clean_after_a_kill() {
    let source = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(source.path(), &options())
        .await
        .unwrap();
    // The engine seals a journal above 64 MB when it writes out a table.
    let count = 100;
    for number in 0..count {
        let value = Value::bytes(vec![number as u8; 1_000_000]);
        let write = AtomicWrite::new().push(Mutation::set(key(number), value));
        store.commit(write).await.unwrap();
    }
    // A journal may vanish, or a table appear, while the folder is copied; what a killed process
    // leaves is of one moment. So let the engine come to rest first.
    store
        .reads
        .view()
        .unwrap()
        .data
        .rotate_memtable_and_wait()
        .unwrap();
    let killed = Recorded {
        dir: copy_of_a_moment(source.path()),
    };
    let journals = journals(&killed.store()).unwrap();
    assert!(
        journals.len() > 1 || !journals[0].ends_with("0.jnl"),
        "{journals:?}"
    );
    store.close().await.unwrap();

    let store = killed.open().await.unwrap();
    for number in 0..count {
        let entry = store.get(&key(number)).await.unwrap().unwrap();
        assert_eq!(entry.value.bytes[0], number as u8);
    }
    store.close().await.unwrap();
}
