//! The Classworks KV dialect: JSON values by namespace and key.
//!
//! It speaks the first public generation of the ClassworksKV server (May to September 2025), which the
//! web app of that time is written for: `/:namespace/:key`, lists with metadata, settings and
//! passwords of namespaces, batch import, a site key for all. [`layout`] says how it is stored.
//!
//! Three things surprise. Paths are taken apart by [`path`](self) code of our own and not by a
//! router. A namespace needs no creation and a read never makes one. And the dialect lives in two
//! places at once: below its prefix, and at the root for namespaces that look like UUIDs, where
//! they collide with no other dialect's words.

mod cors;
mod description;
mod devices;
mod error;
mod gate;
mod handlers;
mod inflate;
pub mod layout;
mod listing;
mod path;
mod settings;
mod value;
mod wire;

use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::Method;
use http::request::Parts;
use kvasir_auth::Passwords;
use tokio::sync::Semaphore;

use crate::context::Ctx;
use crate::error::ApiError;
use crate::mount::{Dialect, Direct};
use crate::openapi;
use crate::request::RequestInfo;

pub use handlers::changes::STREAMS_MAX;
pub use handlers::devices::TEXT_BYTES_MAX;
pub use handlers::site::{INFO_KEY, SiteInfo};
pub use handlers::values::BATCH_KEYS_MAX;
pub use listing::{CACHE_BYTES_MAX, NAMESPACES_MAX, ROWS_MAX};
pub use path::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX, RESERVED_NAMESPACE};
pub use settings::{BATCH_BYTES_DEFAULT, Namespaces, RateLimit, Settings, VALUE_BYTES_DEFAULT};
pub use value::JSON_DEPTH_MAX;
pub use wire::{LIMIT_DEFAULT, LIMIT_MAX};

use cors::Cors;
use devices::Devices;
use gate::Gate;
use listing::warm::Warmth;
use listing::{Bounds, Listings};

/// The dialect on one mount. Clones share everything.
#[derive(Clone)]
pub struct Classworks {
    app: Arc<App>,
    face: Face,
}

/// Which paths are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    /// Those below the prefix and, at the root, those that begin with a UUID.
    Shared,
    /// All, as on a listener of its own.
    Own,
}

/// What all requests of the dialect share.
struct App {
    myself: Weak<App>,
    ctx: Ctx,
    settings: Settings,
    gate: Gate,
    devices: Devices,
    listings: Listings,
    warmth: Warmth,
    cors: RwLock<Arc<Cors>>,
    streams: Arc<Semaphore>,
}

impl App {
    /// The origins that are let in now.
    fn cors(&self) -> Arc<Cors> {
        self.cors.read().expect("no panic while held").clone()
    }
}

impl Classworks {
    /// The dialect on a port that other dialects share. Its prefix is the mount's, and `passwords`
    /// bounds hashing over all dialects.
    pub fn new(ctx: Ctx, settings: Settings, passwords: Passwords) -> Classworks {
        let app = Arc::new_cyclic(|myself| App {
            myself: Weak::clone(myself),
            gate: Gate::new(ctx.clone(), &settings, passwords),
            devices: Devices::new(ctx.system.clone()),
            listings: Listings::new(Arc::clone(&ctx.clock), Bounds::default()),
            warmth: Warmth::new(),
            cors: RwLock::new(Arc::new(Cors::new(&settings.cors_origins))),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            ctx,
            settings,
        });
        Classworks {
            app,
            face: Face::Shared,
        }
    }

    /// The same dialect for a listener or host name of its own: every path is its, without a prefix,
    /// as in the original.
    #[must_use]
    pub fn on_its_own(&self) -> Classworks {
        Classworks {
            app: Arc::clone(&self.app),
            face: Face::Own,
        }
    }
}

impl App {
    /// The prefix in front of a path of this dialect, and the rest.
    fn split<'a>(&self, face: Face, path: &'a str) -> (&str, &'a str) {
        match (face, self.below_prefix(path)) {
            (Face::Shared, Some(rest)) => (&self.ctx.base, rest),
            _ => ("", path),
        }
    }

    fn below_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.ctx.base.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// Largest value, in bytes.
    fn value_bytes_max(&self) -> usize {
        let store = self.ctx.limits.value_bytes_max;
        self.settings.value_bytes_max.min(store)
    }

    /// One more owner, for answers that outlive their request.
    fn share(&self) -> Arc<App> {
        self.myself
            .upgrade()
            .expect("who calls this borrows from an owner")
    }
}

