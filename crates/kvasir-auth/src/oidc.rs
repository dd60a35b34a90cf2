//! OAuth2 access tokens of an OpenID provider: discovery, keys, verification.
//!
//! [`Provider`] keeps the provider's keys fresh and turns a bearer token into a [`TokenIdentity`].
//! A token that was verified once is remembered by its digest until it ends or the keys change, so
//! its signature is not verified twice.
//!
//! Tokens are those of Kopano Konnect, which puts its facts into `kc.*` claims. Tokens of other
//! providers are accepted only when an audience for them is configured.

mod claims;
pub mod dev;
mod keys;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvasir_kv::{Clock, UnixMillis};
use quick_cache::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};

pub use claims::{ID_BYTES_MAX, TokenIdentity};
use keys::Keys;

/// Longest token, in bytes. Real ones have about one kibibyte; more is an attack on the parser.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Most verified tokens that are remembered.
pub const REMEMBERED_TOKENS_MAX: usize = 10_000;

/// How far the provider's clock may be off, in milliseconds. The original allows nothing and the
/// contract up to a minute; ten seconds forgive ordinary drift.
pub const LEEWAY_MS: i64 = 10_000;

/// Time between two tries to reach the provider until the first one succeeds.
const RETRY: Duration = Duration::from_secs(3);

/// Time between two looks at the provider's documents, unless their cache headers say otherwise.
const REFRESH: Duration = Duration::from_secs(60);

/// Longest time that cache headers may put a look off.
const REFRESH_MAX: Duration = Duration::from_secs(3600);

/// Shortest time between two fetches because of unknown key ids, in milliseconds, so that made-up
/// ids do not become a load on the provider.
const UNKNOWN_KEY_REFETCH_MS: i64 = 5_000;

/// Longest time for fetching one document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest document that is read from the provider, in bytes.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// How tokens are judged.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// The issuer, exactly as in the provider's own document. `https`, or `http` on loopback.
    pub issuer: String,
    /// Do not check the provider's certificate.
    pub insecure: bool,
    /// Scopes that a token must hold, all of them.
    pub required_scopes: Vec<String>,
    /// Accept tokens without `kc.*` claims if they are meant for this audience.
    pub audience: Option<String>,
}

/// Why a token is refused. What the client is told is up to the dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The provider's keys are not known yet.
    #[error("the identity provider has not been reached yet")]
    NotReady,
    /// Forged, expired, of another issuer, or no access token. Which of these is for the log.
    #[error("the access token is not valid: {0}")]
    Invalid(&'static str),
    /// A valid token without one of the required scopes.
    #[error("the access token lacks the scope {0}")]
    InsufficientScope(String),
}

/// The issuer setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Not a URL, or `http` to another machine.
    #[error("the issuer {0:?} must be an https URL, or http on a loopback address")]
    Issuer(String),
    /// The HTTP client could not be made.
    #[error("cannot prepare requests to the identity provider")]
    Client(#[from] reqwest::Error),
}

/// A provider whose tokens are accepted. Shared by all requests.
pub struct Provider {
    settings: ProviderSettings,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// The newest keys; `None` until discovery succeeded once.
    keys: watch::Sender<Option<Arc<Keys>>>,
    verified: Cache<[u8; 32], Remembered>,
    /// How many signatures were verified.
    verifications: AtomicU64,
    /// When keys were last fetched because of an unknown id.
    last_refetch: Mutex<UnixMillis>,
}

/// The verdict on a token that verified.
#[derive(Clone)]
struct Remembered {
    identity: Arc<TokenIdentity>,
    /// The keys it was verified with; with newer ones it is verified again.
    keys: Arc<Keys>,
}

/// The members of a discovery document that matter here.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
}

