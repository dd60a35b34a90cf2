//! How backends with plain byte values store an entry.
//!
//! ```text
//! 4  CRC-32 (little-endian) over key length (4, little-endian), key and everything below
//! 1  format, 1
//! 1  flags: 1 has an expiry, 2 has meta
//! 1  encoding of the value
//! 10 versionstamp
//! 8  expiry in milliseconds (big-endian), if flagged
//! 2  length of meta (big-endian), if flagged, and meta: per member a tag, a length (2), bytes
//! …  value
//! ```
//!
//! The checksum covers the key, so that a record that the engine returns for another key is damage
//! too. It is checked whenever a record comes from an engine: engines were seen to return wrong
//! values silently after single flipped bits.

use std::sync::Arc;

use bytes::Bytes;
use kvasir_kv::{Encoding, Entry, Error, Key, Meta, UnixMillis, Value, Versionstamp};

/// The format that this version writes, the newest it reads.
pub const FORMAT: u8 = 1;

const CRC_BYTES: usize = 4;
const HAS_EXPIRY: u8 = 1;
const HAS_META: u8 = 2;

const CONTENT_TYPE: u8 = 1;
const CREATOR: u8 = 2;
const CREATED_AT: u8 = 3;
const EXTRA: u8 = 4;

/// Bytes of a record without expiry, meta and value.
const FIXED_BYTES: usize = CRC_BYTES + 3 + 10;

/// The record of `entry`.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let meta = entry.meta.as_ref().filter(|meta| !meta.is_empty());
    let meta_bytes = meta.map_or(0, |meta| meta.cost_bytes() + 14);
    let mut out = Vec::with_capacity(FIXED_BYTES + 8 + meta_bytes + entry.value.len());
    out.extend_from_slice(&[0; CRC_BYTES]);
    out.push(FORMAT);
    let expiry_flag = entry.expires_at.map_or(0, |_| HAS_EXPIRY);
    out.push(expiry_flag | meta.map_or(0, |_| HAS_META));
    out.push(entry.value.encoding.number());
    out.extend_from_slice(entry.versionstamp.as_bytes());
    if let Some(at) = entry.expires_at {
        out.extend_from_slice(&at.0.to_be_bytes());
    }
    if let Some(meta) = meta {
        encode_meta(meta, &mut out);
    }
    out.extend_from_slice(&entry.value.bytes);
    let crc = checksum(entry.key.as_bytes(), &out[CRC_BYTES..]);
    out[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut member = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&length(bytes.len()));
        out.extend_from_slice(bytes);
    };
    if let Some(text) = &meta.content_type {
        member(CONTENT_TYPE, text.as_bytes());
    }
    if let Some(text) = &meta.creator {
        member(CREATOR, text.as_bytes());
    }
    if let Some(at) = meta.created_at {
        member(CREATED_AT, &at.0.to_be_bytes());
    }
    if let Some(bytes) = &meta.extra {
        member(EXTRA, bytes);
    }
    let bytes = length(out.len() - length_at - 2);
    out[length_at..length_at + 2].copy_from_slice(&bytes);
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes)
        .expect("meta is checked to be at most 1 KiB before it is stored")
        .to_be_bytes()
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let key_bytes = u32::try_from(key.len()).unwrap_or(u32::MAX);
    hasher.update(&key_bytes.to_le_bytes());
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// The entry of `key` in `record`, with the value copied out of it.
///
/// # Errors
///
/// [`Error::Corrupt`], naming the key, if anything about the record is wrong.
pub fn decode(key: &Key, record: &[u8]) -> Result<Entry, Error> {
    let (mut entry, value_at) = decode_head(key, record)?;
    entry.value.bytes = Bytes::copy_from_slice(&record[value_at..]);
    Ok(entry)
}

/// The entry of `key` in `record`, whose value shares memory with it.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_shared(key: &Key, record: &Bytes) -> Result<Entry, Error> {
    let (mut entry, value_at) = decode_head(key, record)?;
    entry.value.bytes = record.slice(value_at..);
    Ok(entry)
}

