//! What is known of backups beside their files: kept in the system keyspace, under
//! `("backups", name)`, and the schedule that was set under `("settings", "backup_schedule")`.

use kvasir_kv::{AtomicWrite, Key, Keyspace, Mutation, Result, UnixMillis, Value};
use kvasir_store::container::Summary;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::name::Name;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Entries in it.
    pub entries: Option<u64>,
    /// Hash over those that do not expire.
    pub content_hash: Option<String>,
    /// SHA-256 of the file.
    pub file_hash: Option<String>,
    /// When it was last found whole.
    pub verified_at_ms: Option<i64>,
    /// What was wrong when it was last read.
    pub damage: Option<String>,
}

impl Record {
    /// The backup was read to its end and is whole.
    pub fn verified(&mut self, summary: Option<&Summary>, at: UnixMillis) {
        if let Some(summary) = summary {
            self.entries = Some(summary.content.entries());
            self.content_hash = Some(summary.content.text());
        }
        self.verified_at_ms = Some(at.0);
        self.damage = None;
    }
}

/// The records of all backups.
#[derive(Clone, Debug)]
pub struct Records(Keyspace);

#[derive(Serialize, Deserialize)]
struct SetSchedule {
    cron: String,
}

impl Records {
    /// The records in the system keyspace.
    pub fn new(system: Keyspace) -> Records {
        Records(system)
    }

    fn key(name: &Name) -> Key {
        Key::from_strings(["backups", name.as_str()])
    }

    fn schedule_key() -> Key {
        Key::from_strings(["settings", "backup_schedule"])
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        let found = self.0.get(key).await?;
        // What cannot be read is as good as not known.
        Ok(found.and_then(|entry| serde_json::from_slice(&entry.value.bytes).ok()))
    }

    async fn write(&self, key: Key, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).expect("strings and numbers are JSON");
        let set = Mutation::set(key, Value::json(text));
        self.0.commit(AtomicWrite::new().push(set)).await?;
        Ok(())
    }

    /// What is known of a backup.
    pub async fn of(&self, name: &Name) -> Result<Record> {
        Ok(self.read(&Records::key(name)).await?.unwrap_or_default())
    }

    /// Keeps what is known of a backup.
    pub async fn set(&self, name: &Name, record: &Record) -> Result<()> {
        self.write(Records::key(name), record).await
    }

    /// Forgets a backup.
    pub async fn forget(&self, name: &Name) -> Result<()> {
        let delete = Mutation::delete(Records::key(name));
        self.0.commit(AtomicWrite::new().push(delete)).await?;
        Ok(())
    }

    /// The schedule that was set, if one was.
    pub async fn schedule(&self) -> Result<Option<String>> {
        let found: Option<SetSchedule> = self.read(&Records::schedule_key()).await?;
        Ok(found.map(|set| set.cron))
    }

    /// Sets the schedule.
    pub async fn set_schedule(&self, cron: &str) -> Result<()> {
        let set = SetSchedule {
            cron: cron.to_owned(),
        };
        self.write(Records::schedule_key(), &set).await
    }
}