impl Provider {
    /// Prepares for a provider without contacting it; [`Provider::keep_fresh`] does.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Issuer`] unless the issuer is `https`, or `http` on a loopback host.
    pub fn new(
        settings: ProviderSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Provider, ProviderError> {
        if !is_allowed_url(&settings.issuer) {
            return Err(ProviderError::Issuer(settings.issuer));
        }
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(settings.insecure)
            .build()?;
        Ok(Provider {
            settings,
            client,
            clock,
            keys: watch::Sender::new(None),
            verified: Cache::new(REMEMBERED_TOKENS_MAX),
            verifications: AtomicU64::new(0),
            last_refetch: Mutex::new(UnixMillis(0)),
        })
    }

    /// Fetches the keys and fetches them again when they are due, for ever. Dropping it stops that.
    pub async fn keep_fresh(&self) {
        loop {
            let pause = match self.refresh().await {
                Ok(fresh_for) => fresh_for,
                Err(error) => {
                    let known = self.keys.borrow().is_some();
                    tracing::warn!(
                        error = error.as_ref() as &dyn std::error::Error,
                        "cannot fetch the identity provider's keys, known ones go on: {known}"
                    );
                    RETRY
                }
            };
            let until = self.clock.now().0 + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            self.clock.sleep_until(UnixMillis(until)).await;
        }
    }

    /// Whether keys are known.
    pub fn is_ready(&self) -> bool {
        self.keys.borrow().is_some()
    }

    /// How many signatures were verified since the start. A token that is remembered costs none.
    pub fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    /// Waits until keys are known.
    pub async fn ready(&self) {
        // The sender lives as long as `self`, so this ends only by success.
        let _ = self.keys.subscribe().wait_for(Option::is_some).await;
    }

    /// Who stands behind a token.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. A token is never accepted without signature, expiry, issuer and scopes.
    pub async fn verify(&self, token: &str) -> Result<Arc<TokenIdentity>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid("longer than 8 KiB"));
        }
        let keys = self.keys.borrow().clone().ok_or(TokenError::NotReady)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.verified.get(&digest)
            && Arc::ptr_eq(&known.keys, &keys)
        {
            known.identity.check_time(self.clock.now())?;
            return Ok(known.identity);
        }
        let head = keys::TokenHead::read(token)?;
        let keys = if keys.knows(&head) {
            keys
        } else {
            self.refetched(keys).await
        };
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let payload = keys.verify(token, &head)?;
        let identity = claims::judge(&payload, &head, &self.settings, self.clock.now())?;
        let identity = Arc::new(identity);
        self.verified.insert(
            digest,
            Remembered {
                identity: Arc::clone(&identity),
                keys,
            },
        );
        Ok(identity)
    }

    /// Newer keys than `old`, if the provider has some and was not asked a moment ago.
    async fn refetched(&self, old: Arc<Keys>) -> Arc<Keys> {
        let mut last = self.last_refetch.lock().await;
        let now = self.clock.now();
        // While this request waited, another one may have fetched them.
        let current = self
            .keys
            .borrow()
            .clone()
            .unwrap_or_else(|| Arc::clone(&old));
        if !Arc::ptr_eq(&current, &old) || now.0 - last.0 < UNKNOWN_KEY_REFETCH_MS {
            return current;
        }
        *last = now;
        if let Err(error) = self.refresh().await {
            tracing::warn!(
                error = error.as_ref() as &dyn std::error::Error,
                "cannot fetch the identity provider's keys for an unknown key id"
            );
        }
        self.keys.borrow().clone().unwrap_or(old)
    }

    /// Fetches both documents and returns how long they stay fresh.
    async fn refresh(&self) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
        let (discovery, discovery_age) = self.discover().await?;
        if discovery.issuer != self.settings.issuer {
            let text = format!("the provider calls itself {:?}", discovery.issuer);
            return Err(text.into());
        }
        if !is_allowed_url(&discovery.jwks_uri) {
            return Err(format!("the key address {:?} is not https", discovery.jwks_uri).into());
        }
        let (jwks, keys_age) = self.fetch(&discovery.jwks_uri).await?;
        let fresh = Keys::read(&jwks, &discovery.id_token_signing_alg_values_supported)?;
        // Unchanged keys keep their identity, and with it the remembered tokens.
        self.keys.send_if_modified(|known| match known {
            Some(known) if **known == fresh => false,
            _ => {
                *known = Some(Arc::new(fresh));
                true
            }
        });
        Ok(discovery_age.min(keys_age))
    }

    /// The discovery document, from below the issuer's path, else from the root of its host, where
    /// Konnect keeps it.
    async fn discover(
        &self,
    ) -> Result<(Discovery, Duration), Box<dyn std::error::Error + Send + Sync>> {
        const WELL_KNOWN: &str = "/.well-known/openid-configuration";
        let issuer = self.settings.issuer.trim_end_matches('/');
        let below = self.fetch(&format!("{issuer}{WELL_KNOWN}")).await;
        let found = match (below, root_of(issuer)) {
            (Err(_), Some(root)) if root != issuer => {
                self.fetch(&format!("{root}{WELL_KNOWN}")).await
            }
            (found, _) => found,
        };
        let (document, age) = found?;
        Ok((serde_json::from_slice(&document)?, age))
    }

    async fn fetch(
        &self,
        url: &str,
    ) -> Result<(Vec<u8>, Duration), Box<dyn std::error::Error + Send + Sync>> {
        let mut response = self.client.get(url).send().await?.error_for_status()?;
        let age = fresh_for(response.headers());
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if document.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(format!("{url} is over {DOCUMENT_BYTES_MAX} bytes").into());
            }
            document.extend_from_slice(&chunk);
        }
        Ok((document, age))
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("issuer", &self.settings.issuer)
            .finish_non_exhaustive()
    }
}

