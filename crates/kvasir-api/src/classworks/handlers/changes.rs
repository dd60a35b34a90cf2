//! A stream of what changes in a namespace, as server-sent events. Ours; the original has none.
//!
//! `GET /:namespace` with `Accept: text/event-stream`, which is what a browser's `EventSource` sends.
//! It cannot send headers, so site key and password come as `?sitekey=` and `?password=`.
//!
//! ```text
//! event: open                      the stream has begun: read what you show, then listen
//! event: change                    id: versionstamp, data: {"key":"…","deleted":false}
//! event: reset                     too much happened at once: read everything again
//! ```
//!
//! A stream ends when the server drains, and when the namespace becomes closed to its reader.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use http::{HeaderValue, header};
use kvasir_kv::{ChangeStream, Changes, KeyRange};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::super::App;
use super::super::gate::Right;
use super::super::layout::{AccessType, Device, Space};
use super::super::wire;
use super::Call;
use crate::error::ApiError;

/// Most streams at the same time, of all namespaces.
pub const STREAMS_MAX: usize = 1_000;

/// After so many milliseconds of silence something is sent, so that proxies and clients see that the
/// stream lives.
const HEARTBEAT_MS: i64 = 15_000;

const EVENT_STREAM: &str = "text/event-stream";

/// Whether the request is for a stream, and streams are on.
pub(super) fn is_asked_for(call: &Call<'_>) -> bool {
    let accepts = call.headers.get(header::ACCEPT);
    let accepts = accepts.and_then(|accepts| accepts.to_str().ok());
    call.app.settings.changes
        && accepts.is_some_and(|accepts| {
            let mut types = accepts.split(',');
            types.any(|one| {
                one.split(';')
                    .next()
                    .is_some_and(|name| name.trim() == EVENT_STREAM)
            })
        })
}

/// The stream. It begins with what is committed after the answer's head.
pub(super) async fn follow(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.open(Right::Read).await?;
    let place = Arc::clone(&call.app.streams).try_acquire_owned();
    let place = place.map_err(|_| ApiError::unavailable("too many streams of changes"))?;

    let range = KeyRange::below(&opened.space.prefix);
    let mut changes = opened.space.keyspace.changes(&range);
    // From the first look on, nothing is missed.
    let early = changes.next().now_or_never();
    let mut first = String::from("retry: 3000\n\nevent: open\ndata: {}\n\n");
    if let Some(Some(early)) = &early {
        write_events(&opened.space, early, &mut first);
    }
    let following = Following {
        reader: Reader {
            app: call.app.share(),
            owner: opened.owner,
            device: opened.device,
            link: opened.is_link.then(|| call.namespace.to_owned()),
        },
        space: opened.space,
        changes,
        _place: place,
    };
    let start = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(first))]);
    let rest = stream::unfold(following, |mut following| async move {
        let events = following.next().await?;
        Some((Ok(events), following))
    });
    let mut response = Response::new(Body::from_stream(start.chain(rest)));
    let headers = response.headers_mut();
    let event_stream = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, event_stream);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A stream between two events.
struct Following {
    reader: Reader,
    space: Space,
    changes: ChangeStream,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// The next events; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let ctx = &self.reader.app.ctx;
        let silence = ctx.clock.now().checked_add_ms(HEARTBEAT_MS)?;
        let heard = tokio::select! {
            biased;
            () = ctx.shutdown.cancelled() => return None,
            heard = self.changes.next() => heard?,
            () = ctx.clock.sleep_until(silence) => Changes::default(),
        };
        if !self.reader.may_still_read().await {
            return None;
        }
        let mut events = String::new();
        write_events(&self.space, &heard, &mut events);
        if events.is_empty() {
            events.push_str(":\n\n");
        }
        Some(events.into())
    }
}

/// Who reads a stream, and why he may.
struct Reader {
    app: Arc<App>,
    /// The namespace whose settings count.
    owner: String,
    /// The settings under which he was let in.
    device: Arc<Device>,
    /// The link by which he came.
    link: Option<String>,
}

impl Reader {
    async fn may_still_read(&self) -> bool {
        let Ok(device) = self.app.devices.get(&self.owner).await else {
            return false;
        };
        match &self.link {
            Some(link) => device.read_only_link.as_ref() == Some(link),
            None => {
                device.access_type() != AccessType::Private
                    || device.password == self.device.password
            }
        }
    }
}

#[derive(Serialize)]
struct Changed<'a> {
    key: &'a str,
    deleted: bool,
}

fn write_events(space: &Space, changes: &Changes, out: &mut String) {
    use std::fmt::Write as _;
    if changes.missed {
        out.push_str("event: reset\ndata: {}\n\n");
    }
    for (key, is_there) in &changes.keys {
        let Some(key) = space.name_of(key) else {
            continue;
        };
        let changed = wire::to_json(&Changed {
            key: &key,
            deleted: !is_there,
        });
        let (id, data) = (changes.versionstamp, String::from_utf8_lossy(&changed));
        write!(out, "id: {id}\nevent: change\ndata: {data}\n\n")
            .expect("writing to a text does not fail");
    }
}
