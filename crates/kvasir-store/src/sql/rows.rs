//! Entries as rows of `kv_entry`, and back.

use kvasir_kv::{Entry, Error, Result, Value};

use super::session::Row;
use crate::record;

/// The row of an entry. Column `v` is the checksummed record.
pub(super) fn to_row(entry: &Entry) -> Row {
    Row {
        key: entry.key.clone(),
        record: Some(record::encode(entry).into()),
        stamp: entry.versionstamp,
        expires_at: entry.expires_at,
    }
}

/// The entry of a row.
///
/// # Errors
///
/// `Corrupt` if record and checksum do not agree, or the record and the columns beside it.
pub(super) fn to_entry(row: Row) -> Result<Entry> {
    let bytes = row.record.unwrap_or_default();
    let entry = record::decode_shared(&row.key, &bytes)?;
    if (entry.versionstamp, entry.expires_at) != (row.stamp, row.expires_at) {
        return Err(Error::Corrupt(format!(
            "record and columns of {:?} do not agree",
            entry.key
        )));
    }
    Ok(entry)
}

/// What is known of a row that was read without its record: enough for checks.
pub(super) fn to_stub(row: Row) -> Entry {
    Entry {
        key: row.key,
        value: Value::bytes(Vec::new()),
        versionstamp: row.stamp,
        expires_at: row.expires_at,
        meta: None,
    }
}
