//! `/networks/{network}/namespaces`: namespaces, their groups, their deletion.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use kvasir_kv::UnixMillis;
use serde::Deserialize;
use serde_json::json;

use crate::edgekv::database::{DEFAULT_NAMESPACE, Database};
use crate::edgekv::error;
use crate::edgekv::items::{LISTED_GROUPS_MAX, LISTED_ITEMS_MAX};
use crate::edgekv::namespaces::{CANCEL_MARGIN_MS, Namespace};
use crate::edgekv::wire::names::{Named, NamedPath, Network};
use crate::edgekv::wire::namespace::{
    NamespaceBody, NamespaceRequest, NamespaceView, ScheduleBody, ScheduleView,
};
use crate::edgekv::wire::{self, Query, precise_instant, read_object};
use crate::error::ApiError;

/// The parameter of routes about all namespaces of a network.
#[derive(Deserialize)]
pub(in crate::edgekv) struct NetworkPath {
    network: String,
}

/// `GET /networks/{network}/namespaces[?details=on]`: by name, with their members on request.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("details" = Option<String>, Query, description = "`on`: with all members"),
    ),
    responses(
        (status = 200, description = "the namespaces", body = serde_json::Value),
    )
)]
pub(in crate::edgekv) async fn list(
    State(database): State<Database>,
    Named(path): Named<NetworkPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let network = Network::parse(&path.network)?;
    let found = database.namespaces(network).await?;
    let namespaces: Vec<serde_json::Value> = if Query::of(&uri).is_on("details") {
        let view = |found| json!(view(found));
        found.iter().map(view).collect()
    } else {
        let name = |found: &Namespace| json!({"namespace": found.name});
        found.iter().map(name).collect()
    };
    Ok(wire::json(
        StatusCode::OK,
        &json!({"namespaces": namespaces}),
    ))
}

fn view(found: &Namespace) -> NamespaceView<'_> {
    NamespaceView::new(&found.name, &found.record)
}

/// `POST /networks/{network}/namespaces`: 200 with the namespace.
#[utoipa::path(
    post, path = "/edgekv/v1/networks/{network}/namespaces", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
    ),
    request_body(content = NamespaceBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the namespace", body = NamespaceView<'static>),
    )
)]
pub(in crate::edgekv) async fn create(
    State(database): State<Database>,
    Named(path): Named<NetworkPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let network = Network::parse(&path.network)?;
    let body: NamespaceBody = read_object(&headers, body).await?;
    let request = NamespaceRequest::try_from(body)?;
    let created = database.create_namespace(network, request).await?;
    Ok(wire::json(StatusCode::OK, &view(&created)))
}

/// `GET /networks/{network}/namespaces/{namespace}`
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses(
        (status = 200, description = "the namespace", body = NamespaceView<'static>),
    )
)]
pub(in crate::edgekv) async fn read(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    let found = database.namespace(network, &path.namespace).await?;
    Ok(wire::json(StatusCode::OK, &view(&found)))
}

/// `PUT /networks/{network}/namespaces/{namespace}`: another retention, from the next write on.
#[utoipa::path(
    put, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    request_body(content = NamespaceBody, content_type = "application/json"),
    responses(
        (status = 200, description = "the namespace as it is now", body = NamespaceView<'static>),
    )
)]
pub(in crate::edgekv) async fn update(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    let body: NamespaceBody = read_object(&headers, body).await?;
    let request = NamespaceRequest::try_from(body)?;
    let changed = database
        .update_namespace(network, &path.namespace, &request)
        .await?;
    Ok(wire::json(StatusCode::OK, &view(&changed)))
}

