//! `.../groups/{group}/items/{item}`, for administrators.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};

use crate::edgekv::database::Database;
use crate::edgekv::error;
use crate::edgekv::items::ItemWrite;
use crate::edgekv::wire::names::{Named, NamedPath, Realm};
use crate::edgekv::wire::{self, Query, read_item};
use crate::error::ApiError;

/// `GET .../items/{item}`: the value, byte for byte.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("item" = String, Path, description = "name of the item"),
        ("sandboxId" = Option<String>, Query, description = "a sandbox of the staging network"),
    ),
    responses(
        (status = 200, description = "the value", body = String, content_type = "text/plain"),
    )
)]
pub(in crate::edgekv) async fn read(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let realm = path.realm(path.network()?, &query)?;
    path.check_item()?;
    read_in(&database, &path, &realm, &query).await
}

/// `PUT .../items/{item}`: 200 with a sentence, for a new item as well.
#[utoipa::path(
    put, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("item" = String, Path, description = "name of the item"),
        ("sandboxId" = Option<String>, Query, description = "a sandbox of the staging network"),
    ),
    request_body(content = String, content_type = "text/plain", description = "the value, text or JSON"),
    responses(
        (status = 200, description = "a sentence", body = String, content_type = "text/plain"),
    )
)]
pub(in crate::edgekv) async fn write(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let realm = path.realm(path.network()?, &Query::of(&uri))?;
    path.check_item()?;
    write_in(&database, &path, &realm, &headers, body).await
}

/// `DELETE .../items/{item}`: 200 with a sentence, also if there was nothing.
#[utoipa::path(
    delete, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("item" = String, Path, description = "name of the item"),
        ("sandboxId" = Option<String>, Query, description = "a sandbox of the staging network"),
    ),
    responses(
        (status = 200, description = "a sentence", body = String, content_type = "text/plain"),
    )
)]
pub(in crate::edgekv) async fn delete(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let realm = path.realm(path.network()?, &Query::of(&uri))?;
    path.check_item()?;
    delete_in(&database, &path, &realm).await
}

/// Reads an item of a realm whose caller may.
pub(super) async fn read_in(
    database: &Database,
    path: &NamedPath,
    realm: &Realm,
    query: &Query<'_>,
) -> Result<Response, ApiError> {
    database.namespace(realm.network, &realm.namespace).await?;
    let mut found = database.item(realm, &path.group, &path.item).await?;
    if found.is_none() && realm.sandbox.is_some() && query.is_on("sandboxFallback") {
        let plain = realm.without_sandbox();
        found = database.item(&plain, &path.group, &path.item).await?;
    }
    let value = found.ok_or_else(|| error::no_item(&path.item, &path.group))?;
    Ok(wire::text(value))
}

/// Writes an item of a realm whose caller may.
pub(super) async fn write_in(
    database: &Database,
    path: &NamedPath,
    realm: &Realm,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let value = read_item(headers, body, database.value_bytes_max()).await?;
    let write = ItemWrite {
        group: path.group.clone(),
        item: path.item.clone(),
        value,
    };
    database.upsert(realm, &write).await?;
    let constants = database.require(StatusCode::NOT_FOUND).await?;
    Ok(wire::text(format!(
        "Item was upserted in KV store with database {}, namespace {}, group {}, and key {}.",
        constants.cpcode, realm.namespace, path.group, path.item
    )))
}

/// Removes an item of a realm whose caller may.
pub(super) async fn delete_in(
    database: &Database,
    path: &NamedPath,
    realm: &Realm,
) -> Result<Response, ApiError> {
    database.remove(realm, &path.group, &path.item).await?;
    let constants = database.require(StatusCode::NOT_FOUND).await?;
    // The grammar is the original's.
    Ok(wire::text(format!(
        "Item was delete in KV store with database {} namespace {} group {} key {}.",
        constants.cpcode, realm.namespace, path.group, path.item
    )))
}
