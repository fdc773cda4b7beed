//! Coalesces the writes of one poll of a connection into one.
//!
//! h2 flushes a response's data before it writes the trailers, which every gRPC answer has: that
//! makes two TLS records, two system calls and two segments, and wakes the client twice.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this does not wait for the end of the poll, so that a slow client slows the writer.
const CAPACITY: usize = 32 * 1024;

/// Replaces the stream of a connection, which [`CoalescedWrites::drive`] must run.
#[derive(Debug)]
pub(super) struct CoalescedWrites<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How many of the waiting bytes are written to the stream.
    written: usize,
    /// The stream may still buffer bytes.
    unflushed: bool,
    /// A write error after a poll, which the connection's next read returns.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescedWrites<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            stream,
            waiting: Vec::new(),
            written: 0,
            unflushed: false,
            failed: None,
        })))
    }

    /// Runs the connection that `serve` makes of this stream, and writes its output after each poll.
    pub(super) async fn drive<F: Future>(self, serve: impl FnOnce(Self) -> F) -> F::Output {
        let stream = Self(Arc::clone(&self.0));
        let mut connection = pin!(serve(self));
        poll_fn(|cx| {
            let poll = connection.as_mut().poll(cx);
            let mut shared = stream.lock();
            // Pending wakes this task when the socket is writable.
            if let (Poll::Ready(Err(error)), Poll::Pending) = (shared.poll_write_out(cx), &poll) {
                shared.failed = Some(error);
                cx.waker().wake_by_ref();
            }
            poll
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        // One task has both ends, so the lock is never contended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Writes and flushes everything that waits.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.waiting.get(self.written..).filter(|b| !b.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.unflushed = true;
        }
        // Freed, because most connections are idle most of the time.
        (self.waiting, self.written) = (Vec::new(), 0);
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CoalescedWrites<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        match shared.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut shared.stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CoalescedWrites<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.lock();
        if shared.waiting.len() >= CAPACITY {
            ready!(shared.poll_write_out(cx))?;
        }
        let before = shared.waiting.len();
        for part in bytes {
            shared.waiting.extend_from_slice(part);
        }
        Poll::Ready(Ok(shared.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: the end of the poll flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.poll_write_out(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts the writes that reach it.
    struct Counted(tokio::io::DuplexStream, Arc<Mutex<usize>>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            *self.1.lock().unwrap() += 1;
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn one_poll_is_one_write() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(Mutex::new(0));
        let stream = CoalescedWrites::new(Counted(ours, Arc::clone(&writes)));
        let served = stream.drive(|mut stream| async move {
            stream.write_all(b"head ").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"trailers").await.unwrap();
            stream.flush().await.unwrap();
            // The poll ends here, because this waits for the client.
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.unwrap();
            stream.shutdown().await.unwrap();
            answer
        });
        let client = async {
            let mut seen = [0; 13];
            theirs.read_exact(&mut seen).await.unwrap();
            theirs.write_all(b"ok").await.unwrap();
            seen
        };
        let (answer, seen) = tokio::join!(served, client);
        assert_eq!((&answer, &seen), (b"ok", b"head trailers"));
        assert_eq!(*writes.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn all_arrives_in_order_at_a_slow_reader() {
        let (ours, mut theirs) = tokio::io::duplex(1_000);
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let all = sent.clone();
        let served = CoalescedWrites::new(ours).drive(|mut stream| async move {
            for part in all.chunks(7_777) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        let mut seen = Vec::new();
        let (_, read) = tokio::join!(served, theirs.read_to_end(&mut seen));
        assert_eq!((read.unwrap(), seen), (sent.len(), sent));
    }

    #[tokio::test]
    async fn a_disconnected_client_ends_the_connection() {
        /// Every write fails, and there is never anything to read.
        struct BrokenStream;
        impl AsyncRead for BrokenStream {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        impl AsyncWrite for BrokenStream {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let read = CoalescedWrites::new(BrokenStream).drive(|mut stream| async move {
            stream.write_all(&[0; 100]).await.unwrap();
            stream.read_u8().await
        });
        assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
