//! `/_/openapi.json`: the description of everything this server answers.
//!
//! It needs no credential: it holds nothing but what the documentation says, and where the operator
//! has mounted it. The console shows it to people at `/_/docs`.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

use crate::context::Ctx;
use crate::openapi::Document;

/// The route, below the mount's base.
pub(super) fn routes(base: &str, document: &Document) -> Router<Ctx> {
    Router::new()
        .route(&format!("{base}/openapi.json"), get(openapi_json))
        .with_state(document.clone())
}

/// `GET /_/openapi.json`: every route of every mount, as OpenAPI 3.1.
#[utoipa::path(
    get, path = "/_/openapi.json", tag = "admin", security(()),
    responses((status = 200, description = "the description", body = serde_json::Value))
)]
pub(super) async fn openapi_json(State(document): State<Document>) -> Response {
    let json = HeaderValue::from_static("application/json");
    let fresh = HeaderValue::from_static("no-cache");
    let headers = [(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, fresh)];
    (headers, document.json()).into_response()
}
