//! TLS for the listeners: whose certificate is shown, and how it is renewed while serving.
//!
//! Configured files are looked at every few seconds and taken over when they change. Without them
//! a local authority ([`authority`]) makes a certificate for this machine. Connections that are
//! open keep the certificate they began with; none is dropped.

pub mod authority;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use kvasir_kv::{Clock, UnixMillis};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use authority::Authority;

/// How often certificate files are looked at.
const LOOK_EVERY_MS: i64 = 2_000;

/// The protocols offered, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate of the TLS listeners. Clones share it.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: RwLock<Source>,
    shown: RwLock<Arc<CertifiedKey>>,
}

#[derive(Clone, Debug)]
enum Source {
    Files { certificate: PathBuf, key: PathBuf },
    Local(Arc<Authority>),
}

/// What tells that a file changed.
type Look = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads or makes the certificate.
    ///
    /// # Errors
    ///
    /// For files that cannot be read or do not belong together.
    pub fn load(config: &Config, clock: &dyn Clock) -> anyhow::Result<Certificates> {
        let (source, shown) = match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                let shown = read(certificate, key)?;
                let (certificate, key) = (certificate.clone(), key.clone());
                (Source::Files { certificate, key }, shown)
            }
            (None, None) => {
                let folder = config.server.data.join("tls");
                let authority = Authority::open(&folder, &config.tls.names, clock.now())?;
                let shown = authority.certify(clock.now())?;
                (Source::Local(Arc::new(authority)), shown)
            }
            _ => anyhow::bail!("tls.certificate and tls.key are given both or not at all"),
        };
        Ok(Certificates(Arc::new(Inner {
            source: RwLock::new(source),
            shown: RwLock::new(Arc::new(shown)),
        })))
    }

    /// Shows another certificate from now on: that of other files, or of these files as they are
    /// now.
    pub fn replace(&self, other: &Certificates) {
        let (source, shown) = (other.source(), other.shown());
        *self.0.source.write().expect("no panic while held") = source;
        *self.0.shown.write().expect("no panic while held") = shown;
    }

    fn source(&self) -> Source {
        self.0.source.read().expect("no panic while held").clone()
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        self.0.shown.read().expect("no panic while held").clone()
    }

    /// What listeners accept TLS with: versions 1.3 and 1.2.
    ///
    /// # Errors
    ///
    /// Never in practice: the versions are those of the provider.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The file with the certificate of the local authority, if it is in use.
    pub fn authority_file(&self) -> Option<PathBuf> {
        match &self.source() {
            Source::Files { .. } => None,
            Source::Local(authority) => Some(authority.certificate_file()),
        }
    }

    /// Renews what is shown for as long as it is polled.
    pub async fn follow(self, clock: Arc<dyn Clock>) {
        let mut seen = self.look();
        let mut renew_at = authority::renewal_after(clock.now());
        loop {
            clock
                .sleep_until(UnixMillis(clock.now().0 + LOOK_EVERY_MS))
                .await;
            let renewed = match &self.source() {
                Source::Files { certificate, key } => {
                    let look = self.look();
                    if look == seen {
                        continue;
                    }
                    seen = look;
                    read(certificate, key)
                }
                Source::Local(_) if clock.now() < renew_at => continue,
                Source::Local(authority) => {
                    renew_at = authority::renewal_after(clock.now());
                    authority.certify(clock.now())
                }
            };
            match renewed {
                Ok(renewed) => {
                    *self.0.shown.write().expect("no panic while held") = Arc::new(renewed);
                    tracing::info!("took over a new certificate");
                }
                Err(error) => {
                    tracing::warn!("kept the certificate, the new one is not usable: {error:#}");
                }
            }
        }
    }

    fn look(&self) -> [Look; 2] {
        let look = |path: &Path| -> Look {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        match &self.source() {
            Source::Files { certificate, key } => [look(certificate), look(key)],
            Source::Local(_) => [None, None],
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}

/// A chain and its key from PEM files.
fn read(certificate: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("tls.certificate: cannot read {}", certificate.display()))?;
    ensure!(
        !chain.is_empty(),
        "tls.certificate: {} holds no certificate",
        certificate.display()
    );
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("tls.key: cannot read {}", key.display()))?;
    certified(chain, secret).with_context(|| format!("tls.key: {} is not usable", key.display()))
}

/// A chain with its key, if they belong together.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    Ok(certified)
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}
