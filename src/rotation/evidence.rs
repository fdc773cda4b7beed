//! Gathers what the rules read.

use super::Rotations;
use super::arriving::problem;
use super::merge::{merge_proxies, merge_targets};
use super::reports::Other;
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::ledger::{
    AuthorityRecord, IssuerId, IssuerState, LedgerError, Live, LiveCertificates, LiveFilter,
    RotationKind, RotationPhase, RotationRecord, Snapshot,
};
use crate::trust::rotation::{
    Evidence, Preparation, ProxyEvidence, ServerEvidence, TargetEvidence,
};

/// How many holders of certificates are named; all are counted.
pub(super) const NAMED: u32 = 100;

impl Rotations {
    pub(super) async fn evidence(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
    ) -> Result<Evidence, LedgerError> {
        let now = self.parts.clock.now();
        let authority = records
            .authority(&rotation.trust_domain)
            .ok_or_else(|| LedgerError::UnknownAuthority(rotation.trust_domain.clone()))?;
        let phase = rotation.phase;
        let without_root = match (phase, rotation.parts.new_anchor) {
            (RotationPhase::Converge, Some(anchor)) if rotation.parts.changes_roots() => {
                let which = Live::WithoutAnchor {
                    anchor,
                    received_before: now.minus(self.parts.config.settle()),
                };
                self.live(rotation, which, now).await?
            }
            _ => LiveCertificates::default(),
        };
        let alive = match phase {
            RotationPhase::Drain => {
                let which = Live::below(&rotation.parts, rotation.backwards);
                self.live(rotation, which, now).await?
            }
            _ => LiveCertificates::default(),
        };
        let others = self.others(rotation, now).await?;
        let mut servers = vec![self.server(rotation, authority)];
        servers.extend(
            others
                .iter()
                .filter(|other| other.is_alive(now))
                .map(|other| seen(other, rotation, authority)),
        );
        let newest = newest(authority);
        let verifiers = self.verifiers(authority).await?;
        let mut sources: Vec<_> = others.iter().map(|other| other.source(now)).collect();
        sources.extend(verifiers.sources(now));
        let mut targets = self.targets(rotation, authority, now);
        targets.extend(verifiers.clusters());
        let mut evidence = Evidence {
            now,
            preparation: self.preparation(rotation, authority, now),
            no_return: no_return(rotation, authority, now),
            servers,
            targets: merge_targets(targets, &sources, newest),
            proxies: merge_proxies(self.proxies(rotation), &sources),
            watchers: verifiers.watchers,
            without_root,
            alive,
            settle: self.parts.config.settle(),
        };
        self.without_gone(&mut evidence).await?;
        Ok(evidence)
    }

    async fn live(
        &self,
        rotation: &RotationRecord,
        which: Live,
        now: UnixTime,
    ) -> Result<LiveCertificates, LedgerError> {
        let filter = LiveFilter {
            trust_domain: rotation.trust_domain.clone(),
            now,
            which,
            limit: NAMED,
        };
        self.parts.ledger.live_certificates(filter).await
    }

    fn preparation(
        &self,
        rotation: &RotationRecord,
        authority: &AuthorityRecord,
        now: UnixTime,
    ) -> Preparation {
        if let Some(why) = problem(rotation, authority, now) {
            return Preparation::Problem(why);
        }
        if rotation.kind == RotationKind::UpstreamRoot {
            return self.upstream_preparation(rotation, authority, now);
        }
        let failures = self.failures();
        match (failures.get(&rotation.id.get()), &rotation.parts.new_issuer) {
            (_, Some(_)) => Preparation::Ready,
            _ if rotation.kind == RotationKind::RootLeaves => Preparation::Ready,
            (Some((_, why)), None) => Preparation::Problem(why.clone()),
            (None, None) => Preparation::Running,
        }
    }

    /// Proxies in the clusters of this server that hold older roots.
    pub(super) fn proxies(&self, rotation: &RotationRecord) -> Vec<ProxyEvidence> {
        match rotation.phase {
            RotationPhase::Converge => (self.parts.proxies)(&rotation.trust_domain),
            _ => Vec::new(),
        }
    }

