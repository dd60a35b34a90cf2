//! `/databases`: the databases that KV Connect clients and tokens know by name.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use kvasir_kv::KeyspaceName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::Ctx;
use crate::databases::{Database, Databases};
use crate::error::ApiError;
use crate::time::rfc3339;

use super::audit::Told;
use super::tokens::Paging;
use super::{Administrator, Body, ok};

/// One database.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInfo {
    name: String,
    id: String,
    created_at: String,
}

/// One page of databases.
#[derive(Serialize, ToSchema)]
pub struct DatabasePage {
    databases: Vec<DatabaseInfo>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// What a new database is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatabase {
    /// 1 to 63 of `a-z 0-9 - _`, beginning with a letter or digit.
    name: String,
}

impl From<Database> for DatabaseInfo {
    fn from(database: Database) -> Self {
        DatabaseInfo {
            name: database.name.to_string(),
            id: database.id.to_string(),
            created_at: rfc3339(database.created_at),
        }
    }
}

/// `GET /_/api/v1/databases`: the databases in the order of their names.
#[utoipa::path(
    get, path = "/_/api/v1/databases", tag = "admin",
    responses((status = 200, description = "one page", body = DatabasePage))
)]
pub(super) async fn list(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Paging { cursor, limit } = Paging::read(query.as_deref())?;
    let databases = Databases::new(ctx.system.clone());
    let (page, cursor) = databases.list(cursor, limit).await?;
    Ok(ok(DatabasePage {
        databases: page.into_iter().map(DatabaseInfo::from).collect(),
        cursor: cursor.map(|cursor| cursor.to_string()),
    }))
}

/// `POST /_/api/v1/databases`: makes a database. 201 if it is new, 200 if it was there.
#[utoipa::path(
    post, path = "/_/api/v1/databases", tag = "admin", request_body = NewDatabase,
    responses(
        (status = 201, description = "it was made", body = DatabaseInfo),
        (status = 200, description = "it was there", body = DatabaseInfo),
    )
)]
pub(super) async fn create(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Body(new): Body<NewDatabase>,
) -> Result<Response, ApiError> {
    let name = parse_name(&new.name)?;
    let databases = Databases::new(ctx.system.clone());
    let (database, is_new) = databases.create(&name).await?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let response = (status, ok(DatabaseInfo::from(database))).into_response();
    Ok(Told::on(name.as_str()).with(response))
}

/// `DELETE /_/api/v1/databases/{name}`: takes a name off the list. The data stays as it is.
#[utoipa::path(
    delete, path = "/_/api/v1/databases/{name}", tag = "admin",
    params(("name" = String, Path, description = "the name")),
    responses(
        (status = 204, description = "it is not on the list any more"),
        (status = 404, description = "it was not on it", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn forget(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let name = parse_name(&name)?;
    let databases = Databases::new(ctx.system.clone());
    match databases.forget(&name).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(ApiError::not_found("no such database")),
    }
}

fn parse_name(name: &str) -> Result<KeyspaceName, ApiError> {
    let name = name.parse();
    name.map_err(|error| ApiError::bad_request(format!("the name of a database: {error}")))
}
