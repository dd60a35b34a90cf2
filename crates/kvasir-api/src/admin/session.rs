//! `/session`: how a browser proves who it is, with a cookie instead of a token in every request.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /session` | who is asking, and the anti-forgery token to send with every change |
//! | `POST /session` | `{"token"}` or `{"link"}`: begins a session; the answer sets the cookie |
//! | `DELETE /session` | ends it |
//! | `POST /session/links` | a one-time link for a browser, as `kvasir ui` prints it |
//!
//! Sessions live in this process and end with it. The cookie holds 256 random bits and opens the
//! admin API only: no data dialect looks at it. It is named after the port, because browsers send
//! cookies to all ports of a host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use data_encoding::BASE64URL_NOPAD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use kvasir_auth::rate::{Quota, Rates, counted_address};
use kvasir_auth::{Approach, Principal, Verb};
use kvasir_kv::{Key, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::request::RequestInfo;
use crate::time::rfc3339;

use super::audit::Told;
use super::{Administrator, Body, ok};

/// After this long without a request of the user's, a session ends.
pub const IDLE_MS: i64 = 30 * 60 * 1000;

/// After this long a session ends whatever happens.
pub const SESSION_MS: i64 = 12 * 60 * 60 * 1000;

/// How long a one-time link works; CON-11 of the operator's contract.
pub const LINK_MS: i64 = 60 * 1000;

/// Most sessions at once. One more ends the one that was idle longest.
pub const SESSIONS_MAX: usize = 1_000;

/// Most links that wait to be used. One more ends the oldest.
pub const LINKS_MAX: usize = 100;

/// Attempts to log in per minute and client address.
const LOGINS_PER_MINUTE: u32 = 30;

/// Header that carries the anti-forgery token.
pub const FORGERY_HEADER: HeaderName = HeaderName::from_static("x-kvasir-session");

/// Header of requests that the page makes by itself. They do not count as use of the session.
const BACKGROUND_HEADER: HeaderName = HeaderName::from_static("x-kvasir-background");

/// What is kept of a secret, so that looking one up takes no time that tells about it.
type Hash = [u8; 32];

/// All sessions and links of this process.
pub(super) struct Sessions {
    ctx: Ctx,
    held: Mutex<Held>,
    logins: Rates<std::net::IpAddr>,
}

#[derive(Default)]
struct Held {
    sessions: HashMap<Hash, Session>,
    links: HashMap<Hash, Link>,
}

#[derive(Clone)]
struct Session {
    principal: Principal,
    forgery: String,
    begun_at: UnixMillis,
    seen_at: UnixMillis,
    end: CancellationToken,
}

struct Link {
    principal: Principal,
    until: UnixMillis,
}

/// The session of a request, in its extensions.
#[derive(Clone)]
pub(super) struct Current {
    id: Hash,
    forgery: String,
    until: UnixMillis,
    /// Cancelled when the session ends by logging out.
    pub(super) end: CancellationToken,
}

/// How to log in: one of the two.
#[derive(Deserialize, ToSchema)]
#[schema(as = ConsoleLogin)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// A token with the verb admin for everything.
    #[serde(default)]
    token: Option<String>,
    /// The code of a one-time link.
    #[serde(default)]
    link: Option<String>,
}

/// Who is asking, and by what.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// `local` without a token, `process` for the server's own one, else the id of the token.
    id: String,
    /// `open` if no credential was needed, `session` for a cookie, `token` for a bearer token.
    by: &'static str,
    /// Whether the caller administers everything.
    administrator: bool,
    /// To be sent as `X-Kvasir-Session` with every change made with the cookie.
    forgery_token: Option<String>,
    /// When the session ends at the latest.
    expires_at: Option<String>,
    idle_seconds: i64,
}

/// A one-time link, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkInfo {
    /// To be put behind the address of the server. The code is behind the `#`, so no log sees it.
    path: String,
    /// The code alone, for `POST /session`.
    link: String,
    expires_at: String,
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

