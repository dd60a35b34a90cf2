//! `/watch`: what changes below a prefix, as server-sent events.
//!
//! | event | when |
//! | --- | --- |
//! | `{"kind": "state", "entry"}` | an entry as it is when the watch begins, if asked for |
//! | `{"kind": "change", "entry"}` | an entry was written |
//! | `{"kind": "gone", "key", "versionstamp"}` | an entry was removed or expired |
//! | `{"kind": "ready", "versionstamp"}` | all that was there is told; from now on changes come |
//! | `{"kind": "missed"}` | this client was too slow and has to read again |
//!
//! Each has a versionstamp as its id, so that a broken connection goes on from there
//! (`Last-Event-ID`, or `from`): entries written later are told first. Removals between two
//! connections are not told; of several changes to a key the last one always is.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use kvasir_auth::Verb;
use kvasir_kv::{ChangeStream, Changes, Entry, Key, Keyspace, SnapshotRead, Versionstamp};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::query::Query;
use crate::stream::{Guard, event, event_stream};
use crate::v8json;

use super::Administrator;
use super::browse::{EntryRow, Place};
use super::entry::EntryView;
use super::session::Current;

/// Most watches at once.
pub const WATCHES_MAX: usize = 64;

/// Most entries that a watch begins with.
const INITIAL_MAX: usize = 1_000;

/// Largest value that is told whole, in bytes. Of larger ones only what lists show.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// Keys that are read at once.
const READ_AT_ONCE: usize = 64;

/// The route of this noun, with its permits.
pub(super) fn routes() -> Router<Ctx> {
    let permits = Arc::new(Semaphore::new(WATCHES_MAX));
    Router::new().route(
        "/watch",
        axum::routing::get(watch).layer(Extension(permits)),
    )
}

