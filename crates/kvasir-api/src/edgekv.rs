//! The Akamai EdgeKV dialect: administration API and data plane.
//!
//! Administration (`/edgekv/v1/...`) takes requests signed with EdgeGrid; the data plane
//! (`/staging/api/v1/...`, `/production/api/v1/...`, and `/api/v1/namespaces/...` for the default
//! network) takes access tokens. Neither accepts the other's credential, and both see the same
//! items.
//!
//! The original is eventually consistent; this server is not. What a client has been told is done
//! is seen by every later request on both planes.
//!
//! Errors of this dialect never name a key or value in the log, and a 504 or 429 is only sent where the
//! settings ask for it or a client has outrun the memory for its nonces.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use futures_util::future::BoxFuture;
use http::Method;
use kvasir_kv::UnixMillis;

use crate::audit::{self, Audit};
use crate::context::Ctx;
use crate::error::ApiError;
use crate::mount::{Dialect, finish};
use crate::openapi;
use crate::request::RequestInfo;

mod database;
mod description;
mod error;
mod gate;
mod handlers;
mod items;
mod namespaces;
pub mod overview;
pub mod settings;
mod tokens;
mod wire;

pub use settings::Settings;
pub use wire::Network;

use database::Database;
use gate::{ADMINISTRATION, Gate};
use handlers::{data_plane, database as database_routes, items as item_routes};
use handlers::{namespaces as namespace_routes, tokens as token_routes};

/// How often the background looks for namespaces whose time has come, at least. Another node may have
/// scheduled one.
const PURGE_EVERY_MS: i64 = 60_000;

/// The EdgeKV dialect.
pub struct EdgeKv {
    database: Database,
    gate: Gate,
}

impl EdgeKv {
    /// The dialect on a mount. Its paths begin right behind the mount's prefix, so the usual prefix is
    /// empty.
    pub fn new(ctx: Ctx, settings: Settings) -> EdgeKv {
        let audit = Audit::new(
            ctx.system.clone(),
            ctx.clock.clone(),
            audit::Settings::default(),
        );
        let database = Database::new(ctx, settings);
        EdgeKv {
            gate: Gate::new(database.clone(), Arc::new(audit)),
            database,
        }
    }

    /// The same, which tells what is administered in a list that others write into too.
    #[must_use]
    pub fn with_audit(self, audit: Arc<Audit>) -> EdgeKv {
        EdgeKv {
            gate: self.gate.with_audit(audit),
            ..self
        }
    }
}

impl Dialect for EdgeKv {
    fn name(&self) -> &'static str {
        self.database.ctx.dialect
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        let base = self.database.ctx.base.as_str();
        path.strip_prefix(base).is_some_and(claims_below)
    }

    fn routes(&self) -> Router {
        let base = &self.database.ctx.base;
        let routes = administration(&format!("{base}{ADMINISTRATION}"))
            .merge(data(base))
            .with_state(self.database.clone());
        finish(routes).layer(from_fn_with_state(self.gate.clone(), Gate::pass))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "edgekv",
            usual: "",
            failure_type: "application/problem+json",
            failure: Some("EdgeKvProblem"),
            proofs: &[openapi::proof::EDGEGRID],
        };
        description::describe(&shared, &self.database.ctx.base)
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        error::render(error, request, self.database.now())
    }

    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(remove_deleted(self.database.clone()))
    }
}

