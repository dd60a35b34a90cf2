//! Who may do what: the site key, the reserved namespace, passwords, and how often anybody may ask.
//!
//! The questions are asked in the order in which the original asks them: site key (401), reserved
//! namespace (403), password (401). None of them is answered from a stored value or from the body
//! of a write, whatever its members are called.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use hmac::{Hmac, Mac};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, header};
use kvasir_auth::password::Verdict;
use kvasir_auth::rate::{Standing, counted_address};
use kvasir_auth::{Approach, PasswordError, Passwords, Quota, Rates, Verb};
use kvasir_kv::Key;
use quick_cache::unsync::Cache;
use secrecy::ExposeSecret;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::request::RequestInfo;

use super::error;
use super::layout::{AccessType, Device};
use super::path::RESERVED_NAMESPACE;
use super::settings::{RateLimit, Settings};

/// Carries the site key.
pub(super) const SITE_KEY: HeaderName = HeaderName::from_static("x-site-key");

/// Carries the namespace's password, as Base64 of its UTF-8 bytes.
pub(super) const PASSWORD: HeaderName = HeaderName::from_static("x-namespace-password");

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Passwords that one address may try for one namespace: 20 at once, then two per minute, which is a
/// million in a year. A right one counts too, once, until it is remembered.
const GUESSES: Quota = Quota {
    burst: 20,
    every: std::time::Duration::from_secs(30),
};

/// Most proofs of right passwords that are remembered. Checking one costs tens of milliseconds, and
/// the app sends it with every request.
const PROOFS_MAX: usize = 4_096;

/// Largest cost of an imported bcrypt hash that is checked. The original uses 8; each step doubles
/// the work, and 14 takes about a second.
const BCRYPT_COST_MAX: u32 = 14;

/// What a route does with the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// See keys, values and settings.
    Read,
    /// Change them.
    Write,
}

/// Who is being counted: a client and the namespace that it asks about.
type Counted = (IpAddr, Box<str>);

/// See the module.
pub(super) struct Gate {
    ctx: Ctx,
    site_key: Option<SiteKey>,
    serve_openly: bool,
    rate_limit: RateLimit,
    reads: Rates<Counted>,
    writes: Rates<Counted>,
    guesses: Rates<Counted>,
    pub(super) passwords: Passwords,
    proofs: Proofs,
}

impl Gate {
    pub(super) fn new(ctx: Ctx, settings: &Settings, passwords: Passwords) -> Gate {
        let site_key = settings.site_key.as_ref().map(ExposeSecret::expose_secret);
        let rates = |quota| Rates::new(quota, Arc::clone(&ctx.clock));
        Gate {
            site_key: site_key.filter(|key| !key.is_empty()).map(SiteKey::new),
            serve_openly: settings.serve_openly,
            rate_limit: settings.rate_limit,
            reads: rates(Quota::per_minute(settings.reads_per_minute)),
            writes: rates(Quota::per_minute(settings.writes_per_minute)),
            guesses: rates(GUESSES),
            passwords,
            proofs: Proofs::new(),
            ctx,
        }
    }

    /// Counts a request. `None` if it is not limited.
    ///
    /// # Errors
    ///
    /// 429.
    pub(super) fn count(
        &self,
        info: &RequestInfo,
        namespace: &str,
    ) -> Result<Option<RateHeaders>, ApiError> {
        let is_limited = match self.rate_limit {
            RateLimit::On => true,
            RateLimit::Off => false,
            RateLimit::Auto => !info.on_loopback(),
        };
        if !is_limited {
            return Ok(None);
        }
        let rates = match info.method.is_safe() {
            true => &self.reads,
            false => &self.writes,
        };
        let standing = rates.take(&counted(info, namespace));
        let headers = RateHeaders {
            quota: rates.quota(),
            standing,
        };
        match standing.is_allowed {
            true => Ok(Some(headers)),
            false => {
                let refused = error::too_many_requests(standing.retry_after_seconds());
                Err(headers
                    .fields()
                    .into_iter()
                    .fold(refused, |error, (name, value)| {
                        error.with_header(name, value)
                    }))
            }
        }
    }

