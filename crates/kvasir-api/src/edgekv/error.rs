//! How failures look in EdgeKV.
//!
//! There are two shapes, both `application/problem+json`: that of the database, with an `EKV_` code,
//! and that of the gateway in front of it, which checks signatures. An [`ApiError`] with a code of
//! [`gateway`] is rendered in the second one, every other error in the first.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use kvasir_auth::edgegrid::Refusal;
use kvasir_kv::UnixMillis;
use serde_json::json;
use uuid::Uuid;

use super::wire;
use crate::error::ApiError;
use crate::request::RequestInfo;

/// Carries the request id in every answer; the vendor's command line prints it with errors.
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Internal error, and operations that are known but not built.
pub(super) const INTERNAL: &str = "EKV_0000";
/// No access: to a permission group, or with an access token.
pub(super) const NO_ACCESS: &str = "EKV_1000";
/// A resource is missing, or the capability to change it.
pub(super) const NO_CAPABILITY: &str = "EKV_1002";
/// The request is not valid.
pub(super) const INVALID: &str = "EKV_2000";
/// The body is not JSON.
pub(super) const NOT_JSON: &str = "EKV_2001";
/// A conflict with what is stored; missing tokens.
pub(super) const CONFLICT: &str = "EKV_3000";
/// The database: namespaces, groups, items, values.
pub(super) const DATABASE: &str = "EKV_9000";
/// Too many requests.
pub(super) const TOO_MANY: &str = "EKV_9100";

/// The gateway refuses the credential.
const DENY: &str = "edgegrid_deny";
/// The gateway refuses the form of the request.
const REQUEST_ERROR: &str = "edgegrid_request_error";

/// What the seed's example has as the type of every error.
const TYPE: &str = "https://learn.akamai.com";
/// The gateway's error types, with the last path segment to be added.
const GATEWAY_TYPE: &str = "https://problems.luna.akamaiapis.net/-/pep-authn/";
const PROBLEM: &str = "application/problem+json";

/// 400 `EKV_2000`: the request is not valid.
pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, INVALID, detail)
}

/// 400 `EKV_9000`: a name or a value that the database does not take.
pub(super) fn refused(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, DATABASE, detail)
}

/// 404 `EKV_9000`.
pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, DATABASE, detail)
}

/// 409 `EKV_3000`.
pub(super) fn conflict(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, CONFLICT, detail)
}

/// The namespace does not exist; the seed has 400 for it.
pub(super) fn no_namespace() -> ApiError {
    refused("The requested namespace does not exist.")
}

/// The vendor's answer to changing a namespace that does not exist.
pub(super) fn no_capability(capability: &'static str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        NO_CAPABILITY,
        format!(
            "That resource does not exist or you are missing the '{capability}' permission for it."
        ),
    )
}

/// 422 `EKV_2001`: the body is not a JSON object, or names a member twice.
pub(super) fn not_json() -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        NOT_JSON,
        "The JSON request body contained a syntax error or duplicate attributes.",
    )
}

/// Nothing works before `PUT /initialize`; the status depends on the plane.
pub(super) fn not_initialized(status: StatusCode) -> ApiError {
    ApiError::new(status, DATABASE, "The database is not initialized.")
}

/// The item or its group is not there.
pub(super) fn no_item(item: &str, group: &str) -> ApiError {
    not_found(format!(
        "Item '{item}' or group '{group}' was not found in the database."
    ))
}

/// A value over the limit.
pub(super) fn value_too_large(limit_bytes: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        DATABASE,
        format!("Value cannot exceed {limit_bytes} characters."),
    )
}

/// An operation that the original has and this server does not.
pub(super) fn not_built() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        INTERNAL,
        "This operation is not implemented.",
    )
}

/// Other writes to the same thing were always faster.
pub(super) fn busy() -> ApiError {
    ApiError::unavailable("Too many changes at once.")
}

/// The gateway's refusal of a signed request.
pub(super) fn gateway(refusal: Refusal, host: &str) -> ApiError {
    let detail = refusal.to_string();
    match refusal {
        Refusal::TooManyRequests => ApiError::too_many_requests(1),
        Refusal::MissingHeader
        | Refusal::InactiveClient
        | Refusal::SignatureMismatch
        | Refusal::DuplicateNonce => ApiError::new(StatusCode::UNAUTHORIZED, DENY, detail)
            .with_header(header::WWW_AUTHENTICATE, challenge(host)),
        Refusal::MalformedHeader
        | Refusal::UnknownClient
        | Refusal::UnknownAccessToken
        | Refusal::InvalidTimestamp => {
            ApiError::new(StatusCode::BAD_REQUEST, REQUEST_ERROR, detail)
        }
    }
}

fn challenge(host: &str) -> HeaderValue {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = if host.bytes().all(plain) { host } else { "" };
    HeaderValue::try_from(format!("EG1-HMAC-SHA256 realm=\"{host}\""))
        .expect("letters, digits and some punctuation are a header value")
}

/// The answer to a failed request.
pub(super) fn render(error: &ApiError, request: &RequestInfo, now: UnixMillis) -> Response {
    let body = match error.code() {
        DENY => gateway_body(error, request, now, "deny", "Not authorized"),
        REQUEST_ERROR => gateway_body(error, request, now, "request-error", "Bad request"),
        _ => database_body(error, request),
    };
    let status = error.status();
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    headers.insert(TRACE_ID, trace_id(request));
    response
}

/// The request id as a header.
pub(super) fn trace_id(request: &RequestInfo) -> HeaderValue {
    HeaderValue::try_from(request.id.to_string()).expect("hex digits are a header value")
}

fn database_body(error: &ApiError, request: &RequestInfo) -> serde_json::Value {
    let status = error.status();
    json!({
        "additionalDetail": {"requestId": request.id.to_string()},
        "detail": detail(error),
        "errorCode": error_code(error),
        "instance": format!("/edgeKV/error-instances/{}", Uuid::new_v4()),
        "status": status.as_u16(),
        "title": status.canonical_reason().unwrap_or("Error"),
        "type": TYPE,
    })
}

/// The `EKV_` code; errors of the kit get theirs by status.
fn error_code(error: &ApiError) -> &'static str {
    if error.code().starts_with("EKV_") {
        return error.code();
    }
    match error.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NO_ACCESS,
        StatusCode::CONFLICT => CONFLICT,
        StatusCode::PAYLOAD_TOO_LARGE => DATABASE,
        StatusCode::TOO_MANY_REQUESTS => TOO_MANY,
        status if status.is_server_error() => INTERNAL,
        _ => INVALID,
    }
}

fn detail(error: &ApiError) -> &str {
    match error.status() {
        StatusCode::INTERNAL_SERVER_ERROR => "An internal error occurred.",
        _ => error.detail(),
    }
}

fn gateway_body(
    error: &ApiError,
    request: &RequestInfo,
    now: UnixMillis,
    kind: &str,
    title: &str,
) -> serde_json::Value {
    let path = request
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    json!({
        "type": format!("{GATEWAY_TYPE}{kind}"),
        "title": title,
        "status": error.status().as_u16(),
        "detail": error.detail(),
        "instance": format!("https://{}{path}", request.host),
        "method": request.method.as_str(),
        "serverIp": request.local.ip().to_canonical().to_string(),
        "clientIp": request.client.to_canonical().to_string(),
        "requestId": request.id.to_string(),
        "requestTime": wire::instant(now),
    })
}
