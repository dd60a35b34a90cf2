//! Failures as `application/problem+json` (RFC 9457), for the dialects that are ours.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::error::ApiError;
use crate::request::RequestInfo;

/// What a failed request gets.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Problem<'a> {
    /// `urn:kvasir:error:` and a stable code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'a str,
    /// The status.
    status: u16,
    /// What was wrong, in one sentence.
    detail: &'a str,
    /// Names the request in the server's log; also in `X-Request-Id`.
    #[serde(rename = "requestId")]
    request_id: String,
}

/// The answer to a failed request. Answers of a shape of their own bring it as the error's data,
/// which is then the whole body.
pub fn render(error: &ApiError, request: &RequestInfo) -> Response {
    let (content_type, body) = match error.data() {
        Some(body) => ("application/json", serde_json::to_vec(body)),
        None => ("application/problem+json", problem(error, request)),
    };
    let body = body.expect("strings and numbers are always JSON");
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
    (error.status(), headers, body).into_response()
}

fn problem(error: &ApiError, request: &RequestInfo) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Problem {
        kind: format!("urn:kvasir:error:{}", error.code()),
        title: error.status().canonical_reason().unwrap_or_default(),
        status: error.status().as_u16(),
        detail: error.detail(),
        request_id: request.id.to_string(),
    })
}
