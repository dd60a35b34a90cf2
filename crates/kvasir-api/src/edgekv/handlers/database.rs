//! `/initialize` and `/auth`: the database, its policy, and permission groups.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::edgekv::database::Database;
use crate::edgekv::error;
use crate::edgekv::wire::names::{Named, NamedPath, Network};
use crate::edgekv::wire::namespace::{DatabaseBody, ReauthorizeBody, StatusView};
use crate::edgekv::wire::{self, read_object, read_optional_object};
use crate::error::ApiError;

/// `PUT /initialize`: 201, the first time and every later time: clients call it before each create and
/// take nothing else for success.
#[utoipa::path(
    put, path = "/edgekv/v1/initialize", tag = "edgekv",
    request_body(content = DatabaseBody, content_type = "application/json"),
    responses(
        (status = 201, description = "the database is there", body = StatusView<'static>),
    )
)]
pub(in crate::edgekv) async fn initialize(
    State(database): State<Database>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body: Option<DatabaseBody> = read_optional_object(&headers, body).await?;
    let policy = body.unwrap_or_default().policy()?;
    database.initialize(policy).await?;
    status_answer(&database, StatusCode::CREATED).await
}

/// `GET /initialize`: 404 with the same object before initialisation.
#[utoipa::path(
    get, path = "/edgekv/v1/initialize", tag = "edgekv",
    responses(
        (status = 200, description = "the database", body = StatusView<'static>),
        (status = 404, description = "it is not initialized", body = StatusView<'static>),
    )
)]
pub(in crate::edgekv) async fn status(
    State(database): State<Database>,
) -> Result<Response, ApiError> {
    status_answer(&database, StatusCode::OK).await
}

async fn status_answer(database: &Database, found: StatusCode) -> Result<Response, ApiError> {
    Ok(match database.status().await? {
        Some(status) => wire::json(
            found,
            &StatusView::initialized(&status.cpcode, status.policy),
        ),
        None => wire::json(StatusCode::NOT_FOUND, &StatusView::uninitialized()),
    })
}

/// `PUT /auth/database`: the policy of namespaces that are created from now on.
#[utoipa::path(
    put, path = "/edgekv/v1/auth/database", tag = "edgekv",
    request_body(content = DatabaseBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the database", body = StatusView<'static>),
    )
)]
pub(in crate::edgekv) async fn set_policy(
    State(database): State<Database>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body: DatabaseBody = read_object(&headers, body).await?;
    let policy = body.policy()?;
    let policy = policy.ok_or_else(|| error::invalid("dataAccessPolicy must be specified."))?;
    database.set_policy(policy).await?;
    status_answer(&database, StatusCode::OK).await
}

/// `PUT /auth/namespaces/{namespace}`: moves a namespace to another permission group, on every network
/// that has it.
#[utoipa::path(
    put, path = "/edgekv/v1/auth/namespaces/{namespace}", tag = "edgekv",
    params(
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    request_body(content = ReauthorizeBody, content_type = "application/json"),
    responses(
        (status = 200, description = "what it is now", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn reauthorize(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body: ReauthorizeBody = read_object(&headers, body).await?;
    let group_id = body.group_id()?;
    let mut is_known = false;
    for network in Network::ALL {
        let changed = database.change_namespace(network, &path.namespace, |record| {
            record.group_id = Some(group_id);
            Ok(())
        });
        is_known |= changed.await?.is_some();
    }
    if !is_known {
        return Err(error::no_capability("AUTHORIZE_NAMESPACE"));
    }
    Ok(wire::json(StatusCode::OK, &json!({"groupId": group_id})))
}

/// `GET /auth/groups`: the permission groups, which are 0 and whatever namespaces were given.
#[utoipa::path(
    get, path = "/edgekv/v1/auth/groups", tag = "edgekv",
    responses(
        (status = 200, description = "the permission groups", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn groups(
    State(database): State<Database>,
) -> Result<Response, ApiError> {
    let ids = group_ids(&database).await?;
    let groups: Vec<_> = ids.into_iter().map(group).collect();
    Ok(wire::json(StatusCode::OK, &json!({"groups": groups})))
}

/// The parameter of [`one_group`].
#[derive(Deserialize)]
pub(in crate::edgekv) struct GroupIdPath {
    id: String,
}

/// `GET /auth/groups/{id}`: one of them.
#[utoipa::path(
    get, path = "/edgekv/v1/auth/groups/{id}", tag = "edgekv",
    params(
        ("id" = u64, Path, description = "id of the group"),
    ),
    responses(
        (status = 200, description = "the permission group", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn one_group(
    State(database): State<Database>,
    Named(path): Named<GroupIdPath>,
) -> Result<Response, ApiError> {
    let id: u64 = path
        .id
        .parse()
        .map_err(|_| error::invalid("The id of a group must be an integer from 0 on."))?;
    if !group_ids(&database).await?.contains(&id) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            error::NO_ACCESS,
            format!("You do not have access to group {id}."),
        ));
    }
    Ok(wire::json(StatusCode::OK, &group(id)))
}

async fn group_ids(database: &Database) -> Result<BTreeSet<u64>, ApiError> {
    let mut ids = BTreeSet::from([0]);
    for network in Network::ALL {
        let namespaces = database.namespaces(network).await?;
        ids.extend(namespaces.iter().filter_map(|found| found.record.group_id));
    }
    Ok(ids)
}

/// What an EdgeGrid client may do: everything, in every group.
const CAPABILITIES: [(&str, &[&str]); 3] = [
    ("DATA", &["READ", "WRITE", "DELETE"]),
    (
        "NAMESPACE",
        &["VIEW", "CREATE", "MODIFY", "DELETE", "AUTHORIZE"],
    ),
    ("TOKEN", &["VIEW", "CREATE", "REVOKE"]),
];

fn group(id: u64) -> serde_json::Value {
    let mut capabilities = Vec::new();
    for (thing, verbs) in CAPABILITIES {
        for verb in verbs {
            capabilities.push(format!("{verb}_{thing}"));
            capabilities.push(format!("{verb}_STAGING_{thing}"));
        }
    }
    let name = match id {
        0 => "Account Group".to_owned(),
        id => format!("Group {id}"),
    };
    json!({"capabilities": capabilities, "groupId": id, "groupName": name})
}
