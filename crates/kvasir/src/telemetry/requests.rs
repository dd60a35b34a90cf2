//! What is counted per request and connection.
//!
//! Labels come from closed sets: the mounts of this server, five status classes. The handles of all
//! label sets are made at start, so that counting a request looks nothing up.

use std::collections::HashMap;
use std::sync::RwLock;

use axum::body::Body;
use axum::extract::MatchedPath;
use http::Response;
use kvasir_api::RequestInfo;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The label of requests that no dialect claims.
const NO_DIALECT: &str = "none";

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
    by_dialect: HashMap<&'static str, ByDialect>,
    answers_by_route: Family<RouteLabels, Counter>,
    /// Those counters again, found without making their labels.
    by_route: RwLock<HashMap<&'static str, HashMap<Box<str>, ByClass>>>,
}

/// Counters by status class, 1xx to 5xx.
type ByClass = [Counter; 5];

/// The names of the classes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The label of requests that no route served: past the router, refused before it, or unknown.
const NO_ROUTE: &str = "none";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    dialect: &'static str,
    route: String,
    status: &'static str,
}

#[derive(Debug)]
struct ByDialect {
    answers: ByClass,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    dialect: &'static str,
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
                let answers = CLASSES.map(|status| {
                    answers
                        .get_or_create(&AnswerLabels { dialect, status })
                        .clone()
                });
                let seconds = seconds.get_or_create(&DialectLabel { dialect }).clone();
                (dialect, ByDialect { answers, seconds })
            })
            .collect();
        let metrics = RequestMetrics {
            in_progress: Gauge::default(),
            shed: Counter::default(),
            accepted: Counter::default(),
            turned_away: Counter::default(),
            accept_errors: Counter::default(),
            by_dialect,
            answers_by_route: Family::default(),
            by_route: RwLock::default(),
        };
        registry.register_collector(Box::new(OpenConnections(Box::new(open_connections))));
        #[rustfmt::skip]
        {
            let registry = registry.sub_registry_with_prefix("http");
            registry.register("requests", "Requests answered", answers);
            registry.register("route_requests", "Requests answered, by the template of their route", metrics.answers_by_route.clone());
            registry.register("request_seconds", "Time from the head of a request to the head of its answer", seconds);
            registry.register("requests_in_progress", "Requests being answered", metrics.in_progress.clone());
            registry.register("requests_shed", "Requests refused because too many were in progress", metrics.shed.clone());
            registry.register("connections_accepted", "Connections let in", metrics.accepted.clone());
            registry.register("connections_turned_away", "Connections refused because all places were taken", metrics.turned_away.clone());
            registry.register("accept_errors", "Times that accepting failed", metrics.accept_errors.clone());
        };
        metrics
    }

    /// A request got the head of its answer.
    pub fn answered(
        &self,
        dialect: Option<&'static str>,
        info: &RequestInfo,
        response: &Response<Body>,
    ) {
        let dialect = dialect.unwrap_or(NO_DIALECT);
        let Some(counts) = self.by_dialect.get(dialect) else {
            return;
        };
        let class = usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1;
        counts.answers[class].inc();
        counts
            .seconds
            .observe(info.received.elapsed().as_secs_f64());
        let route = response.extensions().get::<MatchedPath>();
        self.count_route(dialect, route.map_or(NO_ROUTE, MatchedPath::as_str), class);
    }

    /// Routes are templates, so there are never more of them than the program has.
    fn count_route(&self, dialect: &'static str, route: &str, class: usize) {
        {
            let known = self.by_route.read().expect("no panic while held");
            let counters = known.get(dialect).and_then(|routes| routes.get(route));
            if let Some(counters) = counters {
                counters[class].inc();
                return;
            }
        }
        let counters = CLASSES.map(|status| {
            let labels = RouteLabels {
                dialect,
                route: route.to_owned(),
                status,
            };
            self.answers_by_route.get_or_create(&labels).clone()
        });
        counters[class].inc();
        let mut known = self.by_route.write().expect("no panic while held");
        known
            .entry(dialect)
            .or_default()
            .insert(route.into(), counters);
    }
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