/// Takes a text as a bearer token, its signature aside, and its payload as claims. For fuzzing: it must
/// not panic.
#[doc(hidden)]
pub fn fuzz_token(text: &str) {
    let settings = ProviderSettings {
        issuer: "https://id.example".to_owned(),
        insecure: false,
        required_scopes: vec!["kopano/kvs".to_owned()],
        audience: Some("kvasir".to_owned()),
    };
    let Ok(head) = keys::TokenHead::read(text) else {
        return;
    };
    let payload = text.split('.').nth(1).unwrap_or_default();
    if let Ok(payload) = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()) {
        let _ = claims::judge(&payload, &head, &settings, UnixMillis(0));
    }
    if let Ok(keys) = Keys::read(br#"{"keys":[]}"#, &["PS256".to_owned()]) {
        assert!(keys.verify(text, &head).is_err(), "nobody guesses a key");
    }
}

/// `https` anywhere, `http` only where nobody can listen in.
fn is_allowed_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let Some(host) = uri.host() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback,
        _ => false,
    }
}

/// Scheme and authority of a URL.
fn root_of(url: &str) -> Option<String> {
    let uri = url.parse::<http::Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// How long a response may be used, by its `Cache-Control`.
fn fresh_for(headers: &http::HeaderMap) -> Duration {
    let seconds = headers
        .get(http::header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value
                .split(',')
                .find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok())
        });
    match seconds {
        // A provider that says `max-age=0` is still not asked more often than a retry.
        Some(seconds) => Duration::from_secs(seconds).clamp(RETRY, REFRESH_MAX),
        None => REFRESH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback_issuers_are_taken() {
        for good in [
            "https://id.example",
            "https://id.example/realm",
            "http://127.0.0.1:9",
            "http://[::1]:9",
            "http://localhost",
        ] {
            assert!(is_allowed_url(good), "{good}");
        }
        for bad in [
            "http://id.example",
            "ftp://localhost",
            "id.example",
            "",
            "http://127.0.0.1.evil.example",
        ] {
            assert!(!is_allowed_url(bad), "{bad}");
        }
    }

    #[test]
    fn cache_headers_set_the_pace_within_bounds() {
        let age = |value: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(
                http::header::CACHE_CONTROL,
                http::HeaderValue::from_static(value),
            );
            fresh_for(&headers)
        };
        assert_eq!(fresh_for(&http::HeaderMap::new()), REFRESH);
        assert_eq!(age("public, max-age=300"), Duration::from_secs(300));
        assert_eq!(age("max-age=0"), RETRY);
        assert_eq!(age("max-age=99999999"), REFRESH_MAX);
        assert_eq!(age("no-store"), REFRESH);
    }
}
