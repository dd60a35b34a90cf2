//! `/export`: the entries of a keyspace, or of all, as they are at one moment.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header;
use kvasir_kv::{Entry, Key, KeyRange, KeyspaceName, PageStream, Part};

use super::Administrator;
use super::entries::keyspace;
use crate::context::Ctx;
use crate::dump::Line;
use crate::error::ApiError;
use crate::key_json;
use crate::query::Query;
use crate::v8json;

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    Router::new().route("/export", get(export))
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One [`Line`] a line.
    Lines,
    /// Key, value, versionstamp and expiry, and the keyspace in an export of all; loses types and what
    /// is beside the value.
    Csv,
    /// The bytes of the values, each with a line feed behind it; loses all else.
    Raw,
}

impl Form {
    fn parse(name: Option<&str>) -> Result<Form, ApiError> {
        match name {
            None | Some("jsonl") => Ok(Form::Lines),
            Some("csv") => Ok(Form::Csv),
            Some("raw") => Ok(Form::Raw),
            Some(other) => Err(ApiError::bad_request(format!(
                "`format` is jsonl, csv or raw, not {other:?}"
            ))),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Lines => "application/x-ndjson",
            Form::Csv => "text/csv",
            Form::Raw => "application/octet-stream",
        }
    }

    fn head(self, is_of_all: bool) -> &'static str {
        match (self, is_of_all) {
            (Form::Csv, false) => "key,value,versionstamp,expiresAt\n",
            (Form::Csv, true) => "keyspace,key,value,versionstamp,expiresAt\n",
            (Form::Lines | Form::Raw, _) => "",
        }
    }

    fn write(self, entry: &Entry, keyspace: Option<&str>, out: &mut Vec<u8>) {
        match self {
            Form::Lines => {
                let line = Line {
                    keyspace: keyspace.map(str::to_owned),
                    ..Line::of(entry)
                };
                let written = serde_json::to_writer(&mut *out, &line);
                debug_assert!(written.is_ok(), "writing to memory does not fail");
            }
            Form::Csv => {
                if let Some(keyspace) = keyspace {
                    csv_cell(keyspace.as_bytes(), out);
                    out.push(b',');
                }
                csv_cell(&key_text(&entry.key), out);
                out.push(b',');
                csv_cell(&v8json::render(&entry.value).text, out);
                let expires_at = entry.expires_at.map(|at| at.0.to_string());
                let rest = format!(",{},{}", entry.versionstamp, expires_at.unwrap_or_default());
                out.extend_from_slice(rest.as_bytes());
            }
            Form::Raw => out.extend_from_slice(&entry.value.bytes),
        }
        out.push(b'\n');
    }
}

/// A key as JSON; one that is no tuple as its bytes.
fn key_text(key: &Key) -> Vec<u8> {
    let parts = key.parts().unwrap_or_else(|_| {
        let bytes = Bytes::copy_from_slice(key.as_bytes());
        vec![Part::Bytes(bytes)]
    });
    let mut text = Vec::new();
    key_json::write(&parts, &mut text);
    text
}

fn csv_cell(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// `GET /_/api/v1/export`: entries as they are at one moment, named in `X-Kvasir-Versionstamp`. Without
/// `keyspace` those of all keyspaces but of tokens and queues, each line with its keyspace.
#[utoipa::path(
    get, path = "/_/api/v1/export", tag = "admin",
    params(
        ("keyspace" = Option<String>, Query, description = "which; all without it"),
        ("prefix" = Option<String>, Query, description = "only keys that begin with these parts, a JSON array"),
        ("format" = Option<String>, Query, description = "jsonl, or csv and raw, which lose types"),
    ),
    responses(
        (status = 200, description = "the entries", content_type = "application/x-ndjson"),
        (status = 400, description = "a parameter is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn export(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let form = Form::parse(query.text("format")?)?;
    let prefix = match query.text("prefix")? {
        None => Key::default(),
        Some(text) => key_json::parse(text)
            .map_err(|error| ApiError::bad_request(format!("`prefix`: {error}")))?,
    };
    let (mut pages, is_of_all): (PageStream, bool) = match query.text("keyspace")? {
        Some(name) => {
            let range = KeyRange::starting_with(&prefix);
            (keyspace(&ctx, name)?.scan_snapshot(&range, false), false)
        }
        None if prefix == Key::default() => {
            let everything = KeyRange::starting_with(&Key::default());
            (ctx.store().scan_snapshot(everything, false), true)
        }
        None => return Err(ApiError::bad_request("`prefix` needs `keyspace`")),
    };
    let first = match pages.next().await {
        Some(page) => page?,
        None => return Err(ApiError::unavailable("the store is closing")),
    };
    let versionstamp = first.versionstamp.to_string();
    let text = move |entries: Vec<Entry>| {
        let mut out = Vec::new();
        for mut entry in entries {
            match is_of_all {
                false => form.write(&entry, None, &mut out),
                true => {
                    if let Some((name, key)) = split(&entry.key) {
                        entry.key = key;
                        form.write(&entry, Some(name.as_str()), &mut out);
                    }
                }
            }
        }
        Bytes::from(out)
    };
    let head = stream::iter([
        Bytes::from_static(form.head(is_of_all).as_bytes()),
        text(first.entries),
    ]);
    let rest = pages.map(move |page| match page {
        Ok(page) => Ok(text(page.entries)),
        // The answer breaks off, so that nobody takes it for whole.
        Err(error) => Err(io::Error::other(error)),
    });
    let headers = [
        (header::CONTENT_TYPE, form.content_type().to_owned()),
        (
            header::HeaderName::from_static("x-kvasir-versionstamp"),
            versionstamp,
        ),
    ];
    Ok((headers, Body::from_stream(head.map(Ok).chain(rest))).into_response())
}

/// Keyspace and key of a stored key, if its keyspace holds data.
fn split(stored: &Key) -> Option<(KeyspaceName, Key)> {
    // The name is a string part: a type byte, text without zero bytes, a zero byte.
    let bytes = stored.as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(bytes.get(1..end)?).ok()?.parse().ok()?;
    Some((name, Key::new(bytes[end + 1..].to_vec())))
}
