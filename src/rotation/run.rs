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
use crate::ledger::{Actor, LedgerError, RotationId, RotationPhase, RotationRecord, Snapshot};
use crate::trust::rotation::Verdict;

/// How often the rotations are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause after keys or certificates could not be made.
const RETRY: Duration = Duration::from_secs(5);

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
            if rotation.phase == RotationPhase::Prepare && rotation.parts.new_issuer.is_none() {
                self.try_to_prepare(rotation).await;
            }
            let verdict = self.next(rotation, &records).await?;
            self.parts.metrics.show(rotation, verdict.as_ref());
            let Some(verdict) = verdict else { continue };
            let now = (rotation.phase, verdict.held.len());
            if logged.insert(rotation.id, now) != Some(now) {
                log(rotation, &verdict);
            }
            if verdict.held.is_empty() {
                self.move_by_policy(rotation, &records).await;
            }
        }
        Ok(())
    }

    async fn try_to_prepare(&self, rotation: &RotationRecord) {
        let now = self.parts.clock.now();
        let id = rotation.id.get();
        let waits = self
            .failures()
            .get(&id)
            .is_some_and(|(at, _)| now.since(*at) < RETRY);
        if waits {
            return;
        }
        match self.prepare(rotation, &server()).await {
            Ok(()) => drop(self.failures().remove(&id)),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    trust_domain = %rotation.trust_domain, rotation = id, error,
                    "the rotation is not prepared yet"
                );
                self.failures().insert(id, (now, error));
            }
        }
    }

    async fn move_by_policy(&self, rotation: &RotationRecord, records: &Snapshot) {
        if !self.parts.config.moves_at(self.parts.clock.now()) {
            return;
        }
        let _turn = self.moving.lock().await;
        // An operator may have moved it in the meantime: what was read is read again.
        let moved = match self.next(rotation, records).await {
            Ok(Some(verdict)) => self.make(rotation, records, verdict, None, &server()).await,
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

fn server() -> Actor {
    Actor {
        name: "rootbridge".to_owned(),
        via: "server".to_owned(),
    }
}
