//! `/tokens`: access tokens of the data plane.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use crate::edgekv::database::Database;
use crate::edgekv::error;
use crate::edgekv::tokens::TokenRecord;
use crate::edgekv::wire::names::Named;
use crate::edgekv::wire::token::{
    RevokedView, TokenBody, TokenRequest, TokenSummary, check_name, token_view,
};
use crate::edgekv::wire::{self, Query, read_object};
use crate::error::ApiError;

/// The parameter of routes about one token.
#[derive(Deserialize)]
pub(in crate::edgekv) struct TokenPath {
    name: String,
}

/// `POST /tokens`: with an expiry a token by value, without one a token by reference.
#[utoipa::path(
    post, path = "/edgekv/v1/tokens", tag = "edgekv",
    request_body(content = TokenBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the token", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn create(
    State(database): State<Database>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body: TokenBody = read_object(&headers, body).await?;
    let created = database.create_token(TokenRequest::try_from(body)?).await?;
    answer(&database, &created).await
}

/// `GET /tokens/{name}`: what creating it answered.
#[utoipa::path(
    get, path = "/edgekv/v1/tokens/{name}", tag = "edgekv",
    params(
        ("name" = String, Path, description = "name of the token"),
    ),
    responses(
        (status = 200, description = "the token", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn read(
    State(database): State<Database>,
    Named(path): Named<TokenPath>,
) -> Result<Response, ApiError> {
    check_name(&path.name)?;
    let token = database.token(&path.name).await?;
    answer(&database, &token).await
}

/// `POST /tokens/{name}/refresh`: the same token by reference with a new date of refresh.
#[utoipa::path(
    post, path = "/edgekv/v1/tokens/{name}/refresh", tag = "edgekv",
    params(
        ("name" = String, Path, description = "name of the token"),
    ),
    responses(
        (status = 200, description = "the token", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn refresh(
    State(database): State<Database>,
    Named(path): Named<TokenPath>,
) -> Result<Response, ApiError> {
    check_name(&path.name)?;
    let token = database.refresh_token(&path.name).await?;
    answer(&database, &token).await
}

async fn answer(database: &Database, token: &TokenRecord) -> Result<Response, ApiError> {
    let constants = database.require(StatusCode::NOT_FOUND).await?;
    Ok(wire::json(
        StatusCode::OK,
        &token_view(token, &constants.cpcode),
    ))
}

/// `GET /tokens[?includeExpired=true]`: by name, never with a value.
#[utoipa::path(
    get, path = "/edgekv/v1/tokens", tag = "edgekv",
    params(
        ("includeExpired" = Option<bool>, Query, description = "also those that ended"),
    ),
    responses(
        (status = 200, description = "the tokens, without their values", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn list(
    State(database): State<Database>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let include_expired = Query::of(&uri).is_on("includeExpired");
    let now = database.now();
    let tokens: Vec<TokenSummary> = database
        .tokens()
        .await?
        .into_iter()
        .filter(|token| include_expired || !token.is_expired(now))
        .map(TokenSummary::from)
        .collect();
    if tokens.is_empty() && database.settings.strict_tokens {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            error::CONFLICT,
            "No tokens exist.",
        ));
    }
    Ok(wire::json(StatusCode::OK, &json!({"tokens": tokens})))
}

/// `DELETE /tokens/{name}`: ends it for ever.
#[utoipa::path(
    delete, path = "/edgekv/v1/tokens/{name}", tag = "edgekv",
    params(
        ("name" = String, Path, description = "name of the token"),
    ),
    responses(
        (status = 200, description = "it is over", body = RevokedView<'static>),
    )
)]
pub(in crate::edgekv) async fn revoke(
    State(database): State<Database>,
    Named(path): Named<TokenPath>,
) -> Result<Response, ApiError> {
    check_name(&path.name)?;
    let token = database.revoke_token(&path.name).await?;
    let view = RevokedView {
        name: &token.name,
        uuid: &token.uuid,
    };
    Ok(wire::json(StatusCode::OK, &view))
}
