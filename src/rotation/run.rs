//! Follows the open rotations: makes keys and certificates, shows what holds a rotation back, and moves
//! it where the policy says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Rotations;
use super::error::RotationError;
use crate::error_chain::error_chain;
use crate::ledger::{
    Actor, Claim, IssuerState, LedgerError, RotationId, RotationKind, RotationPhase,
    RotationRecord, Snapshot,
};
use crate::trust::rotation::{Condition, Reason, Verdict};

/// How often the rotations are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Recorded with the move that passes by the certificates of an issuing CA that was retired at once.
const RETIRED_BEFORE: &str = "the issuing CA was retired before: nobody renews below it";
/// The pause after keys or certificates could not be made.
const RETRY: Duration = Duration::from_secs(5);

/// How long a server waits for each that comes before it to prepare a rotation.
const TURN: Duration = Duration::from_secs(10);

impl Rotations {
    /// Follows until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut logged = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            if let Err(error) = self.look(&mut logged).await {
                let error = error_chain(&error);
                tracing::debug!(error, "the rotations are not known");
            }
        }
    }

    async fn look(
        &self,
        logged: &mut BTreeMap<RotationId, (RotationPhase, usize)>,
    ) -> Result<(), LedgerError> {
        let rotations = self.parts.ledger.rotations().await?;
        let open: Vec<_> = rotations
            .into_iter()
            .filter(|rotation| rotation.phase.is_open())
            .collect();
        if open.is_empty() {
            self.parts.metrics.clear();
            return Ok(());
        }
        let records = self.parts.ledger.snapshot().await?;
        self.parts.metrics.clear();
        for rotation in &open {
            self.report(rotation, &records).await?;
            let is_unprepared =
                rotation.phase == RotationPhase::Prepare && rotation.parts.new_issuer.is_none();
            match rotation.kind {
                RotationKind::UpstreamRoot if is_unprepared => {
                    self.take_answer(rotation, &records).await?;
                }
                _ if is_unprepared => self.try_to_prepare(rotation).await?,
                _ => {}
            }
            let verdict = self.next(rotation, &records).await?;
            self.parts.metrics.show(rotation, verdict.as_ref());
            let Some(verdict) = verdict else { continue };
            let now = (rotation.phase, verdict.held.len());
            if logged.insert(rotation.id, now) != Some(now) {
                log(rotation, &verdict);
            }
            let urgent = urgent(rotation, &records);
            let reason = urgent.filter(|_| may_be_passed_by(&verdict));
            let by_policy = self.parts.config.moves_at(self.parts.clock.now());
            if reason.is_some() || (verdict.held.is_empty() && (by_policy || urgent.is_some())) {
                self.move_alone(rotation, &records, reason).await;
            }
        }
        Ok(())
    }

    /// The first of the servers makes keys and certificates; each of the next, if none is made in time.
    async fn try_to_prepare(&self, rotation: &RotationRecord) -> Result<(), LedgerError> {
        let now = self.parts.clock.now();
        let others = self.others(rotation, now).await?;
        let before = others
            .iter()
            .filter(|other| other.is_alive(now) && other.instance < self.parts.instance);
        let turn = u32::try_from(before.count()).unwrap_or(u32::MAX);
        if now.since(rotation.started_at) < TURN.saturating_mul(turn) {
            return Ok(());
        }
        let id = rotation.id.get();
        let waits = self
            .failures()
            .get(&id)
            .is_some_and(|(at, _)| now.since(*at) < RETRY);
        if waits {
            return Ok(());
        }
        let work = format!("rotation/{}", rotation.trust_domain);
        let Claim::Held(lease) = self.parts.leases.claim(&work).await? else {
            return Ok(());
        };
        match self.prepare(rotation, &Actor::server(Some(lease))).await {
            Ok(()) => drop(self.failures().remove(&id)),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    trust_domain = %rotation.trust_domain, rotation = id, error,
                    "the rotation is not prepared yet"
                );
                self.failures().insert(id, (now, error));
                // The next server may have a token that can.
                self.parts.leases.give_up(&work).await;
            }
        }
        Ok(())
    }

    async fn move_alone(
        &self,
        rotation: &RotationRecord,
        records: &Snapshot,
        reason: Option<&str>,
    ) {
        let _turn = self.moving.lock().await;
        // An operator may have moved it in the meantime: what was read is read again.
        let moved = match self.next(rotation, records).await {
            Ok(Some(verdict)) => {
                let by = &Actor::server(None);
                let reason = reason.filter(|_| may_be_passed_by(&verdict));
                self.make(rotation, records, verdict, reason, by).await
            }
            Ok(None) => return,
            Err(error) => Err(RotationError::from(error)),
        };
        if let Err(error) = moved {
            let error = error_chain(&error);
            tracing::info!(
                trust_domain = %rotation.trust_domain, rotation = %rotation.id, error,
                "the rotation did not move"
            );
        }
    }
}

/// Why a rotation waits for no operator: what signed before is retired, as after
/// [`Rotations::compromised`], so nobody signs; and where the root stays, nothing is left to retire.
fn urgent(rotation: &RotationRecord, records: &Snapshot) -> Option<&'static str> {
    let authority = records.authority(&rotation.trust_domain)?;
    let old = rotation.parts.old_issuer.as_ref()?;
    let mut issuers = authority.issuers.iter();
    let is_retired = issuers.any(|each| each.id == *old && each.state == IssuerState::Retired);
    let moves = match rotation.phase {
        RotationPhase::Drain => !rotation.parts.changes_roots(),
        RotationPhase::Retire => {
            let last = rotation.steps.last();
            last.is_some_and(|step| step.forced.as_deref() == Some(RETIRED_BEFORE))
        }
        phase => phase <= RotationPhase::Activate,
    };
    (is_retired && moves && !rotation.backwards).then_some(RETIRED_BEFORE)
}

/// Certificates of an issuing CA that is retired already hold nothing back that they could; and who has
/// an old bundle can renew only below the next one.
fn may_be_passed_by(verdict: &Verdict) -> bool {
    let lives = |reason: &Reason| {
        matches!(
            reason.condition,
            Condition::Alive | Condition::Subordinate | Condition::Holder
        )
    };
    !verdict.held.is_empty() && verdict.held.iter().all(lives)
}

fn log(rotation: &RotationRecord, verdict: &Verdict) {
    let domain = &rotation.trust_domain;
    let Some(first) = verdict.held.first() else {
        tracing::info!(
            trust_domain = %domain, rotation = %rotation.id, phase = %rotation.phase,
            next = %verdict.to, "nothing holds the rotation back"
        );
        return;
    };
    tracing::info!(
        trust_domain = %domain, rotation = %rotation.id, phase = %rotation.phase,
        next = %verdict.to, held = verdict.held.len(), first = %first, "the rotation is held back"
    );
}
