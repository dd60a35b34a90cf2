//! The routes. Keys may hold any character, so paths are taken apart here and not by the router.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use kvasir_auth::oidc::TokenError;
use utoipa::OpenApi;

use super::layout::{self, Owner};
use super::{Kopano, cors, documents, error, wire};
use crate::body;
use crate::error::ApiError;
use crate::openapi;
use crate::request::bearer;

/// Where the original's host daemon tells that it lives. Container health checks ask it.
pub(super) const HEALTH_CHECK: &str = "/health-check";

/// What the dialect offers.
#[derive(utoipa::OpenApi)]
#[openapi(paths(get, put, delete))]
struct Documents;

/// What lies outside of the mount's prefix.
#[derive(utoipa::OpenApi)]
#[openapi(paths(health_check))]
struct Health;

/// The description of the routes.
pub(super) fn describe(shared: &openapi::Shared, base: &str) -> utoipa::openapi::OpenApi {
    let mut documents = shared.complete(Documents::openapi(), base);
    for item in documents.paths.paths.values_mut() {
        let delete = item.delete.as_mut();
        let not_found = delete.and_then(|delete| delete.responses.responses.get_mut("404"));
        if let Some(utoipa::openapi::RefOr::T(response)) = not_found {
            // The one failure without a body, see `error::NOTHING_DELETED`.
            response.content.clear();
        }
    }
    let outside = openapi::Shared {
        usual: "",
        proofs: &[],
        ..*shared
    };
    documents.merge(outside.complete(Health::openapi(), ""));
    documents
}

/// `GET /health-check`: the process lives.
#[utoipa::path(
    get, path = "/health-check", tag = "kopano",
    responses((status = 200, description = "it lives"))
)]
async fn health_check() -> StatusCode {
    StatusCode::OK
}

/// Methods of a document, for `Allow`.
const METHODS: &str = "GET, HEAD, PUT, DELETE, OPTIONS";

pub(super) fn routes(kopano: &Kopano) -> Router {
    let base = &kopano.ctx.base;
    Router::new()
        .route(&format!("{base}/{{*path}}"), any(below_base))
        .route(&format!("{base}/"), any(below_base))
        .layer(middleware::from_fn_with_state(kopano.clone(), cors::layer))
        .route(HEALTH_CHECK, any(health_check))
        .with_state(kopano.clone())
}

/// Everything below the base: find the document's key, find out who asks, do it.
async fn below_base(State(kopano): State<Kopano>, request: Request) -> Result<Response, ApiError> {
    let (head, content) = request.into_parts();
    let path = head.uri.path();
    let rest = path.get(kopano.ctx.base.len()..).unwrap_or_default();
    let Some(key) = rest
        .strip_prefix("/kv/")
        .and_then(|rest| rest.strip_prefix(layout::REALM)?.strip_prefix('/'))
    else {
        return Err(ApiError::not_found("no such realm or path"));
    };
    let owner = authenticate(&kopano, &head.headers).await?;
    let key = wire::decode(key)?;
    match head.method {
        Method::GET | Method::HEAD => get(&kopano, &owner, &key, &head).await,
        Method::PUT => put(&kopano, &owner, &key, &head, content).await,
        Method::DELETE => delete(&kopano, &owner, &key, &head.headers).await,
        _ => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "documents take GET, HEAD, PUT and DELETE",
        )
        .with_header(header::ALLOW, HeaderValue::from_static(METHODS))),
    }
}

