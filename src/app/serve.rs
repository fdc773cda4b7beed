//! `rootbridge serve`: starts the components in order, and stops them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::Core;
use super::high_water::AcceptOlder;
use super::listen::{Bound, Callers, KeptFiles};
use super::policy::effective_policy;
use super::prober::Prober;
use super::records::Records;
use super::reload::Reload;
use super::{
    descriptors, federation, linkerd_events, log, publisher, renewals, rotations, service_manager,
    stuck,
};
use crate::admin::{self, Admin, HealthState, PortOperators};
use crate::authn::{JwtVerifiers, KeyMetrics, Operators};
use crate::cluster::Clusters;
use crate::config::Config;
use crate::controllers;
use crate::controllers::linkerd::register_pods;
use crate::issuance::{self, Authorities};
use crate::mesh::{self, Services, VaultState};
use crate::net::{self, AllowedClients, Listener};
use crate::rotation::Watchers;
use crate::trust::Bundles;
use crate::upstream::Statuses;

/// How long a shutdown waits for issuances that are recorded and have no outcome yet.
const DRAIN: Duration = Duration::from_secs(10);

/// What the operator says about one start.
#[derive(Debug, Default)]
pub struct ServeOptions {
    /// Log in even if one more wrong PIN locks the token.
    pub final_try: bool,
    /// Go on with a ledger that is behind the server's mark.
    pub accept_older_ledger: Option<AcceptOlder>,
}