/// 256 random bits as text.
fn secret() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::unavailable(format!("no random bytes: {error}")))?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

fn later(now: UnixMillis, ms: i64) -> UnixMillis {
    now.checked_add_ms(ms).unwrap_or(now)
}

impl Session {
    fn until(&self) -> UnixMillis {
        later(self.begun_at, SESSION_MS).min(later(self.seen_at, IDLE_MS))
    }
}

impl Held {
    fn forget_ended(&mut self, now: UnixMillis) {
        self.sessions.retain(|_, session| {
            let lives = now < session.until();
            if !lives {
                session.end.cancel();
            }
            lives
        });
        self.links.retain(|_, link| now < link.until);
    }
}

impl Sessions {
    pub(super) fn new(ctx: Ctx) -> Sessions {
        let logins = Rates::new(Quota::per_minute(LOGINS_PER_MINUTE), Arc::clone(&ctx.clock));
        Sessions {
            ctx,
            held: Mutex::default(),
            logins,
        }
    }

    fn now(&self) -> UnixMillis {
        self.ctx.clock.now()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().expect("no panic while it is held")
    }

    /// Begins a session; its secret is for the cookie.
    fn begin(&self, principal: Principal) -> Result<(String, Session), ApiError> {
        let (id, now) = (secret()?, self.now());
        let session = Session {
            principal,
            forgery: secret()?,
            begun_at: now,
            seen_at: now,
            end: CancellationToken::new(),
        };
        let mut held = self.held();
        held.forget_ended(now);
        if held.sessions.len() >= SESSIONS_MAX {
            let idlest = held.sessions.iter().min_by_key(|(_, s)| s.seen_at);
            if let Some(idlest) = idlest.map(|(id, _)| *id)
                && let Some(ended) = held.sessions.remove(&idlest)
            {
                ended.end.cancel();
            }
        }
        held.sessions.insert(hash(&id), session.clone());
        Ok((id, session))
    }

    /// The session of a cookie, if it lives; `is_use` counts as use.
    fn find(&self, id: &Hash, is_use: bool) -> Option<Session> {
        let now = self.now();
        let mut held = self.held();
        let session = held.sessions.get_mut(id)?;
        if session.until() <= now {
            session.end.cancel();
            held.sessions.remove(id);
            return None;
        }
        if is_use {
            session.seen_at = now;
        }
        Some(session.clone())
    }

    fn end(&self, id: &Hash) {
        if let Some(ended) = self.held().sessions.remove(id) {
            ended.end.cancel();
        }
    }

    fn make_link(&self, principal: Principal) -> Result<(String, UnixMillis), ApiError> {
        let (code, now) = (secret()?, self.now());
        let until = later(now, LINK_MS);
        let mut held = self.held();
        held.forget_ended(now);
        if held.links.len() >= LINKS_MAX {
            let oldest = held.links.iter().min_by_key(|(_, link)| link.until);
            if let Some(oldest) = oldest.map(|(code, _)| *code) {
                held.links.remove(&oldest);
            }
        }
        held.links.insert(hash(&code), Link { principal, until });
        Ok((code, until))
    }

    /// Uses up a link.
    fn take_link(&self, code: &str) -> Option<Principal> {
        let link = self.held().links.remove(&hash(code))?;
        (self.now() < link.until).then_some(link.principal)
    }
}

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    use axum::routing::{get, post};
    Router::new()
        .route("/session", get(show).post(begin).delete(end))
        .route("/session/links", post(make_link))
}

