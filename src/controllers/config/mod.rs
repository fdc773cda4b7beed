//! `[csr_signers.*]`, `[pod_signers.*]`, `[istiod_tls.*]` and `[linkerd_issuers.*]`.

mod linkerd;
mod names;
mod permissions;
mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::ClusterConfig;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::policy::Policy;
use crate::x509::{DnsName, San, SpiffeId, TrustDomain};

pub use linkerd::{LinkerdIssuer, RawLinkerdIssuer};
pub(crate) use names::{Account, NameTemplate};
pub use raw::{RawConfig, RawCsrSigner, RawIstiodTls, RawPodSigner};

/// A pod certificate's notBefore must be within 5 min of the API server's clock; the remaining minute
/// is for clocks that differ.
const MAX_POD_BACKDATE: Duration = Duration::from_secs(240);

/// `[csr_signers.NAME]`: which CertificateSigningRequests to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrSigner {
    pub(super) name: String,
    pub(super) signer_name: String,
    pub(super) clusters: Vec<String>,
    pub(super) profile: String,
    pub(super) requesters: BTreeSet<Account>,
}

/// `[pod_signers.NAME]`: which PodCertificateRequests to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSigner {
    pub(super) name: String,
    pub(super) signer_name: String,
    pub(super) clusters: Vec<String>,
    pub(super) profile: String,
    pub(super) dns_names: Vec<NameTemplate>,
}

/// `[istiod_tls.NAME]`: one istiod's serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IstiodTls {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) revision: Option<String>,
    pub(super) secret: String,
}

impl CsrSigner {
    pub fn clusters(&self) -> &[String] {
        &self.clusters
    }
}

impl PodSigner {
    pub fn clusters(&self) -> &[String] {
        &self.clusters
    }
}

impl IstiodTls {
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `None` for the default revision.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The subject alternative names of the certificate.
    pub fn names(&self, trust_domain: &TrustDomain) -> Vec<San> {
        let account = "istiod-service-account";
        let id = SpiffeId::service_account(trust_domain, &self.namespace, account);
        let revision = self.revision.as_ref().map(|name| format!("istiod-{name}"));
        let services = std::iter::once("istiod".to_owned()).chain(revision);
        let dns = services
            .filter_map(|service| DnsName::parse(&format!("{service}.{}.svc", self.namespace)).ok())
            .map(San::Dns);
        dns.chain(id.ok().map(San::Spiffe)).collect()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(super) csr_signers: Vec<CsrSigner>,
    pub(super) pod_signers: Vec<PodSigner>,
    pub(super) istiod_tls: Vec<IstiodTls>,
    pub(super) linkerd_issuers: Vec<LinkerdIssuer>,
}

impl Config {
    pub fn csr_signers(&self) -> &[CsrSigner] {
        &self.csr_signers
    }

    pub fn pod_signers(&self) -> &[PodSigner] {
        &self.pod_signers
    }

    pub fn istiod_tls(&self) -> &[IstiodTls] {
        &self.istiod_tls
    }

    pub fn linkerd_issuers(&self) -> &[LinkerdIssuer] {
        &self.linkerd_issuers
    }

    /// Checks the references to other sections: clusters, their namespaces, and profiles.
    pub fn check_references(
        &self,
        clusters: &BTreeMap<String, ClusterConfig>,
        policy: &Policy,
        issues: &mut ConfigIssues,
    ) {
        let find_cluster = |key: String, name: &str| {
            let issue = || ConfigIssue::undefined(key, "clusters", name);
            clusters.get(name).ok_or_else(issue)
        };
        let find_profile = |key: String, name: &str| {
            let issue = || ConfigIssue::undefined(key, "profiles", name);
            policy.profile(name).ok_or_else(issue)
        };
        for signer in &self.csr_signers {
            let at = |key: &str| format!("csr_signers.{}.{key}", signer.name);
            issues.collect(find_profile(at("profile"), &signer.profile));
            for name in &signer.clusters {
                issues.collect(find_cluster(at("clusters"), name));
            }
        }
        for signer in &self.pod_signers {
            let at = |key: &str| format!("pod_signers.{}.{key}", signer.name);
            let profile = issues.collect(find_profile(at("profile"), &signer.profile));
            if profile.is_some_and(|profile| profile.backdate() > MAX_POD_BACKDATE) {
                let problem = "API servers accept a pod certificate only if its notBefore is within \
                               5m of their own clock";
                let name = &signer.profile;
                let fix = format_args!("write a `backdate` of at most 4m in [profiles.{name}]");
                issues.push(ConfigIssue::new(at("profile"), problem).with_fix(fix));
            }
            for name in &signer.clusters {
                issues.collect(find_cluster(at("clusters"), name));
            }
        }
        for istiod in &self.istiod_tls {
            let at = |key: &str| format!("istiod_tls.{}.{key}", istiod.name);
            let cluster = issues.collect(find_cluster(at("cluster"), &istiod.cluster));
            if let Some(cluster) = cluster {
                let namespace = &istiod.namespace;
                issues.collect(require_namespace(cluster, namespace, at("namespace")));
            }
        }
        for issuer in &self.linkerd_issuers {
            let at = |key: &str| format!("linkerd_issuers.{}.{key}", issuer.name);
            let cluster = issues.collect(find_cluster(at("cluster"), &issuer.cluster));
            if let Some(cluster) = cluster {
                issues.collect(issuer.check_cluster(cluster));
            }
        }
    }
}

fn require_namespace(
    cluster: &ClusterConfig,
    namespace: &str,
    key: String,
) -> Result<(), ConfigIssue> {
    match cluster.allows_namespace(namespace) {
        true => Ok(()),
        false => {
            let name = cluster.name();
            let problem = format_args!("[clusters.{name}] does not allow this namespace");
            let fix = format_args!("add it to clusters.{name}.namespaces");
            Err(ConfigIssue::new(key, problem).with_fix(fix))
        }
    }
}

#[cfg(test)]
mod tests;