    /// Lets in who has the site key. Without a configured one: everybody over loopback, and who has
    /// a Kvasir token for the namespace elsewhere, unless the settings say otherwise.
    ///
    /// # Errors
    ///
    /// 401; 403 for a token without the right.
    pub(super) async fn admit(
        &self,
        info: &RequestInfo,
        headers: &HeaderMap,
        query: &str,
        namespace: &str,
    ) -> Result<(), ApiError> {
        if let Some(site_key) = &self.site_key {
            let shown = match headers.get(SITE_KEY) {
                Some(shown) => shown.as_bytes().to_vec(),
                None => super::wire::parameter(query, "sitekey")?
                    .unwrap_or_default()
                    .into_bytes(),
            };
            return match site_key.is(&shown) {
                true => Ok(()),
                false => Err(error::site_key()),
            };
        }
        if self.serve_openly || info.on_loopback() {
            return Ok(());
        }
        // Pages of other origins are what this dialect is for, so only the token counts.
        let caller = Caller::by(&self.ctx, Approach::Public, info, headers).await;
        let caller = caller.map_err(|refused| match refused.status().as_u16() {
            401 => error::closed(),
            _ => refused,
        })?;
        let verb = match info.method {
            Method::DELETE => Verb::Delete,
            _ if info.method.is_safe() => Verb::Read,
            _ => Verb::Write,
        };
        let key = Key::from_strings([namespace]);
        match caller.may(&self.ctx, &self.ctx.keyspace, verb, &key) {
            true => Ok(()),
            false => Err(error::forbidden()),
        }
    }