/// `DELETE /networks/{network}/namespaces/{namespace}[?sync=true]`: at once, or after a delay.
#[utoipa::path(
    delete, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("sync" = Option<bool>, Query, description = "at once"),
    ),
    responses(
        (status = 200, description = "it is gone", body = serde_json::Value),
        (status = 202, description = "it will go", body = ScheduleView),
    )
)]
pub(in crate::edgekv) async fn delete(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    refuse_default(&path.namespace)?;
    let missing = || {
        error::no_capability(match network {
            Network::Staging => "DELETE_STAGING_NAMESPACE",
            Network::Production => "DELETE_NAMESPACE",
        })
    };
    if Query::of(&uri).is_on("sync") {
        if !database.delete_namespace(network, &path.namespace).await? {
            return Err(missing());
        }
        let constants = database.require(StatusCode::NOT_FOUND).await?;
        return Ok(wire::json(
            StatusCode::OK,
            &json!({
                "description": format!("Namespace '{}' was successfully deleted.", path.namespace),
                "id": &*constants.cpcode,
                "operationPerformed": "DELETED",
            }),
        ));
    }
    let delay_ms = i64::from(database.settings.delete_delay_seconds) * 1000;
    let at = database.now().0.saturating_add(delay_ms);
    // What is scheduled already keeps its time: that one is changed by `PUT`.
    let changed = database.change_namespace(network, &path.namespace, |record| {
        record.delete_at_ms.get_or_insert(at);
        Ok(())
    });
    let changed = changed.await?.ok_or_else(missing)?;
    let at = UnixMillis(changed.record.delete_at_ms.unwrap_or(at));
    Ok(wire::json(StatusCode::ACCEPTED, &schedule_view(at)))
}

fn refuse_default(namespace: &str) -> Result<(), ApiError> {
    match namespace {
        DEFAULT_NAMESPACE => Err(error::invalid("The default namespace cannot be deleted.")),
        _ => Ok(()),
    }
}

fn schedule_view(at: UnixMillis) -> ScheduleView {
    ScheduleView {
        scheduled_delete_time: precise_instant(at),
    }
}

fn schedule_answer(database: &Database, at: UnixMillis) -> Response {
    let seconds = (at.0 - database.now().0)
        .max(0)
        .unsigned_abs()
        .div_ceil(1000);
    let mut response = wire::json(StatusCode::OK, &schedule_view(at));
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn nothing_scheduled(namespace: &str) -> ApiError {
    error::refused(format!(
        "No current scheduled delete for {namespace}. Must first schedule the delete before modifying it."
    ))
}

/// `GET .../status/scheduled-delete`: when the namespace ends.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/status/scheduled-delete", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses(
        (status = 200, description = "when it goes", body = ScheduleView),
    )
)]
pub(in crate::edgekv) async fn schedule(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    let found = database.namespace(network, &path.namespace).await?;
    let at = found.record.delete_at_ms.map(UnixMillis);
    let at = at.ok_or_else(|| nothing_scheduled(&path.namespace))?;
    Ok(schedule_answer(&database, at))
}

/// `PUT .../status/scheduled-delete`: another time.
#[utoipa::path(
    put, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/status/scheduled-delete", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    request_body(content = ScheduleBody, content_type = "application/json"),
    responses(
        (status = 200, description = "when it goes now", body = ScheduleView),
    )
)]
pub(in crate::edgekv) async fn reschedule(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    let body: ScheduleBody = read_object(&headers, body).await?;
    let at = body.at()?;
    if at <= database.now() {
        return Err(error::invalid("scheduledDeleteTime must be in the future."));
    }
    let changed = database.change_namespace(network, &path.namespace, |record| {
        match &mut record.delete_at_ms {
            None => Err(nothing_scheduled(&path.namespace)),
            Some(scheduled) => {
                *scheduled = at.0;
                Ok(())
            }
        }
    });
    changed.await?.ok_or_else(error::no_namespace)?;
    Ok(schedule_answer(&database, at))
}

