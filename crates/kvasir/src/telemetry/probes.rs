//! `/healthz`, `/readyz`, `/startedz` and `/metrics`: no credential, no user data, no waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{Method, StatusCode, header};
use kvasir_api::RequestInfo;
use kvasir_kv::{Error, Store};
use prometheus_client::registry::Registry;

use crate::tls::challenges::Challenges;

/// How often the stores are asked whether they are well. Together with [`PING_MAX`] less than the
/// 2 s within which a loss has to be told.
const PING_EVERY: Duration = Duration::from_millis(500);

/// After this long without an answer the store counts as away.
const PING_MAX: Duration = Duration::from_secs(1);

/// The media type of the text form of metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the routes are, for `/_/openapi.json`.
#[derive(utoipa::OpenApi)]
#[openapi(paths(describe_health, describe_started, describe_ready, describe_metrics))]
struct Description;

/// The description of the routes; without metrics there is one less.
pub fn openapi(has_metrics: bool) -> utoipa::openapi::OpenApi {
    let shared = kvasir_api::openapi::Shared {
        dialect: "probes",
        usual: "",
        failure_type: "text/plain",
        failure: None,
        proofs: &[],
    };
    let mut described = shared.complete(<Description as utoipa::OpenApi>::openapi(), "");
    if !has_metrics {
        described.paths.paths.remove("/metrics");
    }
    described
}

/// `GET /healthz`: this process works.
#[utoipa::path(get, path = "/healthz",
    responses((status = 200, description = "it works", body = String, content_type = "text/plain")))]
#[expect(dead_code, reason = "documents a route of `Probes`")]
fn describe_health() {}

/// `GET /startedz`: the store was seen to work.
#[utoipa::path(get, path = "/startedz",
    responses(
        (status = 200, description = "started", body = String, content_type = "text/plain"),
        (status = 503, description = "not started", body = String, content_type = "text/plain"),
    ))]
#[expect(dead_code, reason = "documents a route of `Probes`")]
fn describe_started() {}

/// `GET /readyz`: the store is open, reachable and takes writes.
#[utoipa::path(get, path = "/readyz",
    responses(
        (status = 200, description = "ready", body = String, content_type = "text/plain"),
        (status = 503, description = "not ready, and why", body = String, content_type = "text/plain"),
    ))]
#[expect(dead_code, reason = "documents a route of `Probes`")]
fn describe_ready() {}

/// `GET /metrics`: counters in Prometheus' text form.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, description = "the metrics", body = String, content_type = "application/openmetrics-text")))]
#[expect(dead_code, reason = "documents a route of `Probes`")]
fn describe_metrics() {}

/// Answers these routes.
pub struct Probes {
    readiness: Readiness,
    metrics: Option<Arc<Registry>>,
    challenges: Option<Challenges>,
}

impl Probes {
    /// Probes with these metrics; `None` switches `/metrics` off.
    pub fn new(readiness: Readiness, metrics: Option<Arc<Registry>>) -> Probes {
        Probes {
            readiness,
            metrics,
            challenges: None,
        }
    }

    /// Also answers a certificate authority that looks whether a name is ours.
    #[must_use]
    pub fn with_challenges(mut self, challenges: Option<Challenges>) -> Probes {
        self.challenges = challenges;
        self
    }

    /// The answer, if the request is for one of the routes.
    pub fn answer(&self, info: &RequestInfo) -> Option<Response> {
        let route = match info.uri.path() {
            "/healthz" => Probes::health,
            "/readyz" => Probes::ready,
            "/startedz" => Probes::started,
            "/metrics" if self.metrics.is_some() => Probes::metrics,
            path => {
                let answer = self.challenges.as_ref()?.of_path(path)?;
                return Some(answer.into_response());
            }
        };
        Some(match info.method {
            Method::GET | Method::HEAD => route(self),
            _ => (
                StatusCode::METHOD_NOT_ALLOWED,
                [(header::ALLOW, "GET, HEAD")],
                "this route takes only GET\n",
            )
                .into_response(),
        })
    }

    /// `GET /healthz`: this process works.
    fn health(&self) -> Response {
        "ok\n".into_response()
    }

    /// `GET /readyz`: 200 if the store is open, reachable and takes writes, else 503.
    fn ready(&self) -> Response {
        match self.readiness.get() {
            State::Ready => "ready\n".into_response(),
            state => (
                StatusCode::SERVICE_UNAVAILABLE,
                [(header::RETRY_AFTER, "1")],
                format!("not ready: {}\n", state.reason()),
            )
                .into_response(),
        }
    }

    /// The metrics in Prometheus' text form; `None` if they are switched off.
    pub fn metrics_text(&self) -> Option<String> {
        let mut text = String::new();
        let encoded = prometheus_client::encoding::text::encode(&mut text, self.metrics.as_ref()?);
        encoded.ok().map(|()| text)
    }

    /// `GET /startedz`: 200 once the store was seen to work, and from then on.
    fn started(&self) -> Response {
        if self.readiness.has_started() {
            return "started\n".into_response();
        }
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
            "not started\n",
        )
            .into_response()
    }

    /// `GET /metrics` in Prometheus' text form.
    fn metrics(&self) -> Response {
        match self.metrics_text() {
            Some(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
            None => Response::builder()
                .status(StatusCode::INTERNAL_SERVER_ERROR)
                .body(Body::empty())
                .expect("a status alone makes a response"),
        }
    }
}

/// How a store is.
async fn ping(store: &Arc<dyn Store>) -> State {
    match tokio::time::timeout(PING_MAX, store.ping()).await {
        Ok(Ok(())) => State::Ready,
        Ok(Err(Error::ReadOnly(_))) => State::ReadOnly,
        Ok(Err(Error::NoSpace)) => State::NoSpace,
        Ok(Err(_)) | Err(_) => State::Away,
    }
}

/// Whether requests can be served, as far as was seen last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    state: AtomicU8,
    has_started: AtomicBool,
}

/// From well to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Starting,
    Ready,
    ReadOnly,
    NoSpace,
    Away,
    Stopping,
}

impl State {
    const ALL: [State; 6] = [
        State::Starting,
        State::Ready,
        State::ReadOnly,
        State::NoSpace,
        State::Away,
        State::Stopping,
    ];

    fn reason(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::ReadOnly => "the store takes no writes",
            State::NoSpace => "no space left for writes",
            State::Away => "the store cannot be reached",
            State::Stopping => "stopping",
        }
    }
}

impl Readiness {
    fn get(&self) -> State {
        let state = usize::from(self.0.state.load(Ordering::Relaxed));
        State::ALL.get(state).copied().unwrap_or(State::Away)
    }

    fn set(&self, state: State) {
        self.0.state.store(state as u8, Ordering::Relaxed);
        if state == State::Ready {
            self.0.has_started.store(true, Ordering::Relaxed);
        }
    }

    fn has_started(&self) -> bool {
        self.0.has_started.load(Ordering::Relaxed)
    }

    /// Looks after `stores` for as long as it is polled. The worst of them counts.
    pub async fn follow(self, stores: Vec<Arc<dyn Store>>) {
        let mut ticks = tokio::time::interval(PING_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let states = join_all(stores.iter().map(ping)).await;
            let state = states
                .into_iter()
                .max_by_key(|state| *state as u8)
                .unwrap_or(State::Ready);
            let before = self.get();
            if state != before && before != State::Starting {
                tracing::warn!("readiness changed: {}", state.reason());
            }
            self.set(state);
        }
    }

    /// From now on nothing is ready any more.
    pub fn stopping(&self) {
        self.set(State::Stopping);
    }
}