/// Whether a path without the mount's prefix is one of ours.
fn claims_below(path: &str) -> bool {
    let is_below = |prefix: &str, path: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_below(ADMINISTRATION, path) || is_below("/api/v1/namespaces", path) {
        return true;
    }
    let Some((network, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return false;
    };
    Network::from_name(network).is_some() && is_below("api/v1", rest)
}

fn administration(base: &str) -> Router<Database> {
    let namespaces = format!("{base}/networks/{{network}}/namespaces");
    let namespace = format!("{namespaces}/{{namespace}}");
    let item = format!("{namespace}/groups/{{group}}/items/{{item}}");
    Router::new()
        .route(
            &format!("{base}/initialize"),
            put(database_routes::initialize).get(database_routes::status),
        )
        .route(
            &namespaces,
            post(namespace_routes::create).get(namespace_routes::list),
        )
        .route(
            &namespace,
            get(namespace_routes::read)
                .put(namespace_routes::update)
                .delete(namespace_routes::delete),
        )
        .route(
            &format!("{namespace}/status/scheduled-delete"),
            get(namespace_routes::schedule)
                .put(namespace_routes::reschedule)
                .delete(namespace_routes::cancel),
        )
        .merge(bulk(&namespace))
        .route(
            &format!("{namespace}/groups"),
            get(namespace_routes::groups),
        )
        .route(
            &format!("{namespace}/groups/{{group}}"),
            get(namespace_routes::keys),
        )
        .route(
            &item,
            get(item_routes::read)
                .put(item_routes::write)
                .delete(item_routes::delete),
        )
        .route(
            &format!("{base}/tokens"),
            post(token_routes::create).get(token_routes::list),
        )
        .route(
            &format!("{base}/tokens/{{name}}"),
            get(token_routes::read).delete(token_routes::revoke),
        )
        .route(
            &format!("{base}/tokens/{{name}}/refresh"),
            post(token_routes::refresh),
        )
        .route(
            &format!("{base}/auth/database"),
            put(database_routes::set_policy),
        )
        .route(
            &format!("{base}/auth/namespaces/{{namespace}}"),
            put(database_routes::reauthorize),
        )
        .route(&format!("{base}/auth/groups"), get(database_routes::groups))
        .route(
            &format!("{base}/auth/groups/{{id}}"),
            get(database_routes::one_group),
        )
}

/// Operations that the vendor's PowerShell module calls and this server answers with 501. `kvasir edgekv
/// import` and `kvasir export` do their work.
fn bulk(namespace: &str) -> Router<Database> {
    let not_built = namespace_routes::not_built;
    Router::new()
        .route(&format!("{namespace}/download"), get(not_built))
        .route(
            &format!("{namespace}/groups/{{group}}/download"),
            get(not_built),
        )
        .route(
            &format!("{namespace}/upload"),
            get(not_built).post(not_built),
        )
        .route(&format!("{namespace}/upload/{{job}}"), get(not_built))
}

fn data(base: &str) -> Router<Database> {
    let item = "api/v1/namespaces/{namespace}/groups/{group}/items/{item}";
    let methods = get(data_plane::read)
        .put(data_plane::write)
        .delete(data_plane::delete);
    Router::new()
        .route(&format!("{base}/{item}"), methods.clone())
        .route(&format!("{base}/{{network}}/{item}"), methods)
}

/// Removes the items of namespaces whose scheduled deletion has come, until the server drains.
async fn remove_deleted(database: Database) {
    let shutdown = database.ctx.shutdown.clone();
    loop {
        let latest = UnixMillis(database.now().0.saturating_add(PURGE_EVERY_MS));
        let next = match database.purge_due().await {
            Ok(next) => next.map_or(latest, |next| next.min(latest)),
            Err(error) => {
                tracing::warn!("could not remove deleted EdgeKV namespaces: {error:?}");
                latest
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = database.ctx.clock.sleep_until(next) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_other_dialects_are_not_claimed() {
        for ours in [
            "/edgekv/v1",
            "/edgekv/v1/initialize",
            "/edgekv/v1/nowhere",
            "/api/v1/namespaces/a/groups/b/items/c",
            "/staging/api/v1/namespaces/a/groups/b/items/c",
            "/PRODUCTION/api/v1/namespaces/a/groups/b/items/c",
            "/production/api/v1",
        ] {
            assert!(claims_below(ours), "{ours}");
        }
        for other in [
            "/",
            "/edgekv/v10",
            "/edgekv",
            "/api/kvs/v1/kv/a",
            "/api/v1",
            "/api/v1/namespacesX",
            "/staging",
            "/staging/x",
            "/other/api/v1/namespaces",
            "/kv/staging/api/v1",
        ] {
            assert!(!claims_below(other), "{other}");
        }
    }
}
