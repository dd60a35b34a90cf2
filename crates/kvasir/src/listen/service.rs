//! From a request on a connection to the site and back.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use http::{HeaderMap, HeaderName, Request, Response, header};
use hyper::body::{Body as _, Incoming};
use kvasir_api::mount::Found;
use kvasir_api::request::RequestId;
use kvasir_api::{RequestInfo, Site};

use super::body::{Answer, BodyPace, Paced};
use super::gate::Gate;
use super::proxy::TrustedProxies;
use super::pulse::Pulse;
use crate::telemetry::probes::Probes;
use crate::telemetry::requests::RequestMetrics;

/// Everything that answers requests, shared by the connections of a listener.
pub struct Handler {
    /// The dialects.
    pub site: Arc<Site>,
    /// Health, readiness and metrics.
    pub probes: Arc<Probes>,
    /// Proxies that may speak for their clients.
    pub trusted_proxies: TrustedProxies,
    /// How many requests may be in progress.
    pub gate: Arc<Gate>,
    /// What is counted.
    pub metrics: Arc<RequestMetrics>,
    /// How fast request bodies have to come.
    pub body_pace: BodyPace,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) is_tls: bool,
}

impl Handler {
    /// The service of one connection.
    pub(super) fn service(
        self: Arc<Self>,
        connected: Connected,
        pulse: Arc<Pulse>,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Answer>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Answer>, Infallible>> + Send + 'static,
    > + Send
    + 'static {
        let ids = RequestIds::new();
        // Requests of one connection usually name the same host, so its text is shared.
        let last_host: RefCell<Arc<str>> = RefCell::new(Arc::from(""));
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let in_progress = InProgress::begin(&pulse, &self.metrics);
            let info = RequestInfo {
                id: ids.next(),
                peer: connected.peer,
                local: connected.local,
                client: connected.peer.ip().to_canonical(),
                is_tls: connected.is_tls,
                received: Instant::now(),
                uri: request.uri().clone(),
                method: request.method().clone(),
                host: host(&request, &last_host),
            };
            let handler = self.clone();
            let pulse = pulse.clone();
            async move {
                let _in_progress = in_progress;
                let response = handler.answer(request, info).await;
                Ok(response.map(|body| Answer::new(body, &pulse)))
            }
        })
    }

    async fn answer(&self, request: Request<Incoming>, mut info: RequestInfo) -> Response<Body> {
        self.trusted_proxies.apply(request.headers(), &mut info);
        if let Some(response) = self.probes.answer(&info) {
            return response;
        }
        let found = self.site.find(&info);
        let dialect = found.dialect();
        let response = if let Some(_permit) = self.gate.enter(dialect, &info.method) {
            let request = request.map(|body| self.paced(body, &found));
            found.handle(request, &info).await
        } else {
            self.metrics.shed.inc();
            found.refuse(Gate::refusal(), &info)
        };
        self.metrics.answered(dialect, &info, &response);
        tracing::debug!(
            request = %info.id,
            dialect,
            method = %info.method,
            status = response.status().as_u16(),
            duration_ms = info.received.elapsed().as_secs_f64() * 1e3,
            "answered"
        );
        response
    }

    /// The body as dialects get it. The usual request has none.
    fn paced(&self, body: Incoming, found: &Found<'_>) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let mut pace = self.body_pace;
        if let Some(gap) = found.body_gap() {
            pace.gap = gap;
        }
        Body::new(Paced::new(body, pace))
    }
}

/// The `Host` header, or the authority of an HTTP/2 request.
fn host(request: &Request<Incoming>, last: &RefCell<Arc<str>>) -> Arc<str> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => text(request.headers(), &header::HOST).unwrap_or_default(),
    };
    let mut last = last.borrow_mut();
    if **last != *host {
        *last = host.into();
    }
    last.clone()
}

/// A header's value, if it is there and text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A request that is being answered: keeps its connection, counts in a gauge.
struct InProgress {
    pulse: Arc<Pulse>,
    metrics: Arc<RequestMetrics>,
}

impl InProgress {
    fn begin(pulse: &Arc<Pulse>, metrics: &Arc<RequestMetrics>) -> InProgress {
        pulse.request_began();
        metrics.in_progress.inc();
        InProgress {
            pulse: pulse.clone(),
            metrics: metrics.clone(),
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.pulse.request_ended();
        self.metrics.in_progress.dec();
    }
}

/// Ids of the requests of one connection: a random start, then one step of SplitMix64 each, which
/// never repeats within 2^64 and costs no system call.
struct RequestIds(std::cell::Cell<u64>);

impl RequestIds {
    fn new() -> RequestIds {
        let seed = getrandom::u64().unwrap_or_else(|_| {
            // Ids name requests and protect nothing, so any start does.
            std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
        });
        RequestIds(std::cell::Cell::new(seed))
    }

    fn next(&self) -> RequestId {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(mixed ^ (mixed >> 31))
    }
}
