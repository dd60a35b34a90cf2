//! Reads fjall's journals batch by batch.
//!
//! The layout is that of fjall 3.1.13, little-endian throughout:
//!
//! ```text
//! start  1, item count (4), sequence number (8)
//! item   2, value type (1), compression (1), keyspace (8), key length (2), value length (4),
//!        stored value length (4), key, value
//! end    3, xxh3-64 of all items (8), "FJL" 3
//! ```
//!
//! The file is preallocated, so behind the last batch there may be zeros. Every batch that Kvasir
//! writes begins with one known item, [`Seal`]: nobody outside knows its nonce, so bytes in a
//! client's value can never pass for a batch.

use kvasir_kv::Versionstamp;

/// Length of [`Seal::nonce`], in bytes.
pub(crate) const NONCE_BYTES: usize = 16;

/// Id of fjall's keyspace that holds the seal.
pub(crate) const SEAL_KEYSPACE: u64 = 3;

/// Key of the seal.
pub(crate) const SEAL_KEY: &[u8] = b"last";

/// Bytes of the seal's value: the newest versionstamp, the engine's next sequence number shortly
/// before the commit (8), the nonce of the store.
pub(crate) const SEAL_VALUE_BYTES: usize = 10 + 8 + NONCE_BYTES;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const START_BYTES: usize = 13;
const ITEM_HEAD_BYTES: usize = 21;
const TRAILER: &[u8] = b"FJL\x03";

/// Most that the sequence number of a batch may differ from the one noted in its seal, or from the
/// batch before. Flushes and compactions take some in between; the start of a batch has no checksum,
/// so anything else is taken for a flipped bit.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;

/// What makes a batch one of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Random bytes, made with the store and shown to nobody.
    pub(crate) nonce: [u8; NONCE_BYTES],
}

