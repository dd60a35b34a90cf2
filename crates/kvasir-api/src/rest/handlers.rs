//! One function per route. Requests to `/kv/{keypath}` mean one entry, a list (`list=true`) or a
//! watch (`watch=true`).

pub(super) mod atomic;
mod list;
mod trash;
mod watch;

use axum::body::Body;
use axum::extract::{FromRef, FromRequestParts};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use kvasir_auth::{Approach, Verb};
use kvasir_kv::keyspace::ParseKeyspaceNameError;
use kvasir_kv::{Key, KeyspaceName, Mutation};
use utoipa::OpenApi;

use crate::context::{Caller, Ctx};
use crate::databases::Databases;
use crate::error::ApiError;
use crate::query::Query;
use crate::request::RequestInfo;

use super::conditions::{self, Conditions};
use super::description::{Deleted, Put, Stored};
use super::selection::Selection;
use super::{Rested, keypath, wire};

/// What the dialect offers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Kvasir REST", description = "Keys separated by dots, values as JSON."),
    paths(
        get, get_typed, put, put_typed, delete, delete_typed, atomic::commit
    ),
    components(schemas(crate::problem::Problem<'static>))
)]
pub(super) struct ApiDoc;

/// What a request is about.
struct Target {
    /// `None` for the whole database, which only lists can mean.
    key: Option<Key>,
    query: String,
}

/// Header that names another database than the mount's own.
pub(super) const DATABASE: HeaderName = HeaderName::from_static("kvasir-database");

/// The head of a request, understood as far as all methods share it.
pub(super) struct Head {
    /// The mount, on the database that the request is about.
    rested: Rested,
    caller: Caller,
    target: Target,
    info: RequestInfo,
    headers: HeaderMap,
    raw_path: String,
}

impl FromRequestParts<Rested> for Head {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Rested,
    ) -> Result<Head, Self::Rejection> {
        let info = RequestInfo::of(parts)?;
        let caller = caller(state, &info, &parts.headers).await?;
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let key = read_target(&Ctx::from_ref(state), &path, &query)?;
        Ok(Head {
            rested: on_database(state, &caller, &parts.headers).await?,
            caller,
            target: Target { key, query },
            info,
            headers: parts.headers.clone(),
            raw_path: path,
        })
    }
}

/// Who is asking about which database, where the target says nothing.
pub(super) struct Asker {
    pub(super) rested: Rested,
    pub(super) caller: Caller,
}

impl FromRequestParts<Rested> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Rested,
    ) -> Result<Asker, Self::Rejection> {
        let info = RequestInfo::of(parts)?;
        let caller = caller(state, &info, &parts.headers).await?;
        let rested = on_database(state, &caller, &parts.headers).await?;
        Ok(Asker { rested, caller })
    }
}

