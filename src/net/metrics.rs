//! What listeners drop, counted and logged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handshake_failures::{Counters, HandshakeFailures};
use crate::log_limit::Interval;

/// How often the same reason is logged for a listener.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why a connection or a request is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub(super) enum Reason {
    /// The handshake lost its slot to a newer one.
    handshakes,
    /// All connections, or those of its source, were in use by calls.
    connections,
    /// The connection was idle, and lost its slot to a newer one.
    idle,
    /// The memory for requests in flight was used up.
    memory,
}

const REASONS: [(Reason, &str); 4] = [
    (
        Reason::handshakes,
        "TLS handshakes are dropped for newer ones: max_handshakes are in progress, or an eighth of them from \
         one source",
    ),
    (
        Reason::connections,
        "connections are refused: max_connections are in use, or max_connections_per_source of one source; \
         where many clients are behind one address, name it in shared_sources",
    ),
    (
        Reason::idle,
        "idle connections are closed for newer ones: max_connections are open, or max_connections_per_source \
         of one source; where many clients are behind one address, name it in shared_sources",
    ),
    (
        Reason::memory,
        "requests are refused: request_memory_bytes are in use, or a quarter of them by one source; where \
         many clients are behind one address, name it in shared_sources",
    ),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    listener: String,
    reason: Reason,
}

/// Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    connections: Family<ListenerLabels, Gauge>,
    dropped: Family<DroppedLabels, Counter>,
    handshakes_failed: Counters,
}

impl Metrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "listener_connections",
            "Open connections, those in their handshake excepted",
            self.connections.clone(),
        );
        registry.register(
            "listener_dropped",
            "Connections, handshakes and requests beyond a limit",
            self.dropped.clone(),
        );
        registry.register(
            "listener_handshakes_failed",
            "TLS handshakes that failed",
            self.handshakes_failed.clone(),
        );
    }

    pub(super) fn handshake_failures(&self, listener: &str) -> HandshakeFailures {
        HandshakeFailures::new(listener, self.handshakes_failed.clone())
    }

    pub(super) fn of(&self, listener: &str) -> Dropped {
        // From zero: a counter that begins at one shows no growth.
        for (reason, _) in REASONS {
            let listener = listener.to_owned();
            self.dropped
                .get_or_create_owned(&DroppedLabels { listener, reason });
        }
        Dropped {
            listener: listener.to_owned(),
            metrics: self.clone(),
            logs: Arc::new(std::array::from_fn(|_| Interval::new(LOG_INTERVAL))),
        }
    }
}

/// What one listener drops.
#[derive(Debug, Clone)]
pub(super) struct Dropped {
    listener: String,
    metrics: Metrics,
    /// One for each of [`REASONS`].
    logs: Arc<[Interval; REASONS.len()]>,
}

impl Dropped {
    pub(super) fn add(&self, reason: Reason, peer: SocketAddr) {
        let listener = self.listener.clone();
        let labels = DroppedLabels { listener, reason };
        self.metrics.dropped.get_or_create(&labels).inc();
        let logs = REASONS.iter().zip(self.logs.iter());
        for ((_, why), log) in logs.filter(|((of, _), _)| *of == reason) {
            if let Some(suppressed) = log.allow() {
                tracing::warn!(listener = self.listener, %peer, suppressed, "{why}");
            }
        }
    }

    /// The gauge of its connections.
    pub(super) fn connections(&self) -> Gauge {
        let listener = self.listener.clone();
        let labels = ListenerLabels { listener };
        self.metrics.connections.get_or_create_owned(&labels)
    }
}
