//! The data plane: what the helper library in a bundle asks, with an access token.
//!
//! Checks come in the order token, permission, namespace, item.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use super::items::{delete_in, read_in, write_in};
use crate::edgekv::database::Database;
use crate::edgekv::error;
use crate::edgekv::tokens::{Permission, Shown};
use crate::edgekv::wire::Query;
use crate::edgekv::wire::names::{Named, NamedPath, Realm};
use crate::error::ApiError;

/// Carries the value of a token.
pub(in crate::edgekv) const AUTH: HeaderName = HeaderName::from_static("x-akamai-edgedb-auth");
/// Carries the UUID of a token by reference.
pub(in crate::edgekv) const AUTH_REFERENCE: HeaderName =
    HeaderName::from_static("x-akamai-edgedb-auth-ref");

/// `GET .../items/{item}`: the value, byte for byte.
#[utoipa::path(
    get, path = "/{network}/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
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
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let realm = admit(&database, &headers, &path, &query, Permission::Read).await?;
    read_in(&database, &path, &realm, &query).await
}

/// `PUT .../items/{item}`: 200 only, the library takes every other success for a failure.
#[utoipa::path(
    put, path = "/{network}/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
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
    let query = Query::of(&uri);
    let realm = admit(&database, &headers, &path, &query, Permission::Write).await?;
    write_in(&database, &path, &realm, &headers, body).await
}

/// `DELETE .../items/{item}`: 200, also if there was nothing.
#[utoipa::path(
    delete, path = "/{network}/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
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
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let realm = admit(&database, &headers, &path, &query, Permission::Delete).await?;
    delete_in(&database, &path, &realm).await
}

/// As [`read`], on the network that the settings name.
#[utoipa::path(
    get, path = "/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
    params(
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("item" = String, Path, description = "name of the item"),
        ("sandboxId" = Option<String>, Query, description = "a sandbox of the staging network"),
    ),
    responses(
        (status = 200, description = "the value", body = String, content_type = "text/plain"),
    )
)]
#[expect(dead_code, reason = "documents the other path of the same handler")]
pub(in crate::edgekv) async fn read_of_default() {}

/// As [`write`], on the network that the settings name.
#[utoipa::path(
    put, path = "/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
    params(
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
#[expect(dead_code, reason = "documents the other path of the same handler")]
pub(in crate::edgekv) async fn write_of_default() {}

/// As [`delete`], on the network that the settings name.
#[utoipa::path(
    delete, path = "/api/v1/namespaces/{namespace}/groups/{group}/items/{item}", tag = "edgekv",
    security(("edgekv" = [])),
    params(
        ("namespace" = String, Path, description = "name of the namespace"),
        ("group" = String, Path, description = "name of the group"),
        ("item" = String, Path, description = "name of the item"),
        ("sandboxId" = Option<String>, Query, description = "a sandbox of the staging network"),
    ),
    responses(
        (status = 200, description = "a sentence", body = String, content_type = "text/plain"),
    )
)]
#[expect(dead_code, reason = "documents the other path of the same handler")]
pub(in crate::edgekv) async fn delete_of_default() {}

/// The realm of a request whose token allows it.
async fn admit(
    database: &Database,
    headers: &HeaderMap,
    path: &NamedPath,
    query: &Query<'_>,
    wanted: Permission,
) -> Result<Realm, ApiError> {
    let network = match path.network {
        Some(_) => path.network()?,
        None => database.settings.default_network,
    };
    let token = match shown(headers) {
        Some(shown) => database.shown_token(shown).await?,
        None => None,
    };
    let Some(token) = token else {
        // Before initialisation no token can be valid; the reason is more useful than 401.
        database.require(StatusCode::BAD_REQUEST).await?;
        return Err(unauthorized());
    };
    if !token.allows(network, &path.namespace, wanted) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            error::NO_ACCESS,
            "The access token does not allow this operation in this namespace on this network.",
        ));
    }
    let realm = path.realm(network, query)?;
    path.check_item()?;
    Ok(realm)
}

/// The one credential of a request; two are as good as none.
fn shown(headers: &HeaderMap) -> Option<Shown<'_>> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next();
        (values.next().is_none()).then_some(value?.to_str().ok()?.trim())
    };
    match (
        headers.contains_key(&AUTH),
        headers.contains_key(&AUTH_REFERENCE),
    ) {
        (true, false) => one(&AUTH).map(Shown::Value),
        (false, true) => one(&AUTH_REFERENCE).map(Shown::Reference),
        _ => None,
    }
}

fn unauthorized() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        error::NO_ACCESS,
        "The access token is missing, unknown, expired or revoked.",
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("EdgeDB-Auth"),
    )
}
