//! One connection from its first byte to its last.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::io::Watched;
use super::pulse::{Pulse, Verdict};
use super::registry::Admitted;
use super::service::{Connected, Handler};

/// How HTTP/2 connections begin, RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol name of HTTP/2 in TLS, RFC 9113 3.1.
const ALPN_HTTP2: &[u8] = b"h2";

/// Streams that a client reset before they were accepted, after which the connection ends: what
/// `h2` itself uses against rapid resets (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// Limits of the two protocols.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolLimits {
    /// Largest head of a request, in bytes. Above it the answer is 431.
    pub head_bytes_max: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
}

/// How connections are served; made once per listener.
#[derive(Clone)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: ProtocolLimits) -> Protocols {
        let mut http1 = http1::Builder::new();
        // Deadlines are the reaper's, so hyper needs no timer. Pipelined answers are not gathered
        // before a flush: hyper would then hold back its answer to a broken request.
        http1.max_header_size(limits.head_bytes_max);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.http2_streams_max)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
        Protocols { http1, http2 }
    }
}

/// Serves a connection until it ends, is told to leave, or passes a deadline.
pub(super) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    place: Admitted,
    protocols: Arc<Protocols>,
    handler: Arc<Handler>,
    tls: Option<TlsAcceptor>,
) {
    let pulse = place.pulse.clone();
    let mut work = pin!(begin(socket, peer, pulse.clone(), &protocols, handler, tls));
    let outcome = poll_fn(|cx| {
        pulse.register(cx.waker());
        match pulse.verdict() {
            Verdict::Close => return Poll::Ready(Ok(())),
            Verdict::Leave if pulse.is_before_request() => return Poll::Ready(Ok(())),
            Verdict::Leave | Verdict::Stay => {}
        }
        work.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%peer, error, "connection ended early");
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Finds out the protocol and speaks it.
async fn begin(
    socket: TcpStream,
    peer: SocketAddr,
    pulse: Arc<Pulse>,
    protocols: &Protocols,
    handler: Arc<Handler>,
    tls: Option<TlsAcceptor>,
) -> Ended {
    let local = socket.local_addr()?;
    let connected = Connected {
        peer,
        local,
        is_tls: tls.is_some(),
    };
    let socket = Watched::new(socket, pulse.clone());
    match tls {
        Some(tls) => {
            let socket = tls.accept(socket).await?;
            let is_http2 = socket.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
            speak(socket, is_http2, connected, pulse, protocols, handler).await
        }
        None => {
            let mut socket = socket;
            let start = read_start(&mut socket).await?;
            let is_http2 = start == PREFACE;
            socket.unread(start);
            speak(socket, is_http2, connected, pulse, protocols, handler).await
        }
    }
}

/// Reads until it is clear whether the connection begins with [`PREFACE`], and not further.
async fn read_start(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut start = BytesMut::with_capacity(PREFACE.len());
    loop {
        let mut rest = (&mut *socket).take((PREFACE.len() - start.len()) as u64);
        let is_end = rest.read_buf(&mut start).await? == 0;
        if is_end || !PREFACE.starts_with(&start) || start.len() == PREFACE.len() {
            return Ok(start.freeze());
        }
    }
}

async fn speak<S>(
    socket: S,
    is_http2: bool,
    connected: Connected,
    pulse: Arc<Pulse>,
    protocols: &Protocols,
    handler: Arc<Handler>,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(socket);
    if is_http2 {
        pulse.became_multiplexed();
        let service = handler.service(connected, pulse.clone());
        supervise(pin!(protocols.http2.serve_connection(io, service)), &pulse).await
    } else {
        let service = handler.service(connected, pulse.clone());
        supervise(pin!(protocols.http1.serve_connection(io, service)), &pulse).await
    }
}

/// Drives a connection and tells it to finish when it has to leave.
async fn supervise<C>(mut connection: Pin<&mut C>, pulse: &Pulse) -> Ended
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut was_told = false;
    poll_fn(|cx: &mut Context<'_>| {
        if !was_told && pulse.verdict() >= Verdict::Leave {
            was_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await
    .map_err(Into::into)
}

/// Tells a client in the clear, without waiting, that there is no place for it.
pub(super) fn turn_away(socket: &TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
        content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n\r\n\
        too many connections\n";
    // Whether it gets through does not matter: the connection ends either way.
    let _ = socket.try_write(FULL);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `sent`, and whether it is HTTP/2.
    async fn start(sent: &'static [u8]) -> (Bytes, bool) {
        let mut socket = sent;
        let start = read_start(&mut socket).await.unwrap();
        let is_http2 = &start[..] == PREFACE;
        (start, is_http2)
    }

    #[tokio::test]
    async fn the_preface_tells_the_protocols_apart() {
        assert_eq!(
            start(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0").await,
            (Bytes::from_static(PREFACE), true)
        );
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
            b"P",
            b"",
        ] {
            let (read, is_http2) = start(other).await;
            assert!(!is_http2);
            assert!(other.starts_with(&read));
        }
    }
}
