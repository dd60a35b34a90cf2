//! The trash: what was taken away below a prefix stays for a while and can be brought back.
//!
//! A layer over keys in the system keyspace of the same store, so that taking an entry away and
//! keeping it are one commit: after a kill each entry is either where it was or in the trash. No
//! dialect reads that keyspace as data. For a removal `id` there are
//!
//! | key | value |
//! | --- | --- |
//! | `("trash", "removal", id)` | `Record`: whence, by whom, when, how much is left |
//! | `("trash", "entry", id, n)` | `Header`: the key, and what the entry was |
//! | `("trash", "value", id, n)` | the value in its own encoding, with its meta |
//! | `("trash", "gate")` | nothing; every commit that adds checks and rewrites it |
//!
//! All of them expire when the removal does, and an entry's two also when the entry would have: the
//! store sweeps the trash as it sweeps everything else, and what has expired cannot come back. The
//! gate lines up those who add, so the bounds hold however many do so at once.

mod restore;
mod rows;
mod take;

use futures_util::StreamExt;
use kvasir_kv::keyspace::{Cursor, List};
use kvasir_kv::{
    Encoding, Entry, Error, Key, KeyRange, Keyspace, KeyspaceName, RangeRead, Result, SnapshotRead,
    UnixMillis, Versionstamp,
};

use rows::{headers, kept, record_key, removal};

/// How long a removal can be undone, in milliseconds: a week.
pub const KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// Most entries in the trash.
pub const ENTRIES_MAX: u64 = 100_000;

/// Most bytes of keys, values and meta in the trash.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most removals in the trash.
pub const REMOVALS_MAX: usize = 1_000;

/// Most entries that one commit moves.
const MOVED_AT_ONCE: usize = 500;

/// Bytes of entries after which a commit takes no more, unless it has only one.
const MOVED_BYTES: usize = 4 * 1024 * 1024;

/// How often a step is tried again after somebody else was faster. Each try takes half as much.
const TRIES: usize = 16;

/// Digits of a removal's id.
const ID_DIGITS: usize = 12;

/// Entries and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many.
    pub entries: u64,
    /// Bytes of their keys, values and meta.
    pub bytes: u64,
}

impl Load {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes += entry.cost_bytes() as u64;
    }

    /// Whether it is no more than `room`.
    pub fn fits(self, room: Load) -> bool {
        self.entries <= room.entries && self.bytes <= room.bytes
    }
}

/// What was taken away together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Names it: 12 hexadecimal digits.
    pub id: String,
    /// Where it was.
    pub keyspace: KeyspaceName,
    /// Below what.
    pub prefix: Key,
    /// Who took it away: the id of a principal.
    pub by: String,
    /// When.
    pub at: UnixMillis,
    /// Until when it can be brought back.
    pub until: UnixMillis,
    /// What is left of it. Entries that expired meanwhile still count.
    pub left: Load,
    /// Number of the next entry.
    next: u64,
    /// The record's version; `None` before the first commit.
    stamp: Option<Versionstamp>,
}

impl Removal {
    /// One that begins.
    pub fn new(keyspace: KeyspaceName, prefix: Key, by: &str, now: UnixMillis) -> Removal {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Removal {
            id: id[..ID_DIGITS].to_owned(),
            keyspace,
            prefix,
            by: by.to_owned(),
            at: now,
            until: UnixMillis(now.0.saturating_add(KEPT_MS)),
            left: Load::default(),
            next: 0,
            stamp: None,
        }
    }
}

/// An entry in the trash, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The key it had.
    pub key: Key,
    /// The encoding of its value.
    pub encoding: Encoding,
    /// Size of its value.
    pub value_bytes: usize,
    /// The version that was taken away.
    pub versionstamp: Versionstamp,
    /// When it would have expired.
    pub expires_at: Option<UnixMillis>,
    cost_bytes: u64,
    /// Key and version of the header.
    header: (Key, Versionstamp),
}

/// What to do with keys that hold something again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Leaves them alone, and the entry in the trash.
    Skip,
    /// Writes over them.
    Replace,
    /// Brings nothing back.
    Fail,
}

/// What one step of a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries that are back.
    pub restored: u64,
    /// Entries that stay in the trash, because their key holds something.
    pub kept: u64,
    /// Where to go on, if there are more.
    pub cursor: Option<Cursor>,
}

/// Why nothing, or not everything, was moved.
#[derive(Debug)]
pub enum Refusal {
    /// So much does not fit.
    Full(Load),
    /// So many keys hold something again.
    Occupied(u64),
    /// Others keep changing the same entries.
    Busy,
    /// The store said no.
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Store(error)
    }
}

/// The trash of a store. Cloning is cheap.
#[derive(Clone)]
pub struct Trash {
    system: Keyspace,
}

impl Trash {
    /// The trash in `system`, which must lie in the store of everything that is thrown into it.
    pub fn new(system: Keyspace) -> Trash {
        Trash { system }
    }

    /// How much lies in a range.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::scan`].
    pub async fn weigh(&self, keyspace: &Keyspace, range: &KeyRange) -> Result<Load> {
        let mut load = Load::default();
        let mut pages = keyspace.scan(range, false);
        while let Some(page) = pages.next().await {
            page?.entries.iter().for_each(|entry| load.add(entry));
        }
        Ok(load)
    }

    /// All removals, the oldest first.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn removals(&self) -> Result<Vec<Removal>> {
        let range = KeyRange::below(&Key::from_strings(["trash", "removal"]));
        let read = SnapshotRead::range(RangeRead::new(range, REMOVALS_MAX));
        let found = self.system.read(read).await?;
        let entries = found.ranges.iter().flat_map(|range| &range.entries);
        let mut removals: Vec<_> = entries.map(removal).collect::<Result<_>>()?;
        removals.sort_by_key(|removal| (removal.at, removal.id.clone()));
        Ok(removals)
    }

    /// One removal.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub async fn removal(&self, id: &str) -> Result<Option<Removal>> {
        if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let found = self.system.get(&record_key(id)).await?;
        found.as_ref().map(removal).transpose()
    }

    /// What still fits beside these removals, as one of them or as a new one.
    pub fn room(removals: &[Removal], is_new: bool) -> Load {
        if is_new && removals.len() >= REMOVALS_MAX {
            return Load::default();
        }
        let held = |of: fn(&Removal) -> u64| removals.iter().map(of).sum::<u64>();
        Load {
            entries: ENTRIES_MAX.saturating_sub(held(|removal| removal.left.entries)),
            bytes: BYTES_MAX.saturating_sub(held(|removal| removal.left.bytes)),
        }
    }

    /// Some entries of a removal, in the order of their keys.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn entries(
        &self,
        id: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<Kept>, Option<Cursor>)> {
        let list = List {
            range: headers(id),
            limit,
            reverse: false,
            cursor,
        };
        let page = self.system.list(list).await?;
        let entries = page.entries.iter().map(kept).collect::<Result<_>>()?;
        Ok((entries, page.cursor))
    }
}
