//! One line of the chain, and its head, as the store keeps them.
//!
//! `("audit", "line", number)` holds the line's hash in hexadecimal, a line break, and the line as
//! JSON; the hash is the SHA-256 of those bytes of JSON, which name the hash of the line before.
//! `("audit", "head")` holds where the chain begins and ends. The forms are on users' disks; members
//! may be added, never changed.

use data_encoding::HEXLOWER;
use kvasir_kv::{Entry, Error, Key, KeyRange, Part, Result, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{Deed, ON_CHARS_MAX};

/// Hash before the first line.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a line that was changed shows as its action.
const DAMAGED: &str = "changed line";

/// What was administered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditLine)]
pub struct Line {
    /// Counts from 1 on, without gaps.
    pub number: u64,
    /// When, as RFC 3339.
    pub at: String,
    /// Id of the token, or `local`, `process`, `bootstrap` or `signal`.
    pub by: String,
    /// The name of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_name: Option<String>,
    /// Address of the client.
    pub from: String,
    /// What was done, such as `token.create`.
    pub action: String,
    /// To what.
    pub on: String,
    /// Versionstamp of it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Versionstamp of it afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Status of the answer. From 500 on it is not known what became of it.
    pub status: u16,
    /// Id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Hash of the line before.
    pub previous: String,
}

/// A line with its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = HashedAuditLine)]
pub struct HashedLine {
    /// The line.
    #[serde(flatten)]
    pub line: Line,
    /// Its hash, which the next line names.
    pub hash: String,
}

impl Line {
    pub(super) fn new(number: u64, at: String, deed: &Deed, previous: String) -> Line {
        Line {
            number,
            at,
            by: deed.by.clone(),
            by_name: deed.by_name.clone(),
            from: deed.from.clone(),
            action: deed.action.clone(),
            on: deed.on.chars().take(ON_CHARS_MAX).collect(),
            before: deed.before.clone(),
            after: deed.after.clone(),
            status: deed.status,
            request: deed.request.clone(),
            previous,
        }
    }

    /// Its hash, and what is stored.
    pub(super) fn seal(&self) -> (String, Value) {
        let json = serde_json::to_vec(self).expect("strings and numbers are always JSON");
        let hash = hash_of(&json);
        let mut bytes = Vec::with_capacity(hash.len() + 1 + json.len());
        bytes.extend_from_slice(hash.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&json);
        (hash, Value::bytes(bytes))
    }
}

impl HashedLine {
    /// The line of an entry, with the hash that stands there.
    ///
    /// # Errors
    ///
    /// `Corrupt` if there is another hash, or no line.
    pub(super) fn read(entry: &Entry) -> Result<HashedLine> {
        let damaged = || Error::Corrupt("a line of the audit list".to_owned());
        let bytes = &entry.value.bytes;
        let at = bytes.iter().position(|byte| *byte == b'\n');
        let (hash, rest) = bytes.split_at(at.ok_or_else(damaged)?);
        let json = &rest[1..];
        let line: Line = serde_json::from_slice(json).map_err(|_| damaged())?;
        let hash_is = hash_of(json);
        match hash == hash_is.as_bytes() && number_of(&entry.key) == Some(line.number) {
            true => Ok(HashedLine {
                line,
                hash: hash_is,
            }),
            false => Err(damaged()),
        }
    }
}

impl HashedLine {
    /// The line of an entry; one that was changed is shown as that, so that the others can be listed.
    pub(super) fn shown(entry: &Entry) -> HashedLine {
        HashedLine::read(entry).unwrap_or_else(|_| HashedLine {
            line: Line {
                number: number_of(&entry.key).unwrap_or_default(),
                at: crate::time::rfc3339(entry.versionstamp.time()),
                by: String::new(),
                by_name: None,
                from: String::new(),
                action: DAMAGED.to_owned(),
                on: "this line was changed after it was written".to_owned(),
                before: None,
                after: None,
                status: 0,
                request: None,
                previous: String::new(),
            },
            hash: String::new(),
        })
    }
}

fn hash_of(json: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(json))
}

/// Where the chain begins and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Number of the oldest line.
    pub(super) first: u64,
    /// Hash that the oldest line names.
    pub(super) before: String,
    /// Number of the next line.
    pub(super) next: u64,
    /// Hash of the newest line.
    pub(super) hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Head {
            first: 1,
            before: NO_HASH.to_owned(),
            next: 1,
            hash: NO_HASH.to_owned(),
        }
    }
}

impl Head {
    pub(super) fn key() -> Key {
        Key::from_strings(["audit", "head"])
    }

    pub(super) fn count(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }

    pub(super) fn read(entry: &Entry) -> Result<Head> {
        serde_json::from_slice(&entry.value.bytes)
            .map_err(|_| Error::Corrupt("the head of the audit list".to_owned()))
    }

    pub(super) fn to_value(&self) -> Value {
        Value::json(serde_json::to_vec(self).expect("strings and numbers are always JSON"))
    }
}

/// Head and lines.
pub(super) fn all() -> KeyRange {
    KeyRange::below(&Key::from_strings(["audit"]))
}

/// All lines.
pub(super) fn range() -> KeyRange {
    KeyRange::below(&Key::from_strings(["audit", "line"]))
}

pub(super) fn key_of(number: u64) -> Key {
    Key::from_strings(["audit", "line", &format!("{number:020}")])
}

pub(super) fn number_of(key: &Key) -> Option<u64> {
    match key.parts().ok()?.as_slice() {
        [_, _, Part::String(number)] => number.parse().ok(),
        _ => None,
    }
}
