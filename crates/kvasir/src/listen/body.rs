//! Bodies under a deadline: requests that must keep coming, answers that must keep being taken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use kvasir_api::body::TooSlow;
use tokio::time::Sleep;

use super::pulse::Pulse;
use crate::telemetry::account::Account;

/// How fast request bodies have to come.
#[derive(Clone, Copy, Debug)]
pub struct BodyPace {
    /// Longest wait for the next chunk.
    pub gap: Duration,
    /// Slowest rate, in bytes per second, judged once [`BodyPace::gap`] has passed.
    pub bytes_per_second_min: u64,
}

impl BodyPace {
    /// Whether `bytes` within `elapsed` are enough.
    fn is_kept(&self, bytes: u64, elapsed: Duration) -> bool {
        elapsed < self.gap
            || u128::from(bytes) * 1000
                >= u128::from(self.bytes_per_second_min) * elapsed.as_millis()
    }
}

/// A request body that fails with [`TooSlow`] when the client does not keep the pace.
///
/// The usual body came with its head and costs no timer. hyper hands it over only after it was asked
/// once in vain, so the timer waits for the second time.
pub(super) struct Paced {
    body: Incoming,
    pace: BodyPace,
    bytes: u64,
    was_asked: bool,
    wait: Option<Wait>,
}

struct Wait {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Paced {
    pub(super) fn new(body: Incoming, pace: BodyPace) -> Paced {
        Paced {
            body,
            pace,
            bytes: 0,
            was_asked: false,
            wait: None,
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let gap = this.pace.gap;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(wait) = &mut this.wait {
                    if !this.pace.is_kept(this.bytes, wait.since.elapsed()) {
                        return Poll::Ready(Some(Err(TooSlow.into())));
                    }
                    wait.deadline
                        .as_mut()
                        .reset(tokio::time::Instant::now() + gap);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if !this.was_asked => {
                this.was_asked = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                let wait = this.wait.get_or_insert_with(|| Wait {
                    since: Instant::now(),
                    deadline: Box::pin(tokio::time::sleep(gap)),
                });
                ready!(wait.deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Largest piece of an answer handed to HTTP/2 at once, in bytes: its usual stream window. What was
/// handed over is out of sight, so a client that takes nothing is noticed by what is left.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    /// What is left of a frame that was too large to hand over at once.
    rest: Bytes,
    /// A streamed answer keeps the connection busy beyond its handler.
    _stream: Option<Streaming>,
    /// On HTTP/2, where a stream can be stuck while the connection is not.
    held: Option<Held>,
    /// Ends with the answer; none for probes.
    account: Option<Box<Account>>,
}

impl Answer {
    pub(super) fn new(body: Body, pulse: &Arc<Pulse>, account: Option<Box<Account>>) -> Answer {
        let is_whole = body.size_hint().exact().is_some();
        Answer {
            _stream: (!is_whole).then(|| Streaming::begin(pulse.clone())),
            held: (pulse.is_multiplexed() && !body.is_end_stream())
                .then(|| Held::begin(pulse.clone())),
            rest: Bytes::new(),
            body,
            account,
        }
    }
}

/// Keeps the connection busy while it lives.
struct Streaming(Arc<Pulse>);

impl Streaming {
    fn begin(pulse: Arc<Pulse>) -> Streaming {
        pulse.request_began();
        Streaming(pulse)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// Notes whether there is something to send that nobody asks for.
struct Held {
    pulse: Arc<Pulse>,
    is_held: bool,
}

impl Held {
    fn begin(pulse: Arc<Pulse>) -> Held {
        pulse.answer_held();
        Held {
            pulse,
            is_held: true,
        }
    }

    fn set(&mut self, is_held: bool) {
        match (self.is_held, is_held) {
            (false, true) => self.pulse.answer_held(),
            (true, false) => self.pulse.answer_taken(),
            (true, true) => self.pulse.answer_progressed(),
            (false, false) => {}
        }
        self.is_held = is_held;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// The next frame of a body. What a streamed answer reads is charged to its request.
fn polled(
    body: &mut Body,
    account: Option<&Account>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    match account {
        Some(account) => account.spent.during(|| Pin::new(body).poll_frame(cx)),
        None => Pin::new(body).poll_frame(cx),
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(held) = &mut this.held else {
            return polled(&mut this.body, this.account.as_deref(), cx);
        };
        if this.rest.is_empty() {
            match polled(&mut this.body, this.account.as_deref(), cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => {
                    held.set(false);
                    return other;
                }
            }
        }
        held.set(true);
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES_MAX));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if rest > 0 {
            let upper = hint.upper().map(|upper| upper + rest);
            hint.set_lower(hint.lower() + rest);
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_judged_once_the_gap_has_passed() {
        let pace = BodyPace {
            gap: Duration::from_secs(15),
            bytes_per_second_min: 1024,
        };
        assert!(pace.is_kept(0, Duration::from_millis(14_999)));
        assert!(pace.is_kept(15 * 1024, Duration::from_secs(15)));
        assert!(!pace.is_kept(15 * 1024 - 1, Duration::from_secs(15)));
    }
}
