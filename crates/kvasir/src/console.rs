//! The console: the pages below `/_/`, out of the folder `console/` of this crate.
//!
//! The files in the repository are the files in the binary; nothing is bundled or rewritten but one
//! word in `index.html`, the name of the folder that the other files are served from. That name is a
//! hash over all of them, so they may be kept by browsers for ever, and their relative imports stay
//! within one version. In debug builds the files are read from disk whenever the page is.
//!
//! Data comes from the admin API (`kvasir_api::admin`) and from nowhere else: the content security
//! policy allows nothing but files and requests of the same origin, and no inline script or style.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use kvasir_api::mount::finish;
use kvasir_api::{ApiError, Ctx, Dialect, RequestInfo, openapi, problem};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

/// What a browser may do with the pages. `trusted-types 'none'` makes every way to turn text into
/// markup fail, also in the libraries.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Sent with every file.
const HEADERS: [(&str, &str); 8] = [
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("vary", "accept-encoding"),
];

/// The console, and the viewer of `openapi.json`.
const PAGES: [&str; 2] = ["index.html", "docs/index.html"];

/// Stands in [`PAGES`] for the folder of the other files.
const FOLDER_MARK: &str = "{{assets}}";

#[derive(RustEmbed)]
#[folder = "console/"]
struct Embedded;

/// The console, mounted.
pub struct Console {
    ctx: Ctx,
    files: Shelf,
}

/// The files as they were read last.
type Shelf = Arc<RwLock<Arc<Files>>>;

/// All files of one version.
struct Files {
    /// Hash over all of them.
    version: String,
    by_path: BTreeMap<String, File>,
}

struct File {
    bytes: Bytes,
    etag: HeaderValue,
    content_type: &'static str,
}

impl Files {
    fn read() -> Files {
        let mut by_path = BTreeMap::new();
        let mut all = Sha256::new();
        let mut paths: Vec<_> = Embedded::iter().collect();
        paths.sort();
        for path in paths {
            let (Some(file), Some(content_type)) = (Embedded::get(&path), content_type(&path))
            else {
                continue;
            };
            let hash = file.metadata.sha256_hash();
            all.update(path.as_bytes());
            all.update(hash);
            let bytes = match file.data {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
            };
            by_path.insert(path.into_owned(), File::new(bytes, &hash, content_type));
        }
        let version = hex(&all.finalize()[..8]);
        for page in PAGES {
            if let Some(file) = by_path.get_mut(page) {
                let text = String::from_utf8_lossy(&file.bytes);
                let text = text.replace(FOLDER_MARK, &format!("assets/{version}"));
                let hash = Sha256::digest(&text);
                *file = File::new(text.into(), &hash, file.content_type);
            }
        }
        Files { version, by_path }
    }
}

impl File {
    fn new(bytes: Bytes, hash: &[u8], content_type: &'static str) -> File {
        let etag = format!("\"{}\"", hex(&hash[..16]));
        File {
            bytes,
            etag: HeaderValue::try_from(etag).expect("hexadecimal digits are a header value"),
            content_type,
        }
    }

    /// The file, or 304 if the client has it.
    fn response(&self, request: &HeaderMap, caching: &'static str) -> Response {
        let known = request.get(header::IF_NONE_MATCH);
        let mut response = if known == Some(&self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let content_type = HeaderValue::from_static(self.content_type);
            ([(header::CONTENT_TYPE, content_type)], self.bytes.clone()).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        for (name, value) in HEADERS {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        response
    }
}

/// The media type of a file that is served. Declarations for the type checker and notes are not.
fn content_type(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

impl Console {
    /// The console at the base of `ctx`, beside the admin API.
    pub fn new(ctx: Ctx) -> Console {
        Console {
            ctx,
            files: Arc::new(RwLock::new(Arc::new(Files::read()))),
        }
    }
}

impl Dialect for Console {
    fn name(&self) -> &'static str {
        "console"
    }

    fn claims(&self, _method: &Method, path: &str) -> bool {
        let rest = path.strip_prefix(self.ctx.base.as_str());
        rest.is_some_and(|rest| matches!(rest, "" | "/" | "/docs") || rest.starts_with("/assets/"))
    }

    fn routes(&self) -> Router {
        let base = &self.ctx.base;
        let to_index = format!("{base}/");
        let mut routes = Router::new()
            .route(&format!("{base}/"), get(index))
            .route(&format!("{base}/docs"), get(docs))
            .route(&format!("{base}/assets/{{version}}/{{*path}}"), get(asset));
        if !base.is_empty() {
            let redirect = move || async move { Redirect::permanent(&to_index) };
            routes = routes.route(base, get(redirect));
        }
        finish(routes.with_state(self.files.clone()))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "console",
            usual: "/_",
            failure_type: "application/problem+json",
            failure: Some("Problem"),
            proofs: &[],
        };
        shared.complete(Description::openapi(), &self.ctx.base)
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        problem::render(error, request)
    }
}

/// What is served, for `/_/openapi.json`.
#[derive(OpenApi)]
#[openapi(paths(to_index, index, docs, asset))]
struct Description;

/// `GET /_`: the page has a slash at its end.
#[utoipa::path(
    get, path = "/_", tag = "console",
    responses((status = 308, description = "to the page"))
)]
#[expect(dead_code, reason = "documents a closure")]
fn to_index() {}

