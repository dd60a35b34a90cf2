//! Keys as JSON: an array of parts.
//!
//! | part | JSON |
//! | --- | --- |
//! | string, number, boolean | the same |
//! | bigint | `{"bigint":"12"}` |
//! | bytes | `{"bytes":"<base64>"}` |
//! | NaN and infinities | `{"number":"NaN"}`, `"-NaN"`, `"Infinity"`, `"-Infinity"` |

use data_encoding::BASE64;
use kvasir_kv::limits::KEY_BYTES_MAX;
use kvasir_kv::tuple::BIGINT_BYTES_MAX;
use kvasir_kv::{Key, Part};
use num_bigint::BigInt;
use serde_json::Value as Json;

/// Most digits of a bigint part: 255 bytes hold numbers of 615 digits, and a sign.
const BIGINT_DIGITS_MAX: usize = 616;

/// Largest double up to which every integer has its own double: 2^53.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// Why JSON is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyJsonError {
    /// The text is no JSON.
    #[error("it is not JSON: {0}")]
    Malformed(String),
    /// It is not an array.
    #[error("it must be an array of parts")]
    NotAnArray,
    /// A part is none of the known ones.
    #[error(
        "part {0} must be a string, a number, a boolean, {{\"bigint\":\"12\"}} or {{\"bytes\":\"<base64>\"}}"
    )]
    BadPart(usize),
    /// A number that is no double: it would silently name another key.
    #[error(
        "part {0} is an integer that a number cannot hold exactly; write it as {{\"bigint\":\"…\"}}"
    )]
    NotExact(usize),
    /// A bigint part over its limit.
    #[error("part {0} is over the limit of {BIGINT_BYTES_MAX} bytes for a bigint")]
    BigIntTooLong(usize),
    /// The whole key is too long.
    #[error("the key is {0} bytes long when encoded, over the limit of {KEY_BYTES_MAX}")]
    TooLong(usize),
}

/// Reads a key from JSON text. The empty array is the empty key.
///
/// # Errors
///
/// [`KeyJsonError`].
pub fn parse(text: &str) -> Result<Key, KeyJsonError> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| KeyJsonError::Malformed(error.to_string()))?;
    read(&json)
}

/// Reads a key from JSON. The empty array is the empty key.
///
/// # Errors
///
/// [`KeyJsonError`].
pub fn read(json: &Json) -> Result<Key, KeyJsonError> {
    let parts = json.as_array().ok_or(KeyJsonError::NotAnArray)?;
    let parts: Result<Vec<Part>, _> = parts.iter().enumerate().map(read_part).collect();
    let key = Key::try_from_parts(&parts?).map_err(|_| KeyJsonError::BigIntTooLong(0))?;
    match key.len() {
        length if length > KEY_BYTES_MAX => Err(KeyJsonError::TooLong(length)),
        _ => Ok(key),
    }
}

fn read_part((index, json): (usize, &Json)) -> Result<Part, KeyJsonError> {
    let bad = KeyJsonError::BadPart(index);
    match json {
        Json::String(text) => Ok(Part::String(text.clone())),
        Json::Bool(value) => Ok(Part::Bool(*value)),
        Json::Number(number) => {
            let magnitude = number
                .as_i64()
                .map(i64::unsigned_abs)
                .or_else(|| number.as_u64());
            if magnitude.is_some_and(|integer| integer > EXACT_INTEGER_MAX) {
                return Err(KeyJsonError::NotExact(index));
            }
            number.as_f64().map(Part::Number).ok_or(bad)
        }
        Json::Object(object) if object.len() == 1 => {
            let (kind, text) = object.iter().next().ok_or(bad.clone())?;
            let text = text.as_str().ok_or(bad.clone())?;
            match kind.as_str() {
                "bytes" => {
                    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| bad)?;
                    Ok(Part::Bytes(bytes.into()))
                }
                "bigint" => read_bigint(index, text),
                "number" => named_number(text).map(Part::Number).ok_or(bad),
                _ => Err(bad),
            }
        }
        Json::Object(_) | Json::Array(_) | Json::Null => Err(bad),
    }
}

