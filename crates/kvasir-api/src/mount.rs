//! Which dialect serves a request, and how its failures are rendered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use kvasir_auth::Access;
use kvasir_auth::rate::Standing;
use tower::ServiceExt;

use crate::error::ApiError;
use crate::request::{RequestInfo, host_name};

/// Header that names the request in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Header that carries our stable error code beside the dialect's own error body.
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-kvasir-error");

/// Header that tells a client what it has left of its rate, in the form of the IETF's draft 7, which
/// is also what Classworks' clients read.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// One HTTP API: its routes and the shape of its errors.
pub trait Dialect: Send + Sync + 'static {
    /// Name in configuration, grants and metrics.
    fn name(&self) -> &'static str;

    /// Whether a request is for this dialect. Mounts are asked in order, and the first one that
    /// says yes serves the request, also with 404 or 405. The path is the whole path, prefix
    /// included, not decoded.
    fn claims(&self, method: &Method, path: &str) -> bool;

    /// The routes, with the mount's prefix. Finished by [`finish`].
    fn routes(&self) -> Router;

    /// The answer to a request, past the router, for the few requests that are asked most often.
    /// `None` leaves it to [`Dialect::routes`], which must answer the same; then the body must still
    /// be there.
    fn direct<'a>(
        &'a self,
        _request: &'a Parts,
        _body: &mut Body,
        _info: &'a RequestInfo,
    ) -> Option<Direct<'a>> {
        None
    }

    /// Longest wait for the next part of a request's body, where it differs from the listener's. A
    /// dialect that bounds the whole request by itself says here that its own bound should come
    /// first.
    fn body_gap(&self) -> Option<Duration> {
        None
    }

    /// What the routes are, at the mount's paths; see [`crate::openapi`].
    fn openapi(&self) -> utoipa::openapi::OpenApi {
        utoipa::openapi::OpenApi::default()
    }

    /// Takes over which origins' web pages may use the dialect, as its `cors_origins` setting says.
    /// Dialects without such a setting do nothing.
    fn allow_origins(&self, _origins: &[String]) {}

    /// The answer to a failed request, in the dialect's status, headers and body. The site adds
    /// [`ApiError::headers`], [`REQUEST_ID`] and [`ERROR_CODE`].
    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response;

    /// Work beside the requests (delivery, clean-up, refreshing keys), until
    /// [`crate::context::Mounted::shutdown`] is cancelled. Started once by the binary.
    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What answers a request past the router.
pub struct Direct<'a> {
    /// The route that would have answered, for metrics; `None` where routes have no names.
    pub route: Option<RouteName>,
    /// The answer.
    pub answer: BoxFuture<'a, Result<Response, ApiError>>,
}

/// An answer, and which route gave it.
pub struct Answered {
    /// The answer, with every failure rendered.
    pub response: Response,
    /// `None` if there is no such route, or it was not got to.
    pub route: Option<RouteName>,
}

/// Completes a dialect's routes: unknown paths and methods fail with an [`ApiError`], so that they
/// are rendered like every other failure.
pub fn finish(routes: Router) -> Router {
    let routes = routes.layer(middleware::from_fn(name_route));
    routes
        .fallback(|| async { ApiError::not_found("no such route") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this route does not take that method",
            )
        })
}

/// Which route answered, as its template, for metrics. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RouteName(Named);

#[derive(Clone, Debug)]
enum Named {
    Matched(MatchedPath),
    Direct(Arc<str>),
}

impl From<String> for RouteName {
    fn from(template: String) -> RouteName {
        RouteName(Named::Direct(template.into()))
    }
}

impl RouteName {
    /// The template, such as `/kv/{*keypath}`.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Named::Matched(path) => path.as_str(),
            Named::Direct(path) => path,
        }
    }
}

/// Leaves the name of the route in the extensions of its answer.
async fn name_route(request: axum::extract::Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        let name = RouteName(Named::Matched(matched));
        response.extensions_mut().insert(name);
    }
    response
}

/// Headers that stay on an answer when its error is rendered: what the router says about other
/// methods, and what layers of the dialect say to browsers.
const KEPT_HEADERS: [HeaderName; 8] = [
    header::ALLOW,
    header::VARY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// The mounts behind one listener.
pub struct Site {
    mounts: Vec<Mount>,
    access: Option<Arc<Access>>,
}

struct Mount {
    dialect: Arc<dyn Dialect>,
    routes: Router,
    hosts: Vec<String>,
}

/// A dialect and the host names that lead to it; none for all.
pub struct Place {
    /// The dialect.
    pub dialect: Arc<dyn Dialect>,
    /// Host names, without ports and in any case. Requests for other hosts do not reach the dialect.
    pub hosts: Vec<String>,
}

impl From<Arc<dyn Dialect>> for Place {
    fn from(dialect: Arc<dyn Dialect>) -> Place {
        Place {
            dialect,
            hosts: Vec::new(),
        }
    }
}

impl Site {
    /// A site of dialects, asked in this order.
    pub fn new(dialects: Vec<Arc<dyn Dialect>>) -> Site {
        Site::of(dialects.into_iter().map(Place::from).collect())
    }

    /// A site of dialects, some of them only under certain host names. Asked in this order.
    pub fn of(places: Vec<Place>) -> Site {
        let mounts = places
            .into_iter()
            .map(|Place { dialect, hosts }| Mount {
                routes: dialect.routes(),
                dialect,
                hosts: hosts.iter().map(|host| plain_host(host)).collect(),
            })
            .collect();
        Site {
            mounts,
            access: None,
        }
    }

    /// The same site, where each client address may ask as often as `access` says.
    #[must_use]
    pub fn limited_by(mut self, access: Arc<Access>) -> Site {
        self.access = Some(access);
        self
    }

    /// Who serves a request. Looked up once per request; the rest is asked of what this gives.
    pub fn find(&self, info: &RequestInfo) -> Found<'_> {
        let (method, path) = (&info.method, info.uri.path());
        let mount = self
            .mounts
            .iter()
            .find(|mount| mount.is_at(&info.host) && mount.dialect.claims(method, path));
        Found { site: self, mount }
    }

    /// Answers one request; see [`Found::handle`].
    pub async fn handle(&self, request: Request<Body>, info: &RequestInfo) -> Response {
        self.find(info).handle(request, info).await.response
    }
}

