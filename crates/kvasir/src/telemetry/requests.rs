//! What is counted per request and connection.
//!
//! Labels come from closed sets: the dialects of this server, the templates of their routes, five
//! status classes, a few reasons. No key, token or tenant is ever one. A counter comes into being
//! with the first request that it counts, so that routes nobody uses cost no series.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};

use http::StatusCode;
use kvasir_api::RequestInfo;
use kvasir_api::mount::RouteName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::slow::Class;

/// The label of requests that no dialect claims.
const NO_DIALECT: &str = "none";

/// The label of requests without a route, and of those beyond [`ROUTES_MAX`].
const NO_ROUTE: &str = "none";

/// Routes that are told apart. Every further one is counted as `other`, so that mounts of the
/// operator's making, each with the routes of its dialect, do not grow the number of series.
pub const ROUTES_MAX: usize = 192;

/// Names of the status classes.
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of requests and connections.
#[derive(Debug)]
pub struct RequestMetrics {
    /// Requests being answered.
    pub in_progress: Gauge,
    /// Requests refused because too many were in progress.
    pub shed: Counter,
    /// Connections let in.
    pub accepted: Counter,
    /// Connections refused because all places were taken.
    pub turned_away: Counter,
    /// Times that accepting failed, usually for lack of file handles.
    pub accept_errors: Counter,
    /// Spans that were not sent.
    pub spans_dropped: Counter,
    /// Times that the settings were read again and taken over, or refused.
    pub reloads: Family<OutcomeLabel, Counter>,
    answers: Family<AnswerLabels, Counter>,
    routes: std::sync::atomic::AtomicUsize,
    by_dialect: HashMap<&'static str, ByDialect>,
    rejected: Family<ReasonLabel, Counter>,
    auth_failures: Family<ReasonLabel, Counter>,
    slow: Family<ClassLabel, Counter>,
}

/// Why a request was not served, from a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok` or `refused`.
    pub outcome: &'static str,
}

#[derive(Debug)]
struct ByDialect {
    seconds: Histogram,
    routes: RwLock<HashMap<Box<str>, Arc<ByRoute>>>,
}

/// By status class, 1xx to 5xx.
type ByRoute = [OnceLock<Counter>; 5];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    dialect: &'static str,
    route: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DialectLabel {
    dialect: &'static str,
}

impl RequestMetrics {
    /// Counters for these dialects, made part of `registry` under names that begin with `http_`.
    pub fn register(
        registry: &mut Registry,
        dialects: impl IntoIterator<Item = &'static str>,
        open_connections: impl Fn() -> usize + Send + Sync + 'static,
    ) -> RequestMetrics {
        let answers = Family::<AnswerLabels, Counter>::default();
        let seconds = Family::<DialectLabel, Histogram>::new_with_constructor(|| {
            // 50 µs to 1.6 s.
            Histogram::new(exponential_buckets(0.000_05, 2.0, 16))
        });
        let by_dialect = dialects
            .into_iter()
            .chain([NO_DIALECT])
            .map(|dialect| {
                let seconds = seconds.get_or_create(&DialectLabel { dialect }).clone();
                let routes = RwLock::default();
                (dialect, ByDialect { seconds, routes })
            })
            .collect();
        let metrics = RequestMetrics {
            in_progress: Gauge::default(),
            shed: Counter::default(),
            accepted: Counter::default(),
            turned_away: Counter::default(),
            accept_errors: Counter::default(),
            spans_dropped: Counter::default(),
            reloads: Family::default(),
            answers,
            routes: Default::default(),
            by_dialect,
            rejected: Family::default(),
            auth_failures: Family::default(),
            slow: Family::default(),
        };
        // These stand there with 0 from the start, so that alert rules have something to look at.
        for reason in REJECTIONS {
            let _ = metrics.rejected.get_or_create(&ReasonLabel { reason });
        }
        for reason in AUTH_FAILURES {
            let _ = metrics.auth_failures.get_or_create(&ReasonLabel { reason });
        }
        for class in Class::ALL.map(Class::name) {
            let _ = metrics.slow.get_or_create(&ClassLabel { class });
        }
        for outcome in ["ok", "refused"] {
            let _ = metrics.reloads.get_or_create(&OutcomeLabel { outcome });
        }
        registry.register_collector(Box::new(OpenConnections(Box::new(open_connections))));
        #[rustfmt::skip]
        {
            let registry = registry.sub_registry_with_prefix("http");
            registry.register("requests", "Requests answered", metrics.answers.clone());
            registry.register("rejected", "Requests that were refused for what they ask of the server, by reason", metrics.rejected.clone());
            registry.register("slow_requests", "Requests over the threshold of their class", metrics.slow.clone());
            registry.register("request_seconds", "Time from the head of a request to the head of its answer", seconds);
            registry.register("requests_in_progress", "Requests being answered", metrics.in_progress.clone());
            registry.register("requests_shed", "Requests refused because too many were in progress", metrics.shed.clone());
            registry.register("connections_accepted", "Connections let in", metrics.accepted.clone());
            registry.register("connections_turned_away", "Connections refused because all places were taken", metrics.turned_away.clone());
            registry.register("accept_errors", "Times that accepting failed", metrics.accept_errors.clone());
        };
        #[rustfmt::skip]
        {
            registry.register("auth_failures", "Requests without a valid credential, or with one that does not allow them, by reason", metrics.auth_failures.clone());
            registry.register("traces_spans_dropped", "Spans that were not sent", metrics.spans_dropped.clone());
            registry.register("config_reloads", "Times that the settings were read again, by outcome", metrics.reloads.clone());
        };
        metrics
    }

