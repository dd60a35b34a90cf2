//! `/browse`: what lies below a prefix, page by page.
//!
//! As a list, `/browse` gives the entries in key order. As a tree (`tree=true`) it gives one node for
//! each different next part of the key; with a delimiter, text parts are taken apart further, so that
//! `user:1:name` and `user:2:name` are one node `user:`. A node costs one or two reads, however many
//! entries are behind it.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Entry, Key, KeyRange, Keyspace, Part, RangeRead, SnapshotRead, UnixMillis};
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::query::Query;
use crate::time::rfc3339;
use crate::v8json;

use super::{Administrator, keyspaces, ok};

/// Rows or nodes of a page unless asked otherwise, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

/// Most bytes of keys and values that are read for one page.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most entries that one request looks at when a filter leaves most of them out. The answer's cursor
/// says where to go on.
const EXAMINED_MAX: usize = 20_000;

/// Entries that are read at once while filtering.
const FILTER_STEP: usize = 500;

/// Entries that are read at once while making nodes. More are often read for nothing.
const NODE_STEP: usize = 16;

/// Longest preview of a value, in characters.
const PREVIEW_CHARS_MAX: usize = 140;

/// Largest value that is looked into for a preview, in bytes.
const PREVIEWED_BYTES_MAX: usize = 16 * 1024;

/// Where to look: common to the routes that read below a prefix.
pub(super) struct Place {
    pub(super) keyspace: Keyspace,
    pub(super) prefix: Key,
    /// The beginning of the text part behind the prefix; empty for everything.
    pub(super) text: String,
}

impl Place {
    /// Reads `keyspace`, `prefix` (an array of typed parts) and `text`.
    pub(super) fn read(ctx: &Ctx, query: &Query<'_>) -> Result<Place, ApiError> {
        let name = query.text("keyspace")?;
        let name = name.ok_or_else(|| ApiError::bad_request("name a `keyspace`"))?;
        Ok(Place {
            keyspace: keyspaces::named(ctx, name)?,
            prefix: key_of(query, "prefix")?.unwrap_or_default(),
            text: query.text("text")?.unwrap_or_default().to_owned(),
        })
    }

    /// All keys there, the prefix itself not among them.
    pub(super) fn range(&self) -> KeyRange {
        match (self.text.as_str(), self.prefix.is_empty()) {
            ("", true) => KeyRange::starting_with(&Key::default()),
            ("", false) => KeyRange::below(&self.prefix),
            (text, _) => beginning_with(&self.prefix, text),
        }
    }
}

/// A key in a query, as JSON.
pub(super) fn key_of(query: &Query<'_>, name: &str) -> Result<Option<Key>, ApiError> {
    let Some(text) = query.text(name)? else {
        return Ok(None);
    };
    let bad = |what: String| ApiError::bad_request(format!("the query parameter `{name}`: {what}"));
    let json: Json = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let key = v8json::key::from_typed(&json).map_err(|error| bad(error.to_string()))?;
    Ok(Some(key))
}

/// Keys that continue `prefix` by a text part that begins with `text`.
fn beginning_with(prefix: &Key, text: &str) -> KeyRange {
    let whole = prefix.with_string(text);
    // Without its terminator an encoded text is the beginning of every longer one.
    let bytes = whole.as_bytes();
    KeyRange::starting_with(&Key::new(bytes[..bytes.len() - 1].to_vec()))
}

/// One entry as lists show it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryRow {
    /// Typed parts, as in exports.
    #[schema(value_type = Vec<serde_json::Value>)]
    key: Json,
    /// `json`, `v8`, `u64` or `bytes`.
    encoding: &'static str,
    /// Size of the value.
    bytes: usize,
    versionstamp: String,
    written_at: String,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
    /// The beginning of the value as text; empty for large ones.
    preview: String,
}

impl EntryRow {
    pub(super) fn of(entry: &Entry) -> EntryRow {
        EntryRow {
            key: v8json::key::to_typed(&entry.key),
            encoding: entry.value.encoding.name(),
            bytes: entry.value.len(),
            versionstamp: entry.versionstamp.to_string(),
            written_at: rfc3339(entry.versionstamp.time()),
            expires_at: entry.expires_at.map(|at| at.0),
            preview: preview(entry),
        }
    }
}

fn preview(entry: &Entry) -> String {
    if entry.value.len() > PREVIEWED_BYTES_MAX {
        return String::new();
    }
    let rendered = v8json::render(&entry.value);
    let text = String::from_utf8_lossy(&rendered.text);
    text.chars().take(PREVIEW_CHARS_MAX).collect()
}

