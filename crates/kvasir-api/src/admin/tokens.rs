//! `/tokens` and `/whoami`: making, listing, revoking and explaining tokens.

use std::net::IpAddr;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kvasir_auth::network::SOURCES_MAX;
use kvasir_auth::principal::Ask;
use kvasir_auth::{Grant, Issued, Network, NewToken, Sources, TokenId, Verb, Verbs};
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Key, KeyspaceName, UnixMillis};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::key_json;
use crate::query::Query;
use crate::time::{parse_rfc3339, rfc3339};

use super::audit::Told;
use super::{Administrator, Body, ok};

/// Names that a grant may be limited to.
const DIALECTS: [&str; 7] = [
    "accounts",
    "admin",
    "classworks",
    "deno",
    "edgekv",
    "kopano",
    "rest",
];

/// Longest name of a token, in characters.
const NAME_CHARS_MAX: usize = 100;

/// Most grants of one token.
const GRANTS_MAX: usize = 64;

/// Entries of a page unless asked otherwise, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// `cursor` and `limit` of a list.
pub(super) struct Paging {
    pub(super) cursor: Option<Cursor>,
    pub(super) limit: usize,
}

impl Paging {
    pub(super) fn read(query: Option<&str>) -> Result<Paging, ApiError> {
        let query = Query::parse(query.unwrap_or_default())?;
        let what = "an integer from 1 to 1000";
        let limit = query.parsed("limit", what)?.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::bad_request(format!(
                "the query parameter `limit` must be {what}"
            )));
        }
        Ok(Paging {
            cursor: query.parsed("cursor", "the cursor of an earlier answer")?,
            limit,
        })
    }
}

/// One permission.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantInfo {
    /// Names of dialects; empty for all.
    #[serde(default)]
    dialects: Vec<String>,
    /// A keyspace; `null` for all.
    #[serde(default)]
    keyspace: Option<String>,
    /// The key, as an array of parts, at and below which it holds; empty for all keys.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>)]
    prefix: Json,
    /// Some of `read`, `write`, `delete`, `admin`.
    verbs: Vec<String>,
    /// When it ends, as RFC 3339.
    #[serde(default)]
    expires_at: Option<String>,
}

/// What is known about a token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    id: String,
    name: String,
    /// `valid`, `revoked` or `expired`.
    state: &'static str,
    grants: Vec<GrantInfo>,
    /// Networks from which it may be used; empty for anywhere.
    sources: Vec<String>,
    created_at: String,
    created_by: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    /// When it was used last. Other servers over the same store tell of it within a minute.
    last_used_at: Option<String>,
    /// The address it was used from then.
    last_used_from: Option<String>,
}

/// A new token. The only answer that ever holds its text.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    /// The token itself. It is shown this once.
    token: String,
    #[serde(flatten)]
    info: TokenInfo,
}

/// One page of tokens.
#[derive(Serialize, ToSchema)]
pub struct TokenPage {
    tokens: Vec<TokenInfo>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// What a new token is made of.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// What people call it.
    name: String,
    grants: Vec<GrantInfo>,
    /// Addresses and networks from which it may be used, such as `192.0.2.7`, `10.0.0.0/8` or
    /// `2001:db8::/32`, 32 at most; empty for anywhere.
    #[serde(default)]
    sources: Vec<String>,
    /// When it ends, as RFC 3339.
    #[serde(default)]
    expires_at: Option<String>,
    /// In how many seconds it ends, instead of `expiresAt`.
    #[serde(default)]
    ttl_seconds: Option<u32>,
}

/// What a request would ask of a token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The id of a token, or the token itself.
    token: String,
    /// The dialect it comes through.
    dialect: String,
    /// The keyspace it touches.
    keyspace: String,
    /// The key, as an array of parts, or the common prefix of all keys.
    #[schema(value_type = Vec<serde_json::Value>)]
    key: Json,
    /// `read`, `write`, `delete` or `admin`.
    verb: String,
    /// The address it comes from; left out, that is not looked at.
    #[serde(default)]
    from: Option<String>,
}

/// Why a request is allowed or not.
#[derive(Serialize, ToSchema)]
pub struct Explanation {
    allowed: bool,
    /// One sentence.
    reason: String,
    grants: Vec<ExplainedGrant>,
}

