//! Whether a pooler is between: one gives a connection a number of its own, and the database's processes
//! have others.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::try_join;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::ledger::LedgerError;

/// Asks which process answers, and compares it with the number that came with the connection.
pub(super) async fn is_pooled(client: &Client) -> Result<bool, LedgerError> {
    let row = client.query_typed("SELECT pg_backend_pid()", &[]).await?;
    let answers: Option<i32> = row.first().and_then(|row| row.try_get(0).ok());
    let given = number(client)
        .await
        .map_err(|error| LedgerError::unavailable(error.to_string()))?;
    Ok(answers != Some(given))
}

/// The number that came with the connection. Nothing but a request to cancel holds it: one is written,
/// and read here instead of by the server.
async fn number(client: &Client) -> io::Result<i32> {
    /// What asks for TLS before a request.
    const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let (ours, mut theirs) = tokio::io::duplex(64);
    let written = async {
        let request = client.cancel_token();
        request
            .cancel_query_raw(ours, Plain)
            .await
            .map_err(io::Error::other)
    };
    let read = async {
        let mut start = [0; 8];
        theirs.read_exact(&mut start).await?;
        if start == TLS_REQUEST {
            theirs.write_all(b"S").await?;
            theirs.read_exact(&mut start).await?;
        }
        theirs.read_i32().await
    };
    Ok(try_join(written, read).await?.1)
}

/// "TLS" over memory.
struct Plain;

impl TlsConnect<DuplexStream> for Plain {
    type Stream = PlainStream;
    type Error = io::Error;
    type Future = Ready<io::Result<PlainStream>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(PlainStream(stream)))
    }
}

struct PlainStream(DuplexStream);

impl TlsStream for PlainStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
