//! Failures as this API shows them: plain text, with a reason where the original has none.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::error::ApiError;

/// Code of the 404 that a DELETE answers: no body and no content type.
pub(super) const NOTHING_DELETED: &str = "nothing_deleted";

/// The text that the original and its clients know.
const NOT_FOUND: &str = "404 page not found";

/// Renders an error. The site adds headers such as the challenge.
pub(super) fn render(error: &ApiError) -> Response {
    if error.code() == NOTHING_DELETED {
        return StatusCode::NOT_FOUND.into_response();
    }
    let text = match error.status() {
        StatusCode::NOT_FOUND => format!("{NOT_FOUND}\n"),
        _ => format!("{}\n", error.detail()),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (error.status(), headers, text).into_response()
}
