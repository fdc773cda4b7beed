//! Which roots the proxies of a cluster's control planes hold, for `rootbridge linkerd status`: read
//! from the cluster, whichever server publishes.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::workloads::{Counts, PublishedRoots, Workload, count};
use crate::cluster::{ClusterConfig, Collection, Inspector};
use crate::controllers::publisher::{LINKERD_KEY, LINKERD_ROOTS, TargetConfig};
use crate::digest::{hex, sha256};

/// Pods on a page: whole ones are sent, and most of each is thrown away.
const PAGE: u32 = 200;

/// A control plane and the pods of its mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    pub namespace: String,
    /// SHA-256 of the published roots, lower-case hexadecimal.
    pub sha256: String,
    /// Every workload with a running proxy.
    pub workloads: BTreeMap<Workload, Counts>,
}

/// The control planes whose roots `target` publishes in `cluster`.
///
/// # Errors
/// The API server's answer, or which ConfigMap is missing.
pub async fn control_planes(
    cluster: &ClusterConfig,
    target: &TargetConfig,
    inspector: &Inspector,
) -> Result<Vec<ControlPlane>, String> {
    let mut found = Vec::new();
    let named = format!("metadata.name={LINKERD_ROOTS}");
    let named = Collection::new("/api/v1/configmaps").fields(named);
    let mut maps = Vec::new();
    inspector.for_each(named, |map| maps.push(map)).await?;
    for namespace in target.namespaces(cluster, inspector).await? {
        let roots = maps.iter().find_map(|map| published_roots(map, &namespace));
        let roots = roots.ok_or_else(|| {
            format!(
                "the ConfigMap {LINKERD_ROOTS} with the key {LINKERD_KEY} is not in {namespace}"
            )
        })?;
        found.push((roots, BTreeMap::new()));
    }
    // What has ended is not even sent.
    let running = Collection::new("/api/v1/pods")
        .fields("status.phase!=Succeeded,status.phase!=Failed")
        .page_size(PAGE);
    let each = |pod: Value| {
        for (roots, workloads) in &mut found {
            count(workloads, &pod, roots);
        }
    };
    inspector.for_each(running, each).await?;
    let planes = found.into_iter().map(|(roots, workloads)| ControlPlane {
        namespace: roots.namespace,
        sha256: roots.sha256,
        workloads,
    });
    Ok(planes.collect())
}

fn published_roots(map: &Value, namespace: &str) -> Option<PublishedRoots> {
    if map.pointer("/metadata/namespace")?.as_str()? != namespace {
        return None;
    }
    let roots = map.get("data")?.get(LINKERD_KEY)?.as_str()?;
    Some(PublishedRoots {
        namespace: namespace.to_owned(),
        sha256: hex(&sha256(roots.as_bytes())),
        changed_at: changed_at(map),
    })
}

/// When a field manager that owns the key last changed something.
fn changed_at(map: &Value) -> Option<Timestamp> {
    let entries = map.pointer("/metadata/managedFields")?.as_array()?;
    let owned = entries.iter().filter(|entry| {
        let fields = entry.pointer("/fieldsV1/f:data");
        fields.is_some_and(|data| data.get(format!("f:{LINKERD_KEY}")).is_some())
    });
    let times = owned.filter_map(|entry| entry.get("time")?.as_str()?.parse().ok());
    times.max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_published_value_and_when_it_last_changed() {
        let map = json!({
            "metadata": { "namespace": "linkerd", "managedFields": [
                { "time": "2026-11-22T10:00:00Z", "fieldsV1": { "f:data": { "f:ca-bundle.crt": {} } } },
                { "time": "2026-11-22T11:00:00Z", "fieldsV1": { "f:data": { "f:other": {} } } },
                { "time": "2026-11-22T09:00:00Z", "fieldsV1": { "f:data": { ".": {}, "f:ca-bundle.crt": {} } } },
            ]},
            "data": { "ca-bundle.crt": "abc" },
        });
        let found = published_roots(&map, "linkerd").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(found.sha256, abc);
        assert_eq!(
            found.changed_at.unwrap().to_string(),
            "2026-11-22T10:00:00Z"
        );
        assert_eq!(published_roots(&map, "other"), None);
        assert_eq!(
            published_roots(
                &json!({ "metadata": { "namespace": "linkerd" } }),
                "linkerd"
            ),
            None
        );
    }
}
