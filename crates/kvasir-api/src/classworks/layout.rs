//! How namespaces, keys and settings lie in the store. On users' disks: changing it is a migration.
//!
//! | what | keyspace | key | value |
//! | --- | --- | --- | --- |
//! | a value | the mount's, `classworks` | `(namespace, key)` | JSON text as it came in |
//! | a value of the reserved namespace | system | `("classworks", "site", key)` | JSON text |
//! | settings of a namespace | system | `("classworks", "devices", namespace)` | [`Device`] as JSON |
//!
//! `createdAt` and `creatorIp` are the entry's meta ([`kvasir_kv::Entry::created_at`],
//! [`kvasir_kv::Meta::creator`]), and `updatedAt` is the time of its versionstamp. The reserved
//! namespace lies apart so that no token for the data keyspace reaches it, and settings because of
//! the password hashes in them.
//!
//! Importers write [`value_entry`] and [`device_entry`] with [`kvasir_kv::Store::ingest`].

use bytes::Bytes;
use kvasir_kv::{Entry, Error, Key, Keyspace, Meta, Part, Result, UnixMillis, Value, Versionstamp};
use serde::{Deserialize, Serialize};

use crate::context::Ctx;

use super::path::RESERVED_NAMESPACE;

/// First part of this dialect's keys in the system keyspace.
const SYSTEM_PREFIX: &str = "classworks";

/// Longest address that is kept as the writer of an entry, in bytes. The original stores lists of
/// proxies, which an import keeps as far as this.
pub const CREATOR_BYTES_MAX: usize = 191;

/// Who may do what without the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessType {
    /// Everybody reads and writes.
    #[default]
    Public,
    /// Everybody reads.
    Protected,
    /// Nobody reads or writes.
    Private,
}

/// The settings of a namespace. A namespace without a record has the default ones.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who may do what. Without a password it means nothing, see [`Device::access_type`].
    #[serde(rename = "accessType")]
    pub set_access_type: AccessType,
    /// Hash of the password: argon2id in PHC format, or the original's bcrypt until the password is
    /// used for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What helps its owner to remember the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hint: Option<String>,
    /// The name under which this namespace may be read by everybody who knows that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_link: Option<String>,
    /// This name is such a link, and leads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links_to: Option<String>,
}

impl Device {
    /// Who may do what. Without a password everybody may do everything, whatever was set.
    pub fn access_type(&self) -> AccessType {
        match self.password {
            Some(_) => self.set_access_type,
            None => AccessType::Public,
        }
    }

    /// The record in a stored value.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is none.
    pub fn read(value: &Value) -> Result<Device> {
        serde_json::from_slice(&value.bytes)
            .map_err(|error| Error::Corrupt(format!("settings of a Classworks namespace: {error}")))
    }

    /// The record as a stored value.
    pub fn to_value(&self) -> Value {
        Value::json(serde_json::to_vec(self).expect("texts make JSON"))
    }
}

/// Hides the hash, and the names that are secrets.
impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("access_type", &self.access_type())
            .finish_non_exhaustive()
    }
}

/// Key of a value in the mount's keyspace.
pub fn value_key(namespace: &str, key: &str) -> Key {
    Key::from_strings([namespace, key])
}

/// Key of a value of the reserved namespace, in the system keyspace.
pub fn site_key(key: &str) -> Key {
    Key::from_strings([SYSTEM_PREFIX, "site", key])
}

/// Key of a namespace's settings, in the system keyspace.
pub fn device_key(namespace: &str) -> Key {
    devices_prefix().with_string(namespace)
}

/// What all [`device_key`]s begin with.
pub(super) fn devices_prefix() -> Key {
    Key::from_strings([SYSTEM_PREFIX, "devices"])
}

