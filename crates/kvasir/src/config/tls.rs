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
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
    /// File with authorities in PEM. A certificate that a client shows has to be of one of them.
    /// Without this file clients are not asked for one. Read at start.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away. Needs `client_ca`.
    pub client_required: bool,
    /// `[tls.acme]`: a certificate from a public authority.
    pub acme: AcmeSettings,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// `[tls.acme]`: a certificate that an authority issues and renews over ACME (RFC 8555). Nothing is asked
/// for without names.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeSettings {
    /// Names that the certificate is for. The authority must reach this server under each of them,
    /// on port 443 for `tls-alpn-01` and on port 80 for `http-01`.
    pub names: Vec<String>,
    /// Where the authority may write to, such as `mailto:ops@example.org`.
    pub contact: Vec<String>,
    /// The authority's directory.
    pub directory: String,
    /// File with the authority in PEM that the directory's own certificate is of. Without it, those
    /// that the system trusts.
    pub directory_ca: Option<PathBuf>,
    /// Whether you agree to the authority's terms of service. It issues nothing otherwise.
    pub terms_agreed: bool,
    /// How this server shows that the names are its own.
    pub challenge: AcmeChallenge,
}

impl Default for AcmeSettings {
    fn default() -> Self {
        AcmeSettings {
            names: Vec::new(),
            contact: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            directory_ca: None,
            terms_agreed: false,
            challenge: AcmeChallenge::default(),
        }
    }
}

/// How a name is shown to be ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcmeChallenge {
    /// By a certificate in a TLS handshake (RFC 8737), on the TLS listeners.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a file over HTTP (RFC 8555, 8.3), on the listeners in the clear.
    #[serde(rename = "http-01")]
    Http01,
}
