//! The numbers among values: what sum, min and max can read and write.
//!
//! Four forms: `U64`, V8 number, V8 bigint, JSON number. This module reads and writes just these;
//! the whole V8 format belongs to the Deno dialect. Formats 13 to 16 are read, 15 is written.

use bytes::Bytes;
use num_bigint::{BigInt, Sign};

use crate::value::{Encoding, Value};

/// V8 serialization format that is written, because every client reads it.
pub const V8_FORMAT_WRITTEN: u8 = 15;

/// V8 serialization formats that are read.
pub const V8_FORMATS_READ: std::ops::RangeInclusive<u8> = 13..=16;

/// A number in one of the forms that values have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    U64(u64),
    /// A V8 number.
    Double(f64),
    /// A V8 bigint.
    BigInt(BigInt),
    /// A JSON number.
    Json(f64),
}

impl Number {
    /// The number in `value`, or `None` if it holds something else.
    pub(crate) fn read(value: &Value) -> Option<Number> {
        match value.encoding {
            Encoding::U64 => value.as_u64().map(Number::U64),
            Encoding::V8 => read_v8(&value.bytes),
            Encoding::Json => read_json(&value.bytes).map(Number::Json),
            Encoding::Bytes => None,
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        match self {
            Number::U64(number) => Value::u64(*number),
            Number::Double(number) => {
                let mut out = vec![0xff, V8_FORMAT_WRITTEN, b'N'];
                out.extend_from_slice(&number.to_le_bytes());
                Value::v8(out)
            }
            Number::BigInt(number) => Value::v8(write_v8_bigint(number)),
            Number::Json(number) => Value::json(write_json(*number)),
        }
    }

    /// The name that messages use.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Number::U64(_) => "KvU64",
            Number::Double(_) | Number::Json(_) => "Number",
            Number::BigInt(_) => "BigInt",
        }
    }
}

/// Reads a V8 value that is nothing but a number or bigint.
pub(crate) fn read_v8(bytes: &Bytes) -> Option<Number> {
    let [0xff, format, tag, rest @ ..] = bytes.as_ref() else {
        return None;
    };
    if !V8_FORMATS_READ.contains(format) {
        return None;
    }
    match tag {
        b'I' => {
            let (raw, []) = varint(rest)? else {
                return None;
            };
            let raw = u32::try_from(raw).ok()?;
            // Zig-zag: the lowest bit is the sign.
            let integer = ((raw >> 1) as i32) ^ -((raw & 1) as i32);
            Some(Number::Double(f64::from(integer)))
        }
        b'U' => {
            let (raw, []) = varint(rest)? else {
                return None;
            };
            Some(Number::Double(f64::from(u32::try_from(raw).ok()?)))
        }
        b'N' => Some(Number::Double(f64::from_le_bytes(rest.try_into().ok()?))),
        b'Z' => {
            let (bitfield, digits) = varint(rest)?;
            let length = usize::try_from(bitfield >> 1).ok()?;
            // V8 writes whole 8-byte digits; others write just the bytes they need, and V8 reads both.
            if length != digits.len() {
                return None;
            }
            let sign = if bitfield & 1 == 1 {
                Sign::Minus
            } else {
                Sign::Plus
            };
            Some(Number::BigInt(BigInt::from_bytes_le(sign, digits)))
        }
        _ => None,
    }
}

fn write_v8_bigint(number: &BigInt) -> Vec<u8> {
    let (sign, mut digits) = number.to_bytes_le();
    if sign == Sign::NoSign {
        digits.clear();
    }
    digits.resize(digits.len().next_multiple_of(8), 0);
    let mut out = vec![0xff, V8_FORMAT_WRITTEN, b'Z'];
    let mut bitfield = (digits.len() << 1) | usize::from(sign == Sign::Minus);
    while bitfield >= 0x80 {
        out.push((bitfield & 0x7f) as u8 | 0x80);
        bitfield >>= 7;
    }
    out.push(bitfield as u8);
    out.extend_from_slice(&digits);
    out
}

/// A base-128 varint of at most 64 bits, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits.checked_shl(7 * place as u32)?;
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

/// Reads JSON text that is nothing but a number. The text is known to be JSON.
fn read_json(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text)
        .ok()?
        .trim_matches([' ', '\t', '\n', '\r']);
    // Rust would also take `inf` and `nan`, which JSON does not have.
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Writes a finite double as JSON, integers without a fraction.
fn write_json(number: f64) -> String {
    /// Beyond it, doubles do not tell neighbouring integers apart, and digits would be invented.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0
        && number.abs() <= EXACT_MAX
        && !(number == 0.0 && number.is_sign_negative())
    {
        format!("{number:.0}")
    } else {
        format!("{number:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v8(bytes: &[u8]) -> Option<Number> {
        read_v8(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn v8_numbers_of_all_forms_and_formats_are_read() {
        for format in V8_FORMATS_READ {
            assert_eq!(v8(&[0xff, format, b'I', 3]), Some(Number::Double(-2.0)));
        }
        assert_eq!(
            v8(&[0xff, 15, b'I', 0xff, 0xff, 0xff, 0xff, 0x0f]),
            Some(Number::Double(-2147483648.0))
        );
        assert_eq!(
            v8(&[0xff, 15, b'U', 0xff, 0xff, 0xff, 0xff, 0x0f]),
            Some(Number::Double(4294967295.0))
        );
        assert_eq!(v8(&[0xff, 15, b'Z', 0]), Some(Number::BigInt(BigInt::ZERO)));
        assert_eq!(
            v8(&[0xff, 15, b'Z', 17, 5, 0, 0, 0, 0, 0, 0, 0]),
            Some(Number::BigInt((-5).into()))
        );
        // The Python package v8serialize writes 2^70 like this.
        assert_eq!(
            v8(&[0xff, 15, b'Z', 18, 0, 0, 0, 0, 0, 0, 0, 0, 0x40]),
            Some(Number::BigInt(BigInt::from(1u128 << 70)))
        );
    }

    #[test]
    fn what_is_no_number_is_none() {
        assert_eq!(v8(&[]), None);
        assert_eq!(v8(&[0xff, 12, b'I', 2]), None);
        assert_eq!(v8(&[0xff, 17, b'I', 2]), None);
        assert_eq!(v8(&[0xff, 15, b'I', 2, 0]), None, "bytes behind the number");
        assert_eq!(v8(&[0xff, 15, b'I', 0x80]), None);
        assert_eq!(v8(&[0xff, 15, b'"', 1, b'a']), None);
        assert_eq!(
            v8(&[0xff, 15, b'Z', 4, 1]),
            None,
            "fewer digits than announced"
        );
        assert_eq!(
            v8(&[
                0xff, 15, b'U', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f
            ]),
            None
        );
        assert_eq!(Number::read(&Value::json("\"1\"")), None);
        assert_eq!(Number::read(&Value::json("nan")), None);
        assert_eq!(Number::read(&Value::bytes(vec![1])), None);
    }

    #[test]
    fn written_numbers_read_back() {
        let huge: BigInt = "-123456789012345678901234567890".parse().unwrap();
        for number in [
            Number::U64(u64::MAX),
            Number::Double(-0.5),
            Number::BigInt(BigInt::ZERO),
            Number::BigInt(huge.pow(20)),
            Number::Json(42.0),
            Number::Json(1e300),
            Number::Json(0.1),
        ] {
            assert_eq!(Number::read(&number.to_value()), Some(number));
        }
        assert_eq!(Number::Json(3.0).to_value().bytes, "3");
        assert_eq!(Number::Json(-0.0).to_value().bytes, "-0.0");
    }
}
