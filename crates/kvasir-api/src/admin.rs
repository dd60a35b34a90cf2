//! The admin API below `/_/api/v1`: what the command line and the console use.
//!
//! One file per noun. Every route but `whoami` needs [`Verb::Admin`] on everything; a data token
//! gets 403 whatever it asks for. Failures are `application/problem+json`.

pub mod audit;
pub mod backups;
pub mod browse;
pub mod classworks;
pub mod databases;
mod description;
pub mod edgekv;
pub mod entries;
pub mod entry;
pub mod expiry;
mod export;
pub mod health;
pub mod keyspaces;
pub mod messages;
pub mod metrics;
pub mod operator;
pub mod session;
pub mod tokens;
pub mod trash;
pub mod users;
pub mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::request::Parts;
use http::{HeaderValue, Method, header};
use kvasir_auth::{Passwords, Verb};
use kvasir_kv::Key;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;

use crate::audit::Audit;
use crate::backups::Backups;
use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::json;
use crate::mount::{Dialect, finish};
use crate::openapi::{self, Document};
use crate::problem;
use crate::request::RequestInfo;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Where the routes lie behind the mount's base.
const VERSION_PATH: &str = "/api/v1";

/// The dialect, mounted.
pub struct Admin {
    ctx: Ctx,
    passwords: Passwords,
    sessions: Arc<session::Sessions>,
    series: Option<Arc<metrics::Series>>,
    backups: Option<Arc<dyn Backups>>,
    document: Document,
    operator: Option<Arc<dyn operator::Operator>>,
    audit: Arc<Audit>,
}

/// What the dialect offers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kvasir administration",
        description = "Tokens, databases, health."
    ),
    paths(
        description::openapi_json,
        tokens::whoami,
        tokens::create,
        tokens::list,
        tokens::show,
        tokens::revoke,
        tokens::explain,
        audit::list,
        audit::verify,
        databases::list,
        databases::create,
        databases::forget,
        entries::page,
        entries::write,
        entries::remove,
        messages::depth,
        messages::page,
        messages::take_in,
        backups::list,
        backups::create,
        backups::verify,
        backups::drill,
        backups::prune,
        backups::set_schedule,
        backups::content,
        backups::jobs,
        backups::job,
        backups::cancel,
        edgekv::create,
        edgekv::list,
        edgekv::revoke,
        edgekv::overview,
        health::health,
        keyspaces::list,
        browse::browse,
        entry::show,
        entry::write,
        entry::remove,
        expiry::calendar,
        export::export,
        watch::watch,
        metrics::series,
        session::show,
        session::begin,
        session::end,
        session::make_link,
        operator::settings,
        operator::reload,
        operator::slow,
        operator::figures,
        trash::list,
        trash::show,
        trash::restore,
        trash::empty,
        users::list,
        users::create,
        users::show,
        users::change,
        users::reset,
        users::remove,
        classworks::namespaces,
        classworks::info,
        classworks::set_info
    ),
    components(schemas(problem::Problem<'static>))
)]
struct ApiDoc;

impl Admin {
    /// The admin API on the system keyspace of `ctx`. `passwords` bounds the hashing of all dialects
    /// together.
    pub fn new(ctx: Ctx, passwords: Passwords) -> Admin {
        let audit = Audit::new(ctx.system.clone(), ctx.clock.clone(), Default::default());
        Admin {
            audit: Arc::new(audit),
            sessions: Arc::new(session::Sessions::new(ctx.clone())),
            ctx,
            passwords,
            series: None,
            backups: None,
            document: Document::default(),
            operator: None,
        }
    }

    /// The same, which serves `document` too. Whoever made the mounts writes it.
    #[must_use]
    pub fn serving(mut self, document: Document) -> Admin {
        self.document = document;
        self
    }

