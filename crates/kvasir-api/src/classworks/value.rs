//! Is this body a JSON text that every reader understands?
//!
//! Values are kept as the bytes that came in, so that member order and the digits of numbers
//! survive, and are only looked at here. Two kinds of legal JSON are refused, because readers that
//! parse could not hold them: nesting deeper than [`JSON_DEPTH_MAX`], and strings with a lone half
//! of a surrogate pair. Duplicate members stay in the text; readers take the last one.

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

use super::error;

/// Deepest nesting of arrays and objects. What common JSON readers take.
pub const JSON_DEPTH_MAX: usize = 128;

/// A byte order mark, which some editors put in front.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// The JSON text in a body.
///
/// # Errors
///
/// 400 with the place of the first fault.
pub(super) fn checked(body: Bytes) -> Result<Bytes, ApiError> {
    let body = match body.strip_prefix(BOM) {
        Some(rest) => body.slice_ref(rest),
        None => body,
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(error::no_value());
    }
    let fault_at = |offset: usize| {
        let (line, column) = place(&body, offset);
        error::not_json(line, column)
    };
    let text = str::from_utf8(&body).map_err(|fault| fault_at(fault.valid_up_to()))?;
    // Skipping a value needs no stack, however deep it is.
    serde_json::from_str::<IgnoredAny>(text).map_err(|fault| {
        let start = line_start(&body, fault.line());
        fault_at(start + fault.column().saturating_sub(1))
    })?;
    match unreadable(&body) {
        Some(offset) => Err(fault_at(offset)),
        None => Ok(body),
    }
}

/// Where a JSON text first holds what parsing readers could not.
fn unreadable(json: &[u8]) -> Option<usize> {
    let mut depth = 0;
    let mut in_string = false;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => match escaped_unit(json, at) {
                Some(0xd800..=0xdbff) => match escaped_unit(json, at + 6) {
                    Some(0xdc00..=0xdfff) => at += 10,
                    _ => return Some(at),
                },
                Some(0xdc00..=0xdfff) => return Some(at),
                _ => at += 1,
            },
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Some(at);
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The UTF-16 unit of an escape like `\u12ab` at `at`.
fn escaped_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Offset of the first byte of a line, counted from one.
fn line_start(text: &[u8], line: usize) -> usize {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    match line.checked_sub(2) {
        None => 0,
        Some(skipped) => ends.nth(skipped).map_or(text.len(), |(at, _)| at + 1),
    }
}

/// Line and column of an offset, both from one, columns in characters.
fn place(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

/// The members of a batch in the order of their first mention, each with the JSON text of its last
/// value.
///
/// # Errors
///
/// 400 if the body is not JSON, not an object, or an empty one.
pub(super) fn members(body: Bytes) -> Result<Vec<(String, Bytes)>, ApiError> {
    let body = checked(body).map_err(|_| error::no_batch())?;
    let members: Members<'_> = serde_json::from_slice(&body).map_err(|_| error::no_batch())?;
    if members.0.is_empty() {
        return Err(error::no_batch());
    }
    let mut places = std::collections::HashMap::with_capacity(members.0.len());
    let mut out: Vec<(String, Bytes)> = Vec::with_capacity(members.0.len());
    for (key, value) in members.0 {
        let value = body.slice_ref(value.get().as_bytes());
        match places.get(&key) {
            Some(place) => out[*place] = (key, value),
            None => {
                places.insert(key.clone(), out.len());
                out.push((key, value));
            }
        }
    }
    Ok(out)
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8]) -> Result<(), String> {
        let checked = checked(Bytes::copy_from_slice(body));
        checked
            .map(|_| ())
            .map_err(|error| error.detail().to_owned())
    }

    #[test]
    fn every_json_text_is_a_value() {
        for good in [
            "{}",
            "[]",
            "null",
            "true",
            "-0.5e+10",
            "1e999",
            "12345678901234567890123",
            r#""""#,
            r#""\u0000""#,
            r#""\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""]]]{{{""#,
            " \n{\"a\": [1, 2, {\"b\": null}]} \t",
            "{\"a\":1,\"a\":2}",
            "\u{feff}[1]",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_place() {
        let at = |line, column| Err(format!("请提供有效的JSON值（第 {line} 行第 {column} 列）"));
        assert_eq!(check(b""), Err("请提供有效的JSON值".to_owned()));
        assert_eq!(check(b" \n "), Err("请提供有效的JSON值".to_owned()));
        assert_eq!(check(b"{bad"), at(1, 2));
        assert_eq!(check("{\n \"作业\": x}".as_bytes()), at(2, 8));
        assert_eq!(check(b"{} x"), at(1, 4));
        assert_eq!(check(b"NaN"), at(1, 1));
        assert_eq!(check(b"a=1&b=2"), at(1, 1));
        assert_eq!(check(b"\"\xff\""), at(1, 2));
        assert_eq!(check(br#"["\ud800"]"#), at(1, 3));
        assert_eq!(check(br#""\ude00\ud83d""#), at(1, 2));
        assert_eq!(check(br#""\ud83d\n""#), at(1, 2));
    }

    #[test]
    fn nesting_at_the_limit_passes_and_deeper_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert!(check(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(check(nested(500_000).as_bytes()).is_err());
    }

    #[test]
    fn a_batch_keeps_order_digits_and_the_last_of_duplicates() {
        let body = r#"{"b": 1.50, "a": {"x":1}, "b": 12345678901234567890}"#;
        let members = members(Bytes::from(body)).unwrap();
        assert_eq!(
            members,
            [
                ("b".to_owned(), Bytes::from("12345678901234567890")),
                ("a".to_owned(), Bytes::from(r#"{"x":1}"#)),
            ]
        );
    }

    #[test]
    fn a_batch_is_an_object_with_members() {
        for bad in ["", "{}", "[]", r#"[{"a":1}]"#, "1", "null", "\"a\"", "{bad"] {
            let error = members(Bytes::from(bad)).unwrap_err();
            assert!(error.detail().starts_with("请提供有效的JSON数据"), "{bad}");
        }
    }
}
