//! Clusters that an operator has declared gone.

use std::collections::BTreeSet;

use super::Rotations;
use super::error::RotationError;
use super::reported::Details;
use super::start::cannot;
use super::watchers::returned;
use crate::clock::UnixTime;
use crate::ledger::{Actor, Change, GoneCluster, LedgerError, PresenceChange};
use crate::trust::rotation::{Evidence, TargetState};
use crate::x509::TrustDomain;

impl Rotations {
    /// Nobody waits for a cluster any more, until it is heard of again.
    ///
    /// # Errors
    /// Nothing names such a cluster; the ledger's.
    pub async fn declare_gone(
        &self,
        cluster: &str,
        reason: &str,
        by: &Actor,
    ) -> Result<(), RotationError> {
        let known = self.clusters().await?;
        if !known.contains(cluster) {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            return Err(cannot(format!(
                "no target, watcher or server names a cluster {cluster}: there are {}",
                known.join(", ")
            )));
        }
        let change = Change::Presence(PresenceChange::Gone {
            cluster: cluster.to_owned(),
            reason: reason.to_owned(),
        });
        self.parts.ledger.apply(change, by).await?;
        tracing::warn!(
            cluster,
            by = by.name,
            reason,
            "a cluster is declared gone: rotations do not wait for it"
        );
        Ok(())
    }

    /// Every cluster that a rotation may wait for.
    async fn clusters(&self) -> Result<BTreeSet<String>, LedgerError> {
        let targets = self
            .parts
            .targets
            .iter()
            .map(|target| target.cluster.clone());
        let watchers = self.parts.watchers.iter();
        let mut known: BTreeSet<_> = targets
            .chain(watchers.filter_map(|watcher| watcher.cluster.clone()))
            .collect();
        let reports = self.parts.ledger.watchers().await?;
        let reports = reports.into_iter().map(|report| report.cluster);
        known.extend(reports.filter(|cluster| !cluster.is_empty()));
        let servers = self
            .parts
            .ledger
            .live_servers(UnixTime::from_secs(0))
            .await?;
        for report in servers.iter().flat_map(|server| &server.reports) {
            let details: Details = serde_json::from_str(&report.details).unwrap_or_default();
            known.extend(details.targets.into_iter().map(|target| target.cluster));
        }
        Ok(known)
    }

    /// Waits for a watcher no longer, until it reports again.
    ///
    /// # Errors
    /// There is no such watcher.
    pub async fn forget_watcher(
        &self,
        trust_domain: &TrustDomain,
        name: &str,
        reason: &str,
        by: &Actor,
    ) -> Result<(), RotationError> {
        let watchers = self.parts.ledger.watchers().await?;
        let mut watchers = watchers.into_iter();
        let cluster = watchers
            .find(|each| each.trust_domain == *trust_domain && each.name == name)
            .map(|each| each.cluster);
        let change = Change::Presence(PresenceChange::ForgetWatcher {
            trust_domain: trust_domain.clone(),
            cluster: cluster.unwrap_or_default(),
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
        self.parts.ledger.apply(change, by).await?;
        tracing::warn!(
            watcher = name,
            by = by.name,
            reason,
            "a watcher is forgotten"
        );
        Ok(())
    }

    /// Takes clusters that are gone out of what a rotation waits for. One that is heard of is back.
    pub(super) async fn without_gone(&self, evidence: &mut Evidence) -> Result<(), LedgerError> {
        for gone in self.parts.ledger.gone_clusters().await? {
            if gone.returned_at.is_some() {
                continue;
            }
            let own = evidence
                .targets
                .iter()
                .filter(|target| target.cluster == gone.cluster);
            let heard = own
                .filter(|target| !matches!(target.state, TargetState::Unknown { .. }))
                .map(|target| format!("target {} is seen again", target.target))
                .next();
            match heard {
                Some(how) => returned(self.parts.ledger.as_ref(), &gone, how).await?,
                None => leave_out(evidence, &gone),
            }
        }
        Ok(())
    }
}

fn leave_out(evidence: &mut Evidence, gone: &GoneCluster) {
    for target in &mut evidence.targets {
        if target.cluster == gone.cluster {
            target.state = TargetState::Gone {
                reason: gone.reason.clone(),
            };
        }
    }
    evidence
        .proxies
        .retain(|proxies| proxies.cluster != gone.cluster);
    // Verifiers there meet nobody; certificates from there may still be shown elsewhere.
    let without_root = &mut evidence.without_root;
    let (left, out): (Vec<_>, Vec<_>) = without_root
        .holders
        .drain(..)
        .partition(|holder| holder.cluster.as_ref() != Some(&gone.cluster));
    without_root.holders = left;
    let out: u64 = out.iter().map(|holder| holder.certificates).sum();
    without_root.total = without_root.total.saturating_sub(out);
}
