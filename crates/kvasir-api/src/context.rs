//! What handlers hold: the mount's keyspace, the clock, the limits, and who is asking.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::request::Parts;
use kvasir_auth::principal::Ask;
use kvasir_auth::{Access, Approach, Principal, Verb};
use kvasir_kv::{Clock, Key, Keyspace, KeyspaceName, Limits, Store};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::request::{RequestInfo, bearer};

/// What every mount has. Cloning is cheap.
#[derive(Clone)]
pub struct Ctx(Arc<Mounted>);

/// The parts of a [`Ctx`].
pub struct Mounted {
    /// Name of the dialect, as in grants and metrics.
    pub dialect: &'static str,
    /// Path in front of the dialect's routes, without a trailing slash; empty at the root.
    pub base: String,
    /// The mount's data.
    pub keyspace: Keyspace,
    /// Tokens, users' secrets, settings. In the main store, wherever `keyspace` lies.
    pub system: Keyspace,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Limits of the store.
    pub limits: Limits,
    /// Issued tokens.
    pub access: Arc<Access>,
    /// Cancelled when the server begins to drain; long-lived streams end then.
    pub shutdown: CancellationToken,
}

impl Ctx {
    /// The context of one mount.
    pub fn new(mounted: Mounted) -> Ctx {
        Ctx(Arc::new(mounted))
    }

    /// The same mount on another keyspace of the same store.
    #[must_use]
    pub fn on_keyspace(&self, name: KeyspaceName) -> Ctx {
        Ctx::new(Mounted {
            dialect: self.dialect,
            base: self.base.clone(),
            keyspace: Keyspace::new(Arc::clone(self.store()), name),
            system: self.system.clone(),
            clock: Arc::clone(&self.clock),
            limits: self.limits,
            access: Arc::clone(&self.access),
            shutdown: self.shutdown.clone(),
        })
    }

    /// The store below the mount's keyspace.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.keyspace.store()
    }
}

impl std::ops::Deref for Ctx {
    type Target = Mounted;

    fn deref(&self) -> &Mounted {
        &self.0
    }
}

/// Who is asking, for dialects whose proof is a Kvasir token.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Principal,
    dialect: &'static str,
}

impl Caller {
    /// Who sent a request: the bearer token's principal, or whoever may ask without a token.
    ///
    /// # Errors
    ///
    /// 401 without a valid token where one is needed, 403 for web pages of other origins while no
    /// token is needed, 429 if the token is used too often.
    pub async fn of(
        ctx: &Ctx,
        info: &RequestInfo,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        Caller::by(ctx, info.approach(headers), info, headers).await
    }

    /// As [`Caller::of`], for dialects that judge the approach themselves.
    ///
    /// # Errors
    ///
    /// As [`Caller::of`].
    pub async fn by(
        ctx: &Ctx,
        approach: Approach,
        info: &RequestInfo,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let access = &ctx.access;
        let shown = bearer(headers);
        match access.authenticate(shown, approach, info.client).await? {
            Ok(principal) => Ok(Caller {
                principal,
                dialect: ctx.dialect,
            }),
            Err(denied) => Err(denied.into()),
        }
    }

    /// A caller who was found out by a proof of the dialect's own, such as a cookie.
    pub fn known(principal: Principal, dialect: &'static str) -> Caller {
        Caller { principal, dialect }
    }

    /// The principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Refuses unless the caller may do `verb` with `key` (or everything below it) in `keyspace`.
    ///
    /// # Errors
    ///
    /// 403. The sentence names the verb, never whether the key exists.
    pub fn require(
        &self,
        ctx: &Ctx,
        keyspace: &Keyspace,
        verb: Verb,
        key: &Key,
    ) -> Result<(), ApiError> {
        if self.may(ctx, keyspace, verb, key) {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!(
                "the token does not allow to {} this key",
                verb.name()
            )))
        }
    }

    /// Whether the caller may do `verb` with `key` and everything below it in `keyspace`.
    pub fn may(&self, ctx: &Ctx, keyspace: &Keyspace, verb: Verb, key: &Key) -> bool {
        self.principal.allows(&Ask {
            dialect: self.dialect,
            keyspace: keyspace.name(),
            key,
            verb,
            now: ctx.clock.now(),
        })
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Ctx: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // A layer of the dialect may have found out already.
        if let Some(known) = parts.extensions.get::<Caller>() {
            return Ok(known.clone());
        }
        let ctx = Ctx::from_ref(state);
        let info = RequestInfo::of(parts)?;
        Caller::of(&ctx, &info, &parts.headers).await
    }
}
