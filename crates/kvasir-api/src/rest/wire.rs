//! Bodies and headers of requests and answers, and all limits of the dialect.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kvasir_kv::{
    AtomicWrite, Check, Encoding, Entry, Key, Limits, Mutation, SumBounds, UnixMillis, Value,
    Versionstamp,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::json::{self, JsonError};
use crate::time::rfc3339;
use crate::{key_json, v8json};

use super::keypath;

/// Room in a body for what stands around the value, in bytes.
const PUT_ENVELOPE_BYTES_MAX: usize = 16 * 1024;

/// Largest body of an atomic write unless one value may be larger, in bytes.
const ATOMIC_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most checks, and most mutations, of one atomic write. KV Connect allows 1,000 mutations.
pub(super) const ATOMIC_PARTS_MAX: usize = 1_000;

/// The versionstamp of the entry in an answer.
pub(super) const VERSIONSTAMP: HeaderName = HeaderName::from_static("x-kv-versionstamp");

/// When the entry in an answer expires.
pub(super) const EXPIRES_AT: HeaderName = HeaderName::from_static("x-kv-expires-at");

/// Where to go on after a list that was cut.
pub(super) const CURSOR: HeaderName = HeaderName::from_static("x-kv-cursor");

/// Largest body of a PUT, in bytes. A tagged form of bytes is a third longer than its value.
pub(super) fn put_body_bytes_max(limits: &Limits) -> usize {
    limits.value_bytes_max / 3 * 4 + PUT_ENVELOPE_BYTES_MAX
}

/// Largest body of an atomic write, in bytes.
pub(super) fn atomic_body_bytes_max(limits: &Limits) -> usize {
    ATOMIC_BODY_BYTES_MAX.max(put_body_bytes_max(limits))
}

/// Whether the client asks for a media type by its name.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let refused = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        name.trim().eq_ignore_ascii_case(media_type) && !refused
    })
}

/// The body of a PUT, understood.
#[derive(Debug)]
pub(super) struct Put {
    /// What to store.
    pub(super) value: Value,
    /// Until when.
    pub(super) expires_at: Option<UnixMillis>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "raw")]
    ttl: Option<&'a RawValue>,
}

/// Reads `{"value": …, "ttl": …}`.
///
/// # Errors
///
/// 400, naming the member and what is wrong with it.
pub(super) fn read_put(body: &Bytes, now: UnixMillis) -> Result<Put, ApiError> {
    let read: PutBody<'_> = json::read_object("the body", body).map_err(bad_body)?;
    Ok(Put {
        value: read_value(read.value, "value")?,
        expires_at: read.ttl.map(|ttl| read_ttl(ttl, now, "ttl")).transpose()?,
    })
}

fn bad_body(error: JsonError) -> ApiError {
    match error {
        JsonError::Malformed(detail) => {
            ApiError::bad_request(format!("the body is not as it must be: {detail}"))
        }
        other => ApiError::bad_request(other.to_string()),
    }
}

/// A value as it is to be stored: JSON text as it came in, without holding on to the body around it;
/// tagged forms as what they stand for.
fn read_value(raw: &RawValue, member: &str) -> Result<Value, ApiError> {
    json::check_depth(raw.get().as_bytes())
        .map_err(|error| ApiError::bad_request(format!("`{member}`: {error}")))?;
    let text = Bytes::copy_from_slice(raw.get().as_bytes());
    v8json::parse(&text).map_err(|error| ApiError::bad_request(format!("`{member}`: {error}")))
}

/// Milliseconds from now, as the moment they end.
fn read_ttl(raw: &RawValue, now: UnixMillis, member: &str) -> Result<UnixMillis, ApiError> {
    let bad = || {
        ApiError::bad_request(format!(
            "`{member}` must be an integer of milliseconds above 0"
        ))
    };
    let ttl_ms = whole_number(raw.get())
        .filter(|ttl| *ttl > 0)
        .ok_or_else(bad)?;
    let end = now.checked_add_ms(ttl_ms);
    end.filter(|end| *end <= UnixMillis::MAX_RFC3339)
        .ok_or_else(|| ApiError::bad_request(format!("`{member}` ends after the year 9999")))
}

/// The integer that a JSON number stands for, also when it is written as `6e4` or `60000.0`. What
/// is larger than 64 bits is given as the largest.
fn whole_number(text: &str) -> Option<i64> {
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number: f64 = text.parse().ok().filter(|_| is_number)?;
    // A cast from a double saturates.
    (number.fract() == 0.0 || number.is_infinite()).then_some(number as i64)
}

/// An atomic write, understood.
#[derive(Debug)]
pub(super) struct Atomic {
    /// What to commit.
    pub(super) write: AtomicWrite,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtomicBody<'a> {
    #[serde(borrow, default)]
    checks: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    mutations: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    /// `null` is a state of its own, so the member has to be there.
    #[serde(deserialize_with = "present")]
    versionstamp: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// A member that may be missing, but whose `null` is a value like any other.
fn raw<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MutationBody<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "raw")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    ttl: Option<&'a RawValue>,
}

