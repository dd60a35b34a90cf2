//! Issued tokens as the system keyspace keeps them: `("tokens", id)` holds one JSON object.
//!
//! The form is on users' disks; members may be added, never changed.

use kvasir_kv::{Entry, Error, Key, KeyRange, KeyspaceName, Result, UnixMillis, Value};
use serde::{Deserialize, Serialize};

use crate::last_use::LastUse;
use crate::network::{ParseNetworkError, Sources};
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
    /// From where it may be used.
    pub sources: Sources,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Id of the principal that made it.
    pub created_by: String,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// When and from where it was used last, as far as is known. Kept beside the record.
    pub last_use: Option<LastUse>,
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
            sources: self
                .sources
                .networks()
                .iter()
                .map(ToString::to_string)
                .collect(),
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
        let sources = record.sources.iter().map(|network| network.parse());
        let sources: std::result::Result<Sources, _> = sources.collect();
        Ok(Issued {
            id,
            name: record.name,
            grants: grants.ok_or_else(damaged)?,
            sources: sources.map_err(|_: ParseNetworkError| damaged())?,
            created_at: UnixMillis(record.created_at),
            created_by: record.created_by,
            expires_at: record.expires_at.map(UnixMillis),
            revoked_at: record.revoked_at.map(UnixMillis),
            last_use: None,
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
    /// Networks; none for anywhere. Left out by versions that did not know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
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

#[cfg(test)]
mod tests {
    use kvasir_kv::Versionstamp;

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            key: key_of("0123456789abcdef".parse().unwrap()),
            value: Value::json(text.to_owned()),
            versionstamp: Versionstamp::ZERO,
            expires_at: None,
            meta: None,
        }
    }

    #[test]
    fn records_from_before_sources_were_known_are_read_as_usable_anywhere() {
        let hash = "0".repeat(64);
        let old = format!(
            r#"{{"name":"old","hash":"{hash}","grants":[{{"verbs":["read"]}}],"created_at":1}}"#
        );
        let issued = Issued::read(&entry(&old)).unwrap();
        assert_eq!(issued.sources, Sources::default());
        assert!(!String::from_utf8_lossy(&issued.to_value().bytes).contains("sources"));
    }

    #[test]
    fn sources_are_read_back_and_damaged_ones_are_never_taken_for_anywhere() {
        let hash = "0".repeat(64);
        let with = |sources: &str| {
            format!(
                r#"{{"name":"n","hash":"{hash}","grants":[],"created_at":1,"sources":{sources}}}"#
            )
        };
        let issued = Issued::read(&entry(&with(r#"["10.0.0.0/8","::1/128"]"#))).unwrap();
        let again = Entry {
            value: issued.to_value(),
            ..entry("")
        };
        assert_eq!(Issued::read(&again).unwrap().sources, issued.sources);
        assert_eq!(issued.sources.networks().len(), 2);
        for damaged in [r#"["10.0.0.0/99"]"#, r#"[""]"#, "null", r#""10.0.0.0/8""#] {
            assert!(Issued::read(&entry(&with(damaged))).is_err(), "{damaged}");
        }
    }
}
