//! Makes moves: what each changes in the records, in one transaction with the phase.

use super::Rotations;
use super::error::RotationError;
use super::upstream_root::cancelled;
use crate::issuance::SuccessorOptions;
use crate::ledger::{
    Actor, AuthorityRecord, Change, IssuerId, IssuerState, LedgerError, Role, RotationChange,
    RotationKind, RotationPhase, RotationRecord, Snapshot,
};
use crate::trust::rotation::{Action, Verdict};

impl Rotations {
    /// Makes a move that nothing holds back, or that is forced.
    pub(super) async fn make(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
        verdict: Verdict,
        force: Option<&str>,
        by: &Actor,
    ) -> Result<RotationPhase, RotationError> {
        let (fixed, held): (Vec<_>, Vec<_>) = verdict
            .held
            .into_iter()
            .partition(|reason| !reason.condition.may_be_forced());
        match force {
            None if !held.is_empty() || !fixed.is_empty() => {
                return Err(RotationError::Held(fixed.into_iter().chain(held).collect()));
            }
            Some(_) if !fixed.is_empty() => return Err(RotationError::NotForced(fixed)),
            _ => {}
        }
        let authority = records
            .authority(&rotation.trust_domain)
            .ok_or_else(|| LedgerError::UnknownAuthority(rotation.trust_domain.clone()))?;
        let forced = force.filter(|_| !held.is_empty());
        for reason in held.iter().filter(|_| forced.is_some()) {
            tracing::warn!(
                trust_domain = %rotation.trust_domain, rotation = %rotation.id, by = by.name,
                condition = reason.condition.as_str(), %reason, "a condition is overridden"
            );
        }
        let mut changes = self
            .changes(rotation, authority, verdict.action, by)
            .await?;
        changes.push(Change::Rotation(RotationChange::Move {
            rotation: rotation.id,
            from: rotation.phase,
            to: verdict.to,
            backwards: verdict.backwards,
            forced: forced.map(str::to_owned),
        }));
        self.parts.ledger.apply(Change::All(changes), by).await?;
        tracing::info!(
            trust_domain = %rotation.trust_domain, rotation = %rotation.id, kind = %rotation.kind,
            from = %rotation.phase, to = %verdict.to, backwards = verdict.backwards,
            by = by.name, forced, "the rotation has moved"
        );
        Ok(verdict.to)
    }

    async fn changes(
        &self,
        rotation: &RotationRecord,
        authority: &AuthorityRecord,
        action: Action,
        by: &Actor,
    ) -> Result<Vec<Change>, RotationError> {
        let parts = &rotation.parts;
        let set = |issuer: &IssuerId, state| Change::SetIssuerState {
            issuer: issuer.clone(),
            state,
        };
        Ok(match action {
            Action::None => Vec::new(),
            // Its root is published since it was approved or imported.
            Action::Publish if rotation.kind == RotationKind::UpstreamRoot => Vec::new(),
            Action::Publish => {
                let options = successor(rotation)?;
                (self.parts.ceremony)(by.clone())
                    .successor(&options)
                    .await?
                    .publication()
            }
            Action::Activate if rotation.kind == RotationKind::UpstreamRoot => {
                let mut changes = Vec::new();
                if let Some(issuer) = &parts.new_issuer {
                    let ceremony = (self.parts.ceremony)(by.clone());
                    changes.extend(ceremony.arrival(&rotation.trust_domain, issuer).await?);
                }
                changes
            }
            Action::Activate => {
                let root = parts.new_anchor.and_then(|anchor| root(authority, &anchor));
                let root = root.filter(|_| parts.changes_roots());
                let activated = root.iter().chain(&parts.new_issuer);
                activated
                    .map(|issuer| set(issuer, IssuerState::Active))
                    .collect()
            }
            Action::Revert => parts
                .new_issuer
                .iter()
                .map(|issuer| set(issuer, IssuerState::Retired))
                .collect(),
            Action::Retire if !rotation.backwards => {
                let stays = parts.new_anchor;
                retired(authority, &parts.old_issuer, parts.old_anchor, stays)
            }
            Action::Retire | Action::Discard => {
                let stays = parts.old_anchor;
                let mut changes = retired(authority, &parts.new_issuer, parts.new_anchor, stays);
                changes.extend(cancelled(rotation, authority));
                changes
            }
        })
    }

    /// Makes the keys and certificates of what arrives, and records which they are.
    pub(super) async fn prepare(
        &self,
        rotation: &RotationRecord,
        by: &Actor,
    ) -> Result<(), RotationError> {
        let options = successor(rotation)?;
        let made = (self.parts.ceremony)(by.clone())
            .successor(&options)
            .await?;
        let records = self.parts.ledger.snapshot().await?;
        let authority = records.authority(&rotation.trust_domain);
        self.check_room(authority, &made.anchor)?;
        let prepared = RotationChange::Prepared {
            rotation: rotation.id,
            new_issuer: made.issuer,
            new_anchor: made.anchor.fingerprint(),
        };
        let change = Change::Rotation(prepared);
        self.parts.ledger.apply(change, by).await?;
        tracing::info!(
            trust_domain = %rotation.trust_domain, rotation = %rotation.id,
            anchor = %made.anchor.subject(), "the rotation is prepared"
        );
        Ok(())
    }
}

fn successor(rotation: &RotationRecord) -> Result<SuccessorOptions, RotationError> {
    let old = rotation.parts.old_issuer.clone();
    let old_issuer =
        old.ok_or_else(|| RotationError::CannotStart("it replaces no issuing CA".to_owned()))?;
    Ok(SuccessorOptions {
        trust_domain: rotation.trust_domain.clone(),
        old_issuer,
        token: rotation.token.clone(),
        kind: rotation.key,
        new_root: rotation.kind != RotationKind::NewIssuer,
        made: rotation.parts.new_issuer.clone(),
    })
}

/// The issuer of a root of this authority.
fn root(authority: &AuthorityRecord, anchor: &[u8; 32]) -> Option<IssuerId> {
    let mut roots = authority
        .issuers
        .iter()
        .filter(|each| each.role == Role::Root);
    let root = roots.find(|root| root.certificates.iter().any(|row| row.sha256 == *anchor));
    root.map(|root| root.id.clone())
}

/// Retires an issuing CA, and its root unless that stays; what is retired already is passed by.
fn retired(
    authority: &AuthorityRecord,
    issuer: &Option<IssuerId>,
    anchor: Option<[u8; 32]>,
    stays: Option<[u8; 32]>,
) -> Vec<Change> {
    let anchor = anchor.filter(|anchor| Some(*anchor) != stays);
    let root = anchor.and_then(|anchor| root(authority, &anchor));
    let in_use = |id: &&IssuerId| {
        let mut issuers = authority.issuers.iter();
        issuers.any(|issuer| issuer.id == **id && issuer.state != IssuerState::Retired)
    };
    let issuers = issuer.iter().chain(&root).filter(in_use);
    let mut changes: Vec<_> = issuers
        .map(|issuer| Change::SetIssuerState {
            issuer: issuer.clone(),
            state: IssuerState::Retired,
        })
        .collect();
    let published = authority
        .anchors
        .iter()
        .find(|each| Some(each.sha256) == anchor && each.state != IssuerState::Retired);
    changes.extend(published.map(|anchor| Change::RetireAnchor {
        trust_domain: authority.trust_domain.clone(),
        sha256: anchor.sha256,
    }));
    changes
}
