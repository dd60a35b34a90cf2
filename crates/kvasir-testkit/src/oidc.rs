//! An OpenID Connect provider for tests: discovery, JWKS and tokens, honest or forged.
//!
//! It signs with the crypto library directly and not with the JWT library that the server uses, so
//! the two check each other. Keys are made anew for every issuer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding,
};
use aws_lc_rs::{hmac, rsa};
use data_encoding::BASE64URL_NOPAD;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kvasir_kv::Clock;
use kvasir_store::SystemClock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Algorithms that discovery offers unless [`Issuer::set_algorithms`] is called.
pub const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Rs256,
    Algorithm::Ps256,
    Algorithm::Es256,
    Algorithm::EdDsa,
];

/// What a key of the issuer signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS #1 padding.
    Rs256,
    /// RSA with PSS padding, Konnect's default.
    Ps256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The name in JOSE headers.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

/// A running provider. It stops when dropped.
#[derive(Debug)]
pub struct Issuer {
    addr: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// Fetches of the key set so far.
    key_fetches: AtomicUsize,
    shown: Mutex<Shown>,
}

/// What the provider shows to whoever asks.
#[derive(Debug)]
struct Shown {
    issuer: String,
    algorithms: Vec<String>,
    keys: Vec<Arc<SigningKey>>,
    odd_keys: Vec<Value>,
    cache_control: Option<String>,
    is_failing: bool,
}

impl Issuer {
    /// Starts a provider on a free loopback port, with one key for each of [`ALGORITHMS`].
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let state = Arc::new(State {
            key_fetches: AtomicUsize::new(0),
            shown: Mutex::new(Shown {
                issuer: format!("http://{addr}"),
                algorithms: ALGORITHMS
                    .map(|algorithm| algorithm.name().to_owned())
                    .into(),
                keys: ALGORITHMS
                    .map(|algorithm| {
                        SigningKey::generate(algorithm, &format!("first-{}", algorithm.name()))
                    })
                    .map(Arc::new)
                    .into(),
                odd_keys: Vec::new(),
                cache_control: None,
                is_failing: false,
            }),
        });
        let server = tokio::spawn(serve(listener, state.clone()));
        Issuer {
            addr,
            state,
            server,
        }
    }

    /// The issuer identifier, which is also the address of the provider.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The key that is shown for an algorithm.
    ///
    /// # Panics
    ///
    /// If [`Issuer::withdraw`] took the last one away.
    pub fn key(&self, algorithm: Algorithm) -> Arc<SigningKey> {
        let shown = self.shown();
        let key = shown.keys.iter().find(|key| key.algorithm == algorithm);
        key.expect("a key is shown for the algorithm").clone()
    }

    /// Shows a new key for an algorithm from now on, in front of the old one.
    pub fn rotate(&self, algorithm: Algorithm, key_id: &str) -> Arc<SigningKey> {
        let key = Arc::new(SigningKey::generate(algorithm, key_id));
        self.shown().keys.insert(0, key.clone());
        key
    }

    /// Stops showing a key.
    pub fn withdraw(&self, key_id: &str) {
        self.shown().keys.retain(|key| key.id != key_id);
    }

    /// Shows one more member of the key set as it is, such as a key of an unknown kind.
    pub fn show_odd_key(&self, jwk: Value) {
        self.shown().odd_keys.push(jwk);
    }

    /// Replaces `id_token_signing_alg_values_supported`.
    pub fn set_algorithms(&self, names: &[&str]) {
        self.shown().algorithms = names.iter().map(|&name| name.to_owned()).collect();
    }

    /// Replaces the `issuer` member of discovery, which then does not match the address.
    pub fn set_issuer(&self, issuer: &str) {
        self.shown().issuer = issuer.to_owned();
    }

    /// Sends this `Cache-Control` with both documents.
    pub fn set_cache_control(&self, value: &str) {
        self.shown().cache_control = Some(value.to_owned());
    }

    /// Answers every request with 503, or no longer.
    pub fn set_failing(&self, is_failing: bool) {
        self.shown().is_failing = is_failing;
    }

    /// How often the key set was fetched so far.
    pub fn key_fetches(&self) -> usize {
        self.state.key_fetches.load(Ordering::Relaxed)
    }

    /// Claims of a good access token of Konnect: issued now, valid for an hour, with the scope
    /// `kopano/kvs`. Change members to make bad ones.
    pub fn access_claims(&self, user: &str, client: &str) -> Value {
        let now = SystemClock.now().0 / 1_000;
        json!({
            "iss": self.url(),
            "sub": format!("sub-of-{user}"),
            "aud": client,
            "iat": now,
            "exp": now + 3600,
            "jti": "token",
            "kc.isAccessToken": true,
            "kc.authorizedScopes": ["openid", "profile", "kopano/kvs"],
            "kc.identity": { "kc.i.id": user, "kc.i.un": user, "kc.i.dn": user },
        })
    }

    /// A good access token, signed with PS256 as Konnect does.
    pub fn access_token(&self, user: &str, client: &str) -> String {
        self.key(Algorithm::Ps256)
            .sign(&self.access_claims(user, client))
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.state.shown.lock().expect("no panic while held")
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A key pair with the name and algorithm under which it is shown.
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, {})", self.id, self.algorithm.name())
    }
}

