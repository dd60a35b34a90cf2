//! Access tokens: what they allow, and the two ways to show one.
//!
//! A token *by value* is a JWT that the client keeps; a token *by reference* is known by its UUID
//! alone. Either way the stored record decides. The claims in a JWT are for the tools that print them: a
//! value that differs from the stored one in any byte is no token, so `alg: none` and changed
//! claims lead nowhere. Records are read with every request, so revoking takes effect at once.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use http::StatusCode;
use jiff::civil::Date;
use kvasir_kv::{
    AtomicWrite, Entry, Key, KeyRange, Mutation, Outcome, RangeRead, SnapshotRead, UnixMillis,
};
use serde::{Deserialize, Serialize};
use serde_json::json as json_value;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::database::{Constants, Database, TRIES, json, put, record, unchanged};
use super::error;
use super::wire::names::Network;
use super::wire::token::TokenRequest;
use super::wire::{day, start_of};
use crate::error::ApiError;

/// With `strict_tokens`, how far away an expiry may be, in months. The vendor's number.
const STRICT_MONTHS_MAX: i32 = 6;

/// Longest value that is looked at, in bytes. Ours have less than 2 KiB at all limits.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Most tokens that are read at once. Far over every sensible `tokens_max`.
const TOKENS_READ_MAX: usize = 1_000_000;

/// One thing that a token allows in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Permission {
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "w")]
    Write,
    #[serde(rename = "d")]
    Delete,
}

impl Permission {
    pub(super) fn from_letter(letter: &str) -> Option<Permission> {
        match letter {
            "r" => Some(Permission::Read),
            "w" => Some(Permission::Write),
            "d" => Some(Permission::Delete),
            _ => None,
        }
    }
}

/// A token on disk, under `("edgekv", "tokens", uuid)`; `("edgekv", "token-names", name)` holds the
/// UUID.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) kind: TokenKind,
    pub(super) on_staging: bool,
    pub(super) on_production: bool,
    pub(super) permissions: BTreeMap<String, Vec<Permission>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edge_workers: Option<Vec<String>>,
    pub(super) issued_at_ms: i64,
}

/// How a token is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenKind {
    /// By a JWT, until the end of a day in UTC.
    Value {
        /// The JWT. It has to be kept: `GET /tokens/{name}` answers it.
        value: String,
        /// The last day.
        last_day: Date,
    },
    /// By its UUID, until revoked.
    Reference {
        /// When it was refreshed last.
        refreshed_at_ms: Option<i64>,
    },
}

impl TokenRecord {
    pub(super) fn is_expired(&self, now: UnixMillis) -> bool {
        match &self.kind {
            TokenKind::Value { last_day, .. } => now >= end_of(*last_day),
            TokenKind::Reference { .. } => false,
        }
    }

    /// Whether the token allows this.
    pub(super) fn allows(&self, network: Network, namespace: &str, wanted: Permission) -> bool {
        let on_network = match network {
            Network::Staging => self.on_staging,
            Network::Production => self.on_production,
        };
        let permissions = self.permissions.get(namespace);
        on_network && permissions.is_some_and(|permissions| permissions.contains(&wanted))
    }

