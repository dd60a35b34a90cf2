//! `/entry`: one entry of any keyspace, whole, and changing it only if nobody else did meanwhile.
//!
//! Values keep their type. JSON travels as its text; V8 values in the typed form of exports, with
//! `exact: false` when that form would not give back the very same value (shared objects, holes,
//! damage): such a value can be kept or replaced byte by byte, never rewritten from what is shown.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::{HeaderMap, StatusCode};
use kvasir_kv::{
    AtomicWrite, Encoding, Entry, Key, Mutation, Outcome, UnixMillis, Value, Versionstamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::body;
use crate::context::Ctx;
use crate::error::ApiError;
use crate::key_json;
use crate::query::Query;
use crate::time::rfc3339;
use crate::v8json::{self, Form};

use super::audit::Told;
use super::browse::key_of;
use super::{Administrator, keyspaces, ok};

/// Largest body, in bytes: the largest value as typed JSON or base64, with room around it.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// First byte of a V8 payload, and the formats that are read.
const V8_MARK: u8 = 0xff;

/// An entry with everything that is known about it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    keyspace: String,
    /// Typed parts, as in exports.
    #[schema(value_type = Vec<serde_json::Value>)]
    key: Json,
    /// Size of the encoded key.
    key_bytes: usize,
    /// `json`, `v8`, `u64` or `bytes`.
    encoding: &'static str,
    /// Size of the value.
    bytes: usize,
    versionstamp: String,
    written_at: String,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
    /// The media type it was sent with.
    content_type: Option<String>,
    /// Address of the client that wrote it.
    creator: Option<String>,
    created_at: String,
    /// The text, of JSON.
    text: Option<String>,
    /// The typed form, of V8 values and `u64`.
    #[schema(value_type = Option<serde_json::Value>)]
    typed: Option<Box<RawValue>>,
    /// Whether `text` or `typed` is the whole truth.
    exact: bool,
    /// Base64 of the stored bytes; not for JSON.
    raw: Option<String>,
}

impl EntryView {
    pub(super) fn of(keyspace: &str, entry: &Entry) -> EntryView {
        let value = &entry.value;
        let meta = entry.meta.as_deref();
        let is_typed = matches!(value.encoding, Encoding::V8 | Encoding::U64);
        let typed = is_typed.then(|| v8json::render_as(value, Form::Typed).text);
        let exact = match &typed {
            Some(typed) => v8json::parse_typed(typed).is_ok_and(|again| again == *value),
            None => true,
        };
        let text = match value.encoding {
            Encoding::Json => String::from_utf8(value.bytes.to_vec()).ok(),
            _ => None,
        };
        let raw = text.is_none().then(|| BASE64.encode(&value.bytes));
        EntryView {
            keyspace: keyspace.to_owned(),
            key: v8json::key::to_typed(&entry.key),
            key_bytes: entry.key.len(),
            encoding: value.encoding.name(),
            bytes: value.len(),
            versionstamp: entry.versionstamp.to_string(),
            written_at: rfc3339(entry.versionstamp.time()),
            expires_at: entry.expires_at.map(|at| at.0),
            content_type: meta.and_then(|meta| meta.content_type.clone()),
            creator: meta.and_then(|meta| meta.creator.clone()),
            created_at: rfc3339(entry.created_at()),
            text,
            typed: typed
                .and_then(|typed| String::from_utf8(typed.to_vec()).ok())
                .and_then(|typed| RawValue::from_string(typed).ok()),
            exact,
            raw,
        }
    }
}

/// A change of one entry.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntryChange {
    keyspace: String,
    /// Typed parts, as in exports.
    #[schema(value_type = Vec<serde_json::Value>)]
    key: Json,
    /// The version that was read; `null` if the key must hold nothing.
    versionstamp: Option<String>,
    /// The new value; left out, the value stays as it is.
    #[serde(default)]
    value: Option<NewValue>,
    /// When the entry is to expire, in milliseconds since 1970; `null` for never.
    expires_at: Option<i64>,
}

/// A value: one of `text` (JSON), `typed` and `raw`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewValue {
    /// `json`, `v8`, `u64` or `bytes`.
    encoding: String,
    /// JSON text.
    #[serde(default)]
    text: Option<String>,
    /// The typed form.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    typed: Option<Box<RawValue>>,
    /// Base64 of the bytes.
    #[serde(default)]
    raw: Option<String>,
}

