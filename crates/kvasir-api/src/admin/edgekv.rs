//! `/edgekv/clients`: EdgeGrid credentials for EdgeKV's administration API.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use http::{HeaderMap, StatusCode, header};
use kvasir_auth::edgegrid::{ClientSummary, Clients};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{json_answer, require_admin};
use crate::body;
use crate::context::{Caller, Ctx};
use crate::error::ApiError;

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

pub(super) fn routes(base: &str) -> Router<Ctx> {
    Router::new()
        .route(&format!("{base}/edgekv/clients"), get(list).post(create))
        .route(
            &format!("{base}/edgekv/clients/{{client_token}}"),
            delete(revoke),
        )
}

/// A new credential.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
}

fn clients(ctx: &Ctx) -> Clients {
    Clients::new(ctx.system.clone(), ctx.clock.clone())
}

/// `POST /edgekv/clients`: makes a credential. Its secret is in this answer and nowhere else.
async fn create(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    require_admin(&ctx, &caller)?;
    let body = body::read(&headers, body, BODY_BYTES_MAX).await?;
    let create: Create = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(format!("the body is not as it must be: {error}"))
    })?;
    let client = clients(&ctx).create(&create.name).await?;
    let answer = json!({
        "name": client.name,
        "clientToken": client.client_token,
        "accessToken": client.access_token,
        "clientSecret": client.secret.as_ref().map(ExposeSecret::expose_secret),
        "createdAt": client.created_at.0,
    });
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, json_answer(&answer)).into_response())
}

/// `GET /edgekv/clients`: all credentials, without their secrets.
async fn list(State(ctx): State<Ctx>, caller: Caller) -> Result<Response, ApiError> {
    require_admin(&ctx, &caller)?;
    let found = clients(&ctx).list().await?;
    let found: Vec<Json> = found.iter().map(shown).collect();
    Ok(json_answer(&json!({ "clients": found })))
}

/// `DELETE /edgekv/clients/{client_token}`: ends a credential for ever, effective at once.
async fn revoke(
    State(ctx): State<Ctx>,
    caller: Caller,
    Path(client_token): Path<String>,
) -> Result<Response, ApiError> {
    require_admin(&ctx, &caller)?;
    if !clients(&ctx).revoke(&client_token).await? {
        return Err(ApiError::not_found("there is no such client"));
    }
    Ok(json_answer(
        &json!({"clientToken": client_token, "revoked": true}),
    ))
}

fn shown(client: &ClientSummary) -> Json {
    json!({
        "clientToken": client.client_token,
        "name": client.name,
        "createdAt": client.created_at_ms,
        "revoked": client.revoked,
    })
}