    /// Lets administrators into the reserved namespace, and nobody else. The openness of loopback
    /// is no administrator: a token has to be shown.
    ///
    /// # Errors
    ///
    /// 403.
    pub(super) async fn administer(
        &self,
        info: &RequestInfo,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(error::forbidden());
        }
        let caller = match Caller::by(&self.ctx, Approach::Public, info, headers).await {
            Ok(caller) => caller,
            Err(refused) if refused.status().is_client_error() => return Err(error::forbidden()),
            Err(failed) => return Err(failed),
        };
        let key = Key::from_strings([RESERVED_NAMESPACE]);
        match caller.may(&self.ctx, &self.ctx.keyspace, Verb::Admin, &key) {
            true => Ok(()),
            false => Err(error::forbidden()),
        }
    }

    /// Asks for the password where the namespace's settings do. Says whether the stored hash should
    /// be renewed, with which password.
    ///
    /// # Errors
    ///
    /// 401, or 429 after too many wrong ones.
    pub(super) async fn authorise(
        &self,
        info: &RequestInfo,
        headers: &HeaderMap,
        query: &str,
        namespace: &str,
        device: &Device,
        right: Right,
    ) -> Result<Renewal, ApiError> {
        let is_open = match device.access_type() {
            AccessType::Public => true,
            AccessType::Protected => right == Right::Read,
            AccessType::Private => false,
        };
        match is_open {
            true => Ok(None),
            false => self.demand(info, headers, query, namespace, device).await,
        }
    }

    /// Asks for the password in the header, if there is one, whatever the access type.
    ///
    /// # Errors
    ///
    /// As [`Gate::authorise`].
    pub(super) async fn demand(
        &self,
        info: &RequestInfo,
        headers: &HeaderMap,
        query: &str,
        namespace: &str,
        device: &Device,
    ) -> Result<Renewal, ApiError> {
        if device.password.is_none() {
            return Ok(None);
        }
        let shown = match headers.get(PASSWORD) {
            Some(shown) => Some(shown.as_bytes().to_vec()),
            None => super::wire::parameter(query, "password")?.map(String::into_bytes),
        };
        let shown = shown.ok_or_else(error::device_password)?;
        let shown = from_base64(&shown).and_then(|bytes| String::from_utf8(bytes).ok());
        let shown = shown.unwrap_or_default();
        self.check(info, namespace, device, &shown)
            .await?
            .ok_or_else(error::device_password)
    }

    /// Whether `shown` is the namespace's password; `None` if it is not. Right if there is none.
    ///
    /// # Errors
    ///
    /// 429 after too many wrong ones from this address.
    pub(super) async fn check(
        &self,
        info: &RequestInfo,
        namespace: &str,
        device: &Device,
        shown: &str,
    ) -> Result<Option<Renewal>, ApiError> {
        let Some(stored) = &device.password else {
            return Ok(Some(None));
        };
        let guesser = counted(info, namespace);
        let refuse_unless_allowed = |standing: Standing| match standing.is_allowed {
            true => Ok(()),
            false => Err(error::too_many_requests(standing.retry_after_seconds())),
        };
        // Asked before the proofs, or they would answer any number of guesses.
        refuse_unless_allowed(self.guesses.look(&guesser))?;
        let proof = self.proofs.of(stored, shown);
        if self.proofs.hold(&proof) {
            return Ok(Some(None));
        }
        // Counted before the work, so that guesses at the same time count as well.
        refuse_unless_allowed(self.guesses.take(&guesser))?;
        let verdict = match stored.starts_with("$2") {
            true => self.check_bcrypt(stored, shown).await?,
            false => self.passwords.verify(stored, shown).await.map_err(busy)?,
        };
        Ok(match verdict {
            Verdict::Wrong => None,
            Verdict::RightButWeak => Some(Some(shown.to_owned())),
            Verdict::Right => {
                self.proofs.keep(proof);
                Some(None)
            }
        })
    }

    /// Checks a hash of the original: bcrypt over the percent-encoded password, of which it takes 72
    /// bytes.
    async fn check_bcrypt(&self, stored: &str, shown: &str) -> Result<Verdict, ApiError> {
        let cost = stored.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        if cost.is_none_or(|cost| cost > BCRYPT_COST_MAX)
            || shown.len() > kvasir_auth::password::PASSWORD_BYTES_MAX
        {
            return Ok(Verdict::Wrong);
        }
        let stored = stored.to_owned();
        let shown = super::wire::encode_component(shown);
        let work = move || bcrypt::verify(shown, &stored).unwrap_or_default();
        match self.passwords.run(work).await.map_err(busy)? {
            true => Ok(Verdict::RightButWeak),
            false => Ok(Verdict::Wrong),
        }
    }
}

/// The password whose stored hash should be made anew, if it should.
pub(super) type Renewal = Option<String>;

fn counted(info: &RequestInfo, namespace: &str) -> Counted {
    (counted_address(info.client), namespace.into())
}

/// The answer where a password could not be hashed or checked.
pub(super) fn busy(why: PasswordError) -> ApiError {
    match why {
        PasswordError::TooLong { .. } => error::bad("密码过长"),
        PasswordError::Busy => ApiError::unavailable(why.to_string()),
        other => ApiError::internal(other),
    }
}

/// What an answer says about the limit it was counted under.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateHeaders {
    quota: Quota,
    standing: Standing,
}

impl RateHeaders {
    pub(super) fn fields(&self) -> [(HeaderName, HeaderValue); 2] {
        let Quota { burst, every } = self.quota;
        let window = (every * burst).as_millis().div_ceil(1000);
        let (remaining, reset) = (self.standing.remaining, self.standing.reset_seconds());
        let value = |text: String| HeaderValue::try_from(text).expect("digits and ASCII words");
        let limit = format!("limit={burst}, remaining={remaining}, reset={reset}");
        [
            (RATE_LIMIT_POLICY, value(format!("{burst};w={window}"))),
            (RATE_LIMIT, value(limit)),
        ]
    }
}

/// The configured site key, in the two forms it may mean.
struct SiteKey(Vec<Vec<u8>>);

