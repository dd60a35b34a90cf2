//! A certificate from a public authority, over ACME (RFC 8555).
//!
//! `DIR/tls/acme/account.json` holds the account, `DIR/tls/acme/certificate.pem` the chain and its key in
//! one file, so that they are replaced together; both are for the owner only. When a third of its life is
//! left the certificate is renewed. Until there is one, the listeners show that of the local authority.
//!
//! Several servers over one store each keep an account and a certificate of their own.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use kvasir_kv::UnixMillis;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::authority::read_if_there;
use super::certified;
use super::challenges::Challenges;
use crate::config::tls::{AcmeChallenge, AcmeSettings};
use crate::replace::replace;

/// Longest time for the authority to look at the names, and again to issue.
const RETRIES: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));

/// Longest time for a whole order.
const ORDER_MAX: Duration = Duration::from_secs(300);

/// Pause after the first failure; each further one doubles it. Authorities count failures.
const PAUSE_MIN_MS: i64 = 60_000;

/// Longest such pause: six hours.
const PAUSE_MAX_MS: i64 = 6 * 60 * 60 * 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Acme {
    settings: AcmeSettings,
    folder: PathBuf,
    pub(super) challenges: Challenges,
}

/// A certificate and when it is to be replaced.
pub(super) struct Held {
    pub(super) shown: CertifiedKey,
    pub(super) renew_at: UnixMillis,
}

/// The account on disk.
#[derive(Serialize, Deserialize)]
struct AccountFile {
    /// An account is one of this directory.
    directory: String,
    credentials: AccountCredentials,
}

/// When to try again after so many failures in a row.
pub(super) fn pause_ms(failures: u32) -> i64 {
    let doubled = PAUSE_MIN_MS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(PAUSE_MAX_MS)
}

impl Acme {
    /// With its files below `folder`.
    ///
    /// # Errors
    ///
    /// For settings that the authority would not take.
    pub(super) fn open(settings: &AcmeSettings, folder: &Path) -> anyhow::Result<Acme> {
        ensure!(
            settings.terms_agreed,
            "tls.acme.terms_agreed: the authority issues nothing unless you agree to its terms of \
             service; set it to true if you do"
        );
        for name in &settings.names {
            let is_plain = name.is_ascii() && !name.starts_with('*') && name.contains('.');
            ensure!(
                is_plain,
                "tls.acme.names: {name:?} is no name that an authority can look at"
            );
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // The library asks for the process's provider. One that is set already is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut settings = settings.clone();
        settings
            .names
            .iter_mut()
            .for_each(|name| name.make_ascii_lowercase());
        Ok(Acme {
            settings,
            folder: folder.to_owned(),
            challenges: Challenges::default(),
        })
    }

    fn certificate_file(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// The certificate on disk, if it is for all names and still good.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub(super) fn stored(&self, now: UnixMillis) -> anyhow::Result<Option<Held>> {
        let Some(text) = read_if_there(&self.certificate_file())? else {
            return Ok(None);
        };
        // What does not decode is replaced, as what has ended.
        Ok(self
            .held(&text)
            .ok()
            .filter(|(_, ends)| *ends > now)
            .map(|(held, _)| held))
    }

    /// A chain with its key, and when it ends.
    fn held(&self, text: &str) -> anyhow::Result<(Held, UnixMillis)> {
        let chain =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())?;
        let leaf = chain.first().context("no certificate")?;
        let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
        for name in &self.settings.names {
            let name = rustls::pki_types::ServerName::try_from(name.as_str())?;
            rustls::client::verify_server_name(&parsed, &name)?;
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)?;
        let validity = parsed.validity();
        let begins = validity.not_before.timestamp().saturating_mul(1000);
        let ends = validity.not_after.timestamp().saturating_mul(1000);
        let renew_at = UnixMillis(renew_at(begins, ends));
        let shown = certified(chain, key)?;
        Ok((Held { shown, renew_at }, UnixMillis(ends)))
    }