/// A value to be imported, under [`value_key`] or [`site_key`].
pub fn value_entry(
    key: Key,
    json: impl Into<Bytes>,
    creator: &str,
    created_at: UnixMillis,
    updated_at: UnixMillis,
) -> Entry {
    let mut creator = creator.to_owned();
    creator.truncate(creator.floor_char_boundary(CREATOR_BYTES_MAX));
    let meta = Meta {
        creator: (!creator.is_empty()).then_some(creator),
        created_at: (created_at != updated_at).then_some(created_at),
        ..Meta::default()
    };
    Entry {
        key,
        value: Value::json(json),
        versionstamp: stamp_at(updated_at),
        expires_at: None,
        meta: (!meta.is_empty()).then(|| meta.into()),
    }
}

/// Settings to be imported.
pub fn device_entry(namespace: &str, device: &Device, updated_at: UnixMillis) -> Entry {
    Entry {
        key: device_key(namespace),
        value: device.to_value(),
        versionstamp: stamp_at(updated_at),
        expires_at: None,
        meta: None,
    }
}

/// The versionstamp that a write at that time would have had.
fn stamp_at(time: UnixMillis) -> Versionstamp {
    let millis = u64::try_from(time.0).unwrap_or_default();
    Versionstamp::new(millis.saturating_mul(1000), 0)
}

/// Where the keys of one namespace lie.
#[derive(Clone)]
pub(super) struct Space {
    pub(super) keyspace: Keyspace,
    /// All keys of the namespace are this and one more string part.
    pub(super) prefix: Key,
}

impl Space {
    pub(super) fn of(ctx: &Ctx, namespace: &str) -> Space {
        if namespace == RESERVED_NAMESPACE {
            Space {
                keyspace: ctx.system.clone(),
                prefix: Key::from_strings([SYSTEM_PREFIX, "site"]),
            }
        } else {
            Space {
                keyspace: ctx.keyspace.clone(),
                prefix: Key::from_strings([namespace]),
            }
        }
    }

    pub(super) fn key(&self, key: &str) -> Key {
        self.prefix.with_string(key)
    }

    /// The name of a stored key; `None` for what other dialects put below the same prefix.
    pub(super) fn name_of(&self, key: &Key) -> Option<String> {
        let rest = key.as_bytes().strip_prefix(self.prefix.as_bytes())?;
        match Key::new(rest.to_vec()).parts().ok()?.as_slice() {
            [Part::String(name)] => Some(name.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_value_keeps_its_times_and_writer() {
        let (created, updated) = (UnixMillis(1_000), UnixMillis(2_000));
        let entry = value_entry(value_key("ns", "k"), "[]", "::1", created, updated);
        assert_eq!(entry.created_at(), created);
        assert_eq!(entry.versionstamp.time(), updated);
        let meta = entry.meta.expect("it has a writer");
        assert_eq!(meta.creator.as_deref(), Some("::1"));

        let long = "字".repeat(100);
        let entry = value_entry(value_key("ns", "k"), "[]", &long, updated, updated);
        let kept = entry.meta.and_then(|meta| meta.creator.clone());
        assert_eq!(kept.map(|kept| kept.len()), Some(189));
        let entry = value_entry(value_key("ns", "k"), "[]", "", updated, updated);
        assert_eq!(entry.meta, None);
    }

    #[test]
    fn settings_round_trip_and_unknown_members_are_no_damage() {
        let device = Device {
            name: Some("高一1班".into()),
            set_access_type: AccessType::Private,
            password: Some("$2b$08$…".into()),
            ..Device::default()
        };
        assert_eq!(Device::read(&device.to_value()).unwrap(), device);
        let newer = Value::json(r#"{"accessType":"PROTECTED","later":1}"#);
        let newer = Device::read(&newer).unwrap();
        assert_eq!(newer.set_access_type, AccessType::Protected);
        assert_eq!(
            newer.access_type(),
            AccessType::Public,
            "there is no password"
        );
        assert!(Device::read(&Value::json("[")).is_err());
    }
}
