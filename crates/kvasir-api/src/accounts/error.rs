//! Failures as this API shows them: `{error, requestId}`, and `{errors, requestId}` for a body with
//! faults.

use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;

use crate::error::ApiError;
use crate::request::RequestInfo;

/// What a failed request gets: `error`, or `errors` for a body with faults.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure<'a> {
    /// What was wrong, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    error: Option<&'a str>,
    /// Everything that was wrong with the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Fault>, required = false)]
    errors: Option<&'a serde_json::Value>,
    /// Names the request in the server's log; also in `X-Request-Id`.
    request_id: String,
}

/// One fault of a body, as the article's validator names it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Fault {
    /// Names of members and places in lists, from the outside in.
    #[schema(value_type = Vec<serde_json::Value>)]
    pub(super) path: Vec<serde_json::Value>,
    /// What kind of fault, such as `too_small`.
    pub(super) code: &'static str,
    /// One sentence.
    pub(super) message: String,
}

/// Renders an error.
pub(super) fn render(error: &ApiError, request: &RequestInfo) -> Response {
    let errors = error.data().and_then(|data| data.get("errors"));
    let body = serde_json::to_vec(&Failure {
        error: errors.is_none().then_some(error.detail()),
        errors,
        request_id: request.id.to_string(),
    });
    let body = body.expect("texts are always JSON");
    let json = [(header::CONTENT_TYPE, "application/json")];
    (error.status(), json, body).into_response()
}