/// Serves until SIGTERM or SIGINT. `ready` is called once the listeners are bound.
///
/// # Errors
/// Configuration, ledger or addresses. A PKCS#11 module that does not start, and a token that is missing or
/// refuses its PIN, are not.
pub async fn serve(
    file: PathBuf,
    options: ServeOptions,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let mut config = Config::load(&file)?;
    if options.final_try {
        config.allow_final_try();
    }
    let _log_guard = log::init(config.log());
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let core = Core::open_server(&config, options.accept_older_ledger.as_ref()).await?;
    let tokens = config.hsm().token_names().map(|name| core.hsm.token(name));
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    let mut metrics = admin::Metrics::default();
    let issuing = issuance::Metrics::default();
    issuing.register(metrics.registry());
    let authorities = Arc::new(Authorities::new(
        core.pipeline.clone(),
        Arc::clone(&core.hsm),
        Arc::clone(&core.clock),
        effective_policy(&config, &config),
        issuing,
    ));
    authorities.set_admission(config.admission());
    let bundles = Arc::new(Bundles::default());
    let clusters = Clusters::start(config.clusters(), &core.clock, &tasks, &stop);
    clusters.register(metrics.registry());
    let clusters = Arc::new(clusters);
    let published = federation::publish(&config, &bundles);
    let distribution = publisher::start(&config, &core, &published, &clusters, &tasks, &stop);
    register_pods(
        config.bundle_targets(),
        &clusters,
        &bundles,
        metrics.registry(),
    );
    let controlling = controllers::Metrics::default();
    controlling.register(metrics.registry());

    let renewing = Arc::new(Statuses::default());
    let retirement = renewals::retirement(&config, &core);
    let renewals = renewals::new(&config, &core, &renewing, metrics.registry());

    let shown = (&bundles, &distribution);
    let registry = metrics.registry();
    let rotations = rotations::new(&config, &core, &authorities, shown, &clusters, registry);

    let callers = Callers {
        jwt: Arc::new(JwtVerifiers::new(config.authn(), Arc::clone(&core.clock))),
        operators: Arc::new(Operators::new(config.authn())),
        clusters: Arc::clone(&clusters),
    };
    let verifiers = Arc::new(arc_swap::ArcSwap::new(Arc::clone(&callers.jwt)));
    KeyMetrics::register(
        Arc::clone(&verifiers),
        Arc::clone(&core.clock),
        metrics.registry(),
    );
    let refusals = mesh::Metrics::default();
    refusals.register(metrics.registry());
    let sds = mesh::SdsMetrics::default();
    sds.register(metrics.registry());
    let registry = metrics.registry();
    let federation = federation::followers(&config, &core, &published, registry);
    let net_metrics = net::Metrics::default();
    net_metrics.register(metrics.registry());
    let mut bound = Vec::new();
    for listener in config.listeners() {
        let refusals = refusals.clone();
        bound.push(Bound::bind(listener.clone(), &callers, &core, refusals, &net_metrics).await?);
    }
    let admin_places = fit_open_files(&mut bound);
    let authenticators = bound.iter().map(Bound::named_authenticator).collect();
    let (health, health_service) = tonic_health::server::health_reporter();
    let health_state = Arc::new(HealthState::default());
    let admin = Arc::new(Admin {
        authorities: Arc::clone(&authorities),
        pipeline: core.pipeline.clone(),
        health_state: Arc::clone(&health_state),
        distribution,
        renewing,
        rotations: Arc::clone(&rotations),
        listeners: bound.iter().filter_map(Bound::named_certificates).collect(),
        metrics,
        operators: arc_swap::ArcSwap::new(Arc::clone(&callers.operators)),
        operator_names: config.admin().operators().to_vec(),
        clock: Arc::clone(&core.clock),
    });
    let admin_limits = admin::limits(admin_places);
    let admin_address = config.admin().address();
    let admin_listener = Listener::bind("admin", admin_address, admin_limits, &net_metrics)
        .await
        .context("admin.address")?
        .for_short_calls();
    tracing::info!(address = %admin_listener.local_addr()?, "admin listening");
    let operators = Arc::new(PortOperators(Arc::clone(&admin)));
    let admin_router = admin::router(Arc::clone(&admin), operators);
    tasks.spawn(admin_listener.serve(None, AllowedClients::Any, admin_router, stop.clone()));

    let instance = config.instance().name();
    let watchers = Watchers::new(config.watchers(), instance, &core.ledger, &core.clock);
    let watchers = Arc::new(watchers);
    tasks.spawn(Arc::clone(&watchers).run(stop.clone()));
    let vault_state = Arc::new(VaultState::new(config.vault().clone())?);
    let services = Services {
        authorities: Arc::clone(&authorities),
        bundles: Arc::clone(&bundles),
        published: Arc::clone(&published),
        watchers: Arc::clone(&watchers),
        istio_profile: config.istio_profile().unwrap_or_default().to_owned(),
        clock: Arc::clone(&core.clock),
        vault: vault_state,
        sds,
        notices: linkerd_events::start(&config, &core, &clusters, &controlling, &tasks, &stop),
        stop: stop.clone(),
    };
    let kept = KeptFiles::new(&config);
    for listener in bound {
        listener
            .serve(
                (&services, &admin),
                &core,
                health_service.clone(),
                &kept,
                &tasks,
                &stop,
            )
            .await?;
    }

    let records = Records::new(core.clone(), Arc::clone(&authorities), Arc::clone(&bundles));
    tasks.spawn(records.follow(stop.clone()));
    for follower in federation {
        tasks.spawn(follower.run(stop.clone()));
    }
    tasks.spawn(renewals.run(stop.clone()));
    tasks.spawn(retirement.run(stop.clone()));
    tasks.spawn(rotations.run(stop.clone()));
    let stuck_tokens = match config.hsm().exit_when_stuck() {
        true => tokens.clone(),
        false => Vec::new(),
    };
    let prober = Prober {
        core: core.clone(),
        tokens,
        authorities: Arc::clone(&authorities),
        bundles,
        health_state,
        health,
        test_interval: config.hsm().probe_interval(),
    };
    tasks.spawn(prober.run(stop.clone()));
    let parts = controllers::Dependencies {
        clusters,
        authorities: Arc::clone(&authorities),
        leases: core.pipeline.work_leases().clone(),
        clock: Arc::clone(&core.clock),
        metrics: controlling,
    };
    controllers::start(config.controllers(), &parts, &tasks, &stop);
    log_missing_authority(&core).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = config.instance().name(),
        "serving"
    );
    service_manager::ready();
    ready();

    let mut reload = Reload {
        file,
        core: core.clone(),
        callers,
        verifiers,
        authenticators,
        authorities,
        admin,
        started: config,
    };
    let outdated = core.clone();
    let ended = tokio::select! {
        () = signals.wait(|| reload.run()) => Ok(()),
        error = outdated.outdated() => Err(anyhow::Error::from(error)),
        error = stuck::first_of(&stuck_tokens) => Err(error.into()),
    };
    if let Err(error) = &ended {
        tracing::error!(%error, "the server stops");
    }

    tracing::info!("stopping: running calls are finished, new ones are refused");
    service_manager::stopping();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    if !core.close(DRAIN).await {
        tracing::warn!("some issuances have no outcome yet: the next start reconciles them");
    }
    tracing::info!("stopped");
    ended
}

/// Holds the limits of the listeners against the process's limit of open files, and returns how many
/// connections the admin listener may have.
fn fit_open_files(bound: &mut [Bound]) -> usize {
    let wanted: Vec<usize> = bound.iter().map(|one| one.max_sockets().1).collect();
    let (limit, open) = descriptors::raise(&wanted);
    let Some(places) = descriptors::places(limit, open, &wanted) else {
        return admin::SOCKETS;
    };
    for (listener, most) in bound.iter_mut().zip(places.listeners) {
        let (name, configured) = listener.max_sockets();
        tracing::warn!(
            listener = name,
            configured,
            used = most,
            limit,
            "max_connections and max_handshakes are more than the open files that this process may have: raise its limit \
             (LimitNOFILE of the service, ulimit -n), or lower them"
        );
        listener.lower_max_sockets(most);
    }
    places.admin
}

/// A server without an authority starts, and logs what to do.
async fn log_missing_authority(core: &Core) {
    match core.ledger.snapshot().await {
        Ok(records) if records.authorities.is_empty() => tracing::warn!(
            "no authority yet: run `rootbridge ca init`, or `rootbridge ca request` and `rootbridge ca import`; \
             this server uses it without a restart"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the ledger does not answer yet"),
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; each SIGHUP calls `reload`.
    async fn wait(&mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => reload(),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}
