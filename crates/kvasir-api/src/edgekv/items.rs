//! Items and groups.
//!
//! A group is no thing of its own: it exists as long as an item lies in it. An item is written in one
//! commit with a check of its namespace's record, so none can appear in a namespace that ends at
//! the same moment.

use std::sync::Arc;

use bytes::Bytes;
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Mutation, Outcome, Part, RangeRead, SnapshotRead,
};

use super::database::{Database, TRIES};
use super::error;
use super::namespaces::{Namespace, NamespaceRecord};
use super::wire::names::{GROUP_BYTES_MAX, ITEM_BYTES_MAX, Realm, is_name};
use super::wire::{ItemValue, item_text};
use crate::error::ApiError;

/// Most keys of one listing of a group.
pub(super) const LISTED_ITEMS_MAX: usize = 100;

/// Most names of one listing of groups.
pub(super) const LISTED_GROUPS_MAX: usize = 10_000;

/// How long items of a sandbox live, in milliseconds: two days.
const SANDBOX_RETENTION_MS: i64 = 2 * 24 * 3600 * 1000;

/// Bytes read at once for a listing, which needs the keys only.
const LISTING_READ_BYTES: usize = 1024 * 1024;

/// An item to be written.
pub(super) struct ItemWrite {
    pub(super) group: String,
    pub(super) item: String,
    pub(super) value: ItemValue,
}

impl Database {
    /// The value of an item, as text; `None` if it is not there. The namespace is not looked at.
    pub(super) async fn item(
        &self,
        realm: &Realm,
        group: &str,
        item: &str,
    ) -> Result<Option<Bytes>, ApiError> {
        let Some(entry) = self.items().get(&realm.item(group, item)).await? else {
            return Ok(None);
        };
        if self.is_withheld(&entry) {
            return Ok(None);
        }
        Ok(Some(item_text(&entry.value)))
    }

    /// Whether a rehearsal of eventual consistency hides this entry still.
    fn is_withheld(&self, entry: &Entry) -> bool {
        let window_ms = i64::from(self.settings.inconsistency_window_ms);
        window_ms > 0 && self.now().0 < entry.versionstamp.time().0.saturating_add(window_ms)
    }

    /// Writes an item.
    ///
    /// # Errors
    ///
    /// 400 `EKV_9000` if the namespace is not there.
    pub(super) async fn upsert(&self, realm: &Realm, write: &ItemWrite) -> Result<(), ApiError> {
        self.commit_in(realm, |namespace| {
            let now = self.now();
            let retention = match realm.sandbox {
                None => namespace.expiry(now),
                Some(_) => now.checked_add_ms(SANDBOX_RETENTION_MS),
            };
            vec![Mutation::Set {
                key: realm.item(&write.group, &write.item),
                value: write.value.value.clone(),
                expires_at: retention,
                meta: write.value.meta.clone(),
                keep_created: false,
            }]
        })
        .await
    }

    /// Removes an item, if it is there.
    ///
    /// # Errors
    ///
    /// 400 `EKV_9000` if the namespace is not there.
    pub(super) async fn remove(
        &self,
        realm: &Realm,
        group: &str,
        item: &str,
    ) -> Result<(), ApiError> {
        let key = realm.item(group, item);
        self.commit_in(realm, |_| vec![Mutation::delete(key.clone())])
            .await
    }

