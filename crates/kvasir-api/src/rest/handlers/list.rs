//! Lists and deletions of everything below a prefix.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderValue, header};
use kvasir_auth::Verb;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{AtomicWrite, Entry, Key, KeyRange, Mutation, RangeRead, SnapshotRead};

use crate::context::Ctx;
use crate::error::ApiError;
use crate::stream::{EntryWriter, Framing};

use super::super::selection::Selection;
use super::super::{Rested, wire};
use super::Head;

/// Bytes of entries that a limited list holds at once, so that it need not be read twice.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest list that is asked for in one read. A read of this length ends sooner than a scan would
/// have handed it to another thread.
const READ_AT_ONCE_MAX: usize = 256;

/// Bytes that an entry costs beside its key and value.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// `GET …?list=true`: the entries below a prefix in key order, as an array or one a line.
///
/// A list without limit is one snapshot where the backend holds one, and is read as it is sent.
pub(super) async fn list(
    state: &Rested,
    head: &Head,
    selection: Selection,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    head.require(ctx, Verb::Read, &selection.prefix)?;
    let framing = match wire::accepts(&head.headers, "application/x-ndjson") {
        true => Framing::Lines,
        false => Framing::Array,
    };
    let has_values = selection.has_values;
    let writer = EntryWriter {
        framing,
        write: move |entry: &Entry, out: &mut Vec<u8>| {
            let start = out.len();
            wire::write_entry(entry, has_values, out);
            if framing == Framing::Lines {
                crate::json::put_on_one_line(&mut out[start..]);
            }
        },
    };
    let Some(limit) = selection.limit else {
        let pages = ctx.keyspace.scan(&selection.range, selection.reverse);
        let body = writer.streamed(pages, head.info.id).await?;
        return Ok(response(framing, body));
    };
    let found = look_ahead(ctx, &selection, limit).await?;
    let body = match found.held {
        Some(entries) => Body::from(writer.whole(&entries)),
        None => {
            let range = match &found.cut_after {
                Some(last) => selection.up_to(last),
                None => selection.range.clone(),
            };
            let pages = ctx.keyspace.scan(&range, selection.reverse);
            writer.streamed(pages, head.info.id).await?
        }
    };
    let mut response = response(framing, body);
    if let Some(last) = found.cut_after {
        let cursor = Cursor(last).to_string();
        let link = format!("<{}>; rel=\"next\"", next_target(head, &cursor));
        let value = |text: String| HeaderValue::try_from(text).map_err(ApiError::internal);
        response.headers_mut().insert(wire::CURSOR, value(cursor)?);
        response.headers_mut().insert(header::LINK, value(link)?);
    }
    Ok(response)
}

fn response(framing: Framing, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, framing.content_type()),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    (headers, body).into_response()
}

/// Where a limited list ends.
struct Found {
    /// Its entries, if they are few enough to hold.
    held: Option<Vec<Entry>>,
    /// Its last key, if the limit cuts it.
    cut_after: Option<Key>,
}

/// Finds the end of a limited list before its first byte is sent, because the cursor travels in a
/// header. A long one is then read a second time instead of being held.
async fn look_ahead(ctx: &Ctx, selection: &Selection, limit: usize) -> Result<Found, ApiError> {
    if limit <= READ_AT_ONCE_MAX {
        // One more than asked for tells whether the limit cuts.
        let mut read = RangeRead::new(selection.range.clone(), limit + 1);
        read.reverse = selection.reverse;
        read.bytes_max = HELD_BYTES_MAX;
        let mut ranges = ctx.keyspace.read(SnapshotRead::range(read)).await?.ranges;
        let mut found = ranges.pop().unwrap_or_default();
        if !found.cut_by_bytes {
            let is_cut = found.entries.len() > limit;
            found.entries.truncate(limit);
            let last = found.entries.last().filter(|_| is_cut);
            return Ok(Found {
                cut_after: last.map(|last| last.key.clone()),
                held: Some(found.entries),
            });
        }
    }
    let mut pages = ctx.keyspace.scan(&selection.range, selection.reverse);
    let mut held = Some(Vec::new());
    let mut held_bytes = 0;
    let mut count = 0;
    let mut last = None;
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            if count == limit {
                return Ok(Found {
                    held,
                    cut_after: last,
                });
            }
            count += 1;
            last = Some(entry.key.clone());
            held_bytes += entry.cost_bytes() + ENTRY_OVERHEAD_BYTES;
            match &mut held {
                Some(entries) if held_bytes <= HELD_BYTES_MAX => entries.push(entry),
                _ => held = None,
            }
        }
    }
    Ok(Found {
        held,
        cut_after: None,
    })
}

/// The target of this request with another cursor.
fn next_target(head: &Head, cursor: &str) -> String {
    let kept = head.target.query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "cursor"
    });
    let mut query: Vec<&str> = kept.collect();
    let cursor = format!("cursor={cursor}");
    query.push(&cursor);
    format!("{}?{}", head.raw_path, query.join("&"))
}

/// `DELETE …?list=true`: deletes everything below a prefix, page by page, and says how much that
/// was. Entries that others write meanwhile may stay.
pub(super) async fn delete(
    state: &Rested,
    head: &Head,
    selection: Selection,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    head.require(ctx, Verb::Delete, &selection.prefix)?;
    let mut left = selection.limit.unwrap_or(usize::MAX);
    let mut deleted = 0;
    let range: &KeyRange = &selection.range;
    let mut pages = ctx.keyspace.scan(range, selection.reverse);
    while left > 0
        && let Some(page) = pages.next().await
    {
        let keys = page?.entries.into_iter().map(|entry| entry.key).take(left);
        let write = AtomicWrite {
            mutations: keys.map(Mutation::delete).collect(),
            ..AtomicWrite::new().reporting_existed()
        };
        if write.mutations.is_empty() {
            continue;
        }
        left -= write.mutations.len();
        let committed = ctx.keyspace.commit(write).await?.committed();
        let existed = committed.map_or_else(Vec::new, |committed| committed.existed);
        deleted += existed.into_iter().filter(|existed| *existed).count();
    }
    Ok(wire::json_response(format!(
        r#"{{"ok":true,"deleted":{deleted}}}"#
    )))
}
