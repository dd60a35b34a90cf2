//! An issuer for trying things out: whoever asks gets a token for whatever user they name.
//!
//! The key lives as long as the process. `kvasir dev-issuer` serves this on loopback only; nothing
//! in a server ever uses it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use kvasir_kv::UnixMillis;
use serde_json::{Value, json};

/// How long its tokens last, in seconds.
pub const TOKEN_SECONDS: i64 = 24 * 60 * 60;

const KEY_ID: &str = "dev";

/// A key pair and the name under which it signs.
pub struct DevIssuer {
    issuer: String,
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no key or signature could be made")]
pub struct DevIssuerError;

impl DevIssuer {
    /// An issuer with a new key, called by the URL at which it is served.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub fn new(issuer: impl Into<String>) -> Result<DevIssuer, DevIssuerError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(DevIssuer {
            issuer: issuer.into(),
            pair: pair.map_err(|_| DevIssuerError)?,
        })
    }

    /// The discovery document.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/jwks", self.issuer),
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The key set.
    pub fn jwks(&self) -> Value {
        // Uncompressed point: one byte, then two coordinates of 32 bytes.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
            "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y),
        }] })
    }

    /// An access token as Konnect makes them.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub fn token(
        &self,
        user: &str,
        client: &str,
        scopes: &[String],
        now: UnixMillis,
    ) -> Result<String, DevIssuerError> {
        let seconds = now.0 / 1000;
        let claims = json!({
            "iss": self.issuer, "sub": user, "aud": client,
            "iat": seconds, "exp": seconds + TOKEN_SECONDS,
            "kc.isAccessToken": true, "kc.authorizedScopes": scopes,
            "kc.identity": { "kc.i.id": user },
        });
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": KEY_ID });
        let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        let message = format!("{}.{}", part(&header), part(&claims));
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = self
            .pair
            .sign(&random, message.as_bytes())
            .map_err(|_| DevIssuerError)?;
        Ok(format!(
            "{message}.{}",
            BASE64URL_NOPAD.encode(signature.as_ref())
        ))
    }
}