impl NewValue {
    fn read(self) -> Result<Value, ApiError> {
        let bad = |what: String| ApiError::bad_request(format!("`value`: {what}"));
        let encoding = [Encoding::Json, Encoding::V8, Encoding::U64, Encoding::Bytes];
        let encoding = encoding.into_iter().find(|e| e.name() == self.encoding);
        let encoding = encoding.ok_or_else(|| {
            bad(format!(
                "{:?} is none of json, v8, u64, bytes",
                self.encoding
            ))
        })?;
        let value = match (self.text, self.typed, self.raw) {
            (Some(text), None, None) if encoding == Encoding::Json => {
                serde_json::from_str::<serde::de::IgnoredAny>(&text)
                    .map_err(|error| bad(format!("it is not JSON: {error}")))?;
                Value::json(text.into_bytes())
            }
            (None, Some(typed), None) => v8json::parse_typed(typed.get().as_bytes())
                .map_err(|error| bad(error.to_string()))?,
            (None, None, Some(raw)) if encoding != Encoding::Json => {
                let bytes = BASE64.decode(raw.as_bytes());
                let bytes = bytes.map_err(|_| bad("`raw` is written as base64".to_owned()))?;
                Value {
                    encoding,
                    bytes: bytes.into(),
                }
            }
            _ => {
                return Err(bad(
                    "give `text` for JSON, else `typed` or `raw`, one of them".to_owned(),
                ));
            }
        };
        if value.encoding != encoding {
            return Err(bad(format!(
                "it is of the encoding {}, not {}",
                value.encoding.name(),
                encoding.name()
            )));
        }
        let is_v8 = value.bytes.first() == Some(&V8_MARK);
        if encoding == Encoding::V8 && !is_v8 {
            return Err(bad("the bytes are no V8 value".to_owned()));
        }
        Ok(value)
    }
}

