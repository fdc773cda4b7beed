//! Listeners: their certificates, their gates, their routers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::core::Core;
use crate::authn::{CertificateCallers, JwtVerifiers, Operators};
use crate::issuance::LedgerStandings;
use crate::mesh::{
    self, Gate, Judges, ListenerConfig, Services, ServingCertificate, TlsConfig, TlsFiles,
};
use crate::net::{self, Certificates, Listener};
use crate::x509::{San, TrustDomain};

/// One listener that is bound and waits for its certificate.
pub(super) struct Bound {
    config: ListenerConfig,
    listener: Listener,
    shown: Arc<Certificates>,
    gate: Gate,
    address: SocketAddr,
}

/// Who judges callers, for every listener.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    pub(super) jwt: Arc<JwtVerifiers>,
    pub(super) operators: Arc<Operators>,
}

impl Callers {
    /// The judges of one listener.
    pub(super) fn judges(&self, core: &Core, listener: &ListenerConfig) -> Judges {
        let callers = listener.callers().clone();
        let certificates = callers.client_certificates().map(|config| {
            let standings = Arc::new(LedgerStandings::new(Arc::clone(&core.ledger)));
            CertificateCallers::new(config.clone(), standings, Arc::clone(&core.clock))
        });
        Judges {
            jwt: Arc::clone(&self.jwt),
            operators: Arc::clone(&self.operators),
            callers,
            certificates,
        }
    }
}

impl Bound {
    pub(super) async fn bind(
        config: ListenerConfig,
        callers: &Callers,
        core: &Core,
    ) -> anyhow::Result<Self> {
        let name = config.name().to_owned();
        let listener = Listener::bind(config.address(), limits(&config))
            .await
            .with_context(|| format!("listeners.{name}.address"))?;
        let address = listener.local_addr()?;
        let gate = Gate::new(callers.judges(core, &config));
        Ok(Self {
            config,
            listener,
            shown: Arc::default(),
            gate,
            address,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.config.name()
    }

    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Serves until `stop`; returns once the tasks are begun.
    pub(super) async fn serve<H: Health>(
        self,
        services: &Services,
        core: &Core,
        health: HealthServer<H>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let name = self.config.name().to_owned();
        match self.config.tls() {
            TlsConfig::Own { .. } => {
                let wanted = own_names(&self.config).into_iter().collect();
                let serving = ServingCertificate::new(
                    wanted,
                    Arc::clone(&self.shown),
                    Arc::clone(&services.authorities),
                    Arc::clone(&core.clock),
                );
                tasks.spawn(serving.keep(stop.clone()));
            }
            TlsConfig::Files { certificate, key } => {
                let shown = Arc::clone(&self.shown);
                let files = TlsFiles::load(certificate.clone(), key.clone(), shown)
                    .await
                    .with_context(|| format!("listeners.{name}.tls"))?;
                tasks.spawn(files.keep(stop.clone()));
            }
        }
        let ask_client = self.config.callers().client_certificates().is_some();
        let tls = net::server_config(Arc::clone(&self.shown), ask_client)?;
        let router = mesh::router(services, &self.config, &self.gate, health);
        tasks.spawn(self.listener.serve(Some(tls), router, stop.clone()));
        tracing::info!(listener = %name, address = %self.address, "listening");
        Ok(())
    }
}

/// The names that a listener's own certificate has, with the trust domain that issues it.
pub(super) fn own_names(config: &ListenerConfig) -> Option<(TrustDomain, Vec<San>)> {
    match config.tls() {
        TlsConfig::Own {
            trust_domain,
            dns,
            ip,
        } => {
            let dns = dns.iter().cloned().map(San::Dns);
            let names = dns.chain(ip.iter().copied().map(San::Ip));
            Some((trust_domain.clone(), names.collect()))
        }
        TlsConfig::Files { .. } => None,
    }
}

fn limits(config: &ListenerConfig) -> net::Limits {
    let limits = config.limits();
    net::Limits {
        max_connections: limits.max_connections,
        handshake_timeout: limits.handshake_timeout,
        max_streams: limits.max_streams,
        max_header_bytes: limits.max_header_bytes,
        keepalive_interval: limits.keepalive_interval,
        keepalive_timeout: limits.keepalive_timeout,
        drain_timeout: limits.drain_timeout,
    }
}