/// Reads the body of `POST /kv/_atomic`.
///
/// # Errors
///
/// 400, naming the member and what is wrong with it.
pub(super) fn read_atomic(body: &Bytes, now: UnixMillis) -> Result<Atomic, ApiError> {
    let read: AtomicBody<'_> = json::read_object("the body", body).map_err(bad_body)?;
    for (what, parts) in [("checks", &read.checks), ("mutations", &read.mutations)] {
        if parts.len() > ATOMIC_PARTS_MAX {
            return Err(ApiError::bad_request(format!(
                "{} {what}, over the limit of {ATOMIC_PARTS_MAX}",
                parts.len()
            ))
            .with_code("too_many"));
        }
    }
    let checks = read.checks.iter().enumerate().map(read_check);
    let mutations = read.mutations.iter().enumerate();
    let mutations = mutations.map(|(index, raw)| read_mutation(index, raw, now));
    Ok(Atomic {
        write: AtomicWrite {
            checks: checks.collect::<Result<_, _>>()?,
            mutations: mutations.collect::<Result<_, _>>()?,
            report_existed: false,
        },
    })
}

fn read_check((index, raw): (usize, &&RawValue)) -> Result<Check, ApiError> {
    let check: CheckBody<'_> = json::read_object("a check", raw.get().as_bytes())
        .map_err(|error| ApiError::bad_request(format!("`checks[{index}]`: {error}")))?;
    let stamp = check
        .versionstamp
        .map(|stamp| stamp.parse::<Versionstamp>());
    let stamp = stamp.transpose().map_err(|error| {
        ApiError::bad_request(format!("`checks[{index}].versionstamp`: {error}, or null"))
    })?;
    Ok(Check {
        key: read_key(check.key, || format!("checks[{index}].key"))?,
        versionstamp: stamp,
    })
}

fn read_key(raw: &RawValue, member: impl Fn() -> String) -> Result<Key, ApiError> {
    let key = key_json::parse(raw.get())
        .map_err(|error| ApiError::bad_request(format!("`{}`: {error}", member())))?;
    match key.is_empty() {
        true => Err(ApiError::bad_request(format!(
            "`{}` must have at least one part",
            member()
        ))),
        false => Ok(key),
    }
}

fn read_mutation(index: usize, raw: &RawValue, now: UnixMillis) -> Result<Mutation, ApiError> {
    let at = |member: &str| format!("mutations[{index}].{member}");
    let body: MutationBody<'_> = json::read_object("a mutation", raw.get().as_bytes())
        .map_err(|error| ApiError::bad_request(format!("`mutations[{index}]`: {error}")))?;
    let key = read_key(body.key, || at("key"))?;
    let wrong = |member: &str, what: &str| {
        ApiError::bad_request(format!(
            "`{}` {what} for the type `{}`",
            at(member),
            body.kind.escape_debug()
        ))
    };
    let value = match (&*body.kind, body.value) {
        ("set" | "sum" | "min" | "max", Some(raw)) => Some(read_value(raw, &at("value"))?),
        ("set" | "sum" | "min" | "max", None) => return Err(wrong("value", "is missing")),
        ("delete", Some(_)) => return Err(wrong("value", "is not allowed")),
        _ => None,
    };
    let expires_at = match (&*body.kind, body.ttl) {
        ("set", Some(ttl)) => Some(read_ttl(ttl, now, &at("ttl"))?),
        (_, Some(_)) => return Err(wrong("ttl", "is not allowed")),
        (_, None) => None,
    };
    match (&*body.kind, value) {
        ("set", Some(value)) => Ok(Mutation::set_expiring(key, value, expires_at)),
        ("delete", None) => Ok(Mutation::delete(key)),
        ("sum", Some(operand)) => Ok(Mutation::Sum {
            key,
            operand,
            bounds: SumBounds::default(),
        }),
        ("min", Some(operand)) => Ok(Mutation::Min { key, operand }),
        ("max", Some(operand)) => Ok(Mutation::Max { key, operand }),
        _ => Err(ApiError::bad_request(format!(
            "`{}` must be set, delete, sum, min or max",
            at("type")
        ))),
    }
}

/// The headers that tell an entry's version and end.
pub(super) fn write_headers(
    stamp: Versionstamp,
    expires_at: Option<UnixMillis>,
    headers: &mut HeaderMap,
) {
    let (tag, stamp) = tag_of(stamp);
    headers.insert(header::ETAG, tag);
    headers.insert(VERSIONSTAMP, stamp);
    if let Some(at) = expires_at {
        let at = HeaderValue::try_from(rfc3339(at)).expect("a time is a header value");
        headers.insert(EXPIRES_AT, at);
    }
}

/// A versionstamp as entity tag and as it is, both in one allocation.
fn tag_of(stamp: Versionstamp) -> (HeaderValue, HeaderValue) {
    const DIGITS: usize = 20;
    let mut text = [b'"'; DIGITS + 2];
    data_encoding::HEXLOWER.encode_mut(stamp.as_bytes(), &mut text[1..=DIGITS]);
    let tag = Bytes::copy_from_slice(&text);
    let stamp = tag.slice(1..=DIGITS);
    let value = |bytes| HeaderValue::from_maybe_shared(bytes);
    let proof = "hexadecimal digits in quotes are a header value";
    (value(tag).expect(proof), value(stamp).expect(proof))
}

