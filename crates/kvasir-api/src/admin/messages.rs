//! Messages of queues, in and out.
//!
//! | route | what |
//! | --- | --- |
//! | `GET /databases/{name}/queue` | `{"waiting", "leased", "more"}` |
//! | `GET /databases/{name}/messages?cursor=&limit=` | one page: `{"messages": [...], "cursor": ...}` |
//! | `POST /databases/{name}/messages` | `{"messages": [...]}`: takes them in |
//!
//! A message is a [`MessageLine`] of an export.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;
use kvasir_kv::AtomicWrite;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Told;
use super::entries::{ENTRIES_MAX, Paged, keyspace, read_json};
use super::{Administrator, ok};
use crate::context::Ctx;
use crate::dump::MessageLine;
use crate::error::ApiError;
use crate::queue::{MESSAGE_ID_DIGITS, MOVED_AT_ONCE_MAX, Moved, Queue};

/// Most messages that are counted.
const COUNTED_MAX: usize = 100_000;

/// Messages that are taken in with one commit.
const TAKEN_AT_ONCE: usize = 100;

/// The routes of this noun.
pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/databases/{name}/queue", get(depth))
        .route("/databases/{name}/messages", get(page).post(take_in))
}

/// How full a queue is.
#[derive(Serialize, ToSchema)]
pub struct QueueDepth {
    /// Messages that wait, due or not.
    waiting: usize,
    /// Messages in the hands of consumers.
    leased: usize,
    /// Whether counting stopped at 100,000.
    more: bool,
}

/// One page of messages, in the order in which they were enqueued.
#[derive(Serialize, ToSchema)]
pub struct MessagePage {
    messages: Vec<MessageLine>,
    /// Where to go on, if there are more.
    cursor: Option<String>,
}

/// Messages to be taken in, up to 1,000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessages {
    messages: Vec<MessageLine>,
}

/// What became of messages.
#[derive(Default, Serialize, ToSchema)]
pub struct MessagesTaken {
    /// Messages that wait now.
    enqueued: usize,
    /// Messages that are there, or were taken in once; they were left alone.
    kept: usize,
}

/// `GET /_/api/v1/databases/{name}/queue`: how full the queue is.
#[utoipa::path(
    get, path = "/_/api/v1/databases/{name}/queue", tag = "admin",
    params(("name" = String, Path, description = "the database")),
    responses((status = 200, description = "its depth", body = QueueDepth))
)]
pub(super) async fn depth(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let depth = queue(&ctx, &name)?.depth(COUNTED_MAX).await?;
    Ok(ok(QueueDepth {
        waiting: depth.waiting,
        leased: depth.leased,
        more: depth.more,
    }))
}

fn queue(ctx: &Ctx, name: &str) -> Result<Queue, ApiError> {
    let keyspace = keyspace(ctx, name)?;
    Ok(Queue::new(ctx.store(), keyspace.name().clone()))
}

/// `GET /_/api/v1/databases/{name}/messages`: a page of up to 100 messages, waiting or being handled.
#[utoipa::path(
    get, path = "/_/api/v1/databases/{name}/messages", tag = "admin",
    params(("name" = String, Path, description = "the database"), Paged),
    responses((status = 200, description = "one page", body = MessagePage))
)]
pub(super) async fn page(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    query: Result<Query<Paged>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let queue = queue(&ctx, &name)?;
    let Query(asked) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if asked
        .cursor
        .as_ref()
        .is_some_and(|id| id.len() != MESSAGE_ID_DIGITS)
    {
        return Err(ApiError::bad_request("not a cursor of an earlier page"));
    }
    let limit = asked.limit.unwrap_or(MOVED_AT_ONCE_MAX);
    let (moved, cursor) = queue.page(asked.cursor.as_deref(), limit).await?;
    Ok(ok(MessagePage {
        messages: moved.iter().map(MessageLine::of).collect(),
        cursor,
    }))
}

/// `POST /_/api/v1/databases/{name}/messages`: takes messages in. One that has an id is taken in once,
/// however often it is sent.
#[utoipa::path(
    post, path = "/_/api/v1/databases/{name}/messages", tag = "admin",
    params(("name" = String, Path, description = "the database")),
    request_body = NewMessages,
    responses(
        (status = 200, description = "they are there", body = MessagesTaken),
        (status = 400, description = "one of them is wrong", body = crate::problem::Problem<'static>),
    )
)]
pub(super) async fn take_in(
    State(ctx): State<Ctx>,
    _administrator: Administrator,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let queue = queue(&ctx, &name)?;
    let NewMessages { messages } = read_json(&headers, body).await?;
    if messages.len() > ENTRIES_MAX {
        return Err(ApiError::bad_request(format!(
            "{} messages, over the limit of {ENTRIES_MAX}",
            messages.len()
        )));
    }
    let (mut new, mut moved) = (Vec::new(), Vec::new());
    for (place, line) in (1..).zip(messages) {
        let (id, attempts, message) = line
            .into_message()
            .map_err(|error| ApiError::bad_request(format!("message {place}: {error}")))?;
        match id {
            None => new.push(message),
            Some(id) => moved.push(Moved {
                id,
                attempts,
                message,
            }),
        }
    }
    let given = new.len() + moved.len();
    let mut enqueued = new.len();
    if !new.is_empty() {
        let now_micros = ctx.clock.now_micros();
        queue.commit(AtomicWrite::new(), new, now_micros).await?;
    }
    while !moved.is_empty() {
        let rest = moved.split_off(moved.len().min(TAKEN_AT_ONCE));
        enqueued += queue.take_in(std::mem::replace(&mut moved, rest)).await?;
    }
    let response = ok(MessagesTaken {
        enqueued,
        kept: given - enqueued,
    });
    Ok(Told::run(name, enqueued as u64).with(response))
}
