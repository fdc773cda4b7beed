//! Which version of a kind a cluster serves.

use std::sync::atomic::{AtomicUsize, Ordering};

use kube::core::{ApiResource, GroupVersionKind};

use super::target::{TargetConfig, TargetKind};

/// The versions of one kind, and which of them is in use.
#[derive(Debug)]
pub(super) struct Kinds {
    versions: Vec<ApiResource>,
    used: AtomicUsize,
}

impl Kinds {
    /// Of a target's kind, the newest first.
    pub(super) fn of(target: &TargetConfig) -> Self {
        let resource = |group: &str, version: &str, kind: &str, plural: &str| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
        };
        let versions = match target.kind() {
            TargetKind::ConfigMap { .. } => vec![resource("", "v1", "ConfigMap", "configmaps")],
            // v1 since Kubernetes 1.37, v1beta1 since 1.33.
            TargetKind::ClusterTrustBundle { .. } => ["v1", "v1beta1"]
                .map(|version| {
                    resource(
                        "certificates.k8s.io",
                        version,
                        "ClusterTrustBundle",
                        "clustertrustbundles",
                    )
                })
                .to_vec(),
        };
        Self {
            versions,
            used: AtomicUsize::new(0),
        }
    }

    /// The version in use.
    pub(super) fn resource(&self) -> &ApiResource {
        let used = self.used.load(Ordering::Relaxed) % self.versions.len().max(1);
        // A kind has at least one version.
        #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
        &self.versions[used]
    }

    /// Where the server does not know the version in use.
    pub(super) fn try_another(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }
}
