//! Which dialect serves a request, and how its failures are rendered.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use tower::ServiceExt;

use crate::error::ApiError;
use crate::request::RequestInfo;

/// Header that names the request in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Header that carries our stable error code beside the dialect's own error body.
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-kvasir-error");

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

    /// The answer to a failed request, in the dialect's status, headers and body. The site adds
    /// [`ApiError::headers`], [`REQUEST_ID`] and [`ERROR_CODE`].
    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response;

    /// Work beside the requests (delivery, clean-up, refreshing keys), until
    /// [`crate::context::Mounted::shutdown`] is cancelled. Started once by the binary.
    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Completes a dialect's routes: unknown paths and methods fail with an [`ApiError`], so that they
/// are rendered like every other failure.
pub fn finish(routes: Router) -> Router {
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

/// The mounts behind one listener.
pub struct Site {
    mounts: Vec<Mount>,
}

struct Mount {
    dialect: Arc<dyn Dialect>,
    routes: Router,
}

impl Site {
    /// A site of dialects, asked in this order.
    pub fn new(dialects: Vec<Arc<dyn Dialect>>) -> Site {
        let mounts = dialects
            .into_iter()
            .map(|dialect| Mount {
                routes: dialect.routes(),
                dialect,
            })
            .collect();
        Site { mounts }
    }

    /// Answers one request. Never fails: every error is rendered.
    pub async fn handle(&self, mut request: Request<Body>, info: RequestInfo) -> Response {
        let path = request.uri().path();
        let mount = self
            .mounts
            .iter()
            .find(|mount| mount.dialect.claims(request.method(), path));
        request.extensions_mut().insert(info.clone());
        let mut response = match mount {
            None => plain(&ApiError::not_found("no such route")),
            Some(mount) => {
                let Ok(response) = mount.routes.clone().oneshot(request).await;
                mount.rendered(response, &info)
            }
        };
        let id = HeaderValue::try_from(info.id.to_string()).expect("hex digits are a header value");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

impl Mount {
    /// The response, with an [`ApiError`] in it rendered by the dialect.
    fn rendered(&self, mut response: Response, info: &RequestInfo) -> Response {
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        let mut rendered = self.dialect.render(&error, info);
        if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
            rendered.headers_mut().insert(header::ALLOW, allow);
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

/// The answer where no dialect is responsible.
fn plain(error: &ApiError) -> Response {
    let body = format!("{}\n", error.detail());
    (
        error.status(),
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        body,
    )
        .into_response()
}
