//! Traces by the OpenTelemetry protocol, off by default.
//!
//! Spans are made when a request has ended, from its account: one for the request and one for each
//! spell of waiting or working. So a request that is not sampled, and every request while tracing
//! is off, costs nothing but the decision. A caller's `traceparent` is joined and its decision to
//! sample honoured. Spans wait in a bounded queue; what does not fit, or what the collector does
//! not take, is dropped and counted.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::account::Finished;

/// Spans that wait for the collector at most.
const QUEUE_SPANS_MAX: usize = 8192;

/// Spans of one request to the collector at most.
const BATCH_SPANS_MAX: usize = 512;

/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_secs(1);

/// Longest wait for the collector, also at the end of the process.
const EXPORT_MAX: Duration = Duration::from_secs(3);

/// `[tracing]`: spans for a collector.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingSettings {
    /// Whether spans are made and sent. Off, nothing leaves the server.
    pub enabled: bool,
    /// Where they are sent: the URL of a collector's OTLP receiver for traces over HTTP, in protobuf.
    pub endpoint: String,
    /// The share of requests that are sampled if their caller decided nothing, 0 to 1.
    pub sample: f64,
    /// The name that this server has in traces.
    pub service: String,
}

impl Default for TracingSettings {
    fn default() -> Self {
        TracingSettings {
            enabled: false,
            endpoint: "http://127.0.0.1:4318/v1/traces".into(),
            sample: 1.0,
            service: "kvasir".into(),
        }
    }
}

/// Makes spans of sampled requests.
#[derive(Debug)]
pub struct Traces {
    sample: f64,
    queue: mpsc::Sender<SpanData>,
    /// Spans that did not fit the queue.
    dropped: Counter,
    scope: InstrumentationScope,
}

/// Sends what [`Traces`] makes.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    dropped: Counter,
}

/// The place of a sampled request in its trace.
#[derive(Debug)]
pub struct Traced {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
}

impl Traces {
    /// Both ends, or `None` if tracing is switched off.
    ///
    /// # Errors
    ///
    /// For an endpoint that is no URL.
    pub fn new(
        settings: &TracingSettings,
        dropped: Counter,
    ) -> anyhow::Result<Option<(Traces, Sender)>> {
        if !settings.enabled {
            return Ok(None);
        }
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .context("tracing.endpoint")?;
        let resource = Resource::builder_empty()
            .with_service_name(settings.service.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        exporter.set_resource(&resource);
        let (queue, receiver) = mpsc::channel(QUEUE_SPANS_MAX);
        let traces = Traces {
            sample: settings.sample.clamp(0.0, 1.0),
            queue,
            dropped: dropped.clone(),
            scope: InstrumentationScope::builder("kvasir").build(),
        };
        let sender = Sender {
            queue: receiver,
            exporter,
            dropped,
        };
        Ok(Some((traces, sender)))
    }

    /// The place of a request with these headers in its trace, if it is sampled.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Traced> {
        // Ids must differ, and protect nothing.
        let span = SpanId::from(getrandom::u64().ok()?.max(1));
        let header = headers.get("traceparent");
        let parent = header.and_then(|header| Parent::parse(header.to_str().ok()?));
        if let Some(parent) = parent {
            return parent.is_sampled.then_some(Traced {
                trace: parent.trace,
                span,
                parent: Some(parent.span),
            });
        }
        let (high, low) = (getrandom::u64().ok()?.max(1), getrandom::u64().ok()?);
        // The low half decides, so that all parts of a trace that go by it decide alike.
        let share = (low >> 11) as f64 / (1_u64 << 53) as f64;
        (share < self.sample).then_some(Traced {
            trace: TraceId::from((u128::from(high) << 64) | u128::from(low)),
            span,
            parent: None,
        })
    }

