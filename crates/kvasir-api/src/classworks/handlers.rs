//! From a request to its route: what every route has in common, and the table of routes.

pub(super) mod changes;
pub(super) mod devices;
pub(super) mod lists;
pub(super) mod site;
pub(super) mod values;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use kvasir_kv::Clock;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::request::{RequestInfo, forwarded_client};

use super::gate::{self, Renewal, Right};
use super::layout::{Device, Space};
use super::path::{Place, RESERVED_NAMESPACE, Target, Word, is_uuid_shaped};
use super::settings::Namespaces;
use super::{App, Face, error, inflate};

/// Largest body of the routes that take settings, in bytes.
const SETTINGS_BYTES_MAX: usize = 64 * 1024;

/// Answers a request. All failures are rendered by the site.
pub(super) async fn serve(
    app: &App,
    face: Face,
    parts: &Parts,
    info: &RequestInfo,
    body: Body,
) -> Result<Response, ApiError> {
    let headers = &parts.headers;
    if parts.method == Method::OPTIONS {
        return Ok(app.cors().preflight(headers));
    }
    let limit = Duration::from_secs(app.settings.timeout_seconds.into());
    let answer = within(&*app.ctx.clock, limit, answer(app, face, parts, info, body)).await;
    match answer {
        Ok(response) if parts.method == Method::HEAD => {
            Ok(app.cors().mark(headers, error::without_body(response)))
        }
        Ok(response) => Ok(app.cors().mark(headers, response)),
        Err(error) => Err(app.cors().mark_error(headers, error)),
    }
}

/// What `work` makes, or 408 if it takes too long. A write that was begun is then done as a whole
/// or not at all.
async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    let until = clock.now().checked_add_ms(limit_ms);
    tokio::select! {
        biased;
        done = work => done,
        () = clock.sleep_until(until.unwrap_or_default()), if until.is_some() => {
            Err(error::timed_out())
        }
    }
}

async fn answer(
    app: &App,
    face: Face,
    parts: &Parts,
    info: &RequestInfo,
    body: Body,
) -> Result<Response, ApiError> {
    let path = parts.uri.path();
    let (base, rest) = app.split(face, path);
    let Target { namespace, place } = Target::parse(rest, path);
    let call = Call {
        app,
        info,
        headers: &parts.headers,
        query: parts.uri.query().unwrap_or_default(),
        base,
        namespace: namespace.as_deref().unwrap_or_default(),
    };
    let rate = app.gate.count(info, call.namespace)?;
    let answer = call.route(parts, place, body).await;
    let Some(rate) = rate else {
        return answer;
    };
    match answer {
        Ok(mut response) => {
            response.headers_mut().extend(rate.fields());
            Ok(response)
        }
        Err(error) => {
            let fields = rate.fields().into_iter();
            Err(fields.fold(error, |error, (name, value)| error.with_header(name, value)))
        }
    }
}

/// A request on its way through its route.
pub(super) struct Call<'a> {
    pub(super) app: &'a App,
    info: &'a RequestInfo,
    headers: &'a HeaderMap,
    query: &'a str,
    /// What stands in front of the namespace in the path.
    base: &'a str,
    /// The namespace as in the path, decoded; empty where there is none.
    namespace: &'a str,
}

/// A namespace that may be used.
pub(super) struct Opened {
    space: Space,
    /// The namespace whose settings count; not to be shown to who came by a link.
    owner: String,
    device: Arc<Device>,
    is_link: bool,
}

