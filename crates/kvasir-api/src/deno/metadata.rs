//! The metadata exchange: an access token for a data token and the address of the data path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use kvasir_auth::Verb;
use kvasir_kv::{Key, Keyspace, KeyspaceName, UnixMillis};
use serde::{Deserialize, Serialize};

use super::{DATA_PATH, Inner, error, token};
use crate::body;
use crate::context::Caller;
use crate::databases::Database;
use crate::error::ApiError;
use crate::request::{RequestInfo, bearer};

/// Largest body of an exchange, in bytes; a real one has 33.
const BODY_BYTES_MAX: usize = 4096;

/// Versions of the protocol that are spoken, best first.
const VERSIONS: [u64; 3] = [3, 2, 1];

/// What the client speaks.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = DenoExchange)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    #[schema(value_type = Vec<u64>)]
    supported_versions: Vec<serde_json::Value>,
}

/// Exactly these members: the npm client refuses others.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DenoMetadata)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    version: u64,
    database_id: String,
    #[schema(value_type = Vec<Endpoint>)]
    endpoints: [Endpoint; 1],
    token: String,
    expires_at: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DenoEndpoint)]
struct Endpoint {
    url: String,
    consistency: &'static str,
}

/// `POST /`: the exchange for the mount's own database, `default` unless configured otherwise.
#[utoipa::path(
    post, path = "/", tag = "deno",
    request_body(content = Asked, content_type = "application/json"),
    responses(
        (status = 200, description = "where the data path is, and a token for it", body = Answered),
        (status = 400, description = "no common version of the protocol"),
        (status = 401, description = "no valid token"),
    )
)]
pub(super) async fn exchange_default(
    State(deno): State<Arc<Inner>>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let own = deno.ctx.keyspace.name().clone();
    answer(&deno, own, &info, &headers, body).await
}

/// `POST /db/{database}`: the exchange for another database.
#[utoipa::path(
    post, path = "/db/{database}", tag = "deno",
    params(("database" = String, Path, description = "name of the database")),
    request_body(content = Asked, content_type = "application/json"),
    responses(
        (status = 200, description = "where the data path is, and a token for it", body = Answered),
        (status = 400, description = "no common version of the protocol"),
        (status = 401, description = "no valid token"),
    )
)]
pub(super) async fn exchange(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(&deno, database_name(&database)?, &info, &headers, body).await
}

pub(super) fn database_name(text: &str) -> Result<KeyspaceName, ApiError> {
    text.parse()
        .map_err(|error| ApiError::not_found(format!("there is no such database: {error}")))
}

async fn answer(
    deno: &Inner,
    name: KeyspaceName,
    info: &RequestInfo,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if bearer(headers).is_none_or(str::is_empty) {
        return Err(ApiError::unauthorized(
            "an access token is needed: send `Authorization: Bearer <token>`",
        ));
    }
    let caller = Caller::of(&deno.ctx, info, headers).await?;
    let body = body::read(headers, body, BODY_BYTES_MAX).await?;
    let version = choose_version(&body)?;
    let database = find(deno, &caller, &name).await?;

    let issued = deno.tokens.issue(&database, caller.principal()).await;
    let Some((token, expires_at)) = issued.map_err(error::from_store)? else {
        return Err(allows_nothing(&name));
    };

    let path = format!("{}/{DATA_PATH}/{name}", deno.ctx.base);
    let url = match &deno.settings.public_url {
        Some(public) => format!("{}{path}", public.trim_end_matches('/')),
        None if version == 1 => own_url(info, &path)?,
        None => path,
    };
    let answered = Answered {
        version,
        database_id: database.id.to_string(),
        endpoints: [Endpoint {
            url,
            consistency: "strong",
        }],
        token,
        expires_at: rfc3339(expires_at),
    };
    let json = serde_json::to_vec(&answered).expect("strings and numbers are JSON");
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The best version that both sides speak. No body at all means version 1, which had none.
fn choose_version(body: &[u8]) -> Result<u64, ApiError> {
    if body.is_empty() {
        return Ok(1);
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!(
            "the body is not {{\"supportedVersions\":[1,2,3]}}: {error}"
        ))
    })?;
    let offered = |version: &u64| {
        let mut numbers = asked.supported_versions.iter();
        numbers.any(|number| number.as_u64() == Some(*version))
    };
    VERSIONS.into_iter().find(offered).ok_or_else(|| {
        ApiError::bad_request("none of the supportedVersions is spoken here: 1, 2 and 3 are")
    })
}

fn allows_nothing(name: &KeyspaceName) -> ApiError {
    ApiError::forbidden(format!("the token allows nothing in the database `{name}`"))
}

/// The database. The mount's own is made at its first use, others if the caller may make databases.
pub(super) async fn find(
    deno: &Inner,
    caller: &Caller,
    name: &KeyspaceName,
) -> Result<Database, ApiError> {
    let found = deno.databases.find(name).await.map_err(error::from_store)?;
    if let Some(database) = found {
        return Ok(database);
    }
    let keyspace = Keyspace::new(deno.ctx.store().clone(), name.clone());
    let is_own = name == deno.ctx.keyspace.name();
    if !is_own && !caller.may(&deno.ctx, &keyspace, Verb::Admin, &Key::default()) {
        // Strangers do not learn which databases there are.
        let principal = caller.principal();
        if !token::reaches(principal, deno.ctx.dialect, name, deno.ctx.clock.now()) {
            return Err(allows_nothing(name));
        }
        return Err(ApiError::not_found(format!(
            "there is no database `{name}`; make it with `kvasir db create {name}`"
        )));
    }
    let made = deno.databases.create(name).await;
    made.map(|(database, _)| database)
        .map_err(error::from_store)
}

/// An absolute URL, as the client reached this server.
fn own_url(info: &RequestInfo, path: &str) -> Result<String, ApiError> {
    if info.host.is_empty() {
        return Err(ApiError::bad_request(
            "version 1 needs a `Host` header, or `deno.public_url` in the configuration",
        ));
    }
    let scheme = if info.is_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{}{path}", info.host))
}

/// A time as clients want it: RFC 3339, ending in `Z`.
fn rfc3339(time: UnixMillis) -> String {
    let time = time.0.clamp(0, UnixMillis::MAX_RFC3339.0);
    jiff::Timestamp::from_millisecond(time)
        .expect("the year is between 1970 and 9999")
        .to_string()
}
