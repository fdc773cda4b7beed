//! The whole file, section by section, before it is checked.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::log::RawLog;
use super::sections::{RawInstance, RawLedger};
use crate::controllers::publisher;
use crate::{
    admin, authn, cluster, controllers, federation, hsm, issuance, mesh, policy, rotation, upstream,
};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// `[instance]`.
    #[serde(default)]
    pub instance: RawInstance,
    /// `[ledger]`.
    pub ledger: RawLedger,
    /// `[hsm]`.
    pub hsm: hsm::RawConfig,
    /// `[listeners.*]`.
    #[serde(default)]
    pub listeners: BTreeMap<String, mesh::RawListener>,
    /// `[jwt.*]`.
    #[serde(default)]
    pub jwt: BTreeMap<String, authn::RawJwtConfig>,
    /// `[clusters.*]`.
    #[serde(default)]
    pub clusters: BTreeMap<String, cluster::RawCluster>,
    /// `[bundle_targets.*]`.
    #[serde(default)]
    pub bundle_targets: BTreeMap<String, publisher::RawTarget>,
    /// `[publisher]`.
    #[serde(default)]
    pub publisher: publisher::RawPublisher,
    /// `[rotation]`.
    #[serde(default)]
    pub rotation: rotation::RawConfig,
    /// `[watchers.*]`.
    #[serde(default)]
    pub watchers: BTreeMap<String, rotation::RawWatcher>,
    /// `[csr_signers.*]`.
    #[serde(default)]
    pub csr_signers: BTreeMap<String, controllers::RawCsrSigner>,
    /// `[pod_signers.*]`.
    #[serde(default)]
    pub pod_signers: BTreeMap<String, controllers::RawPodSigner>,
    /// `[istiod_tls.*]`.
    #[serde(default)]
    pub istiod_tls: BTreeMap<String, controllers::RawIstiodTls>,
    /// `[linkerd_issuers.*]`.
    #[serde(default)]
    pub linkerd_issuers: BTreeMap<String, controllers::RawLinkerdIssuer>,
    /// `[upstream.*]`.
    #[serde(default)]
    pub upstream: BTreeMap<String, upstream::RawUpstream>,
    /// `[authority.*]`.
    #[serde(default)]
    pub authority: BTreeMap<String, upstream::RawAuthority>,
    /// `[operators.*]`.
    #[serde(default)]
    pub operators: BTreeMap<String, authn::RawOperatorConfig>,
    /// `[profiles.*]`.
    #[serde(default)]
    pub profiles: BTreeMap<String, policy::RawProfile>,
    /// `[admission]`.
    #[serde(default)]
    pub admission: issuance::RawAdmission,
    /// `[policy]`.
    #[serde(default)]
    pub policy: policy::RawPolicy,
    /// `[istio]`.
    #[serde(default)]
    pub istio: mesh::RawIstio,
    /// `[federation.*]`.
    #[serde(default)]
    pub federation: BTreeMap<String, federation::RawFederation>,
    /// `[vault]`.
    #[serde(default)]
    pub vault: mesh::RawVault,
    /// `[admin]`.
    #[serde(default)]
    pub admin: admin::RawConfig,
    /// `[log]`.
    #[serde(default)]
    pub log: RawLog,
}
