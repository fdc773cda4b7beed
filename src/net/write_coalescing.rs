//! A connection's writes, gathered: what one turn of the connection produces leaves in one piece.
//!
//! h2 flushes a response's data before it writes the trailers, which every gRPC answer has: two TLS
//! records, two system calls and two segments for what is known at the same moment, and the
//! client is woken twice.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this does not wait for the end of the turn: a slow client is felt by who writes.
const ROOM: usize = 32 * 1024;

/// What a connection writes to in place of its stream. It must be driven by [`CoalescedWrites::drive`].
#[derive(Debug)]
pub(super) struct CoalescedWrites<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How many of the waiting bytes the stream has taken.
    taken: usize,
    /// The stream has taken bytes that it may still hold back.
    unflushed: bool,
    /// What went wrong after a turn, for the connection to meet in its next one.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescedWrites<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            stream,
            waiting: Vec::new(),
            taken: 0,
            unflushed: false,
            failed: None,
        })))
    }

    /// Runs the connection that `serve` makes of this stream; after each of its turns, what it
    /// wrote goes out.
    pub(super) async fn drive<F: Future>(self, serve: impl FnOnce(Self) -> F) -> F::Output {
        let stream = Self(Arc::clone(&self.0));
        let mut connection = pin!(serve(self));
        poll_fn(|cx| {
            let turn = connection.as_mut().poll(cx);
            let mut held = stream.held();
            // Pending wakes this task when the socket has room.
            if let (Poll::Ready(Err(error)), Poll::Pending) = (held.poll_out(cx), &turn) {
                held.failed = Some(error);
                cx.waker().wake_by_ref();
            }
            turn
        })
        .await
    }

    fn held(&self) -> MutexGuard<'_, Shared<S>> {
        // One task has both ends: nobody ever waits here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Hands what waits to the stream, until it is out.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.waiting.get(self.taken..).filter(|b| !b.is_empty()) {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
            self.unflushed = true;
        }
        // Given back, because most connections are idle most of the time.
        (self.waiting, self.taken) = (Vec::new(), 0);
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
        let mut held = self.held();
        match held.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut held.stream).poll_read(cx, buf),
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
        let mut held = self.held();
        if held.waiting.len() >= ROOM {
            ready!(held.poll_out(cx))?;
        }
        let before = held.waiting.len();
        for part in bytes {
            held.waiting.extend_from_slice(part);
        }
        Poll::Ready(Ok(held.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says yes at once: the turn's end flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.held();
        ready!(held.poll_out(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
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
    async fn one_turn_is_one_write() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(Mutex::new(0));
        let stream = CoalescedWrites::new(Counted(ours, Arc::clone(&writes)));
        let served = stream.drive(|mut stream| async move {
            stream.write_all(b"head ").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"trailers").await.unwrap();
            stream.flush().await.unwrap();
            // The turn ends here: whoever waits for the client has flushed.
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
    async fn a_client_that_is_gone_ends_the_connection() {
        /// Takes nothing and never has anything to read.
        struct Deaf;
        impl AsyncRead for Deaf {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        impl AsyncWrite for Deaf {
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
        let read = CoalescedWrites::new(Deaf).drive(|mut stream| async move {
            stream.write_all(&[0; 100]).await.unwrap();
            stream.read_u8().await
        });
        assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
