//! Keys and ranges of keys.

use std::fmt;

use bytes::Bytes;

use crate::tuple::{self, Part, TupleError};

/// An ordered byte string that names one entry.
///
/// Usually an encoded tuple ([`crate::tuple`]), but the store treats it as opaque: KV Connect
/// clients may send bytes that are no tuple. Cloning is cheap. Lengths are checked where keys
/// enter ([`crate::Keyspace`]), not here.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// A key of exactly these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    /// The key of a tuple.
    ///
    /// # Panics
    ///
    /// If an integer part is longer than [`tuple::BIGINT_BYTES_MAX`]; parts that come from outside
    /// go through [`Key::try_from_parts`].
    pub fn from_parts(parts: &[Part]) -> Key {
        Key::try_from_parts(parts).expect("integer parts written by this program are short")
    }

    /// The key of a tuple whose parts come from outside.
    ///
    /// # Errors
    ///
    /// [`TupleError::BigIntTooLong`].
    pub fn try_from_parts(parts: &[Part]) -> Result<Key, TupleError> {
        tuple::encode(parts).map(Key::new)
    }

    /// The key of a tuple of strings, the most common case.
    pub fn from_strings<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> Key {
        let mut out = Vec::with_capacity(64);
        for part in parts {
            push_string(part.as_ref(), &mut out);
        }
        Key(out.into())
    }

    /// This key with one more string part.
    pub fn with_string(&self, part: &str) -> Key {
        let mut out = Vec::with_capacity(self.0.len() + part.len() + 2);
        out.extend_from_slice(&self.0);
        push_string(part, &mut out);
        Key(out.into())
    }

    /// This key followed by raw bytes.
    pub fn with_suffix(&self, suffix: &[u8]) -> Key {
        let mut out = Vec::with_capacity(self.0.len() + suffix.len());
        out.extend_from_slice(&self.0);
        out.extend_from_slice(suffix);
        Key(out.into())
    }

    /// The parts, if the key is a tuple.
    ///
    /// # Errors
    ///
    /// As [`tuple::decode`].
    pub fn parts(&self) -> Result<Vec<Part>, TupleError> {
        tuple::decode(&self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shared bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the key without parts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest key above this one.
    pub fn successor(&self) -> Key {
        self.with_suffix(&[0])
    }

    /// This key without its first `bytes` bytes; shares memory.
    ///
    /// # Panics
    ///
    /// If the key is shorter.
    pub(crate) fn strip(&self, bytes: usize) -> Key {
        Key(self.0.slice(bytes..))
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    let encoded = Part::encode(&Part::from(text), out);
    debug_assert!(encoded.is_ok(), "strings always encode");
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Ok(parts) => f.debug_list().entries(parts).finish(),
            Err(_) => write!(f, "x\"{}\"", data_encoding::HEXLOWER.encode(&self.0)),
        }
    }
}

/// Keys from `start` (inclusive) to `end` (exclusive). `start >= end` is an empty range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Key,
    /// First key behind the range.
    pub end: Key,
}

impl KeyRange {
    /// The range `[start, end)`.
    pub fn new(start: Key, end: Key) -> KeyRange {
        KeyRange { start, end }
    }

    /// Just this key.
    pub fn single(key: Key) -> KeyRange {
        let end = key.successor();
        KeyRange { start: key, end }
    }

    /// Every tuple that continues `prefix` with at least one more part; `prefix` itself is not in
    /// it. This is what `Deno.Kv.list({prefix})` means.
    pub fn below(prefix: &Key) -> KeyRange {
        KeyRange {
            start: prefix.with_suffix(&[0]),
            end: prefix.with_suffix(&[0xff]),
        }
    }

    /// Every key whose bytes begin with those of `prefix`, itself included.
    pub fn starting_with(prefix: &Key) -> KeyRange {
        let mut end = prefix.as_bytes().to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            // Nothing but 0xff: the longest bound of it is above every key that may be written.
            None => end = vec![0xff; crate::limits::BOUND_BYTES_MAX],
        }
        KeyRange {
            start: prefix.clone(),
            end: Key::new(end),
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        self.start <= *key && *key < self.end
    }

    /// Whether no key lies in the range.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// The key of a range that holds no other one.
    pub fn single_key(&self) -> Option<&Key> {
        let rest = self.end.as_bytes().strip_prefix(self.start.as_bytes())?;
        (rest == [0]).then_some(&self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_holds_longer_tuples_but_not_the_prefix_itself() {
        let prefix = Key::from_strings(["users"]);
        let range = KeyRange::below(&prefix);

        assert!(!range.contains(&prefix));
        assert!(range.contains(&prefix.with_string("john")));
        assert!(range.contains(&Key::from_parts(&[Part::from("users"), Part::Bool(true)])));
        assert!(!range.contains(&Key::from_strings(["users2"])));
    }

    #[test]
    fn starting_with_ends_right_behind_the_last_key_of_the_prefix() {
        let range = KeyRange::starting_with(&Key::new(vec![1, 0xff]));
        assert_eq!(range.end, Key::new(vec![2]));
        assert!(range.contains(&Key::new(vec![1, 0xff, 0xff])));
        assert!(!range.contains(&Key::new(vec![2])));

        let everything = KeyRange::starting_with(&Key::default());
        assert!(everything.contains(&Key::new(vec![0xff; crate::limits::KEY_BYTES_MAX])));
    }

    #[test]
    fn single_keys_are_told_from_ranges() {
        let key = Key::from_strings(["a"]);
        assert_eq!(KeyRange::single(key.clone()).single_key(), Some(&key));
        let empty = Key::default();
        assert_eq!(KeyRange::single(empty.clone()).single_key(), Some(&empty));
        assert_eq!(KeyRange::below(&key).single_key(), None);
        assert_eq!(KeyRange::starting_with(&empty).single_key(), None);
    }

    #[test]
    fn the_successor_is_the_next_key() {
        let key = Key::from_strings(["a"]);
        let single = KeyRange::single(key.clone());
        assert!(single.contains(&key));
        assert!(!single.contains(&key.successor()));
    }
}
