//! Failures as this API shows them: `{error, requestId}`, and `{errors, requestId}` for a body with
//! faults.

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use crate::error::ApiError;
use crate::request::RequestInfo;

/// Renders an error.
pub(super) fn render(error: &ApiError, request: &RequestInfo) -> Response {
    let id = request.id.to_string();
    let body = match error.data().and_then(|data| data.get("errors")) {
        Some(errors) => json!({ "errors": errors, "requestId": id }),
        None => json!({ "error": error.detail(), "requestId": id }),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (error.status(), json, body.to_string()).into_response()
}
