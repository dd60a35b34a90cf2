//! Sessions: a signed token and a row that must exist as well.
//!
//! The token is a JWT with a pinned algorithm. The row lies under the token's digest and expires
//! with it, so ending a session is deleting its row, at once and everywhere.

use kvasir_auth::jwt::Hs256;
use kvasir_kv::{AtomicWrite, Key, Mutation, Outcome, UnixMillis};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::Settings;
use super::records::{self, Session};
use super::users::{Account, Users, digest, session_index_key};
use crate::error::ApiError;

/// Bytes of a generated signing secret.
const SECRET_BYTES: usize = 64;

/// How often `lastActive` is written, in milliseconds, so that reading is not writing.
const ACTIVE_EVERY_MS: i64 = 60_000;

/// The sessions of one database.
pub(super) struct Sessions {
    users: Users,
    configured: Option<SecretSlice<u8>>,
    /// The configured secret, or the one in the store.
    key: OnceCell<Hs256>,
    life_ms: i64,
}

/// What the token says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    sub: String,
    user_id: String,
    email: String,
    iat: i64,
    exp: i64,
    jti: String,
}

/// A session that was found good.
#[derive(Clone, Debug)]
pub(super) struct Current {
    /// Under which its row lies.
    pub(super) digest: String,
    /// Whose it is.
    pub(super) account: Account,
}

fn secret_key() -> Key {
    Key::from_strings(["accounts", "jwt_secret"])
}

impl Sessions {
    pub(super) fn new(users: &Users, settings: &Settings) -> Sessions {
        let configured = settings.jwt_secret.as_ref();
        let configured = configured.map(|secret| secret.expose_secret().as_bytes().to_vec().into());
        Sessions {
            users: users.clone(),
            configured,
            key: OnceCell::new(),
            life_ms: i64::from(settings.session_seconds) * 1000,
        }
    }

    async fn key(&self) -> Result<&Hs256, ApiError> {
        self.key
            .get_or_try_init(|| async {
                let secret = match &self.configured {
                    Some(secret) => secret.clone(),
                    None => self.stored_secret().await?,
                };
                Ok(Hs256::new(secret.expose_secret()))
            })
            .await
    }

    /// The secret in the store, made on first use. Of several nodes that make one, one wins.
    async fn stored_secret(&self) -> Result<SecretSlice<u8>, ApiError> {
        loop {
            if let Some(entry) = self.users.system().get(&secret_key()).await? {
                return Ok(entry.value.bytes.to_vec().into());
            }
            let mut secret = vec![0; SECRET_BYTES];
            getrandom::fill(&mut secret).map_err(ApiError::internal)?;
            let write = AtomicWrite::new()
                .check_absent(secret_key())
                .push(Mutation::set(secret_key(), kvasir_kv::Value::bytes(secret)));
            self.users.system().commit(write).await?;
        }
    }

    /// Begins a session and returns its token.
    pub(super) async fn begin(&self, account: &Account) -> Result<String, ApiError> {
        let now = self.users.clock().now();
        let user = &account.user.record;
        let until = now
            .checked_add_ms(self.life_ms)
            .unwrap_or(UnixMillis::MAX_RFC3339);
        let claims = Claims {
            sub: user.id.clone(),
            user_id: user.id.clone(),
            email: user.email.clone(),
            iat: now.0 / 1000,
            exp: until.0 / 1000,
            jti: uuid::Uuid::new_v4().to_string(),
        };
        let token = self
            .key()
            .await?
            .sign(&claims)
            .map_err(ApiError::internal)?;
        let digest = digest(&token);
        let row = Session {
            user_id: user.id.clone(),
            created_at: records::timestamp(now),
            last_active: records::timestamp(now),
        };
        let expires_at = Some(UnixMillis(claims.exp * 1000));
        let data = AtomicWrite::new()
            .check(records::user_key(&user.id), account.user.versionstamp)
            .push(Mutation::set_expiring(
                records::session_key(&digest),
                records::stored(&row),
                expires_at,
            ));
        let system = AtomicWrite::new().push(Mutation::set_expiring(
            session_index_key(&user.id, &digest),
            records::stored(&()),
            expires_at,
        ));
        match self.users.commit(data, system).await? {
            Outcome::Committed(_) => Ok(token),
            // The account changed or went away between password and session.
            Outcome::Conflict { .. } => Err(ApiError::unauthorized("log in again")),
        }
    }

    /// The session of a token: good signature, not expired, its row there, its user enabled.
    pub(super) async fn find(&self, token: &str) -> Result<Option<Current>, ApiError> {
        let now = self.users.clock().now();
        let claims = self.key().await?.verify::<Claims>(token, now);
        let Some(claims) = claims else {
            return Ok(None);
        };
        let digest = digest(token);
        let found = self.users.session(&digest, &claims.sub).await?;
        let Some((row, account, expires_at)) = found else {
            return Ok(None);
        };
        if row.record.user_id != claims.sub || account.secrets.record.disabled {
            return Ok(None);
        }
        let last = records::moment(&row.record.last_active).unwrap_or_default();
        if now.0 - last.0 >= ACTIVE_EVERY_MS {
            let row_key = records::session_key(&digest);
            let active = Session {
                last_active: records::timestamp(now),
                ..row.record
            };
            // Whoever changed the row in between was newer, or ended the session.
            let write = AtomicWrite::new()
                .check(row_key.clone(), row.versionstamp)
                .push(Mutation::set_expiring(
                    row_key,
                    records::stored(&active),
                    expires_at,
                ));
            self.users.data().commit(write).await?;
        }
        Ok(Some(Current { digest, account }))
    }

    /// Ends a session at once.
    pub(super) async fn end(&self, current: &Current) -> Result<(), ApiError> {
        let user = &current.account.user.record.id;
        let data = AtomicWrite::new().push(Mutation::delete(records::session_key(&current.digest)));
        let system =
            AtomicWrite::new().push(Mutation::delete(session_index_key(user, &current.digest)));
        self.users.commit(data, system).await?;
        Ok(())
    }
}
