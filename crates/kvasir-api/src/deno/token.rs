//! Data tokens: what the metadata exchange hands out in place of the access token.
//!
//! A data token says which database it is for, what may be done there, and until when, sealed with
//! a key of this store (HMAC-SHA256), so that every server over the store accepts it without having
//! met it. It names the principal it was made for; once that principal's own token is revoked, or
//! the database is removed, it is refused within [`RECHECK_MS`].

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use kvasir_auth::{Grant, Principal, Sources, Verb, Verbs};
use kvasir_kv::{
    AtomicWrite, Error, Key, KeyRange, KeyspaceName, Mutation, Outcome, Result, UnixMillis, Value,
};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Settings;
use crate::context::Ctx;
use crate::databases::{Database, Databases};

/// How long a token is believed before its principal and its database are looked at again, in
/// milliseconds.
pub const RECHECK_MS: i64 = 5_000;

/// Shortest announced lifetime, and shortest time a token is accepted beyond it, in seconds.
pub const SPAN_S_MIN: u32 = 600;

/// Longest data token that is looked at, in bytes: grants of the longest prefixes fit.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How many tokens are remembered as genuine. A token takes about as much memory as its text twice.
const REMEMBERED_TOKENS: usize = 4_096;

type Seal = Hmac<Sha256>;

/// Makes and opens data tokens.
pub(super) struct DataTokens {
    ctx: Ctx,
    lifetime_ms: i64,
    overlap_ms: i64,
    key: OnceCell<[u8; 32]>,
    remembered: Cache<String, Arc<Session>>,
}

/// What is sealed in a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// Name of the database.
    db: String,
    /// Its id; a database that was made anew under the same name has another one.
    id: Uuid,
    /// Id of the principal.
    sub: String,
    /// Accepted until then, in milliseconds since 1970.
    until: i64,
    grants: Vec<Granted>,
}

/// A grant within the database.
#[derive(Serialize, Deserialize)]
struct Granted {
    /// Base64 of the prefix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prefix: String,
    verbs: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

/// A data token that was opened: one client of one database.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) database: KeyspaceName,
    pub(super) id: Uuid,
    principal: Principal,
    /// From where the principal may ask.
    sources: Sources,
    /// Accepted until then.
    pub(super) until: UnixMillis,
    /// Believed without another look until then.
    believed_until: UnixMillis,
    /// Verbs that hold for every key; the quick way for most tokens.
    everywhere: Verbs,
    /// Whether there is any grant to write or delete.
    pub(super) may_write: bool,
}

impl DataTokens {
    pub(super) fn new(ctx: &Ctx, settings: &Settings) -> DataTokens {
        let span_ms = |seconds: u32| i64::from(seconds.max(SPAN_S_MIN)) * 1000;
        DataTokens {
            ctx: ctx.clone(),
            lifetime_ms: span_ms(settings.token_lifetime_s),
            overlap_ms: span_ms(settings.token_overlap_s),
            key: OnceCell::new(),
            remembered: Cache::new(REMEMBERED_TOKENS),
        }
    }

