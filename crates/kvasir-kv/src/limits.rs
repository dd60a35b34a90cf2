//! Every limit of the waist, with its source. Dialects have further ones of their own.

/// Largest key inside a keyspace, in bytes. KV Connect's limit for written keys.
pub const KEY_BYTES_MAX: usize = 2048;

/// Largest bound of a range and key of a check, in bytes: a key and the zero byte that makes its
/// successor. KV Connect's limit.
pub const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// Largest key as stored, keyspace and versionstamp suffix included, in bytes. PostgreSQL's B-tree
/// stops near 2,700 and InnoDB at 3,072.
pub const STORED_KEY_BYTES_MAX: usize = 2600;

/// Largest value unless configured otherwise, in bytes.
pub const VALUE_BYTES_DEFAULT: usize = 1024 * 1024;

/// The most [`Limits::value_bytes_max`] may be set to, in bytes.
pub const VALUE_BYTES_CEILING: usize = 8 * 1024 * 1024;

/// Largest [`crate::Meta`] of an entry, in bytes over all members.
pub const META_BYTES_MAX: usize = 1024;

/// Most checks of one atomic write. A full EdgeKV or Kopano batch checks every key it writes.
pub const CHECKS_MAX: usize = 10_000;

/// Most mutations of one atomic write. KV Connect allows 1,000; a Kopano batch of 8 MB holds more
/// and writes two keys per document.
pub const MUTATIONS_MAX: usize = 100_000;

/// Most bytes of keys and values in one atomic write: the largest value with room for its keys,
/// and twice a full Kopano batch of 500 documents of 16 KiB.
pub const WRITE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most ranges of one snapshot read. KV Connect allows 10; a Kopano listing reads 500 documents
/// and their index at once.
pub const RANGES_MAX: usize = 1024;

/// Bytes after which one range of a snapshot read stops and says that there is more.
pub const RANGE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// Most keys of one watch. KV Connect allows 10; the console watches what is on screen.
pub const WATCHED_KEYS_MAX: usize = 1000;

/// Most entries of one page of a scan.
pub const PAGE_ENTRIES_MAX: usize = 512;

/// Bytes after which a page of a scan ends.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Limits that the operator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest value, in bytes, at most [`VALUE_BYTES_CEILING`].
    pub value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            value_bytes_max: VALUE_BYTES_DEFAULT,
        }
    }
}
