//! EdgeKV's requests and answers, and every limit they have.
//!
//! [`names`] are what paths hold, [`namespace`] and [`token`] the bodies of those two resources.
//! Here are the rules that all share: bodies are JSON objects, and numbers and booleans in them may be
//! written as strings, because that is how the documented command lines send them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use kvasir_kv::{Encoding, Meta, UnixMillis, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error;
use crate::body;
use crate::error::ApiError;
use crate::v8json;

pub(super) mod names;
pub(super) mod namespace;
pub(super) mod token;

pub use names::Network;

/// Largest body of a request that is no item, in bytes. Requests of 128 KiB and more have to be read
/// because the signature of a `POST` covers that much.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest body of `GET` and `DELETE`, in bytes; it is read and thrown away.
pub(super) const IGNORED_BODY_BYTES_MAX: usize = 64 * 1024;

/// How much of a body beyond its limit is read, in bytes, so that the client gets to see the answer
/// instead of a broken connection.
const DRAINED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Item values.
pub(super) const TEXT: &str = "text/plain;charset=utf-8";
/// Listings of groups and items.
pub(super) const JSON_LISTING: &str = "application/json;charset=utf-8";
/// Everything else.
pub(super) const JSON: &str = "application/json";

/// A whole body of at most `limit_bytes`; `None` above it.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
) -> Result<Option<Bytes>, ApiError> {
    let announced = body.size_hint().lower();
    if announced > limit_bytes as u64 {
        drain(body).await;
        return Ok(None);
    }
    match body::read(headers, body, limit_bytes).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Ok(None),
        Err(error) => Err(error),
    }
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DRAINED_BYTES_MAX {
            return;
        }
    }
}

/// The JSON object in a body; members that `T` does not have are ignored.
///
/// # Errors
///
/// 413 above [`BODY_BYTES_MAX`]; 422 if it is not a JSON object or has a member of `T` twice.
pub(super) async fn read_object<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    let bytes = read_body(headers, body, BODY_BYTES_MAX).await?;
    object(&bytes.ok_or_else(body_too_large)?)
}

/// As [`read_object`], but an empty body is `None`.
pub(super) async fn read_optional_object<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<T>, ApiError> {
    let bytes = read_body(headers, body, BODY_BYTES_MAX).await?;
    let bytes = bytes.ok_or_else(body_too_large)?;
    match bytes.trim_ascii() {
        b"" => Ok(None),
        // What the vendor's command line sends where there is nothing to say.
        br#""""# => Ok(None),
        bytes => object(bytes).map(Some),
    }
}

pub(super) fn body_too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        error::INVALID,
        format!("The request body cannot exceed {BODY_BYTES_MAX} bytes."),
    )
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Without this look an array would pass for a structure.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(error::not_json());
    }
    serde_json::from_slice(bytes).map_err(|_| error::not_json())
}

/// A whole number, or a string of one. `None` for everything else.
pub(super) fn whole_number(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(number) => number.as_u64().or_else(|| {
            let number = number.as_f64()?;
            // Some encoders write 86400.0; up to 2^53 that is exact.
            let is_exact =
                number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
            is_exact.then_some(number as u64)
        }),
        serde_json::Value::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        }
        _ => None,
    }
}

/// A boolean, or a string of one. `None` for everything else.
pub(super) fn boolean(value: &serde_json::Value) -> Option<bool> {
    match value {
        serde_json::Value::Bool(value) => Some(*value),
        serde_json::Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        serde_json::Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The parameters of a query. Unknown ones are ignored.
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Query<'a> {
        Query(uri.query().unwrap_or_default())
    }

    /// The first value of a parameter.
    pub(super) fn first(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.0.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether a switch is on; it may be spelled `true` or `on`.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.first(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "on"))
    }

    /// A positive number, at most `max`; `max` if it is not given.
    pub(super) fn limit(&self, name: &str, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.first(name) else {
            return Ok(max);
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits {
            // More digits than fit are over every limit.
            text.parse().unwrap_or(usize::MAX)
        } else {
            0
        };
        match number {
            0 => Err(error::invalid(format!(
                "{name} must be a positive integer."
            ))),
            number => Ok(number.min(max)),
        }
    }
}

/// How the body of an item write is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemType {
    Json,
    Text,
    /// No content type. Kept byte for byte like text; other dialects get to see JSON if it is some.
    Unknown,
}

impl ItemType {
    fn of(headers: &HeaderMap) -> Result<ItemType, ApiError> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(ItemType::Unknown);
        };
        let text = value.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Ok(ItemType::Json),
            "application/text" | "text/plain" => Ok(ItemType::Text),
            "" => Ok(ItemType::Unknown),
            _ => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                error::INVALID,
                "The Content-Type must be application/json, application/text or text/plain.",
            )),
        }
    }
}

/// A value as it is to be stored, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemValue {
    pub(super) value: Value,
    pub(super) meta: Option<Meta>,
}

/// Reads the value of an item write.
///
/// # Errors
///
/// 415 for an unknown content type, 413 above the limit, 400 `EKV_2001` for JSON that is none.
pub(super) async fn read_item(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
) -> Result<ItemValue, ApiError> {
    let item_type = ItemType::of(headers)?;
    let bytes = read_body(headers, body, limit_bytes).await?;
    let bytes = bytes.ok_or_else(|| error::value_too_large(limit_bytes))?;
    item_value(item_type, bytes)
}

