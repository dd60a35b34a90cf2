//! Requests from web pages of other origins: off unless configured.

use std::sync::{Arc, RwLock};

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::Rested;

/// Seconds for which a browser need not ask again. Browsers cap it at two hours at most.
const MAX_AGE_SECONDS: &str = "3600";

/// Headers that a page may read beside the ones that are always readable.
const EXPOSED: &str = "ETag, Link, X-KV-Versionstamp, X-KV-Expires-At, X-KV-Cursor, X-Request-Id, X-Kvasir-Error, Retry-After";

/// The origins that are let in.
#[derive(Debug)]
pub(super) struct Cors {
    origins: RwLock<Arc<[String]>>,
}

impl Cors {
    /// Lets in these origins, all of them if `*` is one.
    pub(super) fn new(origins: Vec<String>) -> Cors {
        Cors {
            origins: RwLock::new(origins.into()),
        }
    }

    /// From now on lets in these.
    pub(super) fn allow(&self, origins: Vec<String>) {
        *self.origins.write().expect("no panic while held") = origins.into();
    }

    fn origins(&self) -> Arc<[String]> {
        self.origins.read().expect("no panic while held").clone()
    }

    /// Whether the answer to a request needs headers from here.
    pub(super) fn concerns(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(header::ORIGIN) && !self.origins().is_empty()
    }

    /// The origin that sent a request, if it is let in.
    pub(super) fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let is_let_in = |known: &String| known == "*" || known.as_bytes() == origin.as_bytes();
        self.origins().iter().any(is_let_in).then_some(origin)
    }
}

/// Answers preflights and tells browsers who may read an answer.
pub(super) async fn layer(
    State(state): State<Rested>,
    request: Request<Body>,
    next: Next,
) -> Response {
    if !state.cors.concerns(request.headers()) {
        return next.run(request).await;
    }
    let origin = state.cors.allowed(request.headers()).cloned();
    let is_preflight = *request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (is_preflight, &origin) {
        (true, Some(_)) => preflight(request.headers()),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
    response
}

fn preflight(request: &HeaderMap) -> Response {
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let mut headers = HeaderMap::new();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, PUT, DELETE, POST"),
    );
    if let Some(asked) = asked {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(MAX_AGE_SECONDS),
    );
    (StatusCode::NO_CONTENT, headers).into_response()
}