    /// Commits changes of items while their namespace is there.
    async fn commit_in(
        &self,
        realm: &Realm,
        mutations: impl Fn(&NamespaceRecord) -> Vec<Mutation>,
    ) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            let namespace = self.namespace(realm.network, &realm.namespace).await?;
            let mutations = mutations(&namespace.record);
            let committed = if Arc::ptr_eq(self.system().store(), self.items().store()) {
                self.commit_with_check(&namespace, mutations).await?
            } else {
                self.commit_then_check(realm, mutations).await?
            };
            if committed {
                return Ok(());
            }
        }
        Err(error::busy())
    }

    /// One commit over both keyspaces; `false` if the namespace has changed meanwhile.
    async fn commit_with_check(
        &self,
        namespace: &Namespace,
        mutations: Vec<Mutation>,
    ) -> Result<bool, ApiError> {
        let check =
            AtomicWrite::new().check(namespace.entry.key.clone(), namespace.entry.versionstamp);
        let write = AtomicWrite {
            mutations,
            ..AtomicWrite::new()
        };
        let write = self
            .system()
            .stored_write(check)?
            .and(self.items().stored_write(write)?);
        let outcome = self.items().store().commit(write).await?;
        Ok(matches!(outcome, Outcome::Committed(_)))
    }

    /// For items in a store of their own: the namespace is looked at again afterwards, and if it is
    /// gone, so is what was written.
    async fn commit_then_check(
        &self,
        realm: &Realm,
        mutations: Vec<Mutation>,
    ) -> Result<bool, ApiError> {
        let undo = mutations.iter().fold(AtomicWrite::new(), |undo, mutation| {
            undo.push(Mutation::delete(mutation.key().clone()))
        });
        let write = AtomicWrite {
            mutations,
            ..AtomicWrite::new()
        };
        self.items().commit(write).await?;
        if self.find(realm.network, &realm.namespace).await?.is_none() {
            self.items().commit(undo).await?;
            return Err(error::no_namespace());
        }
        Ok(true)
    }

    /// The first keys of a group, behind `after` if that is given.
    pub(super) async fn keys(
        &self,
        realm: &Realm,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ApiError> {
        let group = realm.group(group);
        let mut range = KeyRange::below(&group);
        if let Some(after) = after {
            range.start = group.with_string(after).successor();
        }
        let depth = group.parts().map_or(0, |parts| parts.len());
        let mut keys = Vec::new();
        while keys.len() < limit {
            let wanted = limit - keys.len();
            let mut read = RangeRead::new(range.clone(), wanted);
            read.bytes_max = LISTING_READ_BYTES;
            let mut found = self.items().read(SnapshotRead::range(read)).await?.ranges;
            let found = found.pop().unwrap_or_default();
            keys.extend(found.entries.iter().filter_map(|entry| {
                let parts = entry.key.parts().ok()?;
                let is_item = parts.len() == depth + 1;
                name_at(&entry.key, depth, ITEM_BYTES_MAX).filter(|_| is_item)
            }));
            let is_last = !found.cut_by_bytes && found.entries.len() < wanted;
            match found.entries.last() {
                Some(last) if !is_last => range.start = last.key.successor(),
                _ => break,
            }
        }
        Ok(keys)
    }

    /// The names of groups, at most `limit`. Each is found by one look behind the one before, so the
    /// cost is that of the groups and not of their items.
    pub(super) async fn groups(
        &self,
        realm: &Realm,
        limit: usize,
    ) -> Result<Vec<String>, ApiError> {
        let mut range = KeyRange::below(&realm.prefix());
        let depth = realm.prefix().parts().map_or(0, |parts| parts.len());
        let mut groups = Vec::new();
        while groups.len() < limit {
            let read = SnapshotRead::range(RangeRead::new(range.clone(), 1));
            let Some(entry) = self
                .items()
                .read(read)
                .await?
                .into_firsts()
                .next()
                .flatten()
            else {
                break;
            };
            match name_at(&entry.key, depth, GROUP_BYTES_MAX) {
                Some(group) => {
                    range.start = KeyRange::below(&realm.group(&group)).end;
                    groups.push(group);
                }
                None => range.start = entry.key.successor(),
            }
        }
        Ok(groups)
    }
}

/// The name that a key has as one of its parts. Another dialect may write keys of any form below
/// ours; those that no path of this one can name have none.
fn name_at(key: &Key, depth: usize, bytes_max: usize) -> Option<String> {
    match key.parts().ok()?.into_iter().nth(depth)? {
        Part::String(name) if is_name(&name, bytes_max) => Some(name),
        _ => None,
    }
}
