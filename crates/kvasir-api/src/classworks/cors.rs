//! Cross-origin requests. The web app runs on another origin than its server, so they are allowed
//! from everywhere unless the settings name origins.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::error::ApiError;

/// Methods that a preflight allows, in the original's words.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// Headers that scripts may read: the original's, and the version of a value.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("ratelimit-policy,retry-after,ratelimit,etag");

/// How long a browser may remember a preflight: a day.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

const ASKS_FOR_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// Which origins may use the dialect.
pub(super) enum Cors {
    /// All.
    Any,
    /// These, as browsers write them: `https://example.org`.
    These(Vec<String>),
}

impl Cors {
    pub(super) fn new(origins: &[String]) -> Cors {
        match origins.iter().any(|origin| origin == "*") {
            true => Cors::Any,
            false => Cors::These(origins.to_vec()),
        }
    }

    /// What an answer to this request says to browsers.
    pub(super) fn marks(&self, request: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let allow = |origin| {
            vec![
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
                (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
            ]
        };
        match self {
            Cors::Any => allow(HeaderValue::from_static("*")),
            Cors::These(origins) => {
                let origin = request.get(header::ORIGIN);
                let origin = origin.filter(|origin| origins.iter().any(|one| *origin == one));
                let mut marks = origin.cloned().map(allow).unwrap_or_default();
                marks.push((header::VARY, HeaderValue::from_static("Origin")));
                marks
            }
        }
    }

    /// Puts them on an answer.
    pub(super) fn mark(&self, request: &HeaderMap, mut response: Response) -> Response {
        response.headers_mut().extend(self.marks(request));
        response
    }

    /// Puts them on a failure.
    pub(super) fn mark_error(&self, request: &HeaderMap, error: ApiError) -> ApiError {
        let marks = self.marks(request).into_iter();
        marks.fold(error, |error, (name, value)| error.with_header(name, value))
    }

    /// The answer to a preflight, or to any other `OPTIONS`.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let mut response = self.mark(request, response);
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        answer.append(
            header::VARY,
            HeaderValue::from_static("Access-Control-Request-Headers"),
        );
        if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        // A page on the internet that talks to the server in its school's network.
        if request.contains_key(ASKS_FOR_PRIVATE_NETWORK) {
            answer.insert(ALLOWS_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        response
    }
}