/// The mount that serves a request, if one does.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    site: &'a Site,
    mount: Option<&'a Mount>,
}

impl Found<'_> {
    /// Name of its dialect.
    pub fn dialect(&self) -> Option<&'static str> {
        Some(self.mount?.dialect.name())
    }

    /// See [`Dialect::body_gap`].
    pub fn body_gap(&self) -> Option<Duration> {
        self.mount?.dialect.body_gap()
    }

    /// Answers the request. Never fails: every error is rendered.
    pub async fn handle(&self, request: Request<Body>, info: &RequestInfo) -> Answered {
        let access = self.site.access.as_ref();
        let standing = access.and_then(|access| access.count_address(info.client));
        let too_soon = standing.filter(|standing| !standing.is_allowed);
        let (mut response, route) = match (self.mount, too_soon) {
            (None, _) => (plain(&ApiError::not_found("no such route")), None),
            (Some(mount), None) => mount.answer(request, info).await,
            (Some(mount), Some(refused)) => {
                let error = ApiError::too_many_requests(refused.retry_after_seconds());
                (mount.rendered(error.into_response(), info), None)
            }
        };
        if let Some(standing) = standing {
            tell_standing(response.headers_mut(), &standing);
        }
        response.headers_mut().insert(REQUEST_ID, info.id.header());
        Answered { response, route }
    }

    /// The answer to a request that is refused before its dialect sees it, in the shape of the
    /// dialect that would have served it.
    pub fn refuse(&self, error: ApiError, info: &RequestInfo) -> Response {
        let mut response = match self.mount {
            None => plain(&error),
            Some(mount) => mount.rendered(error.into_response(), info),
        };
        response.headers_mut().insert(REQUEST_ID, info.id.header());
        response
    }
}

/// A host name as it is compared.
fn plain_host(host: &str) -> String {
    let name = host_name(host);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Mount {
    fn is_at(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains(&plain_host(host))
    }

    async fn answer(
        &self,
        request: Request<Body>,
        info: &RequestInfo,
    ) -> (Response, Option<RouteName>) {
        let (parts, mut body) = request.into_parts();
        if let Some(direct) = self.dialect.direct(&parts, &mut body, info) {
            let response = match direct.answer.await {
                Ok(response) => response,
                Err(error) => self.rendered(error.into_response(), info),
            };
            return (response, direct.route);
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(info.clone());
        let Ok(mut response) = self.routes.clone().oneshot(request).await;
        let route = response.extensions_mut().remove::<RouteName>();
        (self.rendered(response, info), route)
    }

    /// The response, with an [`ApiError`] in it rendered by the dialect.
    fn rendered(&self, mut response: Response, info: &RequestInfo) -> Response {
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        let mut rendered = self.dialect.render(&error, info);
        for name in KEPT_HEADERS {
            if let Some(value) = response.headers_mut().remove(&name) {
                rendered.headers_mut().insert(name, value);
            }
        }
        for (name, value) in error.headers() {
            if !rendered.headers().contains_key(name) {
                rendered.headers_mut().insert(name.clone(), value.clone());
            }
        }
        rendered
            .headers_mut()
            .insert(ERROR_CODE, HeaderValue::from_static(error.code()));
        if error.status().is_server_error() {
            let source = error.source().map(tracing::field::display);
            tracing::error!(request = %info.id, dialect = self.dialect.name(), source, "request failed: {error:?}");
        }
        rendered
    }
}

/// Tells a client what it has left, before it is refused. A dialect's own words win.
fn tell_standing(headers: &mut HeaderMap, standing: &Standing) {
    if headers.contains_key(RATE_LIMIT) {
        return;
    }
    let words = format!(
        "limit={}, remaining={}, reset={}",
        standing.limit,
        standing.remaining,
        standing.reset_seconds()
    );
    let words = HeaderValue::try_from(words).expect("digits, letters and signs");
    headers.insert(RATE_LIMIT, words);
}

/// The answer where no dialect is responsible.
fn plain(error: &ApiError) -> Response {
    let body = format!("{}\n", error.detail());
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (ERROR_CODE, error.code()),
    ];
    (error.status(), headers, body).into_response()
}
