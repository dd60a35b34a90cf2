//! Reads and writes of the data path, and who may ask for them.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use kvasir_auth::Verb;
use kvasir_kv::{Key, Keyspace, Mutation, Outcome, SnapshotRead, UnixMillis};
use uuid::Uuid;

use super::token::Session;
use super::{Inner, error, wire};
use crate::body;
use crate::error::ApiError;
use crate::queue::Queue;
use crate::request::{RequestInfo, bearer};

/// Header with the version of the protocol, 2 or 3.
const VERSION: HeaderName = HeaderName::from_static("x-denokv-version");

/// Header with the id of the database, from version 2 on.
const DATABASE_ID: HeaderName = HeaderName::from_static("x-denokv-database-id");

/// Header with the id of the database in version 1, in place of the two above.
const DOMAIN_ID: HeaderName = HeaderName::from_static("x-transaction-domain-id");

/// A request that was let in.
pub(super) struct Admitted {
    pub(super) session: Arc<Session>,
    pub(super) version: u8,
}

/// Looks at version, token and database id, in this order.
///
/// # Errors
///
/// 400 for a missing or unknown version or id, 401 for the token.
pub(super) async fn admit(
    deno: &Inner,
    database: &str,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Admitted, ApiError> {
    let (version, id) = match headers.get(VERSION).map(HeaderValue::as_bytes) {
        Some(b"3") => (3, DATABASE_ID),
        Some(b"2") => (2, DATABASE_ID),
        None if headers.contains_key(DOMAIN_ID) => (1, DOMAIN_ID),
        None => {
            return Err(ApiError::bad_request(
                "the header x-denokv-version is missing",
            ));
        }
        Some(_) => {
            return Err(ApiError::bad_request("x-denokv-version is 2 or 3 here"));
        }
    };
    let Some(token) = bearer(headers) else {
        return Err(ApiError::unauthorized(
            "the data token of the metadata exchange is needed",
        ));
    };
    let session = deno.tokens.open(token, info.client).await;
    let session = session.map_err(error::from_store)?;
    let session = session.filter(|session| session.database.as_str() == database);
    let Some(session) = session else {
        return Err(ApiError::unauthorized(
            "the data token is not valid here, or not any more",
        ));
    };
    let sent = headers.get(&id).and_then(|sent| sent.to_str().ok());
    let sent = sent.and_then(|sent| Uuid::try_parse(sent).ok());
    if sent != Some(session.id) {
        return Err(ApiError::bad_request(format!(
            "the header {id} is not the id of this database"
        )));
    }
    Ok(Admitted { session, version })
}

impl Inner {
    pub(super) fn keyspace(&self, session: &Session) -> Keyspace {
        // The mount's own keyspace has its prefix made already.
        if *self.ctx.keyspace.name() == session.database {
            return self.ctx.keyspace.clone();
        }
        Keyspace::new(Arc::clone(self.ctx.store()), session.database.clone())
    }
}

fn protobuf(message: Bytes) -> Response {
    let content_type = HeaderValue::from_static("application/x-protobuf");
    ([(header::CONTENT_TYPE, content_type)], message).into_response()
}

/// `POST .../snapshot_read`: several ranges from one snapshot.
#[utoipa::path(
    post, path = "/kv-connect/{database}/snapshot_read", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
        ("x-denokv-version" = Option<u32>, Header, description = "version of the protocol, 2 or 3"),
        ("x-denokv-database-id" = Option<String>, Header, description = "id of the database, from version 2 on"),
        ("x-transaction-domain-id" = Option<String>, Header, description = "the same in version 1"),
    ),
    request_body(content = String, content_type = "application/x-protobuf", description = "`SnapshotRead` of KV Connect's protocol"),
    responses(
        (status = 200, description = "the entries", body = String, content_type = "application/x-protobuf"),
        (status = 400, description = "the message is wrong"),
        (status = 401, description = "no valid data token"),
    )
)]
pub(super) async fn snapshot_read(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    Extension(info): Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    read(&deno, &database, &info, &headers, body).await
}

