//! What operators read of a rotation.

use serde::Serialize;

use crate::clock::UnixTime;
use crate::digest::hex;
use crate::ledger::{IssuerId, RotationRecord};
use crate::trust::rotation::{Reason, Verdict};

/// One rotation, and for an open one what its next move waits for.
#[derive(Debug, Clone, Serialize)]
pub struct RotationStatus {
    pub id: i64,
    pub trust_domain: String,
    pub kind: &'static str,
    pub phase: &'static str,
    pub backwards: bool,
    pub key: String,
    pub token: String,
    pub old_issuer: Option<String>,
    pub old_anchor: Option<String>,
    pub new_issuer: Option<String>,
    pub new_anchor: Option<String>,
    pub started_at: String,
    pub started_by: String,
    pub since: String,
    pub ended_at: Option<String>,
    /// The phase of the next move.
    pub next: Option<&'static str>,
    /// What holds that back; empty if it may be made.
    pub held: Vec<Reason>,
    /// When the last of these ends at the latest; absent unless each has an end.
    pub until: Option<String>,
    pub steps: Vec<StepStatus>,
}

#[derive(Debug, Clone, Serialize)]
pub struct StepStatus {
    pub phase: &'static str,
    pub backwards: bool,
    pub at: String,
    pub by: String,
    pub forced: Option<String>,
}

impl RotationStatus {
    pub(super) fn new(rotation: &RotationRecord, verdict: Option<Verdict>) -> Self {
        let parts = &rotation.parts;
        let issuer = |id: &Option<IssuerId>| id.as_ref().map(ToString::to_string);
        let anchor = |sha256: Option<[u8; 32]>| sha256.map(|sha256| hex(&sha256));
        let next = verdict.as_ref().map(|verdict| verdict.to.as_str());
        let held = verdict.map(|verdict| verdict.held).unwrap_or_default();
        let ends: Option<Vec<UnixTime>> = held.iter().map(|reason| reason.until).collect();
        let until = ends.and_then(|ends| ends.into_iter().max());
        let steps = rotation.steps.iter().map(|step| StepStatus {
            phase: step.phase.as_str(),
            backwards: step.backwards,
            at: step.at.to_string(),
            by: step.by.clone(),
            forced: step.forced.clone(),
        });
        Self {
            id: rotation.id.get(),
            trust_domain: rotation.trust_domain.to_string(),
            kind: rotation.kind.as_str(),
            phase: rotation.phase.as_str(),
            backwards: rotation.backwards,
            key: rotation.key.slug(),
            token: rotation.token.clone(),
            old_issuer: issuer(&parts.old_issuer),
            old_anchor: anchor(parts.old_anchor),
            new_issuer: issuer(&parts.new_issuer),
            new_anchor: anchor(parts.new_anchor),
            started_at: rotation.started_at.to_string(),
            started_by: rotation.started_by.clone(),
            since: rotation.changed_at.to_string(),
            ended_at: rotation.ended_at.map(|at| at.to_string()),
            next,
            until: until.map(|at| at.to_string()),
            held,
            steps: steps.collect(),
        }
    }
}