/// A whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    /// Where the next batch begins.
    end: usize,
    /// Sequence number in the engine.
    sequence: u64,
    /// A sequence number that is surely not above it.
    noted: u64,
    /// The newest versionstamp in it.
    stamp: Versionstamp,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// Whole batches up to `end`, then nothing but zeros.
    Clean {
        /// End of the last batch.
        end: usize,
    },
    /// Whole batches up to `end`, then something else, and no whole batch behind that.
    TornTail {
        /// End of the last whole batch.
        end: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Damage at `at` with a whole batch behind it.
    Damaged {
        /// Where the damaged batch begins.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// Reads all batches of a journal. `last` is the sequence number before its first batch, if known;
/// it is moved on to the last batch.
pub(crate) fn scan(bytes: &[u8], seal: &Seal, last: &mut Option<u64>) -> Scan {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        // Looking at the first byte first keeps this linear.
        if rest.first().is_none_or(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 0) {
            return Scan::Clean { end: at };
        }
        match parse(bytes, at, seal) {
            Ok(batch) if batch.follows(*last) => {
                *last = Some(batch.sequence);
                at = batch.end;
            }
            Ok(_) => {
                let what = "the sequence number does not follow the last one";
                return Scan::Damaged { at, what };
            }
            Err(what) if has_batch_behind(bytes, at, seal) => {
                return Scan::Damaged { at, what };
            }
            Err(what) => return Scan::TornTail { end: at, what },
        }
    }
}

/// How many whole batches begin at or behind `at`.
pub(crate) fn batches_behind(bytes: &[u8], mut at: usize, seal: &Seal) -> u64 {
    let mut found = 0;
    while at < bytes.len() {
        match parse(bytes, at, seal) {
            Ok(batch) => {
                found += 1;
                at = batch.end;
            }
            Err(_) => at += 1,
        }
    }
    found
}

/// The newest versionstamp in the whole batches at the beginning of `bytes`.
pub(crate) fn last_stamp(bytes: &[u8], seal: &Seal) -> Option<Versionstamp> {
    let mut at = 0;
    let mut last = None;
    while let Ok(batch) = parse(bytes, at, seal) {
        last = Some(batch.stamp);
        at = batch.end;
    }
    last
}

/// Whether a whole batch begins anywhere behind `at`.
fn has_batch_behind(bytes: &[u8], at: usize, seal: &Seal) -> bool {
    (at + 1..bytes.len())
        .filter(|&candidate| bytes[candidate] == START)
        .any(|candidate| parse(bytes, candidate, seal).is_ok())
}

impl Batch {
    fn follows(&self, last: Option<u64>) -> bool {
        let lowest = last.map_or(0, |last| last + 1).max(self.noted);
        (lowest..=lowest.saturating_add(SEQUENCE_STEP_MAX)).contains(&self.sequence)
    }
}

/// The batch that begins at `at`. Checks the seal before anything that takes time.
fn parse(bytes: &[u8], at: usize, seal: &Seal) -> Result<Batch, &'static str> {
    const SHORT: &str = "the batch is cut off";

    let rest = bytes.get(at..at + START_BYTES).ok_or(SHORT)?;
    if rest[0] != START {
        return Err("no batch begins here");
    }
    let items = u32_at(rest, 1);
    let sequence = u64_at(rest, 5);

    let items_at = at + START_BYTES;
    let first = parse_item(bytes, items_at).ok_or(SHORT)??;
    if !first.is_seal(bytes, seal) {
        return Err("the batch does not begin with the seal of this store");
    }
    let sealed = &bytes[first.value_at..first.end];
    let noted = u64_at(sealed, 10);
    let stamp = sealed.first_chunk().expect("the seal is longer");
    if items == 0 {
        return Err("the batch says that it has no items");
    }
    let mut end = first.end;
    for _ in 1..items {
        end = parse_item(bytes, end).ok_or(SHORT)??.end;
    }
    let tail = bytes.get(end..end + 9 + TRAILER.len()).ok_or(SHORT)?;
    if tail[0] != END {
        return Err("the batch has more items than it says");
    }
    if &tail[9..] != TRAILER {
        return Err("the end of the batch is not whole");
    }
    if u64_at(tail, 1) != xxhash_rust::xxh3::xxh3_64(&bytes[items_at..end]) {
        return Err("the checksum of the batch is wrong");
    }
    Ok(Batch {
        end: end + tail.len(),
        sequence,
        noted,
        stamp: Versionstamp::from_bytes(*stamp),
    })
}

/// Where the parts of an item lie.
struct Item {
    keyspace: u64,
    key_at: usize,
    value_at: usize,
    end: usize,
}

impl Item {
    fn is_seal(&self, bytes: &[u8], seal: &Seal) -> bool {
        self.keyspace == SEAL_KEYSPACE
            && &bytes[self.key_at..self.value_at] == SEAL_KEY
            && self.end - self.value_at == SEAL_VALUE_BYTES
            && bytes[self.value_at..self.end].ends_with(&seal.nonce)
    }
}

/// The item at `at`; `None` if the file ends within it.
fn parse_item(bytes: &[u8], at: usize) -> Option<Result<Item, &'static str>> {
    let head = bytes.get(at..at + ITEM_HEAD_BYTES)?;
    if head[0] != ITEM {
        return Some(Err("the batch has fewer items than it says"));
    }
    // Values and tombstones, uncompressed: nothing else is ever written here.
    if head[1] > 1 || head[2] != 0 || u32_at(head, 13) != u32_at(head, 17) {
        return Some(Err("an item has an unknown form"));
    }
    let key_at = at + ITEM_HEAD_BYTES;
    let value_at = key_at + usize::from(u16::from_le_bytes([head[11], head[12]]));
    let end = value_at.checked_add(u32_at(head, 17) as usize)?;
    if end > bytes.len() {
        return None;
    }
    Some(Ok(Item {
        keyspace: u64_at(head, 3),
        key_at,
        value_at,
        end,
    }))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(bytes)
}
