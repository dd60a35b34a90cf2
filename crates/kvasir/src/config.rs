//! Configuration: one struct of plain data, filled from four layers.
//!
//! A setting has one name, its path in the TOML file, and three forms: `limits.head = "10s"` in the
//! file, `KVASIR_LIMITS__HEAD=10s` in the environment, `--limits.head 10s` as a flag. The strongest
//! form wins, in the order flag, environment, file, default, and where a value came from is kept.
//! Some settings have further names that the replaced programs gave them; see [`special`].
//!
//! One small file per concern. The structs carry the documentation; `default.toml` holds every
//! setting with its default and is what `kvasir config default` prints. Nothing outside this
//! module and `main.rs` reads the environment or the arguments.

pub mod backup;
mod check;
mod decode;
pub mod json_schema;
pub mod kopano_db;
pub mod layers;
pub mod limits;
pub mod mounts;
mod schema;
pub mod secrets;
pub mod server;
pub mod special;
pub mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kvasir_api::{accounts, audit, classworks, deno, edgekv, kopano, rest};
use kvasir_auth::AccessSettings;
use serde::Deserialize;

use crate::telemetry::logs::LogSettings;
use crate::telemetry::slow::SlowLogSettings;
use crate::telemetry::traces::TracingSettings;
use backup::BackupSettings;
use kopano_db::KopanoDbSettings;
use limits::LimitSettings;
use mounts::MountSettings;
use server::{MetricsSettings, ServerSettings, StoreSettings};
use tls::TlsSettings;

pub use layers::{Layers, Origin, Sources};
pub use schema::{Kind, Setting};

/// Every setting with its default, documented, as a file to start from.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");

/// All settings. Each section is documented at its type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[server]`: addresses and the data folder.
    pub server: ServerSettings,
    /// `[store]`: where data lives.
    pub store: StoreSettings,
    /// `[tls]`: certificates.
    pub tls: TlsSettings,
    /// `[limits]`: what a client may take.
    pub limits: LimitSettings,
    /// `[log]`: what is logged.
    pub log: LogSettings,
    /// `[metrics]`: whether `/metrics` is served.
    pub metrics: MetricsSettings,
    /// `[slowlog]`: from when on requests are kept as slow.
    pub slowlog: SlowLogSettings,
    /// `[audit]`: how many lines about administration are kept.
    pub audit: audit::Settings,
    /// `[tracing]`: spans for a collector.
    pub tracing: TracingSettings,
    /// `[auth]`: who may ask without a token.
    pub auth: AccessSettings,
    /// `[backup]`: where backups go, when they are taken, and which are kept.
    pub backup: BackupSettings,
    /// `[accounts]`: the accounts dialect.
    pub accounts: accounts::Settings,
    /// `[deno]`: the Deno dialect.
    pub deno: deno::Settings,
    /// `[classworks]`: the Classworks dialect.
    pub classworks: classworks::Settings,
    /// `[edgekv]`: the EdgeKV dialect.
    pub edgekv: edgekv::Settings,
    /// `[kopano]`: the Kopano dialect.
    pub kopano: kopano::Settings,
    /// `[rest]`: the REST dialect.
    pub rest: rest::Settings,
    /// `[kopano_db]`: the original Kopano daemon's own database settings.
    pub kopano_db: KopanoDbSettings,
    /// `[mount.NAME]`: which dialects are served where.
    pub mount: BTreeMap<String, MountSettings>,
}

impl Config {
    /// The settings that all sources together give.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the place of what is wrong.
    pub fn load(sources: &Sources) -> Result<(Config, Layers), ConfigError> {
        let layers = Layers::gather(sources, &Config::settings())?;
        let config: Config = layers.decode()?;
        Ok((config, layers))
    }

    /// Where the Classworks dialect is served alone because of `classworks.port`: at the address of
    /// the first listener. `None` if the mount is off or has addresses or host names of its own, or
    /// if the server listens on that port anyway, as where the environment's `PORT` means the whole
    /// server.
    pub fn classworks_listener(&self) -> Option<SocketAddr> {
        let port = self.classworks.port?;
        let mount = self.mount.get("classworks");
        let is_free = mount
            .is_none_or(|mount| mount.enabled && mount.listen.is_empty() && mount.host.is_empty());
        let (clear, encrypted) = self.server.addresses();
        let is_taken = |addr: &SocketAddr| addr.port() == port && port != 0;
        let is_taken = clear.iter().chain(&encrypted).any(is_taken);
        let ip = clear.first()?.ip();
        (is_free && !is_taken).then_some(SocketAddr::new(ip, port))
    }

    /// Every setting there is, in the order of the sections.
    pub fn settings() -> Vec<Setting> {
        schema::settings_of::<Config>()
    }
}

/// What is wrong with the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    /// The file with line and column, the variable, or the flag.
    pub place: String,
    /// What is wrong there and what to do about it.
    pub what: String,
}

impl ConfigError {
    pub(crate) fn new(place: impl ToString, what: impl Into<String>) -> ConfigError {
        ConfigError {
            place: place.to_string(),
            what: what.into(),
        }
    }
}

/// Durations as people write them: `250ms`, `5s`, `2m`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de};

    /// Reads one from text.
    ///
    /// # Errors
    ///
    /// For text that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(decoder: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(decoder)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!(
                "{text:?} is no duration such as 250ms, 5s or 2m: {error}"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
