//! Watches: frames of the latest state of some keys, for as long as the client listens.

use std::io;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use kvasir_auth::Verb;
use kvasir_kv::clock::Sleep;
use kvasir_kv::{Entry, UnixMillis, Versionstamp, WatchStream};

use super::data_path::{Admitted, admit, refused};
use super::{Inner, wire};
use crate::body;
use crate::context::Ctx;
use crate::error::ApiError;
use crate::request::RequestInfo;

/// Pause between two pings, in milliseconds.
const PING_MS: i64 = 5_000;

/// `POST .../watch`: one frame at once, then one after changes.
///
/// The stream ends when the server shuts down or the data token holds no more; clients then come
/// back with a newer one.
#[utoipa::path(
    post, path = "/kv-connect/{database}/watch", tag = "deno",
    params(
        ("database" = String, Path, description = "name of the database"),
        ("x-denokv-version" = Option<u32>, Header, description = "version of the protocol, 2 or 3"),
        ("x-denokv-database-id" = Option<String>, Header, description = "id of the database, from version 2 on"),
        ("x-transaction-domain-id" = Option<String>, Header, description = "the same in version 1"),
    ),
    request_body(content = String, content_type = "application/x-protobuf", description = "`Watch` of KV Connect's protocol"),
    responses(
        (status = 200, description = "frames of entries, for as long as the client stays", body = String, content_type = "application/octet-stream"),
        (status = 400, description = "the message is wrong"),
        (status = 401, description = "no valid data token"),
    )
)]
pub(super) async fn watch(
    State(deno): State<Arc<Inner>>,
    Path(database): Path<String>,
    Extension(info): Extension<RequestInfo>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Admitted { session, version } = admit(&deno, &database, &info, &headers).await?;
    if version < 3 {
        return Err(ApiError::bad_request(
            "watches need version 3 of the protocol",
        ));
    }
    let body = body::read(&headers, body, wire::BODY_BYTES_MAX).await?;
    let keys = wire::watch(body)?;
    let now = deno.ctx.clock.now();
    if !keys.iter().all(|key| session.may(Verb::Read, key, now)) {
        return Err(refused(Verb::Read));
    }

    let states = if keys.is_empty() {
        stream::iter([Ok(Vec::new())])
            .chain(stream::pending())
            .boxed()
    } else {
        deno.keyspace(&session).watch(&keys)
    };
    let frames = frames(
        deno.ctx.clone(),
        states,
        session.until,
        takes_marks(&headers),
    );

    let content_type = HeaderValue::from_static("application/octet-stream");
    let body = Body::from_stream(frames);
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Whether the client understands that a key is marked as unchanged.
///
/// Deno up to 2.9.6 at least shows such a key as absent, so it gets every entry in every frame, as
/// its own server does it. The npm client reads the marks as the protocol means them.
fn takes_marks(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    !agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Deno/"))
}

struct Frames {
    ctx: Ctx,
    takes_marks: bool,
    states: WatchStream,
    /// What the client has been told: per key the versionstamp, zero for an absent key.
    told: Option<Vec<Versionstamp>>,
    ping: Sleep,
    end: Sleep,
}

fn frames(
    ctx: Ctx,
    states: WatchStream,
    until: UnixMillis,
    takes_marks: bool,
) -> impl Stream<Item = io::Result<Bytes>> {
    let frames = Frames {
        ping: next_ping(&ctx),
        end: ctx.clock.sleep_until(until),
        ctx,
        states,
        told: None,
        takes_marks,
    };
    stream::unfold(frames, |mut frames| async {
        let frame = frames.next().await?;
        Some((frame, frames))
    })
}

fn next_ping(ctx: &Ctx) -> Sleep {
    let at = ctx.clock.now().0.saturating_add(PING_MS);
    ctx.clock.sleep_until(UnixMillis(at))
}

impl Frames {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            tokio::select! {
                () = self.ctx.shutdown.cancelled() => return None,
                () = &mut self.end => return None,
                state = self.states.next() => match state? {
                    Ok(state) => {
                        if let Some(frame) = self.frame(state) {
                            self.ping = next_ping(&self.ctx);
                            return Some(Ok(frame));
                        }
                    }
                    // The head is long gone: breaking the stream is all that can be said.
                    Err(error) => return Some(Err(io::Error::other(error))),
                },
                () = &mut self.ping => {
                    self.ping = next_ping(&self.ctx);
                    return Some(Ok(wire::WATCH_PING));
                }
            }
        }
    }

    /// The frame that tells a state, unless the client knows it already.
    fn frame(&mut self, state: Vec<Option<Entry>>) -> Option<Bytes> {
        let stamp = |entry: &Option<Entry>| match entry {
            Some(entry) => entry.versionstamp,
            None => Versionstamp::ZERO,
        };
        let stamps: Vec<_> = state.iter().map(stamp).collect();
        let keys: Vec<_> = match &self.told {
            Some(told) if *told == stamps => return None,
            None => state.into_iter().map(Some).collect(),
            Some(_) if !self.takes_marks => state.into_iter().map(Some).collect(),
            Some(told) => {
                let changes = state.into_iter().zip(told).zip(&stamps);
                changes
                    .map(|((entry, before), now)| (before != now).then_some(entry))
                    .collect()
            }
        };
        self.told = Some(stamps);
        Some(wire::watch_frame(keys))
    }
}
