//! In front of all routes: signatures, bodies that nobody reads, failures on request.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, Method, StatusCode};
use http_body::Body as _;
use kvasir_auth::edgegrid::{Clients, Scheme, Target, Verifier, VerifierSettings};

use super::database::Database;
use super::error;
use super::settings::{RehearsalSettings, SchemeName};
use super::wire::{self, BODY_BYTES_MAX, IGNORED_BODY_BYTES_MAX, body_too_large, read_body};
use crate::audit::{Audit, Deed};
use crate::error::ApiError;
use crate::mount::RouteName;
use crate::request::RequestInfo;

/// Path of the administration API, behind the mount's prefix.
pub(super) const ADMINISTRATION: &str = "/edgekv/v1";
/// The only resource that works before initialisation, behind [`ADMINISTRATION`].
const INITIALIZE: &str = "/initialize";
/// How the route of an item ends.
const ITEM: &str = "/items/{item}";

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What stands in front of the routes. Cloning shares it.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>, Arc<Audit>);

/// Who signed a request to the administration API, in its extensions.
#[derive(Clone)]
struct Signer {
    client_token: String,
    name: String,
}

struct Inner {
    database: Database,
    verifier: Verifier,
    rehearsal: Rehearsal,
}

impl Gate {
    pub(super) fn new(database: Database, audit: Arc<Audit>) -> Gate {
        let settings = &database.settings;
        let ctx = &database.ctx;
        let clients = Clients::new(ctx.system.clone(), Arc::clone(&ctx.clock));
        let verifier = Verifier::new(
            clients,
            Arc::clone(&ctx.clock),
            VerifierSettings {
                window: Duration::from_secs(settings.signature_window_seconds.into()),
                nonces_per_client_max: settings.nonces_per_client_max,
            },
        );
        let rehearsal = Rehearsal::new(settings.rehearsal.clone());
        let inner = Inner {
            database,
            verifier,
            rehearsal,
        };
        Gate(Arc::new(inner), audit)
    }

    /// The same, which tells what is administered to others' list.
    pub(super) fn with_audit(self, audit: Arc<Audit>) -> Gate {
        Gate(self.0, audit)
    }