/// One page of entries.
#[derive(Serialize, ToSchema)]
#[schema(as = BrowsedPage)]
pub struct EntryPage {
    entries: Vec<EntryRow>,
    /// How many entries were looked at.
    examined: usize,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// One page of a tree.
#[derive(Serialize, ToSchema)]
pub struct NodePage {
    nodes: Vec<Node>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// Keys with the same next part.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The next part, typed; `null` if the node is the beginning of a text part.
    #[schema(value_type = Option<serde_json::Value>)]
    part: Option<Json>,
    /// The beginning of the next part up to the delimiter; `null` if the node is a whole part.
    text: Option<String>,
    /// The entry whose key ends with this part, if there is one.
    entry: Option<EntryRow>,
    /// Whether there are longer keys.
    has_children: bool,
}

/// `GET /_/api/v1/browse`: what lies below a prefix.
#[utoipa::path(
    get, path = "/_/api/v1/browse", tag = "admin",
    params(
        ("keyspace" = String, Query, description = "where"),
        ("prefix" = Option<String>, Query, description = "an array of key parts as JSON"),
        ("text" = Option<String>, Query, description = "the beginning of the text part behind the prefix"),
        ("tree" = Option<bool>, Query, description = "nodes instead of entries"),
        ("delimiter" = Option<String>, Query, description = "takes text parts of a tree apart"),
        ("contains" = Option<String>, Query, description = "only keys with this text in them, in a list"),
        ("expiresWithinSeconds" = Option<i64>, Query, description = "only entries that expire soon, in a list"),
        ("from" = Option<String>, Query, description = "an array of key parts as JSON: a list begins at this key, or the next one in its order"),
        ("reverse" = Option<bool>, Query, description = "a list from the last key to the first"),
        ("cursor" = Option<String>, Query, description = "where the page before ended"),
        ("limit" = Option<usize>, Query, description = "1 to 500, 100 if left out"),
    ),
    responses(
        (status = 200, description = "one page; with `tree` a `NodePage`", body = EntryPage),
        (status = 400, description = "what is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn browse(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let place = Place::read(&ctx, &query)?;
    let what = "an integer from 1 to 500";
    let limit = query.parsed("limit", what)?.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!(
            "the query parameter `limit` must be {what}"
        )));
    }
    let cursor = query.parsed::<Cursor>("cursor", "the cursor of an earlier answer")?;
    if query.flag("tree", false)? {
        let delimiter = query.text("delimiter")?.unwrap_or_default();
        return Ok(ok(tree(&place, delimiter, cursor, limit).await?));
    }
    let within: Option<u32> = query.parsed("expiresWithinSeconds", "a number of seconds")?;
    let filter = Filter {
        contains: query.text("contains")?.unwrap_or_default().to_lowercase(),
        expires_by: within.and_then(|s| ctx.clock.now().checked_add_ms(i64::from(s) * 1000)),
    };
    let course = Course {
        from: key_of(&query, "from")?,
        reverse: query.flag("reverse", false)?,
        cursor,
    };
    Ok(ok(list(&place, &filter, course, limit).await?))
}

struct Filter {
    /// In lower case.
    contains: String,
    expires_by: Option<UnixMillis>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.contains.is_empty() && self.expires_by.is_none()
    }

    fn takes(&self, entry: &Entry) -> bool {
        let by = self.expires_by;
        by.is_none_or(|by| entry.expires_at.is_some_and(|at| at <= by))
            && (self.contains.is_empty()
                || format!("{:?}", entry.key)
                    .to_lowercase()
                    .contains(&self.contains))
    }
}

/// Where a list begins and which way it goes.
struct Course {
    from: Option<Key>,
    reverse: bool,
    cursor: Option<Cursor>,
}

impl Course {
    /// What is left of a range.
    fn rest_of(&self, mut range: KeyRange) -> KeyRange {
        if self.reverse {
            if let Some(from) = &self.from {
                range.end = range.end.min(from.successor());
            }
            if let Some(Cursor(last)) = &self.cursor {
                range.end = range.end.min(last.clone());
            }
        } else {
            if let Some(from) = &self.from {
                range.start = range.start.max(from.clone());
            }
            if let Some(Cursor(last)) = &self.cursor {
                range.start = range.start.max(last.successor());
            }
        }
        range
    }
}

/// Some entries from the beginning of a range, or from its end.
async fn some(
    keyspace: &Keyspace,
    range: &KeyRange,
    reverse: bool,
    limit: usize,
) -> Result<(Vec<Entry>, bool), ApiError> {
    let mut read = RangeRead::new(range.clone(), limit);
    read.bytes_max = PAGE_BYTES_MAX;
    read.reverse = reverse;
    let found = keyspace.read(SnapshotRead::range(read)).await?;
    let found = found.ranges.into_iter().next().unwrap_or_default();
    let more = found.cut_by_bytes || found.entries.len() == limit;
    Ok((found.entries, more))
}

