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

    /// What a token says, if its signature is good and its `exp`, in seconds, is not past.
    pub fn verify<T: DeserializeOwned>(&self, token: &str, now: UnixMillis) -> Option<T> {
        #[derive(Deserialize)]
        struct Head {
            alg: String,
            crit: Option<serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Expiry {
            exp: i64,
        }
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (head, payload) = message.split_once('.')?;
        let head = BASE64URL_NOPAD.decode(head.as_bytes()).ok()?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        if head.alg != "HS256" || head.crit.is_some() {
            return None;
        }
        let (message, algorithm) = (message.as_bytes(), Algorithm::HS256);
        let is_good = jsonwebtoken::crypto::verify(signature, message, &self.decoding, algorithm);
        if !is_good.ok()? {
            return None;
        }
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
        let Expiry { exp } = serde_json::from_slice(&payload).ok()?;
        if now.0 >= exp.saturating_mul(1000) {
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
        ] {
            assert_eq!(verify(&key, &key.sign(&claims).unwrap()), None, "{claims}");
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
