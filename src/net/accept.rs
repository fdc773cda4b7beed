//! The accept loop: bounded connections, bounded handshakes, graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::first_byte_timeout::FirstByteTimeout;
use super::limits::Limits;
use super::peer::Peer;
use super::write_coalescing::CoalescedWrites;
use crate::log_limit::Interval;

/// Between two attempts to accept while the system refuses.
const RETRY: Duration = Duration::from_millis(50);
/// How often that is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The smallest buffer in bytes that hyper accepts.
const MIN_BUFFER: u32 = 8192;

/// The clients whose connections a listener accepts, by their source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedClients {
    Any,
    /// Those on this host: the source address is a loopback address, or the very address that the
    /// client connects to, as with a proxy in the same pod. No packet from outside has such a source.
    ThisHost,
}

impl AllowedClients {
    fn allows(self, client: SocketAddr, local: io::Result<SocketAddr>) -> bool {
        let client = client.ip().to_canonical();
        match self {
            Self::Any => true,
            Self::ThisHost => {
                client.is_loopback() || local.is_ok_and(|local| local.ip().to_canonical() == client)
            }
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The configured address.
    pub address: SocketAddr,
    /// The operating system's error.
    #[source]
    pub source: io::Error,
}

/// A bound socket, not yet accepting.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    limits: Limits,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`ListenError`] with the address and the operating system's error.
    pub async fn bind(address: SocketAddr, limits: Limits) -> Result<Self, ListenError> {
        let error = |source| ListenError { address, source };
        let socket = TcpListener::bind(address).await.map_err(error)?;
        Ok(Self { socket, limits })
    }

    /// The bound address, with the actual port if port 0 was configured.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Connections at a time.
    pub fn max_connections(&self) -> usize {
        self.limits.max_connections
    }

    /// Lowers that number, where the process may not open so many files.
    pub fn lower_max_connections(&mut self, most: usize) {
        self.limits.max_connections = self.limits.max_connections.min(most);
    }

    /// Serves `router` until `stop`, then waits for running calls up to the drain timeout.
    /// Without `tls` it serves plain HTTP/1.1 and HTTP/2.
    pub async fn serve(
        self,
        tls: Option<ServerConfig>,
        allowed_clients: AllowedClients,
        router: Router,
        stop: CancellationToken,
    ) {
        let Self { socket, limits } = self;
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let free_connections = Arc::new(Semaphore::new(limits.max_connections));
        // Of connections with a request. Nothing is lost with the others, and nobody waits for them.
        let calling = TaskTracker::new();
        let http = Arc::new(http_builder(&limits));
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&socket, &free_connections, &mut failures) => accepted,
            };
            let Some((stream, address, permit)) = accepted else {
                continue;
            };
            if !allowed_clients.allows(address, stream.local_addr()) {
                tracing::warn!(peer = %address, "connection refused: not from this host");
                continue;
            }
            let connection = Connection {
                acceptor: acceptor.clone(),
                http: Arc::clone(&http),
                router: router.clone(),
                calling: calling.clone(),
                stop: stop.clone(),
                handshake_timeout: limits.handshake_timeout,
                address,
                _permit: permit,
            };
            tokio::spawn(connection.run(stream));
        }
        drop(socket);
        calling.close();
        let drained = tokio::time::timeout(limits.drain_timeout, calling.wait()).await;
        if drained.is_err() {
            tracing::warn!("connections were still open at the end of the drain timeout");
        }
    }
}

fn http_builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(limits.max_header_bytes.max(MIN_BUFFER) as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    http
}

/// The next connection, once there are fewer than `max_connections`.
async fn accept(
    socket: &TcpListener,
    free_connections: &Arc<Semaphore>,
    failures: &mut AcceptFailures,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(free_connections).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((stream, address)) => {
            // Messages are small: waiting for a full segment would only add latency.
            let _ = stream.set_nodelay(true);
            failures.end();
            Some((stream, address, permit))
        }
        Err(error) => {
            // Probably out of file descriptors: accepting again at once would spin.
            failures.add(&error);
            tokio::time::sleep(RETRY).await;
            None
        }
    }
}

