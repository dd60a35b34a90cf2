//! Whole databases in and out: pages of entries, messages of queues, and emptying.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /databases/{name}/entries?cursor=&limit=` | one page: `{"entries": [...], "cursor": ...}` |
//! | `POST /databases/{name}/entries` | `{"entries": [...], "keepExisting"}`: writes them as they are |
//! | `DELETE /databases/{name}/entries` | removes some: `{"removed", "more"}`; ask again while there are more |
//! | `GET /databases/{name}/queue` | `{"waiting", "leased", "more"}` |
//! | `POST /databases/{name}/messages` | `{"messages": [...]}`: enqueues them |
//!
//! An entry is a [`Line`] of an export.

use std::collections::HashSet;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::StreamExt;
use http::HeaderMap;
use kvasir_kv::keyspace::{Cursor, List, ListPage};
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Keyspace, KeyspaceName, Mutation, SnapshotRead, UnixMillis,
    Value, Versionstamp,
};
use serde::{Deserialize, Serialize};

use crate::body;
use crate::context::Ctx;
use crate::dump::Line;
use crate::error::ApiError;
use crate::queue::{NewMessage, Queue, backoff_default_ms};

use super::{Administrator, ok};

/// Largest body, in bytes: one entry of the largest value, as typed JSON and as base64.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most entries of one request or page.
const ENTRIES_MAX: usize = 1000;

/// Most bytes of keys and values of one page.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most entries that one request removes.
const REMOVED_AT_ONCE: usize = 10_000;

/// Most messages that are counted.
const COUNTED_MAX: usize = 100_000;

/// How far ahead of the clock an imported versionstamp may be, in microseconds: a day. The clock of
/// the store continues behind it, so one from the far future would leave no room for later commits.
const AHEAD_MICROS_MAX: u64 = 24 * 3600 * 1_000_000;

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route(
            "/databases/{name}/entries",
            get(page).post(write).delete(remove),
        )
        .route("/databases/{name}/queue", get(depth))
        .route("/databases/{name}/messages", post(enqueue))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Paged {
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Page {
    entries: Vec<Line>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    entries: Vec<Line>,
    #[serde(default)]
    keep_existing: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Messages {
    messages: Vec<Message>,
}

/// A message as another store had it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Message {
    /// Base64 of a V8 payload.
    payload: String,
    due_ms: i64,
    backoff_ms: Option<Vec<u32>>,
    /// Base64 of keys.
    #[serde(default)]
    undelivered: Vec<String>,
}

/// The keyspace of a database.
fn keyspace(ctx: &Ctx, name: &str) -> Result<Keyspace, ApiError> {
    let name: KeyspaceName = name
        .parse()
        .map_err(|error| ApiError::bad_request(format!("the name of a database: {error}")))?;
    Ok(Keyspace::new(ctx.store().clone(), name))
}

async fn read_json<T: for<'de> Deserialize<'de>>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    let body = body::read(headers, body, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not as described: {error}")))
}

async fn page(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    query: Result<Query<Paged>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let Query(asked) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let cursor = asked.cursor.map(|text| text.parse::<Cursor>()).transpose();
    let list = List {
        range: KeyRange::starting_with(&Key::default()),
        limit: asked.limit.unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX),
        reverse: false,
        cursor: cursor.map_err(|error| ApiError::bad_request(error.to_string()))?,
    };
    let ListPage {
        mut entries,
        mut cursor,
    } = keyspace.list(list).await?;
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        let fits = bytes == 0 || bytes + entry.cost_bytes() <= PAGE_BYTES_MAX;
        bytes += entry.cost_bytes();
        fits
    });
    let fitting = fitting.count();
    if fitting < entries.len() {
        entries.truncate(fitting);
        cursor = entries.last().map(|last| Cursor(last.key.clone()));
    }
    Ok(ok(Page {
        entries: entries.iter().map(Line::of).collect(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    }))
}

async fn write(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let Written {
        entries,
        keep_existing,
    } = read_json(&headers, body).await?;
    if entries.len() > ENTRIES_MAX {
        return Err(ApiError::bad_request(format!(
            "{} entries, over the limit of {ENTRIES_MAX}",
            entries.len()
        )));
    }
    let entries = read_entries(&ctx, entries)?;
    let given = entries.len();
    let entries = match keep_existing {
        true => without_existing(&keyspace, entries).await?,
        false => entries,
    };
    let written = entries.len();
    store(&keyspace, entries).await?;
    Ok(ok(serde_json::json!({
        "written": written,
        "kept": given - written,
    })))
}

