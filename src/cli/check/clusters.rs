//! Clusters: whether each answers, whether its clock agrees, and what the account may do there.

use std::time::Duration;

use super::CLUSTERS as CATEGORY;
use super::istiod;
use super::report::Report;
use crate::cli::format::{count, short_duration};
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::cluster::{AudienceCheck, ClusterConfig, Inspector, VerificationMode};
use crate::config::Config;
use crate::controllers::event_permission;
use crate::controllers::publisher::TargetConfig;
use crate::ledger::Snapshot;
use crate::x509::TrustBundle;

/// A pod certificate may begin 5 minutes off the API server's clock; a token's leeway is less.
const MAX_SKEW: Duration = Duration::from_secs(30);
/// Namespaces that are named; the rest are counted.
const MAX_NAMES: usize = 5;

/// Each configured cluster, one after another.
pub(super) async fn clusters(config: &Config, records: Option<&Snapshot>, report: &mut Report) {
    for cluster in config.clusters().values() {
        examine(config, cluster, records, report).await;
    }
}

async fn examine(
    config: &Config,
    cluster: &ClusterConfig,
    records: Option<&Snapshot>,
    report: &mut Report,
) {
    let name = cluster.name();
    let item = |what: &str| format!("{name} {what}");
    let inspector = match Inspector::new(cluster).await {
        Ok(inspector) => inspector,
        Err(why) => {
            report
                .fail(CATEGORY, &item("credential"), &why)
                .hint(&format!("see clusters.{name}.kubeconfig"));
            return;
        }
    };
    match inspector.server_info().await {
        Ok(reached) => {
            report.pass(CATEGORY, &item("API"), &reached.version);
            if let Some(date) = reached.date {
                clock(&item("clock"), date, report);
            }
        }
        Err(why) => {
            report
                .fail(CATEGORY, &item("API"), &why)
                .hint("callers of the other clusters are served meanwhile");
            return;
        }
    }
    permissions(config, cluster, &inspector, report).await;
    if cluster.callers().any() {
        audiences(&item("audiences"), &inspector, report).await;
        if cluster.callers().mode() == VerificationMode::Offline {
            match inspector.get("/openid/v1/jwks").await {
                Ok(_) => report.pass(CATEGORY, &item("keys"), "its tokens' keys are published"),
                Err(why) => {
                    report.fail(CATEGORY, &item("keys"), &why).hint(
                        "the ClusterRole system:service-account-issuer-discovery lets it read them",
                    );
                }
            }
        }
    }
    for target in config.bundle_targets() {
        if let Some(records) = records.filter(|_| target.is_for(name)) {
            drift(cluster, target, records, &inspector, report).await;
        }
        if target.is_for(name) && target.holds_istio_roots() {
            istiod::competing_writers(cluster, target, &inspector, report).await;
        }
    }
    for istiod in config.controllers().istiod_tls() {
        if istiod.cluster() == name {
            istiod::examine(cluster, istiod, &inspector, report).await;
        }
    }
}

fn clock(item: &str, theirs: UnixTime, report: &mut Report) {
    let ours = SystemClock.now();
    let apart = ours.since(theirs).max(theirs.since(ours));
    match apart > MAX_SKEW {
        false => report.pass(CATEGORY, item, "agrees with ours"),
        true => {
            let side = if ours > theirs { "behind" } else { "ahead of" };
            report
                .fail(
                    CATEGORY,
                    item,
                    &format!("{} {side} ours", short_duration(apart)),
                )
                .hint("certificates begin too early or too late there; keep both clocks by NTP");
        }
    }
}

async fn permissions(
    config: &Config,
    cluster: &ClusterConfig,
    inspector: &Inspector,
    report: &mut Report,
) {
    let item = format!("{} rights", cluster.name());
    let mut needed = cluster.permissions();
    needed.extend(config.controllers().permissions(cluster.name()));
    for listener in config.listeners() {
        if listener.events_cluster() == Some(cluster.name()) {
            let key = format!("listeners.{}.linkerd.events", listener.name());
            needed.push(event_permission(key));
        }
    }
    for target in config.bundle_targets() {
        if target.is_for(cluster.name()) {
            needed.extend(target.permissions(config.publisher()));
        }
    }
    let mut lacking = 0;
    for permission in &needed {
        match inspector.has_permission(permission).await {
            Ok(true) => {}
            Ok(false) => {
                lacking += 1;
                report
                    .fail(CATEGORY, &item, &format!("it may not {permission}"))
                    .hint(&format!(
                        "{} needs it; docs/reference/rbac.md",
                        permission.why
                    ));
            }
            Err(why) => {
                lacking += 1;
                report.fail(CATEGORY, &item, &why);
                break;
            }
        }
    }
    if lacking == 0 {
        let said = format!("all {} that are needed", needed.len());
        report.pass(CATEGORY, &item, &said);
    }
}

async fn audiences(item: &str, inspector: &Inspector, report: &mut Report) {
    match inspector.check_audience().await {
        Ok(AudienceCheck::Confirmed) => {
            report.pass(CATEGORY, item, "it says for whom it accepts a token")
        }
        Ok(AudienceCheck::NotConfirmed) => {
            report
                .fail(
                    CATEGORY,
                    item,
                    "it accepts tokens and does not say for whom: all will be refused",
                )
                .hint("the API server, or a webhook before it, does not know audiences");
        }
        Ok(AudienceCheck::NotTested) => {
            report
                .warn(
                    CATEGORY,
                    item,
                    "not tried: the credential is no account's token",
                )
                .hint("it can be tried from inside the cluster");
        }
        Err(why) => {
            report.fail(CATEGORY, item, &why);
        }
    }
}

/// Whether the trust bundle is where it should be.
async fn drift(
    cluster: &ClusterConfig,
    target: &TargetConfig,
    records: &Snapshot,
    inspector: &Inspector,
    report: &mut Report,
) {
    let item = format!("{} bundle {}", cluster.name(), target.name());
    let bundle = records
        .authorities
        .iter()
        .find(|authority| authority.trust_domain == *target.trust_domain())
        .and_then(|authority| authority.bundle.as_ref());
    // That there is none is said by the check of bundles.
    let Some(bundle) = bundle else { return };
    let domain = target.trust_domain().clone();
    let pem = match TrustBundle::new(domain, bundle.sequence, bundle.anchors.clone()) {
        Ok(bundle) => bundle.to_pem(),
        Err(error) => {
            report.fail(CATEGORY, &item, &error.to_string());
            return;
        }
    };
    match target.drift(cluster, inspector, &pem).await {
        Ok(drift) if drift.mismatches.is_empty() => {
            let said = format!(
                "version {} in {}",
                bundle.sequence,
                count(drift.desired, "place")
            );
            report.pass(CATEGORY, &item, &said);
        }
        Ok(drift) => {
            let shown: Vec<&str> = drift
                .mismatches
                .iter()
                .take(MAX_NAMES)
                .map(String::as_str)
                .collect();
            let said = format!(
                "{} of {} are not as they should be: {}{}",
                drift.mismatches.len(),
                drift.desired,
                shown.join(", "),
                if drift.mismatches.len() > MAX_NAMES {
                    ", …"
                } else {
                    ""
                }
            );
            report
                .fail(CATEGORY, &item, &said)
                .hint("`rootbridge serve` mends it within a second; its log says what keeps it");
        }
        Err(why) => {
            report.fail(CATEGORY, &item, &why);
        }
    }
}