fn read_bigint(index: usize, text: &str) -> Result<Part, KeyJsonError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(KeyJsonError::BadPart(index));
    }
    let integer: Option<BigInt> = match text.len() {
        length if length > BIGINT_DIGITS_MAX => None,
        _ => text.parse().ok(),
    };
    match integer {
        Some(integer) if integer.bits() <= 8 * BIGINT_BYTES_MAX as u64 => Ok(Part::BigInt(integer)),
        _ => Err(KeyJsonError::BigIntTooLong(index)),
    }
}

fn named_number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "-NaN" => Some(-f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Appends parts as a JSON array.
pub fn write(parts: &[Part], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_part(part, out);
    }
    out.push(b']');
}

fn write_part(part: &Part, out: &mut Vec<u8>) {
    match part {
        Part::String(text) => write_string(text, out),
        Part::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Part::Number(number) => write_number(*number, out),
        Part::BigInt(integer) => write_tagged("bigint", &integer.to_string(), out),
        Part::Bytes(bytes) => write_tagged("bytes", &BASE64.encode(bytes), out),
    }
}

fn write_number(number: f64, out: &mut Vec<u8>) {
    let negative = number.is_sign_negative();
    match number {
        n if n.is_nan() && negative => write_tagged("number", "-NaN", out),
        n if n.is_nan() => write_tagged("number", "NaN", out),
        n if n.is_infinite() && negative => write_tagged("number", "-Infinity", out),
        n if n.is_infinite() => write_tagged("number", "Infinity", out),
        // As JavaScript writes it, but for the sign of zero, which makes another key.
        n if n.fract() == 0.0 && n.abs() <= EXACT_INTEGER_MAX as f64 && !(n == 0.0 && negative) => {
            out.extend_from_slice((n as i64).to_string().as_bytes());
        }
        n => serde_json::to_writer(out, &n).expect("a finite number is always JSON"),
    }
}

fn write_tagged(kind: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\":");
    write_string(text, out);
    out.push(b'}');
}

/// Appends a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: &Key) -> String {
        let mut out = Vec::new();
        write(&key.parts().unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_are_written_and_read_back() {
        for text in [
            "[]",
            r#"["users","jo.hn \\ \u0000 ü"]"#,
            r#"[0,1,-1,0.5,1e+300,9007199254740992,-0.0]"#,
            r#"[true,false]"#,
            r#"[{"bigint":"0"},{"bigint":"-123456789012345678901234567890"}]"#,
            r#"[{"bytes":""},{"bytes":"AP8="}]"#,
            r#"[{"number":"NaN"},{"number":"-NaN"},{"number":"Infinity"},{"number":"-Infinity"}]"#,
        ] {
            assert_eq!(written(&parse(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_place() {
        let long = format!(r#"["{}"]"#, "a".repeat(KEY_BYTES_MAX - 1));
        let digits = format!(r#"[{{"bigint":"{}"}}]"#, "9".repeat(615));
        let cases = [
            ("{}", KeyJsonError::NotAnArray),
            (r#"["a",null]"#, KeyJsonError::BadPart(1)),
            (r#"[["a"]]"#, KeyJsonError::BadPart(0)),
            (r#"[{"bytes":"a"}]"#, KeyJsonError::BadPart(0)),
            (r#"[{"bigint":"1.0"}]"#, KeyJsonError::BadPart(0)),
            (r#"[{"bigint":""}]"#, KeyJsonError::BadPart(0)),
            (r#"[{"bigint":"1","bytes":""}]"#, KeyJsonError::BadPart(0)),
            ("[9007199254740993]", KeyJsonError::NotExact(0)),
            (&digits, KeyJsonError::BigIntTooLong(0)),
            (&long, KeyJsonError::TooLong(KEY_BYTES_MAX + 1)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        for text in ["", "[1e999]", r#"["\ud800"]"#, &"[".repeat(100_000)] {
            assert!(matches!(parse(text), Err(KeyJsonError::Malformed(_))));
        }
        let fits = format!(r#"["{}"]"#, "a".repeat(KEY_BYTES_MAX - 2));
        assert_eq!(parse(&fits).unwrap().len(), KEY_BYTES_MAX);
    }
}
