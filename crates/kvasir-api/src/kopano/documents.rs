//! Reading and writing documents together with their order index.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt;
use kvasir_kv::limits::RANGES_MAX;
use kvasir_kv::{AtomicWrite, Entry, Key, Keyspace, Mutation, Outcome, SnapshotRead, Versionstamp};

use super::layout::{self, Document, Owner};
use crate::error::ApiError;

/// Most documents of a listing. The original's limit, and its clients'.
pub(super) const LISTING_MAX: usize = 500;

/// How often a write or listing that met a concurrent change is tried again. Each try that fails
/// means that another request succeeded.
const TRIES_MAX: u32 = 100;

/// A condition on the present state of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It has this versionstamp.
    Is(Versionstamp),
    /// It exists.
    Exists,
    /// It does not exist.
    Absent,
}

impl Condition {
    fn holds(&self, present: Option<&Entry>) -> bool {
        match self {
            Condition::Is(stamp) => present.is_some_and(|entry| entry.versionstamp == *stamp),
            Condition::Exists => present.is_some(),
            Condition::Absent => present.is_none(),
        }
    }
}

fn precondition_failed() -> ApiError {
    ApiError::new(
        http::StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "the document is not in the state that the request expects",
    )
}

fn too_busy() -> ApiError {
    ApiError::unavailable("too many concurrent writes to these documents")
}

/// One document.
pub(super) async fn get(
    keyspace: &Keyspace,
    owner: &Owner,
    key: &str,
) -> Result<Option<Entry>, ApiError> {
    Ok(keyspace.get(&layout::document_key(owner, key)).await?)
}

/// Writes documents, all or none, in this order; of several with one key the last one counts.
/// Returns the versionstamp.
pub(super) async fn put(
    keyspace: &Keyspace,
    owner: &Owner,
    documents: Vec<(String, Document)>,
    condition: Option<&Condition>,
) -> Result<Versionstamp, ApiError> {
    let last: HashMap<&str, usize> = documents
        .iter()
        .enumerate()
        .map(|(place, (key, _))| (key.as_str(), place))
        .collect();
    let kept: Vec<(usize, &String, &Document)> = documents
        .iter()
        .enumerate()
        .filter(|(place, (key, _))| last.get(key.as_str()) == Some(place))
        .map(|(place, (key, document))| (place, key, document))
        .collect();

    for _ in 0..TRIES_MAX {
        let keys = kept
            .iter()
            .map(|(_, key, _)| layout::document_key(owner, key))
            .collect();
        let present = read_all(keyspace, keys).await?;
        let mut write = AtomicWrite::new();
        for ((place, key, document), present) in kept.iter().zip(present) {
            if condition.is_some_and(|condition| !condition.holds(present.as_ref())) {
                return Err(precondition_failed());
            }
            // Places are bounded by the number of entries a batch may have.
            let place = u32::try_from(*place).unwrap_or(u32::MAX);
            write = replacing(write, owner, key, present.as_ref());
            let (value, meta) = layout::stored(document, place);
            let (collection, rest) = split(key);
            write = write
                .push(Mutation::Set {
                    key: layout::document_key(owner, key),
                    value,
                    expires_at: None,
                    meta,
                    keep_created: false,
                })
                .push(Mutation::SetVersionstamped {
                    prefix: layout::order_prefix(owner, collection),
                    suffix: layout::order_suffix(place),
                    value: layout::order_value(rest),
                    expires_at: None,
                });
        }
        if let Outcome::Committed(committed) = keyspace.commit(write).await? {
            return Ok(committed.versionstamp);
        }
    }
    Err(too_busy())
}

/// Removes a document; `false` if there is none.
pub(super) async fn delete(
    keyspace: &Keyspace,
    owner: &Owner,
    key: &str,
    condition: Option<&Condition>,
) -> Result<bool, ApiError> {
    for _ in 0..TRIES_MAX {
        let present = get(keyspace, owner, key).await?;
        if condition.is_some_and(|condition| !condition.holds(present.as_ref())) {
            return Err(precondition_failed());
        }
        let Some(present) = present else {
            return Ok(false);
        };
        let write = replacing(AtomicWrite::new(), owner, key, Some(&present))
            .push(Mutation::delete(layout::document_key(owner, key)));
        if let Outcome::Committed(_) = keyspace.commit(write).await? {
            return Ok(true);
        }
    }
    Err(too_busy())
}

