//! TLS for the listeners: whose certificate is shown, and how it is renewed while serving.
//!
//! Configured files are looked at every few seconds and taken over when they change. A certificate of
//! a public authority is ordered and renewed over ACME ([`acme`]). Without either a local authority
//! ([`authority`]) makes a certificate for this machine. Connections that are open keep the
//! certificate they began with; none is dropped.

mod acme;
pub mod authority;
pub mod challenges;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use kvasir_kv::{Clock, UnixMillis};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::config::tls::{AcmeChallenge, TlsSettings, TlsVersion};
use acme::Acme;
use authority::Authority;
use challenges::Challenges;

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
    settings: TlsSettings,
}

#[derive(Clone, Debug)]
enum Source {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Local(Arc<Authority>),
    /// With when the certificate that is shown is to be replaced; `None` for one of the local authority.
    Acme(Arc<Acme>, Option<UnixMillis>),
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
        let tls = &config.tls;
        let folder = config.server.data.join("tls");
        let local = |names: &[String]| Authority::open(&folder, names, clock.now());
        let (source, shown) = match (&tls.certificate, &tls.key) {
            (Some(_), _) | (_, Some(_)) if !tls.acme.names.is_empty() => {
                anyhow::bail!("tls.certificate and tls.acme.names contradict each other")
            }
            (None, None) if !tls.acme.names.is_empty() => {
                let acme = Acme::open(&tls.acme, &folder.join("acme"))?;
                match acme.stored(clock.now())? {
                    Some(held) => (
                        Source::Acme(Arc::new(acme), Some(held.renew_at)),
                        held.shown,
                    ),
                    None => {
                        let names = [&tls.names[..], &tls.acme.names].concat();
                        let shown = local(&names)?.certify(clock.now())?;
                        (Source::Acme(Arc::new(acme), None), shown)
                    }
                }
            }
            (Some(certificate), Some(key)) => {
                let shown = read(certificate, key)?;
                let (certificate, key) = (certificate.clone(), key.clone());
                (Source::Files { certificate, key }, shown)
            }
            (None, None) => {
                let authority = local(&tls.names)?;
                let shown = authority.certify(clock.now())?;
                (Source::Local(Arc::new(authority)), shown)
            }
            _ => anyhow::bail!("tls.certificate and tls.key are given both or not at all"),
        };
        Ok(Certificates(Arc::new(Inner {
            source: RwLock::new(source),
            shown: RwLock::new(Arc::new(shown)),
            settings: tls.clone(),
        })))
    }

    /// Shows another certificate from now on: that of other files, or of these files as they are
    /// now. One that an authority issues over ACME stays.
    pub fn replace(&self, other: &Certificates) {
        let (source, shown) = (other.source(), other.shown());
        let is_acme = |source: &Source| matches!(source, Source::Acme(..));
        if is_acme(&source) || is_acme(&self.source()) {
            return;
        }
        *self.0.source.write().expect("no panic while held") = source;
        *self.0.shown.write().expect("no panic while held") = shown;
    }

    fn source(&self) -> Source {
        self.0.source.read().expect("no panic while held").clone()
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        self.0.shown.read().expect("no panic while held").clone()
    }

    /// What listeners accept TLS with.
    ///
    /// # Errors
    ///
    /// For authorities of clients that cannot be read.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let settings = &self.0.settings;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = match settings.min_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12][..],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)?;
        let builder = match client_verifier(settings, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        if self.answers_in_handshakes() {
            config.alpn_protocols.push(challenges::ALPN.to_vec());
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// What an authority is shown over HTTP while it looks at our names.
    pub fn challenges(&self) -> Option<Challenges> {
        match &self.source() {
            Source::Acme(acme, _) => Some(acme.challenges.clone()),
            Source::Files { .. } | Source::Local(_) => None,
        }
    }

    fn answers_in_handshakes(&self) -> bool {
        let is_acme = matches!(self.source(), Source::Acme(..));
        is_acme && self.0.settings.acme.challenge == AcmeChallenge::TlsAlpn01
    }

    /// The file with the certificate of the local authority, if it is in use.
    pub fn authority_file(&self) -> Option<PathBuf> {
        match &self.source() {
            Source::Files { .. } | Source::Acme(..) => None,
            Source::Local(authority) => Some(authority.certificate_file()),
        }
    }

    /// Renews what is shown for as long as it is polled.
    pub async fn follow(self, clock: Arc<dyn Clock>) {
        match &self.source() {
            Source::Acme(acme, renew_at) => self.follow_acme(acme, *renew_at, &*clock).await,
            Source::Files { .. } | Source::Local(_) => self.follow_own(&*clock).await,
        }
    }

    async fn follow_own(&self, clock: &dyn Clock) {
        let mut seen = self.look();
        let mut renew_at = authority::renewal_after(clock.now());
        loop {
            pause(clock).await;
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
                Source::Acme(..) => return,
            };
            match renewed {
                Ok(renewed) => self.show(renewed),
                Err(error) => {
                    tracing::warn!("kept the certificate, the new one is not usable: {error:#}");
                }
            }
        }
    }

    async fn follow_acme(&self, acme: &Acme, mut renew_at: Option<UnixMillis>, clock: &dyn Clock) {
        let mut failures = 0;
        let mut not_before = clock.now();
        loop {
            let now = clock.now();
            let is_due = renew_at.is_none_or(|renew_at| now >= renew_at);
            if is_due && now >= not_before {
                match Box::pin(acme.obtain()).await {
                    Ok(held) => {
                        failures = 0;
                        renew_at = Some(held.renew_at);
                        self.show(held.shown);
                    }
                    Err(error) => {
                        failures += 1;
                        let pause_ms = acme::pause_ms(failures);
                        not_before = UnixMillis(clock.now().0.saturating_add(pause_ms));
                        tracing::warn!(pause_ms, "got no certificate over ACME: {error:#}");
                    }
                }
            }
            pause(clock).await;
        }
    }

    fn show(&self, certificate: CertifiedKey) {
        *self.0.shown.write().expect("no panic while held") = Arc::new(certificate);
        tracing::info!("took over a new certificate");
    }

    fn look(&self) -> [Look; 2] {
        let look = |path: &Path| -> Look {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        match &self.source() {
            Source::Files { certificate, key } => [look(certificate), look(key)],
            Source::Local(_) | Source::Acme(..) => [None, None],
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Source::Acme(acme, _) = &self.source()
            && challenges::is_authority(&hello)
        {
            return acme.challenges.of_hello(&hello);
        }
        Some(self.shown())
    }
}

async fn pause(clock: &dyn Clock) {
    let until = UnixMillis(clock.now().0 + LOOK_EVERY_MS);
    clock.sleep_until(until).await;
}

/// What judges the certificates of clients, if they are asked for one.
fn client_verifier(
    settings: &TlsSettings,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
    let Some(file) = &settings.client_ca else {
        ensure!(
            !settings.client_required,
            "tls.client_required needs tls.client_ca, the authorities of clients"
        );
        return Ok(None);
    };
    let wrong = || format!("tls.client_ca: cannot use {}", file.display());
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).with_context(wrong)? {
        roots
            .add(authority.with_context(wrong)?)
            .with_context(wrong)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !settings.client_required {
        builder = builder.allow_unauthenticated();
    }
    Ok(Some(builder.build().with_context(wrong)?))
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