/// `GET /_/api/v1/watch`: changes below a prefix as they happen.
#[utoipa::path(
    get, path = "/_/api/v1/watch", tag = "admin",
    params(
        ("keyspace" = String, Query, description = "where"),
        ("prefix" = Option<String>, Query, description = "an array of key parts as JSON"),
        ("text" = Option<String>, Query, description = "the beginning of the text part behind the prefix"),
        ("key" = Option<String>, Query, description = "one key instead of all below a prefix"),
        ("initial" = Option<usize>, Query, description = "begin with so many entries as they are, at most 1000"),
        ("from" = Option<String>, Query, description = "begin with what was written after this versionstamp"),
    ),
    responses(
        (status = 200, description = "events", content_type = "text/event-stream"),
        (status = 503, description = "too many watches", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn watch(
    State(ctx): State<Ctx>,
    Administrator(caller): Administrator,
    Extension(permits): Extension<Arc<Semaphore>>,
    current: Option<Extension<Current>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let place = Place::read(&ctx, &query)?;
    let range = match super::browse::key_of(&query, "key")? {
        Some(key) => kvasir_kv::KeyRange::single(key),
        None => place.range(),
    };
    let what = "a number of entries";
    let initial = query.parsed::<usize>("initial", what)?.unwrap_or(0);
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = match last_seen {
        Some(id) => Some(id),
        None => query.text("from")?,
    };
    let from = from.map(str::parse::<Versionstamp>).transpose();
    let from = from.map_err(|error| ApiError::bad_request(format!("`from`: {error}")))?;
    let permit = permits
        .try_acquire_owned()
        .map_err(|_| ApiError::unavailable("too many watches are open; try again later"))?;
    let guard = Guard {
        key: place.prefix.clone(),
        keyspace: place.keyspace.clone(),
        ctx,
        caller,
        verb: Verb::Admin,
    };
    let keyspace = place.keyspace;
    let mut changes = keyspace.changes(&range);
    // From the first poll on no change is missed, so what is read after it has no gap behind it.
    let first = poll_fn(|cx| Poll::Ready(changes.poll_next_unpin(cx))).await;
    let begun = match from {
        Some(from) => since(&keyspace, &range, from).boxed(),
        None => standing(&keyspace, &range, initial.min(INITIAL_MAX)).boxed(),
    };
    let stamp = keyspace.store().versionstamp().await?;
    let ready = event_of(
        stamp,
        &json!({"kind": "ready", "versionstamp": stamp.to_string()}),
    );
    let first: Vec<Changes> = match first {
        Poll::Ready(Some(changes)) => vec![changes],
        Poll::Ready(None) | Poll::Pending => Vec::new(),
    };
    let changes: ChangeStream = Box::pin(stream::iter(first).chain(changes));
    let followed = changes.then(move |changes| told(keyspace.clone(), changes));
    let events = begun
        .chain(stream::iter([ready]))
        .chain(followed.flat_map(stream::iter))
        .map(move |event| {
            // The permit lives as long as the stream.
            let _permit = &permit;
            event
        });
    Ok(match current {
        Some(Extension(current)) => {
            let ended = current.end.cancelled_owned();
            event_stream(guard, events.take_until(ended))
        }
        None => event_stream(guard, events),
    })
}

fn event_of(stamp: Versionstamp, data: &serde_json::Value) -> Bytes {
    event(Some(&stamp.to_string()), data.to_string().as_bytes())
}

fn entry_event(kind: &str, keyspace: &Keyspace, entry: &Entry) -> Bytes {
    let shown = match entry.value.len() <= WHOLE_BYTES_MAX {
        true => serde_json::to_value(EntryView::of(keyspace.name().as_str(), entry)),
        false => serde_json::to_value(EntryRow::of(entry)),
    };
    let shown = shown.expect("strings and numbers are always JSON");
    event_of(entry.versionstamp, &json!({"kind": kind, "entry": shown}))
}

/// The first entries of the range.
fn standing(
    keyspace: &Keyspace,
    range: &kvasir_kv::KeyRange,
    limit: usize,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let keyspace = keyspace.clone();
    // A page that cannot be read ends this part; the changes go on.
    keyspace
        .scan(range, false)
        .take_while(|page| std::future::ready(page.is_ok()))
        .flat_map(|page| stream::iter(page.map(|page| page.entries).unwrap_or_default()))
        .take(limit)
        .map(move |entry| entry_event("state", &keyspace, &entry))
}

/// What was written after a versionstamp, in key order.
fn since(
    keyspace: &Keyspace,
    range: &kvasir_kv::KeyRange,
    from: Versionstamp,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let keyspace = keyspace.clone();
    keyspace
        .scan(range, false)
        .take_while(|page| std::future::ready(page.is_ok()))
        .flat_map(|page| stream::iter(page.map(|page| page.entries).unwrap_or_default()))
        .filter(move |entry| std::future::ready(entry.versionstamp > from))
        .map(move |entry| entry_event("change", &keyspace, &entry))
}

/// The events of some changes: each key as it is now.
async fn told(keyspace: Keyspace, changes: Changes) -> Vec<Bytes> {
    let mut events = Vec::new();
    if changes.missed {
        events.push(event_of(changes.versionstamp, &json!({"kind": "missed"})));
    }
    let mut keys: Vec<Key> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    // Of several changes to a key the last one counts.
    for (key, _) in changes.keys.into_iter().rev() {
        if seen.insert(key.clone()) {
            keys.push(key);
        }
    }
    keys.reverse();
    for keys in keys.chunks(READ_AT_ONCE) {
        let read = keyspace
            .read(SnapshotRead::keys(keys.iter().cloned()))
            .await;
        let Ok(found) = read else {
            events.push(event_of(changes.versionstamp, &json!({"kind": "missed"})));
            continue;
        };
        for (key, entry) in keys.iter().zip(found.into_firsts()) {
            events.push(match entry {
                Some(entry) => entry_event("change", &keyspace, &entry),
                None => event_of(
                    changes.versionstamp,
                    &json!({
                        "kind": "gone",
                        "key": v8json::key::to_typed(key),
                        "versionstamp": changes.versionstamp.to_string(),
                    }),
                ),
            });
        }
    }
    events
}