/// The entry without the bytes of its value, and where these begin.
fn decode_head(key: &Key, record: &[u8]) -> Result<(Entry, usize), Error> {
    let damaged = |what: &str| Error::Corrupt(format!("{what} in the record of {key:?}"));

    let (crc, rest) = record
        .split_first_chunk::<CRC_BYTES>()
        .ok_or_else(|| damaged("too few bytes"))?;
    if u32::from_le_bytes(*crc) != checksum(key.as_bytes(), rest) {
        return Err(damaged("wrong checksum"));
    }
    // From here on the bytes are as somebody wrote them; a newer version perhaps.
    let mut reader = Reader(rest);
    let [format, flags, encoding] = *reader.take().ok_or_else(|| damaged("too few bytes"))?;
    if format != FORMAT {
        return Err(damaged("unknown format"));
    }
    if flags & !(HAS_EXPIRY | HAS_META) != 0 {
        return Err(damaged("unknown flags"));
    }
    let encoding = Encoding::from_number(encoding).ok_or_else(|| damaged("unknown encoding"))?;
    let versionstamp = *reader.take().ok_or_else(|| damaged("too few bytes"))?;
    let mut expires_at = None;
    if flags & HAS_EXPIRY != 0 {
        let bytes = *reader.take().ok_or_else(|| damaged("too few bytes"))?;
        expires_at = Some(UnixMillis(i64::from_be_bytes(bytes)));
    }
    let mut meta = None;
    if flags & HAS_META != 0 {
        let bytes = reader.member().ok_or_else(|| damaged("too few bytes"))?;
        let decoded = decode_meta(bytes).ok_or_else(|| damaged("unreadable meta"))?;
        meta = Some(Arc::new(decoded));
    }
    let entry = Entry {
        key: key.clone(),
        value: Value {
            encoding,
            bytes: Bytes::new(),
        },
        versionstamp: Versionstamp::from_bytes(versionstamp),
        expires_at,
        meta,
    };
    Ok((entry, record.len() - reader.0.len()))
}

fn decode_meta(bytes: &[u8]) -> Option<Meta> {
    let mut reader = Reader(bytes);
    let mut meta = Meta::default();
    while !reader.0.is_empty() {
        let [tag] = *reader.take()?;
        let bytes = reader.member()?;
        let text = || std::str::from_utf8(bytes).ok().map(str::to_owned);
        match tag {
            CONTENT_TYPE => meta.content_type = Some(text()?),
            CREATOR => meta.creator = Some(text()?),
            CREATED_AT => {
                let at = i64::from_be_bytes(bytes.try_into().ok()?);
                meta.created_at = Some(UnixMillis(at));
            }
            EXTRA => meta.extra = Some(Bytes::copy_from_slice(bytes)),
            _ => return None,
        }
    }
    Some(meta)
}

/// What is left to decode.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(head)
    }

    /// Two bytes of length, then as many bytes.
    fn member(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(*self.take()?);
        let (head, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            key: Key::from_strings(["users", "john"]),
            value: Value::json(r#"{"a":1}"#),
            versionstamp: Versionstamp::new(1_700_000_000_000_000, 7),
            expires_at: Some(UnixMillis(1_800_000_000_000)),
            meta: Some(Arc::new(Meta {
                content_type: Some("application/json".into()),
                creator: Some("::1".into()),
                created_at: Some(UnixMillis(1_600_000_000_000)),
                extra: Some(Bytes::from_static(b"\x00\xff")),
            })),
        }
    }

    #[test]
    fn entries_round_trip_with_and_without_each_part() {
        let full = entry();
        let mut plain = entry();
        plain.expires_at = None;
        plain.meta = None;
        plain.value = Value::bytes("");
        let mut empty_meta = plain.clone();
        empty_meta.meta = Some(Arc::default());
        for entry in [&full, &plain] {
            let record = encode(entry);
            assert_eq!(&decode(&entry.key, &record).unwrap(), entry);
            let record = Bytes::from(record);
            assert_eq!(&decode_shared(&entry.key, &record).unwrap(), entry);
        }
        assert_eq!(encode(&plain).len(), FIXED_BYTES, "no meta costs no bytes");
        assert_eq!(encode(&empty_meta), encode(&plain));
    }

    #[test]
    fn every_flipped_bit_is_an_error_that_names_the_key() {
        let entry = entry();
        let record = encode(&entry);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&entry.key, &damaged).unwrap_err();
            assert!(error.to_string().contains("john"), "bit {bit}: {error}");
        }
    }

    #[test]
    fn every_cut_and_every_other_key_is_an_error() {
        let entry = entry();
        let record = encode(&entry);
        for end in 0..record.len() {
            assert!(decode(&entry.key, &record[..end]).is_err());
        }
        assert!(decode(&Key::from_strings(["users", "joho"]), &record).is_err());
    }

    #[test]
    fn records_of_a_newer_format_are_refused_even_with_a_right_checksum() {
        let entry = entry();
        for (place, value) in [(4, 2), (5, 4), (6, 9)] {
            let mut record = encode(&entry);
            record[place] = value;
            let crc = checksum(entry.key.as_bytes(), &record[4..]);
            record[..4].copy_from_slice(&crc.to_le_bytes());
            assert!(decode(&entry.key, &record).is_err());
        }
    }
}
