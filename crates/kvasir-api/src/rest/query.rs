//! Query parameters. Unknown ones are ignored, as HTTP intermediaries add their own.

use std::borrow::Cow;
use std::str::FromStr;

use kvasir_kv::Key;

use crate::error::ApiError;
use crate::key_json;

use super::keypath;

/// The parameters of a target, decoded.
#[derive(Debug, Default)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes a query to pieces.
    ///
    /// # Errors
    ///
    /// 400 for what is no percent-encoding of UTF-8 text.
    pub(super) fn parse(raw: &'a str) -> Result<Query<'a>, ApiError> {
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
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
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
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
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
    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ApiError> {
        let value = self.text(name)?.map(str::parse);
        let bad = |_| ApiError::bad_request(format!("the query parameter `{name}` must be {what}"));
        value.transpose().map_err(bad)
    }

    /// A keypath.
    ///
    /// # Errors
    ///
    /// 400, naming the parameter.
    pub(super) fn keypath(&self, name: &str) -> Result<Option<Key>, ApiError> {
        let path = self.text(name)?.map(keypath::parse_decoded);
        path.transpose().map_err(|error| {
            ApiError::bad_request(format!("the query parameter `{name}`: {}", error.detail()))
        })
    }

    /// `key=<json>`, a key as an array of parts.
    ///
    /// # Errors
    ///
    /// 400 for what is no key.
    pub(super) fn typed_key(&self) -> Result<Option<Key>, ApiError> {
        let key = self.text("key")?.map(key_json::parse);
        let bad = |error| ApiError::bad_request(format!("the query parameter `key`: {error}"));
        key.transpose().map_err(bad)
    }
}

/// Undoes the encoding of forms, in which a plus sign is a space.
fn decode(raw: &str) -> Result<Cow<'_, str>, ApiError> {
    if !raw.contains('+') {
        return keypath::percent_decode(raw);
    }
    let spaced = raw.replace('+', " ");
    let decoded = keypath::percent_decode(&spaced)?.into_owned();
    Ok(Cow::Owned(decoded))
}
