//! One request, from its head to the end of its answer, for the slow log and for traces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use kvasir_api::RequestInfo;
use kvasir_api::mount::RouteName;
use kvasir_kv::Clock;
use kvasir_kv::spent::Spent;

use super::logs;
use super::requests::RequestMetrics;
use super::slow::{SlowLog, SlowRequest};
use super::traces::{Traced, Traces};

/// Everything that is told about requests.
pub struct Telemetry {
    /// What is counted.
    pub metrics: RequestMetrics,
    /// Requests over their thresholds.
    pub slow: Arc<SlowLog>,
    /// Spans for a collector, if that is switched on.
    pub traces: Option<Traces>,
    /// Time of day, for what is kept and sent.
    pub clock: Arc<dyn Clock>,
}

/// A request while it is answered. Dropping it is the end of its answer.
pub struct Account {
    telemetry: Arc<Telemetry>,
    /// Where its time goes.
    pub spent: Arc<Spent>,
    traced: Option<Traced>,
    answered: Option<Answered>,
}

/// What is known once the head of the answer is.
struct Answered {
    info: RequestInfo,
    dialect: &'static str,
    route: Option<RouteName>,
    status: StatusCode,
    at: Instant,
}

/// A finished request.
pub struct Finished<'a> {
    /// What is known of the request.
    pub info: &'a RequestInfo,
    /// Name of the dialect, `none` if no dialect claims it.
    pub dialect: &'static str,
    /// The template of its route; empty if it has none.
    pub route: &'a str,
    /// The status that was answered.
    pub status: StatusCode,
    /// Where the time went.
    pub spent: &'a Spent,
    /// When the head of the answer was ready.
    pub answered_at: Instant,
    /// When the answer was handed over to the connection, or given up. For a watch, whose answer
    /// has no end of its own, when its head was ready.
    pub ended_at: Instant,
}

impl Finished<'_> {
    /// From the head of the request to the end of the answer.
    pub fn total(&self) -> Duration {
        self.ended_at.saturating_duration_since(self.info.received)
    }

    /// From the head of the answer to its end.
    pub fn send(&self) -> Duration {
        self.ended_at.saturating_duration_since(self.answered_at)
    }
}

impl Account {
    /// Begins the account of a request with these headers.
    pub fn open(telemetry: &Arc<Telemetry>, headers: &HeaderMap) -> Account {
        let traces = telemetry.traces.as_ref();
        let traced = traces.and_then(|traces| traces.begin(headers));
        Account {
            spent: Spent::new(traced.is_some()),
            telemetry: telemetry.clone(),
            traced,
            answered: None,
        }
    }

    /// The head of the answer is ready.
    pub fn answered(
        &mut self,
        info: RequestInfo,
        dialect: Option<&'static str>,
        route: Option<RouteName>,
        status: StatusCode,
    ) {
        self.answered = Some(Answered {
            info,
            dialect: dialect.unwrap_or("none"),
            route,
            status,
            at: Instant::now(),
        });
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Without it the client left before there was an answer.
        let Some(answered) = &self.answered else {
            return;
        };
        let ended_at = if self.spent.has_watched() {
            answered.at
        } else {
            Instant::now()
        };
        let finished = Finished {
            info: &answered.info,
            dialect: answered.dialect,
            route: answered.route.as_ref().map_or("", RouteName::as_str),
            status: answered.status,
            spent: &self.spent,
            answered_at: answered.at,
            ended_at,
        };
        let telemetry = &self.telemetry;
        if telemetry.slow.is_slow(&finished) {
            let at = telemetry.clock.now();
            let target = logs::shown_target(&answered.info.uri);
            let slow = SlowRequest::of(&finished, at, target);
            telemetry.metrics.slow(slow.class);
            telemetry.slow.push(slow);
        }
        if let (Some(traces), Some(traced)) = (&telemetry.traces, self.traced.take()) {
            traces.end(traced, &finished, telemetry.clock.now_micros());
        }
    }
}
