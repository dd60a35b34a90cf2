//! A socket that notes what happens on it in the connection's pulse.
//!
//! It also closes gently: closing a socket while the client is still sending makes the kernel throw
//! away the answer that was just sent (a 413 or 431, say). So after the last byte went out, what
//! comes in is read and dropped for a moment.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::pulse::Pulse;

/// Longest time to wait for a client to stop sending.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes to drop meanwhile.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// See the module. Reads first what was already read while the protocol was found out.
pub(super) struct Watched<S> {
    socket: S,
    already_read: Bytes,
    pulse: Arc<Pulse>,
    /// Whether the client has said that nothing more will come.
    is_at_end: bool,
    linger: Option<Linger>,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, pulse: Arc<Pulse>) -> Watched<S> {
        Watched {
            socket,
            already_read: Bytes::new(),
            pulse,
            is_at_end: false,
            linger: None,
        }
    }

    /// Gives bytes back to be read again.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.already_read.is_empty(), "bytes are given back once");
        self.already_read = bytes;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.already_read.is_empty() {
            let count = self.already_read.len().min(buf.remaining());
            buf.put_slice(&self.already_read[..count]);
            self.already_read.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.pulse.read();
        } else if buf.remaining() > 0 {
            self.is_at_end = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Drops what comes in until the client stops, or has had its moment.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            until: Box::pin(tokio::time::sleep(LINGER)),
            bytes_left: LINGER_BYTES,
        });
        let mut scratch = [MaybeUninit::uninit(); 4096];
        while linger.bytes_left > 0 {
            let mut dropped = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut dropped) {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {
                    linger.bytes_left = linger.bytes_left.saturating_sub(dropped.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.until.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn note(&self, written: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(taken)) => self.pulse.wrote(*taken, offered),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.fell_behind(),
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.note(written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.note(written, offered)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        match &flushed {
            Poll::Ready(Ok(())) => self.pulse.caught_up(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.fell_behind(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        if !self.is_at_end {
            ready!(self.poll_linger(cx));
            self.is_at_end = true;
        }
        Poll::Ready(Ok(()))
    }
}
