//! `/audit`: who administered what, and whether the list is whole.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /audit?before=&limit=` | the lines, the newest first |
//! | `GET /audit/verify?known=` | reads the whole chain and says whether a line was removed or changed |
//!
//! A layer around all routes writes the lines: every request that may change something and did not
//! fail is told, whether its handler says more about it ([`Told`]) or not. So no route can be
//! forgotten; [`ACTIONS`] gives them names for people.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::{Audit, Deed, HashedLine, Known, Verdict};
use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::query::Query;
use crate::request::RequestInfo;

use super::{Administrator, VERSION_PATH, ok};

/// Lines of an answer unless asked otherwise, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// What the routes that change something are called.
pub const ACTIONS: &[(&str, &str, &str)] = &[
    ("POST", "/tokens", "token.create"),
    ("DELETE", "/tokens/{id}", "token.revoke"),
    ("POST", "/databases", "database.create"),
    ("DELETE", "/databases/{name}", "database.forget"),
    ("POST", "/databases/{name}/entries", "entries.write"),
    ("DELETE", "/databases/{name}/entries", "entries.remove"),
    ("POST", "/databases/{name}/messages", "messages.write"),
    ("PUT", "/entry", "entry.write"),
    ("DELETE", "/entry", "entry.remove"),
    ("POST", "/users", "user.create"),
    ("PATCH", "/users/{user}", "user.change"),
    ("POST", "/users/{user}/reset", "user.reset"),
    ("DELETE", "/users/{user}", "user.remove"),
    ("POST", "/edgekv/clients", "edgekv.client.create"),
    (
        "DELETE",
        "/edgekv/clients/{client_token}",
        "edgekv.client.revoke",
    ),
    ("PUT", "/classworks/info", "classworks.info"),
    ("POST", "/trash/{id}/restore", "trash.restore"),
    ("DELETE", "/trash/{id}", "trash.empty"),
    ("POST", "/backups", "backup.create"),
    ("POST", "/backups/{name}/verify", "backup.verify"),
    ("POST", "/backups/drill", "backup.drill"),
    ("POST", "/backups/prune", "backup.prune"),
    ("PUT", "/backups/schedule", "backup.schedule"),
    ("DELETE", "/jobs/{id}", "job.cancel"),
    ("POST", "/config/reload", "config.reload"),
    ("POST", "/session", "session.begin"),
    ("DELETE", "/session", "session.end"),
    ("POST", "/session/links", "session.link"),
];

/// Routes that are asked with a body and change nothing.
pub const QUESTIONS: &[(&str, &str)] = &[("POST", "/tokens/explain")];

/// What a handler tells about what it did, in the extensions of its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    on: Option<String>,
    before: Option<String>,
    after: Option<String>,
    by: Option<String>,
    items: Option<u64>,
    is_nothing: bool,
}

impl Told {
    /// It was done to this.
    pub(super) fn on(on: impl Into<String>) -> Told {
        Told {
            on: Some(on.into()),
            ..Told::default()
        }
    }

    /// It was done to so many things of this; requests of this kind come in runs.
    pub(super) fn run(on: impl Into<String>, items: u64) -> Told {
        Told {
            items: Some(items),
            ..Told::on(on)
        }
    }

    /// Nothing was done after all.
    pub(super) fn nothing() -> Told {
        Told {
            is_nothing: true,
            ..Told::default()
        }
    }

    /// The same by a principal who only now was found out.
    pub(super) fn by(mut self, id: &str) -> Told {
        self.by = Some(id.to_owned());
        self
    }

    /// The same with the versions before and afterwards.
    pub(super) fn versions(mut self, before: Option<String>, after: Option<String>) -> Told {
        (self.before, self.after) = (before, after);
        self
    }