async fn list(
    place: &Place,
    filter: &Filter,
    course: Course,
    limit: usize,
) -> Result<EntryPage, ApiError> {
    let mut range = course.rest_of(place.range());
    let reverse = course.reverse;
    let step = if filter.is_empty() {
        limit
    } else {
        FILTER_STEP
    };
    let (mut rows, mut examined) = (Vec::new(), 0);
    loop {
        let (entries, more) = some(&place.keyspace, &range, reverse, step).await?;
        let mut last = None;
        for entry in &entries {
            examined += 1;
            last = Some(&entry.key);
            if filter.takes(entry) {
                rows.push(EntryRow::of(entry));
            }
            if rows.len() == limit {
                break;
            }
        }
        let is_end = !more && last == entries.last().map(|entry| &entry.key);
        let is_full = rows.len() == limit || examined >= EXAMINED_MAX;
        if is_end || is_full {
            let cursor = last.filter(|_| !is_end);
            return Ok(EntryPage {
                entries: rows,
                examined,
                cursor: cursor.map(|last| Cursor(last.clone()).to_string()),
            });
        }
        match last {
            Some(last) if reverse => range.end = last.clone(),
            Some(last) => range.start = last.successor(),
            // Nothing was found and yet there is more: no store does that.
            None => {
                return Ok(EntryPage {
                    entries: rows,
                    examined,
                    cursor: None,
                });
            }
        }
    }
}

/// A node in the making, with the keys that belong to it.
struct Group {
    node: Node,
    range: KeyRange,
}

/// The cursor of a tree is where the next page begins.
async fn tree(
    place: &Place,
    delimiter: &str,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<NodePage, ApiError> {
    let mut range = place.range();
    if let Some(Cursor(start)) = cursor {
        range.start = range.start.max(start);
    }
    let mut groups: Vec<Group> = Vec::new();
    loop {
        let (entries, more) = some(&place.keyspace, &range, false, NODE_STEP).await?;
        for entry in &entries {
            range.start = entry.key.successor();
            if let Some(group) = groups.last_mut()
                && group.range.contains(&entry.key)
            {
                group.node.has_children = true;
                continue;
            }
            if groups.len() == limit {
                let start = Cursor(entry.key.clone()).to_string();
                return Ok(page(groups, Some(start)));
            }
            groups.push(group_of(place, delimiter, entry));
        }
        // What is known to go on is passed over as a whole.
        if let Some(group) = groups.last()
            && group.node.has_children
        {
            range.start = group.range.end.clone().max(range.start);
        }
        if !more {
            return Ok(page(groups, None));
        }
    }
}

fn page(groups: Vec<Group>, cursor: Option<String>) -> NodePage {
    NodePage {
        nodes: groups.into_iter().map(|group| group.node).collect(),
        cursor,
    }
}

fn group_of(place: &Place, delimiter: &str, entry: &Entry) -> Group {
    let prefix = &place.prefix;
    let depth = prefix.parts().map_or(0, |parts| parts.len());
    let parts = entry.key.parts().unwrap_or_default();
    let Some(next) = parts.get(depth) else {
        // Bytes that are no tuple: a node of its own.
        let raw = v8json::key::to_typed(&entry.key);
        return Group {
            node: Node {
                part: raw.get(0).cloned(),
                text: None,
                entry: Some(EntryRow::of(entry)),
                has_children: false,
            },
            range: KeyRange::single(entry.key.clone()),
        };
    };
    if let Some(text) = beginning(next, &place.text, delimiter) {
        return Group {
            range: beginning_with(prefix, text),
            node: Node {
                part: None,
                text: Some(text.to_owned()),
                entry: None,
                has_children: true,
            },
        };
    }
    let mut here = prefix.as_bytes().to_vec();
    let encoded = next.encode(&mut here);
    debug_assert!(encoded.is_ok(), "a decoded part encodes");
    let here = Key::new(here);
    let is_entry = parts.len() == depth + 1;
    let typed = v8json::key::to_typed(&Key::from_parts(std::slice::from_ref(next)));
    Group {
        node: Node {
            part: typed.get(0).cloned(),
            text: None,
            entry: is_entry.then(|| EntryRow::of(entry)),
            has_children: !is_entry,
        },
        range: KeyRange::new(here.clone(), here.with_suffix(&[0xff])),
    }
}

/// The beginning of a text part up to and with the first delimiter behind `known`.
fn beginning<'p>(part: &'p Part, known: &str, delimiter: &str) -> Option<&'p str> {
    let Part::String(text) = part else {
        return None;
    };
    if delimiter.is_empty() {
        return None;
    }
    let at = text.strip_prefix(known)?.find(delimiter)?;
    Some(&text[..known.len() + at + delimiter.len()])
}
