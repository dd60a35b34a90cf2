//! What a set of entries is, in one number: to compare stores, copies and backups.

use kvasir_kv::Entry;
use sha2::{Digest, Sha256};

/// Count and hash of entries, whatever their order. Entries that expire may do so between two looks,
/// so they are only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentHash {
    /// Entries that do not expire; the hash is over these.
    pub lasting: u64,
    /// Entries that expire.
    pub expiring: u64,
    /// Sum of the halves of their SHA-256, modulo 2^128.
    pub sum: u128,
}

impl ContentHash {
    /// Adds one entry.
    pub fn add(&mut self, entry: &Entry) {
        if entry.expires_at.is_some() {
            self.expiring += 1;
            return;
        }
        self.lasting += 1;
        self.sum = self.sum.wrapping_add(of_entry(entry));
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: &ContentHash) {
        self.lasting += other.lasting;
        self.expiring += other.expiring;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// All entries.
    pub fn entries(&self) -> u64 {
        self.lasting + self.expiring
    }

    /// Whether `later`, a look at the same entries at a later time, can be this.
    pub fn fits(&self, later: &ContentHash) -> bool {
        (self.lasting, self.sum) == (later.lasting, later.sum) && later.expiring <= self.expiring
    }

    /// The hash as 32 hexadecimal digits.
    pub fn text(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// Half of the SHA-256 over everything that an entry is, but for its expiry.
fn of_entry(entry: &Entry) -> u128 {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    part(entry.key.as_bytes());
    part(&[entry.value.encoding.number()]);
    part(&entry.value.bytes);
    part(entry.versionstamp.as_bytes());
    if let Some(meta) = &entry.meta {
        part(meta.content_type.as_deref().unwrap_or_default().as_bytes());
        part(meta.creator.as_deref().unwrap_or_default().as_bytes());
        part(&meta.created_at.map_or(0, |at| at.0).to_be_bytes());
        part(meta.extra.as_deref().unwrap_or_default());
    }
    let digest = hasher.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}
