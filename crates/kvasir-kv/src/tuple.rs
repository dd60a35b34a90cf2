//! The order-preserving encoding of key parts.
//!
//! Each part is one type byte and its data; parts are concatenated with nothing in between, and
//! comparing the bytes compares the parts. The layout is the one Deno KV uses (FoundationDB's
//! tuple layer restricted to six types), so these bytes are on the wire and on users' disks:
//! changing them is a migration.
//!
//! Not here: how many bytes a key may have (see [`crate::limits`]).

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use num_bigint::{BigInt, Sign};

const BYTES: u8 = 0x01;
const STRING: u8 = 0x02;
const NEGATIVE_LONG: u8 = 0x0b;
const ZERO: u8 = 0x14;
const POSITIVE_LONG: u8 = 0x1d;
const NUMBER: u8 = 0x21;
const FALSE: u8 = 0x26;
const TRUE: u8 = 0x27;

/// Largest bigint magnitude, in bytes: its length is stored in one byte.
pub const BIGINT_BYTES_MAX: usize = 255;

/// One element of a key.
///
/// Order between types is bytes, string, bigint, number, false, true; `1` and `1n` are different
/// keys. Numbers are ordered totally, with `-0` directly before `0` and NaN at the ends.
#[derive(Clone)]
pub enum Part {
    /// Raw bytes, ordered bytewise.
    Bytes(Bytes),
    /// Text, ordered by code point.
    String(String),
    /// An integer of any size up to [`BIGINT_BYTES_MAX`] bytes.
    BigInt(BigInt),
    /// A double.
    Number(f64),
    /// `false` sorts before `true`.
    Bool(bool),
}

/// Why bytes are not an encoded tuple, or a part cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TupleError {
    /// The type byte is none of the six known ones.
    #[error("unknown key part type {0:#04x} at byte {1}")]
    UnknownType(u8, usize),
    /// The part ends before its terminator or its last digit.
    #[error("key part at byte {0} is cut off")]
    Truncated(usize),
    /// A string part is not UTF-8.
    #[error("string key part at byte {0} is not valid UTF-8")]
    InvalidUtf8(usize),
    /// An integer is written with leading zeros or in the wrong form for its length.
    #[error("bigint key part at byte {0} is not in its shortest form")]
    NotCanonical(usize),
    /// The integer has more digits than the encoding can hold.
    #[error("bigint key part has {0} bytes, over the limit of 255")]
    BigIntTooLong(usize),
}

impl Part {
    /// Appends the encoded part to `out`.
    ///
    /// # Errors
    ///
    /// [`TupleError::BigIntTooLong`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TupleError> {
        match self {
            Part::Bytes(bytes) => encode_escaped(BYTES, bytes, out),
            Part::String(text) => encode_escaped(STRING, text.as_bytes(), out),
            Part::BigInt(integer) => return encode_bigint(integer, out),
            Part::Number(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&ordered_bits(*number).to_be_bytes());
            }
            Part::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        }
        Ok(())
    }

    fn rank(&self) -> u8 {
        match self {
            Part::Bytes(_) => BYTES,
            Part::String(_) => STRING,
            Part::BigInt(_) => ZERO,
            Part::Number(_) => NUMBER,
            Part::Bool(false) => FALSE,
            Part::Bool(true) => TRUE,
        }
    }
}

/// Encodes parts one after the other.
///
/// # Errors
///
/// [`TupleError::BigIntTooLong`] for an integer beyond [`BIGINT_BYTES_MAX`] bytes.
pub fn encode(parts: &[Part]) -> Result<Vec<u8>, TupleError> {
    let mut out = Vec::with_capacity(parts.len() * 16);
    for part in parts {
        part.encode(&mut out)?;
    }
    Ok(out)
}

/// Decodes a whole key.
///
/// # Errors
///
/// Every way in which the bytes are not exactly what [`encode`] produces: unknown type byte,
/// missing terminator, cut-off number, invalid UTF-8, integers not in their shortest form.
pub fn decode(bytes: &[u8]) -> Result<Vec<Part>, TupleError> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (part, next) = decode_part(bytes, at)?;
        parts.push(part);
        at = next;
    }
    Ok(parts)
}

/// Decodes the part that starts at `at`; returns it and where the next one starts.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_part(bytes: &[u8], at: usize) -> Result<(Part, usize), TupleError> {
    let kind = *bytes.get(at).ok_or(TupleError::Truncated(at))?;
    let rest = &bytes[at + 1..];
    match kind {
        BYTES => {
            let (data, used) = decode_escaped(rest).ok_or(TupleError::Truncated(at))?;
            Ok((Part::Bytes(data.into()), at + 1 + used))
        }
        STRING => {
            let (data, used) = decode_escaped(rest).ok_or(TupleError::Truncated(at))?;
            let text = String::from_utf8(data).map_err(|_| TupleError::InvalidUtf8(at))?;
            Ok((Part::String(text), at + 1 + used))
        }
        NEGATIVE_LONG..=POSITIVE_LONG => {
            let (integer, used) = decode_bigint(kind, rest, at)?;
            Ok((Part::BigInt(integer), at + 1 + used))
        }
        NUMBER => {
            let raw: [u8; 8] = rest
                .get(..8)
                .and_then(|raw| raw.try_into().ok())
                .ok_or(TupleError::Truncated(at))?;
            Ok((
                Part::Number(from_ordered_bits(u64::from_be_bytes(raw))),
                at + 9,
            ))
        }
        FALSE => Ok((Part::Bool(false), at + 1)),
        TRUE => Ok((Part::Bool(true), at + 1)),
        other => Err(TupleError::UnknownType(other, at)),
    }
}

