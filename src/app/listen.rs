//! Starts the listeners: certificates, authenticators, routers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::core::Core;
use super::listener_admins::ListenerAdmins;
use crate::admin::{self, Admin};
use crate::authn::{CertificateVerifier, JwtVerifiers, Operators};
use crate::cluster::Clusters;
use crate::config::Config;
use crate::issuance::LedgerStatusSource;
use crate::mesh::{
    self, CallerAuthenticator, KeptCertificate, LinkerdConfig, ListenerConfig, OwnCertificate,
    Services, ServingCertificate, TlsConfig, TlsFilePaths, TlsFiles, Verifiers,
};
use crate::net::{self, AllowedClients, Certificates, Clients, Listener};
use crate::private_file;

/// How long connections wait, after a start, for the listener's first certificate.
const FIRST_CERTIFICATE: Duration = Duration::from_secs(5);

/// A bound listener that does not accept connections yet.
pub(super) struct Bound {
    config: ListenerConfig,
    listener: Listener,
    shown: Arc<Certificates>,
    authenticator: CallerAuthenticator,
    address: SocketAddr,
}

/// Where the listeners' certificates are kept for a start without the token.
#[derive(Debug)]
pub(super) struct KeptFiles {
    directory: PathBuf,
    instance: String,
}

impl KeptFiles {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            directory: config.ledger().high_water_directory().to_owned(),
            instance: private_file::name_for(config.instance().name()),
        }
    }

    fn of(
        &self,
        listener: &str,
        wanted: &[OwnCertificate],
    ) -> Vec<(OwnCertificate, KeptCertificate)> {
        let wanted = wanted.iter().cloned().enumerate();
        let with_files = wanted.map(|(at, wanted)| {
            let name = format!("serving.{}.{listener}.{at}.pem", self.instance);
            (wanted, KeptCertificate::new(self.directory.join(name)))
        });
        with_files.collect()
    }
}

/// The verifiers of every listener.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    pub(super) jwt: Arc<JwtVerifiers>,
    pub(super) operators: Arc<Operators>,
    pub(super) clusters: Arc<Clusters>,
}

impl Callers {
    /// The verifiers of one listener.
    pub(super) fn verifiers(&self, core: &Core, listener: &ListenerConfig) -> Verifiers {
        let callers = listener.callers().clone();
        let certificates = callers.client_certificates().map(|config| {
            let standings = Arc::new(LedgerStatusSource::new(Arc::clone(&core.ledger)));
            CertificateVerifier::new(config.clone(), standings, Arc::clone(&core.clock))
        });
        Verifiers {
            jwt: Arc::clone(&self.jwt),
            operators: Arc::clone(&self.operators),
            callers,
            clusters: Arc::clone(&self.clusters),
            accepted: listener.clusters().clone(),
            certificates,
        }
    }
}

impl Bound {
    pub(super) async fn bind(
        config: ListenerConfig,
        callers: &Callers,
        core: &Core,
        metrics: mesh::Metrics,
        net_metrics: &net::Metrics,
    ) -> anyhow::Result<Self> {
        let name = config.name().to_owned();
        let limits = config.limits().clone();
        let listener = Listener::bind(&name, config.address(), limits, net_metrics)
            .await
            .with_context(|| format!("listeners.{name}.address"))?;
        let address = listener.local_addr()?;
        let authenticator =
            CallerAuthenticator::new(&name, callers.verifiers(core, &config), metrics);
        authenticator.begin_counters(&config.authenticated_apis(), config.clusters().names());
        Ok(Self {
            config,
            listener,
            shown: Arc::default(),
            authenticator,
            address,
        })
    }

    /// Its name, and its connections and handshakes at a time.
    pub(super) fn max_sockets(&self) -> (&str, usize) {
        (self.config.name(), self.listener.max_sockets())
    }

    pub(super) fn lower_max_sockets(&mut self, most: usize) {
        self.listener.lower_max_sockets(most);
    }

    pub(super) fn named_authenticator(&self) -> (String, CallerAuthenticator) {
        (self.config.name().to_owned(), self.authenticator.clone())
    }

    /// `None` for a listener without TLS.
    pub(super) fn named_certificates(&self) -> Option<(String, Arc<Certificates>)> {
        let has_tls = *self.config.tls() != TlsConfig::Plaintext;
        has_tls.then(|| (self.config.name().to_owned(), Arc::clone(&self.shown)))
    }

    /// Starts the listener's tasks, which run until `stop`.
    pub(super) async fn serve<H: Health>(
        self,
        (services, admin): (&Services, &Arc<Admin>),
        core: &Core,
        health: HealthServer<H>,
        kept: &KeptFiles,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let name = self.config.name().to_owned();
        let mut first = None;
        match self.config.tls() {
            TlsConfig::Own(wanted) => {
                let mut serving = ServingCertificate::new(
                    kept.of(&name, wanted),
                    Arc::clone(&self.shown),
                    Arc::clone(&services.authorities),
                    Arc::clone(&core.clock),
                );
                first = Some(serving.first());
                let serving = tokio::task::spawn_blocking(move || {
                    serving.read_kept();
                    serving
                });
                tasks.spawn(serving.await?.run(stop.clone()));
            }
            TlsConfig::Files { certificate, key } => {
                let shown = Arc::clone(&self.shown);
                let authorities = Arc::clone(&services.authorities);
                let paths = TlsFilePaths {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    for_linkerd: self.config.linkerd().is_some(),
                };
                let clock = Arc::clone(&core.clock);
                let files = TlsFiles::load(paths, shown, authorities, clock)
                    .await
                    .with_context(|| format!("listeners.{name}.tls"))?;
                tasks.spawn(files.run(stop.clone()));
            }
            TlsConfig::Plaintext => {}
        }
        let (tls, sources) = match self.config.tls() {
            TlsConfig::Plaintext => (None, AllowedClients::ThisHost),
            _ => {
                let shown = Arc::clone(&self.shown);
                (
                    Some(net::server_config(shown, self.clients())?),
                    AllowedClients::Any,
                )
            }
        };
        if let Some(domain) = self.config.linkerd().and_then(LinkerdConfig::trust_domain) {
            let authorities = Arc::clone(&services.authorities);
            tasks.spawn(mesh::warn_of_algorithms(
                authorities,
                domain.clone(),
                stop.clone(),
            ));
        }
        let router = match self.config.serves(mesh::Api::Admin) {
            true => admin::router(
                Arc::clone(admin),
                Arc::new(ListenerAdmins {
                    authenticator: self.authenticator.clone(),
                    admins: self.config.admins().clone(),
                }),
            ),
            false => mesh::router(services, &self.config, &self.authenticator, health),
        };
        let accepting = self.listener.serve(tls, sources, router, stop.clone());
        tracing::info!(listener = %name, address = %self.address, "listening");
        let stop = stop.clone();
        tasks.spawn(async move {
            // Until then the kernel holds connections, which would fail in the handshake.
            if let Some(first) = first {
                tokio::select! {
                    () = first.cancelled() => {}
                    () = tokio::time::sleep(FIRST_CERTIFICATE) => {}
                    () = stop.cancelled() => {}
                }
            }
            accepting.await;
        });
        Ok(())
    }

    fn clients(&self) -> Clients {
        let accepts_certificates = self.config.callers().client_certificates().is_some();
        match (self.config.linkerd(), accepts_certificates) {
            (Some(_), _) => Clients::LinkerdProxies,
            (None, true) => Clients::WithCertificate,
            (None, false) => Clients::Anonymous,
        }
    }
}
