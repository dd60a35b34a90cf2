//! `[tls]`: certificates.

use std::path::PathBuf;

use serde::Deserialize;

/// `[tls]`: the certificate of the TLS listeners. Without one, a local authority in `DIR/tls`
/// makes one for `localhost`, `127.0.0.1` and `::1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// File with the certificate chain in PEM, leaf first. Read again when it changes.
    pub certificate: Option<PathBuf>,
    /// File with the private key in PEM. Read again when it changes.
    pub key: Option<PathBuf>,
    /// Further names and addresses for the certificate of the local authority.
    pub names: Vec<String>,
    /// Whether a proxy in front of this server does TLS, so that `server.mode = "production"` lets it
    /// listen in the clear on other addresses than loopback.
    pub behind_proxy: bool,
}