/// The name of the cookie on the port of this request.
fn cookie_name(info: &RequestInfo) -> String {
    format!("kvasir_session_{}", info.local.port())
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Finds out who asks with a cookie, before any handler, and refuses forged changes.
pub(super) async fn layer(
    State(sessions): State<Arc<Sessions>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match sessions.caller_of(&parts).await {
        Ok(Some((caller, current))) => {
            parts.extensions.insert(caller);
            parts.extensions.insert(current);
        }
        Ok(None) => {}
        Err(error) => return error.into_response(),
    }
    parts.extensions.insert(sessions);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

impl Sessions {
    async fn caller_of(&self, request: &Parts) -> Result<Option<(Caller, Current)>, ApiError> {
        let headers = &request.headers;
        let Some(info) = request.extensions.get::<RequestInfo>() else {
            return Ok(None);
        };
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        let Some(cookie) = cookie(headers, &cookie_name(info)) else {
            return Ok(None);
        };
        let id = hash(cookie);
        let is_use = !headers.contains_key(BACKGROUND_HEADER);
        let Some(session) = self.find(&id, is_use) else {
            return Ok(None);
        };
        let access = &self.ctx.access;
        if access
            .admit(&session.principal, info.client)
            .await?
            .is_none()
        {
            // A cookie that is shown from elsewhere than its token may be used is no reason to log out
            // whoever holds it rightly.
            if !access.is_still_valid(&session.principal).await? {
                self.end(&id);
            }
            return Ok(None);
        }
        let is_login = request.method == Method::POST && request.uri.path().ends_with("/session");
        if !request.method.is_safe() && !is_login {
            if info.approach(headers) == Approach::ForeignOrigin {
                return Err(ApiError::forbidden(
                    "a web page of another origin may not change anything",
                )
                .with_code("foreign_origin"));
            }
            let shown = headers.get(FORGERY_HEADER).map(HeaderValue::as_bytes);
            let shown = shown.unwrap_or_default();
            if !bool::from(shown.ct_eq(session.forgery.as_bytes())) {
                return Err(ApiError::forbidden(
                    "with a cookie every change needs the session's anti-forgery token in the \
                     header X-Kvasir-Session",
                )
                .with_code("forgery"));
            }
        }
        let until = session.until();
        let current = Current {
            id,
            forgery: session.forgery,
            until,
            end: session.end,
        };
        Ok(Some((
            Caller::known(session.principal, self.ctx.dialect),
            current,
        )))
    }
}

fn shown(ctx: &Ctx, caller: &Caller, current: Option<&Current>) -> SessionInfo {
    let by = match (current, caller.principal().is_without_credential()) {
        (Some(_), _) => "session",
        (None, true) => "open",
        (None, false) => "token",
    };
    SessionInfo {
        id: caller.principal().id().to_owned(),
        by,
        administrator: caller.may(ctx, &ctx.system, Verb::Admin, &Key::default()),
        forgery_token: current.map(|current| current.forgery.clone()),
        expires_at: current.map(|current| rfc3339(current.until)),
        idle_seconds: IDLE_MS / 1000,
    }
}

/// `GET /_/api/v1/session`: who is asking. 401 if a credential is needed.
#[utoipa::path(
    get, path = "/_/api/v1/session", tag = "admin",
    responses(
        (status = 200, description = "who is asking", body = SessionInfo),
        (status = 401, description = "a credential is needed", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn show(
    State(ctx): State<Ctx>,
    current: Option<Extension<Current>>,
    caller: Caller,
) -> Response {
    let current = current.map(|Extension(current)| current);
    ok(shown(&ctx, &caller, current.as_ref()))
}

/// `POST /_/api/v1/session`: logs a browser in by token or one-time link; the answer sets a cookie.
#[utoipa::path(
    post, path = "/_/api/v1/session", tag = "admin", request_body = Login,
    responses(
        (status = 200, description = "the session", body = SessionInfo),
        (status = 401, description = "the token or link is not valid", body = crate::problem::Problem<'static>),
        (status = 403, description = "the token does not administer everything", body = crate::problem::Problem<'static>),
        (status = 429, description = "too many attempts", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn begin(
    State(ctx): State<Ctx>,
    Extension(sessions): Extension<Arc<Sessions>>,
    Extension(info): Extension<RequestInfo>,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Response, ApiError> {
    let approach = info.approach(&headers);
    if approach == Approach::ForeignOrigin {
        return Err(
            ApiError::forbidden("a web page of another origin may not log in")
                .with_code("foreign_origin"),
        );
    }
    let standing = sessions.logins.take(&counted_address(info.client));
    if !standing.is_allowed {
        return Err(ApiError::too_many_requests(standing.retry_after_seconds()));
    }
    let principal = match (login.token, login.link) {
        (Some(token), None) => {
            let token = token.trim();
            let shown = Some(token);
            match ctx
                .access
                .authenticate(shown, approach, info.client)
                .await?
            {
                Ok(principal) => principal,
                Err(denied) => return Err(denied.into()),
            }
        }
        (None, Some(code)) => {
            let used = || {
                ApiError::unauthorized(
                    "the link was used already or is older than a minute; make a new one with `kvasir ui`",
                )
            };
            let principal = sessions.take_link(&code).ok_or_else(used)?;
            let admitted = ctx.access.admit(&principal, info.client).await?;
            admitted.map(|_| principal).ok_or_else(used)?
        }
        _ => {
            return Err(ApiError::bad_request(
                "give `token` or `link`, one of the two",
            ));
        }
    };
    let caller = Caller::known(principal.clone(), ctx.dialect);
    if !caller.may(&ctx, &ctx.system, Verb::Admin, &Key::default()) {
        return Err(ApiError::forbidden(
            "the console needs an administrator's token, with the verb admin for every keyspace",
        ));
    }
    let (secret, session) = sessions.begin(principal)?;
    let current = Current {
        id: hash(&secret),
        until: session.until(),
        forgery: session.forgery,
        end: session.end,
    };
    sessions.logins.forgive(&counted_address(info.client));
    let mut response = ok(shown(&ctx, &caller, Some(&current)));
    set_cookie(&mut response, &ctx, &info, &secret, "");
    let told = Told::on("the console").by(caller.principal().id());
    Ok(told.with(response))
}

/// `DELETE /_/api/v1/session`: logs out.
#[utoipa::path(
    delete, path = "/_/api/v1/session", tag = "admin",
    responses((status = 204, description = "there is no session any more"))
)]
pub(super) async fn end(
    State(ctx): State<Ctx>,
    Extension(sessions): Extension<Arc<Sessions>>,
    Extension(info): Extension<RequestInfo>,
    current: Option<Extension<Current>>,
) -> Response {
    let told = match current {
        Some(Extension(current)) => {
            sessions.end(&current.id);
            Told::on("the console")
        }
        None => Told::nothing(),
    };
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, &ctx, &info, "", "; Max-Age=0");
    told.with(response)
}

fn set_cookie(response: &mut Response, ctx: &Ctx, info: &RequestInfo, value: &str, more: &str) {
    let (name, base) = (cookie_name(info), &ctx.base);
    let secure = if info.is_tls { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path={base}/; HttpOnly; SameSite=Strict{secure}{more}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// `POST /_/api/v1/session/links`: a link that logs one browser in as the caller, within a minute.
#[utoipa::path(
    post, path = "/_/api/v1/session/links", tag = "admin",
    responses((status = 201, description = "the link, shown once", body = LinkInfo))
)]
pub(super) async fn make_link(
    State(ctx): State<Ctx>,
    Extension(sessions): Extension<Arc<Sessions>>,
    Administrator(caller): Administrator,
) -> Result<Response, ApiError> {
    let (link, until) = sessions.make_link(caller.principal().clone())?;
    let made = LinkInfo {
        path: format!("{}/#/login/{link}", ctx.base),
        link,
        expires_at: rfc3339(until),
    };
    Ok((StatusCode::CREATED, ok(made)).into_response())
}
