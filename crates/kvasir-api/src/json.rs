//! JSON that is kept as it came in.
//!
//! Values are stored as the bytes that clients sent and served without parsing again. So what
//! comes in is checked once, here: well-formed, UTF-8, and not nested deeper than every later reader
//! can bear. Escaped lone surrogates and numbers beyond a double are legal JSON and are kept.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects. The limit of `serde_json`, and LIM-1 of the operations
/// contract.
pub const JSON_DEPTH_MAX: usize = 128;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is not JSON, or not of the shape asked for; the text says what and where.
    #[error("{0}")]
    Malformed(String),
    /// Arrays and objects nest too deep.
    #[error("arrays and objects are nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// Something else stands where an object has to be.
    #[error("{0} must be a JSON object")]
    NotAnObject(&'static str),
}

/// Refuses a well-formed JSON text whose nesting is over [`JSON_DEPTH_MAX`].
///
/// # Errors
///
/// [`JsonError::TooDeep`].
pub fn check_depth(text: &[u8]) -> Result<(), JsonError> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(JsonError::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(text, at),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The place of the quote that ends the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Checks that a text is one JSON value, within [`JSON_DEPTH_MAX`], and gives it without the space
/// around it.
///
/// # Errors
///
/// [`JsonError`].
pub fn check(text: &[u8]) -> Result<&RawValue, JsonError> {
    let value: &RawValue = serde_json::from_slice(text).map_err(malformed)?;
    check_depth(value.get().as_bytes())?;
    Ok(value)
}

/// Reads an object into a struct. Unlike `serde_json` it does not take an array of the members'
/// values for the object; `what` names the text for the client.
///
/// # Errors
///
/// [`JsonError`].
pub fn read_object<'a, T: serde::Deserialize<'a>>(
    what: &'static str,
    text: &'a [u8],
) -> Result<T, JsonError> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => serde_json::from_slice(text).map_err(malformed),
        // Other well-formed values are of the wrong shape, the rest is no JSON at all.
        _ => match check(text) {
            Ok(_) => Err(JsonError::NotAnObject(what)),
            Err(error) => Err(error),
        },
    }
}

/// Reads an object into a struct that keeps nothing of the text.
///
/// # Errors
///
/// [`JsonError`].
pub fn read_owned<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, JsonError> {
    read_object(what, text)
}

fn malformed(error: serde_json::Error) -> JsonError {
    JsonError::Malformed(error.to_string())
}

/// Puts a well-formed JSON text on one line, for forms that separate texts by lines. Line breaks
/// outside of strings mean nothing, and inside of strings JSON has none.
pub fn put_on_one_line(text: &mut [u8]) {
    for byte in text {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check_depth(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(
            check_depth(nested(JSON_DEPTH_MAX + 1).as_bytes()),
            Err(JsonError::TooDeep)
        );
        let brackets = format!(r#"["{}", "\"[", {{"[\\":[]}}]"#, "[{".repeat(1_000));
        assert_eq!(check_depth(brackets.as_bytes()), Ok(()));
        assert_eq!(
            check("[".repeat(1_000_000).as_bytes()).err().map(|_| ()),
            Some(())
        );
    }

    #[test]
    fn values_are_given_without_the_space_around_them() {
        assert_eq!(check(b" [1,\n 2]\t").unwrap().get(), "[1,\n 2]");
        for bad in ["", "1 2", "{", "nul", "\u{feff}1", "'a'", "[1,]", "01"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err(), "not UTF-8");
        assert!(check(br#""\ud800""#).is_ok(), "a lone surrogate is kept");
    }

    #[test]
    fn an_array_is_not_taken_for_an_object() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Pair {
            a: u8,
        }
        assert_eq!(read_owned("the body", br#" {"a":1}"#), Ok(Pair { a: 1 }));
        assert_eq!(
            read_owned::<Pair>("the body", b"[1]"),
            Err(JsonError::NotAnObject("the body"))
        );
    }

    #[test]
    fn line_breaks_become_spaces() {
        let mut text = b"{\r\n\"a\":\"\\n\"}".to_vec();
        put_on_one_line(&mut text);
        assert_eq!(text, b"{  \"a\":\"\\n\"}");
    }
}