impl SiteKey {
    /// The original compares with the percent-encoded key, so operators of keys with other than
    /// ASCII characters have that form in their configuration.
    fn new(configured: &str) -> SiteKey {
        let mut meant = vec![configured.as_bytes().to_vec()];
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(configured).collect();
        if decoded != meant[0] {
            meant.push(decoded);
        }
        SiteKey(meant)
    }

    /// Whether the header holds the key, as it is or in Base64. All forms are compared, in constant
    /// time each.
    fn is(&self, shown: &[u8]) -> bool {
        let shown = shown.trim_ascii();
        let decoded = from_base64(shown);
        let forms = [Some(shown), decoded.as_deref()];
        let mut found = subtle::Choice::from(0);
        for meant in &self.0 {
            for form in forms.into_iter().flatten() {
                found |= meant.as_slice().ct_eq(form);
            }
        }
        found.into()
    }
}

/// See [`super::fuzz_credential`].
pub(super) fn fuzz(shown: &[u8]) {
    let key = SiteKey::new("%E7%8F%AD geheim");
    let means_it = |bytes: &[u8]| {
        let bytes = bytes.trim_ascii();
        bytes == "班 geheim".as_bytes() || bytes == b"%E7%8F%AD geheim"
    };
    let decoded = from_base64(shown.trim_ascii());
    let meant = means_it(shown) || decoded.as_deref().is_some_and(means_it);
    assert!(meant || !key.is(shown), "only the key opens");
}

/// Base64 in the standard or the URL alphabet, padded or not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=')?;
    let text = &text[..=end];
    let decoded = BASE64_NOPAD.decode(text);
    decoded.or_else(|_| BASE64URL_NOPAD.decode(text)).ok()
}

/// Remembers which passwords were right, as keyed digests that mean nothing outside this process.
struct Proofs {
    key: [u8; 32],
    known: Mutex<Cache<[u8; 32], ()>>,
}

impl Proofs {
    fn new() -> Proofs {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system has random bytes at start");
        Proofs {
            key,
            known: Mutex::new(Cache::new(PROOFS_MAX)),
        }
    }

    /// The digest of a password for a stored hash. Another hash makes another digest, so a changed
    /// password is unknown here.
    fn of(&self, stored: &str, shown: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        mac.update(stored.as_bytes());
        mac.update(&[0]);
        mac.update(shown.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn hold(&self, proof: &[u8; 32]) -> bool {
        let known = self.known.lock().expect("no panic while held");
        known.get(proof).is_some()
    }

    fn keep(&self, proof: [u8; 32]) {
        self.known
            .lock()
            .expect("no panic while held")
            .insert(proof, ());
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL};

    use super::*;

    #[test]
    fn the_site_key_is_taken_plain_and_in_base64() {
        let key = SiteKey::new("geheim?>~");
        assert!(key.is(b"geheim?>~"));
        assert!(key.is(BASE64.encode(b"geheim?>~").as_bytes()));
        assert!(key.is(BASE64_NOPAD.encode(b"geheim?>~").as_bytes()));
        assert!(key.is(BASE64URL.encode(b"geheim?>~").as_bytes()));
        for wrong in [
            &b""[..],
            b"geheim",
            b"geheim?>~x",
            b"Geheim?>~",
            b"====",
            b"%%%",
        ] {
            assert!(!key.is(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_percent_encoded_configuration_means_both_forms() {
        let key = SiteKey::new("%E7%8F%AD%E7%BA%A7");
        assert!(key.is("班级".as_bytes()));
        assert!(key.is(BASE64.encode("班级".as_bytes()).as_bytes()));
        assert!(key.is(b"%E7%8F%AD%E7%BA%A7"));
        assert!(!key.is(b""));
    }

    #[test]
    fn a_proof_holds_for_one_hash_and_one_password() {
        let proofs = Proofs::new();
        proofs.keep(proofs.of("hash", "pw"));
        assert!(proofs.hold(&proofs.of("hash", "pw")));
        assert!(!proofs.hold(&proofs.of("hash2", "pw")));
        assert!(!proofs.hold(&proofs.of("hash", "pw2")));
    }
}
