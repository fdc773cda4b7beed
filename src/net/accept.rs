//! The accept loop: bounded connections, bounded handshakes, graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Shared};
use super::handshake_failures::HandshakeFailures;
use super::limits::Limits;
use super::metrics::{Dropped, Metrics};
use super::pool::{InFlight, Pool};
use super::port_holder;
use super::request_memory::RequestMemory;
use super::source::Source;
use crate::log_limit::Interval;

/// Between two attempts to accept while the system refuses.
const RETRY: Duration = Duration::from_millis(50);
/// How often that is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes that HTTP/2 keeps of what a connection sends and is not read yet, and of what it does not
/// read: the least that the protocol knows (RFC 9113 §6.9.2). Messages are small.
const WINDOW: u32 = 65_535;
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
#[error("cannot listen on {address}: {source}{}", by(holder.as_deref()))]
pub struct ListenError {
    /// The configured address.
    pub address: SocketAddr,
    /// The process that listens there already, where that is the cause and it can be seen.
    pub holder: Option<String>,
    /// The operating system's error.
    #[source]
    pub source: io::Error,
}

fn by(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(", by {holder}"))
}

/// A bound socket, not yet accepting.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    limits: Limits,
    /// What a full pool does with connections whose calls are in flight.
    in_flight: InFlight,
    dropped: Dropped,
    failures: HandshakeFailures,
}

impl Listener {
    /// Binds `address`; `name` is in the metrics and the log.
    ///
    /// # Errors
    /// [`ListenError`] with the address and the operating system's error.
    pub async fn bind(
        name: &str,
        address: SocketAddr,
        limits: Limits,
        metrics: &Metrics,
    ) -> Result<Self, ListenError> {
        let error = |source: io::Error| {
            let in_use = source.kind() == io::ErrorKind::AddrInUse;
            let holder = in_use.then(|| port_holder::holder(address)).flatten();
            ListenError {
                address,
                holder,
                source,
            }
        };
        let socket = TcpListener::bind(address).await.map_err(error)?;
        Ok(Self {
            socket,
            limits,
            in_flight: InFlight::Kept,
            dropped: metrics.of(name),
            failures: metrics.handshake_failures(name),
        })
    }

    /// A new connection replaces the oldest one even where a call is in flight on it: for a listener
    /// whose calls are short, and where nobody may have to wait.
    #[must_use]
    pub fn for_short_calls(mut self) -> Self {
        self.in_flight = InFlight::Lost;
        self
    }

    /// The bound address, with the actual port if port 0 was configured.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sockets at a time: connections and handshakes.
    pub fn max_sockets(&self) -> usize {
        self.limits.max_sockets()
    }

    /// Lowers that number, where the process may not open so many files.
    pub fn lower_max_sockets(&mut self, most: usize) {
        self.limits.lower_max_sockets(most);
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
        let Self {
            socket,
            limits,
            in_flight,
            dropped,
            failures,
        } = self;
        let handshakes = Pool::new(
            limits.max_handshakes,
            limits.handshakes_of_source(),
            InFlight::Lost,
            Gauge::default(),
        );
        let connections = Pool::new(
            limits.max_connections,
            limits.max_connections_per_source,
            in_flight,
            dropped.connections(),
        );
        let shared = Arc::new(Shared {
            acceptor: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            http: http_builder(&limits),
            router,
            connections,
            memory: RequestMemory::new(
                limits.request_memory_bytes,
                limits.request_memory_of_source(),
            ),
            dropped,
            failures,
            calling: TaskTracker::new(),
            stop: stop.clone(),
            limits,
        });
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&socket, &mut failures) => accepted,
            };
            let Some((stream, address)) = accepted else {
                continue;
            };
            if !allowed_clients.allows(address, stream.local_addr()) {
                tracing::warn!(peer = %address, "connection refused: not from this host");
                continue;
            }
            let mut source = Source::new(address.ip(), &shared.limits.shared_sources);
            // A proxy in the same pod.
            source.is_shared |= allowed_clients == AllowedClients::ThisHost;
            let Some(handshake) = handshakes.take(source) else {
                continue;
            };
            let connection = Connection {
                shared: Arc::clone(&shared),
                address,
                source,
                handshake,
            };
            tokio::spawn(connection.run(stream));
            // It has begun before others are accepted: a burst of them does not take its place first.
            tokio::task::yield_now().await;
        }
        drop(socket);
        shared.calling.close();
        let drained =
            tokio::time::timeout(shared.limits.drain_timeout, shared.calling.wait()).await;
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
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    http
}

/// The next connection.
async fn accept(
    socket: &TcpListener,
    failures: &mut AcceptFailures,
) -> Option<(TcpStream, SocketAddr)> {
    match socket.accept().await {
        Ok((stream, address)) => {
            // Messages are small: waiting for a full segment would only add latency.
            let _ = stream.set_nodelay(true);
            failures.end();
            Some((stream, address))
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
    /// Whether it was logged.
    fn add(&mut self, error: &io::Error) -> bool {
        self.since_success += 1;
        let logged = self.log.allow();
        if let Some(suppressed) = logged {
            tracing::warn!(%error, suppressed, "connections are not accepted; retrying");
        }
        logged.is_some()
    }

    fn end(&mut self) {
        let failed = std::mem::take(&mut self.since_success);
        if failed > 0 {
            // Attempts alternate with successes while descriptors are scarce.
            tracing::debug!(failed, "connections are accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn failures_of_accept_are_logged_once_a_minute() {
        let mut failures = AcceptFailures::default();
        let error = io::Error::other("too many open files");
        assert!(failures.add(&error));
        for _ in 0..20 {
            assert!(!failures.add(&error));
            // One that succeeds between them makes no difference.
            failures.end();
        }
        assert_eq!((failures.since_success, LOG_INTERVAL.as_secs()), (0, 60));
    }

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
