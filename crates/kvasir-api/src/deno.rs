//! The Deno dialect: KV Connect, as `Deno.openKv(url)`, `@deno/kv` and Python's `denokv` speak it,
//! and queues over HTTP, which that protocol has no words for.
//!
//! | route | what |
//! | --- | --- |
//! | `POST /` | metadata exchange for the database `default` |
//! | `POST /db/{name}` | the same for another database |
//! | `POST /kv-connect/{name}/snapshot_read`, `.../atomic_write`, `.../watch` | the data path that the exchange announces |
//! | `/queue/{name}/...` | see [`queue`] |
//!
//! A client shows its access token once, in the exchange, and gets a data token for the rest; see
//! [`token`]. Errors are one plain sentence, and only what a repeat can cure is a 5xx, because
//! clients repeat those for ever.

mod data_path;
mod error;
pub mod messages;
mod metadata;
pub mod queue;
pub mod token;
mod watch;
pub mod wire;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use http::Method;
use http::request::Parts;
use kvasir_kv::UnixMillis;
use serde::Deserialize;

use crate::context::Ctx;
use crate::databases::Databases;
use crate::error::ApiError;
use crate::mount::{Dialect, Direct, RouteName, finish};
use crate::openapi;
use crate::request::RequestInfo;
use token::DataTokens;

/// What the dialect offers.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    metadata::exchange_default,
    metadata::exchange,
    data_path::snapshot_read,
    data_path::atomic_write,
    watch::watch,
    queue::enqueue,
    queue::pull,
    queue::ack,
    queue::fail,
    queue::extend,
    queue::stream
))]
struct Description;

/// Segment below the mount under which the data path lies.
const DATA_PATH: &str = "kv-connect";

/// The two requests of the data path that are asked most.
const READ: &str = "snapshot_read";
const WRITE: &str = "atomic_write";

/// How often leases that ran out are looked for, in milliseconds.
const LEASE_CHECK_MS: i64 = 1_000;

/// `[deno]`: the Deno dialect.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Store values of V8 format 16, which Deno 2.9 writes, as format 15. The bytes of the value are
    /// the same; older programs (Node 20, Python) refuse the newer number. Off means byte-exact
    /// storage.
    pub v8_compat: bool,

    /// Address that clients reach this server under, such as `https://kv.example.com`. Endpoints
    /// are then announced with it; without it they are paths, which clients resolve themselves.
    pub public_url: Option<String>,

    /// How long a data token is announced to last, in seconds, at least 600.
    pub token_lifetime_s: u32,

    /// How long a data token is accepted beyond that, in seconds, at least 600. The npm client uses
    /// a token it knows to be old once more after a long pause, so this is as long as pauses are.
    pub token_overlap_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            v8_compat: true,
            public_url: None,
            token_lifetime_s: 3600,
            token_overlap_s: 24 * 3600,
        }
    }
}

/// The dialect at one mount.
#[derive(Clone)]
pub struct Deno(Arc<Inner>);

struct Inner {
    ctx: Ctx,
    settings: Settings,
    databases: Databases,
    tokens: DataTokens,
    finished: queue::Finished,
    read_route: RouteName,
    write_route: RouteName,
}

impl Deno {
    /// Serves KV Connect below the base of `ctx`, on all databases of its store.
    pub fn new(ctx: Ctx, settings: Settings) -> Deno {
        let databases = Databases::new(ctx.system.clone());
        let tokens = DataTokens::new(&ctx, &settings);
        let route = |last: &str| format!("{}/{DATA_PATH}/{{database}}/{last}", ctx.base).into();
        Deno(Arc::new(Inner {
            read_route: route(READ),
            write_route: route(WRITE),
            ctx,
            settings,
            databases,
            tokens,
            finished: queue::Finished::default(),
        }))
    }

    /// The path of the request below this mount, if it is.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.0.ctx.base.as_str())
    }
}

