//! The renewals of issuing CAs with an upstream CA, and the retirement of those without one.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::core::Core;
use crate::config::Config;
use crate::ledger::Actor;
use crate::upstream::{Metrics, Parts, Renewals, Retirement, Statuses};

pub(super) fn new(
    config: &Config,
    core: &Core,
    statuses: &Arc<Statuses>,
    registry: &mut Registry,
) -> Renewals {
    let metrics = Metrics::default();
    metrics.register(registry);
    let actor = Actor::server(None);
    let parts = Parts {
        instance: config.instance().name().to_owned(),
        ceremony: core.ceremony(actor),
        leases: core.pipeline.work_leases().clone(),
        ledger: Arc::clone(&core.ledger),
        clock: Arc::clone(&core.clock),
        metrics,
        statuses: Arc::clone(statuses),
    };
    Renewals::new(config.upstream(), parts)
}

pub(super) fn retirement(config: &Config, core: &Core) -> Retirement {
    let pairs = config.upstream().pairs();
    let renewed = pairs.map(|(authority, _)| authority.trust_domain().clone());
    Retirement::new(
        Arc::clone(&core.ledger),
        Arc::clone(&core.clock),
        renewed.collect(),
    )
}
