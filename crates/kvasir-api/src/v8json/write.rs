//! Writes V8 payloads, format 15.
//!
//! The caller brings the structure (begin an object, its members, end it); this module knows the
//! bytes of every leaf. Strings of two-byte characters have to start at an even offset of the whole
//! payload, which is why everything is written into one buffer from its first byte on.

use kvasir_kv::number::V8_FORMAT_WRITTEN;
use num_bigint::{BigInt, Sign};

/// A payload that grows. Cloning is not offered: a half-written payload is of no use.
pub(super) struct V8Writer {
    out: Vec<u8>,
}

impl V8Writer {
    /// A payload without a value yet; `room` is a guess at its size in bytes.
    pub(super) fn new(room: usize) -> V8Writer {
        let mut out = Vec::with_capacity(room + 2);
        out.extend_from_slice(&[0xff, V8_FORMAT_WRITTEN]);
        V8Writer { out }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn tag(&mut self, tag: u8) {
        self.out.push(tag);
    }

    pub(super) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    /// A count of members or elements, which the format keeps in 32 bits.
    pub(super) fn count(&mut self, count: usize) {
        self.varint(count as u64);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn double(&mut self, number: f64) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn null(&mut self) {
        self.tag(b'0');
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.tag(if value { b'T' } else { b'F' });
    }

    /// A number: as an integer where it is one of 32 bits, else as a double.
    pub(super) fn number(&mut self, number: f64) {
        let integer = number as i32;
        if f64::from(integer) == number && !(number == 0.0 && number.is_sign_negative()) {
            self.tag(b'I');
            // Zig-zag: small numbers of either sign stay short.
            self.varint(u64::from(((integer << 1) ^ (integer >> 31)) as u32));
        } else {
            self.tag(b'N');
            self.double(number);
        }
    }

    pub(super) fn bigint(&mut self, number: &BigInt) {
        let (sign, mut digits) = number.to_bytes_le();
        if sign == Sign::NoSign {
            digits.clear();
        }
        digits.resize(digits.len().next_multiple_of(8), 0);
        self.tag(b'Z');
        self.varint((digits.len() as u64) << 1 | u64::from(sign == Sign::Minus));
        self.raw(&digits);
    }

    pub(super) fn string(&mut self, text: &str) {
        if text.is_ascii() {
            self.tag(b'"');
            self.count(text.len());
            self.raw(text.as_bytes());
        } else if text.chars().all(|char| u32::from(char) <= 0xff) {
            self.tag(b'"');
            self.count(text.chars().count());
            self.out
                .extend(text.chars().map(|char| u32::from(char) as u8));
        } else {
            let bytes = text.encode_utf16().count() * 2;
            if (self.out.len() + 1 + varint_len(bytes as u64)) % 2 == 1 {
                self.tag(0);
            }
            self.tag(b'c');
            self.count(bytes);
            for unit in text.encode_utf16() {
                self.out.extend_from_slice(&unit.to_le_bytes());
            }
        }
    }

    /// Begins a dense array, its elements follow.
    pub(super) fn begin_array(&mut self, len: usize) {
        self.tag(b'A');
        self.count(len);
    }

    pub(super) fn end_array(&mut self, len: usize) {
        self.tag(b'$');
        // Properties beside the elements.
        self.count(0);
        self.count(len);
    }

    /// Begins an object, its keys and values follow.
    pub(super) fn begin_object(&mut self) {
        self.tag(b'o');
    }

    pub(super) fn end_object(&mut self, members: usize) {
        self.tag(b'{');
        self.count(members);
    }

    /// The key of a member: what is an array index in JavaScript is written as a number.
    pub(super) fn key(&mut self, key: &str) {
        match array_index(key) {
            Some(index) => self.number(f64::from(index)),
            None => self.string(key),
        }
    }
}

fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// The index that a key is in JavaScript: canonical decimal digits below 2^32 - 1.
fn array_index(key: &str) -> Option<u32> {
    let digits = key.as_bytes();
    let canonical = match digits {
        [] => false,
        [b'0'] => true,
        [first, ..] => first.is_ascii_digit() && *first != b'0' && digits.len() <= 10,
    };
    if !canonical {
        return None;
    }
    key.parse().ok().filter(|index| *index != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_indexes_below_the_largest_length_are_numbers() {
        assert_eq!(array_index("0"), Some(0));
        assert_eq!(array_index("4294967294"), Some(4_294_967_294));
        for text in [
            "",
            "00",
            "01",
            "-1",
            "+1",
            "1.0",
            "4294967295",
            "99999999999",
            "a",
        ] {
            assert_eq!(array_index(text), None, "{text}");
        }
    }

    #[test]
    fn two_byte_strings_start_at_an_even_offset() {
        for prefix in ["", "a"] {
            let mut writer = V8Writer::new(0);
            writer.string(prefix);
            writer.string("ž");
            let payload = writer.finish();
            let at = payload.iter().position(|byte| *byte == b'c').unwrap();
            assert_eq!((at + 2) % 2, 0, "{payload:x?}");
        }
    }
}
