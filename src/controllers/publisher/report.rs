//! The status of a cluster's targets, as `trust` reports it.

use std::time::Instant;

use super::reconciler::{Reconciler, TargetState};
use super::target::TargetConfig;
use crate::clock::UnixTime;
use crate::trust::{PublishedBundle, TargetStatus, TargetWriter, Version};

/// A version that all objects of a target held at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) sequence: u64,
    pub(super) digest: String,
    pub(super) at: UnixTime,
}

impl Applied {
    /// Whether it is this version. The same anchors may have been published before and after
    /// others, so that the digest alone does not tell.
    pub(super) fn is_of(&self, published: &PublishedBundle) -> bool {
        self.sequence == published.bundle.sequence() && self.digest == published.digest
    }
}

/// The status of a target that this server does not publish.
pub(super) fn bare(cluster: &str, target: &TargetConfig, writer: TargetWriter) -> TargetStatus {
    TargetStatus {
        cluster: cluster.to_owned(),
        target: target.name().to_owned(),
        trust_domain: target.trust_domain().to_string(),
        object: target.described(),
        writer,
        ..TargetStatus::default()
    }
}

pub(super) fn status(
    cluster: &str,
    reconciler: &Reconciler,
    state: &TargetState,
    applied: Option<&Applied>,
    now: Instant,
) -> TargetStatus {
    let mut status = bare(cluster, &state.target, TargetWriter::This);
    status.writes = state.writes;
    status.last_edit = state.last_edit.as_ref().map(ToString::to_string);
    status.wanted = state
        .desired
        .as_ref()
        .map(|desired| version(&desired.bundle));
    if let Some(applied) = applied {
        status.applied = Some(Version {
            sequence: applied.sequence,
            digest: applied.digest.clone(),
        });
        status.applied_at = Some(applied.at.to_string());
        status.applied_at_secs = Some(applied.at.secs());
    }
    let mut failure = None;
    for key in reconciler.desired_keys(state) {
        match state.is_up_to_date(&key) {
            true => status.in_step += 1,
            false => status.behind += 1,
        }
        let Some(object) = state.objects.get(&key) else {
            continue;
        };
        if object.conflict.delay(now).is_some() {
            status.contested += 1;
        }
        if let Some(why) = &object.failure {
            status.failing += 1;
            let namespace = key.map(|name| format!("namespace {name}: "));
            let namespace = namespace.unwrap_or_default();
            failure.get_or_insert_with(|| format!("{namespace}{why}"));
        }
    }
    status.error = error(reconciler, state).or(failure);
    status
}

/// Whether every object holds the newest bundle.
pub(super) fn is_everywhere(
    reconciler: &Reconciler,
    state: &TargetState,
    status: &TargetStatus,
) -> bool {
    reconciler.is_synced(state)
        && state.desired.is_some()
        && state.refused.is_none()
        && status.behind == 0
}

fn error(reconciler: &Reconciler, state: &TargetState) -> Option<String> {
    let watch = |what: &str, trouble: Option<&str>| {
        trouble.map(|why| format!("the watch of {what} is broken: {why}"))
    };
    let refused = state.refused.as_ref();
    refused
        .map(|why| format!("the newest bundle is not published: {why}"))
        .or_else(|| watch("namespaces", reconciler.list.error()))
        .or_else(|| watch("objects", state.list.error()))
}

fn version(bundle: &PublishedBundle) -> Version {
    Version {
        sequence: bundle.bundle.sequence(),
        digest: bundle.digest.clone(),
    }
}
