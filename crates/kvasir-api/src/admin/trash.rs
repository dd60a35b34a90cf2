//! `/trash`: what was removed below a prefix, for a week.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /trash` | removals, the oldest first, and how full the trash is |
//! | `GET /trash/{id}?cursor=&limit=` | a page of the entries of a removal |
//! | `POST /trash/{id}/restore` | `{"conflict", "dryRun", "cursor"}`: brings some back; ask again while there is a cursor |
//! | `DELETE /trash/{id}` | removes some for good: `{"removed", "more"}`; ask again while there are more |
//!
//! Entries get in by the REST dialect, `DELETE /kv/…?list=true&trash=true`.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::time::rfc3339;
use crate::trash::{BYTES_MAX, Conflict, ENTRIES_MAX, Kept, Refusal, Removal, Trash};
use crate::v8json;

use super::audit::Told;
use super::tokens::Paging;
use super::{Administrator, Body, ok};

/// About how many entries one request brings back or removes.
const ENTRIES_AT_ONCE: u64 = 5_000;

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/trash", get(list))
        .route("/trash/{id}", get(show).delete(empty))
        .route("/trash/{id}/restore", post(restore))
}

/// All that can be brought back.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrashInfo {
    removals: Vec<RemovalInfo>,
    /// Entries in the trash.
    entries: u64,
    /// Bytes of their keys, values and meta.
    bytes: u64,
    /// Most entries that fit.
    entries_max: u64,
    /// Most bytes that fit.
    bytes_max: u64,
}

/// What was taken away together.
#[derive(Serialize, ToSchema)]
pub struct RemovalInfo {
    id: String,
    /// Where it was.
    keyspace: String,
    /// Below what: typed parts, as in exports.
    #[schema(value_type = Vec<serde_json::Value>)]
    prefix: Json,
    /// Who took it away.
    by: String,
    at: String,
    /// When the trash lets go of it.
    until: String,
    /// What is left of it; entries that expired meanwhile still count.
    entries: u64,
    bytes: u64,
}

impl From<&Removal> for RemovalInfo {
    fn from(removal: &Removal) -> RemovalInfo {
        RemovalInfo {
            id: removal.id.clone(),
            keyspace: removal.keyspace.to_string(),
            prefix: v8json::key::to_typed(&removal.prefix),
            by: removal.by.clone(),
            at: rfc3339(removal.at),
            until: rfc3339(removal.until),
            entries: removal.left.entries,
            bytes: removal.left.bytes,
        }
    }
}

/// One page of a removal, in the order of its keys.
#[derive(Serialize, ToSchema)]
pub struct TrashPage {
    entries: Vec<KeptInfo>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// An entry in the trash, without its value.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptInfo {
    /// Typed parts, as in exports.
    #[schema(value_type = Vec<serde_json::Value>)]
    key: Json,
    /// `json`, `v8`, `u64` or `bytes`.
    encoding: &'static str,
    /// Size of the value.
    bytes: usize,
    /// The version that was taken away.
    versionstamp: String,
    /// When it would have expired, in milliseconds since 1970.
    expires_at: Option<i64>,
}

impl From<&Kept> for KeptInfo {
    fn from(kept: &Kept) -> KeptInfo {
        KeptInfo {
            key: v8json::key::to_typed(&kept.key),
            encoding: kept.encoding.name(),
            bytes: kept.value_bytes,
            versionstamp: kept.versionstamp.to_string(),
            expires_at: kept.expires_at.map(|at| at.0),
        }
    }
}

/// What to do with keys that hold something again.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Leaves them alone, and the entry in the trash.
    Skip,
    /// Writes over them.
    Replace,
    /// Brings nothing back and answers 409.
    #[default]
    Fail,
}

/// How to bring a removal back.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restore {
    #[serde(default)]
    conflict: OnConflict,
    /// Bring nothing back, and say what would be.
    #[serde(default)]
    dry_run: bool,
    /// Where the answer before ended.
    #[serde(default)]
    cursor: Option<String>,
}

