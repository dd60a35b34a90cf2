//! Issued tokens: making, checking and revoking them, and who may ask without one.
//!
//! Records lie in the system keyspace, so every node over one store knows the same tokens. What
//! was read is kept in a bounded cache, but only while [`Access::follow`] hears of changes, which
//! makes a revocation effective on all nodes as soon as they hear of it, and on this one at once.
//!
//! When and from where a token was used last is noted in memory and stored beside the requests, see
//! [`crate::last_use`].
//!
//! The surprising rule: a store that has issued a token stays closed, also when every token is
//! revoked or has expired. Otherwise revoking a leaked token could open the server to everybody. It
//! opens again when the last record is removed with [`Access::forget`].

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kvasir_kv::keyspace::{Cursor, List, ListPage};
use kvasir_kv::spent::{self, Part};
use kvasir_kv::{
    AtomicWrite, Clock, Error, Keyspace, Mutation, Outcome, RangeRead, Result, SnapshotRead,
    UnixMillis,
};
use quick_cache::sync::Cache;
use secrecy::SecretString;
use serde::Deserialize;

use crate::issued::{self, Issued};
use crate::last_use::{self, Use, Uses};
use crate::network::Sources;
use crate::principal::{Grant, Principal};
use crate::rate::{Quota, Rates, Standing, counted_address};
use crate::token::{Token, TokenHash, TokenId};

/// Most tokens that a store keeps, revoked ones included.
pub const TOKENS_MAX: usize = 10_000;

/// Most tokens whose records are kept in memory, unknown ids included.
const CACHED_TOKENS_MAX: usize = 10_000;

/// How often a revocation is tried again when somebody else changes the record meanwhile.
const REVOKE_TRIES: usize = 8;

/// Settings of [`Access`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Serve non-loopback addresses without any credential while no token is configured: everything
    /// but administration. Off unless the operator says so.
    pub serve_openly: bool,
    /// How often one client may ask. Its settings stand with the other limits.
    #[serde(skip)]
    pub rates: RateSettings,
}

/// How often one client may ask. Beyond it the answer is 429 with `Retry-After`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateSettings {
    /// Requests per second of one client address (one /64 network for IPv6), twice as many at once;
    /// 0 for no limit.
    pub requests_per_second_per_address: u32,
    /// Requests per second with one token, twice as many at once; 0 for no limit.
    pub requests_per_second_per_token: u32,
    /// Whether requests over loopback are limited too.
    pub on_loopback: bool,
}

impl Default for RateSettings {
    fn default() -> Self {
        RateSettings {
            requests_per_second_per_address: 1_000,
            requests_per_second_per_token: 5_000,
            on_loopback: false,
        }
    }
}

/// How a request came in, as far as serving it without a credential depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approach {
    /// Over a loopback address, from a program on this machine.
    Loopback,
    /// Over any other address.
    Public,
    /// Over loopback but under a name that is not a loopback name: a web page whose own name was
    /// pointed at this machine (DNS rebinding).
    ForeignHost,
    /// It would change something and was sent by a web page of another origin.
    ForeignOrigin,
}

/// The request comes too soon after others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: try again in {seconds} s")]
pub struct TooSoon {
    /// After so many seconds, at least 1, one request is let in again.
    pub seconds: u64,
}