fn read_entries(ctx: &Ctx, lines: Vec<Line>) -> Result<Vec<Entry>, ApiError> {
    let latest = ctx.clock.now_micros().saturating_add(AHEAD_MICROS_MAX);
    let mut entries = Vec::with_capacity(lines.len());
    for (place, line) in (1..).zip(lines) {
        let bad = |text: String| ApiError::bad_request(format!("entry {place}: {text}"));
        let entry = line.into_entry().map_err(|error| bad(error.to_string()))?;
        if entry.versionstamp.micros() > latest {
            let stamp = entry.versionstamp;
            return Err(bad(format!("the versionstamp {stamp} lies in the future")));
        }
        entries.push(entry);
    }
    Ok(entries)
}

async fn without_existing(
    keyspace: &Keyspace,
    entries: Vec<Entry>,
) -> Result<Vec<Entry>, ApiError> {
    let keys = entries.iter().map(|entry| entry.key.clone());
    let found = keyspace.read(SnapshotRead::keys(keys)).await?;
    let existing: HashSet<Key> = found
        .into_firsts()
        .flatten()
        .map(|entry| entry.key)
        .collect();
    let mut kept = entries;
    kept.retain(|entry| !existing.contains(&entry.key));
    Ok(kept)
}

/// Stores entries under their versionstamps, and those without one under a new one.
async fn store(keyspace: &Keyspace, entries: Vec<Entry>) -> Result<(), ApiError> {
    let (new, mut stamped): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.versionstamp == Versionstamp::ZERO);
    for entry in &mut stamped {
        entry.key = keyspace.stored_key(&entry.key);
    }
    if !stamped.is_empty() {
        keyspace.store().ingest(stamped).await?;
    }
    if !new.is_empty() {
        let mut write = AtomicWrite::new();
        for entry in new {
            write = write.push(Mutation::Set {
                key: entry.key,
                value: entry.value,
                expires_at: entry.expires_at,
                meta: entry.meta.as_deref().cloned(),
                keep_created: false,
            });
        }
        keyspace.commit(write).await?;
    }
    Ok(())
}

async fn remove(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let mut removed = 0;
    let mut pages = keyspace.scan(&KeyRange::starting_with(&Key::default()), false);
    while let Some(page) = pages.next().await {
        let entries = page?.entries;
        removed += entries.len();
        let mut write = AtomicWrite::new();
        for entry in entries {
            write = write.push(Mutation::delete(entry.key));
        }
        keyspace.commit(write).await?;
        if removed >= REMOVED_AT_ONCE {
            return Ok(ok(serde_json::json!({"removed": removed, "more": true})));
        }
    }
    let queue = Queue::new(ctx.store(), keyspace.name().clone());
    queue.clear().await?;
    Ok(ok(serde_json::json!({"removed": removed, "more": false})))
}

async fn depth(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let queue = Queue::new(ctx.store(), keyspace.name().clone());
    let depth = queue.depth(COUNTED_MAX).await?;
    Ok(ok(serde_json::json!({
        "waiting": depth.waiting,
        "leased": depth.leased,
        "more": depth.more,
    })))
}

async fn enqueue(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let Messages { messages } = read_json(&headers, body).await?;
    if messages.len() > ENTRIES_MAX {
        return Err(ApiError::bad_request(format!(
            "{} messages, over the limit of {ENTRIES_MAX}",
            messages.len()
        )));
    }
    let base64 = |text: &String| {
        data_encoding::BASE64
            .decode(text.as_bytes())
            .map_err(|_| ApiError::bad_request("payloads and keys are written as base64"))
    };
    let mut new = Vec::with_capacity(messages.len());
    for message in messages {
        let keys: Result<Vec<_>, _> = message.undelivered.iter().map(base64).collect();
        new.push(NewMessage {
            payload: Value::v8(base64(&message.payload)?),
            due: UnixMillis(message.due_ms),
            backoff_ms: message.backoff_ms.unwrap_or_else(backoff_default_ms),
            undelivered: keys?.into_iter().map(Key::new).collect(),
        });
    }
    let enqueued = new.len();
    let queue = Queue::new(ctx.store(), keyspace.name().clone());
    let now_micros = ctx.clock.now_micros();
    queue.commit(AtomicWrite::new(), new, now_micros).await?;
    Ok(ok(serde_json::json!({ "enqueued": enqueued })))
}
