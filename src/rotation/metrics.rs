//! Gauges of open rotations.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::ledger::RotationRecord;
use crate::trust::rotation::{Condition, Verdict};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    trust_domain: String,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HeldLabels {
    trust_domain: String,
    condition: &'static str,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    since: Family<PhaseLabels, Gauge>,
    held: Family<HeldLabels, Gauge>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rotation_phase_since_seconds",
            "When the open rotation reached its phase, seconds since 1970",
            self.since.clone(),
        );
        registry.register(
            "rotation_held",
            "What holds the next move of the open rotation back, by condition",
            self.held.clone(),
        );
    }

    /// Forgets what was shown before.
    pub(super) fn clear(&self) {
        self.since.clear();
        self.held.clear();
    }

    pub(super) fn show(&self, rotation: &RotationRecord, verdict: Option<&Verdict>) {
        let trust_domain = rotation.trust_domain.to_string();
        let phase = PhaseLabels {
            trust_domain: trust_domain.clone(),
            phase: rotation.phase.as_str(),
        };
        self.since
            .get_or_create(&phase)
            .set(rotation.changed_at.secs());
        for condition in Condition::ALL {
            let held = verdict.iter().flat_map(|verdict| &verdict.held);
            let count = held.filter(|reason| reason.condition == condition).count();
            let labels = HeldLabels {
                trust_domain: trust_domain.clone(),
                condition: condition.as_str(),
            };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.held.get_or_create(&labels).set(count);
        }
    }
}