fn item_value(item_type: ItemType, bytes: Bytes) -> Result<ItemValue, ApiError> {
    let is_json = match item_type {
        ItemType::Json if !is_json(&bytes) => {
            return Err(error::invalid("The value is not valid JSON.").with_code(error::NOT_JSON));
        }
        ItemType::Json => true,
        ItemType::Text => false,
        ItemType::Unknown => {
            let is_structure = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
            is_structure && is_json(&bytes)
        }
    };
    Ok(if is_json {
        ItemValue {
            value: Value::json(bytes),
            meta: None,
        }
    } else {
        ItemValue {
            value: Value::bytes(bytes),
            meta: Some(Meta {
                content_type: Some("text/plain".to_owned()),
                ..Meta::default()
            }),
        }
    })
}

/// Whether bytes are one JSON text, whatever its depth.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// The text of a stored value. What other dialects write in a form that is no text is shown as REST
/// shows it.
pub(super) fn item_text(value: &Value) -> Bytes {
    match value.encoding {
        Encoding::Json | Encoding::Bytes => value.bytes.clone(),
        Encoding::U64 | Encoding::V8 => v8json::render(value).text,
    }
}

/// A JSON answer.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    json_of(status, JSON, body)
}

/// A JSON answer with 200 whose content type names its character set.
pub(super) fn json_listing<T: Serialize>(body: &T) -> Response {
    json_of(StatusCode::OK, JSON_LISTING, body)
}

fn json_of<T: Serialize>(status: StatusCode, content_type: &'static str, body: &T) -> Response {
    let body = serde_json::to_vec(body).expect("answers have string keys and finite numbers");
    let content_type = HeaderValue::from_static(content_type);
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// A text answer with 200.
pub(super) fn text(body: impl Into<Body>) -> Response {
    let content_type = HeaderValue::from_static(TEXT);
    ([(header::CONTENT_TYPE, content_type)], body.into()).into_response()
}

/// A moment as most answers write it: RFC 3339 in UTC, to the second.
pub(super) fn instant(at: UnixMillis) -> String {
    format!("{:.0}", timestamp(at))
}

/// A moment to the millisecond, as schedules write it.
pub(super) fn precise_instant(at: UnixMillis) -> String {
    format!("{:.3}", timestamp(at))
}

/// The day of a moment in UTC, as `2026-01-02`.
pub(super) fn day(at: UnixMillis) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(timestamp(at)).date()
}

fn timestamp(at: UnixMillis) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX)
}

/// The first moment of a day in UTC.
pub(super) fn start_of(day: jiff::civil::Date) -> UnixMillis {
    let zoned = day.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.map_or(UnixMillis::MAX_RFC3339, |zoned| {
        UnixMillis(zoned.timestamp().as_millisecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_booleans_may_be_strings() {
        for (value, expected) in [
            (json!(0), Some(0)),
            (json!("0"), Some(0)),
            (json!(86400), Some(86400)),
            (json!(86400.0), Some(86400)),
            (json!("2592000"), Some(2_592_000)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!("18446744073709551616"), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!("+1"), None),
            (json!(1.5), None),
            (json!(1e300), None),
            (json!("1.0"), None),
            (json!(""), None),
            (json!(" 1"), None),
            (json!(true), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(whole_number(&value), expected, "{value}");
        }
        for (value, expected) in [
            (json!(true), Some(true)),
            (json!("true"), Some(true)),
            (json!("False"), Some(false)),
            (json!("yes"), None),
            (json!(1), None),
        ] {
            assert_eq!(boolean(&value), expected, "{value}");
        }
    }

    #[test]
    fn json_of_any_depth_is_checked_without_a_stack_of_that_depth() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_json(deep.as_bytes()));
        assert!(!is_json(&deep.as_bytes()[1..]));
        for scalar in ["123", "true", "null", "\"text\"", " 1\n"] {
            assert!(is_json(scalar.as_bytes()), "{scalar}");
        }
        for bad in [
            &b""[..],
            b"{",
            b"{} x",
            b"\"\xff\"",
            b"'a'",
            b"\xef\xbb\xbf1",
        ] {
            assert!(!is_json(bad), "{bad:?}");
        }
    }

    #[test]
    fn values_without_a_content_type_are_kept_as_they_are() {
        let encoding = |text: &'static str| {
            let read = item_value(ItemType::Unknown, text.into()).unwrap();
            assert_eq!(read.value.bytes, text);
            read.value.encoding
        };
        assert_eq!(encoding(" {\"a\": 1}"), Encoding::Json);
        assert_eq!(encoding("[1]\n"), Encoding::Json);
        assert_eq!(encoding("{broken"), Encoding::Bytes);
        assert_eq!(encoding("12"), Encoding::Bytes);
        assert_eq!(encoding(""), Encoding::Bytes);
    }

    #[test]
    fn moments_are_written_in_utc() {
        let at = UnixMillis(1_767_323_045_350);
        assert_eq!(instant(at), "2026-01-02T03:04:05Z");
        assert_eq!(precise_instant(at), "2026-01-02T03:04:05.350Z");
        assert_eq!(day(UnixMillis(1_767_323_045_000)).to_string(), "2026-01-02");
    }
}
