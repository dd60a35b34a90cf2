//! From a request on a connection to the site and back.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use axum::body::Body;
use http::{HeaderMap, HeaderName, Request, Response, header};
use hyper::body::{Body as _, Incoming};
use kvasir_api::mount::{ERROR_CODE, Found};
use kvasir_api::request::RequestId;
use kvasir_api::{RequestInfo, Site};

use super::body::{Answer, BodyPace, Paced};
use super::gate::Gate;
use super::proxy::TrustedProxies;
use super::pulse::Pulse;
use crate::telemetry::account::{Account, Telemetry};
use crate::telemetry::logs;
use crate::telemetry::probes::Probes;
use crate::telemetry::requests;

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
    /// What is counted, kept and told.
    pub telemetry: Arc<Telemetry>,
    /// How fast request bodies have to come.
    pub body_pace: Arc<RwLock<BodyPace>>,
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
            let in_progress = InProgress::begin(&pulse, &self.telemetry);
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
                let (response, account) = handler.answer(request, info).await;
                Ok(response.map(|body| Answer::new(body, &pulse, account)))
            }
        })
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        mut info: RequestInfo,
    ) -> (Response<Body>, Option<Box<Account>>) {
        self.trusted_proxies.apply(request.headers(), &mut info);
        if let Some(response) = self.probes.answer(&info) {
            return (response, None);
        }
        let found = self.site.find(&info);
        let dialect = found.dialect();
        let had_credential = request.headers().contains_key(header::AUTHORIZATION);
        let mut account = Box::new(Account::open(&self.telemetry, request.headers()));
        let metrics = &self.telemetry.metrics;
        let (response, route) = if let Some(_permit) = self.gate.enter(dialect, &info.method) {
            let request = request.map(|body| self.paced(body, &found));
            let work = found.handle(request, &info);
            let answered = account.spent.clone().around(work).await;
            (answered.response, answered.route)
        } else {
            metrics.shed.inc();
            (found.refuse(Gate::refusal(), &info), None)
        };
        let code = text(response.headers(), &ERROR_CODE).unwrap_or_default();
        let answer = requests::Answer {
            status: response.status(),
            code,
            had_credential,
        };
        metrics.answered(dialect, route.as_ref(), &info, &answer);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(
                request = %info.id,
                dialect,
                method = %info.method,
                target = logs::shown_target(&info.uri),
                status = response.status().as_u16(),
                duration_ms = info.received.elapsed().as_secs_f64() * 1e3,
                "answered"
            );
        }
        account.answered(info, dialect, route, response.status());
        (response, Some(account))
    }

    /// The body as dialects get it. The usual request has none.
    fn paced(&self, body: Incoming, found: &Found<'_>) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        let mut pace = *self.body_pace.read().expect("only copied while held");
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
    telemetry: Arc<Telemetry>,
}

impl InProgress {
    fn begin(pulse: &Arc<Pulse>, telemetry: &Arc<Telemetry>) -> InProgress {
        pulse.request_began();
        telemetry.metrics.in_progress.inc();
        InProgress {
            pulse: pulse.clone(),
            telemetry: telemetry.clone(),
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.pulse.request_ended();
        self.telemetry.metrics.in_progress.dec();
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