/// `GET /_/api/v1/entry`: one entry, whole.
#[utoipa::path(
    get, path = "/_/api/v1/entry", tag = "admin",
    params(
        ("keyspace" = String, Query, description = "where"),
        ("key" = String, Query, description = "an array of key parts as JSON"),
    ),
    responses(
        (status = 200, description = "the entry", body = EntryView),
        (status = 404, description = "the key holds nothing", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn show(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let (keyspace, key) = named(&ctx, &query)?;
    let entry = keyspace.get(&key).await?;
    let entry = entry.ok_or_else(|| ApiError::not_found("the key holds nothing"))?;
    Ok(ok(EntryView::of(keyspace.name().as_str(), &entry)))
}

fn named(ctx: &Ctx, query: &Query<'_>) -> Result<(kvasir_kv::Keyspace, Key), ApiError> {
    let (name, key) = (query.text("keyspace")?, key_of(query, "key")?);
    match (name, key) {
        (Some(name), Some(key)) => Ok((keyspaces::named(ctx, name)?, key)),
        _ => Err(ApiError::bad_request("name a `keyspace` and a `key`")),
    }
}

fn version(text: &str) -> Result<Versionstamp, ApiError> {
    text.parse()
        .map_err(|error| ApiError::bad_request(format!("`versionstamp`: {error}")))
}

/// `PUT /_/api/v1/entry`: writes an entry if it still is as it was read; what other dialects keep
/// beside the value stays.
///
/// Nothing but the entry is changed: indexes that a dialect keeps in keys of its own are not.
#[utoipa::path(
    put, path = "/_/api/v1/entry", tag = "admin", request_body = EntryChange,
    responses(
        (status = 200, description = "the entry as it is now", body = EntryView),
        (status = 400, description = "what is wrong", body = crate::problem::Problem<'static>),
        (status = 409, description = "it was changed meanwhile: `current` is the entry as it is, or null"),
        (status = 413, description = "over a limit", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn write(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    headers: HeaderMap,
    request: axum::body::Body,
) -> Result<Response, ApiError> {
    body::require_json(&headers)?;
    let bytes = body::read(&headers, request, BODY_BYTES_MAX).await?;
    let change: EntryChange = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is not as described: {error}")))?;
    let keyspace = keyspaces::named(&ctx, &change.keyspace)?;
    let key = v8json::key::from_typed(&change.key)
        .map_err(|error| ApiError::bad_request(format!("`key`: {error}")))?;
    if key.is_empty() {
        return Err(ApiError::bad_request("`key` must have at least one part"));
    }
    let known = change.versionstamp.as_deref().map(version).transpose()?;
    let expires_at = change.expires_at.map(UnixMillis);
    if expires_at.is_some_and(|at| at <= ctx.clock.now()) {
        return Err(ApiError::bad_request("`expiresAt` is in the past"));
    }
    let value = change.value.map(NewValue::read).transpose()?;
    let found = keyspace.get(&key).await?;
    if found.as_ref().map(|entry| entry.versionstamp) != known {
        return Err(conflict(&keyspace, found.as_ref()));
    }
    let value = match (value, &found) {
        (Some(value), _) => value,
        (None, Some(found)) => found.value.clone(),
        (None, None) => return Err(ApiError::bad_request("a new entry needs a `value`")),
    };
    let meta = found.as_ref().and_then(|found| found.meta.clone());
    let write = match known {
        Some(known) => AtomicWrite::new().check(key.clone(), known),
        None => AtomicWrite::new().check_absent(key.clone()),
    };
    let write = write.push(Mutation::Set {
        key: key.clone(),
        value: value.clone(),
        expires_at,
        meta: meta.as_deref().cloned(),
        keep_created: false,
    });
    match keyspace.commit(write).await? {
        Outcome::Committed(done) => {
            let entry = Entry {
                key,
                value,
                versionstamp: done.versionstamp,
                expires_at,
                meta,
            };
            let after = entry.versionstamp.to_string();
            let told = Told::on(place(&keyspace, &entry.key));
            let told = told.versions(change.versionstamp, Some(after));
            Ok(told.with(ok(EntryView::of(keyspace.name().as_str(), &entry))))
        }
        Outcome::Conflict { .. } => {
            let now = keyspace.get(&key).await?;
            Err(conflict(&keyspace, now.as_ref()))
        }
    }
}

/// Keyspace and key, as people read them.
fn place(keyspace: &kvasir_kv::Keyspace, key: &Key) -> String {
    let mut text = Vec::new();
    match key.parts() {
        Ok(parts) => key_json::write(&parts, &mut text),
        Err(_) => text.extend_from_slice(v8json::key::to_typed(key).to_string().as_bytes()),
    }
    format!("{} {}", keyspace.name(), String::from_utf8_lossy(&text))
}

/// 409 with the entry as it is now.
fn conflict(keyspace: &kvasir_kv::Keyspace, now: Option<&Entry>) -> ApiError {
    let detail = match now {
        Some(_) => "the entry was changed meanwhile",
        None => "the entry was removed meanwhile",
    };
    let current = now.map(|entry| EntryView::of(keyspace.name().as_str(), entry));
    ApiError::new(StatusCode::CONFLICT, "conflict", detail).with_data(serde_json::json!({
        "type": "urn:kvasir:error:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": detail,
        "current": current,
    }))
}

/// `DELETE /_/api/v1/entry`: removes an entry if it still is as it was read.
#[utoipa::path(
    delete, path = "/_/api/v1/entry", tag = "admin",
    params(
        ("keyspace" = String, Query, description = "where"),
        ("key" = String, Query, description = "an array of key parts as JSON"),
        ("versionstamp" = String, Query, description = "the version that was read"),
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 409, description = "it was changed meanwhile: `current` is the entry as it is, or null"),
    )
)]
pub(super) async fn remove(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let (keyspace, key) = named(&ctx, &query)?;
    let known = query.text("versionstamp")?;
    let known =
        known.ok_or_else(|| ApiError::bad_request("name the `versionstamp` that was read"))?;
    let write = AtomicWrite::new()
        .check(key.clone(), version(known)?)
        .push(Mutation::delete(key.clone()));
    match keyspace.commit(write).await? {
        Outcome::Committed(_) => {
            let told = Told::on(place(&keyspace, &key)).versions(Some(known.to_owned()), None);
            Ok(told.with(StatusCode::NO_CONTENT.into_response()))
        }
        Outcome::Conflict { .. } => {
            let now = keyspace.get(&key).await?;
            Err(conflict(&keyspace, now.as_ref()))
        }
    }
}
