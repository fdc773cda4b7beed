//! Where a cluster's objects differ from the bundle, for `rootbridge check`: read from the cluster,
//! whichever server publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::core::DynamicObject;
use serde_json::Value;

use super::config::PublisherConfig;
use super::desired::{Desired, observe};
use super::target::{TargetConfig, TargetKind};
use crate::cluster::{ClusterConfig, Collection, Inspector, Permission};
use crate::trust::PublishedBundle;
use crate::x509::TrustBundle;

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
    /// Compares `cluster` with a bundle, by the rule of the publisher.
    ///
    /// # Errors
    /// What the API server answered instead, or why the bundle cannot be published.
    pub async fn drift(
        &self,
        cluster: &ClusterConfig,
        inspector: &Inspector,
        bundle: TrustBundle,
    ) -> Result<Drift, String> {
        let desired = Desired::new(&Arc::new(PublishedBundle::new(bundle)), self)?;
        let named =
            |path: &str| Collection::new(path).fields(format!("metadata.name={}", self.object()));
        let TargetKind::ConfigMap { .. } = self.kind() else {
            let mut found = list(inspector, named(BUNDLES)).await;
            if found.is_err() {
                found = list(inspector, named(OLDER_BUNDLES)).await;
            }
            let mismatch = self.mismatch(&desired, found?.into_iter().next())?;
            return Ok(Drift {
                desired: 1,
                mismatches: mismatch.into_iter().map(str::to_owned).collect(),
            });
        };
        let namespaces = self.namespaces(cluster, inspector).await?;
        let maps = list(inspector, named("/api/v1/configmaps")).await?;
        let mut maps: BTreeMap<String, Value> = maps
            .into_iter()
            .filter_map(|map| Some((text(&map, "/metadata/namespace")?.to_owned(), map)))
            .collect();
        let mut mismatches = Vec::new();
        for namespace in &namespaces {
            if let Some(why) = self.mismatch(&desired, maps.remove(namespace))? {
                mismatches.push(format!("{namespace}: {why}"));
            }
        }
        Ok(Drift {
            desired: namespaces.len(),
            mismatches,
        })
    }

    /// How an object differs from what it is to be.
    fn mismatch(
        &self,
        desired: &Desired,
        object: Option<Value>,
    ) -> Result<Option<&'static str>, String> {
        let Some(object) = object else {
            return Ok(Some("missing"));
        };
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| error.to_string())?;
        let observed = observe(self, &object);
        Ok(match desired.is_in(&observed) {
            true => None,
            false if observed.labels_match => Some("another bundle"),
            false => Some("without the labels of the target"),
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
