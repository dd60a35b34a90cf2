//! The running server itself: its settings, slow requests and figures, and reading the settings
//! again.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /settings` | every setting with its value in force and where it came from |
//! | `POST /config/reload` | reads all sources again; `{"applied": [...], "waiting": [...]}` |
//! | `GET /slow?limit=` | the latest slow requests, the newest first |
//! | `GET /figures` | the figures of `/metrics` in text form, also when that is switched off |
//!
//! What they need lies in the binary, which hands it in as an [`Operator`].

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::request::Parts;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;

use super::audit::Told;
use super::{Administrator, ok};

/// Slow requests of one answer, unless asked for fewer.
const SLOW_MAX: usize = 1000;

/// The server that this API is part of.
pub trait Operator: Send + Sync + 'static {
    /// Every setting in force.
    fn settings(&self) -> Vec<SettingRow>;

    /// Reads all sources of settings again and takes over what can be.
    ///
    /// # Errors
    ///
    /// What is wrong with them, and where. Nothing is changed then.
    fn reload(&self) -> Result<Reloaded, String>;

    /// The latest slow requests as JSON objects, the newest first.
    fn slow(&self, limit: usize) -> Vec<serde_json::Value>;

    /// All figures in Prometheus' text form.
    fn figures(&self) -> String;
}

/// A setting in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SettingRow {
    /// Its path.
    pub setting: String,
    /// Its value; `<set>` for a secret, null for none.
    pub value: Option<String>,
    /// The flag, variable, or file with line and column that it came from, or `default`.
    pub origin: String,
    /// Whether a reload takes over a change, without a restart.
    pub live: bool,
}

/// Every setting in force.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingRows {
    settings: Vec<SettingRow>,
}

/// Slow requests, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct SlowRows {
    #[schema(value_type = Vec<serde_json::Value>)]
    requests: Vec<serde_json::Value>,
}

/// What a reload did, by paths of settings.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Reloaded {
    /// Changes that are in force now.
    pub applied: Vec<String>,
    /// Changes that wait for a restart.
    pub waiting: Vec<String>,
}

/// The routes of this noun.
pub(super) fn routes(operator: Option<Arc<dyn Operator>>) -> Router<Ctx> {
    Router::new()
        .route("/settings", get(settings))
        .route("/config/reload", post(reload))
        .route("/slow", get(slow))
        .route("/figures", get(figures))
        .layer(Extension(Served(operator)))
}

#[derive(Clone)]
struct Served(Option<Arc<dyn Operator>>);

/// The server, if there is one. A data folder that no server holds has the rest of this API only.
pub(super) struct Running(Arc<dyn Operator>);

impl<S: Send + Sync> FromRequestParts<S> for Running {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let served = parts.extensions.get::<Served>();
        let operator = served.and_then(|served| served.0.clone());
        operator.map(Running).ok_or_else(|| {
            ApiError::new(
                StatusCode::CONFLICT,
                "not_serving",
                "this needs a running server",
            )
        })
    }
}

/// `GET /_/api/v1/settings`: every setting with its value in force and where it came from.
#[utoipa::path(
    get, path = "/_/api/v1/settings", tag = "admin",
    responses((status = 200, description = "the settings", body = SettingRows))
)]
pub(super) async fn settings(
    _administrator: Administrator,
    Running(operator): Running,
) -> Result<Response, ApiError> {
    Ok(ok(SettingRows {
        settings: operator.settings(),
    }))
}

/// `POST /_/api/v1/config/reload`: reads all sources of settings again. 400 says what is wrong with
/// them, and the running settings stay.
#[utoipa::path(
    post, path = "/_/api/v1/config/reload", tag = "admin",
    responses(
        (status = 200, description = "which changes are in force", body = Reloaded),
        (status = 400, description = "what is wrong with the settings")
    )
)]
pub(super) async fn reload(
    State(_ctx): State<Ctx>,
    _administrator: Administrator,
    Running(operator): Running,
) -> Result<Response, ApiError> {
    // It reads files.
    let reloaded = tokio::task::spawn_blocking(move || operator.reload()).await;
    match reloaded.map_err(ApiError::internal)? {
        Ok(reloaded) => {
            let told = Told::on(reloaded.applied.join(" "));
            Ok(told.with(ok(reloaded)))
        }
        Err(what) => Err(ApiError::bad_request(what).with_code("bad_settings")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {
    limit: Option<usize>,
}

/// `GET /_/api/v1/slow`: the latest slow requests, the newest first.
#[utoipa::path(
    get, path = "/_/api/v1/slow", tag = "admin",
    params(("limit" = Option<usize>, Query, description = "most rows, 1000 at most")),
    responses((status = 200, description = "the requests, times in milliseconds", body = SlowRows))
)]
pub(super) async fn slow(
    _administrator: Administrator,
    Running(operator): Running,
    query: Result<Query<Latest>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(latest) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let requests = operator.slow(latest.limit.unwrap_or(SLOW_MAX).min(SLOW_MAX));
    Ok(ok(SlowRows { requests }))
}

/// `GET /_/api/v1/figures`: all figures in Prometheus' text form.
#[utoipa::path(
    get, path = "/_/api/v1/figures", tag = "admin",
    responses((status = 200, description = "the figures", body = String, content_type = "text/plain"))
)]
pub(super) async fn figures(
    _administrator: Administrator,
    Running(operator): Running,
) -> Result<Response, ApiError> {
    let content_type = "text/plain; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], operator.figures()).into_response())
}
