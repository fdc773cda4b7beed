//! A connection whose client must say something soon.
//!
//! hyper bounds the headers of a request and pings a connection that has begun, but waits for the
//! first bytes, by which it tells HTTP/1 from HTTP/2, for ever: a client that shook hands and then
//! falls silent would keep its place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The length of the HTTP/2 connection preface (RFC 9113 §3.4); an HTTP/1.1 request, which names
/// its host, is no shorter.
const PREFACE: usize = 24;

/// A stream that fails when its first bytes do not come in time.
pub(super) struct FirstByteTimeout<S> {
    stream: S,
    /// `None` once they have come.
    limit: Option<Pin<Box<Sleep>>>,
    seen: usize,
}

impl<S> FirstByteTimeout<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self {
            stream,
            limit: Some(Box::pin(sleep_until(Instant::now() + within))),
            seen: 0,
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
        let Some(limit) = &mut self.limit else {
            return read;
        };
        if read.is_pending() {
            return limit.as_mut().poll(cx).map(|()| {
                let why = "the client connected and said nothing";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            });
        }
        self.seen += buf.filled().len() - before;
        if self.seen >= PREFACE {
            self.limit = None;
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