/// What one grant has to do with it.
#[derive(Serialize, ToSchema)]
pub struct ExplainedGrant {
    grant: GrantInfo,
    /// Why it does not cover the request; `null` if it does.
    mismatch: Option<&'static str>,
}

/// Who a token belongs to.
#[derive(Serialize, ToSchema)]
pub struct WhoAmI {
    /// `local` without a token, `process` for the server's own one, else the id of the token.
    id: String,
    grants: Vec<GrantInfo>,
}

impl From<&Grant> for GrantInfo {
    fn from(grant: &Grant) -> Self {
        GrantInfo {
            dialects: grant.dialects.clone(),
            keyspace: grant.keyspace.as_ref().map(ToString::to_string),
            prefix: prefix_json(&grant.prefix),
            verbs: grant.verbs.iter().map(|v| v.name().to_owned()).collect(),
            expires_at: grant.expires_at.map(rfc3339),
        }
    }
}

/// Prefixes come from arrays of parts, so they are always tuples.
fn prefix_json(prefix: &Key) -> Json {
    let mut text = Vec::new();
    key_json::write(&prefix.parts().unwrap_or_default(), &mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

impl GrantInfo {
    fn read(&self, index: usize) -> Result<Grant, ApiError> {
        let wrong = |member: &str, what: String| {
            ApiError::bad_request(format!("`grants[{index}].{member}`: {what}"))
        };
        let unknown = |name: &&String| !DIALECTS.contains(&name.as_str());
        if let Some(name) = self.dialects.iter().find(unknown) {
            let known = DIALECTS.join(", ");
            return Err(wrong("dialects", format!("{name:?} is none of {known}")));
        }
        let keyspace = self.keyspace.as_deref().map(str::parse::<KeyspaceName>);
        let keyspace = keyspace
            .transpose()
            .map_err(|error| wrong("keyspace", error.to_string()))?;
        let prefix = match &self.prefix {
            Json::Null => Ok(Key::default()),
            json => key_json::read(json),
        };
        let verbs = self.verbs.iter().map(|name| {
            Verb::from_name(name).ok_or_else(|| {
                wrong(
                    "verbs",
                    format!("{name:?} is none of read, write, delete, admin"),
                )
            })
        });
        let verbs = verbs.collect::<Result<Verbs, _>>()?;
        if verbs.iter().next().is_none() {
            return Err(wrong("verbs", "name at least one verb".to_owned()));
        }
        let expires_at = self.expires_at.as_deref().map(read_time).transpose();
        Ok(Grant {
            dialects: self.dialects.clone(),
            keyspace,
            prefix: prefix.map_err(|error| wrong("prefix", error.to_string()))?,
            verbs,
            expires_at: expires_at.map_err(|what| wrong("expiresAt", what))?,
        })
    }
}

fn read_time(text: &str) -> Result<UnixMillis, String> {
    parse_rfc3339(text).ok_or_else(|| "it must be a time such as 2026-01-02T03:04:05Z".to_owned())
}

impl TokenInfo {
    fn of(issued: &Issued, now: UnixMillis) -> TokenInfo {
        let state = match (issued.revoked_at, issued.is_valid(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "valid",
            (None, false) => "expired",
        };
        TokenInfo {
            id: issued.id.to_string(),
            name: issued.name.clone(),
            state,
            grants: issued.grants.iter().map(GrantInfo::from).collect(),
            sources: texts(&issued.sources),
            created_at: rfc3339(issued.created_at),
            created_by: issued.created_by.clone(),
            expires_at: issued.expires_at.map(rfc3339),
            revoked_at: issued.revoked_at.map(rfc3339),
            last_used_at: issued.last_use.map(|used| rfc3339(used.at)),
            last_used_from: issued.last_use.map(|used| used.from.to_string()),
        }
    }
}

fn texts(sources: &Sources) -> Vec<String> {
    let networks = sources.networks().iter();
    networks.map(ToString::to_string).collect()
}

fn read_sources(sources: &[String]) -> Result<Sources, ApiError> {
    if sources.len() > SOURCES_MAX {
        return Err(ApiError::bad_request(format!(
            "`sources` must be at most {SOURCES_MAX} networks"
        )));
    }
    let sources = sources.iter().enumerate();
    let networks = sources.map(|(index, text)| {
        let network = text.parse::<Network>();
        network.map_err(|error| ApiError::bad_request(format!("`sources[{index}]`: {error}")))
    });
    networks.collect()
}

impl TokenRequest {
    fn read(&self, created_by: &str, now: UnixMillis) -> Result<NewToken, ApiError> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(ApiError::bad_request(format!(
                "`name` must have 1 to {NAME_CHARS_MAX} characters"
            )));
        }
        if self.grants.is_empty() || self.grants.len() > GRANTS_MAX {
            return Err(ApiError::bad_request(format!(
                "`grants` must be 1 to {GRANTS_MAX} grants"
            )));
        }
        let grants = self.grants.iter().enumerate();
        let grants = grants.map(|(index, grant)| grant.read(index));
        let expires_at = match (&self.expires_at, self.ttl_seconds) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request(
                    "give `expiresAt` or `ttlSeconds`, not both",
                ));
            }
            (Some(text), None) => Some(
                read_time(text)
                    .map_err(|what| ApiError::bad_request(format!("`expiresAt`: {what}")))?,
            ),
            (None, Some(seconds)) => now.checked_add_ms(i64::from(seconds) * 1_000),
            (None, None) => None,
        };
        if expires_at.is_some_and(|at| at <= now) {
            return Err(ApiError::bad_request(
                "the token would have expired already",
            ));
        }
        Ok(NewToken {
            name: name.to_owned(),
            grants: grants.collect::<Result<_, _>>()?,
            sources: read_sources(&self.sources)?,
            expires_at,
            created_by: created_by.to_owned(),
        })
    }
}

