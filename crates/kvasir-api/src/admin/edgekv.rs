//! `/edgekv/clients`: EdgeGrid credentials for EdgeKV's administration API.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use kvasir_auth::edgegrid::{ClientSummary, Clients};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::time::rfc3339;

use super::audit::Told;
use super::{Administrator, Body, ok};

/// A new credential.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    /// What people call it, 1 to 100 bytes.
    name: String,
}

/// A credential with its secret, which is in no later answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeClient {
    name: String,
    client_token: String,
    access_token: String,
    client_secret: String,
    created_at: String,
}

/// A credential as lists show it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientInfo {
    name: String,
    client_token: String,
    created_at: String,
    revoked: bool,
}

/// All clients.
#[derive(Serialize, ToSchema)]
pub struct ClientList {
    clients: Vec<ClientInfo>,
}

impl From<ClientSummary> for ClientInfo {
    fn from(client: ClientSummary) -> Self {
        ClientInfo {
            name: client.name,
            client_token: client.client_token,
            created_at: rfc3339(kvasir_kv::UnixMillis(client.created_at_ms)),
            revoked: client.revoked,
        }
    }
}

fn clients(ctx: &Ctx) -> Clients {
    Clients::new(ctx.system.clone(), ctx.clock.clone())
}

/// `POST /_/api/v1/edgekv/clients`: makes a credential.
#[utoipa::path(
    post, path = "/_/api/v1/edgekv/clients", tag = "admin", request_body = NewClient,
    responses((status = 201, description = "the credential and its secret", body = MadeClient))
)]
pub(super) async fn create(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Body(new): Body<NewClient>,
) -> Result<Response, ApiError> {
    let client = clients(&ctx).create(&new.name).await?;
    let secret = client.secret.as_ref().map(ExposeSecret::expose_secret);
    let made = MadeClient {
        name: client.name.clone(),
        client_token: client.client_token.clone(),
        access_token: client.access_token.clone(),
        client_secret: secret.unwrap_or_default().to_owned(),
        created_at: rfc3339(client.created_at),
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    let told = Told::on(format!("{} ({})", made.client_token, made.name));
    Ok(told.with((StatusCode::CREATED, no_store, ok(made)).into_response()))
}

/// `GET /_/api/v1/edgekv/clients`: all credentials, without their secrets.
#[utoipa::path(
    get, path = "/_/api/v1/edgekv/clients", tag = "admin",
    responses((status = 200, description = "every client", body = ClientList))
)]
pub(super) async fn list(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    let found = clients(&ctx).list().await?;
    Ok(ok(ClientList {
        clients: found.into_iter().map(ClientInfo::from).collect(),
    }))
}

/// `DELETE /_/api/v1/edgekv/clients/{client_token}`: ends a credential for ever, effective at once.
#[utoipa::path(
    delete, path = "/_/api/v1/edgekv/clients/{client_token}", tag = "admin",
    params(("client_token" = String, Path, description = "which one")),
    responses((status = 200, description = "it is revoked"), (status = 404, description = "there is none"))
)]
pub(super) async fn revoke(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(client_token): Path<String>,
) -> Result<Response, ApiError> {
    if !clients(&ctx).revoke(&client_token).await? {
        return Err(ApiError::not_found("there is no such client"));
    }
    Ok(ok(
        serde_json::json!({"clientToken": client_token, "revoked": true}),
    ))
}

/// `GET /_/api/v1/edgekv/overview`: namespaces of both networks, and tokens without their values.
#[utoipa::path(
    get, path = "/_/api/v1/edgekv/overview", tag = "admin",
    responses((status = 200, description = "what there is", body = crate::edgekv::overview::Overview))
)]
pub(super) async fn overview(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    Ok(ok(crate::edgekv::overview::overview(&ctx).await?))
}
