//! The database: one per server, initialised once.
//!
//! [`Database`] is what handlers hold. Its verbs stand by noun: [`super::namespaces`],
//! [`super::items`], [`super::tokens`]. Records lie as JSON in the system keyspace below
//! `("edgekv", ...)`, items in the mount's keyspace. Nothing of it is kept in memory besides what
//! never changes, so every node sees a change with the next request.

use std::sync::{Arc, OnceLock};

use data_encoding::BASE64;
use http::StatusCode;
use kvasir_kv::{
    AtomicWrite, Check, Entry, Error, Key, Keyspace, Mutation, Outcome, UnixMillis, Value,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error;
use super::namespaces::NamespaceRecord;
use super::settings::Settings;
use super::wire::names::Network;
use super::wire::namespace::DatabasePolicy;
use crate::context::Ctx;
use crate::error::ApiError;

/// How often a write is tried again because another one was faster.
pub(super) const TRIES: usize = 32;

/// The namespace that every network has.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Bytes of the key that signs the values of tokens.
const TOKEN_KEY_BYTES: usize = 32;

/// The database of a server.
#[derive(Clone)]
pub(super) struct Database(Arc<Inner>);

pub(super) struct Inner {
    pub(super) ctx: Ctx,
    pub(super) settings: Settings,
    /// Once there is a database, these never change.
    constants: OnceLock<Constants>,
}

/// What is fixed when a database is initialised.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// The number of the database, which most answers repeat.
    pub(super) cpcode: Arc<str>,
    /// Signs the values of tokens.
    pub(super) token_key: [u8; TOKEN_KEY_BYTES],
}

/// The database on disk, under `("edgekv", "database")`.
#[derive(Serialize, Deserialize)]
struct DatabaseRecord {
    cpcode: String,
    token_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<DatabasePolicy>,
}

impl DatabaseRecord {
    fn constants(&self) -> Result<Constants, ApiError> {
        let token_key = BASE64.decode(self.token_key.as_bytes()).ok();
        let token_key = token_key.and_then(|key| key.try_into().ok());
        Ok(Constants {
            cpcode: self.cpcode.as_str().into(),
            token_key: token_key.ok_or_else(|| corrupt("the token key of the database"))?,
        })
    }
}

/// The database as requests see it.
pub(super) struct Status {
    pub(super) cpcode: Arc<str>,
    pub(super) policy: Option<DatabasePolicy>,
}

impl std::ops::Deref for Database {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Database {
    pub(super) fn new(ctx: Ctx, settings: Settings) -> Database {
        Database(Arc::new(Inner {
            ctx,
            settings,
            constants: OnceLock::new(),
        }))
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.ctx.clock.now()
    }

    pub(super) fn system(&self) -> &Keyspace {
        &self.ctx.system
    }

    pub(super) fn items(&self) -> &Keyspace {
        &self.ctx.keyspace
    }

    /// Largest value: the dialect's limit or the store's, whichever is smaller.
    pub(super) fn value_bytes_max(&self) -> usize {
        let own = self.settings.value_bytes_max;
        own.min(self.ctx.limits.value_bytes_max)
    }

    /// The constants, if the database is initialised. With `auto_initialize` it always is.
    pub(super) async fn constants(&self) -> Result<Option<&Constants>, ApiError> {
        if let Some(constants) = self.constants.get() {
            return Ok(Some(constants));
        }
        let constants = match self.load().await? {
            Some((_, record)) => record.constants()?,
            None if self.settings.auto_initialize => {
                self.initialize(None).await?;
                let (_, record) = self.load().await?.ok_or_else(error::busy)?;
                record.constants()?
            }
            None => return Ok(None),
        };
        Ok(Some(self.constants.get_or_init(|| constants)))
    }

