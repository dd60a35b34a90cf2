//! Whole databases in and out: pages of entries, and emptying. Their queues are in `messages`.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /databases/{name}/entries?cursor=&limit=` | one page: `{"entries": [...], "cursor": ...}` |
//! | `POST /databases/{name}/entries` | `{"entries": [...], "keepExisting"}`: writes them as they are |
//! | `DELETE /databases/{name}/entries` | removes some: `{"removed", "more"}`; ask again while there are more |
//!
//! An entry is a [`Line`] of an export.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use kvasir_kv::keyspace::{Cursor, List, ListPage};
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Keyspace, KeyspaceName, Mutation, SnapshotRead, Versionstamp,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::context::Ctx;
use crate::dump::Line;
use crate::error::ApiError;
use crate::queue::Queue;

use super::audit::Told;
use super::{Administrator, ok};

/// Largest body, in bytes: one entry of the largest value, as typed JSON and as base64.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most entries of one request or page.
pub(super) const ENTRIES_MAX: usize = 1000;

/// Most bytes of keys and values of one page.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most entries that one request removes.
const REMOVED_AT_ONCE: usize = 10_000;

/// How far ahead of the clock an imported versionstamp may be, in microseconds: a day. The clock of
/// the store continues behind it, so one from the far future would leave no room for later commits.
const AHEAD_MICROS_MAX: u64 = 24 * 3600 * 1_000_000;

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    Router::new().route(
        "/databases/{name}/entries",
        get(page).post(write).delete(remove),
    )
}

/// Which page.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paged {
    /// Where the page before ended.
    pub(super) cursor: Option<String>,
    /// How many at most.
    pub(super) limit: Option<usize>,
}

/// One page of entries, in the order of their keys.
#[derive(Serialize, ToSchema)]
pub struct EntryPage {
    entries: Vec<Line>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// Entries to be written as they are, up to 1,000.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewEntries {
    entries: Vec<Line>,
    /// Leave keys alone that are there already: the same as `skip`.
    #[serde(default)]
    keep_existing: bool,
    /// What to do with a key that is there already.
    #[serde(default)]
    conflict: Conflict,
    /// Write nothing, and say what would be written.
    #[serde(default)]
    dry_run: bool,
}

/// What an import does with a key that is there already, as it was a moment before the write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// Leaves it alone.
    Skip,
    /// Writes over it.
    #[default]
    Replace,
    /// Writes over it if the new versionstamp is greater, or there is none.
    Newer,
    /// Writes nothing of the request and answers 409, unless the entry is the same.
    Fail,
}

/// What became of entries.
#[derive(Serialize, ToSchema)]
pub struct EntriesWritten {
    /// Entries that were written.
    written: usize,
    /// Entries that were left alone because their key was there.
    kept: usize,
}

/// How an emptying goes on.
#[derive(Serialize, ToSchema)]
pub struct EntriesRemoved {
    /// Entries that were removed by this request.
    removed: usize,
    /// Whether there are more: ask again.
    more: bool,
}

/// The keyspace of a database.
pub(super) fn keyspace(ctx: &Ctx, name: &str) -> Result<Keyspace, ApiError> {
    let name: KeyspaceName = name
        .parse()
        .map_err(|error| ApiError::bad_request(format!("the name of a database: {error}")))?;
    Ok(Keyspace::new(ctx.store().clone(), name))
}

pub(super) async fn read_json<T: for<'de> Deserialize<'de>>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    let body = body::read(headers, body, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not as described: {error}")))
}