    /// The same with a list of deeds that others write into too.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<Audit>) -> Admin {
        self.audit = audit;
        self
    }

    /// The same with what was measured lately, to be shown.
    #[must_use]
    pub fn with_series(mut self, series: Arc<metrics::Series>) -> Admin {
        self.series = Some(series);
        self
    }

    /// The same with somebody who takes backups.
    #[must_use]
    pub fn with_backups(mut self, backups: Arc<dyn Backups>) -> Admin {
        self.backups = Some(backups);
        self
    }

    /// The same as part of a running server.
    #[must_use]
    pub fn of(mut self, operator: Arc<dyn operator::Operator>) -> Admin {
        self.operator = Some(operator);
        self
    }
}

impl Dialect for Admin {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        let rest = path.strip_prefix(self.ctx.base.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn routes(&self) -> Router {
        let routes = Router::new()
            .route("/whoami", get(tokens::whoami))
            .route("/tokens", get(tokens::list).post(tokens::create))
            .route("/tokens/explain", post(tokens::explain))
            .route("/tokens/{id}", get(tokens::show).delete(tokens::revoke))
            .route("/databases", get(databases::list).post(databases::create))
            .route("/databases/{name}", delete(databases::forget))
            .route("/edgekv/clients", get(edgekv::list).post(edgekv::create))
            .route("/edgekv/clients/{client_token}", delete(edgekv::revoke))
            .route("/edgekv/overview", get(edgekv::overview))
            .route("/health", get(health::health))
            .route("/keyspaces", get(keyspaces::list))
            .route("/browse", get(browse::browse))
            .route(
                "/entry",
                get(entry::show).put(entry::write).delete(entry::remove),
            )
            .route("/expiry", get(expiry::calendar))
            .route("/classworks/namespaces", get(classworks::namespaces))
            .route(
                "/classworks/info",
                get(classworks::info).put(classworks::set_info),
            )
            .merge(entries::routes())
            .merge(session::routes())
            .merge(watch::routes())
            .merge(metrics::routes(self.series.clone()))
            .merge(messages::routes())
            .merge(export::routes())
            .merge(trash::routes())
            .merge(backups::routes(self.backups.clone()))
            .merge(operator::routes(self.operator.clone()))
            .merge(audit::routes(Arc::clone(&self.audit)))
            .merge(users::routes(&self.ctx, self.passwords.clone()));
        let auditor = audit::Auditor {
            ctx: self.ctx.clone(),
            audit: Arc::clone(&self.audit),
        };
        let routes = routes.layer(axum::middleware::from_fn_with_state(auditor, audit::layer));
        let at = format!("{}{VERSION_PATH}", self.ctx.base);
        let routes = Router::new()
            .nest(&at, routes)
            .merge(description::routes(&self.ctx.base, &self.document))
            .with_state(self.ctx.clone());
        let sessions = Arc::clone(&self.sessions);
        finish(routes).layer(axum::middleware::from_fn_with_state(
            sessions,
            session::layer,
        ))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "admin",
            usual: "/_",
            failure_type: "application/problem+json",
            failure: Some("Problem"),
            proofs: &[openapi::proof::TOKEN],
        };
        shared.complete(ApiDoc::openapi(), &self.ctx.base)
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        problem::render(error, request)
    }
}

/// A caller who may do everything.
pub struct Administrator(pub Caller);

impl<S> FromRequestParts<S> for Administrator
where
    Ctx: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ctx = Ctx::from_ref(state);
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.may(&ctx, &ctx.system, Verb::Admin, &Key::default()) {
            Ok(Administrator(caller))
        } else {
            Err(ApiError::forbidden(
                "this needs an administrator's token, with the verb admin for every keyspace",
            ))
        }
    }
}

/// A JSON object as body; what is wrong with it is 400, 413 or 415.
pub struct Body<T>(pub T);

impl<S, T> axum::extract::FromRequest<S> for Body<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(
        request: axum::extract::Request,
        _state: &S,
    ) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        crate::body::require_json(&parts.headers)?;
        let body = crate::body::read(&parts.headers, body, BODY_BYTES_MAX).await?;
        let read = json::read_owned("the body", &body);
        read.map(Body).map_err(|error| {
            ApiError::bad_request(format!("the body is not as it must be: {error}"))
        })
    }
}

/// 200 with a JSON body.
fn ok(body: impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(&body).expect("strings and numbers are always JSON");
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}