    /// Queues the spans of a request that ended at `now_micros`.
    pub fn end(&self, traced: Traced, finished: &Finished<'_>, now_micros: u64) {
        let now = (
            UNIX_EPOCH + Duration::from_micros(now_micros),
            Instant::now(),
        );
        let context = |span| {
            let flags = TraceFlags::SAMPLED;
            SpanContext::new(traced.trace, span, flags, false, TraceState::NONE)
        };
        let span =
            |context, parent, is_remote, kind, name, (from, to), attributes, status| SpanData {
                span_context: context,
                parent_span_id: parent,
                parent_span_is_remote: is_remote,
                span_kind: kind,
                name,
                start_time: at(now, from),
                end_time: at(now, to),
                attributes,
                dropped_attributes_count: 0,
                events: SpanEvents::default(),
                links: SpanLinks::default(),
                status,
                instrumentation_scope: self.scope.clone(),
            };
        let method = finished.info.method.as_str();
        let name = match finished.route {
            "" => method.to_owned(),
            route => format!("{method} {route}"),
        };
        let status = match finished.status.is_server_error() {
            true => Status::error(""),
            false => Status::Unset,
        };
        let attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", finished.route.to_owned()),
            KeyValue::new(
                "http.response.status_code",
                i64::from(finished.status.as_u16()),
            ),
            KeyValue::new("kvasir.dialect", finished.dialect),
            KeyValue::new("kvasir.request_id", finished.info.id.to_string()),
        ];
        let whole = (finished.info.received, finished.ended_at);
        let parent = traced.parent.unwrap_or(SpanId::INVALID);
        self.push(span(
            context(traced.span),
            parent,
            traced.parent.is_some(),
            SpanKind::Server,
            name.into(),
            whole,
            attributes,
            status,
        ));
        let spells = finished.spent.spells();
        let spells = spells
            .iter()
            .map(|spell| (spell.part.name(), (spell.from, spell.to)));
        let send = ("send", (finished.answered_at, finished.ended_at));
        for (name, times) in spells.chain([send]) {
            let Ok(id) = getrandom::u64() else {
                return;
            };
            self.push(span(
                context(SpanId::from(id.max(1))),
                traced.span,
                false,
                SpanKind::Internal,
                name.into(),
                times,
                Vec::new(),
                Status::Unset,
            ));
        }
    }

    fn push(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

/// The time of day of a moment, by a pair of both for now.
fn at(now: (SystemTime, Instant), moment: Instant) -> SystemTime {
    now.0 - now.1.saturating_duration_since(moment)
}

impl Sender {
    /// Sends for as long as spans come, and what is queued when `end` completes.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut is_over = false;
        let mut was_taken = true;
        while !is_over {
            let mut batch = Vec::new();
            tokio::select! {
                () = &mut end => is_over = true,
                count = self.queue.recv_many(&mut batch, BATCH_SPANS_MAX) => {
                    is_over = count == 0;
                    let more = async {
                        while batch.len() < BATCH_SPANS_MAX {
                            match self.queue.recv().await {
                                Some(span) => batch.push(span),
                                None => return,
                            }
                        }
                    };
                    // Whichever comes first: the batch is full, or it was gathered long enough.
                    tokio::select! {
                        _ = tokio::time::timeout(GATHER, more) => {}
                        () = &mut end => is_over = true,
                    }
                }
            }
            if is_over {
                while let Ok(span) = self.queue.try_recv() {
                    batch.push(span);
                }
            }
            was_taken = self.send(batch, was_taken).await;
        }
    }

    async fn send(&self, batch: Vec<SpanData>, was_taken: bool) -> bool {
        let count = batch.len() as u64;
        if count == 0 {
            return was_taken;
        }
        let sent = tokio::time::timeout(EXPORT_MAX, self.exporter.export(batch)).await;
        let error = match sent {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.dropped.inc_by(count);
        // Said once until it works again.
        if was_taken {
            tracing::warn!(spans = count, "the collector does not take spans: {error}");
        }
        false
    }
}

/// A caller's place in a trace: `00-TRACE-SPAN-FLAGS` (W3C Trace Context, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    is_sampled: bool,
}

impl Parent {
    fn parse(text: &str) -> Option<Parent> {
        let hex = |text: &str, digits: usize| {
            let is_hex = text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (text.len() == digits && is_hex).then(|| u128::from_str_radix(text, 16).ok())?
        };
        let mut parts = text.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = TraceId::from(hex(parts.next()?, 32)?);
        let span = SpanId::from(u64::try_from(hex(parts.next()?, 16)?).ok()?);
        let flags = hex(parts.next()?, 2)?;
        // A later version may have more parts, the first one has not.
        let is_known = version != 0xff && (version > 0 || parts.next().is_none());
        let is_valid = is_known && trace != TraceId::INVALID && span != SpanId::INVALID;
        is_valid.then_some(Parent {
            trace,
            span,
            is_sampled: flags & 1 == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_traces_are_read_as_the_standard_says() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::parse(text).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled);
        let unsampled = Parent::parse(&text.replace("-01", "-00")).unwrap();
        assert!(!unsampled.is_sampled);
        assert!(Parent::parse(&text.replace("00-0", "01-0")).is_some());
        for bad in [
            "",
            "00",
            &text.to_uppercase(),
            &text.replace("00-0", "ff-0"),
            &format!("{text}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }
}