    /// The JWT of a token by value, HS256.
    fn signed_value(&self, constants: &Constants, last_day: Date) -> String {
        let networks = [(self.on_staging, "s"), (self.on_production, "p")];
        let networks = networks.into_iter().filter(|(on, _)| *on);
        let mut claims = json_value!({
            "name": self.name,
            "cpc": &*constants.cpcode,
            "env": networks.map(|(_, letter)| letter).collect::<Vec<_>>(),
            "iat": self.issued_at_ms / 1000,
            "exp": end_of(last_day).0 / 1000 - 1,
            "jti": self.uuid,
        });
        claims["ewids"] = match &self.edge_workers {
            None => "all".into(),
            Some(ids) => ids.clone().into(),
        };
        for (namespace, permissions) in &self.permissions {
            claims[format!("namespace-{namespace}")] = json_value!(permissions);
        }
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let payload = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        let signed = format!("{header}.{payload}");
        let mut mac = Hmac::<Sha256>::new_from_slice(&constants.token_key)
            .expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        let signature = BASE64URL_NOPAD.encode(&mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }
}

/// The first moment after a day.
fn end_of(day: Date) -> UnixMillis {
    day.tomorrow().map_or(UnixMillis::MAX_RFC3339, start_of)
}

/// What a request on the data plane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// A JWT.
    Value(&'a str),
    /// The UUID of a token by reference.
    Reference(&'a str),
}

fn key(uuid: &str) -> Key {
    Key::from_strings(["edgekv", "tokens", uuid])
}

fn name_key(name: &str) -> Key {
    Key::from_strings(["edgekv", "token-names", name])
}

/// Written with every new token, so that two creations cannot both be the last that fits.
fn guard_key() -> Key {
    Key::from_strings(["edgekv", "token-guard"])
}

impl Database {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// 409 if the name is in use by a token that has not expired, 400 at the limit of tokens and,
    /// with `strict_tokens`, for an expiry too near or too far.
    pub(super) async fn create_token(
        &self,
        request: TokenRequest,
    ) -> Result<TokenRecord, ApiError> {
        let constants = self.require(StatusCode::NOT_FOUND).await?;
        self.check_last_day(request.last_day)?;
        let mut token = TokenRecord {
            name: request.name,
            uuid: Uuid::new_v4().to_string(),
            kind: TokenKind::Reference {
                refreshed_at_ms: None,
            },
            on_staging: request.on_staging,
            on_production: request.on_production,
            permissions: request.permissions,
            edge_workers: request.edge_workers,
            issued_at_ms: self.now().0,
        };
        if let Some(last_day) = request.last_day {
            let value = token.signed_value(constants, last_day);
            token.kind = TokenKind::Value { value, last_day };
        }
        for _ in 0..TRIES {
            let guard = self.system().get(&guard_key()).await?;
            let mut write = unchanged(AtomicWrite::new(), guard_key(), guard.as_ref());
            match self.named_token(&token.name).await? {
                Some((_, old)) if !old.is_expired(self.now()) => {
                    return Err(error::conflict(format!(
                        "Token with name {} is already stored.",
                        token.name
                    )));
                }
                Some((entry, _)) => {
                    write = unchanged(write, entry.key.clone(), Some(&entry))
                        .push(Mutation::delete(entry.key));
                }
                None => {
                    if self.tokens().await?.len() >= self.settings.tokens_max {
                        return Err(error::invalid(format!(
                            "A database cannot have more than {} tokens.",
                            self.settings.tokens_max
                        )));
                    }
                    write = write.check_absent(name_key(&token.name));
                }
            }
            let write = write
                .push(Mutation::set(guard_key(), json(&())))
                .push(Mutation::set(name_key(&token.name), json(&token.uuid)))
                .push(Mutation::set(key(&token.uuid), json(&token)));
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return Ok(token);
            }
        }
        Err(error::busy())
    }

    fn check_last_day(&self, last_day: Option<Date>) -> Result<(), ApiError> {
        let Some(last_day) = last_day.filter(|_| self.settings.strict_tokens) else {
            return Ok(());
        };
        let today = day(self.now());
        let far = jiff::Span::new().months(STRICT_MONTHS_MAX);
        let latest = today.checked_add(far).unwrap_or(Date::MAX);
        if last_day > today && last_day <= latest {
            Ok(())
        } else {
            Err(error::invalid(
                "expiry must be tomorrow or later and within six months.",
            ))
        }
    }

    /// The token of a name, expired or not.
    ///
    /// # Errors
    ///
    /// 404 `EKV_3000`; with `strict_tokens` 410 for an expired one.
    pub(super) async fn token(&self, name: &str) -> Result<TokenRecord, ApiError> {
        let found = self.named_token(name).await?;
        let (_, token) = found.ok_or_else(|| no_token(name))?;
        if self.settings.strict_tokens && token.is_expired(self.now()) {
            return Err(ApiError::new(
                StatusCode::GONE,
                error::CONFLICT,
                "Token has expired.",
            ));
        }
        Ok(token)
    }

    /// All tokens, by name, expired ones included.
    pub(super) async fn tokens(&self) -> Result<Vec<TokenRecord>, ApiError> {
        let range = KeyRange::below(&Key::from_strings(["edgekv", "tokens"]));
        let read = RangeRead::new(range, TOKENS_READ_MAX);
        let snapshot = self.system().read(SnapshotRead::range(read)).await?;
        let entries = snapshot.ranges.iter().flat_map(|range| &range.entries);
        let mut tokens = entries
            .map(record)
            .collect::<Result<Vec<TokenRecord>, _>>()?;
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Notes that a token by reference was refreshed.
    ///
    /// # Errors
    ///
    /// 404 `EKV_3000`; 400 for a token by value.
    pub(super) async fn refresh_token(&self, name: &str) -> Result<TokenRecord, ApiError> {
        for _ in 0..TRIES {
            let found = self.named_token(name).await?;
            let (entry, mut token) = found.ok_or_else(|| no_token(name))?;
            let TokenKind::Reference { refreshed_at_ms } = &mut token.kind else {
                return Err(error::invalid("Only tokens by reference can be refreshed."));
            };
            *refreshed_at_ms = Some(self.now().0);
            let write = put(&entry, &token);
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return Ok(token);
            }
        }
        Err(error::busy())
    }

    /// Ends a token for ever.
    ///
    /// # Errors
    ///
    /// 404 `EKV_3000`.
    pub(super) async fn revoke_token(&self, name: &str) -> Result<TokenRecord, ApiError> {
        for _ in 0..TRIES {
            let found = self.named_token(name).await?;
            let (entry, token) = found.ok_or_else(|| no_token(name))?;
            let write = AtomicWrite::new()
                .check(entry.key.clone(), entry.versionstamp)
                .push(Mutation::delete(entry.key))
                .push(Mutation::delete(name_key(name)));
            if let Outcome::Committed(_) = self.system().commit(write).await? {
                return Ok(token);
            }
        }
        Err(error::busy())
    }

    /// The token that a request shows, if it is one and valid now.
    pub(super) async fn shown_token(
        &self,
        shown: Shown<'_>,
    ) -> Result<Option<TokenRecord>, ApiError> {
        let uuid = match shown {
            Shown::Value(value) => token_id(value),
            Shown::Reference(uuid) => uuid.parse().ok(),
        };
        let Some(uuid) = uuid else {
            return Ok(None);
        };
        // Keys hold the UUID in its lower-case form.
        let Some(entry) = self.system().get(&key(&uuid.to_string())).await? else {
            return Ok(None);
        };
        let token: TokenRecord = record(&entry)?;
        let is_shown = match (&token.kind, shown) {
            (TokenKind::Value { value, .. }, Shown::Value(shown)) => {
                value.as_bytes().ct_eq(shown.as_bytes()).into()
            }
            (TokenKind::Reference { .. }, Shown::Reference(_)) => true,
            _ => false,
        };
        Ok((is_shown && !token.is_expired(self.now())).then_some(token))
    }

    async fn named_token(&self, name: &str) -> Result<Option<(Entry, TokenRecord)>, ApiError> {
        let Some(entry) = self.system().get(&name_key(name)).await? else {
            return Ok(None);
        };
        let uuid: String = record(&entry)?;
        let Some(entry) = self.system().get(&key(&uuid)).await? else {
            // Revoked between the two reads.
            return Ok(None);
        };
        let token = record(&entry)?;
        Ok(Some((entry, token)))
    }
}

fn no_token(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        error::CONFLICT,
        format!("Token with name {name} does not exist."),
    )
}

/// The id that a JWT claims. Nothing about it is checked.
fn token_id(value: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Claims {
        jti: Uuid,
    }
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let payload = value.split('.').nth(1)?;
    let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(claims.jti)
}
