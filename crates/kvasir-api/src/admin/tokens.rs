//! `/tokens`: making, listing and revoking tokens.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use kvasir_auth::access::NewToken;
use kvasir_auth::issued::Issued;
use kvasir_auth::{Grant, Verb, Verbs};
use kvasir_kv::{Key, KeyspaceName};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{json_answer, require_admin};
use crate::body;
use crate::context::{Caller, Ctx};
use crate::error::ApiError;

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most characters of a token's name.
const NAME_CHARS_MAX: usize = 200;

/// Tokens of one page of a list, which is all there can be.
const PAGE: usize = kvasir_auth::access::TOKENS_MAX;

pub(super) fn routes(base: &str) -> Router<Ctx> {
    Router::new()
        .route(&format!("{base}/tokens"), get(list).post(create))
        .route(
            &format!("{base}/tokens/{{id}}"),
            axum::routing::delete(revoke),
        )
}

/// What a new token is to allow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Create {
    name: String,
    /// The database it is for; everything if there is none.
    database: Option<String>,
    /// Key parts that its keys begin with.
    prefix: Vec<String>,
    /// Dialects it works in; all if empty.
    dialects: Vec<String>,
    /// Empty means everything on the whole server, or data verbs on a database.
    verbs: Vec<String>,
    /// Milliseconds from now; never if unset.
    ttl_ms: Option<i64>,
}

impl Default for Create {
    fn default() -> Self {
        Create {
            name: "token".to_owned(),
            database: None,
            prefix: Vec::new(),
            dialects: Vec::new(),
            verbs: Vec::new(),
            ttl_ms: None,
        }
    }
}

/// `POST /tokens`: makes a token. Its text is in this answer and nowhere else.
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
    let new = new_token(create, &ctx, &caller)?;
    let (issued, secret) = ctx.access.issue(new).await?;
    let mut answer = shown(&issued);
    answer["token"] = secret.expose_secret().into();
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, json_answer(&answer)).into_response())
}

/// `GET /tokens`: all tokens, without their secrets.
async fn list(State(ctx): State<Ctx>, caller: Caller) -> Result<Response, ApiError> {
    require_admin(&ctx, &caller)?;
    let page = ctx.access.list(None, PAGE).await?;
    let tokens: Vec<Json> = page.0.iter().map(shown).collect();
    Ok(json_answer(&json!({ "tokens": tokens })))
}

/// `DELETE /tokens/{id}`: revokes a token, effective at once.
async fn revoke(
    State(ctx): State<Ctx>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    require_admin(&ctx, &caller)?;
    let none = || ApiError::not_found("there is no such token");
    let id = id.parse().map_err(|_| none())?;
    let issued = ctx.access.revoke(id).await?.ok_or_else(none)?;
    Ok(json_answer(&shown(&issued)))
}

/// The token that a request describes.
fn new_token(create: Create, ctx: &Ctx, caller: &Caller) -> Result<NewToken, ApiError> {
    if create.name.chars().count() > NAME_CHARS_MAX {
        return Err(ApiError::bad_request(format!(
            "`name` is over the limit of {NAME_CHARS_MAX} characters"
        )));
    }
    let keyspace: Option<KeyspaceName> = create
        .database
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("`database`: {error}")))?;
    let usual = match keyspace {
        Some(_) => Verbs::DATA,
        None => Verbs::ALL,
    };
    let expires_at = create
        .ttl_ms
        .map(|ttl| match ctx.clock.now().checked_add_ms(ttl) {
            Some(at) if ttl > 0 => Ok(at),
            _ => Err(ApiError::bad_request("`ttlMs` must be above 0")),
        })
        .transpose()?;
    let grant = Grant {
        dialects: create.dialects,
        keyspace,
        prefix: Key::from_strings(&create.prefix),
        verbs: verbs(&create.verbs, usual)?,
        expires_at: None,
    };
    Ok(NewToken {
        name: create.name,
        grants: vec![grant],
        expires_at,
        created_by: caller.principal().id().to_owned(),
    })
}

fn verbs(names: &[String], usual: Verbs) -> Result<Verbs, ApiError> {
    if names.is_empty() {
        return Ok(usual);
    }
    let verb = |name: &String| {
        Verb::from_name(name)
            .ok_or_else(|| ApiError::bad_request(format!("`verbs`: {name:?} is no verb")))
    };
    names.iter().map(verb).collect()
}

/// A token as everybody may see it.
fn shown(issued: &Issued) -> Json {
    let grants: Vec<Json> = issued
        .grants
        .iter()
        .map(|grant| {
            let verbs: Vec<_> = grant.verbs.iter().map(Verb::name).collect();
            json!({
                "database": grant.keyspace.as_ref().map(KeyspaceName::as_str),
                "dialects": grant.dialects,
                "prefix": format!("{:?}", grant.prefix),
                "verbs": verbs,
            })
        })
        .collect();
    json!({
        "id": issued.id.to_string(),
        "name": issued.name,
        "grants": grants,
        "createdAt": issued.created_at.0,
        "createdBy": issued.created_by,
        "expiresAt": issued.expires_at.map(|at| at.0),
        "revokedAt": issued.revoked_at.map(|at| at.0),
    })
}