    /// A token for what `principal` may do in `database`, and when the client is to ask for another
    /// one. `None` if it may do nothing there.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`] and [`kvasir_kv::Store::commit`], for the key.
    pub(super) async fn issue(
        &self,
        database: &Database,
        principal: &Principal,
    ) -> Result<Option<(String, UnixMillis)>> {
        let now = self.ctx.clock.now();
        let grants: Vec<Granted> = principal
            .grants()
            .iter()
            .filter(|grant| covers(grant, self.ctx.dialect, &database.name, now))
            .map(|grant| Granted {
                prefix: BASE64URL_NOPAD.encode(grant.prefix.as_bytes()),
                verbs: grant
                    .verbs
                    .iter()
                    .map(|verb| verb.name().to_owned())
                    .collect(),
                until: grant.expires_at.map(|at| at.0),
            })
            .collect();
        if grants.is_empty() {
            return Ok(None);
        }
        let expires_at = UnixMillis(now.0.saturating_add(self.lifetime_ms));
        let claims = Claims {
            db: database.name.as_str().to_owned(),
            id: database.id,
            sub: principal.id().to_owned(),
            until: expires_at.0.saturating_add(self.overlap_ms),
            grants,
        };
        let claims = serde_json::to_vec(&claims).expect("strings and numbers are JSON");
        let seal = self.seal(&claims).await?.finalize().into_bytes();
        let token = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(&claims),
            BASE64URL_NOPAD.encode(&seal)
        );
        Ok(Some((token, expires_at)))
    }

    /// The session of a token; `None` if the token is not one of ours, holds no more, or is not for a
    /// client at this address.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub(super) async fn open(&self, token: &str, client: IpAddr) -> Result<Option<Arc<Session>>> {
        let now = self.ctx.clock.now();
        let remembered = self.remembered.get(token);
        if let Some(session) = &remembered
            && now < session.believed_until
            && now < session.until
        {
            return Ok(remembered.filter(|session| session.sources.admit(client)));
        }
        let Some(claims) = self.unseal(token).await? else {
            return Ok(None);
        };
        let session = self.judge(claims, now, client).await?.map(Arc::new);
        match &session {
            Some(session) => {
                self.remembered
                    .insert(token.to_owned(), Arc::clone(session));
            }
            None => {
                self.remembered.remove(token);
            }
        }
        Ok(session)
    }

    /// What a genuine token says.
    async fn unseal(&self, token: &str) -> Result<Option<Claims>> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let parts = token
            .split_once('.')
            .and_then(|(claims, seal)| decode(claims).zip(decode(seal)));
        let Some((claims, seal)) = parts else {
            return Ok(None);
        };
        // Compares in constant time.
        if self.seal(&claims).await?.verify_slice(&seal).is_err() {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&claims).ok())
    }

    /// Whether what a token says still holds.
    async fn judge(
        &self,
        claims: Claims,
        now: UnixMillis,
        client: IpAddr,
    ) -> Result<Option<Session>> {
        let Ok(name) = claims.db.parse::<KeyspaceName>() else {
            return Ok(None);
        };
        if now.0 >= claims.until {
            return Ok(None);
        }
        let mut grants = Vec::with_capacity(claims.grants.len());
        for granted in &claims.grants {
            let Ok(prefix) = BASE64URL_NOPAD.decode(granted.prefix.as_bytes()) else {
                return Ok(None);
            };
            let verbs = granted.verbs.iter();
            grants.push(Grant {
                dialects: Vec::new(),
                keyspace: Some(name.clone()),
                prefix: Key::new(prefix),
                verbs: verbs.filter_map(|name| Verb::from_name(name)).collect(),
                expires_at: granted.until.map(UnixMillis),
            });
        }
        let principal = Principal::new(claims.sub, grants);
        let database = Databases::new(self.ctx.system.clone()).find(&name).await?;
        if database.is_none_or(|database| database.id != claims.id) {
            return Ok(None);
        }
        let Some(sources) = self.ctx.access.admit(&principal, client).await? else {
            return Ok(None);
        };
        let unbounded = |grant: &&Grant| grant.prefix.is_empty() && grant.expires_at.is_none();
        let everywhere = principal.grants().iter().filter(unbounded);
        let everywhere = everywhere.flat_map(|grant| grant.verbs.iter()).collect();
        let may_write = principal
            .grants()
            .iter()
            .any(|grant| grant.verbs.contains(Verb::Write) || grant.verbs.contains(Verb::Delete));
        Ok(Some(Session {
            database: name,
            id: claims.id,
            principal,
            sources,
            until: UnixMillis(claims.until),
            believed_until: UnixMillis(now.0.saturating_add(RECHECK_MS)),
            everywhere,
            may_write,
        }))
    }

    async fn seal(&self, claims: &[u8]) -> Result<Seal> {
        let key = self.key.get_or_try_init(|| self.load_key()).await?;
        let mut seal = Seal::new_from_slice(key).expect("a key of any length is taken");
        seal.update(claims);
        Ok(seal)
    }

    /// The key of this store, made at its first use. Who loses the race to make it takes the
    /// winner's.
    async fn load_key(&self) -> Result<[u8; 32]> {
        let system = &self.ctx.system;
        let place = Key::from_strings(["settings", "deno", "data-token-key"]);
        for _ in 0..2 {
            if let Some(entry) = system.get(&place).await? {
                return entry
                    .value
                    .bytes
                    .as_ref()
                    .try_into()
                    .map_err(|_| Error::Corrupt("the key that seals data tokens".to_owned()));
            }
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| Error::unavailable(error.to_string()))?;
            let write = AtomicWrite::new()
                .check_absent(place.clone())
                .push(Mutation::set(place.clone(), Value::bytes(key.to_vec())));
            if let Outcome::Committed(_) = system.commit(write).await? {
                return Ok(key);
            }
        }
        Err(Error::unavailable("the key that seals data tokens changes"))
    }
}

/// Whether any grant of a principal is about a database.
pub(super) fn reaches(
    principal: &Principal,
    dialect: &str,
    database: &KeyspaceName,
    now: UnixMillis,
) -> bool {
    let mut grants = principal.grants().iter();
    grants.any(|grant| covers(grant, dialect, database, now))
}

/// Whether a grant says anything about a database.
fn covers(grant: &Grant, dialect: &str, database: &KeyspaceName, now: UnixMillis) -> bool {
    (grant.dialects.is_empty() || grant.dialects.iter().any(|name| name == dialect))
        && grant.keyspace.as_ref().is_none_or(|name| name == database)
        && grant.expires_at.is_none_or(|at| now < at)
}

impl Session {
    /// Whether the client may do `verb` with a key.
    pub(super) fn may(&self, verb: Verb, key: &Key, now: UnixMillis) -> bool {
        self.everywhere.contains(verb) || self.grant_for(verb, key, now).is_some()
    }

    /// Whether the client may do `verb` with every key of the database.
    pub(super) fn may_everywhere(&self, verb: Verb) -> bool {
        self.everywhere.contains(verb)
    }

    fn grant_for(&self, verb: Verb, key: &Key, now: UnixMillis) -> Option<&Grant> {
        self.principal.grants().iter().find(|grant| {
            grant.verbs.contains(verb)
                && grant.expires_at.is_none_or(|at| now < at)
                && key.as_bytes().starts_with(grant.prefix.as_bytes())
        })
    }

    /// The part of a range that the client may read: all of it, or up to the end of the granted
    /// prefix in which the range begins. `None` if it begins outside of all of them.
    ///
    /// Clients read single keys through ranges that end far behind them, so refusing a range
    /// because of its end would refuse everything.
    pub(super) fn readable(&self, range: &KeyRange, now: UnixMillis) -> Option<KeyRange> {
        if self.everywhere.contains(Verb::Read) {
            return Some(range.clone());
        }
        let grant = self.grant_for(Verb::Read, &range.start, now)?;
        let end = KeyRange::starting_with(&grant.prefix).end;
        Some(KeyRange {
            start: range.start.clone(),
            end: range.end.clone().min(end),
        })
    }
}
