//! A timeout for the first bytes of a connection.
//!
//! hyper bounds the headers of a request and pings an HTTP/2 connection, but waits without limit for
//! the first bytes, by which it distinguishes HTTP/1 from HTTP/2: a client that sends nothing after
//! its handshake would use one of `max_connections` for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The length of the HTTP/2 connection preface (RFC 9113 §3.4); an HTTP/1.1 request, with its `Host`
/// header, is no shorter.
const PREFACE_LEN: usize = 24;

/// A stream that fails if its first bytes do not arrive in time.
pub(super) struct FirstByteTimeout<S> {
    stream: S,
    /// `None` once the first bytes have arrived.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes received so far, counted until there are [`PREFACE_LEN`].
    received: usize,
}

impl<S> FirstByteTimeout<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self {
            stream,
            deadline: Some(Box::pin(sleep_until(Instant::now() + within))),
            received: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstByteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(deadline) = &mut self.deadline else {
            return read;
        };
        if read.is_pending() {
            return deadline.as_mut().poll(cx).map(|()| {
                let why = "the client connected and sent nothing";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            });
        }
        self.received += buf.filled().len() - before;
        if self.received >= PREFACE_LEN {
            self.deadline = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstByteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
