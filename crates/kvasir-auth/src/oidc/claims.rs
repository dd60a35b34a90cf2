//! What a verified token says, and whether that is enough.

use kvasir_kv::UnixMillis;
use serde_json::{Map, Value};

use super::keys::TokenHead;
use super::{LEEWAY_MS, ProviderSettings, TokenError};

/// Longest user or client id, in bytes. They become part of stored keys.
pub const ID_BYTES_MAX: usize = 255;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The user: `kc.identity` → `kc.i.id`, else `sub`.
    pub user: String,
    /// The application: `aud`; empty if the token names none.
    pub client: String,
    not_before: UnixMillis,
    expires_at: UnixMillis,
}

impl TokenIdentity {
    /// Whether the token is valid at `now`.
    pub(super) fn check_time(&self, now: UnixMillis) -> Result<(), TokenError> {
        if now.0 >= self.expires_at.0.saturating_add(LEEWAY_MS) {
            Err(TokenError::Invalid("expired"))
        } else if now.0 < self.not_before.0.saturating_sub(LEEWAY_MS) {
            Err(TokenError::Invalid("not valid yet"))
        } else {
            Ok(())
        }
    }
}

/// Judges the payload of a token with a good signature.
pub(super) fn judge(
    payload: &[u8],
    head: &TokenHead,
    settings: &ProviderSettings,
    now: UnixMillis,
) -> Result<TokenIdentity, TokenError> {
    let claims: Map<String, Value> = serde_json::from_slice(payload)
        .map_err(|_| TokenError::Invalid("the payload is not a JSON object"))?;
    if claims.get("iss").and_then(Value::as_str) != Some(&settings.issuer) {
        return Err(TokenError::Invalid("of another issuer"));
    }
    let expires_at = time(&claims, "exp")?.ok_or(TokenError::Invalid("without expiry"))?;
    let not_before = time(&claims, "nbf")?
        .max(time(&claims, "iat")?)
        .unwrap_or_default();

    let (user, client, scopes) = match claims.get("kc.isAccessToken") {
        Some(Value::Bool(true)) => konnect(&claims)?,
        Some(_) => return Err(TokenError::Invalid("not an access token")),
        None => standard(&claims, head, settings)?,
    };
    if user.is_empty() || user.len() > ID_BYTES_MAX || client.len() > ID_BYTES_MAX {
        return Err(TokenError::Invalid("no usable user or client id"));
    }
    let identity = TokenIdentity {
        user,
        client,
        not_before,
        expires_at,
    };
    identity.check_time(now)?;
    match settings
        .required_scopes
        .iter()
        .find(|scope| !scopes.contains(scope))
    {
        Some(missing) => Err(TokenError::InsufficientScope(missing.clone())),
        None => Ok(identity),
    }
}

/// User, client and scopes of a Konnect access token.
fn konnect(claims: &Map<String, Value>) -> Result<(String, String, Vec<String>), TokenError> {
    let identity = claims
        .get("kc.identity")
        .and_then(|identity| identity.get("kc.i.id"));
    let user = identity
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty())
        .or_else(|| claims.get("sub").and_then(Value::as_str))
        .unwrap_or_default();
    let scopes = match claims.get("kc.authorizedScopes") {
        None => Vec::new(),
        Some(scopes) => strings(scopes).ok_or(TokenError::Invalid("odd kc.authorizedScopes"))?,
    };
    Ok((
        user.to_owned(),
        audience(claims).unwrap_or_default().to_owned(),
        scopes,
    ))
}

/// User, client and scopes of another provider's access token, if those are accepted.
fn standard(
    claims: &Map<String, Value>,
    head: &TokenHead,
    settings: &ProviderSettings,
) -> Result<(String, String, Vec<String>), TokenError> {
    let wanted = settings
        .audience
        .as_deref()
        .ok_or(TokenError::Invalid("not an access token"))?;
    let is_at_jwt = head.typ.as_deref().is_some_and(|typ| {
        let typ = typ.to_ascii_lowercase();
        typ == "at+jwt" || typ == "application/at+jwt"
    });
    let scope = claims.get("scope").or_else(|| claims.get("scp"));
    if !is_at_jwt && scope.is_none() {
        return Err(TokenError::Invalid("not an access token"));
    }
    let is_meant = match claims.get("aud") {
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(list)) => list.iter().any(|audience| audience == wanted),
        _ => false,
    };
    if !is_meant {
        return Err(TokenError::Invalid("meant for another audience"));
    }
    let scopes = match scope {
        None => Vec::new(),
        Some(Value::String(scopes)) => scopes.split_whitespace().map(str::to_owned).collect(),
        Some(list) => strings(list).ok_or(TokenError::Invalid("odd scope"))?,
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let client = text("azp")
        .or_else(|| text("client_id"))
        .unwrap_or_default();
    Ok((
        text("sub").unwrap_or_default().to_owned(),
        client.to_owned(),
        scopes,
    ))
}

/// `aud` as a string, or the first string of a list.
fn audience(claims: &Map<String, Value>) -> Option<&str> {
    match claims.get("aud")? {
        Value::String(audience) => Some(audience),
        Value::Array(list) => list.iter().find_map(Value::as_str),
        _ => None,
    }
}

/// A list of nothing but strings.
fn strings(list: &Value) -> Option<Vec<String>> {
    list.as_array()?
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// A time claim in seconds; a claim of another type makes the token invalid.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixMillis>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_f64().unwrap_or_default();
            // Beyond any date anybody means; keeps the product within range.
            let seconds = seconds.clamp(0.0, 1e15);
            Ok(Some(UnixMillis((seconds * 1000.0) as i64)))
        }
        Some(_) => Err(TokenError::Invalid("a time that is no number")),
    }
}
