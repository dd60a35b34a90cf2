//! Keypaths: `users.john.settings` is the key `["users","john","settings"]`.
//!
//! Percent-decoding comes first, then splitting at dots. A dot inside a segment is written `\.`, a
//! backslash `\\`.

use std::borrow::Cow;

use kvasir_kv::limits::KEY_BYTES_MAX;
use kvasir_kv::{Key, Part};

use crate::error::ApiError;
use crate::key_json;
use crate::query::{Query, percent_decode};

/// The key of a path behind the mount, as sent.
///
/// # Errors
///
/// 404 for a path with a slash, 400 for everything else that names no key.
pub(super) fn parse(raw: &str) -> Result<Key, ApiError> {
    if raw.contains('/') {
        return Err(ApiError::not_found(
            "no such route: the segments of a key are separated by dots, as in users.john",
        ));
    }
    if raw.bytes().all(is_plain) {
        return key_of(raw.split('.').map(Cow::Borrowed));
    }
    parse_decoded(&percent_decode(raw)?)
}

/// Characters that are neither encoded nor escaped.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'%' | b'\\')
}

/// The key of a keypath that is decoded already.
///
/// # Errors
///
/// 400, with what is wrong.
pub(super) fn parse_decoded(path: &str) -> Result<Key, ApiError> {
    let mut segments = Vec::new();
    let mut segment = String::new();
    let mut rest = path.chars();
    while let Some(character) = rest.next() {
        match character {
            '.' => segments.push(Cow::Owned(std::mem::take(&mut segment))),
            '\\' => match rest.next() {
                Some(escaped @ ('.' | '\\')) => segment.push(escaped),
                _ => {
                    return Err(ApiError::bad_request(
                        "in a keypath a backslash stands before a dot or a backslash",
                    ));
                }
            },
            other => segment.push(other),
        }
    }
    segments.push(Cow::Owned(segment));
    key_of(segments.into_iter())
}

fn key_of<'a>(segments: impl Iterator<Item = Cow<'a, str>>) -> Result<Key, ApiError> {
    let mut is_empty = false;
    let key = Key::from_strings(segments.inspect(|segment| is_empty |= segment.is_empty()));
    if is_empty {
        return Err(ApiError::bad_request(
            "a keypath is segments separated by single dots, and none of them is empty",
        ));
    }
    check_length(&key)?;
    Ok(key)
}

fn check_length(key: &Key) -> Result<(), ApiError> {
    match key.len() {
        length if length > KEY_BYTES_MAX => Err(ApiError::bad_request(format!(
            "the key is {length} bytes long when encoded, over the limit of {KEY_BYTES_MAX}"
        ))),
        _ => Ok(()),
    }
}

/// A query parameter that is a keypath.
///
/// # Errors
///
/// 400, naming the parameter.
pub(super) fn of_query(query: &Query<'_>, name: &str) -> Result<Option<Key>, ApiError> {
    let path = query.text(name)?.map(parse_decoded);
    path.transpose().map_err(|error| {
        ApiError::bad_request(format!("the query parameter `{name}`: {}", error.detail()))
    })
}

/// `key=<json>`, a key as an array of parts.
///
/// # Errors
///
/// 400 for what is no key.
pub(super) fn typed(query: &Query<'_>) -> Result<Option<Key>, ApiError> {
    let key = query.text("key")?.map(key_json::parse);
    let bad = |error| ApiError::bad_request(format!("the query parameter `key`: {error}"));
    key.transpose().map_err(bad)
}

/// The keypath of a key, not percent-encoded; `None` if the key has none, because a part is no
/// string or empty.
pub(super) fn format(parts: &[Part]) -> Option<String> {
    let mut path = String::new();
    for (index, part) in parts.iter().enumerate() {
        let Part::String(segment) = part else {
            return None;
        };
        if segment.is_empty() {
            return None;
        }
        if index > 0 {
            path.push('.');
        }
        for character in segment.chars() {
            if matches!(character, '.' | '\\') {
                path.push('\\');
            }
            path.push(character);
        }
    }
    (!parts.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_keys_and_back() {
        let cases: [(&str, &[&str]); 9] = [
            ("users.john.settings", &["users", "john", "settings"]),
            ("a", &["a"]),
            ("a%5C.b.c", &["a.b", "c"]),
            ("a\\.b.c", &["a.b", "c"]),
            ("%5C%5C", &["\\"]),
            ("a%2Eb", &["a", "b"]),
            ("a%2Fb", &["a/b"]),
            ("%C3%BC+%20", &["ü+ "]),
            ("%00", &["\0"]),
        ];
        for (path, parts) in cases {
            let key = parse(path).unwrap();
            assert_eq!(key, Key::from_strings(parts), "{path}");
            let formatted = format(&key.parts().unwrap()).unwrap();
            assert_eq!(parse_decoded(&formatted).unwrap(), key, "{path}");
        }
    }

    #[test]
    fn what_names_no_key_is_refused() {
        let longest = "a".repeat(KEY_BYTES_MAX - 2);
        assert!(parse(&longest).is_ok());
        let cases = [
            ("", 400),
            (".", 400),
            ("a..b", 400),
            (".a", 400),
            ("a.", 400),
            ("a%5C", 400),
            ("a%5Cb", 400),
            ("a%", 400),
            ("%zz", 400),
            ("%ff", 400),
            ("a/b", 404),
            ("a/", 404),
            (&format!("{longest}a"), 400),
        ];
        for (path, status) in cases {
            assert_eq!(parse(path).unwrap_err().status(), status, "{path}");
        }
    }

    #[test]
    fn keys_of_other_parts_have_no_path() {
        for parts in [
            vec![],
            vec![Part::from("")],
            vec![Part::from("a"), Part::Bool(true)],
        ] {
            assert_eq!(format(&parts), None);
        }
    }
}