/// The answer to a GET of one entry: the value itself.
pub(super) fn entry_response(entry: &Entry, request: &HeaderMap) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut response = if entry.value.encoding == Encoding::Bytes {
        let raw = accepts(request, "application/octet-stream");
        let (body, content_type) = match raw {
            true => (
                entry.value.bytes.clone(),
                HeaderValue::from_static("application/octet-stream"),
            ),
            false => (v8json::render(&entry.value).text, JSON),
        };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    } else {
        let mut response = Response::new(Body::from(v8json::render(&entry.value).text));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        response
    };
    write_headers(entry.versionstamp, entry.expires_at, response.headers_mut());
    response
}

/// The answer to a GET with `meta=true`.
pub(super) fn meta_response(entry: &Entry) -> Response {
    let mut body = Vec::with_capacity(entry.value.len() + 256);
    write_entry(entry, true, &mut body);
    let mut response = json_response(body);
    write_headers(entry.versionstamp, entry.expires_at, response.headers_mut());
    response
}

/// 200 with a JSON body.
pub(super) fn json_response(body: impl Into<Body>) -> Response {
    let headers = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )];
    (headers, body.into()).into_response()
}

/// 304.
pub(super) fn not_modified(entry: &Entry) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    write_headers(entry.versionstamp, entry.expires_at, response.headers_mut());
    response
}

/// The answer to a PUT.
pub(super) fn stored_response(
    key: &Key,
    stamp: Versionstamp,
    expires_at: Option<UnixMillis>,
) -> Response {
    let mut body = Vec::with_capacity(128 + key.len());
    body.extend_from_slice(b"{\"ok\":true,\"key\":");
    let parts = key.parts().unwrap_or_default();
    key_json::write(&parts, &mut body);
    write_state(Some(stamp), expires_at, &mut body);
    body.push(b'}');
    let mut response = json_response(body);
    write_headers(stamp, expires_at, response.headers_mut());
    response.headers_mut().remove(EXPIRES_AT);
    response
}

/// Appends an entry in the entry shape. Values of several lines stay so.
pub(super) fn write_entry(entry: &Entry, has_value: bool, out: &mut Vec<u8>) {
    write_key(&entry.key, out);
    if has_value {
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(&v8json::render(&entry.value).text);
    }
    write_state(Some(entry.versionstamp), entry.expires_at, out);
    out.push(b'}');
}

/// Appends the entry shape of a key that holds nothing.
pub(super) fn write_absent(key: &Key, out: &mut Vec<u8>) {
    write_key(key, out);
    out.extend_from_slice(b",\"value\":null");
    write_state(None, None, out);
    out.push(b'}');
}

/// Keys that are no tuple, which Deno's wire format allows, are shown as their bytes.
fn write_key(key: &Key, out: &mut Vec<u8>) {
    let parts = key.parts();
    out.extend_from_slice(b"{\"key\":");
    match &parts {
        Ok(parts) => key_json::write(parts, out),
        Err(_) => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"path\":");
    match parts.as_deref().ok().and_then(keypath::format) {
        Some(path) => key_json::write_string(&path, out),
        None => out.extend_from_slice(b"null"),
    }
    if parts.is_err() {
        out.extend_from_slice(b",\"rawKey\":");
        let bytes = data_encoding::BASE64.encode(key.as_bytes());
        key_json::write_string(&bytes, out);
    }
}

fn write_state(stamp: Option<Versionstamp>, expires_at: Option<UnixMillis>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"versionstamp\":");
    write_optional(stamp.map(|stamp| stamp.to_string()), out);
    out.extend_from_slice(b",\"expiresAt\":");
    write_optional(expires_at.map(rfc3339), out);
}

fn write_optional(text: Option<String>, out: &mut Vec<u8>) {
    match text {
        Some(text) => key_json::write_string(&text, out),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_json_writes_them() {
        for (text, number) in [
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("6e4", Some(60_000)),
            ("60000.0", Some(60_000)),
            ("1e999", Some(i64::MAX)),
            ("99999999999999999999", Some(i64::MAX)),
            ("0.5", None),
            ("null", None),
            ("\"1\"", None),
            ("true", None),
            ("[1]", None),
        ] {
            assert_eq!(whole_number(text), number, "{text}");
        }
    }

    #[test]
    fn a_stored_value_does_not_hold_on_to_its_body() {
        let body = Bytes::from_static(br#"  {"value": [1, 2], "ttl": 5}  "#);
        let put = read_put(&body, UnixMillis(100)).unwrap();
        assert_eq!(put.value, Value::json("[1, 2]"));
        assert_eq!(put.expires_at, Some(UnixMillis(105)));
        let place = put.value.bytes.as_ptr() as usize;
        let of_body = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
        assert!(!of_body.contains(&place));
    }
}