/// The mount on the database that the header names. As for the Deno dialect, one that is not there
/// comes into being if an administrator asks; to others it looks like one that they may not use.
async fn on_database(
    state: &Rested,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Rested, ApiError> {
    let Some(name) = headers.get(DATABASE) else {
        return Ok(state.clone());
    };
    let name = name.to_str().ok().and_then(|name| name.parse().ok());
    let name: KeyspaceName = name.ok_or_else(|| {
        ApiError::bad_request(format!("the header `{DATABASE}`: {ParseKeyspaceNameError}"))
    })?;
    let ctx = state.ctx.on_keyspace(name);
    let name = ctx.keyspace.name();
    let databases = Databases::new(ctx.system.clone());
    if databases.find(name).await?.is_none()
        && caller.may(&ctx, &ctx.keyspace, Verb::Admin, &Key::default())
    {
        databases.create(name).await?;
    }
    Ok(Rested {
        ctx,
        ..state.clone()
    })
}

/// Who is asking. Web pages of origins that the operator lets in count as programs of this machine.
async fn caller(
    state: &Rested,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    let mut approach = info.approach(headers);
    if approach == Approach::ForeignOrigin && state.cors.allowed(headers).is_some() {
        approach = info.approach(&HeaderMap::new());
    }
    Caller::by(&state.ctx, approach, info, headers).await
}

fn read_target(ctx: &Ctx, path: &str, query: &str) -> Result<Option<Key>, ApiError> {
    match path.strip_prefix(ctx.base.as_str()) {
        None | Some("") => keypath::typed(&Query::parse(query)?),
        Some("/") if ctx.base.is_empty() => keypath::typed(&Query::parse(query)?),
        Some(keypath) => keypath::parse(keypath.strip_prefix('/').unwrap_or(keypath)).map(Some),
    }
}

impl Head {
    /// The key, where the request is about one entry.
    fn key(&self) -> Result<Key, ApiError> {
        match &self.target.key {
            Some(key) if !key.is_empty() => Ok(key.clone()),
            _ => Err(ApiError::bad_request(NO_KEY)),
        }
    }

    /// What a list is below of.
    fn prefix(&self) -> Key {
        self.target.key.clone().unwrap_or_default()
    }

    fn require(&self, ctx: &Ctx, verb: Verb, key: &Key) -> Result<(), ApiError> {
        self.caller.require(ctx, &ctx.keyspace, verb, key)
    }
}

/// `GET /kv/{keypath}`: the value of one entry. The versionstamp travels as the entity tag.
///
/// With `list=true` the entries below the keypath, with `watch=true` the entry now and after every
/// change.
#[utoipa::path(
    get, path = "/kv/{keypath}", tag = "rest",
    params(
        ("keypath" = String, Path, description = "segments separated by dots"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
        ("meta" = Option<bool>, Query, description = "answer the entry, not just its value"),
        ("list" = Option<bool>, Query, description = "answer all entries below the keypath"),
        ("limit" = Option<u32>, Query, minimum = 1, description = "most entries of a list"),
        ("cursor" = Option<String>, Query, description = "the X-KV-Cursor of the answer before"),
        ("reverse" = Option<bool>, Query, description = "from the last entry to the first"),
        ("start" = Option<String>, Query, description = "first keypath of a list"),
        ("end" = Option<String>, Query, description = "keypath before which a list ends"),
        ("values" = Option<bool>, Query, description = "false leaves the values of a list out"),
        ("trash" = Option<bool>, Query, description = "with list: what a DELETE with it would do"),
        ("watch" = Option<bool>, Query, description = "server-sent events"),
    ),
    responses(
        (status = 200, description = "the value, the entry, the list or the events",
            content(
                (serde_json::Value = "application/json"),
                (String = "application/octet-stream"),
                (String = "application/x-ndjson"),
                (serde_json::Value = "text/event-stream"),
            )),
        (status = 304, description = "the entry has the versionstamp of If-None-Match"),
        (status = 400, description = "the key or a parameter is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token does not allow it"),
        (status = 404, description = "no such key"),
        (status = 412, description = "If-Match does not hold"),
        (status = 429, description = "too many requests"),
        (status = 503, description = "overloaded or shutting down"),
    )
)]
pub(super) async fn get(head: Head) -> Result<Response, ApiError> {
    let state = head.rested.clone();
    let query = Query::parse(&head.target.query)?;
    match (query.flag("list", false)?, query.flag("watch", false)?) {
        (true, true) => Err(ApiError::bad_request(
            "a watch follows one key; list=true does not go with watch=true",
        )),
        (true, false) => {
            let selection = Selection::read(head.prefix(), &query)?;
            match query.flag("trash", false)? {
                true => trash::plan(&state, &head, selection).await,
                false => list::list(&state, &head, selection).await,
            }
        }
        (false, true) => watch::watch(&state, &head).await,
        (false, false) => {
            let key = head.key()?;
            let is_meta = query.flag("meta", false)?;
            get_entry(&state.ctx, &head.caller, &key, &head.headers, is_meta).await
        }
    }
}

