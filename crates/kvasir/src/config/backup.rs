//! `[backup]`: where backups go, when they are taken, and which are kept.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// `[backup]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupSettings {
    /// A folder, or `s3://BUCKET/PREFIX`. Empty: the folder `backups` in the data folder.
    pub target: String,
    /// Public keys of age, `age1…`, any of whose owners can read the backups. Without one they are
    /// not encrypted.
    pub recipients: Vec<String>,
    /// File with a private key of age, `AGE-SECRET-KEY-1…`, to verify and rehearse encrypted backups.
    pub identity_file: Option<PathBuf>,
    /// When backups are taken: minute, hour, day, month and weekday in UTC, as cron has them. Empty
    /// for never.
    pub schedule: String,
    /// When a restore is rehearsed, in the same form.
    pub drill_schedule: String,
    /// Most backups that are kept; 0 for all. The newest that was found whole always stays.
    pub keep_count: u32,
    /// Days after which a backup is removed; 0 for never.
    pub keep_days: u32,
    /// Most bytes that all backups may have together; 0 for any.
    pub keep_bytes: u64,
    /// `[backup.s3]`: how to reach the store of `s3://` targets.
    pub s3: S3Settings,
}

/// `[backup.s3]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// Its address, such as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// Name of the key to sign with.
    pub access_key: String,
    /// The key.
    pub secret_key: Option<SecretString>,
    /// Whether the bucket stands in the path, as most stores but Amazon's want it, or in the host name.
    pub path_style: bool,
    /// Allow an address that is loopback, link-local, or gives out credentials of the machine.
    pub allow_local: bool,
}

impl Default for S3Settings {
    fn default() -> Self {
        S3Settings {
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            access_key: String::new(),
            secret_key: None,
            path_style: true,
            allow_local: false,
        }
    }
}