/// See [`snapshot_read`].
pub(super) async fn read(
    deno: &Inner,
    database: &str,
    info: &RequestInfo,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Admitted { session, version } = admit(deno, database, info, headers).await?;
    let body = body::read(headers, body, wire::BODY_BYTES_MAX).await?;
    let mut read = wire::snapshot_read(body)?;
    narrow(&session, &mut read, deno.ctx.clock.now())?;

    let snapshot = deno.keyspace(&session).read(read).await;

    let snapshot = snapshot.map_err(error::from_store)?;
    Ok(protobuf(wire::snapshot_read_output(snapshot, version)?))
}

/// Leaves of each range what the client may read.
fn narrow(session: &Session, read: &mut SnapshotRead, now: UnixMillis) -> Result<(), ApiError> {
    if session.may_everywhere(Verb::Read) {
        return Ok(());
    }
    for range in &mut read.ranges {
        range.range = session
            .readable(&range.range, now)
            .ok_or_else(|| refused(Verb::Read))?;
    }
    Ok(())
}

pub(super) fn refused(verb: Verb) -> ApiError {
    ApiError::forbidden(format!(
        "the token does not allow to {} this key",
        verb.name()
    ))
}

/// `POST .../atomic_write`: checks, mutations and messages, all or nothing.
#[utoipa::path(
    post, path = "/kv-connect/{database}/atomic_write", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
        ("x-denokv-version" = Option<u32>, Header, description = "version of the protocol, 2 or 3"),
        ("x-denokv-database-id" = Option<String>, Header, description = "id of the database, from version 2 on"),
        ("x-transaction-domain-id" = Option<String>, Header, description = "the same in version 1"),
    ),
    request_body(content = String, content_type = "application/x-protobuf", description = "`AtomicWrite` of KV Connect's protocol"),
    responses(
        (status = 200, description = "whether it was written", body = String, content_type = "application/x-protobuf"),
        (status = 400, description = "the message is wrong"),
        (status = 401, description = "no valid data token"),
    )
)]
pub(super) async fn atomic_write(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    Extension(info): Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    write(&deno, &database, &info, &headers, body).await
}

/// See [`atomic_write`].
pub(super) async fn write(
    deno: &Inner,
    database: &str,
    info: &RequestInfo,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Admitted { session, .. } = admit(deno, database, info, headers).await?;
    let body = body::read(headers, body, wire::BODY_BYTES_MAX).await?;
    let ctx = &deno.ctx;
    let now = ctx.clock.now();
    let write = wire::atomic_write(body, deno.settings.v8_compat, now)?;
    if !session.may_write {
        return Ok(protobuf(wire::write_disabled()));
    }
    allow(&session, &write, now)?;

    let outcome = if write.enqueues.is_empty() {
        deno.keyspace(&session).commit(write.atomic).await
    } else {
        let queue = Queue::new(ctx.store(), session.database.clone());
        let now_micros = ctx.clock.now_micros();
        queue.commit(write.atomic, write.enqueues, now_micros).await
    };

    use kvasir_kv::Error;
    match outcome {
        Ok(Outcome::Committed(done)) => Ok(protobuf(wire::write_applied(done.versionstamp))),
        Ok(Outcome::Conflict { failed }) => Ok(protobuf(wire::write_conflict(failed))),
        Err(Error::ReadOnly(_) | Error::NoSpace) => Ok(protobuf(wire::write_disabled())),
        Err(error) => Err(error::from_store(error)),
    }
}

/// Refuses a write that touches what the token does not cover.
fn allow(session: &Session, write: &wire::Write, now: UnixMillis) -> Result<(), ApiError> {
    let need = |verb: Verb, key: &Key| match session.may(verb, key, now) {
        true => Ok(()),
        false => Err(refused(verb)),
    };
    for check in &write.atomic.checks {
        need(Verb::Read, &check.key)?;
    }
    for mutation in &write.atomic.mutations {
        match mutation {
            Mutation::Delete { key } => need(Verb::Delete, key)?,
            other => need(Verb::Write, other.key())?,
        }
    }
    for message in &write.enqueues {
        if !session.may_everywhere(Verb::Write) {
            return Err(ApiError::forbidden(
                "a token for a part of the database does not allow to enqueue",
            ));
        }
        for key in &message.undelivered {
            need(Verb::Write, key)?;
        }
    }
    Ok(())
}
