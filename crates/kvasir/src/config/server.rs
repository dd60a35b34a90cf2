//! `[server]`, `[store]` and `[metrics]`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use kvasir_store::embedded::EmbeddedSettings;
use serde::Deserialize;

use super::secrets::shown;

/// Where people expect the server that the documents talk of.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);

/// The clients of the edge dialect insist on TLS; this is its usual port for development.
const DEFAULT_TLS_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

/// `[server]`: addresses and the data folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The data folder: the embedded store, the local certificate authority, files that the server
    /// leaves for its clients. Created if it is not there. Also `--data`.
    pub data: PathBuf,
    /// Addresses to listen on in the clear; port 0 takes a free one. Also `--listen`, repeatable.
    /// Empty means `127.0.0.1:8000`.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on with TLS. Also `--tls-listen`. Empty means `127.0.0.1:8443` if
    /// `listen` is empty too, and none otherwise.
    pub tls_listen: Vec<SocketAddr>,
    /// Addresses of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether an administrator token is made and printed when the server listens on a
    /// non-loopback address and has no token. Otherwise it refuses to start.
    pub bootstrap: bool,
    /// What is refused at start. Also `--mode`.
    pub mode: Mode,
}

/// How strict the server is with itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything goes.
    #[default]
    Development,
    /// Refuses to start without a credential, in the clear on other addresses than loopback, on a
    /// store that forgets, and with secret files that everybody on the machine can read.
    Production,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            data: "kvasir-data".into(),
            listen: Vec::new(),
            tls_listen: Vec::new(),
            trusted_proxies: Vec::new(),
            bootstrap: true,
            mode: Mode::Development,
        }
    }
}

impl ServerSettings {
    /// The addresses in the clear and those with TLS.
    pub fn addresses(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let or = |given: &[SocketAddr], default: &[SocketAddr]| match given {
            [] => default.to_vec(),
            given => given.to_vec(),
        };
        let tls_default = match self.listen[..] {
            [] => &[DEFAULT_TLS_LISTEN][..],
            _ => &[],
        };
        (
            or(&self.listen, &[DEFAULT_LISTEN]),
            or(&self.tls_listen, tls_default),
        )
    }
}

/// `[store]`: where data lives.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// `embedded:DIR`, `sqlite:FILE`, `mysql://…`, `postgres://…` or `memory:`. Also `--store`.
    /// Empty means the embedded store in the data folder.
    pub url: String,
    /// Memory and disk space of every embedded store.
    pub embedded: EmbeddedSettings,
    /// Whether a store that is not durable is meant, where that would be refused.
    pub i_accept_loss: bool,
}

/// The URL may hold a password.
impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("url", &shown(&self.url))
            .field("embedded", &self.embedded)
            .field("i_accept_loss", &self.i_accept_loss)
            .finish()
    }
}

impl ServerSettings {
    /// The URL of the main store.
    pub fn store_url(&self, store: &StoreSettings) -> String {
        match store.url.as_str() {
            "" => format!("embedded:{}", self.data.display()),
            url => url.to_owned(),
        }
    }
}

/// `[metrics]`: whether `/metrics` is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// Serves `/metrics` in Prometheus' text form. Off, there is no such route.
    pub enabled: bool,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        MetricsSettings { enabled: true }
    }
}
