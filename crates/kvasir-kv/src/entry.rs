//! Entries: what a key holds.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::UnixMillis;
use crate::key::Key;
use crate::value::Value;
use crate::versionstamp::Versionstamp;

/// A key and what it holds. Cloning shares all bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// The commit that last wrote this entry.
    pub versionstamp: Versionstamp,
    /// From this moment on the entry is not seen any more; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// What some dialects must give back and others ignore.
    pub meta: Option<Arc<Meta>>,
}

impl Entry {
    /// Whether the entry is past its expiry and must not be seen.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// When the key came into being: the creation time kept by [`crate::Mutation::Set`] with
    /// `keep_created`, else the time of the last write.
    pub fn created_at(&self) -> UnixMillis {
        let kept = self.meta.as_ref().and_then(|meta| meta.created_at);
        kept.unwrap_or_else(|| self.versionstamp.time())
    }

    /// Bytes of key, value and meta: what the entry costs a cache or an answer.
    pub fn cost_bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.meta.as_ref().map_or(0, |meta| meta.cost_bytes())
    }
}

/// Small facts beside the value, at most [`crate::limits::META_BYTES_MAX`] bytes in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The media type the value was sent with.
    pub content_type: Option<String>,
    /// Address of the client that wrote the entry.
    pub creator: Option<String>,
    /// When the key came into being, if that is not the time of the last write.
    pub created_at: Option<UnixMillis>,
    /// Bytes that only the dialect that wrote them understands.
    pub extra: Option<Bytes>,
}

impl Meta {
    /// Whether there is nothing in it; such a meta is not stored.
    pub fn is_empty(&self) -> bool {
        *self == Meta::default()
    }

    /// Bytes of its members.
    pub fn cost_bytes(&self) -> usize {
        self.content_type.as_ref().map_or(0, String::len)
            + self.creator.as_ref().map_or(0, String::len)
            + self.created_at.map_or(0, |_| 8)
            + self.extra.as_ref().map_or(0, Bytes::len)
    }
}