/// `GET /kv?key=<json>`: as [`get`], with the key as a JSON array of parts.
#[utoipa::path(
    get, path = "/kv", tag = "rest",
    params(
        ("key" = Option<String>, Query, description = "the key as a JSON array of parts"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
        ("meta" = Option<bool>, Query, description = "answer the entry, not just its value"),
        ("list" = Option<bool>, Query, description = "answer all entries below the key"),
        ("limit" = Option<u32>, Query, minimum = 1, description = "most entries of a list"),
        ("cursor" = Option<String>, Query, description = "the X-KV-Cursor of the answer before"),
        ("reverse" = Option<bool>, Query, description = "from the last entry to the first"),
        ("values" = Option<bool>, Query, description = "false leaves the values of a list out"),
        ("trash" = Option<bool>, Query, description = "with list: what a DELETE with it would do"),
        ("watch" = Option<bool>, Query, description = "server-sent events"),
    ),
    responses(
        (status = 200, description = "the value, the entry, the list or the events",
            content(
                (serde_json::Value = "application/json"),
                (String = "application/octet-stream"),
                (String = "application/x-ndjson"),
                (serde_json::Value = "text/event-stream"),
            )),
        (status = 304, description = "the entry has the versionstamp of If-None-Match"),
        (status = 404, description = "no such key"),
    )
)]
#[expect(dead_code, reason = "documents the other path of the same handler")]
async fn get_typed() {}

/// A GET of one entry and nothing else, past the router: what is asked most.
pub(super) async fn get_plain(
    state: &Rested,
    request: &Parts,
    info: &RequestInfo,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    let caller = Caller::of(ctx, info, &request.headers).await?;
    let key = plain_target(ctx, request)?;
    get_entry(ctx, &caller, &key, &request.headers, false).await
}

/// The key of a request without a query.
fn plain_target(ctx: &Ctx, request: &Parts) -> Result<Key, ApiError> {
    let key = read_target(ctx, request.uri.path(), "")?;
    key.filter(|key| !key.is_empty())
        .ok_or_else(|| ApiError::bad_request(NO_KEY))
}

/// The sentence for requests about one entry that name none.
const NO_KEY: &str =
    "name a key: /kv/users.john, or /kv?key=[\"users\",\"john\"]; /kv?list=true lists all";

async fn get_entry(
    ctx: &Ctx,
    caller: &Caller,
    key: &Key,
    headers: &HeaderMap,
    is_meta: bool,
) -> Result<Response, ApiError> {
    caller.require(ctx, &ctx.keyspace, Verb::Read, key)?;
    let conditions = Conditions::read(headers)?;

    let entry = ctx.keyspace.get(key).await?;

    let stamp = entry.as_ref().map(|entry| entry.versionstamp);
    let instead = conditions.instead_of_reading(stamp);
    match (entry, instead) {
        (_, Some(StatusCode::PRECONDITION_FAILED)) => Err(conditions::precondition_failed()),
        (None, _) => Err(ApiError::not_found("no such key")),
        (Some(entry), Some(_)) => Ok(wire::not_modified(&entry)),
        (Some(entry), None) if is_meta => Ok(wire::meta_response(&entry)),
        (Some(entry), None) => Ok(wire::entry_response(&entry, headers)),
    }
}

/// `PUT /kv/{keypath}`: stores `{"value": …, "ttl": …}`.
///
/// Without `ttl`, milliseconds, the entry stays for ever, whatever it had before.
#[utoipa::path(
    put, path = "/kv/{keypath}", tag = "rest",
    params(
        ("keypath" = String, Path, description = "segments separated by dots"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
    ),
    request_body = Put,
    responses(
        (status = 200, description = "stored", body = Stored),
        (status = 400, description = "the key or the body is wrong"),
        (status = 412, description = "If-Match or If-None-Match does not hold"),
        (status = 413, description = "the value is too large"),
        (status = 415, description = "the body is not JSON"),
    )
)]
pub(super) async fn put(head: Head, body: Body) -> Result<Response, ApiError> {
    let key = head.key()?;
    put_entry(&head.rested.ctx, &head.caller, key, &head.headers, body).await
}

/// A PUT of one entry and nothing else, past the router.
pub(super) async fn put_plain(
    state: &Rested,
    request: &Parts,
    body: Body,
    info: &RequestInfo,
) -> Result<Response, ApiError> {
    let ctx = &state.ctx;
    let caller = Caller::of(ctx, info, &request.headers).await?;
    let key = plain_target(ctx, request)?;
    put_entry(ctx, &caller, key, &request.headers, body).await
}

