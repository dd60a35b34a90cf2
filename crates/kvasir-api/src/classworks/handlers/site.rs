//! What belongs to the site and to no namespace: the page for people, the connection test, new names.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::super::{layout, wire};
use super::Call;
use crate::error::ApiError;

/// The key of the reserved namespace that holds what the page shows.
pub const INFO_KEY: &str = "info";

/// What the page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct SiteInfo {
    /// The heading.
    pub title: String,
    /// The text below it.
    pub readme: String,
}

impl Default for SiteInfo {
    fn default() -> Self {
        SiteInfo {
            title: "Classworks 服务端".to_owned(),
            readme: "暂无 Readme 内容".to_owned(),
        }
    }
}

/// What the page may do: show itself, with its own styles.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// `GET /`: title and text of the site, as text. Read on every request, so changes show at once.
#[utoipa::path(
    get, path = "/classworks/", tag = "classworks",
    security(()),
    responses(
        (status = 200, description = "a page for people", body = String, content_type = "text/html"),
    )
)]
pub(super) async fn page(call: &Call<'_>) -> Result<Response, ApiError> {
    let stored = call.app.ctx.system.get(&layout::site_key(INFO_KEY)).await?;
    // Administrators may store any JSON there; what is no text is shown as if it were missing.
    let info: SiteInfo = stored
        .and_then(|entry| serde_json::from_slice(&entry.value.bytes).ok())
        .unwrap_or_default();
    let mut response = Response::new(Body::from(html(&info)));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PAGE_POLICY),
    );
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn html(info: &SiteInfo) -> String {
    let (title, readme) = (escaped(&info.title), escaped(&info.readme));
    format!(
        "<!doctype html>\n<html lang=\"zh-CN\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n\
         <style>body{{max-width:40rem;margin:4rem auto;padding:0 1rem;font-family:sans-serif;\
         line-height:1.6}}p{{white-space:pre-wrap}}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n<p>{readme}</p>\n</body>\n</html>\n"
    )
}

/// Text for an HTML element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksRunning)]
pub(in super::super) struct Running {
    status: &'static str,
    message: &'static str,
    time: i64,
}

/// `GET /check`: the app's connection test.
#[utoipa::path(
    get, path = "/classworks/check", tag = "classworks",
    security(()),
    responses(
        (status = 200, description = "the API runs", body = Running),
    )
)]
pub(super) fn check(call: &Call<'_>) -> Response {
    wire::json(&Running {
        status: "success",
        message: "API is running",
        time: call.app.ctx.clock.now().0,
    })
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksNewNamespace)]
pub(in super::super) struct NewNamespace {
    namespace: uuid::Uuid,
}

/// `GET /uuid`: a name that nobody else has.
#[utoipa::path(
    get, path = "/classworks/uuid", tag = "classworks",
    responses(
        (status = 200, description = "a name that nobody else has", body = NewNamespace),
    )
)]
pub(super) fn new_namespace() -> Response {
    wire::json(&NewNamespace {
        namespace: uuid::Uuid::new_v4(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_text_and_never_markup() {
        let page = html(&SiteInfo {
            title: "</title><script>alert(1)</script>".to_owned(),
            readme: "a & b \"c\" 'd'".to_owned(),
        });
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;/title&gt;&lt;script&gt;alert(1)"));
        assert!(page.contains("a &amp; b &quot;c&quot; &#39;d&#39;"));
    }
}