fn encode_escaped(kind: u8, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len() + 2);
    out.push(kind);
    for &byte in data {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.push(0);
}

/// Data up to the terminator and how many bytes it took, or `None` without a terminator.
fn decode_escaped(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let zero = at + rest.get(at..)?.iter().position(|&byte| byte == 0)?;
        data.extend_from_slice(&rest[at..zero]);
        if rest.get(zero + 1) == Some(&0xff) {
            data.push(0);
            at = zero + 2;
        } else {
            return Some((data, zero + 1));
        }
    }
}

fn encode_bigint(integer: &BigInt, out: &mut Vec<u8>) -> Result<(), TupleError> {
    let (sign, magnitude) = integer.to_bytes_be();
    let length = magnitude.len();
    if length > BIGINT_BYTES_MAX {
        return Err(TupleError::BigIntTooLong(length));
    }
    let short = length <= 8;
    // `as u8`: length is at most 255, checked above.
    let length = length as u8;
    match sign {
        Sign::NoSign => out.push(ZERO),
        Sign::Plus if short => out.push(ZERO + length),
        Sign::Plus => out.extend_from_slice(&[POSITIVE_LONG, length]),
        Sign::Minus if short => out.push(ZERO - length),
        Sign::Minus => out.extend_from_slice(&[NEGATIVE_LONG, !length]),
    }
    match sign {
        Sign::NoSign => {}
        Sign::Plus => out.extend_from_slice(&magnitude),
        Sign::Minus => out.extend(magnitude.iter().map(|byte| !byte)),
    }
    Ok(())
}

fn decode_bigint(kind: u8, rest: &[u8], at: usize) -> Result<(BigInt, usize), TupleError> {
    let truncated = TupleError::Truncated(at);
    let (sign, length, head) = match kind {
        ZERO => return Ok((BigInt::ZERO, 0)),
        POSITIVE_LONG => (Sign::Plus, *rest.first().ok_or(truncated.clone())?, 1),
        NEGATIVE_LONG => (Sign::Minus, !*rest.first().ok_or(truncated.clone())?, 1),
        short if short > ZERO => (Sign::Plus, short - ZERO, 0),
        short => (Sign::Minus, ZERO - short, 0),
    };
    let length = usize::from(length);
    let digits = rest.get(head..head + length).ok_or(truncated)?;
    let magnitude: Vec<u8> = match sign {
        Sign::Minus => digits.iter().map(|byte| !byte).collect(),
        _ => digits.to_vec(),
    };
    let long_form_needed = length > 8;
    if magnitude.first() == Some(&0) || long_form_needed != (head == 1) {
        return Err(TupleError::NotCanonical(at));
    }
    Ok((BigInt::from_bytes_be(sign, &magnitude), head + length))
}

/// The bits of a double with NaN made canonical, mapped so that unsigned order is numeric order.
fn ordered_bits(number: f64) -> u64 {
    const SIGN: u64 = 1 << 63;
    let bits = match (number.is_nan(), number.is_sign_negative()) {
        (true, true) => 0xfff8_0000_0000_0000,
        (true, false) => 0x7ff8_0000_0000_0000,
        (false, _) => number.to_bits(),
    };
    if bits & SIGN == 0 { bits ^ SIGN } else { !bits }
}

fn from_ordered_bits(bits: u64) -> f64 {
    const SIGN: u64 = 1 << 63;
    f64::from_bits(if bits & SIGN != 0 { bits ^ SIGN } else { !bits })
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Part::Bytes(a), Part::Bytes(b)) => a.cmp(b),
            (Part::String(a), Part::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Part::BigInt(a), Part::BigInt(b)) => a.cmp(b),
            (Part::Number(a), Part::Number(b)) => ordered_bits(*a).cmp(&ordered_bits(*b)),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Part::String(text) => write!(f, "{text:?}"),
            Part::BigInt(integer) => write!(f, "{integer}n"),
            Part::Number(number) => write!(f, "{number:?}"),
            Part::Bool(value) => write!(f, "{value}"),
        }
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Part::String(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Part::String(text)
    }
}

impl From<f64> for Part {
    fn from(number: f64) -> Self {
        Part::Number(number)
    }
}

impl From<bool> for Part {
    fn from(value: bool) -> Self {
        Part::Bool(value)
    }
}