    /// This server.
    fn server(&self, rotation: &RotationRecord, authority: &AuthorityRecord) -> ServerEvidence {
        let newest = Some(newest(authority));
        let domain = rotation.trust_domain.to_string();
        let statuses = self.parts.authorities.status();
        let own = statuses.iter().find(|status| status.trust_domain == domain);
        let published = self.parts.bundles.current(&rotation.trust_domain);
        let published = published.map(|published| published.bundle.sequence());
        ServerEvidence {
            instance: self.parts.instance.clone(),
            is_silent: false,
            lease_until: None,
            has_bundle: own.is_some_and(|own| own.bundle_sequence == newest) && published == newest,
            has_issuer: match rotation.kind {
                RotationKind::RootLeaves => !signs_below(authority, rotation),
                _ => own.is_some_and(|own| own.issuer == signs(rotation)),
            },
        }
    }

    /// The targets in the clusters of this server.
    pub(super) fn targets(
        &self,
        rotation: &RotationRecord,
        authority: &AuthorityRecord,
        now: UnixTime,
    ) -> Vec<TargetEvidence> {
        let newest = newest(authority);
        let statuses = self.parts.distribution.all();
        let mut holding = self.holding();
        let targets = self.parts.targets.iter();
        let targets = targets.filter(|each| each.trust_domain == rotation.trust_domain);
        let evidence = targets.map(|target| {
            let status = statuses
                .iter()
                .find(|each| each.cluster == target.cluster && each.target == target.target);
            TargetEvidence {
                cluster: target.cluster.clone(),
                target: target.target.clone(),
                state: holding.see(target, status, newest, now),
                edit: status.and_then(|status| status.last_edit.clone()),
            }
        });
        evidence.collect()
    }
}

/// Another server, by what it has reported.
fn seen(other: &Other, rotation: &RotationRecord, authority: &AuthorityRecord) -> ServerEvidence {
    let report = other.report.as_ref();
    ServerEvidence {
        instance: other.instance.clone(),
        is_silent: report.is_none(),
        lease_until: Some(other.until),
        has_bundle: report.is_some_and(|report| report.sequence >= newest(authority)),
        has_issuer: match rotation.kind {
            RotationKind::RootLeaves => !signs_below(authority, rotation),
            _ => report.is_some_and(|report| report.issuer == signs(rotation)),
        },
    }
}

fn newest(authority: &AuthorityRecord) -> u64 {
    let bundle = authority.bundle.as_ref();
    bundle.map_or(0, |bundle| bundle.sequence)
}

/// The issuing CA that stays.
fn signs(rotation: &RotationRecord) -> Option<String> {
    let signs = match rotation.backwards {
        false => rotation.parts.new_issuer.as_ref(),
        true => rotation.parts.old_issuer.as_ref(),
    };
    signs.map(IssuerId::to_string)
}

/// Whether an active issuing CA has no other path than below the root that leaves.
fn signs_below(authority: &AuthorityRecord, rotation: &RotationRecord) -> bool {
    authority.issuers.iter().any(|issuer| {
        let mut rows = issuer.certificates.iter();
        issuer.state == IssuerState::Active
            && issuer.role == crate::ledger::Role::Issuing
            && rows.any(|row| {
                row.state == IssuerState::Active && Some(row.anchor) == rotation.parts.old_anchor
            })
    })
}

/// Why the issuing CA that signed before cannot sign again.
fn no_return(
    rotation: &RotationRecord,
    authority: &AuthorityRecord,
    now: UnixTime,
) -> Option<String> {
    let id = rotation.parts.old_issuer.as_ref()?;
    let issuer = authority.issuers.iter().find(|issuer| issuer.id == *id);
    let Some(issuer) = issuer.filter(|issuer| issuer.state == IssuerState::Active) else {
        return Some(format!("issuer {id} is retired"));
    };
    let mut rows = issuer.certificates.iter();
    let usable = rows.any(|row| row.state == IssuerState::Active && row.not_after > now);
    if !usable {
        return Some(format!("the certificate of issuer {id} has expired"));
    }
    let anchor = rotation.parts.old_anchor?;
    let mut anchors = authority.anchors.iter();
    let published = anchors.any(|each| each.sha256 == anchor && each.state == IssuerState::Active);
    (!published).then(|| format!("its root sha256:{} is retired", hex(&anchor)))
}
