//! One entry as a line of an export, and back.
//!
//! The line is what the `kv-utils` package for Deno writes and reads,
//! `{"key": [...], "value": {"type", "value"}, "versionstamp"}`, with further members that it does
//! not look at:
//!
//! | member | when | what |
//! | --- | --- | --- |
//! | `expiresAt` | it expires | milliseconds since 1970 |
//! | `encoding` | it is JSON text | `json` |
//! | `raw` | `value` alone would not give back the very same bytes | base64 of the stored bytes; `encoding` is there as well |
//! | `meta` | there is some | `contentType`, `creator`, `createdAt`, `extra` |
//! | `keyspace` | the export holds several | the name of the entry's keyspace |
//!
//! So an export holds every entry to the byte, and is still readable by people and by that package.
//! A line may also hold `raw` and `encoding` and no `value`: importers of other stores write such.
//! Behind the entries may stand the messages of the database's queue, see [`MessageLine`].

mod message;

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use kvasir_kv::{Encoding, Entry, Meta, UnixMillis, Value, Versionstamp};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::v8json::{self, Form};

pub use message::MessageLine;

/// One entry of an export.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    /// The key, as a list of typed parts.
    #[schema(value_type = Vec<Object>)]
    pub key: Json,
    /// The value, typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Box<RawValue>>,
    /// The versionstamp, 20 hexadecimal digits; without one the entry gets a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versionstamp: Option<String>,
    /// When it expires, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Name of the encoding; needed with `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Base64 of the stored bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What is kept beside the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<LineMeta>,
    /// The name of the keyspace, in an export of several. Whoever writes entries says where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
}

/// See [`Line::meta`].
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LineMeta {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<String>,
}

/// A line is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineError(String);

fn wrong<T>(text: impl std::fmt::Display) -> Result<T, LineError> {
    Err(LineError(text.to_string()))
}

impl Line {
    /// The line of an entry.
    pub fn of(entry: &Entry) -> Line {
        let value = &entry.value;
        let typed = v8json::render_as(value, Form::Typed).text;
        let is_json = value.encoding == Encoding::Json;
        let is_exact = back(&typed, is_json).is_ok_and(|again| again == *value);
        let text = String::from_utf8_lossy(&typed).into_owned();
        Line {
            key: v8json::key::to_typed(&entry.key),
            value: RawValue::from_string(text).ok(),
            versionstamp: Some(entry.versionstamp.to_string()),
            expires_at: entry.expires_at.map(|at| at.0),
            encoding: (is_json || !is_exact).then(|| value.encoding.name().to_owned()),
            raw: (!is_exact).then(|| BASE64.encode(&value.bytes)),
            meta: entry.meta.as_deref().map(|meta| LineMeta {
                content_type: meta.content_type.clone(),
                creator: meta.creator.clone(),
                created_at: meta.created_at.map(|at| at.0),
                extra: meta.extra.as_ref().map(|extra| BASE64.encode(extra)),
            }),
            keyspace: None,
        }
    }

    /// The entry of a line; its versionstamp is zero if the line has none.
    ///
    /// # Errors
    ///
    /// If a member does not say what it should.
    pub fn into_entry(self) -> Result<Entry, LineError> {
        let key = v8json::key::from_typed(&self.key).or_else(wrong)?;
        let value = self.value()?;
        let versionstamp = match &self.versionstamp {
            None => Versionstamp::ZERO,
            Some(text) => text.parse().or_else(wrong)?,
        };
        let meta = match self.meta {
            None => None,
            Some(meta) => Some(Arc::new(Meta {
                content_type: meta.content_type,
                creator: meta.creator,
                created_at: meta.created_at.map(UnixMillis),
                extra: meta.extra.map(|text| bytes(&text)).transpose()?,
            })),
        };
        Ok(Entry {
            key,
            value,
            versionstamp,
            expires_at: self.expires_at.map(UnixMillis),
            meta: meta.filter(|meta| !meta.is_empty()),
        })
    }

    fn value(&self) -> Result<Value, LineError> {
        let encoding = self.encoding.as_deref().map(encoding).transpose()?;
        match (&self.raw, encoding, &self.value) {
            (Some(raw), Some(encoding), _) => {
                let bytes = bytes(raw)?;
                if encoding == Encoding::Json
                    && serde_json::from_slice::<&RawValue>(&bytes).is_err()
                {
                    return wrong("`raw` is not JSON, which `encoding` says");
                }
                Ok(Value { encoding, bytes })
            }
            (Some(_), None, _) => wrong("`raw` needs `encoding`"),
            (None, _, None) => wrong("an entry has a `value`, or `raw` and `encoding`"),
            (None, encoding, Some(value)) => {
                back(value.get().as_bytes(), encoding == Some(Encoding::Json))
            }
        }
    }
}

