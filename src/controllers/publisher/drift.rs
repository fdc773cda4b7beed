//! Where a cluster's objects differ from the bundle, for `rootbridge check`: read from the cluster,
//! whichever server publishes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::config::PublisherConfig;
use super::target::{TargetConfig, TargetKind};
use crate::cluster::{ClusterConfig, Collection, Inspector, Permission};

const BUNDLES: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";
const OLDER_BUNDLES: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";

/// The differences of one target in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The number of objects that the target is to have.
    pub desired: usize,
    /// `NAMESPACE: missing` or `NAMESPACE: another bundle`; without the namespace for a cluster-scoped
    /// object.
    pub mismatches: Vec<String>,
}

impl TargetConfig {
    /// Compares `cluster` with a bundle in PEM.
    ///
    /// # Errors
    /// What the API server answered instead.
    pub async fn drift(
        &self,
        cluster: &ClusterConfig,
        inspector: &Inspector,
        pem: &str,
    ) -> Result<Drift, String> {
        let named =
            |path: &str| Collection::new(path).fields(format!("metadata.name={}", self.object()));
        let TargetKind::ConfigMap { key, .. } = self.kind() else {
            let mut found = list(inspector, named(BUNDLES)).await;
            if found.is_err() {
                found = list(inspector, named(OLDER_BUNDLES)).await;
            }
            let found = found?;
            let held = found
                .first()
                .map(|object| text(object, "/spec/trustBundle"));
            let mismatches = differs(held, pem);
            return Ok(Drift {
                desired: 1,
                mismatches: mismatches.into_iter().map(str::to_owned).collect(),
            });
        };
        let namespaces = self.namespaces(cluster, inspector).await?;
        let maps = list(inspector, named("/api/v1/configmaps")).await?;
        let held: BTreeMap<&str, Option<&str>> = maps
            .iter()
            .filter_map(|map| {
                let value = map.get("data").and_then(|data| data.get(key));
                Some((
                    text(map, "/metadata/namespace")?,
                    value.and_then(Value::as_str),
                ))
            })
            .collect();
        let mismatches = namespaces.iter().filter_map(|namespace| {
            let why = differs(held.get(namespace.as_str()).copied(), pem)?;
            Some(format!("{namespace}: {why}"))
        });
        Ok(Drift {
            desired: namespaces.len(),
            mismatches: mismatches.collect(),
        })
    }

    /// The namespaces of `cluster` that the target selects.
    ///
    /// # Errors
    /// What the API server answered instead.
    pub(in crate::controllers) async fn namespaces(
        &self,
        cluster: &ClusterConfig,
        inspector: &Inspector,
    ) -> Result<BTreeSet<String>, String> {
        let all = list(inspector, Collection::new("/api/v1/namespaces")).await?;
        let chosen = all
            .iter()
            .filter(|each| text(each, "/status/phase") != Some("Terminating"))
            .filter(|each| self.selects(&labels(each)))
            .filter_map(|each| text(each, "/metadata/name").map(str::to_owned))
            .filter(|name| cluster.allows_namespace(name));
        Ok(chosen.collect())
    }

    /// The RBAC permissions that publishing to a cluster needs.
    pub fn permissions(&self, publisher: &PublisherConfig) -> Vec<Permission> {
        let why = format!("bundle_targets.{}", self.name());
        let (group, resource) = match self.kind() {
            TargetKind::ConfigMap { .. } => ("", "configmaps"),
            TargetKind::ClusterTrustBundle { .. } => ("certificates.k8s.io", "clustertrustbundles"),
        };
        let object = ["list", "watch", "create", "patch"]
            .map(|verb| Permission::new(verb, group, resource, why.clone()).named(self.object()));
        let mut permissions = object.to_vec();
        match self.kind() {
            TargetKind::ConfigMap { .. } => {
                permissions.extend(
                    ["list", "watch"]
                        .map(|verb| Permission::new(verb, "", "namespaces", why.clone())),
                );
            }
            TargetKind::ClusterTrustBundle { signer_name } => {
                permissions.extend(signer_name.iter().map(|signer| {
                    Permission::new("attest", "certificates.k8s.io", "signers", why.clone())
                        .named(signer)
                }));
            }
        }
        if self.holds_linkerd_roots() {
            let why = format!("{why} (`rootbridge linkerd status`)");
            permissions.push(Permission::new("list", "", "pods", why));
        }
        let lease = |verb| {
            Permission::new(verb, "coordination.k8s.io", "leases", why.clone())
                .within(publisher.lease_namespace())
        };
        permissions.push(lease("create"));
        permissions.extend(["get", "update"].map(|verb| lease(verb).named(publisher.lease_name())));
        permissions
    }
}

/// `held` is `None` without an object, and `Some(None)` for an object without the key.
fn differs(held: Option<Option<&str>>, pem: &str) -> Option<&'static str> {
    match held {
        None => Some("missing"),
        Some(Some(held)) if held == pem => None,
        Some(_) => Some("another bundle"),
    }
}

async fn list(inspector: &Inspector, collection: Collection) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    inspector
        .for_each(collection, |object| all.push(object))
        .await?;
    Ok(all)
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str)
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_different_objects_are_distinguished() {
        assert_eq!(differs(None, "a"), Some("missing"));
        assert_eq!(differs(Some(None), "a"), Some("another bundle"));
        assert_eq!(differs(Some(Some("b")), "a"), Some("another bundle"));
        assert_eq!(differs(Some(Some("a")), "a"), None);
    }
}
