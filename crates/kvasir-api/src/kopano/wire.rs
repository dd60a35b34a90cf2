//! Requests and answers of this API: keys, parameters, documents, batches, with all their limits.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kvasir_kv::Versionstamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::documents::{Condition, Listing};
use super::layout::{self, Document};
use crate::error::ApiError;

/// Largest document, in bytes. The published description sets it.
pub(super) const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

/// Largest batch body, in bytes: 500 full documents, a third more for Base64, and their frames.
/// The original stops at 8,192,000.
pub(super) const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most entries of a batch. The original has no limit; each entry costs three mutations and a
/// check, which one commit bounds.
pub(super) const BATCH_ENTRIES_MAX: usize = 10_000;

/// Longest key, in bytes. The original's MySQL tables end at 255 characters.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// Longest content type that is kept, in bytes.
pub(super) const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Content type of a document that was stored without one.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// The decoded path behind the realm: percent escapes undone once, valid UTF-8.
///
/// # Errors
///
/// 400 for a broken escape or bytes that are not UTF-8.
pub(super) fn decode(path: &str) -> Result<String, ApiError> {
    let mut rest = path.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ApiError::bad_request(
                "the path has a % without two hexadecimal digits",
            ));
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    let decoded = decoded.map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Refuses keys that the original would have stored under another name or out of reach.
///
/// # Errors
///
/// 400 for a key that is empty, too long, or has empty, `.` or `..` segments.
pub(super) fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(ApiError::bad_request("the key is empty"));
    }
    check_prefix(key)
}

/// As [`check_key`] for the prefix of a listing, which may be empty.
pub(super) fn check_prefix(key: &str) -> Result<(), ApiError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "the key is {} bytes, over the limit of {KEY_BYTES_MAX}",
            key.len()
        )));
    }
    let trimmed = key.strip_suffix('/').unwrap_or(key);
    let is_clean = key.is_empty()
        || !trimmed
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."));
    if is_clean {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "the key has an empty, `.` or `..` segment",
        ))
    }
}

/// Whether a parameter is switched on: its first occurrence is exactly `1`.
pub(super) fn is_on(query: Option<&str>, name: &str) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(known, _)| known == name)
        .is_some_and(|(_, value)| value == "1")
}

/// The content type of a request, as it is to be stored.
///
/// # Errors
///
/// 400 if it is not text or too long.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::bad_request("the Content-Type is not visible ASCII text"))?;
    check_content_type(text)?;
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn check_content_type(text: &str) -> Result<(), ApiError> {
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "the content type is over {CONTENT_TYPE_BYTES_MAX} bytes"
        )));
    }
    // It comes back as a header, so it has to be one.
    match HeaderValue::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::bad_request(
            "the content type has control characters",
        )),
    }
}

/// Checks what a document of its type must be.
///
/// # Errors
///
/// 413 over [`DOCUMENT_BYTES_MAX`], 400 if it is called JSON and is none.
pub(super) fn check_document(document: &Document) -> Result<(), ApiError> {
    if document.bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(ApiError::too_large(format!(
            "the document is {} bytes, over the limit of {DOCUMENT_BYTES_MAX}",
            document.bytes.len()
        )));
    }
    let is_json = document
        .content_type
        .as_deref()
        .is_some_and(layout::is_json);
    let valid = || {
        std::str::from_utf8(&document.bytes)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    };
    if is_json && !valid() {
        return Err(ApiError::bad_request(
            "the content type says JSON, but the body is not JSON",
        ));
    }
    Ok(())
}

/// The condition in `If-Match` or `If-None-Match`.
///
/// # Errors
///
/// 400 for anything but `*` or one entity tag of ours.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<Condition>, ApiError> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or(""))
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (Some("*"), _) => Ok(Some(Condition::Exists)),
        (Some(tag), _) => read_etag(tag)
            .map(|stamp| Some(Condition::Is(stamp)))
            .ok_or_else(|| ApiError::bad_request("If-Match takes `*` or an entity tag from here")),
        (None, Some("*")) => Ok(Some(Condition::Absent)),
        (None, Some(_)) => Err(ApiError::bad_request(
            "If-None-Match takes only `*` on a write",
        )),
    }
}

/// Whether `If-None-Match` of a read names the present state.
pub(super) fn is_unmodified(headers: &HeaderMap, stamp: Versionstamp) -> bool {
    headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .any(|tag| read_etag(tag.trim()) == Some(stamp))
        })
}

fn read_etag(tag: &str) -> Option<Versionstamp> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// The entity tag of a state.
pub(super) fn etag(stamp: Versionstamp) -> HeaderValue {
    HeaderValue::try_from(format!("\"{stamp}\"")).expect("hex digits are a header value")
}

