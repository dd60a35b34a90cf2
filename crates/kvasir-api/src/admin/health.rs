//! `/health`: whether the store works, and what it is.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;

use super::{Administrator, ok};

/// How the store is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`, or the stable code of what is wrong: `read_only`, `no_space`, `unavailable`.
    status: &'static str,
    /// One sentence, if something is wrong.
    detail: Option<String>,
    store: StoreHealth,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreHealth {
    backend: &'static str,
    durable: bool,
    shared: bool,
    snapshot_scans: bool,
    /// The newest versionstamp, if the store answers.
    versionstamp: Option<String>,
    value_bytes_max: usize,
}

/// `GET /_/api/v1/health`: whether the store can be read and takes writes. Always 200; the body
/// tells.
#[utoipa::path(
    get, path = "/_/api/v1/health", tag = "admin",
    responses((status = 200, description = "how the store is", body = Health))
)]
pub(super) async fn health(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    let store = ctx.store();
    let ping = store.ping().await.map_err(ApiError::from);
    let versionstamp = store.versionstamp().await.ok();
    let capabilities = store.capabilities();
    Ok(ok(Health {
        status: ping.as_ref().err().map_or("ok", ApiError::code),
        detail: ping.err().map(|error| error.detail().to_owned()),
        store: StoreHealth {
            backend: capabilities.backend,
            durable: capabilities.durable,
            shared: capabilities.shared,
            snapshot_scans: capabilities.snapshot_scans,
            versionstamp: versionstamp.map(|stamp| stamp.to_string()),
            value_bytes_max: ctx.limits.value_bytes_max,
        },
    }))
}
