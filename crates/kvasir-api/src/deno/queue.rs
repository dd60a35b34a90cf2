//! Queues over HTTP: what KV Connect has no words for.
//!
//! | route below `/queue/{database}` | body | answer |
//! | --- | --- | --- |
//! | `POST` (itself) | `{"value", "delayMs", "backoffMs", "undelivered"}` | `{"ok", "versionstamp"}` |
//! | `POST /pull` | `{"max", "leaseMs", "waitMs"}` | `{"messages": [...]}` |
//! | `POST /ack`, `/fail` | `{"receipts": [...]}` | `{"done": [true, ...]}` |
//! | `POST /extend` | `{"receipts": [...], "leaseMs"}` | `{"done": [true, ...]}` |
//! | `GET /stream?max=&leaseMs=` | | one message a line, blank lines as signs of life |
//!
//! A message is `{"id", "receipt", "attempt", "due", "leasedUntil", "value"}`; its value is JSON in
//! the form of [`crate::v8json`]. All routes need to be allowed to write the whole database. The
//! rules of delivery are those of [`crate::queue`].

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use kvasir_auth::{Principal, Verb};
use kvasir_kv::clock::Sleep;
use kvasir_kv::{AtomicWrite, ChangeStream, Key, Keyspace, Outcome, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::metadata::{database_name, find};
use super::{Inner, error, wire};
use crate::body;
use crate::context::Caller;
use crate::error::ApiError;
use crate::queue::{
    Delivery, LEASE_MS_MAX, LEASE_MS_MIN, LEASED_AT_ONCE_MAX, NewMessage, Queue, Receipt,
    backoff_default_ms,
};
use crate::request::RequestInfo;
use crate::v8json;

/// Length of a lease that names none, in milliseconds.
const LEASE_MS_DEFAULT: i64 = 30_000;

/// Longest a pull may wait for a first message, in milliseconds.
const WAIT_MS_MAX: i64 = 60_000;

/// Most messages that a stream holds at once, unless it asks for fewer.
const STREAM_MESSAGES_DEFAULT: usize = 16;

/// How often who waits looks again although it heard of nothing, in milliseconds: for leases of
/// others that ran out.
const LOOK_AGAIN_MS: i64 = 5_000;

/// Pause between two signs of life on a stream, in milliseconds.
const BLANK_LINE_MS: i64 = 5_000;

/// Largest body, in bytes: a value of 64 KiB with every character escaped, and its keys.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// How many receipts may be finished while a stream does not look; if it misses some, it finds out
/// when it next extends its leases.
const FINISHED_KEPT: usize = 1024;

/// Tells streams which of their messages were finished, so that they send others.
pub(super) struct Finished(broadcast::Sender<Receipt>);

impl Default for Finished {
    fn default() -> Self {
        Finished(broadcast::Sender::new(FINISHED_KEPT))
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = QueueEnqueued)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Enqueued<'a> {
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value)]
    value: &'a RawValue,
    #[serde(default)]
    delay_ms: i64,
    backoff_ms: Option<Vec<u32>>,
    #[serde(default)]
    undelivered: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[schema(as = QueuePulled)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Pulled {
    max: Option<usize>,
    lease_ms: Option<i64>,
    wait_ms: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Streamed {
    max: Option<usize>,
    lease_ms: Option<i64>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = QueueReceipts)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Receipts {
    receipts: Vec<String>,
    lease_ms: Option<i64>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = QueueMessage)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    id: String,
    receipt: String,
    attempt: u32,
    due: i64,
    leased_until: i64,
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
}

/// What enqueuing answers.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = QueueEnqueuedInfo)]
pub(super) struct EnqueuedInfo {
    ok: bool,
    versionstamp: String,
}

/// What a pull answers.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = QueueMessages)]
pub(super) struct Messages {
    messages: Vec<Message>,
}

/// Which receipts were good, in their order.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = QueueDone)]
pub(super) struct Done {
    done: Vec<bool>,
}

impl Message {
    fn new(delivery: Delivery) -> Message {
        let json = v8json::render(&delivery.payload).text;
        let json = String::from_utf8_lossy(&json).into_owned();
        Message {
            id: delivery.receipt.message_id().to_owned(),
            receipt: delivery.receipt.to_string(),
            attempt: delivery.attempt,
            due: delivery.due.0,
            leased_until: delivery.leased_until.0,
            value: RawValue::from_string(json).unwrap_or_default(),
        }
    }
}

/// A caller who may use the queue of a database.
struct Consumer {
    queue: Queue,
    principal: Principal,
}

async fn consumer(
    deno: &Inner,
    database: &str,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Consumer, ApiError> {
    let name = database_name(database)?;
    let ctx = &deno.ctx;
    let caller = Caller::of(ctx, info, headers).await?;
    let keyspace = Keyspace::new(ctx.store().clone(), name.clone());
    caller.require(ctx, &keyspace, Verb::Write, &Key::default())?;
    find(deno, &caller, &name).await?;
    Ok(Consumer {
        queue: Queue::new(ctx.store(), name),
        principal: caller.principal().clone(),
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not as described: {error}")))
}

async fn asked<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
    parse(&body::read(headers, body, BODY_BYTES_MAX).await?)
}

fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("strings and numbers are JSON");
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn lease_ms(asked: Option<i64>) -> Result<i64, ApiError> {
    match asked.unwrap_or(LEASE_MS_DEFAULT) {
        ms @ LEASE_MS_MIN..=LEASE_MS_MAX => Ok(ms),
        ms => Err(ApiError::bad_request(format!(
            "`leaseMs` is between {LEASE_MS_MIN} and {LEASE_MS_MAX}, not {ms}"
        ))),
    }
}

fn at_once(asked: Option<usize>, default: usize) -> Result<usize, ApiError> {
    match asked.unwrap_or(default) {
        max @ 1..=LEASED_AT_ONCE_MAX => Ok(max),
        max => Err(ApiError::bad_request(format!(
            "`max` is between 1 and {LEASED_AT_ONCE_MAX}, not {max}"
        ))),
    }
}

/// `POST /queue/{database}`: enqueues one message. Without `backoffMs` it is tried again five times,
/// with `[]` never.
#[utoipa::path(
    post, path = "/queue/{database}", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
    ),
    request_body(content = Enqueued<'static>, content_type = "application/json"),
    responses(
        (status = 200, description = "enqueued", body = EnqueuedInfo),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn enqueue(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let consumer = consumer(&deno, &database, &info, &headers).await?;
    let body = body::read(&headers, body, BODY_BYTES_MAX).await?;
    let now = deno.ctx.clock.now();
    let message = new_message(&parse(&body)?, now)?;

    let now_micros = deno.ctx.clock.now_micros();
    let write = AtomicWrite::new();
    let outcome = consumer
        .queue
        .commit(write, vec![message], now_micros)
        .await;

    match outcome.map_err(error::from_store)? {
        Outcome::Committed(done) => Ok(json(&EnqueuedInfo {
            ok: true,
            versionstamp: done.versionstamp.to_string(),
        })),
        Outcome::Conflict { .. } => Err(ApiError::unavailable("the message drew a taken id")),
    }
}

fn new_message(asked: &Enqueued<'_>, now: UnixMillis) -> Result<NewMessage, ApiError> {
    let bad = |text: String| Err(ApiError::bad_request(text));
    let value = Bytes::copy_from_slice(asked.value.get().as_bytes());
    let payload = match v8json::parse(&value) {
        Ok(payload) => payload,
        Err(error) => return bad(error.to_string()),
    };
    if payload.len() > wire::VALUE_BYTES_MAX {
        return bad(format!(
            "a message of {} bytes is over the limit of {}",
            payload.len(),
            wire::VALUE_BYTES_MAX
        ));
    }
    if !(0..=wire::DELAY_MS_MAX).contains(&asked.delay_ms) {
        return bad(format!("`delayMs` is between 0 and {}", wire::DELAY_MS_MAX));
    }
    let backoff_ms = asked.backoff_ms.clone().unwrap_or_else(backoff_default_ms);
    let too_long = |step: &u32| *step > wire::BACKOFF_STEP_MS_MAX;
    if backoff_ms.len() > wire::BACKOFF_STEPS_MAX || backoff_ms.iter().any(too_long) {
        return bad(format!(
            "`backoffMs` is a list of up to {} steps of up to {} ms",
            wire::BACKOFF_STEPS_MAX,
            wire::BACKOFF_STEP_MS_MAX
        ));
    }
    if asked.undelivered.len() > wire::UNDELIVERED_KEYS_MAX {
        return bad(format!(
            "`undelivered` is a list of up to {} keys",
            wire::UNDELIVERED_KEYS_MAX
        ));
    }
    let mut undelivered = Vec::with_capacity(asked.undelivered.len());
    for key in &asked.undelivered {
        match v8json::key::from_typed(key) {
            Ok(key) => undelivered.push(key),
            Err(error) => return bad(format!("a key in `undelivered` is wrong: {error}")),
        }
    }
    Ok(NewMessage {
        payload,
        due: UnixMillis(now.0.saturating_add(asked.delay_ms)),
        backoff_ms,
        undelivered,
    })
}

/// `POST /queue/{database}/pull`: leases messages, waiting up to `waitMs` for a first one.
#[utoipa::path(
    post, path = "/queue/{database}/pull", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
    ),
    request_body(content = Pulled, content_type = "application/json"),
    responses(
        (status = 200, description = "leased messages", body = Messages),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn pull(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let consumer = consumer(&deno, &database, &info, &headers).await?;
    let body = body::read(&headers, body, BODY_BYTES_MAX).await?;
    let asked: Pulled = match body.is_empty() {
        true => Pulled::default(),
        false => parse(&body)?,
    };
    let max = at_once(asked.max, 1)?;
    let lease_ms = lease_ms(asked.lease_ms)?;
    if !(0..=WAIT_MS_MAX).contains(&asked.wait_ms) {
        return Err(ApiError::bad_request(format!(
            "`waitMs` is between 0 and {WAIT_MS_MAX}"
        )));
    }
    let clock = &deno.ctx.clock;
    let until = UnixMillis(clock.now().0.saturating_add(asked.wait_ms));

    let mut changes = consumer.queue.changes();
    // From its first poll on it misses nothing.
    let mut heard = changes.next().now_or_never().is_some();
    let deliveries = loop {
        let now = clock.now();
        let deliveries = consumer.queue.lease(max, lease_ms, now).await;
        let deliveries = deliveries.map_err(error::from_store)?;
        if !deliveries.is_empty() || now >= until || deno.ctx.shutdown.is_cancelled() {
            break deliveries;
        }
        if std::mem::take(&mut heard) {
            continue;
        }
        wait(&deno, &consumer.queue, &mut changes, until).await?;
    };
    let messages: Vec<_> = deliveries.into_iter().map(Message::new).collect();
    Ok(json(&serde_json::json!({ "messages": messages })))
}

/// Waits until there may be a message, at most until `until`.
async fn wait(
    deno: &Inner,
    queue: &Queue,
    changes: &mut ChangeStream,
    until: UnixMillis,
) -> Result<(), ApiError> {
    let clock = &deno.ctx.clock;
    let next_due = queue.next_due().await.map_err(error::from_store)?;
    let look_again = UnixMillis(clock.now().0.saturating_add(LOOK_AGAIN_MS));
    let wake = until.min(look_again).min(next_due.unwrap_or(until));
    tokio::select! {
        change = changes.next() => match change {
            Some(_) => Ok(()),
            None => Err(ApiError::unavailable("the server is shutting down")),
        },
        () = clock.sleep_until(wake) => Ok(()),
        () = deno.ctx.shutdown.cancelled() => Ok(()),
    }
}

/// `POST /queue/{database}/ack`: these messages are done.
#[utoipa::path(
    post, path = "/queue/{database}/ack", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
    ),
    request_body(content = Receipts, content_type = "application/json"),
    responses(
        (status = 200, description = "which were still leased", body = Done),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn ack(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let shown = Shown::read(&deno, &database, &info, &headers, body).await?;
    shown.settle(&deno, Step::Acknowledge).await
}

/// `POST /queue/{database}/fail`: these messages are to be delivered again, by their schedule.
#[utoipa::path(
    post, path = "/queue/{database}/fail", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
    ),
    request_body(content = Receipts, content_type = "application/json"),
    responses(
        (status = 200, description = "which were still leased", body = Done),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn fail(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let shown = Shown::read(&deno, &database, &info, &headers, body).await?;
    shown.settle(&deno, Step::Fail).await
}

/// `POST /queue/{database}/extend`: these leases last `leaseMs` from now.
#[utoipa::path(
    post, path = "/queue/{database}/extend", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
    ),
    request_body(content = Receipts, content_type = "application/json"),
    responses(
        (status = 200, description = "which were still leased", body = Done),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn extend(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let shown = Shown::read(&deno, &database, &info, &headers, body).await?;
    let lease_ms = lease_ms(shown.lease_ms)?;
    shown.settle(&deno, Step::Extend { lease_ms }).await
}

/// What is done with each receipt.
#[derive(Clone, Copy)]
enum Step {
    Acknowledge,
    Fail,
    Extend { lease_ms: i64 },
}

/// Receipts that a consumer shows.
struct Shown {
    queue: Queue,
    receipts: Vec<Receipt>,
    lease_ms: Option<i64>,
}

impl Shown {
    async fn read(
        deno: &Inner,
        database: &str,
        info: &RequestInfo,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Shown, ApiError> {
        let consumer = consumer(deno, database, info, headers).await?;
        let asked: Receipts = asked(headers, body).await?;
        Ok(Shown {
            queue: consumer.queue,
            receipts: receipts(&asked)?,
            lease_ms: asked.lease_ms,
        })
    }

    /// Answers for each receipt whether it still held.
    async fn settle(&self, deno: &Inner, step: Step) -> Result<Response, ApiError> {
        let mut done = Vec::with_capacity(self.receipts.len());
        for receipt in &self.receipts {
            let now = deno.ctx.clock.now();
            let held = match step {
                Step::Acknowledge => self.queue.acknowledge(receipt).await,
                Step::Fail => self.queue.fail(receipt, now).await,
                Step::Extend { lease_ms } => self.queue.extend(receipt, lease_ms, now).await,
            };
            done.push(held.map_err(error::from_store)?);
            if !matches!(step, Step::Extend { .. }) {
                deno.finished.tell(receipt.clone());
            }
        }
        Ok(json(&Done { done }))
    }
}

fn receipts(asked: &Receipts) -> Result<Vec<Receipt>, ApiError> {
    if asked.receipts.len() > LEASED_AT_ONCE_MAX {
        return Err(ApiError::bad_request(format!(
            "at most {LEASED_AT_ONCE_MAX} receipts at once"
        )));
    }
    let parsed = asked.receipts.iter().map(|receipt| {
        receipt
            .parse()
            .map_err(|error: crate::queue::ParseReceiptError| {
                ApiError::bad_request(error.to_string())
            })
    });
    parsed.collect()
}

impl Finished {
    fn tell(&self, receipt: Receipt) {
        // Nobody listens: then nobody has to know.
        let _ = self.0.send(receipt);
    }
}

/// `GET /queue/{database}/stream`: messages as they become due, one a line. At most `max` are out at
/// once; finishing one lets the next one through. While the connection lasts the leases of its
/// messages are extended, so a handler may take as long as it needs.
#[utoipa::path(
    get, path = "/queue/{database}/stream", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
        ("max" = Option<u32>, Query, description = "most messages at once"),
        ("leaseMs" = Option<i64>, Query, description = "length of a lease, in milliseconds"),
    ),
    responses(
        (status = 200, description = "messages, one a line, for as long as the client stays", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "the body is wrong"),
        (status = 401, description = "no valid token"),
        (status = 403, description = "the token may not write the whole database"),
    )
)]
pub(super) async fn stream(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    query: Result<Query<Streamed>, axum::extract::rejection::QueryRejection>,
    axum::Extension(info): axum::Extension<RequestInfo>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let consumer = consumer(&deno, &database, &info, &headers).await?;
    let Query(asked) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let feed = Feed {
        max: at_once(asked.max, STREAM_MESSAGES_DEFAULT)?,
        lease_ms: lease_ms(asked.lease_ms)?,
        changes: consumer.queue.changes(),
        finished: deno.finished.0.subscribe(),
        out: HashMap::new(),
        blank: sleep(&deno, 0),
        deno,
        consumer,
    };
    let lines = stream::unfold(feed, |mut feed| async {
        match feed.next().await {
            Ok(Some(line)) => Some((Ok(line), feed)),
            Ok(None) => None,
            Err(error) => Some((Err(io::Error::other(format!("{error:?}"))), feed)),
        }
    });
    let content_type = HeaderValue::from_static("application/x-ndjson");
    Ok((
        [(header::CONTENT_TYPE, content_type)],
        Body::from_stream(lines),
    )
        .into_response())
}

/// One consumer that listens.
struct Feed {
    deno: Arc<Inner>,
    consumer: Consumer,
    max: usize,
    lease_ms: i64,
    changes: ChangeStream,
    finished: broadcast::Receiver<Receipt>,
    /// Messages it has, with the moment their lease is to be extended.
    out: HashMap<Receipt, UnixMillis>,
    blank: Sleep,
}

fn sleep(deno: &Inner, ms: i64) -> Sleep {
    let clock = &deno.ctx.clock;
    clock.sleep_until(UnixMillis(clock.now().0.saturating_add(ms)))
}

impl Feed {
    /// The next lines; `None` when the stream is to end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let now = self.deno.ctx.clock.now();
            self.extend_leases(now).await?;
            if self.out.len() < self.max {
                let lines = self.lease(now).await?;
                if !lines.is_empty() {
                    return Ok(Some(lines.into()));
                }
            }
            let has_room = self.out.len() < self.max;
            let mut wake = now.0.saturating_add(LOOK_AGAIN_MS);
            if let Some(first) = self.out.values().min() {
                wake = wake.min(first.0);
            }
            if has_room {
                let next_due = self.consumer.queue.next_due().await;
                if let Some(due) = next_due.map_err(error::from_store)? {
                    wake = wake.min(due.0);
                }
            }
            let ctx = &self.deno.ctx;
            tokio::select! {
                () = ctx.shutdown.cancelled() => return Ok(None),
                () = &mut self.blank => {
                    self.blank = sleep(&self.deno, BLANK_LINE_MS);
                    let access = &self.deno.ctx.access;
                    let valid = access.is_still_valid(&self.consumer.principal).await;
                    if !valid.map_err(error::from_store)? {
                        return Ok(None);
                    }
                    return Ok(Some(Bytes::from_static(b"\n")));
                }
                heard = self.finished.recv() => match heard {
                    Ok(receipt) => {
                        self.out.remove(&receipt);
                    }
                    // What was missed is found when the leases are extended.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(None),
                },
                change = self.changes.next(), if has_room => {
                    if change.is_none() {
                        return Ok(None);
                    }
                }
                () = ctx.clock.sleep_until(UnixMillis(wake)) => {}
            }
        }
    }

    async fn lease(&mut self, now: UnixMillis) -> Result<Vec<u8>, ApiError> {
        let room = self.max - self.out.len();
        let leased = self.consumer.queue.lease(room, self.lease_ms, now).await;
        let mut lines = Vec::new();
        for delivery in leased.map_err(error::from_store)? {
            self.out
                .insert(delivery.receipt.clone(), self.extension_due(now));
            let message = Message::new(delivery);
            let written = serde_json::to_writer(&mut lines, &message);
            debug_assert!(written.is_ok(), "writing to memory does not fail");
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Halfway through a lease is early enough.
    fn extension_due(&self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_add(self.lease_ms / 2))
    }

    async fn extend_leases(&mut self, now: UnixMillis) -> Result<(), ApiError> {
        let due = self.out.iter().filter(|(_, at)| **at <= now);
        let due: Vec<_> = due.map(|(receipt, _)| receipt.clone()).collect();
        for receipt in due {
            let extended = self.consumer.queue.extend(&receipt, self.lease_ms, now);
            if extended.await.map_err(error::from_store)? {
                let at = self.extension_due(now);
                self.out.insert(receipt, at);
            } else {
                self.out.remove(&receipt);
            }
        }
        Ok(())
    }
}
