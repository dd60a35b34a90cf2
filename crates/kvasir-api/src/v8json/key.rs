//! Keys as JSON, in the form of JSON-lines exports.
//!
//! A key is a list of parts, each `{"type", "value"}` as the `kv-utils` package for Deno writes
//! them. Bytes that are no tuple become a single part of the type `raw`, which that package refuses
//! and this one reads.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use kvasir_kv::{Key, Part};
use num_bigint::BigInt;
use serde_json::{Value as Json, json};

use super::number;

/// A part of a key is not of a known form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

fn wrong<T>(text: impl Into<String>) -> Result<T, KeyError> {
    Err(KeyError(text.into()))
}

/// The key as a JSON list of typed parts.
pub fn to_typed(key: &Key) -> Json {
    match key.parts() {
        Ok(parts) => parts.iter().map(part_to_typed).collect(),
        Err(_) => json!([{"type": "raw", "value": BASE64URL_NOPAD.encode(key.as_bytes())}]),
    }
}

fn part_to_typed(part: &Part) -> Json {
    match part {
        Part::Bytes(bytes) => {
            json!({"type": "Uint8Array", "value": BASE64URL_NOPAD.encode(bytes)})
        }
        Part::String(text) => json!({"type": "string", "value": text}),
        Part::BigInt(number) => json!({"type": "bigint", "value": number.to_string()}),
        Part::Number(number) if number.is_nan() && number.is_sign_negative() => {
            json!({"type": "number", "value": "-NaN"})
        }
        Part::Number(number) if number.is_finite() => json!({"type": "number", "value": number}),
        Part::Number(number) => {
            json!({"type": "number", "value": number::special(*number)})
        }
        Part::Bool(value) => json!({"type": "boolean", "value": value}),
    }
}

/// The key of a JSON list of parts: typed ones, and, as a shorthand for people, plain strings,
/// numbers and booleans, `{"bigint": "12"}` and `{"bytes": "<base64>"}`.
///
/// # Errors
///
/// If it is not such a list, or a bigint is too long for a key.
pub fn from_typed(json: &Json) -> Result<Key, KeyError> {
    let Json::Array(parts) = json else {
        return wrong("a key is a list of parts");
    };
    if let [only] = parts.as_slice()
        && only["type"] == "raw"
    {
        return bytes(&only["value"]).map(Key::new);
    }
    let parts: Result<Vec<Part>, _> = parts.iter().map(part_from_typed).collect();
    Key::try_from_parts(&parts?).or_else(|error| wrong(error.to_string()))
}

fn part_from_typed(json: &Json) -> Result<Part, KeyError> {
    match json {
        Json::String(text) => return Ok(Part::from(text.as_str())),
        Json::Bool(value) => return Ok(Part::Bool(*value)),
        Json::Number(_) => return finite(json),
        Json::Object(members) if members.len() == 1 => {
            if let Some(digits) = members.get("bigint") {
                return bigint(digits);
            }
            if let Some(text) = members.get("bytes") {
                return bytes(text).map(|bytes| Part::Bytes(bytes.into()));
            }
        }
        _ => {}
    }
    let value = &json["value"];
    match (json["type"].as_str(), value) {
        (Some("string"), Json::String(text)) => Ok(Part::from(text.as_str())),
        (Some("boolean"), Json::Bool(value)) => Ok(Part::Bool(*value)),
        (Some("number"), Json::String(text)) if text == "-NaN" => Ok(Part::Number(-f64::NAN)),
        (Some("number"), Json::String(text)) => match number::from_special(text) {
            Some(number) => Ok(Part::Number(number)),
            None => wrong(format!("{text:?} is not a number")),
        },
        (Some("number"), Json::Number(_)) => finite(value),
        (Some("bigint"), digits) => bigint(digits),
        (Some("Uint8Array"), text) => bytes(text).map(|bytes| Part::Bytes(bytes.into())),
        _ => wrong("a part of a key is a string, number, bigint, boolean or Uint8Array"),
    }
}

fn finite(json: &Json) -> Result<Part, KeyError> {
    json.as_f64().map_or_else(
        || wrong("a number is out of range"),
        |number| Ok(Part::Number(number)),
    )
}

fn bigint(json: &Json) -> Result<Part, KeyError> {
    /// Digits of the largest bigint that a key can hold, and a sign.
    const DIGITS_MAX: usize = 616;
    let text = json.as_str().filter(|text| text.len() <= DIGITS_MAX);
    match text.and_then(|text| text.parse::<BigInt>().ok()) {
        Some(number) => Ok(Part::BigInt(number)),
        None => wrong("a bigint is a string of decimal digits"),
    }
}

fn bytes(json: &Json) -> Result<Vec<u8>, KeyError> {
    let text = json.as_str().unwrap_or("!").as_bytes();
    let decoded = BASE64URL_NOPAD
        .decode(text)
        .or_else(|_| BASE64.decode(text));
    decoded.or_else(|_| wrong("bytes are written as base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_part_types_come_back() {
        let nan = Part::Number(-f64::NAN);
        for parts in [
            vec![],
            vec![Part::from("a"), Part::from("")],
            vec![Part::Bytes(vec![0, 255].into()), Part::Bool(true)],
            vec![Part::BigInt((-5).into()), Part::Number(-0.0)],
            vec![Part::Number(f64::INFINITY), Part::Number(0.1), nan],
        ] {
            let key = Key::from_parts(&parts);
            let text = to_typed(&key).to_string();
            let json: Json = serde_json::from_str(&text).unwrap();
            assert_eq!(from_typed(&json), Ok(key), "{text}");
        }
        let raw = Key::new(vec![0xfe, 1]);
        assert_eq!(from_typed(&to_typed(&raw)), Ok(raw));
    }

    #[test]
    fn people_may_write_parts_plainly() {
        let json = json!(["a", 1, true, {"bigint": "7"}, {"bytes": "AQ=="}]);
        let key = Key::from_parts(&[
            Part::from("a"),
            Part::Number(1.0),
            Part::Bool(true),
            Part::BigInt(7.into()),
            Part::Bytes(vec![1].into()),
        ]);
        assert_eq!(from_typed(&json), Ok(key));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for json in [
            json!("a"),
            json!([null]),
            json!([[]]),
            json!([{"type": "bigint", "value": 5}]),
            json!([{"type": "Date", "value": "x"}]),
            json!([{"bytes": "?"}]),
            json!([{"bigint": "9".repeat(700)}]),
        ] {
            assert!(from_typed(&json).is_err(), "{json}");
        }
    }
}
