//! Query parameters. Unknown ones are ignored, as HTTP intermediaries add their own.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The parameters of a target, decoded.
#[derive(Debug, Default)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes a query to pieces.
    ///
    /// # Errors
    ///
    /// 400 for what is no percent-encoding of UTF-8 text.
    pub fn parse(raw: &'a str) -> Result<Query<'a>, ApiError> {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Query(decoded.collect::<Result<_, ApiError>>()?))
    }

    /// A parameter that is given at most once.
    ///
    /// # Errors
    ///
    /// 400 if it is given twice.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let value = values.next();
        if values.next().is_some() {
            let detail = format!("the query parameter `{name}` is given twice");
            return Err(ApiError::bad_request(detail));
        }
        Ok(value.map(|(_, value)| value.as_ref()))
    }

    /// `true` or `1`, `false` or `0`; `default` if it is not given.
    ///
    /// # Errors
    ///
    /// 400 for another value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.text(name)? {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(ApiError::bad_request(format!(
                "the query parameter `{name}` must be true, 1, false or 0"
            ))),
        }
    }

    /// A parameter of a type of its own; `what` says what it must be.
    ///
    /// # Errors
    ///
    /// 400 for another value.
    pub fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ApiError> {
        let value = self.text(name)?.map(str::parse);
        let bad = |_| ApiError::bad_request(format!("the query parameter `{name}` must be {what}"));
        value.transpose().map_err(bad)
    }
}

/// Undoes the encoding of forms, in which a plus sign is a space.
fn decode(raw: &str) -> Result<Cow<'_, str>, ApiError> {
    if !raw.contains('+') {
        return percent_decode(raw);
    }
    let spaced = raw.replace('+', " ");
    let decoded = percent_decode(&spaced)?.into_owned();
    Ok(Cow::Owned(decoded))
}

/// Undoes percent-encoding.
///
/// # Errors
///
/// 400 for what is no percent-encoding of UTF-8 text.
pub fn percent_decode(raw: &str) -> Result<Cow<'_, str>, ApiError> {
    let is_hex = |at: usize| raw.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut escapes = raw.bytes().enumerate().filter(|(_, byte)| *byte == b'%');
    if !escapes.all(|(at, _)| is_hex(at + 1) && is_hex(at + 2)) {
        return Err(ApiError::bad_request(
            "a percent sign must be followed by two hexadecimal digits; itself it is written %25",
        ));
    }
    percent_decode_str(raw).decode_utf8().map_err(|_| {
        ApiError::bad_request("the percent-encoded bytes of the target are not UTF-8 text")
    })
}
