//! Clusters: the API server, its clock, the permissions of the account, and the published bundles.

use std::sync::Arc;
use std::time::Duration;

use super::CLUSTERS as CATEGORY;
use super::istiod;
use super::report::Report;
use crate::cli::format::{count, joined, short_duration};
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::cluster::{AudienceCheck, ClusterConfig, Inspector, VerificationMode};
use crate::config::Config;
use crate::controllers::event_permission;
use crate::controllers::publisher::TargetConfig;
use crate::ledger::Snapshot;
use crate::x509::TrustBundle;

/// A pod certificate may start 5 minutes off the API server's clock; a token's leeway is smaller.
const MAX_SKEW: Duration = Duration::from_secs(30);
/// How many mismatches are named.
const MAX_NAMES: usize = 5;

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
    let inspector = match Inspector::new(cluster, Arc::new(SystemClock)).await {
        Ok(inspector) => inspector,
        Err(error) => {
            let hint = format!("see clusters.{name}.kubeconfig");
            report.fail(CATEGORY, &item("credential"), error).hint(hint);
            return;
        }
    };
    match inspector.server_info().await {
        Ok(reached) => {
            report.pass(CATEGORY, &item("API"), reached.version);
            if let Some(date) = reached.date {
                clock(&item("clock"), date, report);
            }
        }
        Err(error) => {
            let hint = "callers of the other clusters are served meanwhile";
            report.fail(CATEGORY, &item("API"), error).hint(hint);
            return;
        }
    }
    permissions(config, cluster, &inspector, report).await;
    if cluster.callers().accepts_tokens() {
        audiences(&item("audiences"), &inspector, report).await;
        if cluster.callers().mode() == VerificationMode::Offline {
            match inspector.get("/openid/v1/jwks").await {
                Ok(_) => report.pass(CATEGORY, &item("keys"), "its token keys are published"),
                Err(error) => report.fail(CATEGORY, &item("keys"), error).hint(
                    "the ClusterRole system:service-account-issuer-discovery lets it read them",
                ),
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
    let skew = ours.since(theirs).max(theirs.since(ours));
    if skew <= MAX_SKEW {
        report.pass(CATEGORY, item, "agrees with ours");
        return;
    }
    let side = if ours > theirs { "behind" } else { "ahead of" };
    report
        .fail(
            CATEGORY,
            item,
            format!("{} {side} ours", short_duration(skew)),
        )
        .hint("certificates start too early or too late there; synchronize both clocks by NTP");
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
    needed.extend(config.upstream().permissions(cluster.name()));
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
    let mut missing = 0;
    for permission in &needed {
        match inspector.has_permission(permission).await {
            Ok(true) => {}
            Ok(false) => {
                missing += 1;
                let hint = format!("{} needs it; docs/reference/rbac.md", permission.why);
                report
                    .fail(CATEGORY, &item, format!("it may not {permission}"))
                    .hint(hint);
            }
            Err(error) => {
                missing += 1;
                report.error(CATEGORY, &item, error);
                break;
            }
        }
    }
    if missing == 0 {
        report.pass(
            CATEGORY,
            &item,
            format!("all {} that are needed", needed.len()),
        );
    }
}

async fn audiences(item: &str, inspector: &Inspector, report: &mut Report) {
    match inspector.check_audience().await {
        Ok(AudienceCheck::Confirmed) => {
            report.pass(CATEGORY, item, "it reports the audience of a token")
        }
        Ok(AudienceCheck::NotConfirmed) => report
            .fail(
                CATEGORY,
                item,
                "it accepts tokens without reporting their audience: all will be refused",
            )
            .hint("the API server, or a webhook before it, does not support audiences"),
        Ok(AudienceCheck::NotTested) => report
            .warn(
                CATEGORY,
                item,
                "not tried: the credential is no account's token",
            )
            .hint("run the check inside the cluster"),
        Err(error) => report.error(CATEGORY, item, error),
    }
}

/// Compares the objects of a bundle target with the trust bundle in the ledger.
async fn drift(
    cluster: &ClusterConfig,
    target: &TargetConfig,
    records: &Snapshot,
    inspector: &Inspector,
    report: &mut Report,
) {
    let item = format!("{} bundle {}", cluster.name(), target.name());
    let domain = target.trust_domain();
    let authority = records.authority(domain);
    // The check of bundles reports a missing one.
    let Some(bundle) = authority.and_then(|authority| authority.bundle.as_ref()) else {
        return;
    };
    let published = bundle.sequence;
    let bundle = match TrustBundle::new(domain.clone(), published, bundle.anchors.clone()) {
        Ok(bundle) => bundle,
        Err(error) => return report.error(CATEGORY, &item, error),
    };
    match target.drift(cluster, inspector, bundle).await {
        Ok(drift) if drift.mismatches.is_empty() => {
            let objects = count(drift.desired, "object");
            let detail = format!("sequence {} in {objects}", published);
            report.pass(CATEGORY, &item, detail);
        }
        Ok(drift) => {
            let all = drift.mismatches.len();
            let names = joined(drift.mismatches.iter().take(MAX_NAMES), ", ");
            let more = if all > MAX_NAMES { ", …" } else { "" };
            let detail = format!(
                "{all} of {} are not up to date: {names}{more}",
                drift.desired
            );
            report.fail(CATEGORY, &item, detail).hint(
                "`rootbridge serve` corrects it within a second; its log says what prevents it",
            );
        }
        Err(error) => report.error(CATEGORY, &item, error),
    }
}