    /// Orders a certificate, keeps and returns it.
    ///
    /// # Errors
    ///
    /// Whatever the authority says.
    pub(super) async fn obtain(&self) -> anyhow::Result<Held> {
        let order = tokio::time::timeout(ORDER_MAX, self.order()).await;
        self.challenges.clear();
        let text = order.context("the authority took too long")??;
        let (held, _) = self
            .held(&text)
            .context("the authority's certificate is not usable")?;
        replace(&self.certificate_file(), text.as_bytes(), 0o600)?;
        Ok(held)
    }

    async fn order(&self) -> anyhow::Result<String> {
        let account = self.account().await?;
        let names = &self.settings.names;
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        self.answer(&mut order).await?;
        match order.poll_ready(&RETRIES).await? {
            OrderStatus::Ready => {}
            status => bail!("the authority did not find the names to be ours: {status:?}"),
        }
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        order
            .finalize_csr(params.serialize_request(&key)?.der())
            .await?;
        let chain = order.poll_certificate(&RETRIES).await?;
        Ok(format!("{}\n{}", chain.trim_end(), key.serialize_pem()))
    }

    /// Shows what the authority wants to see for each name, and tells it to look.
    async fn answer(&self, order: &mut Order) -> anyhow::Result<()> {
        let wanted = match self.settings.challenge {
            AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            AcmeChallenge::Http01 => ChallengeType::Http01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                other => bail!("the authority does not look at a name: {other:?}"),
            }
            let mut challenge = authorization
                .challenge(wanted.clone())
                .context("the authority does not offer the challenge of tls.acme.challenge")?;
            let key_authorization = challenge.key_authorization();
            match self.settings.challenge {
                AcmeChallenge::TlsAlpn01 => {
                    let name = challenge.identifier().to_string();
                    let digest = key_authorization.digest();
                    self.challenges.show_tls(&name, digest.as_ref())?;
                }
                AcmeChallenge::Http01 => {
                    self.challenges
                        .show_http(&challenge.token, key_authorization.as_str());
                }
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account of the first order, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let file = self.folder.join("account.json");
        let builder = match &self.settings.directory_ca {
            Some(ca) => Account::builder_with_root(ca)
                .with_context(|| format!("tls.acme.directory_ca: cannot use {}", ca.display()))?,
            None => Account::builder()?,
        };
        let directory = &self.settings.directory;
        if let Some(text) = read_if_there(&file)? {
            let known: AccountFile = serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged; remove it", file.display()))?;
            if known.directory == *directory {
                return Ok(builder.from_credentials(known.credentials).await?);
            }
        }
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: self.settings.terms_agreed,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&new, directory.clone(), None).await?;
        let made = AccountFile {
            directory: directory.clone(),
            credentials,
        };
        replace(&file, &serde_json::to_vec(&made)?, 0o600)?;
        Ok(account)
    }
}

/// When a third of the time between two moments is left.
fn renew_at(begins_ms: i64, ends_ms: i64) -> i64 {
    ends_ms.saturating_sub(ends_ms.saturating_sub(begins_ms).max(0) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        assert_eq!(renew_at(0, 90), 60);
        assert_eq!(renew_at(100, 106), 104);
        assert_eq!(renew_at(5, 5), 5);
    }

    #[test]
    fn pauses_grow_up_to_six_hours() {
        assert_eq!(pause_ms(1), 60_000);
        assert_eq!(pause_ms(2), 120_000);
        assert_eq!(pause_ms(1000), PAUSE_MAX_MS);
    }

    #[test]
    fn names_and_terms_are_checked_before_anybody_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let with = |name: &str, terms_agreed| AcmeSettings {
            names: vec![name.to_owned()],
            terms_agreed,
            ..AcmeSettings::default()
        };
        for (name, terms_agreed, opens) in [
            ("kv.example.org", true, true),
            ("KV.example.org", true, true),
            ("kv.example.org", false, false),
            ("*.example.org", true, false),
            ("localhost", true, false),
            ("münchen.example", true, false),
        ] {
            let opened = Acme::open(&with(name, terms_agreed), &folder.path().join("acme"));
            assert_eq!(opened.is_ok(), opens, "{name} {terms_agreed}");
        }
    }
}
