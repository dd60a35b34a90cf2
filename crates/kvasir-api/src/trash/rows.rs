//! How removals and their entries are stored.

use data_encoding::BASE64;
use kvasir_kv::{
    AtomicWrite, Encoding, Entry, Error, Key, KeyRange, Mutation, Part, Result, UnixMillis, Value,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Kept, Load, Removal};

/// What is stored of a removal.
#[derive(Serialize, Deserialize)]
struct Record {
    keyspace: String,
    prefix: String,
    by: String,
    at_ms: i64,
    until_ms: i64,
    entries: u64,
    bytes: u64,
    next: u64,
}

/// What is stored of an entry beside its value.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) key: String,
    pub(super) encoding: u8,
    /// Of the value.
    pub(super) value_bytes: usize,
    /// Of key, value and meta.
    pub(super) cost_bytes: u64,
    pub(super) versionstamp: String,
    pub(super) expires_ms: Option<i64>,
}

impl Removal {
    /// What it takes to change the record only as it was read.
    pub(super) fn check(&self, write: AtomicWrite) -> AtomicWrite {
        match self.stamp {
            Some(stamp) => write.check(record_key(&self.id), stamp),
            None => write.check_absent(record_key(&self.id)),
        }
    }

    pub(super) fn record(&self) -> Mutation {
        let record = Record {
            keyspace: self.keyspace.to_string(),
            prefix: BASE64.encode(self.prefix.as_bytes()),
            by: self.by.clone(),
            at_ms: self.at.0,
            until_ms: self.until.0,
            entries: self.left.entries,
            bytes: self.left.bytes,
            next: self.next,
        };
        Mutation::set_expiring(record_key(&self.id), json(&record), Some(self.until))
    }
}

pub(super) fn record_key(id: &str) -> Key {
    Key::from_strings(["trash", "removal", id])
}

pub(super) fn gate_key() -> Key {
    Key::from_strings(["trash", "gate"])
}

pub(super) fn headers(id: &str) -> KeyRange {
    KeyRange::below(&Key::from_strings(["trash", "entry", id]))
}

/// Keys of header and value of an entry.
pub(super) fn row_keys(id: &str, number: u64) -> [Key; 2] {
    let number = format!("{number:016x}");
    ["entry", "value"].map(|kind| Key::from_strings(["trash", kind, id, &number]))
}

/// The key of the value that belongs to a header.
pub(super) fn value_key(id: &str, header: &Key) -> Result<Key> {
    match header.parts().ok().as_deref() {
        Some([.., Part::String(number)]) => Ok(Key::from_strings(["trash", "value", id, number])),
        _ => Err(Error::Corrupt(format!("key of the trash {header:?}"))),
    }
}

pub(super) fn json(record: &impl Serialize) -> Value {
    Value::json(serde_json::to_vec(record).expect("texts and numbers are JSON"))
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value.bytes).map_err(|error| damaged(&entry.key, error))
}

fn damaged(key: &Key, error: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("record of the trash {key:?}: {error}"))
}

fn bytes(key: &Key, text: &str) -> Result<Key> {
    let bytes = BASE64.decode(text.as_bytes());
    bytes.map(Key::new).map_err(|error| damaged(key, error))
}

pub(super) fn removal(entry: &Entry) -> Result<Removal> {
    let record: Record = read(entry)?;
    let parts = entry.key.parts().unwrap_or_default();
    let Some(Part::String(id)) = parts.last() else {
        return Err(damaged(&entry.key, "it names no removal"));
    };
    let keyspace = record.keyspace.parse();
    Ok(Removal {
        id: id.clone(),
        keyspace: keyspace.map_err(|error| damaged(&entry.key, error))?,
        prefix: bytes(&entry.key, &record.prefix)?,
        by: record.by,
        at: UnixMillis(record.at_ms),
        until: UnixMillis(record.until_ms),
        left: Load {
            entries: record.entries,
            bytes: record.bytes,
        },
        next: record.next,
        stamp: Some(entry.versionstamp),
    })
}

pub(super) fn kept(entry: &Entry) -> Result<Kept> {
    let header: Header = read(entry)?;
    let stamp = header.versionstamp.parse();
    let encoding = Encoding::from_number(header.encoding);
    Ok(Kept {
        key: bytes(&entry.key, &header.key)?,
        encoding: encoding.ok_or_else(|| damaged(&entry.key, "no such encoding"))?,
        value_bytes: header.value_bytes,
        versionstamp: stamp.map_err(|error| damaged(&entry.key, error))?,
        expires_at: header.expires_ms.map(UnixMillis),
        cost_bytes: header.cost_bytes,
        header: (entry.key.clone(), entry.versionstamp),
    })
}
