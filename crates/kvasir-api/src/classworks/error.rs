//! How failures look: the original's body and its Chinese messages.
//!
//! Failures that come from the kit or the store carry English sentences for operators. Everything
//! that this dialect says itself is Chinese, so a sentence without Chinese in it is replaced by
//! the message of its status.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::error::ApiError;
use crate::request::RequestInfo;

use super::wire;

/// The body of every failure. The original has `details` too, always null.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksErrorBody)]
pub(super) struct ErrorBody<'a> {
    #[serde(rename = "statusCode", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u16, required = false)]
    status_code: Option<u16>,
    success: bool,
    message: &'a str,
    #[schema(value_type = Option<String>)]
    details: Option<()>,
}

/// The answer to a failed request.
pub(super) fn render(error: &ApiError, request: &RequestInfo) -> Response {
    let status = error.status();
    let message = match error.detail() {
        english if english.is_ascii() => default_message(status),
        chinese => chinese,
    };
    let body = wire::to_json(&ErrorBody {
        status_code: (status == StatusCode::UNAUTHORIZED).then_some(401),
        success: false,
        message,
        details: None,
    });
    let mut response = wire::json_bytes(body);
    *response.status_mut() = status;
    if status == StatusCode::REQUEST_TIMEOUT {
        // What is left of the request would be taken for the next one.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    match request.method {
        Method::HEAD => without_body(response),
        _ => response,
    }
}

/// The same answer to `HEAD`: the body goes, its length stays.
pub(super) fn without_body(mut response: Response) -> Response {
    use http_body::Body as _;
    if let Some(length) = response.body().size_hint().exact() {
        let length = HeaderValue::from(length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    *response.body_mut() = Body::empty();
    response
}

fn default_message(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => MISSING_SITE_KEY,
        StatusCode::FORBIDDEN => NO_RIGHT,
        StatusCode::NOT_FOUND => "未找到请求的资源",
        StatusCode::METHOD_NOT_ALLOWED => "不支持的请求方法",
        StatusCode::REQUEST_TIMEOUT => TIMED_OUT,
        StatusCode::PAYLOAD_TOO_LARGE => TOO_LARGE,
        StatusCode::TOO_MANY_REQUESTS => TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE => "服务器暂时不可用，请稍后再试",
        StatusCode::INSUFFICIENT_STORAGE => "服务器存储空间不足",
        status if status.is_client_error() => "请求无效",
        _ => "服务器错误",
    }
}

const MISSING_SITE_KEY: &str = "此服务器已开启站点密钥验证，请提供有效的站点密钥";
const NO_RIGHT: &str = "无权限访问此命名空间";
const TIMED_OUT: &str = "请求处理超时";
const TOO_LARGE: &str = "请求体过大";
const TOO_MANY_REQUESTS: &str = "请求过于频繁，请稍后再试";
const NOT_JSON: &str = "请提供有效的JSON值";

/// 400 with a sentence of our own.
pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::bad_request(message)
}

/// 400: the body holds no value.
pub(super) fn no_value() -> ApiError {
    bad(NOT_JSON).with_code("not_json")
}

/// 400: the body is not JSON, from this place on.
pub(super) fn not_json(line: usize, column: usize) -> ApiError {
    bad(format!("{NOT_JSON}（第 {line} 行第 {column} 列）")).with_code("not_json")
}

/// 400: the body is no object of keys and values.
pub(super) fn no_batch() -> ApiError {
    bad(r#"请提供有效的JSON数据，格式为 {"key":{}, "key2":{}}"#).with_code("not_json")
}

/// 400: a word with a meaning of its own cannot be written.
pub(super) fn reserved_key(key: &str) -> ApiError {
    bad(format!("'{key}' 是保留字，不能用作键名")).with_code("reserved_key")
}

fn denied(message: &'static str) -> ApiError {
    let challenge = HeaderValue::from_static(r#"SiteKey realm="classworks""#);
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        .with_header(header::WWW_AUTHENTICATE, challenge)
}

/// 401: no site key, or a wrong one.
pub(super) fn site_key() -> ApiError {
    denied(MISSING_SITE_KEY).with_code("site_key")
}

/// 401: nothing says that this address may be served without a credential.
pub(super) fn closed() -> ApiError {
    denied("此服务器未设置站点密钥，请管理员设置 classworks.site_key 或提供有效的访问令牌")
        .with_code("closed")
}

/// 401: no password of the namespace, or a wrong one, in the header.
pub(super) fn device_password() -> ApiError {
    denied("设备密码验证失败").with_code("password")
}

/// 401: a wrong password in a body.
pub(super) fn wrong_password() -> ApiError {
    denied("密码错误").with_code("password")
}

/// 403: the reserved namespace, or a token without the right.
pub(super) fn forbidden() -> ApiError {
    ApiError::forbidden(NO_RIGHT)
}

/// 403: the namespace was named by a link that only reads.
pub(super) fn read_only_link() -> ApiError {
    ApiError::forbidden("此链接为只读，不能修改数据").with_code("read_only_link")
}

/// 404: no such key.
pub(super) fn no_such_key(namespace: &str, key: &str) -> ApiError {
    ApiError::not_found(format!(
        "未找到命名空间 '{namespace}' 下键名为 '{key}' 的记录"
    ))
}

/// 404: a namespace without keys cannot be deleted.
pub(super) fn no_such_namespace(namespace: &str) -> ApiError {
    ApiError::not_found(format!("未找到命名空间 '{namespace}'"))
}

/// 404: nothing is at this path.
pub(super) fn no_such_path(path: &str) -> ApiError {
    ApiError::not_found(format!("找不到路径: {path}")).with_code("no_such_route")
}

/// 405: something is at this path, but it takes other methods.
pub(super) fn no_such_method(path: &str, allow: &'static str) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("找不到路径: {path}"),
    )
    .with_header(header::ALLOW, HeaderValue::from_static(allow))
}

/// 408: the request took longer than it may.
pub(super) fn timed_out() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timed_out", TIMED_OUT)
}

/// 412: the value is not the one that the client knows.
pub(super) fn changed_meanwhile() -> ApiError {
    ApiError::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
        "数据已被修改，请重新读取后再试",
    )
}

/// 413.
pub(super) fn too_large() -> ApiError {
    ApiError::too_large(TOO_LARGE)
}

/// 415: the body is in an encoding that is not understood.
pub(super) fn unsupported(what: &str, value: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("不支持的 {what}: {value}"),
    )
}

/// 400: the body's compression is broken.
pub(super) fn damaged() -> ApiError {
    bad("请求体的压缩数据无效").with_code("not_json")
}

/// 429.
pub(super) fn too_many_requests(retry_after_seconds: u64) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        TOO_MANY_REQUESTS,
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
}
