//! The one error that requests fail with. Each dialect renders it in its own shape.

use std::borrow::Cow;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kvasir_auth::{Denied, TooSoon};
use kvasir_kv::Cause;

/// Why a request failed: what the client reads, and for the log what was behind it.
///
/// As an answer of a handler it travels in the response's extensions until the site lets the
/// dialect render it.
#[derive(Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    headers: HeaderMap,
    data: Option<serde_json::Value>,
    source: Option<Cause>,
}

impl ApiError {
    /// An error with a status, a stable code (lower case with underscores, or the dialect's own)
    /// and one sentence for the client.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> ApiError {
        ApiError(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            headers: HeaderMap::new(),
            data: None,
            source: None,
        }))
    }

    /// 400: the request is wrong, and the sentence says what and what is allowed.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 401: no valid credential.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: a valid credential that does not allow this.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: what the path names does not exist.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 413: a body or value over its limit.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 429: too many requests; try again after so many seconds.
    pub fn too_many_requests(retry_after_seconds: u64) -> ApiError {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "too many requests",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// 503: overloaded, shutting down, or the store is away; try again after a second.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(1))
    }

    /// 500: a fault of this program. The client gets no internals; the source goes to the log.
    pub fn internal(source: impl std::error::Error + Send + Sync + 'static) -> ApiError {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error",
        )
        .with_source(std::sync::Arc::new(source))
    }

    /// The same error with another stable or dialect code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> ApiError {
        self.0.code = code;
        self
    }

    /// The same error with one more header on its answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.0.headers.insert(name, value);
        self
    }

    /// The same error with further facts for the dialect's renderer.
    #[must_use]
    pub fn with_data(mut self, data: serde_json::Value) -> ApiError {
        self.0.data = Some(data);
        self
    }

    /// The same error with what was behind it, for the log only.
    #[must_use]
    pub fn with_source(mut self, source: Cause) -> ApiError {
        self.0.source = Some(source);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Headers that belong on the answer whatever the dialect.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Further facts for the dialect's renderer.
    pub fn data(&self) -> Option<&serde_json::Value> {
        self.0.data.as_ref()
    }

    /// What was behind it.
    pub fn source(&self) -> Option<&Cause> {
        self.0.source.as_ref()
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.0.status.as_u16(),
            self.0.code,
            self.0.detail
        )
    }
}

impl From<kvasir_kv::Error> for ApiError {
    fn from(error: kvasir_kv::Error) -> Self {
        use kvasir_kv::Error;
        let detail = error.to_string();
        match error {
            Error::TooLarge { .. } => ApiError::too_large(detail),
            Error::TooMany { .. } => ApiError::bad_request(detail).with_code("too_many"),
            Error::Invalid(_) => ApiError::bad_request(detail),
            Error::TypeMismatch(_) => ApiError::bad_request(detail).with_code("type_mismatch"),
            Error::ReadOnly(_) => ApiError::unavailable(detail).with_code("read_only"),
            Error::NoSpace => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", detail),
            Error::Unavailable(source) => ApiError::unavailable(detail).with_source(source),
            Error::OutcomeUnknown(source) => ApiError::unavailable(detail)
                .with_code("outcome_unknown")
                .with_source(source),
            Error::Corrupt(_) => {
                let source = std::sync::Arc::new(error);
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "damaged",
                    "stored data is damaged",
                )
                .with_source(source)
            }
            other => ApiError::internal(other),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::TooSoon(TooSoon { seconds }) => ApiError::too_many_requests(seconds),
            Denied::ForeignHost => ApiError::forbidden(detail).with_code("foreign_host"),
            Denied::ForeignOrigin => ApiError::forbidden(detail).with_code("foreign_origin"),
            _ => ApiError::unauthorized(detail),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