impl TooSoon {
    fn unless_allowed(standing: &Standing) -> Result<(), TooSoon> {
        match standing.is_allowed {
            true => Ok(()),
            false => Err(TooSoon {
                seconds: standing.retry_after_seconds(),
            }),
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No credential was shown.
    #[error("a token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    /// The credential is unknown, altered, expired, revoked or not for the client's address; which of
    /// these is not told.
    #[error("the token is not valid")]
    Invalid,
    /// See [`Approach::ForeignHost`].
    #[error("without a token only requests to a loopback name such as localhost are served")]
    ForeignHost,
    /// See [`Approach::ForeignOrigin`].
    #[error("without a token a web page of another origin may not change anything")]
    ForeignOrigin,
    /// The token is used too often.
    #[error(transparent)]
    TooSoon(TooSoon),
}

/// What a new token is made of.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// From where it may be used.
    pub sources: Sources,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// Id of the principal that makes it.
    pub created_by: String,
}

/// Knows the issued tokens. Tokens live in the system keyspace as hashes.
#[derive(Debug)]
pub struct Access {
    system: Keyspace,
    clock: Arc<dyn Clock>,
    rules: RwLock<Arc<Rules>>,
    /// The credential of this process's lifetime, kept nowhere else.
    process: RwLock<Option<(TokenId, TokenHash)>>,
    known: Known,
    uses: Uses,
}

/// What the settings say now.
#[derive(Debug)]
struct Rules {
    settings: AccessSettings,
    by_address: Option<Rates<IpAddr>>,
    by_token: Option<Rates<TokenId>>,
}

impl Rules {
    fn new(settings: AccessSettings, clock: &Arc<dyn Clock>) -> Rules {
        let rates = &settings.rates;
        let by_address = quota(rates.requests_per_second_per_address)
            .map(|quota| Rates::new(quota, Arc::clone(clock)));
        let by_token = quota(rates.requests_per_second_per_token)
            .map(|quota| Rates::new(quota, Arc::clone(clock)));
        Rules {
            settings,
            by_address,
            by_token,
        }
    }
}

/// What was read from the store, while [`Access::follow`] keeps it coherent.
struct Known {
    /// Whether changes are heard of. Nothing may be kept otherwise.
    is_followed: AtomicBool,
    /// Raised by every change before its key is dropped, so that a record read before a change is
    /// not kept after it.
    generation: AtomicU64,
    /// Whether there is any record: one of the constants below.
    any: AtomicU8,
    tokens: Cache<TokenId, Option<Arc<Shown>>>,
}

const ANY_UNKNOWN: u8 = 0;
const ANY_NO: u8 = 1;
const ANY_YES: u8 = 2;

/// An issued token with the principal it makes.
#[derive(Debug)]
struct Shown {
    issued: Issued,
    principal: Principal,
    last_use: Arc<Use>,
}

impl Shown {
    /// Whether the token is valid at `now` for a client at this address.
    fn admits(&self, now: UnixMillis, client: IpAddr) -> bool {
        self.issued.is_valid(now) && self.issued.sources.admit(client)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Reads and keeps tokens in `system`.
    pub fn new(system: Keyspace, clock: Arc<dyn Clock>, settings: AccessSettings) -> Access {
        Access {
            system,
            rules: RwLock::new(Arc::new(Rules::new(settings, &clock))),
            clock,
            process: RwLock::new(None),
            known: Known {
                is_followed: AtomicBool::new(false),
                generation: AtomicU64::new(0),
                any: AtomicU8::new(ANY_UNKNOWN),
                tokens: Cache::new(CACHED_TOKENS_MAX),
            },
            uses: Uses::default(),
        }
    }

    /// Takes over other settings. Callers begin with nothing counted against them.
    pub fn change(&self, settings: AccessSettings) {
        let rules = Arc::new(Rules::new(settings, &self.clock));
        *self.rules.write().expect("no panic while it is held") = rules;
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().expect("no panic while it is held"))
    }

    /// The principal behind a bearer token, or, without a valid one, whoever may ask without.
    ///
    /// While no token is configured, any bearer text is accepted where none is needed. `client` is the
    /// client's address behind trusted proxies.
    ///
    /// # Errors
    ///
    /// The outer error is the store's, the inner one says why the request is not let in.
    pub async fn authenticate(
        &self,
        bearer: Option<&str>,
        approach: Approach,
        client: IpAddr,
    ) -> Result<Result<Principal, Denied>> {
        let began = Instant::now();
        let answer = self.judge(bearer, approach, client).await;
        spent::add(Part::Authorise, began, Instant::now());
        answer
    }

    async fn judge(
        &self,
        bearer: Option<&str>,
        approach: Approach,
        client: IpAddr,
    ) -> Result<Result<Principal, Denied>> {
        if let Some(token) = bearer.and_then(Token::parse)
            && let Some(principal) = self.verify(&token, client).await?
        {
            return Ok(self.count_token(token.id(), approach).map(|()| principal));
        }
        let denied = match bearer {
            None => Denied::Missing,
            Some(_) => Denied::Invalid,
        };
        if self.is_configured().await? {
            return Ok(Err(denied));
        }
        Ok(match approach {
            Approach::Loopback => Ok(Principal::local()),
            Approach::ForeignOrigin => Err(Denied::ForeignOrigin),
            _ if self.rules().settings.serve_openly => Ok(Principal::anyone()),
            Approach::ForeignHost => Err(Denied::ForeignHost),
            Approach::Public => Err(denied),
        })
    }