fn held(shelf: &Shelf) -> Arc<Files> {
    shelf.read().expect("no panic while it is held").clone()
}

/// `GET /_/`: the one page.
#[utoipa::path(
    get, path = "/_/", tag = "console",
    responses(
        (status = 200, description = "the page", body = String, content_type = "text/html"),
        (status = 304, description = "the browser has it"),
    )
)]
async fn index(State(shelf): State<Shelf>, headers: HeaderMap) -> Result<Response, ApiError> {
    page(&shelf, "index.html", &headers)
}

/// `GET /_/docs`: shows `openapi.json` to people.
#[utoipa::path(
    get, path = "/_/docs", tag = "console",
    responses(
        (status = 200, description = "the page", body = String, content_type = "text/html"),
        (status = 304, description = "the browser has it"),
    )
)]
async fn docs(State(shelf): State<Shelf>, headers: HeaderMap) -> Result<Response, ApiError> {
    page(&shelf, "docs/index.html", &headers)
}

fn page(shelf: &Shelf, path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    if cfg!(debug_assertions) {
        let fresh = Arc::new(Files::read());
        *shelf.write().expect("no panic while it is held") = fresh;
    }
    let files = held(shelf);
    let page = files.by_path.get(path).ok_or_else(no_such_file)?;
    Ok(page.response(headers, "no-cache"))
}

/// `GET /_/assets/{version}/{path}`: what the page is made of. Another version is gone.
#[utoipa::path(
    get, path = "/_/assets/{version}/{path}", tag = "console",
    params(
        ("version" = String, Path, description = "version of all files"),
        ("path" = String, Path, description = "path of the file"),
    ),
    responses(
        (status = 200, description = "the file", body = String, content_type = "*/*"),
        (status = 304, description = "the browser has it"),
        (status = 404, description = "no such file in this version"),
    )
)]
async fn asset(
    State(shelf): State<Shelf>,
    Path((version, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let files = held(&shelf);
    let file = files.by_path.get(&path);
    let file = file.filter(|_| version == files.version);
    let file = file.ok_or_else(no_such_file)?;
    Ok(file.response(&headers, "public, max-age=31536000, immutable"))
}

fn no_such_file() -> ApiError {
    ApiError::not_found("the console has no such file")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn vendored_files_are_the_published_ones() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/vendor");
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        let mut listed = Vec::new();
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let bytes = std::fs::read(folder.join(name)).unwrap();
            assert_eq!(hex(&Sha256::digest(bytes)), sum, "{name}");
            listed.push(name.to_owned());
        }
        let unlisted = std::fs::read_dir(&folder).unwrap().filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_ours = name.ends_with(".d.ts") || name == "SHA256SUMS" || name == "README.md";
            (!is_ours && !listed.contains(&name)).then_some(name)
        });
        assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[test]
    fn the_page_holds_no_script_or_style_of_its_own() {
        let files = Files::read();
        let index = String::from_utf8(files.by_path["index.html"].bytes.to_vec()).unwrap();
        assert!(
            index.contains(&format!("assets/{}/", files.version)),
            "{index}"
        );
        assert!(!index.contains(FOLDER_MARK));
        for bad in [
            "<style",
            " style=",
            "<script>",
            "javascript:",
            " onload=",
            " onclick=",
        ] {
            assert!(!index.contains(bad), "{bad}");
        }
    }

    #[test]
    fn no_file_turns_text_into_code_or_markup() {
        let files = Files::read();
        let own = files
            .by_path
            .iter()
            .filter(|(path, _)| !path.starts_with("vendor/"));
        for (path, file) in own {
            let text = String::from_utf8_lossy(&file.bytes);
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "http://www.w3.org/1999/xhtml",
            ] {
                assert!(!text.contains(bad), "{path} has {bad}");
            }
        }
    }
}
