//! A stream of requests and the stream of its answers, for both protocols of xDS.

use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::net::RequestStream;
use crate::trust::BundleChanges;

/// How long a stream may wait for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// What a stream holds of its client, and what it answers.
pub(super) trait Protocol {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// The answer to a request, if it needs one.
    // The error is as large as tonic made it.
    #[allow(clippy::result_large_err)]
    fn read(&mut self, request: Self::Request) -> Result<Option<Self::Response>, Status>;

    /// What the client does not have yet.
    fn changed(&mut self) -> Option<Self::Response>;
}

struct Open<P: Protocol> {
    protocol: P,
    messages: Streaming<P::Request>,
    body: RequestStream,
    changes: BundleChanges,
    stop: CancellationToken,
    /// Until which the first request must have come.
    first: Option<Instant>,
    ended: bool,
}

/// The answers, each made when the client has room for it: of changes that a slow client has missed it
/// gets the last.
pub(super) fn answers<P: Protocol + Send + 'static>(
    protocol: P,
    messages: Streaming<P::Request>,
    body: RequestStream,
    changes: BundleChanges,
    stop: CancellationToken,
) -> impl Stream<Item = Result<P::Response, Status>> + Send {
    body.begin();
    let open = Open {
        protocol,
        messages,
        body,
        changes,
        stop,
        first: Some(Instant::now() + FIRST_REQUEST),
        ended: false,
    };
    futures_util::stream::unfold(open, |mut open| async {
        if open.ended {
            return None;
        }
        let next = open.next().await.transpose()?;
        open.ended = next.is_err();
        Some((next, open))
    })
}

impl<P: Protocol> Open<P> {
    /// `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<P::Response>, Status> {
        loop {
            let first = self.first;
            let late = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = late => return Err(Status::deadline_exceeded("the first request did not come")),
                message = self.messages.message() => {
                    let Some(message) = message? else {
                        return Ok(None);
                    };
                    self.first = None;
                    self.body.message_read();
                    if let Some(response) = self.protocol.read(message)? {
                        return Ok(Some(response));
                    }
                }
                changed = self.changes.next() => {
                    if changed.is_none() {
                        return Ok(None);
                    }
                    if let Some(response) = self.protocol.changed() {
                        return Ok(Some(response));
                    }
                }
            }
        }
    }
}
