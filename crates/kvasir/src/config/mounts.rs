//! `[mount.NAME]`: which dialects are served where.

use std::fmt;
use std::net::SocketAddr;

use serde::Deserialize;

use super::secrets::shown;

/// `[mount.NAME]`: one mount. Those of the default names exist without being written down; what is
/// left out keeps its default.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountSettings {
    /// Whether it is served. Off, it has no routes.
    pub enabled: bool,
    /// The dialect; empty for the one called like the mount.
    pub dialect: String,
    /// Path in front of its routes, without a slash at the end. Unset means the dialect's own.
    pub path: Option<String>,
    /// Name of its keyspace. Unset means the dialect's own.
    pub keyspace: Option<String>,
    /// URL of its store, if that is not the main one.
    pub store: Option<String>,
    /// Addresses that serve this mount and nothing else but mounts given the same address. Empty
    /// means all addresses of `[server]`.
    pub listen: Vec<SocketAddr>,
    /// Host names that lead to this mount, without ports; requests for other hosts do not reach it.
    /// Empty means all hosts.
    pub host: Vec<String>,
}

impl Default for MountSettings {
    fn default() -> Self {
        MountSettings {
            enabled: true,
            dialect: String::new(),
            path: None,
            keyspace: None,
            store: None,
            listen: Vec::new(),
            host: Vec::new(),
        }
    }
}

/// The store's URL may hold a password.
impl fmt::Debug for MountSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountSettings")
            .field("enabled", &self.enabled)
            .field("dialect", &self.dialect)
            .field("path", &self.path)
            .field("keyspace", &self.keyspace)
            .field("store", &self.store.as_deref().map(shown))
            .field("listen", &self.listen)
            .field("host", &self.host)
            .finish()
    }
}
