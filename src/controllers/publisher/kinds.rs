//! The API version of a target's kind that a cluster serves.

use std::sync::atomic::{AtomicUsize, Ordering};

use kube::core::{ApiResource, GroupVersionKind};

use super::target::{TargetConfig, TargetKind};

#[derive(Debug)]
pub(super) struct Kinds {
    versions: Vec<ApiResource>,
    used: AtomicUsize,
}

impl Kinds {
    pub(super) fn of(target: &TargetConfig) -> Self {
        let resource = |group: &str, version: &str, kind: &str, plural: &str| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
        };
        // The newest first.
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

    pub(super) fn resource(&self) -> &ApiResource {
        let used = self.used.load(Ordering::Relaxed) % self.versions.len().max(1);
        // A kind has at least one version.
        #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
        &self.versions[used]
    }

    /// To be called when the API server does not serve the version in use.
    pub(super) fn try_another(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }
}
