//! Failures as KV Connect clients show them: the status, and one plain sentence as the body.
//!
//! Clients repeat a request for ever after a 5xx and give up at once after a 4xx. So a 5xx says
//! that a repeat can help, and everything else becomes a 4xx here.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::error::ApiError;

/// The answer to a failed request.
pub(super) fn render(error: &ApiError) -> Response {
    let mut response = (error.status(), format!("{}\n", error.detail())).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// A failure of the store, with a status that stops clients from repeating what cannot help.
pub(super) fn from_store(error: kvasir_kv::Error) -> ApiError {
    use kvasir_kv::Error;
    match error {
        Error::TooLarge { .. } | Error::TooMany { .. } => ApiError::bad_request(error.to_string()),
        // Repeating would apply the write a second time if it was applied.
        Error::OutcomeUnknown(source) => ApiError::new(
            StatusCode::CONFLICT,
            "outcome_unknown",
            "nobody knows whether the write was applied: read before writing again",
        )
        .with_source(source),
        Error::Corrupt(_) => {
            tracing::error!("a request met damaged data: {error}");
            ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "damaged",
                "the stored data is damaged, ask the operator of this server",
            )
        }
        other => other.into(),
    }
}