/// Failures of accept: the first is logged, then one a minute, and the end of them.
struct AcceptFailures {
    log: Interval,
    since_success: u64,
}

impl Default for AcceptFailures {
    fn default() -> Self {
        Self {
            log: Interval::new(LOG_INTERVAL),
            since_success: 0,
        }
    }
}

impl AcceptFailures {
    fn add(&mut self, error: &io::Error) {
        self.since_success += 1;
        if let Some(suppressed) = self.log.allow() {
            tracing::warn!(%error, suppressed, "connections are not accepted; retrying");
        }
    }

    fn end(&mut self) {
        let failed = std::mem::take(&mut self.since_success);
        if failed > 0 {
            // Attempts alternate with successes while descriptors are scarce.
            tracing::debug!(failed, "connections are accepted again");
        }
    }
}

/// A connection that is accepted, before its TLS handshake.
struct Connection {
    acceptor: Option<TlsAcceptor>,
    http: Arc<Builder<TokioExecutor>>,
    router: Router,
    calling: TaskTracker,
    stop: CancellationToken,
    handshake_timeout: Duration,
    address: SocketAddr,
    /// Held until the connection ends: it counts towards `max_connections`.
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let Some(acceptor) = self.acceptor.clone() else {
            let no_certificates: Arc<[CertificateDer<'static>]> = Arc::new([]);
            return self.serve(stream, no_certificates).await;
        };
        let handshake = tokio::time::timeout(self.handshake_timeout, acceptor.accept(stream));
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            shaken = handshake => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                let chain = session.peer_certificates().unwrap_or_default();
                let chain: Vec<_> = chain.iter().map(|c| c.clone().into_owned()).collect();
                self.serve(stream, chain.into()).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %self.address, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.address, "TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S, certificates: Arc<[CertificateDer<'static>]>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Peer {
            address: self.address,
            certificates,
        };
        let router = self.router;
        // Held from the first request on.
        let (has_called, counted) = (Arc::new(AtomicBool::new(false)), self.calling);
        let called = Arc::clone(&has_called);
        let held = std::sync::OnceLock::new();
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            held.get_or_init(|| counted.token());
            called.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request)
        });
        let stream = CoalescedWrites::new(FirstByteTimeout::new(stream, self.handshake_timeout));
        let (http, stop) = (self.http, self.stop);
        let served = stream.drive(|stream| async move {
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection.into_owned());
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = stop.cancelled() => {}
            }
            if !has_called.load(Ordering::Relaxed) {
                return Ok(());
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        });
        if let Err(error) = served.await {
            tracing::debug!(peer = %self.address, %error, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_host_is_loopback_or_the_address_itself() {
        let at = |text: &str| Ok::<SocketAddr, io::Error>(text.parse().unwrap());
        for (from, to, allowed) in [
            ("127.0.0.1:40000", "127.0.0.1:8080", true),
            ("[::1]:40000", "[::1]:8080", true),
            ("10.1.2.3:40000", "10.1.2.3:8080", true),
            ("[::ffff:10.1.2.3]:40000", "[::ffff:10.1.2.3]:8080", true),
            ("10.1.2.3:40000", "[::ffff:10.1.2.3]:8080", true),
            ("[fd00::3]:40000", "[fd00::3]:8080", true),
            ("10.1.2.4:40000", "10.1.2.3:8080", false),
            ("[fd00::4]:40000", "[fd00::3]:8080", false),
            ("[::ffff:10.1.2.4]:40000", "[::ffff:10.1.2.3]:8080", false),
        ] {
            let from: SocketAddr = from.parse().unwrap();
            assert_eq!(
                AllowedClients::ThisHost.allows(from, at(to)),
                allowed,
                "{from} {to}"
            );
            assert!(AllowedClients::Any.allows(from, at(to)));
        }
        let gone = Err(io::Error::other("gone"));
        let from = "10.1.2.3:1".parse().unwrap();
        assert!(!AllowedClients::ThisHost.allows(from, gone));
    }
}