impl From<BigInt> for Part {
    fn from(integer: BigInt) -> Self {
        Part::BigInt(integer)
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Self {
        Part::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bigint(text: &str) -> Part {
        Part::BigInt(text.parse().unwrap())
    }

    #[track_caller]
    fn check(part: Part, hex: &str) {
        let encoded = encode(std::slice::from_ref(&part)).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&encoded), hex, "{part:?}");
        assert_eq!(decode(&encoded).unwrap(), [part]);
    }

    #[test]
    fn the_examples_of_the_contract_encode_as_printed_there() {
        check(Part::from("hello"), "0268656c6c6f00");
        check(
            Part::Bytes(Bytes::from_static(&[1, 2, 0, 7, 8])),
            "01010200ff070800",
        );
        check(bigint("256"), "160100");
        check(bigint("-1"), "13fe");
        check(bigint("-256"), "12feff");
        check(bigint("0"), "14");
        check(bigint("1"), "1501");
        check(Part::Number(0.0), "218000000000000000");
        check(Part::Bool(false), "26");
        check(Part::Bool(true), "27");
    }

    #[test]
    fn integers_change_form_after_eight_bytes_and_end_at_255() {
        check(bigint("18446744073709551615"), "1cffffffffffffffff");
        check(bigint("18446744073709551616"), "1d09010000000000000000");
        check(bigint("-18446744073709551616"), "0bf6feffffffffffffffff");
        let largest = Part::BigInt(BigInt::from_bytes_be(Sign::Minus, &[0xff; 255]));
        assert_eq!(
            decode(&encode(std::slice::from_ref(&largest)).unwrap()).unwrap(),
            [largest]
        );
        let beyond = Part::BigInt(BigInt::from_bytes_be(Sign::Plus, &[1; 256]));
        assert_eq!(encode(&[beyond]), Err(TupleError::BigIntTooLong(256)));
    }

    #[test]
    fn byte_order_is_part_order() {
        let ascending = [
            Part::Bytes(Bytes::new()),
            Part::Bytes(Bytes::from_static(&[0])),
            Part::Bytes(Bytes::from_static(&[0, 1])),
            Part::Bytes(Bytes::from_static(&[1])),
            Part::from(""),
            Part::from("a"),
            Part::from("a\0"),
            Part::from("aa"),
            Part::from("\u{ffff}"),
            Part::from("\u{10000}"),
            bigint("-340282366920938463463374607431768211456"),
            bigint("-18446744073709551616"),
            bigint("-256"),
            bigint("-255"),
            bigint("0"),
            bigint("255"),
            bigint("18446744073709551616"),
            Part::Number(-f64::NAN),
            Part::Number(f64::NEG_INFINITY),
            Part::Number(-1.5),
            Part::Number(-0.0),
            Part::Number(0.0),
            Part::Number(f64::MIN_POSITIVE),
            Part::Number(f64::INFINITY),
            Part::Number(f64::NAN),
            Part::Bool(false),
            Part::Bool(true),
        ];
        for pair in ascending.windows(2) {
            let [low, high] = pair else {
                unreachable!("windows of two")
            };
            assert!(low < high, "{low:?} < {high:?}");
            let [low, high] = [low, high].map(|part| encode(std::slice::from_ref(part)).unwrap());
            assert!(low < high, "{low:x?} < {high:x?}");
        }
    }

    #[test]
    fn every_nan_is_stored_as_the_canonical_one_of_its_sign() {
        let odd = f64::from_bits(0x7ff8_dead_beef_0001);
        assert_eq!(
            encode(&[Part::Number(odd)]),
            encode(&[Part::Number(f64::NAN)])
        );
        check(Part::Number(-f64::NAN), "210007ffffffffffff");
    }

    #[test]
    fn bytes_that_are_no_tuple_are_refused() {
        assert_eq!(decode(&[0x05]), Err(TupleError::UnknownType(0x05, 0)));
        assert_eq!(decode(&[0x28]), Err(TupleError::UnknownType(0x28, 0)));
        assert_eq!(decode(&[0x02, b'a']), Err(TupleError::Truncated(0)));
        assert_eq!(
            decode(&[0x02, b'a', 0, 0xff]),
            Err(TupleError::Truncated(0))
        );
        assert_eq!(decode(&[0x27, 0x21, 1, 2]), Err(TupleError::Truncated(1)));
        assert_eq!(decode(&[0x16, 1]), Err(TupleError::Truncated(0)));
        assert_eq!(decode(&[0x1d]), Err(TupleError::Truncated(0)));
        assert_eq!(
            decode(&[0x02, 0xff, 0xfe, 0x00]),
            Err(TupleError::InvalidUtf8(0))
        );
        assert_eq!(decode(&[0x16, 0, 1]), Err(TupleError::NotCanonical(0)));
        assert_eq!(decode(&[0x1d, 1, 1]), Err(TupleError::NotCanonical(0)));
    }

    #[test]
    fn no_bytes_are_the_key_without_parts() {
        assert_eq!(decode(&[]).unwrap(), []);
    }
}