    /// Counts one request from an address and says how it stands, or when to come again. `None` for
    /// an address that is not limited.
    pub fn count_address(&self, client: IpAddr) -> Option<Standing> {
        let rules = self.rules();
        let rates = rules.by_address.as_ref()?;
        if client.to_canonical().is_loopback() && !rules.settings.rates.on_loopback {
            return None;
        }
        Some(rates.take(&counted_address(client)))
    }

    fn count_token(&self, id: TokenId, approach: Approach) -> Result<(), Denied> {
        let rules = self.rules();
        match &rules.by_token {
            Some(_) if approach == Approach::Loopback && !rules.settings.rates.on_loopback => {
                Ok(())
            }
            Some(rates) => TooSoon::unless_allowed(&rates.take(&id)).map_err(Denied::TooSoon),
            None => Ok(()),
        }
    }

    /// The principal behind a token, if the token is valid now and for this client.
    async fn verify(&self, token: &Token, client: IpAddr) -> Result<Option<Principal>> {
        let hash = token.hash();
        let process = *self.process.read().expect("no panic while it is held");
        if let Some((id, of_process)) = process
            && id == token.id()
        {
            let principal = || Principal::new("process", vec![Grant::everything()]);
            return Ok(of_process.matches(&hash).then(principal));
        }
        let shown = self.token(token.id()).await?;
        let stored = shown
            .as_ref()
            .map_or(&TokenHash::OF_NONE, |s| &s.issued.hash);
        let matches = stored.matches(&hash);
        let now = self.clock.now();
        let shown = shown.filter(|shown| matches && shown.admits(now, client));
        Ok(shown.map(|shown| {
            shown.last_use.note(now, client);
            shown.principal.clone()
        }))
    }

    /// Whether a principal that was let in earlier may ask again from this address: for proofs that
    /// stand for a token, such as a cookie. Counts as a use of the token. The answer is from where it
    /// may ask, so that it can be asked again without looking the token up; `None` if it may not.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub async fn admit(&self, principal: &Principal, client: IpAddr) -> Result<Option<Sources>> {
        if principal.is_without_credential() {
            let is_open = !self.is_configured().await?;
            return Ok(is_open.then(Sources::default));
        }
        let Ok(id) = principal.id().parse() else {
            return Ok(Some(Sources::default()));
        };
        let now = self.clock.now();
        let shown = self.token(id).await?;
        let shown = shown.filter(|shown| shown.admits(now, client));
        Ok(shown.map(|shown| {
            shown.last_use.note(now, client);
            shown.issued.sources.clone()
        }))
    }