/// What came back.
#[derive(Serialize, ToSchema)]
pub struct RestoreInfo {
    /// Entries that are back; with `dryRun`, that would be.
    restored: u64,
    /// Entries whose key holds something: with `skip` they stay in the trash, with `dryRun` they are
    /// the conflicts.
    kept: u64,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// How an emptying goes on.
#[derive(Serialize, ToSchema)]
pub struct TrashEmptied {
    /// Entries that are gone for good by this request.
    removed: u64,
    /// Whether there are more: ask again.
    more: bool,
}

fn trash(ctx: &Ctx) -> Trash {
    Trash::new(ctx.system.clone())
}

async fn named(trash: &Trash, id: &str) -> Result<Removal, ApiError> {
    let removal = trash.removal(id).await?;
    removal.ok_or_else(|| ApiError::not_found("the trash holds no such removal"))
}

/// `GET /_/api/v1/trash`: all removals, the oldest first.
#[utoipa::path(
    get, path = "/_/api/v1/trash", tag = "admin",
    responses((status = 200, description = "what can be brought back", body = TrashInfo))
)]
pub(super) async fn list(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
) -> Result<Response, ApiError> {
    let removals = trash(&ctx).removals().await?;
    Ok(ok(TrashInfo {
        entries: removals.iter().map(|removal| removal.left.entries).sum(),
        bytes: removals.iter().map(|removal| removal.left.bytes).sum(),
        entries_max: ENTRIES_MAX,
        bytes_max: BYTES_MAX,
        removals: removals.iter().map(RemovalInfo::from).collect(),
    }))
}

/// `GET /_/api/v1/trash/{id}`: a page of the entries of a removal.
#[utoipa::path(
    get, path = "/_/api/v1/trash/{id}", tag = "admin",
    params(
        ("id" = String, Path, description = "the removal"),
        ("cursor" = Option<String>, Query, description = "where the page before ended"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, 100 if left out"),
    ),
    responses(
        (status = 200, description = "one page", body = TrashPage),
        (status = 404, description = "there is no such removal", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn show(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Paging { cursor, limit } = Paging::read(query.as_deref())?;
    let trash = trash(&ctx);
    let removal = named(&trash, &id).await?;
    let (entries, cursor) = trash.entries(&removal.id, cursor, limit).await?;
    Ok(ok(TrashPage {
        entries: entries.iter().map(KeptInfo::from).collect(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    }))
}

/// `POST /_/api/v1/trash/{id}/restore`: brings up to about 5,000 entries back, with value, encoding,
/// expiry and time of creation, and a new versionstamp. What has expired does not come back.
#[utoipa::path(
    post, path = "/_/api/v1/trash/{id}/restore", tag = "admin", request_body = Restore,
    params(("id" = String, Path, description = "the removal")),
    responses(
        (status = 200, description = "some are back", body = RestoreInfo),
        (status = 404, description = "there is no such removal", body = crate::problem::Problem<'static>),
        (status = 409, description = "keys hold something again, and `conflict` is `fail`", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn restore(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(id): Path<String>,
    Body(asked): Body<Restore>,
) -> Result<Response, ApiError> {
    let trash = trash(&ctx);
    let removal = named(&trash, &id).await?;
    if asked.dry_run {
        let (all, occupied) = trash.foresee(&removal).await?;
        let restored = match asked.conflict {
            OnConflict::Replace => all,
            OnConflict::Skip => all - occupied,
            OnConflict::Fail if occupied > 0 => 0,
            OnConflict::Fail => all,
        };
        return Ok(Told::nothing().with(ok(RestoreInfo {
            restored,
            kept: occupied,
            cursor: None,
        })));
    }
    let cursor = asked.cursor.map(|text| text.parse()).transpose();
    let cursor = cursor.map_err(|_| ApiError::bad_request("`cursor` is none of this route"))?;
    let conflict = match asked.conflict {
        OnConflict::Skip => Conflict::Skip,
        OnConflict::Replace => Conflict::Replace,
        OnConflict::Fail => Conflict::Fail,
    };
    let done = trash.restore(&removal, conflict, cursor, ENTRIES_AT_ONCE);
    let done = done.await.map_err(refused)?;
    let told = Told::run(id, done.restored);
    Ok(told.with(ok(RestoreInfo {
        restored: done.restored,
        kept: done.kept,
        cursor: done.cursor.map(|cursor| cursor.to_string()),
    })))
}

/// `DELETE /_/api/v1/trash/{id}`: removes up to about 5,000 entries for good, and with the last of them
/// the removal.
#[utoipa::path(
    delete, path = "/_/api/v1/trash/{id}", tag = "admin",
    params(("id" = String, Path, description = "the removal")),
    responses(
        (status = 200, description = "some are gone", body = TrashEmptied),
        (status = 404, description = "there is no such removal", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn empty(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let trash = trash(&ctx);
    let removal = named(&trash, &id).await?;
    let (removed, more) = trash
        .empty(&removal.id, ENTRIES_AT_ONCE)
        .await
        .map_err(refused)?;
    let told = Told::run(id, removed);
    Ok(told.with(ok(TrashEmptied { removed, more })))
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Store(error) => error.into(),
        Refusal::Occupied(count) => ApiError::new(
            StatusCode::CONFLICT,
            "occupied",
            format!("{count} keys hold something again; choose `skip` or `replace`"),
        ),
        Refusal::Busy | Refusal::Full(_) => ApiError::new(
            StatusCode::CONFLICT,
            "conflict",
            "somebody else restores or empties the same removal, try again",
        ),
    }
}
