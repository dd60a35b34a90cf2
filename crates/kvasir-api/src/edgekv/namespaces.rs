//! Namespaces: their records, their limit, their end.
//!
//! A namespace is gone at the moment in its `delete_at_ms`, like an entry past its expiry: nobody sees
//! it any more, whether or not its items have been removed yet. Removing them is done by
//! [`Database::purge`], at once for a synchronous deletion and from the background for a scheduled
//! one, and it can be interrupted at any point and done again.

use futures_util::StreamExt;
use http::StatusCode;
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Mutation, Outcome, Part, RangeRead, SnapshotRead, UnixMillis,
};
use serde::{Deserialize, Serialize};

use super::database::{DEFAULT_NAMESPACE, Database, TRIES, corrupt, json, put, record, unchanged};
use super::error;
use super::wire::names::{Network, Realm};
use super::wire::namespace::{GEO_LOCATION_DEFAULT, NamespaceRequest};
use crate::error::ApiError;

/// Retention of the default namespace, in seconds: half a year. The seed's number.
const DEFAULT_RETENTION_SECONDS: u64 = 15_724_800;

/// A scheduled deletion can be called off until so long before it. The vendor's number.
pub(super) const CANCEL_MARGIN_MS: i64 = 5 * 60 * 1000;

/// Most items removed by one commit.
const PURGE_BATCH: usize = 1000;

/// Most namespaces that are read at once. Far over every sensible `namespaces_max`.
const NAMESPACES_READ_MAX: usize = 100_000;

/// A namespace on disk, under `("edgekv", "namespaces", network, name)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamespaceRecord {
    pub(super) retention_seconds: u64,
    pub(super) geo_location: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<NamespacePolicy>,
    /// From this moment on the namespace is not seen any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) delete_at_ms: Option<i64>,
}

/// Who may read a namespace's data. Kept and answered; nothing is restricted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamespacePolicy {
    pub(super) restrict_data_access: bool,
    /// From the database, not given for the namespace.
    pub(super) inherited: bool,
}

impl NamespaceRecord {
    pub(super) fn default_namespace() -> NamespaceRecord {
        NamespaceRecord {
            retention_seconds: DEFAULT_RETENTION_SECONDS,
            geo_location: GEO_LOCATION_DEFAULT.to_owned(),
            group_id: None,
            policy: None,
            delete_at_ms: None,
        }
    }

    /// When an item that is written now expires.
    pub(super) fn expiry(&self, now: UnixMillis) -> Option<UnixMillis> {
        match self.retention_seconds {
            0 => None,
            // The limit on retentions keeps this within the type.
            seconds => now.checked_add_ms(i64::try_from(seconds).ok()?.checked_mul(1000)?),
        }
    }

    fn is_live(&self, now: UnixMillis) -> bool {
        self.delete_at_ms.is_none_or(|at| now.0 < at)
    }
}

/// A namespace that is there, with the entry it was read from.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) name: String,
    pub(super) record: NamespaceRecord,
    pub(super) entry: Entry,
}

pub(super) fn key(network: Network, name: &str) -> Key {
    Key::from_strings(["edgekv", "namespaces", network.name(), name])
}

fn range(network: Network) -> KeyRange {
    KeyRange::below(&Key::from_strings(["edgekv", "namespaces", network.name()]))
}

/// Written with every new namespace, so that two creations cannot both be the last that fits.
fn guard_key(network: Network) -> Key {
    Key::from_strings(["edgekv", "namespace-guard", network.name()])
}

impl Database {
    /// A namespace that is there, or `None`.
    pub(super) async fn find(
        &self,
        network: Network,
        name: &str,
    ) -> Result<Option<Namespace>, ApiError> {
        let Some(entry) = self.system().get(&key(network, name)).await? else {
            return Ok(None);
        };
        let record: NamespaceRecord = record(&entry)?;
        Ok(record.is_live(self.now()).then(|| Namespace {
            name: name.to_owned(),
            record,
            entry,
        }))
    }

