//! Tokens that this server signs for itself: JWT with HS256 and nothing else.
//!
//! The algorithm is a property of the key and never read from the token: `none`, asymmetric
//! algorithms and unknown demands are refused before anything else is looked at.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use kvasir_kv::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Headers of tokens that demand something, or bring along the key to verify them with.
const REFUSED_HEADERS: [&str; 5] = ["crit", "jwk", "jku", "x5c", "x5u"];

/// A secret that signs and verifies.
pub struct Hs256 {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Hs256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hs256")
    }
}

/// The token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

impl Hs256 {
    /// A key of these bytes, taken as they are.
    pub fn new(secret: &[u8]) -> Hs256 {
        Hs256 {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    ///
    /// If the claims are no JSON object.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let header = Header::new(Algorithm::HS256);
        Ok(jsonwebtoken::encode(&header, claims, &self.encoding)?)
    }

    /// What a token says, if its signature is good, its `exp`, in seconds, is not past, and its `nbf`,
    /// if it has one, not ahead.
    pub fn verify<T: DeserializeOwned>(&self, token: &str, now: UnixMillis) -> Option<T> {
        #[derive(Deserialize)]
        struct Head {
            alg: String,
            /// Whatever else the header holds.
            #[serde(flatten)]
            rest: serde_json::Map<String, serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Expiry {
            exp: i64,
            #[serde(default)]
            nbf: i64,
        }
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (head, payload) = message.split_once('.')?;
        let head = BASE64URL_NOPAD.decode(head.as_bytes()).ok()?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        let is_refused = |name: &&str| head.rest.contains_key(*name);
        if head.alg != "HS256" || REFUSED_HEADERS.iter().any(is_refused) {
            return None;
        }
        let (message, algorithm) = (message.as_bytes(), Algorithm::HS256);
        let is_good = jsonwebtoken::crypto::verify(signature, message, &self.decoding, algorithm);
        if !is_good.ok()? {
            return None;
        }
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
        let Expiry { exp, nbf } = serde_json::from_slice(&payload).ok()?;
        if now.0 >= exp.saturating_mul(1000) || now.0 < nbf.saturating_mul(1000) {
            return None;
        }
        serde_json::from_slice(&payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn verify(key: &Hs256, token: &str) -> Option<Value> {
        key.verify(token, NOW)
    }

    /// A token with a header of the forger's making and no good signature.
    fn forged(header: &Value, claims: &Value, signature: &str) -> String {
        let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        format!("{}.{}.{signature}", part(header), part(claims))
    }

    #[test]
    fn a_signed_token_verifies_until_it_ends() {
        let key = Hs256::new(b"secret");
        let claims = json!({"sub": "a", "exp": 1001});
        assert_eq!(verify(&key, &key.sign(&claims).unwrap()), Some(claims));
        for claims in [
            json!({"exp": 1000}),
            json!({"sub": "a"}),
            json!({"exp": "1001"}),
            json!({"exp": 1001, "nbf": 1001}),
            json!({"exp": 1001, "nbf": "1"}),
        ] {
            assert_eq!(verify(&key, &key.sign(&claims).unwrap()), None, "{claims}");
        }
    }

    #[test]
    fn headers_that_demand_or_bring_keys_are_refused_with_a_good_signature_too() {
        let key = Hs256::new(b"secret");
        let claims = json!({"sub": "a", "exp": 1001});
        let signed = |header: &Value| {
            let message = forged(header, &claims, "");
            let message = message.trim_end_matches('.');
            let algorithm = Algorithm::HS256;
            let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &key.encoding, algorithm);
            format!("{message}.{}", signed.unwrap())
        };
        assert!(verify(&key, &signed(&json!({"alg": "HS256"}))).is_some());
        for name in REFUSED_HEADERS {
            let token = signed(&json!({"alg": "HS256", name: ["exp"]}));
            assert_eq!(verify(&key, &token), None, "{name}");
        }
    }

    #[test]
    fn forged_tokens_do_not_verify() {
        let key = Hs256::new(b"secret");
        let claims = json!({"sub": "a", "exp": 1001});
        let good = key.sign(&claims).unwrap();
        let signature = good.rsplit_once('.').unwrap().1;
        let other = Hs256::new(b"another").sign(&claims).unwrap();
        for token in [
            String::new(),
            "a.b".to_owned(),
            other,
            good[..good.len() - 2].to_owned(),
            forged(&json!({"alg": "none"}), &claims, ""),
            forged(&json!({"alg": "none"}), &claims, signature),
            forged(&json!({"alg": "RS256"}), &claims, signature),
            forged(&json!({"alg": "HS512"}), &claims, signature),
            forged(
                &json!({"alg": "HS256", "crit": ["exp"]}),
                &claims,
                signature,
            ),
            forged(
                &json!({"alg": "HS256", "typ": "JWT"}),
                &json!({"sub": "b", "exp": 1001}),
                signature,
            ),
            format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)),
        ] {
            assert_eq!(verify(&key, &token), None, "{token}");
        }
    }
}