/// `GET /_/api/v1/whoami`: what the caller's own token is and allows. Every valid token may ask.
#[utoipa::path(
    get, path = "/_/api/v1/whoami", tag = "admin",
    responses((status = 200, description = "the caller", body = WhoAmI))
)]
pub(super) async fn whoami(caller: Caller) -> Result<Response, ApiError> {
    let principal = caller.principal();
    Ok(ok(WhoAmI {
        id: principal.id().to_owned(),
        grants: principal.grants().iter().map(GrantInfo::from).collect(),
    }))
}

/// `POST /_/api/v1/tokens`: makes a token. The answer is the only place where its text is shown.
#[utoipa::path(
    post, path = "/_/api/v1/tokens", tag = "admin", request_body = TokenRequest,
    responses(
        (status = 201, description = "the token", body = CreatedToken),
        (status = 400, description = "what is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn create(
    State(ctx): State<Ctx>,
    Administrator(caller): Administrator,
    Body(request): Body<TokenRequest>,
) -> Result<Response, ApiError> {
    let now = ctx.clock.now();
    let new = request.read(caller.principal().id(), now)?;
    let (issued, text) = ctx.access.issue(new).await?;
    let created = CreatedToken {
        token: text.expose_secret().to_owned(),
        info: TokenInfo::of(&issued, now),
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let response = (StatusCode::CREATED, no_store, ok(created)).into_response();
    Ok(Told::on(label(&issued)).with(response))
}

/// `GET /_/api/v1/tokens`: all tokens in the order of their ids, revoked and expired ones included.
#[utoipa::path(
    get, path = "/_/api/v1/tokens", tag = "admin",
    responses((status = 200, description = "one page", body = TokenPage))
)]
pub(super) async fn list(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Paging { cursor, limit } = Paging::read(query.as_deref())?;
    let (tokens, cursor) = ctx.access.list(cursor, limit).await?;
    let now = ctx.clock.now();
    Ok(ok(TokenPage {
        tokens: tokens.iter().map(|t| TokenInfo::of(t, now)).collect(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    }))
}

/// `GET /_/api/v1/tokens/{id}`: one token.
#[utoipa::path(
    get, path = "/_/api/v1/tokens/{id}", tag = "admin",
    params(("id" = String, Path, description = "the id of a token")),
    responses(
        (status = 200, description = "the token", body = TokenInfo),
        (status = 404, description = "no such token", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn show(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = match id.parse::<TokenId>() {
        Ok(id) => ctx.access.find(id).await?,
        Err(_) => None,
    };
    let issued = found.ok_or_else(no_such_token)?;
    Ok(ok(TokenInfo::of(&issued, ctx.clock.now())))
}

/// A token as people recognise it.
fn label(issued: &Issued) -> String {
    format!("{} ({})", issued.id, issued.name)
}

fn no_such_token() -> ApiError {
    ApiError::not_found("no such token")
}

/// `DELETE /_/api/v1/tokens/{id}`: ends a token at once, on all nodes.
///
/// Its record stays, so that the server stays closed; with `forget=true` the record goes too, and
/// with the last one the server is open on loopback again.
#[utoipa::path(
    delete, path = "/_/api/v1/tokens/{id}", tag = "admin",
    params(
        ("id" = String, Path, description = "the id of a token"),
        ("forget" = Option<bool>, Query, description = "remove its record too"),
    ),
    responses(
        (status = 200, description = "the revoked token", body = TokenInfo),
        (status = 204, description = "the record is gone"),
        (status = 404, description = "no such token", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn revoke(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let id: TokenId = id.parse().map_err(|_| no_such_token())?;
    if query.flag("forget", false)? {
        return match ctx.access.forget(id).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(no_such_token()),
        };
    }
    let revoked = ctx.access.revoke(id).await?;
    let revoked = revoked.ok_or_else(no_such_token)?;
    let response = ok(TokenInfo::of(&revoked, ctx.clock.now()));
    Ok(Told::on(label(&revoked)).with(response))
}

/// `POST /_/api/v1/tokens/explain`: whether a token allows a request, and why.
#[utoipa::path(
    post, path = "/_/api/v1/tokens/explain", tag = "admin", request_body = ExplainRequest,
    responses((status = 200, description = "why", body = Explanation))
)]
pub(super) async fn explain(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Body(request): Body<ExplainRequest>,
) -> Result<Response, ApiError> {
    let wrong = |member: &str, what: String| ApiError::bad_request(format!("`{member}`: {what}"));
    let keyspace: KeyspaceName = request.keyspace.parse().map_err(
        |error: kvasir_kv::keyspace::ParseKeyspaceNameError| wrong("keyspace", error.to_string()),
    )?;
    let key = key_json::read(&request.key).map_err(|error| wrong("key", error.to_string()))?;
    let verb = Verb::from_name(&request.verb)
        .ok_or_else(|| wrong("verb", "it must be read, write, delete or admin".to_owned()))?;
    let from = request.from.as_deref().map(|from| {
        let address = from.trim().parse::<IpAddr>();
        address.map_err(|_| wrong("from", "write an address such as 192.0.2.7".to_owned()))
    });
    let from = from.transpose()?;
    let now = ctx.clock.now();
    let ask = Ask {
        dialect: &request.dialect,
        keyspace: &keyspace,
        key: &key,
        verb,
        now,
    };
    let issued = match request.token.parse() {
        Ok(id) => ctx.access.find(id).await?,
        Err(_) => ctx.access.find_by_text(&request.token).await?,
    };
    Ok(ok(explanation(issued.as_ref(), &ask, from)))
}

fn explanation(issued: Option<&Issued>, ask: &Ask<'_>, from: Option<IpAddr>) -> Explanation {
    let no = |reason: &str| Explanation {
        allowed: false,
        reason: reason.to_owned(),
        grants: Vec::new(),
    };
    let Some(issued) = issued else {
        return no("there is no such token, or its text was altered");
    };
    if issued.revoked_at.is_some() {
        return no("the token is revoked");
    }
    if !issued.is_valid(ask.now) {
        return no("the token has expired");
    }
    if let Some(from) = from
        && !issued.sources.admit(from)
    {
        let networks = texts(&issued.sources).join(", ");
        return no(&format!(
            "the token may be used from {networks} only, and {from} is not among them"
        ));
    }
    let grants: Vec<ExplainedGrant> = issued
        .grants
        .iter()
        .map(|grant| ExplainedGrant {
            grant: grant.into(),
            mismatch: grant.mismatch(ask).map(kvasir_auth::Mismatch::sentence),
        })
        .collect();
    let allowed = grants.iter().any(|grant| grant.mismatch.is_none());
    let reason = match allowed {
        true => "a grant of the token covers the request",
        false => "no grant of the token covers the request",
    };
    let reason = match (allowed, from, texts(&issued.sources)) {
        (true, None, networks) if !networks.is_empty() => {
            format!("{reason}, if it comes from {}", networks.join(", "))
        }
        _ => reason.to_owned(),
    };
    Explanation {
        allowed,
        reason,
        grants,
    }
}
