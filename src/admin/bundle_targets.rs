//! How far trust bundles are written to the objects in clusters, as gauges that are set at each
//! request for the metrics.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::trust::{TargetStatus, TargetWriter};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    cluster: String,
    target: String,
}

type Gauges = Family<TargetLabels, Gauge>;

/// The gauges of `[bundle_targets.*]`.
#[derive(Debug, Default)]
pub(super) struct BundleTargets {
    writer: Gauges,
    up_to_date: Gauges,
    behind: Gauges,
    failing: Gauges,
    contested: Gauges,
    wanted_sequence: Gauges,
    applied_sequence: Gauges,
    applied_timestamp: Gauges,
    writes: Family<TargetLabels, Counter>,
}

impl BundleTargets {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, gauges) in [
            (
                "bundle_targets_writer",
                "1 when this server writes the target in the cluster",
                &self.writer,
            ),
            (
                "bundle_targets_up_to_date",
                "Objects that hold the newest trust bundle",
                &self.up_to_date,
            ),
            (
                "bundle_targets_behind",
                "Objects that do not hold the newest trust bundle yet",
                &self.behind,
            ),
            (
                "bundle_targets_failing",
                "Objects whose last write has failed",
                &self.failing,
            ),
            (
                "bundle_targets_contested",
                "Objects that another writer keeps changing",
                &self.contested,
            ),
            (
                "bundle_targets_wanted_sequence",
                "Sequence of the trust bundle that the targets should hold",
                &self.wanted_sequence,
            ),
            (
                "bundle_targets_applied_sequence",
                "Sequence of the last trust bundle that every object held",
                &self.applied_sequence,
            ),
            (
                "bundle_targets_applied_timestamp_seconds",
                "When every object first held it, seconds since 1970",
                &self.applied_timestamp,
            ),
        ] {
            registry.register(name, help, gauges.clone());
        }
        registry.register(
            "bundle_targets_writes",
            "Objects that this server has written",
            self.writes.clone(),
        );
    }

    pub(super) fn set(&self, targets: &[TargetStatus]) {
        for status in targets {
            let labels = TargetLabels {
                cluster: status.cluster.clone(),
                target: status.target.clone(),
            };
            let set = |gauges: &Gauges, value: i64| {
                gauges.get_or_create(&labels).set(value);
            };
            let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            let sequence = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            set(&self.writer, i64::from(status.writer == TargetWriter::This));
            set(&self.up_to_date, count(status.in_step));
            set(&self.behind, count(status.behind));
            set(&self.failing, count(status.failing));
            set(&self.contested, count(status.contested));
            if let Some(wanted) = &status.wanted {
                set(&self.wanted_sequence, sequence(wanted.sequence));
            }
            if let Some(applied) = &status.applied {
                set(&self.applied_sequence, sequence(applied.sequence));
            }
            if let Some(at) = status.applied_at_secs {
                set(&self.applied_timestamp, at);
            }
            let writes = self.writes.get_or_create(&labels);
            writes.inner().store(status.writes, Ordering::Relaxed);
        }
    }
}