impl Call<'_> {
    /// The table of routes.
    async fn route(
        &self,
        parts: &Parts,
        place: Result<Place, ApiError>,
        body: Body,
    ) -> Result<Response, ApiError> {
        let method = match &parts.method {
            &Method::HEAD => &Method::GET,
            method => method,
        };
        // The page and the connection test are open to everybody.
        match (&place, method) {
            (Ok(Place::Home), &Method::GET) => return site::page(self).await,
            (Ok(Place::Check), &Method::GET) => return Ok(site::check(self)),
            _ => {}
        }
        let gate = &self.app.gate;
        gate.admit(self.info, self.headers, self.query, self.namespace)
            .await?;
        if self.namespace == RESERVED_NAMESPACE {
            gate.administer(self.info, self.headers).await?;
        }
        let place = place?;
        let is_named = !self.namespace.is_empty();
        let wants_uuid = self.app.settings.namespaces == Namespaces::Uuid;
        if is_named && wants_uuid && !is_uuid_shaped(self.namespace) {
            return Err(error::bad("命名空间必须是 UUID"));
        }
        match (&place, method) {
            (Place::NewNamespace, &Method::GET) => Ok(site::new_namespace()),
            (Place::Namespace, &Method::GET) => match changes::is_asked_for(self) {
                true => changes::follow(self).await,
                false => lists::items(self).await,
            },
            (Place::Namespace, &Method::DELETE) => lists::delete_all(self).await,
            (Place::Value(key), &Method::GET) => values::get(self, key).await,
            (Place::Value(key), &Method::POST) => values::post(self, key, body).await,
            (Place::Value(key), &Method::DELETE) => values::delete(self, key).await,
            (Place::Metadata(key), &Method::GET) => values::metadata(self, key).await,
            (Place::Word(word), method) => self.route_word(*word, method, body).await,
            _ => Err(error::no_such_method(parts.uri.path(), allowed(&place))),
        }
    }

    async fn route_word(
        &self,
        word: Word,
        method: &Method,
        body: Body,
    ) -> Result<Response, ApiError> {
        match (word, method) {
            (Word::Info, &Method::GET) => devices::info(self).await,
            (Word::Info, &Method::PUT) => devices::set_info(self, body).await,
            (Word::Check, &Method::GET) => devices::check(self).await,
            (Word::Hint, &Method::GET) => devices::hint(self).await,
            (Word::Hint, &Method::PUT) => devices::set_hint(self, body).await,
            (Word::Keys, &Method::GET) => lists::keys(self).await,
            (Word::Password, &Method::POST) => devices::set_password(self, body).await,
            (Word::Password, &Method::DELETE) => devices::remove_password(self).await,
            (Word::CheckPassword, &Method::POST) => devices::check_password(self, body).await,
            (Word::BatchImport, &Method::POST) => values::import(self, body).await,
            (Word::Info | Word::Check | Word::Hint | Word::Keys, &Method::POST) => {
                Err(error::reserved_key(word.name()))
            }
            _ => {
                let path = self.info.uri.path();
                Err(error::no_such_method(path, allowed(&Place::Word(word))))
            }
        }
    }

    /// The namespace in the path, whatever may be done with it.
    async fn resolve(&self) -> Result<Opened, ApiError> {
        let device = self.app.devices.get(self.namespace).await?;
        if let Some(owner) = &device.links_to {
            let owned = self.app.devices.get(owner).await?;
            if owned.read_only_link.as_deref() == Some(self.namespace) {
                return Ok(Opened {
                    space: Space::of(&self.app.ctx, owner),
                    owner: owner.clone(),
                    device: owned,
                    is_link: true,
                });
            }
        }
        Ok(Opened {
            space: Space::of(&self.app.ctx, self.namespace),
            owner: self.namespace.to_owned(),
            device,
            is_link: false,
        })
    }

    /// The namespace in the path, to be used with this right.
    async fn open(&self, right: Right) -> Result<Opened, ApiError> {
        let opened = self.resolve().await?;
        match (opened.is_link, right) {
            (true, Right::Read) => return Ok(opened),
            (true, Right::Write) => return Err(error::read_only_link()),
            // Whoever came this far is an administrator.
            (false, _) if self.namespace == RESERVED_NAMESPACE => return Ok(opened),
            (false, _) => {}
        }
        let gate = &self.app.gate;
        let renewal = gate
            .authorise(
                self.info,
                self.headers,
                self.query,
                self.namespace,
                &opened.device,
                right,
            )
            .await?;
        self.renew(&opened, renewal).await;
        Ok(opened)
    }

    /// Replaces an outdated hash of a password that was just right. Failing does no harm: the next
    /// request tries again.
    async fn renew(&self, opened: &Opened, renewal: Renewal) {
        let Some(password) = renewal else {
            return;
        };
        let outdated = &opened.device.password;
        let renewed: Result<_, ApiError> = async {
            let hash = self.app.gate.passwords.hash(&password).await;
            let hash = hash.map_err(gate::busy)?;
            let change = self.app.devices.change(&opened.owner, |device, _| {
                if device.password == *outdated {
                    device.password = Some(hash.clone());
                }
                Ok(())
            });
            change.await
        }
        .await;
        if let Err(error) = renewed {
            tracing::debug!(request = %self.info.id, "a password was not hashed anew: {error:?}");
        }
    }

    /// The whole body, with its encodings undone.
    async fn body(&self, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
        inflate::check_charset(self.headers)?;
        let read = crate::body::read(self.headers, body, bytes_max).await?;
        inflate::undo(self.headers, read, bytes_max)
    }

    /// The settings in a body. No body counts as no settings.
    async fn settings<T: DeserializeOwned>(&self, body: Body) -> Result<T, ApiError> {
        let body = self.body(body, SETTINGS_BYTES_MAX).await?;
        let body = match body.trim_ascii() {
            [] => b"{}",
            // A list would be taken for the members in their order.
            [b'{', ..] => body.as_ref(),
            _ => return Err(error::no_value()),
        };
        serde_json::from_slice(body).map_err(|_| error::no_value())
    }

    /// Tells of keys that were written, so that large namespaces are read before they are listed.
    fn wrote(&self, opened: &Opened, keys: usize) {
        if self.namespace != RESERVED_NAMESPACE {
            self.app.warmth.wrote(&opened.space, keys);
        }
    }

    /// The address that is noted with what is written.
    fn creator(&self) -> String {
        let peer = self.info.peer.ip().to_canonical();
        let mut client = self.info.client.to_canonical();
        let trusted = &self.app.settings.trusted_proxies;
        // What the listener was told by a proxy of its own stands.
        if client == peer && trusted.contains(&peer) {
            let is_trusted = |hop| trusted.contains(&hop);
            client = forwarded_client(self.headers, is_trusted).unwrap_or(client);
        }
        client.to_string()
    }
}

/// The methods of a place, for the `Allow` header.
pub(super) fn allowed(place: &Place) -> &'static str {
    match place {
        Place::Home | Place::Check | Place::NewNamespace | Place::Metadata(_) => "GET, HEAD",
        Place::Namespace => "GET, HEAD, DELETE",
        Place::Value(_) => "GET, HEAD, POST, DELETE",
        Place::Word(Word::Info | Word::Hint) => "GET, HEAD, PUT",
        Place::Word(Word::Check | Word::Keys) => "GET, HEAD",
        Place::Word(Word::Password) => "POST, DELETE",
        Place::Word(Word::CheckPassword | Word::BatchImport) => "POST",
    }
}