    /// The answer with this told.
    pub(super) fn with(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// What the layer needs.
#[derive(Clone)]
pub(super) struct Auditor {
    pub(super) ctx: Ctx,
    pub(super) audit: Arc<Audit>,
}

/// Writes a line about every request that may change something and did not fail, before it is
/// answered.
pub(super) async fn layer(
    State(auditor): State<Auditor>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let about = About::of(&mut parts, &auditor.ctx).await;
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let told = response.extensions_mut().remove::<Told>();
    let status = response.status();
    let is_done = status.is_success() || status.is_server_error();
    if let Some(about) = about.filter(|_| is_done) {
        let told = told.unwrap_or_default();
        if !told.is_nothing {
            auditor.record(about, told, status.as_u16()).await;
        }
    }
    response
}

/// What is known about a request before it is served.
struct About {
    action: String,
    on: String,
    by: Option<String>,
    from: String,
    request: String,
}

impl About {
    /// `None` for a question.
    async fn of(parts: &mut Parts, ctx: &Ctx) -> Option<About> {
        let info = RequestInfo::of(parts).ok()?;
        let route = parts.extensions.get::<MatchedPath>()?.as_str().to_owned();
        let base = format!("{}{VERSION_PATH}", ctx.base);
        let route = route.strip_prefix(&base).unwrap_or(&route);
        let method = info.method.as_str();
        if QUESTIONS.contains(&(method, route)) {
            return None;
        }
        let named = ACTIONS
            .iter()
            .find(|(known, path, _)| (*known, *path) == (method, route));
        let action = match named {
            Some((_, _, name)) => (*name).to_owned(),
            None => format!("{method} {route}"),
        };
        let caller = Caller::from_request_parts(parts, ctx).await.ok();
        if let Some(caller) = &caller {
            // Found out once; the handler finds it here.
            parts.extensions.insert(caller.clone());
        }
        let params = RawPathParams::from_request_parts(parts, &()).await.ok();
        let params = params.iter().flatten().map(|(_, value)| value.to_owned());
        Some(About {
            action,
            on: params.collect::<Vec<_>>().join(" "),
            by: caller.map(|caller| caller.principal().id().to_owned()),
            from: info.client.to_string(),
            request: info.id.to_string(),
        })
    }
}

impl Auditor {
    async fn record(&self, about: About, told: Told, status: u16) {
        let by = told.by.or(about.by).unwrap_or_default();
        let named = match by.parse() {
            Ok(id) => self.ctx.access.find(id).await.ok().flatten(),
            Err(_) => None,
        };
        let deed = Deed {
            by,
            by_name: named.map(|token| token.name),
            from: about.from,
            action: about.action,
            on: told.on.unwrap_or(about.on),
            before: told.before,
            after: told.after,
            status,
            request: Some(about.request),
        };
        match told.items {
            None => self.audit.record(deed).await,
            Some(items) => self.audit.record_run(deed, items).await,
        }
    }
}

/// The routes of this noun.
pub(super) fn routes(audit: Arc<Audit>) -> Router<Ctx> {
    Router::new()
        .route("/audit", get(list))
        .route("/audit/verify", get(verify))
        .layer(Extension(audit))
}

/// Lines about administration, the newest first.
#[derive(Serialize, ToSchema)]
pub struct AuditPage {
    lines: Vec<HashedLine>,
    /// What to ask for as `before` to get older ones, if there are any.
    before: Option<u64>,
    kept: AuditKept,
}

/// How much is kept.
#[derive(Serialize, ToSchema)]
pub struct AuditKept {
    /// Most lines.
    lines: u32,
    /// Days; 0 for any age.
    days: u32,
}

/// `GET /_/api/v1/audit`: who administered what, the newest first.
#[utoipa::path(
    get, path = "/_/api/v1/audit", tag = "admin",
    params(
        ("before" = Option<u64>, Query, description = "only lines with a smaller number"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, 100 if left out"),
    ),
    responses(
        (status = 200, description = "one page", body = AuditPage),
        (status = 400, description = "what is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn list(
    _administrator: Administrator,
    Extension(audit): Extension<Arc<Audit>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let what = "an integer from 1 to 1000";
    let limit = query.parsed("limit", what)?.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!(
            "the query parameter `limit` must be {what}"
        )));
    }
    let before = query.parsed("before", "the number of a line")?;
    let found = audit.list(before, limit).await?;
    let oldest = found.lines.last().map(|oldest| oldest.line.number);
    Ok(ok(AuditPage {
        before: oldest.filter(|_| found.has_more),
        lines: found.lines,
        kept: AuditKept {
            lines: audit.settings().lines,
            days: audit.settings().days,
        },
    }))
}

/// `GET /_/api/v1/audit/verify`: reads the whole chain. 200 also if it is not whole: see `intact`.
#[utoipa::path(
    get, path = "/_/api/v1/audit/verify", tag = "admin",
    params(
        ("known" = Option<String>, Query, description = "a line that was noted before, `NUMBER:HASH`"),
    ),
    responses(
        (status = 200, description = "whether it is whole, and what is wrong first", body = Verdict),
        (status = 400, description = "what is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn verify(
    _administrator: Administrator,
    Extension(audit): Extension<Arc<Audit>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let what = "the number of a line, a colon and its hash";
    let known = query.parsed::<Known>("known", what)?;
    Ok(ok(audit.verify(known.as_ref()).await?))
}