/// `GET /_/api/v1/databases/{name}/entries`: a page of up to 1,000 entries or about 4 MiB.
#[utoipa::path(
    get, path = "/_/api/v1/databases/{name}/entries", tag = "admin",
    params(("name" = String, Path, description = "the database"), Paged),
    responses((status = 200, description = "one page", body = EntryPage))
)]
pub(super) async fn page(
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
    Ok(ok(EntryPage {
        entries: entries.iter().map(Line::of).collect(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    }))
}

/// `POST /_/api/v1/databases/{name}/entries`: writes entries with the versionstamps and expiries they
/// have; those without a versionstamp get a new one. All of them, or none.
#[utoipa::path(
    post, path = "/_/api/v1/databases/{name}/entries", tag = "admin",
    params(("name" = String, Path, description = "the database")),
    request_body = NewEntries,
    responses(
        (status = 200, description = "they are there", body = EntriesWritten),
        (status = 400, description = "one of them is wrong", body = crate::problem::Problem<'static>),
        (status = 409, description = "a key is there, and `conflict` is `fail`", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn write(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let keyspace = keyspace(&ctx, &name)?;
    let NewEntries {
        entries,
        keep_existing,
        conflict,
        dry_run,
    } = read_json(&headers, body).await?;
    if entries.len() > ENTRIES_MAX {
        return Err(ApiError::bad_request(format!(
            "{} entries, over the limit of {ENTRIES_MAX}",
            entries.len()
        )));
    }
    let entries = read_entries(&ctx, entries)?;
    let given = entries.len();
    let conflict = match keep_existing {
        true => Conflict::Skip,
        false => conflict,
    };
    let entries = conflict.settle(&keyspace, entries).await?;
    let written = entries.len();
    if !dry_run {
        store(&keyspace, entries).await?;
    }
    let response = ok(EntriesWritten {
        written,
        kept: given - written,
    });
    let told = match dry_run || written == 0 {
        true => Told::nothing(),
        false => Told::run(name, written as u64),
    };
    Ok(told.with(response))
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

impl Conflict {
    /// The entries that are to be written.
    async fn settle(
        self,
        keyspace: &Keyspace,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, ApiError> {
        if self == Conflict::Replace {
            return Ok(entries);
        }
        let keys = entries.iter().map(|entry| entry.key.clone());
        let found = keyspace.read(SnapshotRead::keys(keys)).await?;
        let existing: HashMap<Key, Entry> = found
            .into_firsts()
            .flatten()
            .map(|entry| (entry.key.clone(), entry))
            .collect();
        let mut kept = Vec::with_capacity(entries.len());
        let mut conflicts = 0;
        for entry in entries {
            let Some(there) = existing.get(&entry.key) else {
                kept.push(entry);
                continue;
            };
            let is_new = entry.versionstamp == Versionstamp::ZERO;
            let is_same = (&there.value, there.expires_at, &there.meta)
                == (&entry.value, entry.expires_at, &entry.meta)
                && (is_new || there.versionstamp == entry.versionstamp);
            match self {
                Conflict::Newer if is_new || entry.versionstamp > there.versionstamp => {
                    kept.push(entry);
                }
                Conflict::Fail if !is_same => conflicts += 1,
                Conflict::Skip | Conflict::Newer | Conflict::Fail | Conflict::Replace => {}
            }
        }
        match conflicts {
            0 => Ok(kept),
            conflicts => Err(ApiError::new(
                StatusCode::CONFLICT,
                "conflict",
                format!(
                    "{conflicts} keys are there already with something else; nothing was written"
                ),
            )),
        }
    }
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

/// `DELETE /_/api/v1/databases/{name}/entries`: removes up to about 10,000 entries, and with the last
/// of them the messages of the queue.
#[utoipa::path(
    delete, path = "/_/api/v1/databases/{name}/entries", tag = "admin",
    params(("name" = String, Path, description = "the database")),
    responses((status = 200, description = "some are gone", body = EntriesRemoved))
)]
pub(super) async fn remove(
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
            let response = ok(EntriesRemoved {
                removed,
                more: true,
            });
            return Ok(Told::run(name, removed as u64).with(response));
        }
    }
    let queue = Queue::new(ctx.store(), keyspace.name().clone());
    queue.clear().await?;
    let response = ok(EntriesRemoved {
        removed,
        more: false,
    });
    Ok(Told::run(name, removed as u64).with(response))
}
