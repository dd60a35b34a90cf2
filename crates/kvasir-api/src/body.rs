//! Request bodies with a limit, and what they say they are.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use crate::error::ApiError;

/// Why a body broke off: the client sent it too slowly. Listeners put it into the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body came too slowly")]
pub struct TooSlow;

/// The failure of a request whose body broke off.
pub fn broken(error: &axum::Error) -> ApiError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<TooSlow>() {
            return ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                "the body came too slowly",
            );
        }
        source = cause.source();
    }
    ApiError::bad_request("the body ended early")
}

/// Reads a whole body of at most `limit_bytes`.
///
/// A `Content-Length` above the limit is refused before anything is read.
///
/// # Errors
///
/// 413 above the limit, 408 if it comes too slowly, 400 if the body ends early or breaks.
pub async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let too_large =
        || ApiError::too_large(format!("the body is over the limit of {limit_bytes} bytes"));
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit_bytes as u64) {
        return Err(too_large());
    }
    let mut body = body;
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(0, Bytes::len) + rest.len();
        if so_far + data.len() > limit_bytes {
            return Err(too_large());
        }
        match &first {
            // One frame is the common case and needs no copy.
            None => first = Some(data),
            Some(_) => rest.extend_from_slice(&data),
        }
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// Refuses bodies that say they are something other than JSON, or compressed: a small one could
/// become huge. A body that says nothing is taken for JSON.
///
/// # Errors
///
/// 415.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let identity = HeaderValue::from_static("identity");
        return Err(unsupported("the body must be sent without compression")
            .with_header(header::ACCEPT_ENCODING, identity));
    }
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| is_json(value.to_str().unwrap_or_default())) {
        return Ok(());
    }
    let json = HeaderValue::from_static("application/json");
    Err(
        unsupported("the body must be sent as application/json in UTF-8")
            .with_header(header::ACCEPT, json),
    )
}

fn is_json(content_type: &str) -> bool {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("charset")
            .then(|| value.trim_matches('"'))
    });
    kind.trim().eq_ignore_ascii_case("application/json")
        && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

fn unsupported(detail: &'static str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        detail,
    )
}
