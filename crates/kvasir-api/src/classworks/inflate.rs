//! Encodings of request bodies.

use std::io::Read;

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

use crate::error::ApiError;

use super::error;

/// How much compressed data brotli takes in at a time, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

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

/// Undoes the `Content-Encoding` of a body: gzip, deflate (in its zlib form) or brotli, as the
/// original's body parser does. The limit holds for what comes out, so a small body cannot become a
/// huge one.
///
/// # Errors
///
/// 415 for other encodings and for several at once, 413 above the limit, 400 for a damaged body.
pub(super) fn undo(headers: &HeaderMap, body: Bytes, bytes_max: usize) -> Result<Bytes, ApiError> {
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        None => return Ok(body),
        Some(encoding) => encoding.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
    };
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => inflated(MultiGzDecoder::new(&*body), bytes_max),
        "deflate" => inflated(ZlibDecoder::new(&*body), bytes_max),
        "br" => inflated(Decompressor::new(&*body, BROTLI_BUFFER_BYTES), bytes_max),
        other => Err(error::unsupported("Content-Encoding", other)),
    }
}

fn inflated(reader: impl Read, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    let read = reader.take(bytes_max as u64 + 1).read_to_end(&mut out);
    read.map_err(|_| error::damaged())?;
    match out.len() > bytes_max {
        true => Err(error::too_large()),
        false => Ok(out.into()),
    }
}
