//! Cross-origin requests, for browsers on another site. Off unless configured.

use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::Kopano;
use crate::error::ApiError;

/// Methods that a preflight may ask for.
const ALLOWED: [&str; 7] = ["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// How long a browser may remember a preflight, in seconds. The original sends none.
const MAX_AGE_SECONDS: u64 = 600;

/// Our own headers that scripts may read.
const EXPOSED: &str = "ETag, Kvs-Truncated";

/// Answers preflights and marks all other answers, errors included.
pub(super) async fn layer(State(kopano): State<Kopano>, request: Request, next: Next) -> Response {
    if !kopano.allows_origins.load(Ordering::Relaxed) {
        return next.run(request).await;
    }
    let headers = request.headers();
    let has_origin = headers.contains_key(header::ORIGIN);
    let asked_method = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).cloned();
    if let (&Method::OPTIONS, Some(method)) = (request.method(), asked_method) {
        let asked_headers = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        return preflight(has_origin, method, asked_headers);
    }
    let mut response = next.run(request).await;
    let mut marks = vec![(header::VARY, HeaderValue::from_static("Origin"))];
    if has_origin {
        marks.push((
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        ));
        marks.push((
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        ));
    }
    mark(&mut response, marks);
    response
}

/// Puts headers on an answer, also if it is an error that is still to be rendered.
fn mark(response: &mut Response, marks: Vec<(HeaderName, HeaderValue)>) {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let marked = marks
            .into_iter()
            .fold(error, |error, (name, value)| error.with_header(name, value));
        response.extensions_mut().insert(marked);
    } else {
        response.headers_mut().extend(marks);
    }
}

fn preflight(has_origin: bool, method: HeaderValue, headers: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::OK.into_response();
    let answer = response.headers_mut();
    for vary in [
        header::ORIGIN,
        header::ACCESS_CONTROL_REQUEST_METHOD,
        header::ACCESS_CONTROL_REQUEST_HEADERS,
    ] {
        answer.append(header::VARY, vary.into());
    }
    let is_allowed = ALLOWED.iter().any(|allowed| method == *allowed);
    if has_origin && is_allowed {
        answer.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method);
        if let Some(headers) = headers {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        answer.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from(MAX_AGE_SECONDS),
        );
    }
    response
}
