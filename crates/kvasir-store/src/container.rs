//! The file format of a backup.
//!
//! ```text
//! 8   magic 89 4b 56 42 0d 0a 1a 0a
//! 2   format, 1
//! 4   length of the header
//! …   header, JSON: what wrote it, and when
//! 8   first bytes of the SHA-256 over everything above
//! …   frames: chunks, then one trailer, then the end of the file
//! ```
//!
//! A frame:
//!
//! ```text
//! 1   1 a chunk, 2 the trailer
//! 8   its number, from 0 on
//! 4   length of its content before compression
//! 4   length of what is stored
//! …   what is stored: a chunk compressed with zstd, the trailer as it is
//! 8   first bytes of the SHA-256 over the frame so far
//! ```
//!
//! A chunk is a row of entries, each with the length of its key (4), the key, the length of its record
//! (4), and the record as in [`crate::record`]. Keys rise through the whole file. The trailer:
//!
//! ```text
//! 10  versionstamp of the snapshot
//! 8   entries that do not expire
//! 8   entries that expire
//! 8   bytes of keys and records
//! 16  content hash, see [`ContentHash`]
//! 32  SHA-256 over the file up to the trailer's frame
//! ```
//!
//! All numbers are big-endian. A file without its trailer is no backup, and neither is one with a byte
//! behind it. Encryption wraps the whole file (age, version 1) and is none of this module's business.
//!
//! Reading and writing need the memory of one chunk, whatever the size of the file.

mod read;
mod write;

pub use read::Reader;
pub use write::Writer;

use kvasir_kv::Versionstamp;
use kvasir_kv::limits::{META_BYTES_MAX, STORED_KEY_BYTES_MAX, VALUE_BYTES_CEILING};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::content::ContentHash;

/// First bytes of every file. The first is no ASCII and the line ends get lost in transfers that
/// change text.
pub const MAGIC: [u8; 8] = *b"\x89KVB\r\n\x1a\n";

/// The format that this version writes, the newest it reads.
pub const FORMAT: u16 = 1;

/// Largest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Bytes after which a chunk ends.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Largest content of a chunk, in bytes: the largest entry behind one that nearly filled it.
const CHUNK_BYTES_MAX: usize =
    CHUNK_BYTES + VALUE_BYTES_CEILING + STORED_KEY_BYTES_MAX + META_BYTES_MAX + 256;

/// Largest stored form of a chunk, in bytes. zstd may grow what it cannot compress by 1/256 and some.
const STORED_BYTES_MAX: usize = CHUNK_BYTES_MAX + CHUNK_BYTES_MAX / 128 + 1024;

/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 8;

/// Bytes of a frame before what is stored.
const FRAME_HEAD_BYTES: usize = 1 + 8 + 4 + 4;

/// Bytes of a trailer.
const TRAILER_BYTES: usize = 10 + 3 * 8 + 16 + 32;

/// Level of compression: near the speed of a disk, and most of the gain.
const LEVEL: i32 = 3;

const CHUNK: u8 = 1;
const TRAILER: u8 = 2;

/// What wrote a backup, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Name and version of the program.
    pub program: String,
    /// Name of the backend that was read.
    pub backend: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// What somebody wrote beside it.
    pub comment: String,
}

/// What a whole backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The newest commit in it.
    pub versionstamp: Versionstamp,
    /// Counts and hash of its entries.
    pub content: ContentHash,
    /// Bytes of keys and records.
    pub bytes: u64,
}

/// Why a file is no backup, or cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// It begins like no backup.
    #[error("this is no backup of this program")]
    NotABackup,

    /// A newer version of this program wrote it.
    #[error("the backup has format {0}, this version knows up to {FORMAT}")]
    NewerFormat(u16),

    /// It is damaged, or ends too early.
    #[error("the backup is damaged at byte {offset}: {what}")]
    Damaged {
        /// About where, in bytes of the unencrypted file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },

    /// What was given to be written does not follow the rules: a key that does not rise.
    #[error("entries do not come in the order of their keys")]
    Order,

    /// The file below could not be read or written.
    #[error("the file cannot be read or written")]
    Io(#[from] std::io::Error),
}

/// The first bytes of a finished hash.
fn short(hasher: Sha256) -> [u8; CHECKSUM_BYTES] {
    let digest = hasher.finalize();
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    short
}

/// Reads any bytes as a backup. For fuzzing: it must neither panic nor take much memory, and what it
/// takes must be written back the same.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else {
        return;
    };
    let mut chunks = Vec::new();
    while let Ok(Some(entries)) = reader.next_chunk() {
        chunks.push(entries);
    }
    let Ok(summary) = reader.finish() else {
        return;
    };
    let again = Writer::new(Vec::new(), &Header::default()).and_then(|mut writer| {
        for entry in chunks.iter().flatten() {
            writer.push(entry)?;
        }
        writer.finish(summary.versionstamp)
    });
    let again = again.map(|(_, again)| again).ok();
    assert_eq!(again, Some(summary));
}

#[cfg(test)]
mod tests;
