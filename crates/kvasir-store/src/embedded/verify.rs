//! Reads everything that a store holds and says what is damaged.

use std::path::{Path, PathBuf};

use fjall::{AbstractTree, Keyspace};
use kvasir_kv::{Key, Versionstamp};

use super::Opened;
use super::engine::{decode_row, encode_row};
use crate::open::{OpenError, OpenOptions};
use crate::record;

/// Most problems that are listed; the others are only counted.
pub const PROBLEMS_MAX: usize = 1_000;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that were read and are whole.
    pub entries: u64,
    /// Bytes of their keys and records.
    pub bytes: u64,
    /// Tables whose every byte was read.
    pub tables: u64,
    /// The newest versionstamp.
    pub last: Versionstamp,
    /// What is damaged, up to [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there are, listed or not.
    pub problems_found: u64,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as far as it is known, else the folder of the store.
    pub file: PathBuf,
    /// What is wrong, naming the key of a damaged record.
    pub what: String,
}

impl Report {
    fn problem(&mut self, file: &Path, what: impl Into<String>) {
        self.problems_found += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                file: file.to_path_buf(),
                what: what.into(),
            });
        }
    }
}

/// Reads every journal, table and record of the store in `dir`. No server may hold it. A torn tail
/// of the journal is cut off, as at any start. Blocks.
///
/// # Errors
///
/// As opening the store; damage that keeps it from opening is [`OpenError::Damaged`].
pub fn verify(dir: &Path, options: &OpenOptions) -> Result<Report, OpenError> {
    let opened = Opened::open(dir, options)?;
    let mut report = Report {
        last: opened.last,
        ..Report::default()
    };
    for keyspace in [&opened.data, &opened.expiry, &opened.meta] {
        verify_tables(keyspace, &mut report);
    }
    verify_records(&opened, &mut report);
    verify_index(&opened, &mut report);
    opened.close()?;
    Ok(report)
}

/// Compares each table with the checksum that the manifest has of it.
fn verify_tables(keyspace: &Keyspace, report: &mut Report) {
    for table in keyspace.tree.current_version().iter_tables() {
        match std::fs::read(&*table.path) {
            Err(error) => report.problem(&table.path, format!("it cannot be read: {error}")),
            Ok(bytes) => {
                report.tables += 1;
                let found = xxhash_rust::xxh3::xxh3_128(&bytes);
                if found != table.checksum().into_u128() {
                    report.problem(&table.path, "the checksum of the table is wrong");
                }
            }
        }
    }
}

/// Decodes each record, and looks for the row of each expiry.
fn verify_records(opened: &Opened, report: &mut Report) {
    let path = opened.data.path();
    for item in opened.data.iter() {
        let (key, value) = match item.into_inner() {
            Ok(pair) => pair,
            Err(error) => {
                // The engine does not say where it would go on.
                report.problem(path, format!("a block cannot be read: {error}"));
                return;
            }
        };
        let key = Key::new(key.to_vec());
        match record::decode(&key, &value) {
            Err(error) => report.problem(path, error.to_string()),
            Ok(entry) => {
                report.entries += 1;
                report.bytes += (key.len() + value.len()) as u64;
                let row = entry.expires_at.map(|at| encode_row(at, &key));
                let is_indexed = row.is_none_or(|row| {
                    let found = opened.expiry.contains_key(row);
                    found.unwrap_or(false)
                });
                if !is_indexed {
                    report.problem(path, format!("the expiry of {key:?} is not in the index"));
                }
            }
        }
    }
}

fn verify_index(opened: &Opened, report: &mut Report) {
    let path = opened.expiry.path();
    for item in opened.expiry.iter() {
        match item.key() {
            Ok(row) if decode_row(&row).is_some() => {}
            Ok(_) => report.problem(path, "a row of the expiry index is unreadable"),
            Err(error) => {
                report.problem(path, format!("a block cannot be read: {error}"));
                return;
            }
        }
    }
}