async fn put_entry(
    ctx: &Ctx,
    caller: &Caller,
    key: Key,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require(ctx, &ctx.keyspace, Verb::Write, &key)?;
    crate::body::require_json(headers)?;
    let conditions = Conditions::read(headers)?;
    let limit = wire::put_body_bytes_max(&ctx.limits);
    let body = crate::body::read(headers, body, limit).await?;
    let put = wire::read_put(&body, ctx.clock.now())?;

    let set = Mutation::set_expiring(key.clone(), put.value, put.expires_at);
    let committed = conditions.commit(ctx, &key, set, false).await?;

    Ok(wire::stored_response(
        &key,
        committed.versionstamp,
        put.expires_at,
    ))
}

/// `PUT /kv?key=<json>`: as [`put`], with the key as a JSON array of parts.
#[utoipa::path(
    put, path = "/kv", tag = "rest",
    params(
        ("key" = String, Query, description = "the key as a JSON array of parts"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
    ),
    request_body = Put,
    responses((status = 200, description = "stored", body = Stored))
)]
#[expect(dead_code, reason = "documents the other path of the same handler")]
async fn put_typed() {}

/// `DELETE /kv/{keypath}`: removes one entry, and says whether it was there.
///
/// With `list=true` all entries below the keypath; the whole database takes `all=true` besides. With
/// `trash=true` they stay in the trash for a week, from where an administrator can bring them back.
#[utoipa::path(
    delete, path = "/kv/{keypath}", tag = "rest",
    params(
        ("keypath" = String, Path, description = "segments separated by dots"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
        ("list" = Option<bool>, Query, description = "delete all entries below the keypath"),
        ("trash" = Option<String>, Query, description = "with list: `true` keeps them in the trash; the id of a removal adds to it"),
    ),
    responses(
        (status = 200, description = "it is not there any more", body = Deleted),
        (status = 400, description = "the key is wrong"),
        (status = 409, description = "it does not fit into the trash, or there is none"),
        (status = 412, description = "If-Match does not hold"),
    )
)]
pub(super) async fn delete(head: Head) -> Result<Response, ApiError> {
    let state = head.rested.clone();
    let ctx = &state.ctx;
    let query = Query::parse(&head.target.query)?;
    let conditions = Conditions::read(&head.headers)?;
    if query.flag("list", false)? {
        if head.prefix().is_empty() && !query.flag("all", false)? {
            return Err(ApiError::bad_request(
                "this would delete the whole database; add all=true if that is meant",
            ));
        }
        if conditions != Conditions::default() {
            return Err(ApiError::bad_request(
                "If-Match and If-None-Match do not go with list=true",
            ));
        }
        let selection = Selection::read(head.prefix(), &query)?;
        return match trash::Wish::read(&query)? {
            trash::Wish::Purge => list::delete(&state, &head, selection).await,
            trash::Wish::New => trash::delete(&state, &head, selection, None).await,
            trash::Wish::MoreOf(id) => trash::delete(&state, &head, selection, Some(id)).await,
        };
    }
    let key = head.key()?;
    head.require(ctx, Verb::Delete, &key)?;

    let delete = Mutation::delete(key.clone());
    let committed = conditions.commit(ctx, &key, delete, true).await?;

    let existed = committed.existed == [true];
    Ok(wire::json_response(format!(
        r#"{{"ok":true,"existed":{existed}}}"#
    )))
}

/// `DELETE /kv?key=<json>`: as [`delete`], with the key as a JSON array of parts.
#[utoipa::path(
    delete, path = "/kv", tag = "rest",
    params(
        ("key" = Option<String>, Query, description = "the key as a JSON array of parts"),
        ("Kvasir-Database" = Option<String>, Header, description = "another database than the mount's own"),
        ("list" = Option<bool>, Query, description = "delete all entries below the key"),
        ("trash" = Option<String>, Query, description = "with list: `true` keeps them in the trash; the id of a removal adds to it"),
        ("all" = Option<bool>, Query, description = "with list, without key: the whole database"),
    ),
    responses((status = 200, description = "it is not there any more", body = Deleted))
)]
#[expect(dead_code, reason = "documents the other path of the same handler")]
async fn delete_typed() {}
