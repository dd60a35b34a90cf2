//! The REST dialect: `/kv/{keypath}`, keys separated by dots, values as JSON.
//!
//! It reads and writes the database of the Deno dialect. JSON is stored and served as the bytes that
//! came in; values of Deno programs are shown by the mapping of [`crate::v8json`] and can be written
//! back in that form. `docs/dialects/rest.md` tells users all of it.

mod conditions;
mod cors;
mod description;
mod handlers;
mod keypath;
mod selection;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRef;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use futures_util::future::BoxFuture;
use http::Method;
use http::request::Parts;
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::mount::{Dialect, Direct, RouteName, finish};
use crate::openapi;
use crate::problem;
use crate::request::RequestInfo;

use cors::Cors;

use handlers::ApiDoc;

/// `[rest]`: the REST dialect.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Origins whose web pages may use this dialect from a browser, such as
    /// `https://app.example.com`, or `*` for every origin. None unless configured.
    pub cors_origins: Vec<String>,
    /// Most watches at a time. Beyond it the answer is 503.
    pub watches_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cors_origins: Vec::new(),
            watches_max: 10_000,
        }
    }
}

/// The dialect, mounted.
pub struct Rest(Rested);

/// What its handlers hold.
#[derive(Clone)]
struct Rested {
    ctx: Ctx,
    cors: Arc<Cors>,
    watches: Arc<Semaphore>,
    /// The route of one entry.
    entry_route: RouteName,
}

impl FromRef<Rested> for Ctx {
    fn from_ref(state: &Rested) -> Ctx {
        state.ctx.clone()
    }
}

impl Rest {
    /// The dialect at the path and on the keyspace of `ctx`.
    pub fn new(ctx: Ctx, settings: Settings) -> Rest {
        Rest(Rested {
            entry_route: format!("{}/{{*keypath}}", ctx.base).into(),
            ctx,
            cors: Arc::new(Cors::new(settings.cors_origins)),
            watches: Arc::new(Semaphore::new(
                settings.watches_max.min(Semaphore::MAX_PERMITS),
            )),
        })
    }

    fn base(&self) -> &str {
        &self.0.ctx.base
    }
}

impl Dialect for Rest {
    fn name(&self) -> &'static str {
        "rest"
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        let rest = path.strip_prefix(self.base());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn routes(&self) -> Router {
        let base = self.base();
        let entry = || {
            get(handlers::get)
                .put(handlers::put)
                .delete(handlers::delete)
        };
        let mut routes = Router::new()
            .route(&format!("{base}/"), entry())
            .route(
                &format!("{base}/_atomic"),
                entry().post(handlers::atomic::commit),
            )
            .route(&format!("{base}/{{*keypath}}"), entry());
        if !base.is_empty() {
            routes = routes.route(base, entry());
        }
        let state = self.0.clone();
        finish(routes.with_state(state.clone()))
            .layer(middleware::from_fn_with_state(state, cors::layer))
    }

    fn direct<'a>(
        &'a self,
        request: &'a Parts,
        body: &mut Body,
        info: &'a RequestInfo,
    ) -> Option<Direct<'a>> {
        let is_plain = request.uri.query().is_none()
            && !request.headers.contains_key(handlers::DATABASE)
            && !self.0.cors.concerns(&request.headers);
        if !is_plain {
            return None;
        }
        let answer: BoxFuture<'a, _> = match request.method {
            Method::GET => Box::pin(handlers::get_plain(&self.0, request, info)),
            Method::PUT => {
                let body = std::mem::take(body);
                Box::pin(handlers::put_plain(&self.0, request, body, info))
            }
            _ => return None,
        };
        let route = Some(self.0.entry_route.clone());
        Some(Direct { route, answer })
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "rest",
            usual: "/kv",
            failure_type: "application/problem+json",
            failure: Some("Problem"),
            proofs: &[openapi::proof::TOKEN],
        };
        shared.complete(ApiDoc::openapi(), self.base())
    }

    fn allow_origins(&self, origins: &[String]) {
        self.0.cors.allow(origins.to_vec());
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        problem::render(error, request)
    }
}

/// Takes a target as a client may send it to pieces. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_target(path: &str, query: &str) {
    let key = keypath::parse(path);
    if let Ok(key) = &key {
        let parts = key.parts().expect("keys made from a path are tuples");
        let again = keypath::format(&parts).map(|text| keypath::parse_decoded(&text));
        assert!(
            matches!(&again, Some(Ok(again)) if again == key),
            "a key and its path say the same"
        );
    }
    if let Ok(query) = crate::query::Query::parse(query) {
        let _ = selection::Selection::read(key.unwrap_or_default(), &query);
    }
}

/// Takes a body as a client may send it to pieces. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(body);
    let now = kvasir_kv::UnixMillis(0);
    let _ = wire::read_put(&body, now);
    let _ = wire::read_atomic(&body, now);
}
