//! Issued tokens as the system keyspace keeps them: `("tokens", id)` holds one JSON object.
//!
//! The form is on users' disks; members may be added, never changed.

use kvasir_kv::{Entry, Error, Key, KeyRange, KeyspaceName, Result, UnixMillis, Value};
use serde::{Deserialize, Serialize};

use crate::principal::{Grant, Principal, Verb};
use crate::token::{TokenHash, TokenId};

/// What is known about an issued token. The secret is not.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Names the token.
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Id of the principal that made it.
    pub created_by: String,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    pub(crate) hash: TokenHash,
}

impl Issued {
    /// Whether it lets anybody in at `now`.
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    /// Who shows it.
    pub(crate) fn principal(&self) -> Principal {
        Principal::new(self.id.to_string(), self.grants.clone())
    }

    pub(crate) fn to_value(&self) -> Value {
        let record = Record {
            name: self.name.clone(),
            hash: self.hash.to_hex(),
            grants: self.grants.iter().map(GrantRecord::from).collect(),
            created_at: self.created_at.0,
            created_by: self.created_by.clone(),
            expires_at: self.expires_at.map(|at| at.0),
            revoked_at: self.revoked_at.map(|at| at.0),
        };
        let text = serde_json::to_vec(&record).expect("strings and numbers are always JSON");
        Value::json(text)
    }

    pub(crate) fn read(entry: &Entry) -> Result<Issued> {
        let damaged = || Error::Corrupt("the record of a token".to_owned());
        let id = id_of(&entry.key).ok_or_else(damaged)?;
        let record: Record = serde_json::from_slice(&entry.value.bytes).map_err(|_| damaged())?;
        let grants: Option<Vec<Grant>> = record.grants.into_iter().map(Grant::read).collect();
        Ok(Issued {
            id,
            name: record.name,
            grants: grants.ok_or_else(damaged)?,
            created_at: UnixMillis(record.created_at),
            created_by: record.created_by,
            expires_at: record.expires_at.map(UnixMillis),
            revoked_at: record.revoked_at.map(UnixMillis),
            hash: TokenHash::from_hex(&record.hash).ok_or_else(damaged)?,
        })
    }
}

/// Where the record of a token lies.
pub(crate) fn key_of(id: TokenId) -> Key {
    Key::from_strings(["tokens", &id.to_string()])
}

/// The token whose record lies at `key`.
pub(crate) fn id_of(key: &Key) -> Option<TokenId> {
    match key.parts().ok()?.as_slice() {
        [_, kvasir_kv::Part::String(id)] => id.parse().ok(),
        _ => None,
    }
}

/// Where all records lie.
pub(crate) fn range() -> KeyRange {
    KeyRange::below(&Key::from_strings(["tokens"]))
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    hash: String,
    grants: Vec<GrantRecord>,
    created_at: i64,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(default)]
    revoked_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct GrantRecord {
    #[serde(default)]
    dialects: Vec<String>,
    #[serde(default)]
    keyspace: Option<String>,
    /// Bytes of the key prefix in hexadecimal.
    #[serde(default)]
    prefix: String,
    verbs: Vec<String>,
    #[serde(default)]
    expires_at: Option<i64>,
}

impl From<&Grant> for GrantRecord {
    fn from(grant: &Grant) -> Self {
        GrantRecord {
            dialects: grant.dialects.clone(),
            keyspace: grant.keyspace.as_ref().map(ToString::to_string),
            prefix: data_encoding::HEXLOWER.encode(grant.prefix.as_bytes()),
            verbs: grant.verbs.iter().map(|v| v.name().to_owned()).collect(),
            expires_at: grant.expires_at.map(|at| at.0),
        }
    }
}

impl Grant {
    fn read(record: GrantRecord) -> Option<Grant> {
        let keyspace: Option<KeyspaceName> = match record.keyspace {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let prefix = data_encoding::HEXLOWER.decode(record.prefix.as_bytes());
        let verbs = record.verbs.iter().map(|name| Verb::from_name(name));
        Some(Grant {
            dialects: record.dialects,
            keyspace,
            prefix: Key::new(prefix.ok()?),
            verbs: verbs.collect::<Option<_>>()?,
            expires_at: record.expires_at.map(UnixMillis),
        })
    }
}
