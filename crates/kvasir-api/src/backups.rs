//! Backups as the admin API and its users see them.
//!
//! The machinery that reads stores and writes files is the binary's; it implements [`Backups`]. Longer
//! work is a [`Job`], which is started, looked at and cancelled.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiError;

/// One backup at the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupInfo {
    /// Its name, such as `20261121T150405Z-00060a24181e40000003.kvb`; what other routes call it by.
    pub name: String,
    /// When its snapshot was taken, RFC 3339.
    pub created_at: String,
    /// The newest commit in it.
    pub versionstamp: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Whether it is encrypted to a public key.
    pub encrypted: bool,
    /// How many entries it holds, if it was read.
    pub entries: Option<u64>,
    /// Hash over its entries, if it was read.
    pub content_hash: Option<String>,
    /// When it was last read to its end and found whole, RFC 3339.
    pub verified_at: Option<String>,
    /// What was wrong when it was last read.
    pub damage: Option<String>,
}

/// Data that is served here and that backups do not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The mount that has a store of its own.
    pub mount: String,
    /// What that store is.
    pub backend: String,
}

/// All backups at the target, and how they come about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupList {
    /// Where they are.
    pub target: String,
    /// The newest first.
    pub backups: Vec<BackupInfo>,
    /// How old the newest is, in seconds.
    pub age_seconds: Option<u64>,
    /// When they are taken.
    pub schedule: Schedule,
    /// The last rehearsal of a restore since the server started.
    pub last_drill: Option<Drill>,
    /// What no backup holds: mounts with a store of their own.
    pub left_out: Vec<LeftOut>,
}

/// When backups are taken, and which are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Minute, hour, day, month and weekday, in UTC, as cron has them; none if they are not taken by
    /// themselves.
    pub cron: Option<String>,
    /// When the next one is taken, RFC 3339.
    pub next_at: Option<String>,
    /// The same for rehearsals of a restore.
    pub drill_cron: Option<String>,
    /// When the next rehearsal is, RFC 3339.
    pub next_drill_at: Option<String>,
    /// Most backups that are kept; 0 for all.
    pub keep_count: u32,
    /// Days after which a backup is removed; 0 for never.
    pub keep_days: u32,
    /// Most bytes that all backups may have; 0 for any.
    pub keep_bytes: u64,
}

/// A rehearsal of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Which backup was restored.
    pub backup: String,
    /// When, RFC 3339.
    pub at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Whether count and content were right.
    pub ok: bool,
    /// What was found, in a sentence.
    pub detail: String,
    /// Entries that were restored.
    pub entries: u64,
}

/// What a new backup is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewBackup {
    /// What to write beside it, up to 1,000 characters.
    pub comment: String,
    /// Do not read it again to see that it is whole.
    pub skip_verify: bool,
}

/// Which backup is to be restored for practice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewDrill {
    /// Its name; the newest if none is named.
    pub name: Option<String>,
}

/// Which backups are to be kept. What is not said is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Prune {
    /// Most backups; 0 for all.
    pub keep_count: Option<u32>,
    /// Days; 0 for ever.
    pub keep_days: Option<u32>,
    /// Most bytes of all together; 0 for any.
    pub keep_bytes: Option<u64>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Names of the removed ones.
    pub removed: Vec<String>,
    /// Names of those that stay.
    pub kept: Vec<String>,
    /// Whether nothing was removed in truth.
    pub dry_run: bool,
}

/// When backups are to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema, IntoParams)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewSchedule {
    /// Minute, hour, day, month and weekday, in UTC, as cron has them; empty for never. Until it is
    /// set again this takes the place of the configured one.
    pub cron: String,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Takes a backup.
    Backup,
    /// Reads a backup to its end.
    Verify,
    /// Restores a backup for practice.
    Drill,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It is at work.
    Running,
    /// It came to its end.
    Done,
    /// It did not.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// One longer piece of work. The last 100 are remembered while the server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// What it is asked for by.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// The backup it is about, once there is one.
    pub backup: Option<String>,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
    /// Entries so far.
    pub entries: u64,
    /// Bytes of keys and values so far.
    pub bytes: u64,
    /// What it is doing, what it found, or why it failed, in a sentence.
    pub detail: String,
    /// Whether it failed because a backup is damaged.
    pub damaged: bool,
    /// What somebody should know although it did not fail, in a sentence.
    pub warning: Option<String>,
}

/// What can be done with backups.
#[async_trait]
pub trait Backups: Send + Sync + 'static {
    /// Everything there is to see.
    ///
    /// # Errors
    ///
    /// 503 if the target cannot be reached.
    async fn list(&self) -> Result<BackupList, ApiError>;

    /// Begins to take a backup.
    ///
    /// # Errors
    ///
    /// 409 while another one is taken.
    async fn create(&self, new: NewBackup) -> Result<Job, ApiError>;

    /// Begins to read a backup to its end.
    ///
    /// # Errors
    ///
    /// 404 if there is none of this name, 409 while other work goes on.
    async fn verify(&self, name: &str) -> Result<Job, ApiError>;

    /// Begins to restore a backup for practice.
    ///
    /// # Errors
    ///
    /// As [`Backups::verify`].
    async fn drill(&self, new: NewDrill) -> Result<Job, ApiError>;

    /// Removes backups that need not be kept. The newest that was found whole always stays.
    ///
    /// # Errors
    ///
    /// 503 if the target cannot be reached.
    async fn prune(&self, rules: Prune) -> Result<Pruned, ApiError>;

    /// Sets when backups are taken.
    ///
    /// # Errors
    ///
    /// 400 for a schedule that makes no sense.
    async fn set_schedule(&self, new: NewSchedule) -> Result<Schedule, ApiError>;

    /// The file of a backup, and its size.
    ///
    /// # Errors
    ///
    /// 404 if there is none of this name.
    async fn content(
        &self,
        name: &str,
    ) -> Result<(u64, BoxStream<'static, std::io::Result<Bytes>>), ApiError>;

    /// The jobs, the newest first.
    fn jobs(&self) -> Vec<Job>;

    /// One job.
    fn job(&self, id: &str) -> Option<Job>;

    /// Asks a job to stop, and says whether there is one that runs.
    fn cancel(&self, id: &str) -> bool;
}
