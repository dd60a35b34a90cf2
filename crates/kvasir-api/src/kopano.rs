//! The Kopano kvs dialect: documents of OAuth2 users below `/api/kvs/v1`.
//!
//! A document belongs to a realm, a user, an application (client) and a key, and is at most 16 KiB
//! large. Listings come in the order of the last writes, oldest first, because clients rely on it;
//! [`layout`] keeps an index for that, renewed in the same commit as the document.
//!
//! Who asks comes from the access token alone ([`kvasir_auth::oidc`]); Kvasir's own tokens and the
//! openness of loopback addresses mean nothing here.

mod cors;
mod documents;
mod error;
mod handlers;
pub mod layout;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::Method;
use kvasir_auth::oidc::{Provider, ProviderError, ProviderSettings};
use serde::Deserialize;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::mount::{Dialect, finish};
use crate::openapi;
use crate::request::RequestInfo;

/// Scope that a token needs unless the operator says otherwise. The original's default.
pub const DEFAULT_SCOPE: &str = "kopano/kvs";

/// `[kopano]`: the identity provider and what its tokens have to say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The OpenID issuer, exactly as in its own discovery document. Without one every request is
    /// answered 503.
    pub issuer: Option<String>,
    /// Do not check the issuer's certificate.
    pub insecure: bool,
    /// Answer requests of other origins, so that browsers can use the API.
    pub allow_cors: bool,
    /// Scopes that a token must hold, separated by white space. Empty means the default.
    pub required_scopes: String,
    /// Status for a missing or bad token: 403 as the original answers and its clients expect, or
    /// 401 as RFC 6750 says. A missing scope is always 403.
    pub unauthorized_status: u16,
    /// Accept access tokens of other providers, without `kc.*` claims, for this audience.
    pub audience: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            issuer: None,
            insecure: false,
            allow_cors: false,
            required_scopes: DEFAULT_SCOPE.to_owned(),
            unauthorized_status: 403,
            audience: None,
        }
    }
}

impl Settings {
    fn scopes(&self) -> Vec<String> {
        let scopes: Vec<String> = self
            .required_scopes
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        if scopes.is_empty() {
            vec![DEFAULT_SCOPE.to_owned()]
        } else {
            scopes
        }
    }
}

/// The dialect on one mount.
#[derive(Clone)]
pub struct Kopano {
    ctx: Ctx,
    provider: Option<Arc<Provider>>,
    settings: Arc<Settings>,
    allows_origins: Arc<AtomicBool>,
}

impl Kopano {
    /// The dialect on `ctx`. The provider is contacted by [`Dialect::background`].
    ///
    /// # Errors
    ///
    /// If the issuer is not `https`, or `http` on a loopback address.
    pub fn new(ctx: Ctx, settings: Settings) -> Result<Kopano, ProviderError> {
        let provider = match &settings.issuer {
            None => None,
            Some(issuer) => {
                let provider = ProviderSettings {
                    issuer: issuer.clone(),
                    insecure: settings.insecure,
                    required_scopes: settings.scopes(),
                    audience: settings.audience.clone(),
                };
                Some(Arc::new(Provider::new(provider, Arc::clone(&ctx.clock))?))
            }
        };
        Ok(Kopano {
            ctx,
            provider,
            allows_origins: Arc::new(AtomicBool::new(settings.allow_cors)),
            settings: Arc::new(settings),
        })
    }

    /// The provider whose tokens are accepted.
    pub fn provider(&self) -> Option<&Arc<Provider>> {
        self.provider.as_ref()
    }
}

impl Dialect for Kopano {
    fn name(&self) -> &'static str {
        "kopano"
    }

    /// Any origin at all allows every one: this dialect's setting is a switch.
    fn allow_origins(&self, origins: &[String]) {
        let allows = !origins.is_empty();
        self.allows_origins.store(allows, Ordering::Relaxed);
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        path == handlers::HEALTH_CHECK
            || path
                .strip_prefix(&*self.ctx.base)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    fn routes(&self) -> Router {
        finish(handlers::routes(self))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "kopano",
            usual: "/api/kvs/v1",
            failure_type: "text/plain",
            failure: None,
            proofs: &[openapi::proof::OIDC],
        };
        handlers::describe(&shared, &self.ctx.base)
    }

    fn render(&self, error: &ApiError, _request: &RequestInfo) -> Response {
        error::render(error)
    }

    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Some(provider) = &self.provider else {
                return;
            };
            tokio::select! {
                () = provider.keep_fresh() => {}
                () = self.ctx.shutdown.cancelled() => {}
            }
        })
    }
}

impl axum::extract::FromRef<Kopano> for Ctx {
    fn from_ref(kopano: &Kopano) -> Ctx {
        kopano.ctx.clone()
    }
}

/// Takes path and query of a request apart. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_target(path: &str, query: &str) {
    if let Ok(key) = wire::decode(path) {
        let _ = wire::check_prefix(&key);
        if wire::check_key(&key).is_ok() {
            let clean = key.split('/').all(|part| !matches!(part, "." | ".."));
            assert!(!key.is_empty() && clean, "keys can be reached again");
        }
    }
    for name in ["raw", "recurse", "batch"] {
        let _ = wire::is_on(Some(query), name);
    }
}

/// Takes a body as a batch: JSON with Base64 in it. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_batch(body: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(body);
    if let Ok(documents) = wire::batch("c", &body) {
        for (key, document) in documents {
            assert!(key.starts_with("c/"));
            let _ = wire::envelope(&key, &document);
        }
    }
}
