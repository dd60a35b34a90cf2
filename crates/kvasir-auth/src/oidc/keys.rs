//! The provider's keys, and the signature of a token.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::TokenError;

/// Most keys of one provider; the rest is ignored.
const KEYS_MAX: usize = 64;

/// Algorithms that this program can verify. Never `none` and never a symmetric one: with those a
/// public key would be enough to forge.
const KNOWN: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The keys of a provider and the algorithms it says it uses.
pub(super) struct Keys {
    keys: Vec<Key>,
    algorithms: Vec<Algorithm>,
}

struct Key {
    id: Option<String>,
    /// The only algorithm that the provider uses this key with, if it says so.
    algorithm: Option<String>,
    jwk: Jwk,
    decoding: DecodingKey,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.algorithms == other.algorithms
            && self
                .keys
                .iter()
                .map(|key| &key.jwk)
                .eq(other.keys.iter().map(|key| &key.jwk))
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// Reads a key set. Keys of unknown kinds are left out.
    pub(super) fn read(document: &[u8], algorithms: &[String]) -> Result<Keys, serde_json::Error> {
        let set: KeySet = serde_json::from_slice(document)?;
        let keys = set
            .keys
            .into_iter()
            .take(KEYS_MAX)
            .filter(|key| key.get("use").is_none_or(|purpose| purpose == "sig"))
            .filter_map(|key| {
                let algorithm = key
                    .get("alg")
                    .and_then(|name| name.as_str())
                    .map(str::to_owned);
                let jwk: Jwk = serde_json::from_value(key).ok()?;
                let decoding = DecodingKey::from_jwk(&jwk).ok()?;
                Some(Key {
                    id: jwk.common.key_id.clone(),
                    algorithm,
                    jwk,
                    decoding,
                })
            })
            .collect();
        let listed = |name: &str| algorithms.iter().any(|listed| listed == name);
        let algorithms = KNOWN
            .iter()
            .filter(|(name, _)| listed(name))
            .map(|(_, algorithm)| *algorithm)
            .collect();
        Ok(Keys { keys, algorithms })
    }

    /// Whether there is a key for the token's key id.
    pub(super) fn knows(&self, head: &TokenHead) -> bool {
        self.find(head).is_some()
    }

    /// The first key with the token's key id; a token without one takes a key without one.
    fn find(&self, head: &TokenHead) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == head.kid)
    }

    /// The payload of a token whose signature is good.
    pub(super) fn verify(&self, token: &str, head: &TokenHead) -> Result<Vec<u8>, TokenError> {
        if !self.algorithms.contains(&head.algorithm) {
            return Err(TokenError::Invalid(
                "the algorithm is not one of the provider's",
            ));
        }
        let key = self
            .find(head)
            .ok_or(TokenError::Invalid("the key is unknown"))?;
        let name = KNOWN
            .iter()
            .find(|(_, known)| *known == head.algorithm)
            .map(|(name, _)| *name);
        if key.algorithm.is_some() && key.algorithm.as_deref() != name {
            return Err(TokenError::Invalid("the key is for another algorithm"));
        }
        let (message, signature) = token
            .rsplit_once('.')
            .ok_or(TokenError::Invalid("not three parts"))?;
        let verified = jsonwebtoken::crypto::verify(
            signature,
            message.as_bytes(),
            &key.decoding,
            head.algorithm,
        );
        if !verified.unwrap_or(false) {
            return Err(TokenError::Invalid("the signature does not match"));
        }
        let (_, payload) = message
            .split_once('.')
            .ok_or(TokenError::Invalid("not three parts"))?;
        BASE64URL_NOPAD
            .decode(payload.as_bytes())
            .map_err(|_| TokenError::Invalid("the payload is not base64url"))
    }
}

/// The header of a token, before anything in it is trusted.
pub(super) struct TokenHead {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The media type, such as `at+jwt`.
    pub(super) typ: Option<String>,
}

impl TokenHead {
    pub(super) fn read(token: &str) -> Result<TokenHead, TokenError> {
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Invalid("not three parts"));
        };
        let head = BASE64URL_NOPAD
            .decode(head.as_bytes())
            .map_err(|_| TokenError::Invalid("the header is not base64url"))?;
        let head: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&head)
            .map_err(|_| TokenError::Invalid("the header is not JSON"))?;
        // Extensions that must be understood and are not, and keys that the sender brings along.
        if ["crit", "jwk", "jku", "x5c", "x5u"]
            .iter()
            .any(|name| head.contains_key(*name))
        {
            return Err(TokenError::Invalid(
                "the header brings its own key or demands",
            ));
        }
        let text = |name: &str| {
            head.get(name)
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
        let algorithm = text("alg").unwrap_or_default();
        let algorithm = KNOWN
            .iter()
            .find(|(name, _)| *name == algorithm)
            .map(|(_, algorithm)| *algorithm)
            .ok_or(TokenError::Invalid("the algorithm is not allowed"))?;
        Ok(TokenHead {
            algorithm,
            kid: text("kid"),
            typ: text("typ"),
        })
    }
}
