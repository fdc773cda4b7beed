//! TLS handshakes that fail: counted by reason, and in the log where a certificate is the reason.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rustls::AlertDescription as Alert;

use crate::log_limit::Interval;

/// How often the same reason is logged for a listener.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub(super) enum Reason {
    /// The client does not accept the listener's certificate.
    server_certificate,
    /// The client's certificate cannot be read, or it does not prove that it has the key.
    client_certificate,
    /// No version or cipher suite in common, or no TLS at all.
    protocol,
    /// The client closed the connection.
    closed,
    /// It took longer than `handshake_timeout`.
    timeout,
}

const REASONS: [Reason; 5] = [
    Reason::server_certificate,
    Reason::client_certificate,
    Reason::protocol,
    Reason::closed,
    Reason::timeout,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    listener: String,
    reason: Reason,
}

pub(super) type Counters = Family<Labels, Counter>;

/// Those of one listener.
#[derive(Debug, Clone)]
pub(super) struct HandshakeFailures {
    listener: String,
    counters: Counters,
    logs: Arc<[Interval; 3]>,
}

impl HandshakeFailures {
    pub(super) fn new(listener: &str, counters: Counters) -> Self {
        let this = Self {
            listener: listener.to_owned(),
            counters,
            logs: Arc::new(std::array::from_fn(|_| Interval::new(LOG_INTERVAL))),
        };
        // From zero: a counter that begins at one shows no growth.
        for reason in REASONS {
            this.counter(reason);
        }
        this
    }

    pub(super) fn add(&self, peer: SocketAddr, error: &io::Error) {
        let reason = reason(error);
        self.counter(reason).inc();
        let listener = &self.listener;
        let [server, client, protocol] = &*self.logs;
        let (log, why) = match reason {
            Reason::server_certificate => (
                server,
                "a client does not accept this listener's certificate: its trust bundle may lack the root, \
                 or it expects another name",
            ),
            Reason::client_certificate => {
                (client, "a client's certificate fails in the TLS handshake")
            }
            Reason::protocol => (protocol, "a TLS handshake fails"),
            // What closes without a word is a port scan or a load balancer's probe.
            Reason::closed | Reason::timeout => {
                tracing::debug!(listener, %peer, %error, "a TLS handshake has no end");
                return;
            }
        };
        if let Some(suppressed) = log.allow() {
            tracing::warn!(listener, %peer, %error, suppressed, "{why}");
        }
    }

    pub(super) fn late(&self, peer: SocketAddr) {
        self.counter(Reason::timeout).inc();
        tracing::debug!(listener = self.listener, %peer, "a TLS handshake is late");
    }

    fn counter(&self, reason: Reason) -> Counter {
        let listener = self.listener.clone();
        self.counters
            .get_or_create_owned(&Labels { listener, reason })
    }
}

fn reason(error: &io::Error) -> Reason {
    let Some(inner) = error.get_ref() else {
        return Reason::closed;
    };
    match inner.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::DecryptError => Reason::server_certificate,
            Alert::CloseNotify | Alert::UserCanceled => Reason::closed,
            _ => Reason::protocol,
        },
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            // That its chain is too long.
            | rustls::Error::Other(_),
        ) => {
            Reason::client_certificate
        }
        Some(_) => Reason::protocol,
        None => Reason::closed,
    }
}