/// One entry of a batch, as far as JSON can tell.
#[derive(Deserialize)]
struct BatchEntry<'a> {
    key: String,
    /// `Some` also for `null`, which is a document.
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    content_type: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// The documents of a batch body, with their full keys.
///
/// # Errors
///
/// 400 for anything but an array of whole entries, 413 for an entry over [`DOCUMENT_BYTES_MAX`].
pub(super) fn batch(prefix: &str, body: &Bytes) -> Result<Vec<(String, Document)>, ApiError> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    check_key(prefix)?;
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::bad_request("the batch is not valid UTF-8"))?;
    let entries: Option<Vec<BatchEntry<'_>>> = serde_json::from_str(text).map_err(|error| {
        ApiError::bad_request(format!("the batch is not an array of documents: {error}"))
    })?;
    let entries = entries.unwrap_or_default();
    if entries.len() > BATCH_ENTRIES_MAX {
        return Err(ApiError::too_large(format!(
            "the batch has {} entries, over the limit of {BATCH_ENTRIES_MAX}",
            entries.len()
        )));
    }
    entries
        .into_iter()
        .map(|entry| {
            check_key(&entry.key)?;
            let key = format!("{prefix}/{}", entry.key);
            check_key(&key)?;
            let document = batch_document(&entry, body)?;
            check_document(&document)?;
            Ok((key, document))
        })
        .collect()
}

fn batch_document(entry: &BatchEntry<'_>, body: &Bytes) -> Result<Document, ApiError> {
    let key = &entry.key;
    let value = entry
        .value
        .ok_or_else(|| ApiError::bad_request(format!("the entry {key:?} has no value")))?;
    let is_string = value.get().starts_with('"');
    let is_json = match &entry.content_type {
        Some(content_type) => layout::is_json(content_type),
        // By the letter a value without a type is Base64; only a string can be that.
        None => !is_string,
    };
    if let Some(content_type) = &entry.content_type {
        check_content_type(content_type)?;
    }
    if is_json {
        let content_type = entry.content_type.clone();
        return Ok(Document {
            content_type: content_type.or_else(|| Some("application/json".to_owned())),
            bytes: body.slice_ref(value.get().as_bytes()),
        });
    }
    let text: String = serde_json::from_str(value.get()).map_err(|_| {
        ApiError::bad_request(format!("the value of {key:?} must be a string of Base64"))
    })?;
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| {
        ApiError::bad_request(format!(
            "the value of {key:?} is not Base64 with the standard alphabet and padding"
        ))
    })?;
    Ok(Document {
        content_type: entry.content_type.clone().filter(|text| !text.is_empty()),
        bytes: bytes.into(),
    })
}

/// One document in its envelope.
pub(super) fn envelope(key: &str, document: &Document) -> Response {
    let mut out = Vec::with_capacity(document.bytes.len() + key.len() + 64);
    push_envelope(&mut out, key, document);
    json(out)
}

/// The envelopes of a listing.
pub(super) fn listing(listing: &Listing) -> Response {
    let bytes: usize = listing
        .documents
        .iter()
        .map(|(_, document)| document.bytes.len() + 128)
        .sum();
    let mut out = Vec::with_capacity(bytes + 2);
    out.push(b'[');
    for (place, (key, document)) in listing.documents.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_envelope(&mut out, key, document);
    }
    out.push(b']');
    let mut response = json(out);
    if listing.is_truncated {
        response
            .headers_mut()
            .insert("kvs-truncated", HeaderValue::from_static("1"));
    }
    response
}

fn push_envelope(out: &mut Vec<u8>, key: &str, document: &Document) {
    out.extend_from_slice(br#"{"key":"#);
    push_string(out, key);
    out.extend_from_slice(br#","value":"#);
    let content_type = document.content_type.as_deref().unwrap_or(UNKNOWN_TYPE);
    if layout::is_json(content_type) {
        out.extend_from_slice(&document.bytes);
        out.extend_from_slice(br#","content_type":"application/json"}"#);
    } else {
        out.push(b'"');
        out.extend_from_slice(BASE64.encode(&document.bytes).as_bytes());
        out.extend_from_slice(br#"","content_type":"#);
        push_string(out, content_type);
        out.push(b'}');
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing text into memory does not fail");
}

fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The stored bytes with their stored type.
pub(super) fn raw(document: Document) -> Response {
    let content_type = document.content_type.as_deref().unwrap_or(UNKNOWN_TYPE);
    let content_type = HeaderValue::from_str(content_type)
        .unwrap_or_else(|_| HeaderValue::from_static(UNKNOWN_TYPE));
    let mut response = Response::new(Body::from(document.bytes));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    // The type is whatever somebody stored, a page too. Opened in a browser it runs nothing.
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// A write that was done: 200 without a body.
pub(super) fn written(stamp: Option<Versionstamp>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    if let Some(stamp) = stamp {
        response.headers_mut().insert(header::ETAG, etag(stamp));
    }
    response
}