    /// The constants.
    ///
    /// # Errors
    ///
    /// `status` before initialisation: 404 for administration, 400 for the data plane.
    pub(super) async fn require(&self, status: StatusCode) -> Result<&Constants, ApiError> {
        let constants = self.constants().await?;
        constants.ok_or_else(|| error::not_initialized(status))
    }

    /// The database; `None` before initialisation.
    pub(super) async fn status(&self) -> Result<Option<Status>, ApiError> {
        let Some(constants) = self.constants().await? else {
            return Ok(None);
        };
        let policy = self.load().await?.and_then(|(_, record)| record.policy);
        Ok(Some(Status {
            cpcode: Arc::clone(&constants.cpcode),
            policy,
        }))
    }

    /// Makes the database and the default namespaces, once. Later calls change nothing but a
    /// policy that was not there yet.
    pub(super) async fn initialize(&self, policy: Option<DatabasePolicy>) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            let write = match self.load().await? {
                None => self.first_write(policy),
                Some((_, record)) if record.policy.is_some() || policy.is_none() => return Ok(()),
                Some((entry, mut record)) => {
                    record.policy = policy;
                    put(&entry, &record)
                }
            };
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return Ok(());
            }
        }
        Err(error::busy())
    }

    fn first_write(&self, policy: Option<DatabasePolicy>) -> AtomicWrite {
        let mut token_key = [0; TOKEN_KEY_BYTES];
        getrandom::fill(&mut token_key).expect("the operating system has randomness");
        let record = DatabaseRecord {
            cpcode: self.settings.cpcode.as_str().to_owned(),
            token_key: BASE64.encode(&token_key),
            policy,
        };
        let mut write = AtomicWrite::new()
            .check_absent(database_key())
            .push(Mutation::set(database_key(), json(&record)));
        for network in Network::ALL {
            let key = super::namespaces::key(network, DEFAULT_NAMESPACE);
            let namespace = NamespaceRecord::default_namespace();
            write = write.push(Mutation::set(key, json(&namespace)));
        }
        write
    }

    /// Sets the policy of namespaces that are created from now on.
    pub(super) async fn set_policy(&self, policy: DatabasePolicy) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            let Some((entry, mut record)) = self.load().await? else {
                return Err(error::not_initialized(StatusCode::NOT_FOUND));
            };
            record.policy = Some(policy);
            let write = put(&entry, &record);
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return Ok(());
            }
        }
        Err(error::busy())
    }

    async fn load(&self) -> Result<Option<(Entry, DatabaseRecord)>, ApiError> {
        let entry = self.system().get(&database_key()).await?;
        entry
            .map(|entry| Ok((entry.clone(), record(&entry)?)))
            .transpose()
    }
}

fn database_key() -> Key {
    Key::from_strings(["edgekv", "database"])
}

/// Replaces a record, if it is still the one that was read.
pub(super) fn put<T: Serialize>(entry: &Entry, record: &T) -> AtomicWrite {
    AtomicWrite::new()
        .check(entry.key.clone(), entry.versionstamp)
        .push(Mutation::set(entry.key.clone(), json(record)))
}

/// Adds a check that a key still holds what was read, an entry or nothing.
pub(super) fn unchanged(mut write: AtomicWrite, key: Key, entry: Option<&Entry>) -> AtomicWrite {
    let versionstamp = entry.map(|entry| entry.versionstamp);
    write.checks.push(Check { key, versionstamp });
    write
}

/// A record as it is stored.
pub(super) fn json<T: Serialize>(record: &T) -> Value {
    Value::json(serde_json::to_vec(record).expect("records have string keys and finite numbers"))
}

/// A stored record.
pub(super) fn record<T: DeserializeOwned>(entry: &Entry) -> Result<T, ApiError> {
    serde_json::from_slice(&entry.value.bytes)
        .map_err(|error| corrupt(&format!("a record of EdgeKV: {error}")))
}

pub(super) fn corrupt(what: &str) -> ApiError {
    Error::Corrupt(what.to_owned()).into()
}