impl Dialect for Classworks {
    fn name(&self) -> &'static str {
        self.app.ctx.dialect
    }

    fn claims(&self, method: &Method, path: &str) -> bool {
        if self.face == Face::Own || self.app.below_prefix(path).is_some() {
            return true;
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        self.app.settings.root && (path == "/check" && is_read || path::begins_with_uuid(path))
    }

    fn routes(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    fn direct<'a>(
        &'a self,
        request: &'a Parts,
        _body: &mut Body,
        info: &'a RequestInfo,
    ) -> Option<Direct<'a>> {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        is_read.then(|| Direct {
            route: None,
            answer: Box::pin(handlers::serve(
                &self.app,
                self.face,
                request,
                info,
                Body::empty(),
            )),
        })
    }

    /// The handlers bound the whole request, so no part of it needs a bound of its own.
    fn body_gap(&self) -> Option<Duration> {
        Some(Duration::from_secs(
            self.app.settings.timeout_seconds.into(),
        ))
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "classworks",
            usual: "/classworks",
            failure_type: "application/json",
            failure: Some("ClassworksErrorBody"),
            proofs: &[openapi::proof::SITE_KEY],
        };
        let described = <description::Description as utoipa::OpenApi>::openapi();
        let base = match self.face {
            Face::Own => "",
            Face::Shared => self.app.ctx.base.as_str(),
        };
        shared.complete(described, base)
    }

    fn allow_origins(&self, origins: &[String]) {
        let cors = Arc::new(Cors::new(origins));
        *self.app.cors.write().expect("no panic while held") = cors;
    }

    fn render(&self, error: &ApiError, request: &RequestInfo) -> Response {
        let response = error::render(error, request);
        match &*self.app.cors() {
            // Also for failures of the listener, which the handlers have not seen.
            cors @ Cors::Any => cors.mark(&http::HeaderMap::new(), response),
            Cors::These(_) => response,
        }
    }

    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let App {
                ctx,
                listings,
                warmth,
                ..
            } = &*self.app;
            let warming = warmth.keep(listings, &ctx.keyspace);
            ctx.shutdown.run_until_cancelled(warming).await;
        })
    }
}

async fn serve(
    State(classworks): State<Classworks>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let info = parts.extensions.remove::<RequestInfo>();
    let info = info.expect("the site tells routes about their requests");
    handlers::serve(&classworks.app, classworks.face, &parts, &info, body).await
}

/// Takes path and query of a request apart. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_target(path: &str, query: &str) {
    let _ = path::begins_with_uuid(path);
    let target = path::Target::parse(path, path);
    if let Ok(path::Place::Value(key) | path::Place::Metadata(key)) = &target.place {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "keys are bounded");
        let again = format!("/ns/{}", wire::encode_component(key));
        if path::check_written_key(key).is_ok() {
            let again = path::Target::parse(&again, &again);
            let same = matches!(again.place, Ok(path::Place::Value(found)) if found == *key);
            assert!(same, "a key and its path say the same");
        }
    }
    for name in ["sitekey", "password"] {
        let _ = wire::parameter(query, name);
    }
    if let Ok(list) = wire::ListQuery::parse(Some(query)) {
        assert!((1..=LIMIT_MAX).contains(&list.limit));
        let _ = list.load_more(path, usize::MAX);
    }
}

/// Takes a body as a value and as a batch, also through each encoding. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(body);
    if let Ok(value) = value::checked(body.clone()) {
        let parsed = serde_json::from_slice::<Box<serde_json::value::RawValue>>(&value);
        assert!(parsed.is_ok(), "what is stored is JSON");
    }
    let _ = value::members(body.clone());
    for encoding in ["gzip", "deflate", "br"] {
        let mut headers = http::HeaderMap::new();
        headers.insert(
            http::header::CONTENT_ENCODING,
            http::HeaderValue::from_static(encoding),
        );
        if let Ok(out) = inflate::undo(&headers, body.clone(), VALUE_BYTES_DEFAULT) {
            assert!(out.len() <= VALUE_BYTES_DEFAULT);
        }
    }
}

/// Takes bytes as what `X-Site-Key` and `X-Namespace-Password` hold. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_credential(shown: &[u8]) {
    gate::fuzz(shown);
}
