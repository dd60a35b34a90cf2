//! Where documents lie in the keyspace. Importers write by it too.
//!
//! - `(realm, user, client, collection, rest)` holds a document. The collection is the part of its
//!   key before the first slash; a key without a slash has the empty collection.
//! - `("order", realm, user, client, collection, versionstamp, place)` holds the document's `rest`.
//!   Its versionstamp is the document's own, and `place` its place within one batch, so walking
//!   the index visits documents in the order of their last writes.
//!
//! The only realm is `user`, so no document begins with `order`.

use bytes::Bytes;
use kvasir_kv::{Encoding, Entry, Key, KeyRange, Meta, Part, UnixMillis, Value, Versionstamp};

/// The only realm.
pub const REALM: &str = "user";

/// First part of the order index.
const ORDER: &str = "order";

/// Whose documents: one user's, of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The application.
    pub client: String,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The stored content type, parameters included; `None` if none was sent.
    pub content_type: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}

/// Whether a content type means JSON: exactly `application/json` before any `;`, in any case.
pub fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Collection and rest of a document's key.
pub fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// The document's key of a collection and rest.
pub fn join(collection: &str, rest: &str) -> String {
    if collection.is_empty() {
        rest.to_owned()
    } else {
        format!("{collection}/{rest}")
    }
}

/// Where a document lies.
pub fn document_key(owner: &Owner, key: &str) -> Key {
    // `/x` has an empty first segment, which is not "no collection": keep the slash in the rest.
    let (collection, rest) = if key.starts_with('/') {
        ("", key)
    } else {
        split(key)
    };
    Key::from_strings([REALM, &owner.user, &owner.client, collection, rest])
}

/// The index of a collection.
pub fn order_prefix(owner: &Owner, collection: &str) -> Key {
    Key::from_strings([ORDER, REALM, &owner.user, &owner.client, collection])
}

/// What stands behind the versionstamp in an index key.
pub fn order_suffix(place: u32) -> Key {
    Key::from_parts(&[Part::BigInt(place.into())])
}

/// The index key of a document that was written at `stamp` in `place`.
pub fn order_key(owner: &Owner, collection: &str, stamp: Versionstamp, place: u32) -> Key {
    order_prefix(owner, collection)
        .with_string(&stamp.to_string())
        .with_suffix(order_suffix(place).as_bytes())
}

/// Every index key of a collection.
pub fn order_range(owner: &Owner, collection: &str) -> KeyRange {
    KeyRange::below(&order_prefix(owner, collection))
}

/// The versionstamp and place in an index key.
pub fn read_order_key(key: &Key) -> Option<(Versionstamp, u32)> {
    match key.parts().ok()?.as_slice() {
        [.., Part::String(stamp), Part::BigInt(place)] => {
            Some((stamp.parse().ok()?, u32::try_from(place).ok()?))
        }
        _ => None,
    }
}

/// The value of an index key.
pub fn order_value(rest: &str) -> Value {
    Value::bytes(rest.as_bytes().to_vec())
}

/// Value and meta of a document. `place` is its place within a batch.
pub fn stored(document: &Document, place: u32) -> (Value, Option<Meta>) {
    let is_json = document.content_type.as_deref().is_some_and(is_json);
    let encoding = if is_json {
        Encoding::Json
    } else {
        Encoding::Bytes
    };
    let meta = Meta {
        content_type: document.content_type.clone(),
        extra: (place > 0).then(|| Bytes::copy_from_slice(&place.to_be_bytes())),
        ..Meta::default()
    };
    (
        Value {
            encoding,
            bytes: document.bytes.clone(),
        },
        Some(meta),
    )
}

/// The document in an entry.
pub fn document(entry: &Entry) -> Document {
    let content_type = entry
        .meta
        .as_ref()
        .and_then(|meta| meta.content_type.clone());
    // Other dialects and the console may have written it without a content type.
    let assumed =
        || (entry.value.encoding == Encoding::Json).then(|| "application/json".to_owned());
    Document {
        content_type: content_type.or_else(assumed),
        bytes: entry.value.bytes.clone(),
    }
}

/// The place of an entry within the batch that wrote it.
pub fn place(entry: &Entry) -> u32 {
    let extra = entry.meta.as_ref().and_then(|meta| meta.extra.as_ref());
    extra
        .and_then(|extra| Some(u32::from_be_bytes(extra.as_ref().try_into().ok()?)))
        .unwrap_or(0)
}

/// A document and its index entry as imports write them: the write at `stamp`, in `place`.
pub fn imported(
    owner: &Owner,
    key: &str,
    document: &Document,
    stamp: Versionstamp,
    place: u32,
) -> [Entry; 2] {
    let (collection, rest) = if key.starts_with('/') {
        ("", key)
    } else {
        split(key)
    };
    let (value, meta) = stored(document, place);
    let entry = |key, value, meta: Option<Meta>| Entry {
        key,
        value,
        versionstamp: stamp,
        expires_at: None::<UnixMillis>,
        meta: meta.filter(|meta| !meta.is_empty()).map(Into::into),
    };
    [
        entry(document_key(owner, key), value, meta),
        entry(
            order_key(owner, collection, stamp, place),
            order_value(rest),
            None,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_must_be_json_exactly_whatever_its_case_and_parameters() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "application/vnd.x+json",
            "text/json",
            "application/json-patch+json",
            "",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn index_keys_tell_stamp_and_place() {
        let owner = Owner {
            user: "u".into(),
            client: "c".into(),
        };
        let stamp = Versionstamp::new(77, 3);
        let key = order_key(&owner, "col", stamp, 300);
        assert_eq!(read_order_key(&key), Some((stamp, 300)));
        assert!(order_range(&owner, "col").contains(&key));
        assert!(!order_range(&owner, "co").contains(&key));
    }

    #[test]
    fn later_places_sort_behind_earlier_ones() {
        let owner = Owner {
            user: "u".into(),
            client: "c".into(),
        };
        let key = |place| order_key(&owner, "c", Versionstamp::new(1, 0), place);
        assert!(key(0) < key(1) && key(9) < key(10) && key(255) < key(256));
    }
}