/// `DELETE .../status/scheduled-delete`: 204, the namespace stays. Not in the last five minutes.
#[utoipa::path(
    delete, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/status/scheduled-delete", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses(
        (status = 204, description = "it stays"),
    )
)]
pub(in crate::edgekv) async fn cancel(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
) -> Result<Response, ApiError> {
    let network = path.network()?;
    let now = database.now().0;
    let changed = database.change_namespace(network, &path.namespace, |record| {
        match record.delete_at_ms {
            None => Err(nothing_scheduled(&path.namespace)),
            Some(at) if at - now <= CANCEL_MARGIN_MS => Err(error::refused(
                "A scheduled delete cannot be cancelled in its last 5 minutes.",
            )),
            Some(_) => {
                record.delete_at_ms = None;
                Ok(())
            }
        }
    });
    changed.await?.ok_or_else(error::no_namespace)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET .../groups[?maxGroups=n]`: the names of all groups.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("maxGroups" = Option<u32>, Query, description = "most groups"),
    ),
    responses(
        (status = 200, description = "names of groups", body = Vec<String>),
    )
)]
pub(in crate::edgekv) async fn groups(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let realm = path.realm(path.network()?, &query)?;
    let limit = query.limit("maxGroups", LISTED_GROUPS_MAX)?;
    database.namespace(realm.network, &realm.namespace).await?;
    let groups = database.groups(&realm, limit).await?;
    if groups.is_empty() {
        return Err(error::not_found("There are no groups."));
    }
    Ok(wire::json_listing(&groups))
}

/// `GET .../groups/{group}[?maxItems=n][&after=key]`: the first 100 keys. `after` is ours: it makes the
/// others reachable.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups/{group}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("maxItems" = Option<u32>, Query, description = "most items"),
        ("after" = Option<String>, Query, description = "go on behind this one; not in the original"),
    ),
    responses(
        (status = 200, description = "names of items", body = Vec<String>),
    )
)]
pub(in crate::edgekv) async fn keys(
    State(database): State<Database>,
    Named(path): Named<NamedPath>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let realm = path.realm(path.network()?, &query)?;
    path.check_group()?;
    let limit = query.limit("maxItems", LISTED_ITEMS_MAX)?;
    let after = query.first("after");
    database.namespace(realm.network, &realm.namespace).await?;
    let keys = database
        .keys(&realm, &path.group, after.as_deref(), limit)
        .await?;
    if keys.is_empty() && after.is_none() {
        return Err(error::not_found(
            "The requested group is empty or not found.",
        ));
    }
    Ok(wire::json_listing(&keys))
}

/// Operations that are known and not built: 501.
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/download", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses(
        (status = 501, description = "not built"),
    )
)]
pub(in crate::edgekv) async fn not_built() -> ApiError {
    error::not_built()
}

/// Downloading a group. See [`not_built`].
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/groups/{group}/download", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
    ),
    responses((status = 501, description = "not built"))
)]
#[expect(dead_code, reason = "documents another path of the same handler")]
pub(in crate::edgekv) async fn not_built_for_groups() {}

/// Uploading a namespace. See [`not_built`].
#[utoipa::path(
    post, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/upload", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses((status = 501, description = "not built"))
)]
#[expect(dead_code, reason = "documents another path of the same handler")]
pub(in crate::edgekv) async fn not_built_upload() {}

/// The uploads of a namespace. See [`not_built`].
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/upload", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
    ),
    responses((status = 501, description = "not built"))
)]
#[expect(dead_code, reason = "documents another path of the same handler")]
pub(in crate::edgekv) async fn not_built_uploads() {}

/// How far an upload is. See [`not_built`].
#[utoipa::path(
    get, path = "/edgekv/v1/networks/{network}/namespaces/{namespace}/upload/{job}", tag = "edgekv",
    params(
        ("network" = String, Path, pattern = "^(staging|production)$", description = "`staging` or `production`"),
        ("namespace" = String, Path, description = "name of the namespace"),
        ("job" = String, Path, description = "id of the upload"),
    ),
    responses((status = 501, description = "not built"))
)]
#[expect(dead_code, reason = "documents another path of the same handler")]
pub(in crate::edgekv) async fn not_built_upload_job() {}
