//! What a certificate authority is shown while it looks whether a name is ours.
//!
//! Empty but for the seconds of an order, so it needs no limit of its own: an order holds one answer for
//! each configured name.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use anyhow::Context;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The protocol that only an authority offers, and alone; RFC 8737, 6.2.
pub(super) const ALPN: &[u8] = b"acme-tls/1";

/// Where `http-01` looks; RFC 8555, 8.3.
const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// The answers of the order in progress. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<RwLock<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    /// By token.
    http: HashMap<String, String>,
    /// By name.
    tls: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Answers `http-01` for a token with its key authorization.
    pub(super) fn show_http(&self, token: &str, key_authorization: &str) {
        let mut answers = self.0.write().expect("no panic while held");
        answers
            .http
            .insert(token.to_owned(), key_authorization.to_owned());
    }

    /// Answers `tls-alpn-01` for a name with the digest of its key authorization.
    pub(super) fn show_tls(&self, name: &str, digest: &[u8]) -> anyhow::Result<()> {
        let mut params = CertificateParams::new([name.to_owned()])
            .context("tls.acme.names: not a name of a certificate")?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Not checked as other certificates are: its critical extension is made to be refused by all but
        // an authority that looks for it.
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        let shown = CertifiedKey::new(vec![certificate.der().clone()], key);
        let mut answers = self.0.write().expect("no panic while held");
        answers.tls.insert(name.to_owned(), Arc::new(shown));
        Ok(())
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        *self.0.write().expect("no panic while held") = Answers::default();
    }

    /// The key authorization that a path asks for.
    pub fn of_path(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_PATH)?;
        let answers = self.0.read().expect("no panic while held");
        answers.http.get(token).cloned()
    }

    /// The certificate for the name in an authority's handshake.
    pub(super) fn of_hello(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let answers = self.0.read().expect("no panic while held");
        answers.tls.get(&name).cloned()
    }
}

/// Whether a handshake is an authority's: it offers nothing but [`ALPN`].
pub(super) fn is_authority(hello: &ClientHello<'_>) -> bool {
    let Some(mut offered) = hello.alpn() else {
        return false;
    };
    offered.next() == Some(ALPN) && offered.next().is_none()
}