    /// A namespace.
    ///
    /// # Errors
    ///
    /// 400 `EKV_9000` if it is not there.
    pub(super) async fn namespace(
        &self,
        network: Network,
        name: &str,
    ) -> Result<Namespace, ApiError> {
        let found = self.find(network, name).await?;
        found.ok_or_else(error::no_namespace)
    }

    /// All namespaces of a network, by name.
    pub(super) async fn namespaces(&self, network: Network) -> Result<Vec<Namespace>, ApiError> {
        let now = self.now();
        let all = self.all_namespaces(network).await?;
        let live = all.into_iter().filter(|found| found.record.is_live(now));
        Ok(live.collect())
    }

    /// The same with those that are gone but not removed yet.
    async fn all_namespaces(&self, network: Network) -> Result<Vec<Namespace>, ApiError> {
        let read = RangeRead::new(range(network), NAMESPACES_READ_MAX);
        let snapshot = self.system().read(SnapshotRead::range(read)).await?;
        let entries = snapshot.ranges.into_iter().flat_map(|range| range.entries);
        entries.map(named).collect()
    }

    /// Creates a namespace.
    ///
    /// # Errors
    ///
    /// 409 if the name is in use, 400 at the limit of namespaces.
    pub(super) async fn create_namespace(
        &self,
        network: Network,
        request: NamespaceRequest,
    ) -> Result<Namespace, ApiError> {
        let name = request.namespace.clone();
        let policy = self.status().await?.and_then(|status| status.policy);
        let record = NamespaceRecord {
            retention_seconds: request.retention_seconds,
            geo_location: request
                .geo_location
                .unwrap_or_else(|| GEO_LOCATION_DEFAULT.to_owned()),
            group_id: request.group_id,
            policy: match (request.restrict_data_access, policy) {
                (Some(restrict_data_access), _) => Some(NamespacePolicy {
                    restrict_data_access,
                    inherited: false,
                }),
                (None, Some(policy)) => Some(NamespacePolicy {
                    restrict_data_access: policy.restrict_data_access,
                    inherited: true,
                }),
                (None, None) => None,
            },
            delete_at_ms: None,
        };
        for _ in 0..TRIES {
            let guard = self.system().get(&guard_key(network)).await?;
            let existing = self.all_namespaces(network).await?;
            if let Some(found) = existing.iter().find(|found| found.name == name) {
                if found.record.is_live(self.now()) {
                    return Err(error::conflict(format!(
                        "A namespace with the name {name} already exists with a different configuration"
                    )));
                }
                self.purge(network, found).await?;
                continue;
            }
            if existing.len() >= self.settings.namespaces_max {
                return Err(error::invalid(format!(
                    "A network cannot have more than {} namespaces.",
                    self.settings.namespaces_max
                )));
            }
            let key = key(network, &name);
            let write = unchanged(AtomicWrite::new(), guard_key(network), guard.as_ref())
                .check_absent(key.clone())
                .push(Mutation::set(guard_key(network), json(&())))
                .push(Mutation::set(key, json(&record)));
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return self.namespace(network, &name).await;
            }
        }
        Err(error::busy())
    }

    /// Changes the retention of a namespace, for items written from now on.
    ///
    /// # Errors
    ///
    /// 400 for the default namespace, one that is not there, and for members that cannot change.
    pub(super) async fn update_namespace(
        &self,
        network: Network,
        name: &str,
        request: &NamespaceRequest,
    ) -> Result<Namespace, ApiError> {
        if request.namespace != name {
            return Err(error::invalid("The namespace must be the one in the path."));
        }
        let changed = self.change_namespace(network, name, |record| {
            if name == DEFAULT_NAMESPACE {
                return Err(error::invalid("The default namespace cannot be changed."));
            }
            // The vendor counts an absent group as 0, on both sides.
            if request.group_id.unwrap_or(0) != record.group_id.unwrap_or(0) {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    error::CONFLICT,
                    "groupId changes must be made through the reauthorize endpoint.",
                ));
            }
            if request
                .geo_location
                .as_ref()
                .is_some_and(|code| *code != record.geo_location)
            {
                return Err(error::invalid("geoLocation cannot be changed."));
            }
            record.retention_seconds = request.retention_seconds;
            Ok(())
        });
        changed.await?.ok_or_else(error::no_namespace)
    }

    /// Applies a change to the record of a namespace; `None` if the namespace is not there.
    pub(super) async fn change_namespace(
        &self,
        network: Network,
        name: &str,
        change: impl Fn(&mut NamespaceRecord) -> Result<(), ApiError>,
    ) -> Result<Option<Namespace>, ApiError> {
        for _ in 0..TRIES {
            let Some(mut found) = self.find(network, name).await? else {
                return Ok(None);
            };
            change(&mut found.record)?;
            let write = put(&found.entry, &found.record);
            if let Outcome::Committed(committed) = self.system().commit(write).await? {
                found.entry.versionstamp = committed.versionstamp;
                return Ok(Some(found));
            }
        }
        Err(error::busy())
    }

    /// Ends a namespace and removes all its items; `false` if it is not there.
    pub(super) async fn delete_namespace(
        &self,
        network: Network,
        name: &str,
    ) -> Result<bool, ApiError> {
        let now = self.now().0;
        let ended = self.change_namespace(network, name, |record| {
            record.delete_at_ms = Some(now);
            Ok(())
        });
        match ended.await? {
            None => Ok(false),
            Some(ended) => {
                self.purge(network, &ended).await?;
                Ok(true)
            }
        }
    }

    /// Removes what is left of a namespace that is gone.
    async fn purge(&self, network: Network, gone: &Namespace) -> Result<(), ApiError> {
        // Rewriting the record makes every write fail that still believes in the namespace.
        let write = put(&gone.entry, &gone.record);
        let Outcome::Committed(ended) = self.system().commit(write).await? else {
            // Somebody else is at it, or it was called back.
            return Ok(());
        };
        let mut prefixes = vec![Realm::plain(network, &gone.name).prefix()];
        if network == Network::Staging {
            prefixes.push(Realm::sandboxes(&gone.name));
        }
        for prefix in prefixes {
            self.remove_below(&prefix).await?;
        }
        let key = gone.entry.key.clone();
        let write = AtomicWrite::new()
            .check(key.clone(), ended.versionstamp)
            .push(Mutation::delete(key));
        self.system().commit(write).await?;
        Ok(())
    }

    async fn remove_below(&self, prefix: &Key) -> Result<(), ApiError> {
        let mut pages = self.items().scan(&KeyRange::below(prefix), false);
        while let Some(page) = pages.next().await {
            for entries in page?.entries.chunks(PURGE_BATCH) {
                let write = entries.iter().fold(AtomicWrite::new(), |write, entry| {
                    write.push(Mutation::delete(entry.key.clone()))
                });
                self.items().commit(write).await?;
            }
        }
        Ok(())
    }

    /// Removes every namespace whose time has come. When the next one comes, if any is scheduled.
    pub(super) async fn purge_due(&self) -> Result<Option<UnixMillis>, ApiError> {
        let mut next: Option<UnixMillis> = None;
        for network in Network::ALL {
            for found in self.all_namespaces(network).await? {
                let Some(at) = found.record.delete_at_ms.map(UnixMillis) else {
                    continue;
                };
                if found.record.is_live(self.now()) {
                    next = Some(next.map_or(at, |next| next.min(at)));
                } else {
                    self.purge(network, &found).await?;
                    tracing::info!(
                        network = network.name(),
                        "removed a deleted EdgeKV namespace and its items"
                    );
                }
            }
        }
        Ok(next)
    }
}

fn named(entry: Entry) -> Result<Namespace, ApiError> {
    let name = match entry.key.parts().as_deref() {
        Ok([_, _, _, Part::String(name)]) => name.clone(),
        _ => return Err(corrupt("the key of a namespace")),
    };
    let record = record(&entry)?;
    Ok(Namespace {
        name,
        record,
        entry,
    })
}
