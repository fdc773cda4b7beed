//! Pods and service accounts in the API server's JSON: only the fields that are stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use crate::cluster::follower::Versioned;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodObject {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct AccountObject {
    pub(super) metadata: Meta,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deletion_timestamp: Option<Time>,
    #[serde(default)]
    pub(super) annotations: Option<Annotations>,
    #[serde(default)]
    pub(super) labels: Option<Labels>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "linkerd.io/trust-root-sha256")]
    pub(super) trust_root_sha256: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "linkerd.io/control-plane-ns")]
    pub(super) linkerd_namespace: Option<String>,
    #[serde(rename = "linkerd.io/control-plane-component")]
    pub(super) linkerd_component: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) service_account_name: String,
    #[serde(default)]
    pub(super) node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PodStatus {
    #[serde(default)]
    pub(super) phase: String,
}

impl Versioned for PodObject {
    fn resource_version(&self) -> Option<&str> {
        Some(&self.metadata.resource_version)
    }
}

impl Versioned for AccountObject {
    fn resource_version(&self) -> Option<&str> {
        Some(&self.metadata.resource_version)
    }
}