/// The encoding of this name.
fn encoding(name: &str) -> Result<Encoding, LineError> {
    match name {
        "v8" => Ok(Encoding::V8),
        "u64" => Ok(Encoding::U64),
        "bytes" => Ok(Encoding::Bytes),
        "json" => Ok(Encoding::Json),
        other => wrong(format!("there is no encoding {other:?}")),
    }
}

/// The value that typed JSON gives back.
fn back(typed: &[u8], is_json: bool) -> Result<Value, LineError> {
    let value = v8json::parse_typed(typed).or_else(wrong)?;
    if !is_json || value.encoding == Encoding::Json {
        return Ok(value);
    }
    let rendered = v8json::render(&value);
    if rendered.tagged {
        return wrong("the value is not JSON, which `encoding` says");
    }
    Ok(Value::json(rendered.text))
}

fn bytes(base64: &str) -> Result<Bytes, LineError> {
    match BASE64.decode(base64.as_bytes()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => wrong("bytes are written as base64"),
    }
}

#[cfg(test)]
mod tests {
    use kvasir_kv::Key;

    use super::*;

    fn entry(value: Value) -> Entry {
        Entry {
            key: Key::from_strings(["a"]),
            value,
            versionstamp: Versionstamp::new(1_700_000_000_000_000, 3),
            expires_at: None,
            meta: None,
        }
    }

    fn text(entry: &Entry) -> String {
        serde_json::to_string(&Line::of(entry)).unwrap()
    }

    fn again(text: &str) -> Entry {
        serde_json::from_str::<Line>(text)
            .unwrap()
            .into_entry()
            .unwrap()
    }

    #[test]
    fn ordinary_entries_are_lines_of_kv_utils_and_nothing_more() {
        assert_eq!(
            text(&entry(Value::v8(vec![0xff, 15, b'I', 2]))),
            r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"number","value":1},"versionstamp":"00060a24181e40000003"}"#
        );
    }

    #[test]
    fn every_entry_comes_back_to_the_byte() {
        let mut expiring = entry(Value::u64(7));
        expiring.expires_at = Some(UnixMillis(5));
        expiring.meta = Some(Arc::new(Meta {
            content_type: Some("text/plain".into()),
            created_at: Some(UnixMillis(-1)),
            extra: Some(Bytes::from_static(&[0, 255])),
            ..Meta::default()
        }));
        for entry in [
            expiring,
            entry(Value::bytes(vec![1, 2])),
            entry(Value::json(r#"{"a":[1,null]}"#)),
            entry(Value::json(" { \"a\" : 1.0e0 } ")),
            entry(Value::json(r#"{"type":"bigint","value":"1"}"#)),
            entry(Value::json("1e999")),
            // Format 16, padding, a shared object, a hole, damage.
            entry(Value::v8(vec![0xff, 16, b'0'])),
            entry(Value::v8(vec![0xff, 15, 0, b'0'])),
            entry(Value::v8(vec![0xff, 15, b'A', 1, b'-', b'$', 0, 1])),
            entry(Value::v8(vec![1, 2, 3])),
            entry(Value {
                encoding: Encoding::U64,
                bytes: Bytes::from_static(b"bad"),
            }),
        ] {
            let text = text(&entry);
            assert_eq!(again(&text), entry, "{text}");
        }
    }

    #[test]
    fn lines_of_kv_utils_without_more_are_read() {
        let line = r#"{"key":[{"type":"string","value":"a"}],"value":{"type":"bigint","value":"100"},"versionstamp":"00000000000000060000"}"#;
        let entry = again(line);
        assert_eq!(entry.versionstamp, Versionstamp::new(6, 0));
        assert_eq!(entry.value.encoding, Encoding::V8);
    }

    #[test]
    fn lines_that_are_no_entries_are_refused() {
        for text in [
            r#"{"key":"a","value":{"type":"null"}}"#,
            r#"{"key":["a"]}"#,
            r#"{"key":["a"],"raw":"AA=="}"#,
            r#"{"key":["a"],"raw":"?","encoding":"bytes"}"#,
            r#"{"key":["a"],"raw":"AA==","encoding":"json"}"#,
            r#"{"key":["a"],"raw":"AA==","encoding":"xml"}"#,
            r#"{"key":["a"],"value":1}"#,
            r#"{"key":["a"],"value":{"type":"null"},"versionstamp":"1"}"#,
            r#"{"key":["a"],"encoding":"json","value":{"type":"bigint","value":"1"}}"#,
        ] {
            let line = serde_json::from_str::<Line>(text).unwrap();
            assert!(line.into_entry().is_err(), "{text}");
        }
    }
}
