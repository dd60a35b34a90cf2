//! What has to happen before fjall may open a store again.
//!
//! fjall refuses to open after a torn last batch whose end survived, drops valid batches behind
//! damage in the middle of a journal without a word, and never checks the pointers to its
//! manifests. So this module looks first: it cuts a torn tail, and refuses everything that could
//! lose an acknowledged commit.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::folder::{Identity, KEYSPACES, damaged, io, sync_folders};
use super::journal::{self, Scan};
use crate::metrics::StoreMetrics;
use crate::open::OpenError;

/// Bytes of a pointer to a manifest: its number (8), its xxh3-128 (16), the kind of checksum (1).
const POINTER_BYTES: usize = 25;

/// What [`mend`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Bytes of a torn tail that were cut off.
    pub(crate) cut_bytes: u64,
}

/// Checks and mends the store in the folder `store`. After a clean end a torn tail is damage too.
///
/// # Errors
///
/// [`OpenError::Damaged`] with file and offset; then nothing was changed.
pub(crate) fn mend(
    store: &Path,
    identity: &Identity,
    was_closed: bool,
    metrics: &StoreMetrics,
) -> Result<Mended, OpenError> {
    sync_folders(store)?;
    check_pointers(store)?;
    let mended = mend_journals(store, identity, was_closed)?;
    if mended.cut_bytes > 0 {
        tracing::warn!(
            cut_bytes = mended.cut_bytes,
            "cut a torn tail off the journal; it held nothing that was acknowledged"
        );
        metrics.mend_repairs.inc();
        metrics.mend_bytes.inc_by(mended.cut_bytes);
    }
    Ok(mended)
}

/// Checks the pointer of each keyspace against the manifest it names.
fn check_pointers(store: &Path) -> Result<(), OpenError> {
    let keyspaces = store.join("keyspaces");
    // Number 0 is fjall's own.
    for number in 0..=KEYSPACES {
        check_pointer(&keyspaces.join(number.to_string()))?;
    }
    let listed = std::fs::read_dir(&keyspaces).map_err(io("list", &keyspaces))?;
    for child in listed {
        let child = child.map_err(io("list", &keyspaces))?;
        let number = child
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if number.is_none_or(|number: usize| number > KEYSPACES) {
            return Err(damaged(&child.path(), 0, "it belongs to no keyspace"));
        }
    }
    Ok(())
}

fn check_pointer(keyspace: &Path) -> Result<(), OpenError> {
    let path = keyspace.join("current");
    let pointer = read(&path, "the pointer to the manifest is missing")?;
    let (number, checksum) = match <[u8; POINTER_BYTES]>::try_from(pointer.as_slice()) {
        Ok([number @ .., 0]) => {
            let (number, checksum) = number.split_at(8);
            (
                u64::from_le_bytes(number.try_into().expect("eight bytes")),
                u128::from_le_bytes(checksum.try_into().expect("sixteen bytes")),
            )
        }
        _ => {
            return Err(damaged(
                &path,
                0,
                "the pointer to the manifest is unreadable",
            ));
        }
    };
    let manifest = keyspace.join(format!("v{number}"));
    if !manifest.is_file() {
        let what = format!("it points to the manifest v{number}, which is missing");
        return Err(damaged(&path, 0, what));
    }
    let bytes = read(&manifest, "the manifest is missing")?;
    if xxhash_rust::xxh3::xxh3_128(&bytes) != checksum {
        return Err(damaged(
            &path,
            8,
            format!("the checksum does not fit the manifest v{number}"),
        ));
    }
    Ok(())
}

fn read(path: &Path, missing: &str) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(path, 0, missing),
        _ => io("read", path)(error),
    })
}

/// What [`mend`] checks, without changing anything. Except after a clean end a torn tail is no
/// damage.
pub(crate) fn inspect(
    store: &Path,
    identity: &Identity,
    was_closed: bool,
) -> Result<(), OpenError> {
    check_pointers(store)?;
    read_journals(store, identity, was_closed).map(drop)
}

/// A journal whose last batch is torn.
struct Torn {
    journal: PathBuf,
    /// End of its last whole batch.
    end: u64,
    /// End of what was written of the torn one, as far as it is not zeros.
    written: u64,
}

/// Reads all journals. Finds a torn tail of the newest.
fn read_journals(
    store: &Path,
    identity: &Identity,
    was_closed: bool,
) -> Result<Option<Torn>, OpenError> {
    let mut journals = journals(store)?;
    let Some(newest) = journals.pop() else {
        return Err(damaged(store, 0, "there is no journal"));
    };
    let mut last = None;
    for path in journals {
        let bytes = std::fs::read(&path).map_err(io("read", &path))?;
        match journal::scan(&bytes, &identity.seal, &mut last) {
            Scan::Clean { .. } => {}
            Scan::TornTail { end: at, what } | Scan::Damaged { at, what } => {
                return Err(damaged(&path, at as u64, what));
            }
        }
    }
    let bytes = std::fs::read(&newest).map_err(io("read", &newest))?;
    match journal::scan(&bytes, &identity.seal, &mut last) {
        Scan::Clean { .. } => Ok(None),
        Scan::Damaged { at, what } => Err(damaged(&newest, at as u64, what)),
        Scan::TornTail { end, what } if was_closed => Err(damaged(&newest, end as u64, what)),
        Scan::TornTail { end, .. } => {
            let written = bytes.iter().rposition(|byte| *byte != 0);
            Ok(Some(Torn {
                journal: newest,
                end: end as u64,
                written: written.map_or(0, |place| place as u64 + 1),
            }))
        }
    }
}

/// Cuts a torn tail off the newest journal.
fn mend_journals(store: &Path, identity: &Identity, was_closed: bool) -> Result<Mended, OpenError> {
    let Some(torn) = read_journals(store, identity, was_closed)? else {
        return Ok(Mended::default());
    };
    let file = OpenOptions::new().write(true).open(&torn.journal);
    file.and_then(|file| {
        file.set_len(torn.end)?;
        file.sync_all()
    })
    .map_err(io("cut", &torn.journal))?;
    Ok(Mended {
        cut_bytes: torn.written - torn.end,
    })
}

/// The journals, oldest first.
pub(crate) fn journals(store: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut found = Vec::new();
    for child in std::fs::read_dir(store).map_err(io("list", store))? {
        let path = child.map_err(io("list", store))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let number: u64 = stem
                .and_then(|stem| stem.parse().ok())
                .ok_or_else(|| damaged(&path, 0, "the name of the journal is no number"))?;
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
pub(crate) mod tests;
