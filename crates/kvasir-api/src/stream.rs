//! Long answers: lists that are read as they are sent, and event streams.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, header};
use kvasir_auth::Verb;
use kvasir_kv::{Entry, Key, Keyspace, PageStream, UnixMillis};

use crate::context::{Caller, Ctx};
use crate::error::ApiError;
use crate::request::RequestId;

/// Time between two heartbeats of an event stream that has nothing to say, in milliseconds. Proxies
/// commonly give up after 30 or 60 seconds of silence.
pub const HEARTBEAT_MS: i64 = 15_000;

/// After which time a browser connects again, in milliseconds.
const RECONNECT_MS: u32 = 1_000;

/// How entries stand behind each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON array.
    Array,
    /// One JSON text a line.
    Lines,
}

impl Framing {
    /// The content type.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Framing::Array => "application/json",
            Framing::Lines => "application/x-ndjson",
        })
    }

    fn before(self, is_first: bool) -> &'static [u8] {
        match (self, is_first) {
            (Framing::Array, true) => b"[",
            (Framing::Array, false) => b",",
            (Framing::Lines, _) => b"",
        }
    }

    fn after(self) -> &'static [u8] {
        match self {
            Framing::Array => b"",
            Framing::Lines => b"\n",
        }
    }

    fn end(self, is_empty: bool) -> &'static [u8] {
        match (self, is_empty) {
            (Framing::Array, true) => b"[]",
            (Framing::Array, false) => b"]",
            (Framing::Lines, _) => b"",
        }
    }
}

/// Writes entries to bodies.
pub struct EntryWriter<W> {
    /// Between the entries.
    pub framing: Framing,
    /// Appends one entry as JSON.
    pub write: W,
}

impl<W: FnMut(&Entry, &mut Vec<u8>)> EntryWriter<W> {
    /// The body of entries that are already there.
    pub fn whole(mut self, entries: &[Entry]) -> Bytes {
        let mut out = Vec::new();
        let mut is_empty = true;
        self.append(entries, &mut is_empty, &mut out);
        out.extend_from_slice(self.framing.end(is_empty));
        out.into()
    }

    fn append(&mut self, entries: &[Entry], is_empty: &mut bool, out: &mut Vec<u8>) {
        for entry in entries {
            out.extend_from_slice(self.framing.before(*is_empty));
            (self.write)(entry, out);
            out.extend_from_slice(self.framing.after());
            *is_empty = false;
        }
    }
}

impl<W: FnMut(&Entry, &mut Vec<u8>) + Send + 'static> EntryWriter<W> {
    /// A body that reads its pages as the client takes them, so that a list of any length needs the
    /// memory of one page.
    ///
    /// A failure on the way cuts the connection, which is all that can be told after the status; it
    /// is logged under `request`.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::scan`], if the first page already fails.
    pub async fn streamed(
        self,
        mut pages: PageStream,
        request: RequestId,
    ) -> Result<Body, ApiError> {
        let first = pages.next().await.transpose()?.unwrap_or_default();
        let state = (self, stream::iter([Ok(first)]).chain(pages), Some(true));
        let chunks = stream::unfold(state, move |(mut writer, mut pages, is_empty)| async move {
            let mut is_empty = is_empty?;
            let mut out = Vec::new();
            while out.is_empty() {
                match pages.next().await {
                    Some(Ok(page)) => writer.append(&page.entries, &mut is_empty, &mut out),
                    Some(Err(error)) => {
                        tracing::error!(%request, source = &error as &dyn std::error::Error, "a list was cut off");
                        return Some((Err(error), (writer, pages, None)));
                    }
                    None => {
                        let end = Bytes::from_static(writer.framing.end(is_empty));
                        return Some((Ok(end), (writer, pages, None)));
                    }
                }
            }
            Some((Ok(Bytes::from(out)), (writer, pages, Some(is_empty))))
        });
        Ok(Body::from_stream(chunks))
    }
}

/// What a caller must still be allowed while a stream goes on.
pub struct Guard {
    /// The mount.
    pub ctx: Ctx,
    /// Who listens.
    pub caller: Caller,
    /// The keyspace listened to.
    pub keyspace: Keyspace,
    /// The key, or the common prefix of all keys listened to.
    pub key: Key,
    /// What the caller must be allowed to do there.
    pub verb: Verb,
}

impl Guard {
    /// Whether the caller may still listen: token not revoked, nothing expired. A store that cannot
    /// be asked does not end the stream; it will end by itself.
    async fn holds(&self) -> bool {
        let access = &self.ctx.access;
        let valid = access.is_still_valid(self.caller.principal()).await;
        valid.unwrap_or(true)
            && self
                .caller
                .may(&self.ctx, &self.keyspace, self.verb, &self.key)
    }
}

/// One event whose data is JSON on one line.
pub fn event(id: Option<&str>, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 64);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    let start = out.len();
    out.extend_from_slice(data);
    crate::json::put_on_one_line(&mut out[start..]);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// An endless `text/event-stream` of what [`event`] makes: with heartbeats, ending when `events`
/// ends, when the server drains, or when the guard does not hold any more. A slow client holds up
/// only its own `events`.
pub fn event_stream<S>(guard: Guard, events: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let shutdown = guard.ctx.shutdown.clone();
    let state = EventState {
        beat_at: next_beat(&guard),
        guard,
        events: Box::pin(events),
    };
    let hello = Bytes::from(format!("retry: {RECONNECT_MS}\n\n"));
    let events = stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((event, state))
    });
    let body = stream::iter([hello])
        .chain(events)
        .take_until(shutdown.cancelled_owned())
        .map(Ok::<_, Infallible>);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Keeps nginx from collecting events until its buffer is full.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Body::from_stream(body)).into_response()
}

struct EventState {
    guard: Guard,
    events: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    beat_at: UnixMillis,
}

fn next_beat(guard: &Guard) -> UnixMillis {
    let now = guard.ctx.clock.now();
    now.checked_add_ms(HEARTBEAT_MS).unwrap_or(now)
}

impl EventState {
    async fn next(&mut self) -> Option<Bytes> {
        let event = tokio::select! {
            event = self.events.next() => event?,
            () = self.guard.ctx.clock.sleep_until(self.beat_at) => Bytes::from_static(b": heartbeat\n\n"),
        };
        self.beat_at = next_beat(&self.guard);
        self.guard.holds().await.then_some(event)
    }
}
