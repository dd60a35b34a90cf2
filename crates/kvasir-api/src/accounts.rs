//! The accounts dialect: users, sessions, profile, products and orders over the default database.
//!
//! Records lie under the keys of the article that this API comes from (see [`records`]), as JSON,
//! so Deno programs and `/kv/...` see the same users, products and orders. What must not be seen
//! there, password hashes and roles, lies in the system keyspace of the same store, and changes in
//! the same commit.
//!
//! Records that other programs wrote under those keys may have any shape; they are skipped or
//! refused, never a server error.

mod catalogue;
mod error;
mod handlers;
mod orders;
pub mod records;
mod schema;
mod sessions;
pub mod users;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::Method;
use kvasir_auth::{Passwords, Quota, Rates};
use secrecy::SecretString;
use serde::Deserialize;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::mount::{Dialect, finish};
use crate::openapi;
use crate::request::RequestInfo;
use catalogue::Catalogue;
use sessions::Sessions;
use users::Users;

/// `[accounts]`: registration and sessions.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether anyone may register. Otherwise only `kvasir user create` makes users.
    pub registration: bool,
    /// Secret that signs session tokens, also `JWT_SECRET`. Without one a random secret is made once
    /// and kept in the store.
    pub jwt_secret: Option<SecretString>,
    /// How long a session lasts, in seconds.
    pub session_seconds: u32,
    /// Logins and registrations per minute and client address; above it the answer is 429.
    pub attempts_per_minute: u32,
    /// Failed logins per minute and email; above it the answer is 429.
    pub failures_per_minute: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            registration: true,
            jwt_secret: None,
            session_seconds: 24 * 60 * 60,
            attempts_per_minute: 120,
            failures_per_minute: 10,
        }
    }
}

/// The dialect on one mount.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    ctx: Ctx,
    settings: Settings,
    users: Users,
    sessions: Sessions,
    catalogue: Catalogue,
    /// Logins and registrations by address.
    attempts: Rates<std::net::IpAddr>,
    /// Failed logins and registrations by email.
    failures: Rates<String>,
}

impl Accounts {
    /// The dialect on `ctx`. `passwords` bounds the hashing of all dialects together.
    pub fn new(ctx: Ctx, settings: Settings, passwords: Passwords) -> Accounts {
        let clock = Arc::clone(&ctx.clock);
        let users = Users::new(ctx.keyspace.clone(), Arc::clone(&clock), passwords);
        Accounts(Arc::new(Inner {
            sessions: Sessions::new(&users, &settings),
            catalogue: Catalogue::new(&ctx),
            attempts: Rates::new(
                Quota::per_minute(settings.attempts_per_minute),
                Arc::clone(&clock),
            ),
            failures: Rates::new(Quota::per_minute(settings.failures_per_minute), clock),
            users,
            settings,
            ctx,
        }))
    }

    /// The users, for administration.
    pub fn users(&self) -> &Users {
        &self.0.users
    }
}

impl Dialect for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn claims(&self, method: &Method, path: &str) -> bool {
        let Some(path) = path.strip_prefix(&*self.0.ctx.base) else {
            return false;
        };
        // `POST /` belongs to the Deno dialect.
        if path == "/" {
            return method != Method::POST;
        }
        let first = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        path.starts_with('/') && handlers::FIRST_SEGMENTS.contains(&first)
    }

    fn routes(&self) -> Router {
        finish(handlers::routes(self))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "accounts",
            usual: "",
            failure_type: "application/json",
            failure: Some("Failure"),
            proofs: &[openapi::proof::SESSION],
        };
        let described = <handlers::Description as utoipa::OpenApi>::openapi();
        shared.complete(described, &self.0.ctx.base)
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        error::render(error, request)
    }

    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::select! {
                () = self.0.catalogue.follow() => {}
                () = self.0.ctx.shutdown.cancelled() => {}
            }
        })
    }
}

impl FromRef<Accounts> for Ctx {
    fn from_ref(accounts: &Accounts) -> Ctx {
        accounts.0.ctx.clone()
    }
}