/// Whose documents the request may touch, by its access token.
async fn authenticate(kopano: &Kopano, headers: &HeaderMap) -> Result<Owner, ApiError> {
    let Some(provider) = &kopano.provider else {
        return Err(ApiError::unavailable(
            "no identity provider is configured: set kopano.issuer",
        ));
    };
    let status = StatusCode::from_u16(kopano.settings.unauthorized_status)
        .ok()
        .filter(StatusCode::is_client_error)
        .unwrap_or(StatusCode::FORBIDDEN);
    let Some(token) = bearer(headers) else {
        return Err(
            ApiError::new(status, "unauthorized", "an OAuth2 access token is needed")
                .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        );
    };
    match provider.verify(token).await {
        Ok(identity) => Ok(Owner {
            user: identity.user.clone(),
            client: identity.client.clone(),
        }),
        Err(TokenError::NotReady) => Err(ApiError::unavailable(
            "the identity provider has not been reached yet",
        )),
        Err(TokenError::Invalid(reason)) => {
            tracing::debug!(reason, "refused an access token");
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            Err(
                ApiError::new(status, "unauthorized", "the access token is not valid")
                    .with_header(header::WWW_AUTHENTICATE, challenge),
            )
        }
        Err(TokenError::InsufficientScope(scope)) => {
            let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
            let challenge = HeaderValue::try_from(challenge).unwrap_or_else(|_| {
                HeaderValue::from_static(r#"Bearer error="insufficient_scope""#)
            });
            Err(
                ApiError::forbidden("the access token lacks a required scope")
                    .with_code("insufficient_scope")
                    .with_header(header::WWW_AUTHENTICATE, challenge),
            )
        }
    }
}

/// `GET /kv/user/{key}`: the document in its envelope; `?raw=1` its bytes; `?recurse=1` all
/// documents below, oldest write first, at most 500.
#[utoipa::path(
    get, path = "/api/kvs/v1/kv/user/{key}", tag = "kopano",
    params(
        ("key" = String, Path, description = "path of the document; its slashes are sent as they are"),
        ("raw" = Option<String>, Query, description = "1: the bytes of the document"),
        ("recurse" = Option<String>, Query, description = "1: all documents below the key"),
    ),
    responses(
        (status = 200, description = "the document in its envelope, an array of them, or its bytes",
            body = serde_json::Value, content_type = "*/*"),
        (status = 304, description = "the document has the version of If-None-Match"),
        (status = 400, description = "the key is none"),
        (status = 403, description = "no valid access token"),
        (status = 404, description = "no such document"),
    )
)]
async fn get(
    kopano: &Kopano,
    owner: &Owner,
    key: &str,
    head: &Parts,
) -> Result<Response, ApiError> {
    let query = head.uri.query();
    let keyspace = &kopano.ctx.keyspace;
    if wire::is_on(query, "recurse") {
        wire::check_prefix(key)?;
        let listing = documents::list(keyspace, owner, key).await?;
        return Ok(wire::listing(&listing));
    }
    if key.is_empty() {
        return Err(ApiError::not_found("no such document"));
    }
    wire::check_key(key)?;
    let entry = documents::get(keyspace, owner, key).await?;
    let entry = entry.ok_or_else(|| ApiError::not_found("no such document"))?;

    let document = layout::document(&entry);
    let mut response = if wire::is_unmodified(&head.headers, entry.versionstamp) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if wire::is_on(query, "raw") {
        wire::raw(document)
    } else {
        wire::envelope(key, &document)
    };
    response
        .headers_mut()
        .insert(header::ETAG, wire::etag(entry.versionstamp));
    Ok(response)
}

/// `PUT /kv/user/{key}`: stores the body as it is. `?batch=1`: stores an array of documents below
/// the key, all or none.
#[utoipa::path(
    put, path = "/api/kvs/v1/kv/user/{key}", tag = "kopano",
    params(
        ("key" = String, Path, description = "path of the document; its slashes are sent as they are"),
        ("batch" = Option<String>, Query, description = "1: the body is an array of documents below the key"),
    ),
    request_body(content = String, content_type = "application/octet-stream", description = "the document, of any type, up to 16 KiB"),
    responses(
        (status = 200, description = "stored"),
        (status = 400, description = "the key or the batch is wrong"),
        (status = 403, description = "no valid access token"),
        (status = 412, description = "If-Match or If-None-Match does not hold"),
        (status = 413, description = "the document is too large"),
    )
)]
async fn put(
    kopano: &Kopano,
    owner: &Owner,
    key: &str,
    head: &Parts,
    content: Body,
) -> Result<Response, ApiError> {
    let condition = wire::condition(&head.headers)?;
    let is_batch = wire::is_on(head.uri.query(), "batch");
    let written = if is_batch {
        let content = body::read(&head.headers, content, wire::BATCH_BYTES_MAX).await?;
        wire::batch(key, &content)?
    } else {
        wire::check_key(key)?;
        let content_type = wire::content_type(&head.headers)?;
        let content = body::read(&head.headers, content, wire::DOCUMENT_BYTES_MAX).await?;
        let document = documents::sent(content_type, content);
        wire::check_document(&document)?;
        vec![(key.to_owned(), document)]
    };
    if written.is_empty() {
        return Ok(wire::written(None));
    }
    let condition = condition.as_ref().filter(|_| !is_batch);
    let stamp = documents::put(&kopano.ctx.keyspace, owner, written, condition).await?;
    Ok(wire::written(Some(stamp)))
}

/// `DELETE /kv/user/{key}`: removes exactly this document; 404 without a body if there is none.
#[utoipa::path(
    delete, path = "/api/kvs/v1/kv/user/{key}", tag = "kopano",
    params(
        ("key" = String, Path, description = "path of the document; its slashes are sent as they are"),
    ),
    responses(
        (status = 200, description = "the document is gone"),
        (status = 400, description = "the key is none"),
        (status = 403, description = "no valid access token"),
        (status = 404, description = "no such document; the body is empty"),
        (status = 412, description = "If-Match does not hold"),
    )
)]
async fn delete(
    kopano: &Kopano,
    owner: &Owner,
    key: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    wire::check_key(key)?;
    let condition = wire::condition(headers)?;
    if documents::delete(&kopano.ctx.keyspace, owner, key, condition.as_ref()).await? {
        Ok(wire::written(None))
    } else {
        Err(ApiError::not_found("no such document").with_code(error::NOTHING_DELETED))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn documents_are_described_with_their_methods() {
        let described = Documents::openapi().paths.paths;
        let (path, item) = described.first_key_value().unwrap();
        assert_eq!(described.len(), 1);
        assert_eq!(path, "/api/kvs/v1/kv/user/{key}");
        let methods: BTreeSet<_> = openapi::operations(item).map(|(name, _)| name).collect();
        let taken = METHODS.split(", ");
        let taken = taken.filter(|name| !matches!(*name, "HEAD" | "OPTIONS"));
        assert_eq!(methods, taken.collect());
    }
}