/// Adds what taking the place of `present` needs: a check that it is still the present state, and
/// the removal of its index entry.
fn replacing(write: AtomicWrite, owner: &Owner, key: &str, present: Option<&Entry>) -> AtomicWrite {
    let document_key = layout::document_key(owner, key);
    match present {
        None => write.check_absent(document_key),
        Some(entry) => {
            let (collection, _) = split(key);
            let place = layout::place(entry);
            let index = layout::order_key(owner, collection, entry.versionstamp, place);
            write
                .check(document_key, entry.versionstamp)
                .push(Mutation::delete(index))
        }
    }
}

/// As [`layout::split`], with the slash of keys without a first segment kept in the rest.
fn split(key: &str) -> (&str, &str) {
    if key.starts_with('/') {
        ("", key)
    } else {
        layout::split(key)
    }
}

/// The documents of a listing, and whether some were left out.
pub(super) struct Listing {
    /// Key and document, oldest write first.
    pub(super) documents: Vec<(String, Document)>,
    /// Whether there were more than [`LISTING_MAX`].
    pub(super) is_truncated: bool,
}

/// The oldest writes below a prefix, at most [`LISTING_MAX`].
///
/// Without a slash the prefix names a collection, the empty one holding keys without a slash. With
/// a slash its first segment does, and keys must begin with the whole string.
pub(super) async fn list(
    keyspace: &Keyspace,
    owner: &Owner,
    prefix: &str,
) -> Result<Listing, ApiError> {
    let (collection, wanted) = match prefix.split_once('/') {
        Some((collection, wanted)) => (collection, wanted),
        None => (prefix, ""),
    };
    for _ in 0..TRIES_MAX {
        let (listed, is_truncated) = index(keyspace, owner, collection, wanted).await?;
        let keys = listed
            .iter()
            .map(|listed| listed.document_key(owner, collection))
            .collect();
        let present = read_all(keyspace, keys).await?;
        // Documents that are still as the index said were all there at the moment of the index, so
        // together they are that moment's state. Otherwise somebody wrote in between.
        let documents: Option<Vec<(String, Document)>> = listed
            .iter()
            .zip(&present)
            .map(|(listed, present)| {
                let entry = present.as_ref().filter(|entry| listed.matches(entry))?;
                Some((
                    layout::join(collection, &listed.rest),
                    layout::document(entry),
                ))
            })
            .collect();
        if let Some(documents) = documents {
            return Ok(Listing {
                documents,
                is_truncated,
            });
        }
    }
    Err(too_busy())
}

/// A document as the index names it.
struct Listed {
    rest: String,
    stamp: Versionstamp,
    place: u32,
}

impl Listed {
    fn document_key(&self, owner: &Owner, collection: &str) -> Key {
        Key::from_strings([
            layout::REALM,
            &owner.user,
            &owner.client,
            collection,
            &self.rest,
        ])
    }

    fn matches(&self, entry: &Entry) -> bool {
        entry.versionstamp == self.stamp && layout::place(entry) == self.place
    }
}

/// The oldest index entries whose rest begins with `wanted`, and whether there are more.
async fn index(
    keyspace: &Keyspace,
    owner: &Owner,
    collection: &str,
    wanted: &str,
) -> Result<(Vec<Listed>, bool), ApiError> {
    let mut pages = keyspace.scan(&layout::order_range(owner, collection), false);
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            let rest = String::from_utf8(entry.value.bytes.to_vec()).unwrap_or_default();
            let Some((stamp, place)) = layout::read_order_key(&entry.key) else {
                continue;
            };
            if !rest.starts_with(wanted) {
                continue;
            }
            if listed.len() == LISTING_MAX {
                return Ok((listed, true));
            }
            listed.push(Listed { rest, stamp, place });
        }
    }
    Ok((listed, false))
}

/// The entries of many keys. Up to [`RANGES_MAX`] come from one snapshot; more are only read by
/// writes, which check every one of them.
async fn read_all(keyspace: &Keyspace, keys: Vec<Key>) -> Result<Vec<Option<Entry>>, ApiError> {
    if let [only] = keys.as_slice() {
        return Ok(vec![keyspace.get(only).await?]);
    }
    let mut entries = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(RANGES_MAX) {
        let snapshot = keyspace
            .read(SnapshotRead::keys(chunk.iter().cloned()))
            .await?;
        entries.extend(snapshot.into_firsts());
    }
    Ok(entries)
}

/// A document sent on its own.
pub(super) fn sent(content_type: Option<String>, bytes: Bytes) -> Document {
    Document {
        content_type,
        bytes,
    }
}
