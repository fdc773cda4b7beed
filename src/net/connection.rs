//! One connection: handshake, calls, and its end.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::ServiceExt as _;

use super::call::{Call, RequestBody, RequestStream, ResponseBody, head_bytes};
use super::first_byte_timeout::FirstByteTimeout;
use super::handshake_failures::HandshakeFailures;
use super::limits::Limits;
use super::metrics::{Dropped, Reason};
use super::peer::Peer;
use super::pool::{Pool, Slot};
use super::request_memory::RequestMemory;
use super::source::Source;
use super::write_coalescing::CoalescedWrites;
use crate::authn::ClientCertificate;

/// What the connections of one listener share.
pub(super) struct Shared {
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) http: Builder<TokioExecutor>,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) connections: Arc<Pool>,
    pub(super) memory: Arc<RequestMemory>,
    pub(super) dropped: Dropped,
    pub(super) failures: HandshakeFailures,
    /// Of connections with a request. Nothing is lost with the others, and nobody waits for them.
    pub(super) calling: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// A connection that is accepted, before its TLS handshake.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) source: Source,
    /// Until it has a slot among the connections.
    pub(super) handshake: Slot,
}

/// Why a connection ends before it is served.
#[derive(Debug)]
enum Interrupted {
    Stopped,
    /// A newer handshake has its slot.
    Lost,
    Late,
}

impl Connection {
    pub(super) async fn run(self, stream: TcpStream) {
        let Some(acceptor) = self.shared.acceptor.clone() else {
            if let Some(slot) = self.slot().await {
                self.serve(stream, slot, None).await;
            }
            return;
        };
        match self.in_time(acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let Some(slot) = self.slot().await else {
                    return;
                };
                let (_, session) = stream.get_ref();
                let leaf = session.peer_certificates().and_then(<[_]>::first);
                let leaf = leaf.map(|leaf| Arc::new(ClientCertificate::new(leaf.as_ref())));
                self.serve(stream, slot, leaf).await;
            }
            Ok(Err(error)) => {
                self.shared.failures.add(self.address, &error);
            }
            Err(Interrupted::Late) => self.shared.failures.late(self.address),
            // Counted as dropped.
            Err(Interrupted::Lost | Interrupted::Stopped) => {}
        }
    }

    /// A slot among the connections.
    async fn slot(&self) -> Option<Slot> {
        let slot = self.shared.connections.wait(self.source);
        let slot = self.in_time(slot).await;
        if matches!(slot, Err(Interrupted::Late)) {
            self.shared.dropped.add(Reason::connections, self.address);
        }
        slot.ok()
    }

    /// A step before the connection is served.
    async fn in_time<F: Future>(&self, step: F) -> Result<F::Output, Interrupted> {
        tokio::select! {
            () = self.shared.stop.cancelled() => Err(Interrupted::Stopped),
            () = self.handshake.lost() => {
                self.shared.dropped.add(Reason::handshakes, self.address);
                Err(Interrupted::Lost)
            }
            done = tokio::time::timeout(self.shared.limits.handshake_timeout, step) => {
                done.map_err(|_| Interrupted::Late)
            }
        }
    }

    async fn serve<S>(self, stream: S, slot: Slot, certificate: Option<Arc<ClientCertificate>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            shared,
            address,
            source,
            handshake,
        } = self;
        drop(handshake);
        let calls = Arc::new(Calls {
            shared: Arc::clone(&shared),
            slot: Arc::new(slot),
            source,
            peer: Peer {
                address,
                certificate,
            },
            counted: OnceLock::new(),
        });
        let (limits, slot) = (&shared.limits, Arc::clone(&calls.slot));
        let answering = Arc::clone(&calls);
        let service = hyper::service::service_fn(move |request| {
            let calls = Arc::clone(&answering);
            async move { Ok::<_, Infallible>(calls.answer(request).await) }
        });
        let first_byte = FirstByteTimeout::new(stream, limits.handshake_timeout);
        let served = CoalescedWrites::new(first_byte).drive(async |stream| {
            let connection = shared.http.serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection.into_owned());
            let grace = tokio::select! {
                ended = connection.as_mut() => return ended,
                () = shared.stop.cancelled() => match calls.counted.get() {
                    Some(_) => Duration::MAX,
                    None => return Ok(()),
                },
                () = slot.lost() => {
                    shared.dropped.add(Reason::idle, address);
                    Duration::ZERO
                }
                () = idle(&slot, limits.idle_timeout) => limits.drain_timeout,
                () = tokio::time::sleep(jittered(limits.max_connection_age)) => limits.drain_timeout,
            };
            connection.as_mut().graceful_shutdown();
            // The first poll writes GOAWAY.
            match tokio::time::timeout(grace, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => Ok(()),
            }
        });
        if let Err(error) = served.await {
            tracing::debug!(peer = %address, %error, "connection ended");
        }
    }
}

/// Waits until no call has been in flight for so long.
async fn idle(slot: &Slot, timeout: Duration) {
    loop {
        let idle = slot.idle_for().unwrap_or_default();
        if idle >= timeout {
            return;
        }
        tokio::time::sleep(timeout - idle).await;
    }
}

/// The age, more or less by up to a tenth: connections that began together do not end together.
fn jittered(age: Duration) -> Duration {
    let part = RandomState::new().hash_one(0) % 1024;
    let part = u32::try_from(part).unwrap_or_default();
    age - age / 10 + age / 5120 * part
}

/// The calls of one connection.
struct Calls {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    source: Source,
    peer: Peer,
    /// Held from the first request on.
    counted: OnceLock<TaskTrackerToken>,
}

impl Calls {
    async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody<Body>> {
        let shared = &self.shared;
        self.counted.get_or_init(|| shared.calling.token());
        let head = head_bytes(request.headers());
        let Some(share) = shared.memory.share(self.source, head) else {
            shared.dropped.add(Reason::memory, self.peer.address);
            return refused(&request);
        };
        let call = Call::start(Arc::clone(&self.slot), share, head);
        let within = shared.limits.body_timeout;
        let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&call), within));
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        extensions.insert(RequestStream::new(&call));
        match shared.router.clone().oneshot(request).await {
            Ok(response) => response.map(|body| ResponseBody::new(body, Some(call))),
            Err(never) => match never {},
        }
    }
}

/// The answer when the memory for requests in flight is used up.
fn refused(request: &Request<Incoming>) -> Response<ResponseBody<Body>> {
    const TEXT: &str = "the server has too many requests in flight; try again";
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let mut response = Response::new(ResponseBody::new(Body::empty(), None));
    match kind.filter(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        // RESOURCE_EXHAUSTED, as an answer without a message.
        Some(kind) => {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, kind);
            headers.insert(
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("8"),
            );
            headers.insert(
                HeaderName::from_static("grpc-message"),
                HeaderValue::from_static(TEXT),
            );
        }
        None => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let hour = Duration::from_secs(3600);
        let ages: Vec<_> = (0..100).map(|_| jittered(hour)).collect();
        let most = hour / 10;
        assert!(
            ages.iter().all(|age| age.abs_diff(hour) <= most),
            "{ages:?}"
        );
        assert!(
            ages.iter().any(|age| age.abs_diff(hour) > most / 4),
            "{ages:?}"
        );
    }
}