    /// Lets a request through to its route if it may pass.
    pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
        let info = request.extensions().get::<RequestInfo>().cloned();
        let admitted = gate.admit(request, info.as_ref()).await;
        let mut response = match admitted {
            Ok(request) => {
                let signer = request.extensions().get::<Signer>().cloned();
                let response = next.run(request).await;
                let route = response.extensions().get::<RouteName>().cloned();
                if let (Some(signer), Some(info), Some(route)) = (signer, &info, route) {
                    gate.tell(signer, info, &route, response.status()).await;
                }
                response
            }
            Err(error) => error.into_response(),
        };
        if let Some(info) = info {
            let headers = response.headers_mut();
            headers.insert(error::TRACE_ID, error::trace_id(&info));
        }
        response
    }

    /// Writes a line about what was administered. Items are data.
    async fn tell(
        &self,
        signer: Signer,
        info: &RequestInfo,
        route: &RouteName,
        status: StatusCode,
    ) {
        let is_done = status.is_success() || status.is_server_error();
        let below = |path: &str| {
            let base = self.0.database.ctx.base.as_str();
            let path = path.strip_prefix(base).unwrap_or(path);
            path.strip_prefix(ADMINISTRATION).unwrap_or(path).to_owned()
        };
        let route = below(route.as_str());
        let is_data = route.ends_with(ITEM) || status == StatusCode::NOT_IMPLEMENTED;
        if is_data || !is_done || info.method.is_safe() {
            return;
        }
        let deed = Deed {
            by: signer.client_token,
            by_name: Some(signer.name),
            from: info.client.to_string(),
            action: format!("edgekv {} {route}", info.method),
            on: below(info.uri.path()),
            status: status.as_u16(),
            request: Some(info.id.to_string()),
            ..Deed::default()
        };
        self.1.record(deed).await;
    }

    async fn admit(
        &self,
        request: Request,
        info: Option<&RequestInfo>,
    ) -> Result<Request, ApiError> {
        let base = self.0.database.ctx.base.as_str();
        let path = request.uri().path();
        let path = path.strip_prefix(base).unwrap_or(path);
        let administration = path.strip_prefix(ADMINISTRATION);
        let is_initialize = administration == Some(INITIALIZE);
        let is_administration = administration.is_some();
        let request = if is_administration {
            self.verify(request, info).await?
        } else {
            request
        };
        let now = self.0.database.now();
        self.0.rehearsal.fail_on_request(now.0)?;
        if is_administration && !is_initialize {
            self.0.database.require(StatusCode::NOT_FOUND).await?;
        }
        without_ignored_body(request).await
    }

    /// Lets a signed request through. Everything but the signature is judged before the body is read,
    /// and only that of a `POST` is read at all: no other one is signed.
    async fn verify(
        &self,
        request: Request,
        info: Option<&RequestInfo>,
    ) -> Result<Request, ApiError> {
        let host = info.map_or("", |info| &info.host);
        let refused = |refusal| error::gateway(refusal, host);
        let (parts, body) = request.into_parts();
        let claim = self.0.verifier.identify(&parts.headers).await?;
        let claim = claim.map_err(refused)?;

        let is_post = parts.method == Method::POST;
        let (bytes, body) = if is_post {
            let bytes = read_body(&parts.headers, body, BODY_BYTES_MAX).await?;
            let bytes = bytes.ok_or_else(body_too_large)?;
            (bytes.clone(), Body::from(bytes))
        } else {
            (bytes::Bytes::new(), body)
        };

        let settings = &self.0.database.settings;
        let schemes: Vec<Scheme> = settings.schemes.iter().map(|name| scheme(*name)).collect();
        let forwarded = parts.headers.get(FORWARDED_HOST);
        let forwarded = forwarded
            .filter(|_| settings.trust_forwarded_host)
            .and_then(|host| host.to_str().ok());
        let hosts: Vec<&str> = [Some(host), forwarded].into_iter().flatten().collect();
        let uri = info.map_or(&parts.uri, |info| &info.uri);
        let target = Target {
            method: parts.method.as_str(),
            schemes: &schemes,
            hosts: &hosts,
            path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()),
        };
        let admitted = self.0.verifier.admit(claim, &target, &bytes);
        let client = admitted.map_err(refused)?;
        tracing::debug!(client = client.client_token, "admitted an EdgeGrid client");
        let mut parts = parts;
        parts.extensions.insert(Signer {
            client_token: client.client_token,
            name: client.name,
        });
        Ok(Request::from_parts(parts, body))
    }
}

fn scheme(name: SchemeName) -> Scheme {
    match name {
        SchemeName::Https => Scheme::Https,
        SchemeName::Http => Scheme::Http,
    }
}

/// Reads away the body of a request that has no use for one. The vendor's command line sends two bytes
/// with every `GET` and `DELETE`, and they must not be taken for the next request.
async fn without_ignored_body(request: Request) -> Result<Request, ApiError> {
    let is_ignored = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::DELETE
    );
    if !is_ignored || request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let read = read_body(&parts.headers, body, IGNORED_BODY_BYTES_MAX).await?;
    read.ok_or_else(wire::body_too_large)?;
    Ok(Request::from_parts(parts, Body::empty()))
}

/// Failures that were asked for, to try a client's retries.
struct Rehearsal {
    settings: RehearsalSettings,
    requests: AtomicU32,
    /// The present second and the requests in it.
    this_second: Mutex<(i64, u32)>,
}

impl Rehearsal {
    fn new(settings: RehearsalSettings) -> Rehearsal {
        Rehearsal {
            settings,
            requests: AtomicU32::new(0),
            this_second: Mutex::default(),
        }
    }

    fn fail_on_request(&self, now_ms: i64) -> Result<(), ApiError> {
        let RehearsalSettings {
            requests_per_second_max,
            timeout_every,
        } = self.settings;
        if requests_per_second_max > 0 {
            let second = now_ms.div_euclid(1000);
            let mut this_second = self
                .this_second
                .lock()
                .expect("no panic while the count is held");
            if this_second.0 != second {
                *this_second = (second, 0);
            }
            if this_second.1 >= requests_per_second_max {
                return Err(ApiError::too_many_requests(1));
            }
            this_second.1 += 1;
        }
        if timeout_every > 0 {
            let count = self
                .requests
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_add(1);
            if count.is_multiple_of(timeout_every) {
                return Err(ApiError::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    error::INTERNAL,
                    "The request timed out.",
                ));
            }
        }
        Ok(())
    }
}