    /// A request got the head of its answer.
    pub fn answered(
        &self,
        dialect: Option<&'static str>,
        route: Option<&RouteName>,
        info: &RequestInfo,
        response: &Answer<'_>,
    ) {
        let dialect = dialect.unwrap_or(NO_DIALECT);
        let Some(counts) = self.by_dialect.get(dialect) else {
            return;
        };
        let status = response.status.as_u16();
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let name = route.map_or(NO_ROUTE, RouteName::as_str);
        let by_route = self.by_route(counts, name);
        by_route[class]
            .get_or_init(|| {
                let known = counts.routes.read().expect("no panic while held");
                let route = if known.contains_key(name) {
                    name
                } else {
                    "other"
                };
                let labels = AnswerLabels {
                    dialect,
                    route: route.to_owned(),
                    status: STATUSES[class],
                };
                self.answers.get_or_create(&labels).clone()
            })
            .inc();
        counts
            .seconds
            .observe(info.received.elapsed().as_secs_f64());
        if class >= 3 {
            self.refused(response);
        }
    }

    fn by_route(&self, counts: &ByDialect, name: &str) -> Arc<ByRoute> {
        let known = counts.routes.read().expect("no panic while held");
        if let Some(found) = known.get(name) {
            return found.clone();
        }
        drop(known);
        let is_one_too_many = name != NO_ROUTE
            && self
                .routes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                >= ROUTES_MAX;
        let mut known = counts.routes.write().expect("no panic while held");
        let name = if is_one_too_many { "other" } else { name };
        known.entry(name.into()).or_default().clone()
    }

    fn refused(&self, response: &Answer<'_>) {
        let rejected = match response.status.as_u16() {
            401 => {
                let reason = match response.had_credential {
                    true => "invalid",
                    false => "missing",
                };
                return self.auth_failure(reason);
            }
            403 => {
                let code = AUTH_FAILURES
                    .iter()
                    .find(|reason| **reason == response.code);
                return self.auth_failure(code.copied().unwrap_or("not_allowed"));
            }
            408 => "timeout",
            413 => "too_large",
            429 => "rate",
            431 => "head_too_large",
            503 if response.code == "overloaded" => "overloaded",
            503 => "unavailable",
            507 => "no_space",
            _ => return,
        };
        let reason = ReasonLabel { reason: rejected };
        self.rejected.get_or_create(&reason).inc();
    }

    fn auth_failure(&self, reason: &'static str) {
        self.auth_failures
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// A connection was refused.
    pub fn turned_away(&self) {
        self.turned_away.inc();
        let reason = "connections";
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A request took longer than its class may.
    pub fn slow(&self, class: Class) {
        let class = class.name();
        self.slow.get_or_create(&ClassLabel { class }).inc();
    }
}

/// Reasons of refusals that are about load and size.
const REJECTIONS: [&str; 8] = [
    "connections",
    "head_too_large",
    "no_space",
    "overloaded",
    "rate",
    "timeout",
    "too_large",
    "unavailable",
];

/// Reasons of refusals that are about who asks.
const AUTH_FAILURES: [&str; 5] = [
    "missing",
    "invalid",
    "not_allowed",
    "foreign_host",
    "foreign_origin",
];

/// The head of an answer, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: StatusCode,
    /// Our stable code of an error; empty without one.
    pub code: &'a str,
    /// Whether the request showed a credential in its `Authorization` header.
    pub had_credential: bool,
}

/// Open connections, counted when somebody asks.
struct OpenConnections(Box<dyn Fn() -> usize + Send + Sync>);

impl std::fmt::Debug for OpenConnections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenConnections")
    }
}

impl Collector for OpenConnections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let open = i64::try_from((self.0)()).unwrap_or(i64::MAX);
        let gauge = ConstGauge::new(open);
        let metric = encoder.encode_descriptor(
            "http_connections",
            "Open connections",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode(metric)
    }
}