impl Dialect for Deno {
    fn name(&self) -> &'static str {
        "deno"
    }

    fn claims(&self, method: &Method, path: &str) -> bool {
        let Some(path) = self.below(path) else {
            return false;
        };
        match path {
            // Other methods at the root are for whoever shows a page there.
            "" | "/" => method == Method::POST,
            _ => {
                let first = path
                    .strip_prefix('/')
                    .and_then(|rest| rest.split('/').next());
                matches!(first, Some("db" | DATA_PATH | "queue"))
            }
        }
    }

    fn routes(&self) -> Router {
        let base = &self.0.ctx.base;
        let data = format!("{base}/{DATA_PATH}/{{database}}");
        let root = if base.is_empty() { "/" } else { base };
        let mut routes = Router::new()
            .route(root, post(metadata::exchange_default))
            .route(&format!("{base}/db/{{database}}"), post(metadata::exchange))
            .route(&format!("{data}/{READ}"), post(data_path::snapshot_read))
            .route(&format!("{data}/{WRITE}"), post(data_path::atomic_write))
            .route(&format!("{data}/watch"), post(watch::watch))
            .route(&format!("{base}/queue/{{database}}"), post(queue::enqueue))
            .route(
                &format!("{base}/queue/{{database}}/pull"),
                post(queue::pull),
            )
            .route(&format!("{base}/queue/{{database}}/ack"), post(queue::ack))
            .route(
                &format!("{base}/queue/{{database}}/fail"),
                post(queue::fail),
            )
            .route(
                &format!("{base}/queue/{{database}}/extend"),
                post(queue::extend),
            )
            .route(
                &format!("{base}/queue/{{database}}/stream"),
                get(queue::stream),
            );
        if !base.is_empty() {
            routes = routes.route(&format!("{base}/"), post(metadata::exchange_default));
        }
        finish(routes.with_state(Arc::clone(&self.0)))
    }

    fn direct<'a>(
        &'a self,
        request: &'a Parts,
        body: &mut Body,
        info: &'a RequestInfo,
    ) -> Option<Direct<'a>> {
        let below = self.below(request.uri.path())?.strip_prefix('/')?;
        let rest = below.strip_prefix(DATA_PATH)?.strip_prefix('/')?;
        let (database, last) = rest.split_once('/')?;
        // The router decodes names; those that need it are no databases, and it says so.
        if request.method != Method::POST || database.is_empty() || database.contains('%') {
            return None;
        }
        let (deno, headers) = (&*self.0, &request.headers);
        let mut body = || std::mem::take(body);
        let (route, answer): (_, BoxFuture<'a, _>) = match last {
            READ => {
                let answer = data_path::read(deno, database, info, headers, body());
                (&deno.read_route, Box::pin(answer))
            }
            WRITE => {
                let answer = data_path::write(deno, database, info, headers, body());
                (&deno.write_route, Box::pin(answer))
            }
            _ => return None,
        };
        let route = Some(route.clone());
        Some(Direct { route, answer })
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        let shared = openapi::Shared {
            dialect: "deno",
            usual: "",
            failure_type: "text/plain",
            failure: None,
            proofs: &[openapi::proof::TOKEN],
        };
        let described = <Description as utoipa::OpenApi>::openapi();
        shared.complete(described, &self.0.ctx.base)
    }

    fn render(&self, error: &ApiError, _request: &RequestInfo) -> Response {
        error::render(error)
    }

    fn background(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ctx = &self.0.ctx;
            loop {
                let now = ctx.clock.now();
                if let Err(error) = crate::queue::release_expired(ctx.store(), now).await {
                    tracing::warn!("leases that ran out could not be given back: {error}");
                }
                let next = UnixMillis(now.0.saturating_add(LEASE_CHECK_MS));
                tokio::select! {
                    () = ctx.clock.sleep_until(next) => {}
                    () = ctx.shutdown.cancelled() => return,
                }
            }
        })
    }
}

/// Takes a body as each of the data path's messages. For fuzzing: it must not panic.
#[doc(hidden)]
pub fn fuzz_messages(body: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(body);
    drop(wire::snapshot_read(body.clone()));
    drop(wire::atomic_write(body.clone(), true, UnixMillis(0)));
    drop(wire::watch(body));
}