    /// Whether a principal that was let in earlier still would be: for streams that outlive their
    /// request, and so come from where they came from. Principals that are not tokens of the store are
    /// judged by whoever made them.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub async fn is_still_valid(&self, principal: &Principal) -> Result<bool> {
        if principal.is_without_credential() {
            return Ok(!self.is_configured().await?);
        }
        let Ok(id) = principal.id().parse() else {
            return Ok(true);
        };
        let now = self.clock.now();
        let shown = self.token(id).await?;
        Ok(shown.is_some_and(|shown| shown.issued.is_valid(now)))
    }

    async fn token(&self, id: TokenId) -> Result<Option<Arc<Shown>>> {
        if let Some(known) = self.known.tokens.get(&id) {
            return Ok(known);
        }
        let generation = self.known.generation.load(Ordering::SeqCst);
        let entry = self.system.get(&issued::key_of(id)).await?;
        let shown = match &entry {
            None => None,
            Some(entry) => {
                let issued = Issued::read(entry)?;
                let principal = issued.principal();
                let last_use = self.uses.of(id);
                Some(Arc::new(Shown {
                    issued,
                    principal,
                    last_use,
                }))
            }
        };
        if self.known.is_followed.load(Ordering::SeqCst) {
            self.known.tokens.insert(id, shown.clone());
            if self.known.generation.load(Ordering::SeqCst) != generation {
                self.known.tokens.remove(&id);
            }
        }
        Ok(shown)
    }

    /// Whether a token was ever issued here and its record is still kept.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn is_configured(&self) -> Result<bool> {
        match self.known.any.load(Ordering::SeqCst) {
            ANY_NO => return Ok(false),
            ANY_YES => return Ok(true),
            _ => {}
        }
        let generation = self.known.generation.load(Ordering::SeqCst);
        let first = SnapshotRead::range(RangeRead::new(issued::range(), 1));
        let found = self.system.read(first).await?;
        let is_any = found.ranges.iter().any(|range| !range.entries.is_empty());
        if self.known.is_followed.load(Ordering::SeqCst) {
            let any = if is_any { ANY_YES } else { ANY_NO };
            self.known.any.store(any, Ordering::SeqCst);
            if self.known.generation.load(Ordering::SeqCst) != generation {
                self.known.any.store(ANY_UNKNOWN, Ordering::SeqCst);
            }
        }
        Ok(is_any)
    }

    /// Keeps what is known coherent with the store until `end`. Without it every request reads the
    /// store, which is slower and just as right.
    pub async fn follow(&self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut changes = self.system.changes(&issued::range());
        // From the first poll on no change is missed, so only what is read after it may be kept.
        let first = poll_fn(|cx| Poll::Ready(changes.poll_next_unpin(cx))).await;
        self.known.forget_all();
        if matches!(first, Poll::Ready(None)) {
            return;
        }
        self.known.is_followed.store(true, Ordering::SeqCst);
        while let Some(heard) = tokio::select! {
            () = &mut end => None,
            heard = changes.next() => heard,
        } {
            if heard.missed {
                self.known.forget_all();
            }
            for (key, _) in &heard.keys {
                self.known.forget(issued::id_of(key));
            }
        }
        self.known.is_followed.store(false, Ordering::SeqCst);
        self.known.forget_all();
    }

    /// Gives the store what it does not know yet of the last uses of tokens, at most once a minute and
    /// token, and says for how many.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`]. The uses stay noted.
    pub async fn store_uses(&self) -> Result<usize> {
        self.uses.store(&self.system, self.clock.now()).await
    }

    /// Keeps the last uses of tokens in the store until `end`, and once more then.
    pub async fn keep_uses(&self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut is_over = false;
        while !is_over {
            let now = self.clock.now();
            let next = now.checked_add_ms(last_use::STORED_EVERY_MS).unwrap_or(now);
            tokio::select! {
                () = &mut end => is_over = true,
                () = self.clock.sleep_until(next) => {}
            }
            if let Err(error) = self.store_uses().await {
                tracing::debug!(%error, "the last uses of tokens could not be stored");
            }
        }
    }

    /// Makes a token. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// `TooMany` beyond [`TOKENS_MAX`], else as [`kvasir_kv::Store::commit`].
    pub async fn issue(&self, new: NewToken) -> Result<(Issued, SecretString)> {
        let read = RangeRead::new(issued::range(), TOKENS_MAX);
        let found = self.system.read(SnapshotRead::range(read)).await?;
        let kept = found.ranges.first().map_or(0, |range| range.entries.len());
        if kept >= TOKENS_MAX {
            return Err(Error::TooMany {
                what: "tokens",
                actual: kept + 1,
                limit: TOKENS_MAX,
            });
        }
        let token = Token::generate()?;
        let issued = Issued {
            id: token.id(),
            name: new.name,
            grants: new.grants,
            sources: new.sources,
            created_at: self.clock.now(),
            created_by: new.created_by,
            expires_at: new.expires_at,
            revoked_at: None,
            last_use: None,
            hash: token.hash(),
        };
        let key = issued::key_of(issued.id);
        let write = AtomicWrite::new()
            .check_absent(key.clone())
            .push(Mutation::set(key, issued.to_value()));
        let outcome = self.system.commit(write).await?;
        self.known.forget(Some(issued.id));
        match outcome {
            Outcome::Committed(_) => Ok((issued, token.reveal())),
            Outcome::Conflict { .. } => Err(Error::unavailable("two tokens drew the same id")),
        }
    }

    /// Some tokens in the order of their ids, revoked and expired ones included.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn list(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<Issued>, Option<Cursor>)> {
        let list = List {
            range: issued::range(),
            limit,
            reverse: false,
            cursor,
        };
        let ListPage { entries, cursor } = self.system.list(list).await?;
        let tokens: Result<Vec<_>> = entries.iter().map(Issued::read).collect();
        let mut tokens = tokens?;
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        let uses = self.uses.last(&self.system, &ids).await?;
        for (token, last_use) in tokens.iter_mut().zip(uses) {
            token.last_use = last_use;
        }
        Ok((tokens, cursor))
    }

    /// One token, valid or not.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub async fn find(&self, id: TokenId) -> Result<Option<Issued>> {
        let Some(entry) = self.system.get(&issued::key_of(id)).await? else {
            return Ok(None);
        };
        let last_use = self.uses.last(&self.system, &[id]).await?;
        Ok(Some(Issued {
            last_use: last_use.into_iter().next().flatten(),
            ..Issued::read(&entry)?
        }))
    }

    /// The token behind a text, valid or not, if the secret is right.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`].
    pub async fn find_by_text(&self, text: &str) -> Result<Option<Issued>> {
        let Some(token) = Token::parse(text) else {
            return Ok(None);
        };
        let issued = self.find(token.id()).await?;
        Ok(issued.filter(|issued| issued.hash.matches(&token.hash())))
    }

    /// Ends a token at once. The record stays, so that the store stays closed. Revoking twice
    /// keeps the first time. `None` if there is no such token.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn revoke(&self, id: TokenId) -> Result<Option<Issued>> {
        let key = issued::key_of(id);
        for _ in 0..REVOKE_TRIES {
            let Some(entry) = self.system.get(&key).await? else {
                return Ok(None);
            };
            let mut issued = Issued::read(&entry)?;
            if issued.revoked_at.is_some() {
                return Ok(Some(issued));
            }
            issued.revoked_at = Some(self.clock.now());
            let write = AtomicWrite::new()
                .check(key.clone(), entry.versionstamp)
                .push(Mutation::set(key.clone(), issued.to_value()));
            let outcome = self.system.commit(write).await;
            self.known.forget(Some(id));
            if outcome?.committed().is_some() {
                return Ok(Some(issued));
            }
        }
        Err(Error::unavailable("the token is being changed by others"))
    }

    /// Removes a token with its record, and says whether there was one. If it was the last one, no
    /// token is configured any more.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn forget(&self, id: TokenId) -> Result<bool> {
        let write = AtomicWrite::new()
            .push(Mutation::delete(issued::key_of(id)))
            .push(Mutation::delete(last_use::key_of(id)))
            .reporting_existed();
        let outcome = self.system.commit(write).await;
        self.known.forget(Some(id));
        self.uses.forget(id);
        let existed = outcome?
            .committed()
            .is_some_and(|done| done.existed.first() == Some(&true));
        Ok(existed)
    }

    /// For a server that listens on a non-loopback address: makes an administrator token if no
    /// token is configured. The caller shows it once.
    ///
    /// # Errors
    ///
    /// As [`Access::issue`].
    pub async fn bootstrap(&self) -> Result<Option<SecretString>> {
        if self.is_configured().await? {
            return Ok(None);
        }
        let new = NewToken {
            name: "first administrator".to_owned(),
            grants: vec![Grant::everything()],
            sources: Sources::default(),
            expires_at: None,
            created_by: "bootstrap".to_owned(),
        };
        let (_, text) = self.issue(new).await?;
        Ok(Some(text))
    }

    /// A token for everything that lives as long as this process: for the command line on the same
    /// machine, which finds it in a file only the owner can read. Replaces an earlier one; does not
    /// count as configured.
    ///
    /// # Errors
    ///
    /// As [`Token::generate`].
    pub fn make_process_token(&self) -> Result<SecretString> {
        let token = Token::generate()?;
        let mut process = self.process.write().expect("no panic while it is held");
        *process = Some((token.id(), token.hash()));
        Ok(token.reveal())
    }
}

impl Known {
    fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.any.store(ANY_UNKNOWN, Ordering::SeqCst);
        self.tokens.clear();
    }

    fn forget(&self, id: Option<TokenId>) {
        let Some(id) = id else {
            return self.forget_all();
        };
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.any.store(ANY_UNKNOWN, Ordering::SeqCst);
        self.tokens.remove(&id);
    }
}

/// So many requests a second, twice as many at once; 0 is no limit.
fn quota(requests_per_second: u32) -> Option<Quota> {
    let requests = NonZeroU32::new(requests_per_second)?;
    Some(Quota {
        burst: requests.get().saturating_mul(2),
        every: Duration::from_secs(1) / requests.get(),
    })
}
