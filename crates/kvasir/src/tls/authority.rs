//! A certificate authority for this machine, made at the first start.
//!
//! `DIR/tls/ca.pem` is what clients are told to trust, `DIR/tls/ca-key.pem` its key, readable by
//! the owner only. The certificate of the listeners is made in memory at every start, and again
//! long before it ends, so there is no second key on the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kvasir_kv::UnixMillis;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{certified, days};
use crate::replace::replace;

/// How long the authority lasts: longer than a development machine.
const AUTHORITY_LASTS: Duration = days(3650);

/// How long before its end the authority is replaced at a start.
const AUTHORITY_RENEWED: Duration = days(30);

/// How long a certificate lasts. Some clients refuse more than 398 days.
const CERTIFICATE_LASTS: Duration = days(397);

/// When a running server makes the next certificate.
const CERTIFICATE_RENEWED_AFTER: Duration = days(30);

/// Certificates begin a little in the past, for clients whose clock is behind.
const CLOCK_SLACK: Duration = days(1);

/// Names of this machine that need no resolver.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// See the module.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    names: Vec<String>,
}

/// When a certificate made at `now` is to be replaced.
pub(super) fn renewal_after(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(ms(CERTIFICATE_RENEWED_AFTER)))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Authority {
    /// The authority in `folder`, made if there is none or it is about to end. Its certificates are
    /// for this machine and `names`.
    ///
    /// # Errors
    ///
    /// If its files cannot be read or written.
    pub fn open(folder: &Path, names: &[String], now: UnixMillis) -> anyhow::Result<Authority> {
        let certificate_file = folder.join("ca.pem");
        let key_file = folder.join("ca-key.pem");
        let kept = match (read_if_there(&certificate_file)?, read_if_there(&key_file)?) {
            (Some(certificate), Some(key)) if lasts(&certificate, now) => Some((certificate, key)),
            _ => None,
        };
        let (certificate, key) = match kept {
            Some(kept) => kept,
            None => {
                let made = make(now).context("cannot make a local certificate authority")?;
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot create {}", folder.display()))?;
                // The key first: a certificate without its key is made anew, not trusted in vain.
                replace(&key_file, made.1.as_bytes(), 0o600)?;
                replace(&certificate_file, made.0.as_bytes(), 0o644)?;
                made
            }
        };
        let unusable = || format!("{} is not usable", folder.display());
        let key = KeyPair::from_pem(&key).with_context(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).with_context(unusable)?;
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).with_context(unusable)?;
        let own = NAMES.iter().map(|name| (*name).to_owned());
        Ok(Authority {
            folder: folder.to_owned(),
            certificate,
            issuer,
            names: own.chain(names.iter().cloned()).collect(),
        })
    }

    /// The file that clients are told to trust.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A new certificate for this machine.
    ///
    /// # Errors
    ///
    /// For names that can be none of a certificate.
    pub fn certify(&self, now: UnixMillis) -> anyhow::Result<CertifiedKey> {
        let mut params = CertificateParams::new(self.names.clone())
            .context("tls.names: not a name of a certificate")?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "Kvasir on this machine");
        params.distinguished_name = subject;
        set_validity(&mut params, now, CERTIFICATE_LASTS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        certified(chain, key)
    }
}

/// A new authority: its certificate and its key in PEM.
fn make(now: UnixMillis) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Kvasir local authority");
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_LASTS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Sets from when until when a certificate holds.
fn set_validity(params: &mut CertificateParams, now: UnixMillis, lasts: Duration) {
    let now = Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_SLACK);
    params.not_after = epoch + now + lasts;
}

/// Whether a certificate in PEM holds now and for a good while.
fn lasts(certificate: &str, now: UnixMillis) -> bool {
    let ends_at = || {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
        Some(parsed.validity().not_after.timestamp())
    };
    ends_at().is_some_and(|ends_at| ends_at.saturating_mul(1000) - ms(AUTHORITY_RENEWED) > now.0)
}

pub(super) fn read_if_there(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn later(days_later: u64) -> UnixMillis {
        UnixMillis(NOW.0 + ms(days(days_later)))
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_for_the_owner_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let tls = folder.path().join("tls");
        Authority::open(&tls, &[], NOW).unwrap();
        let first = fs::read_to_string(tls.join("ca.pem")).unwrap();
        Authority::open(&tls, &[], later(3000)).unwrap();
        assert_eq!(fs::read_to_string(tls.join("ca.pem")).unwrap(), first);

        let mode = fs::metadata(tls.join("ca-key.pem")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn an_authority_that_is_about_to_end_is_replaced() {
        let folder = tempfile::TempDir::new().unwrap();
        Authority::open(folder.path(), &[], NOW).unwrap();
        let first = fs::read_to_string(folder.path().join("ca.pem")).unwrap();
        Authority::open(folder.path(), &[], later(3621)).unwrap();
        assert_ne!(
            fs::read_to_string(folder.path().join("ca.pem")).unwrap(),
            first
        );
    }

    #[test]
    fn certificates_are_for_this_machine_and_the_names_asked_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let names = ["kv.example.org".to_owned()];
        let authority = Authority::open(folder.path(), &names, NOW).unwrap();
        let certified = authority.certify(NOW).unwrap();
        let leaf = rustls::server::ParsedCertificate::try_from(&certified.cert[0]).unwrap();
        for name in ["localhost", "127.0.0.1", "::1", "kv.example.org"] {
            let name = rustls::pki_types::ServerName::try_from(name).unwrap();
            rustls::client::verify_server_name(&leaf, &name).unwrap();
        }
    }
}