impl SigningKey {
    /// A new key. It is not shown by any issuer: tokens signed with it are forgeries.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes.
    pub fn generate(algorithm: Algorithm, id: &str) -> SigningKey {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => {
                rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map(Pair::Rsa)
            }
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ec)
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::Ed),
        };
        SigningKey {
            id: id.to_owned(),
            algorithm,
            pair: pair.expect("the operating system gives random bytes"),
        }
    }

    /// The key id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A token with these claims and the header that belongs to this key.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": self.algorithm.name(), "kid": self.id });
        self.sign_with_header(&header, claims)
    }

    /// A token with a header of the caller's making, signed with this key all the same.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// The public key as a member of a key set.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let (modulus, exponent) = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "n": BASE64URL_NOPAD.encode(modulus), "e": BASE64URL_NOPAD.encode(exponent) })
            }
            Pair::Ec(pair) => {
                // Uncompressed: one byte 4, then the coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y) })
            }
            Pair::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(pair.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm.name());
        jwk
    }

    /// The public key in DER, which a confused server might take as an HMAC secret.
    pub fn public_der(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed(pair) => pair.public_key().as_ref(),
        }
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match self.algorithm {
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut out)
                    .expect("a generated key signs");
                out
            }
            Pair::Ec(pair) => {
                let signature = pair.sign(&random, message).expect("a generated key signs");
                signature.as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token without a signature, `"alg": "none"`.
pub fn unsigned_token(claims: &Value) -> String {
    format!(
        "{}.",
        message(&json!({ "typ": "JWT", "alg": "none" }), claims)
    )
}

/// A token signed with HMAC-SHA-256, as in the confusion of public key and secret.
pub fn hmac_token(secret: &[u8], key_id: &str, claims: &Value) -> String {
    let message = message(
        &json!({ "typ": "JWT", "alg": "HS256", "kid": key_id }),
        claims,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

/// Modulus and exponent of an `RSAPublicKey` in DER: a sequence of two integers.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = der_element(der);
    let (modulus, rest) = der_element(sequence);
    let (exponent, _) = der_element(rest);
    // A leading zero keeps the number positive; JWK does not want it.
    (modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent)
}

/// Content of the first element, and what follows it.
fn der_element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, head) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let digits = usize::from(long & 0x7f);
            let length = der[2..2 + digits]
                .iter()
                .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            (length, 2 + digits)
        }
    };
    der[head..].split_at(length)
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Aborting this task also drops the connections, which live in the set.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&state, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that goes away is no failure of the provider.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let shown = state.shown.lock().expect("no panic while held");
    let plain = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if shown.is_failing {
        return plain(StatusCode::SERVICE_UNAVAILABLE);
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let document = match request.uri().path() {
        "/.well-known/openid-configuration" => json!({
            "issuer": shown.issuer,
            "jwks_uri": format!("{}/jwks.json", shown.issuer),
            "authorization_endpoint": format!("{}/authorize", shown.issuer),
            "token_endpoint": format!("{}/token", shown.issuer),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": shown.algorithms,
        }),
        "/jwks.json" => {
            state.key_fetches.fetch_add(1, Ordering::Relaxed);
            let keys: Vec<Value> = shown
                .odd_keys
                .iter()
                .cloned()
                .chain(shown.keys.iter().map(|key| key.jwk()))
                .collect();
            json!({ "keys": keys })
        }
        _ => return plain(StatusCode::NOT_FOUND),
    };
    let mut response = Response::new(Full::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if let Some(value) = shown
        .cache_control
        .as_deref()
        .and_then(|value| value.parse().ok())
    {
        headers.insert(header::CACHE_CONTROL, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::server::http_client;

    async fn fetch(url: &str) -> Value {
        let response = http_client().get(url).send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// What a careful client makes of the token: its claims, or why not.
    fn verify(keys: &JwkSet, token: &str) -> Result<Value, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let key = keys
            .find(&header.kid.unwrap_or_default())
            .ok_or("no such key")?;
        let mut validation = Validation::new(header.alg);
        validation.validate_aud = false;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        jsonwebtoken::decode(token, &key, &validation)
            .map(|data| data.claims)
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn tokens_of_every_algorithm_verify_with_the_published_keys_and_forged_ones_do_not() {
        let issuer = Issuer::start().await;
        let discovery = fetch(&format!(
            "{}/.well-known/openid-configuration",
            issuer.url()
        ))
        .await;
        assert_eq!(discovery["issuer"], issuer.url());
        let keys = fetch(discovery["jwks_uri"].as_str().unwrap()).await;
        let keys: JwkSet = serde_json::from_value(keys).unwrap();
        let claims = issuer.access_claims("jo", "player");

        for algorithm in ALGORITHMS {
            let shown = issuer.key(algorithm);
            assert_eq!(verify(&keys, &shown.sign(&claims)), Ok(claims.clone()));

            let forger = SigningKey::generate(algorithm, shown.id());
            assert_eq!(
                verify(&keys, &forger.sign(&claims)),
                Err("InvalidSignature".into())
            );
        }
        let shown = issuer.key(Algorithm::Rs256);
        let confused = hmac_token(shown.public_der(), shown.id(), &claims);
        assert!(verify(&keys, &confused).is_err());
        assert!(verify(&keys, &unsigned_token(&claims)).is_err());
        assert_eq!(issuer.key_fetches(), 1);
    }

    #[tokio::test]
    async fn a_rotated_key_is_shown_beside_the_old_one_until_that_is_withdrawn() {
        let issuer = Issuer::start().await;
        let old = issuer.key(Algorithm::EdDsa).id().to_owned();
        let new = issuer.rotate(Algorithm::EdDsa, "second");
        assert_eq!(issuer.key(Algorithm::EdDsa).id(), new.id());

        let ids = async || {
            let keys = fetch(&format!("{}/jwks.json", issuer.url())).await;
            let keys = keys["keys"].as_array().unwrap().clone();
            keys.iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(ids().await.contains(&old));
        issuer.withdraw(&old);
        assert!(!ids().await.contains(&old));
        assert!(ids().await.contains(&"second".to_owned()));
    }

    #[tokio::test]
    async fn a_failing_provider_answers_503() {
        let issuer = Issuer::start().await;
        issuer.set_failing(true);
        let response = http_client()
            .get(format!("{}/jwks.json", issuer.url()))
            .send()
            .await;
        assert_eq!(response.unwrap().status(), 503);
    }
}
