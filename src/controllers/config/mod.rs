//! `[csr_signers.*]`, `[pod_signers.*]` and `[istiod_tls.*]` and
//! `[linkerd_issuers.*]`.

mod linkerd;
mod names;
mod permissions;
mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::cluster::ClusterConfig;
use crate::policy::Policy;
use crate::x509::{DnsName, San, SpiffeId, TrustDomain};

pub use linkerd::{LinkerdIssuer, RawLinkerdIssuer};
pub(crate) use names::{Account, NameTemplate};
pub use raw::{RawConfig, RawCsrSigner, RawIstiodTls, RawPodSigner};

/// A pod certificate's notBefore must be within 5 min of the API server's clock; the rest of that
/// is for clocks that differ.
const MAX_POD_BACKDATE: Duration = Duration::from_secs(240);

/// A configuration that cannot stand: which key, and what is wrong with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    key: String,
    problem: String,
}

impl ConfigError {
    pub(in crate::controllers) fn new(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}

/// `[csr_signers.NAME]`: which CertificateSigningRequests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrSigner {
    /// Its name in the configuration.
    pub(super) name: String,
    pub(super) signer_name: String,
    pub(super) clusters: Vec<String>,
    pub(super) profile: String,
    pub(super) requesters: BTreeSet<Account>,
}

/// `[pod_signers.NAME]`: which PodCertificateRequests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSigner {
    /// Its name in the configuration.
    pub(super) name: String,
    pub(super) signer_name: String,
    pub(super) clusters: Vec<String>,
    pub(super) profile: String,
    pub(super) dns_names: Vec<NameTemplate>,
}

/// `[istiod_tls.NAME]`: one istiod's serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IstiodTls {
    /// Its name in the configuration.
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) revision: Option<String>,
    pub(super) secret: String,
}

impl CsrSigner {
    /// The clusters whose requests are signed.
    pub fn clusters(&self) -> &[String] {
        &self.clusters
    }
}

impl PodSigner {
    /// The clusters whose requests are signed.
    pub fn clusters(&self) -> &[String] {
        &self.clusters
    }
}

impl IstiodTls {
    /// The cluster that the secret is in.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// istiod's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its revision, where it is not the default one.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The names of the certificate, in a trust domain.
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

/// Everything that is done in clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(super) csr_signers: Vec<CsrSigner>,
    pub(super) pod_signers: Vec<PodSigner>,
    pub(super) istiod_tls: Vec<IstiodTls>,
    pub(super) linkerd_issuers: Vec<LinkerdIssuer>,
}

impl Config {
    /// `[csr_signers.*]`, by name.
    pub fn csr_signers(&self) -> &[CsrSigner] {
        &self.csr_signers
    }

    /// `[pod_signers.*]`, by name.
    pub fn pod_signers(&self) -> &[PodSigner] {
        &self.pod_signers
    }

    /// `[istiod_tls.*]`, by name.
    pub fn istiod_tls(&self) -> &[IstiodTls] {
        &self.istiod_tls
    }

    /// `[linkerd_issuers.*]`, by name.
    pub fn linkerd_issuers(&self) -> &[LinkerdIssuer] {
        &self.linkerd_issuers
    }

    /// Checks what is named elsewhere: clusters, their namespaces, and profiles.
    ///
    /// # Errors
    /// The first key whose value cannot stand.
    pub fn agrees(
        &self,
        clusters: &BTreeMap<String, ClusterConfig>,
        policy: &Policy,
    ) -> Result<(), ConfigError> {
        let known = |key: &str, name: &String| match clusters.get(name) {
            Some(cluster) => Ok(cluster),
            None => Err(ConfigError::new(
                key,
                format_args!("there is no [clusters.{name}]"),
            )),
        };
        let profile = |key: &str, name: &str| {
            policy.profile(name).ok_or_else(|| {
                let what = format!("no profile is called `{name}`; add [profiles.{name}]");
                ConfigError::new(key, what)
            })
        };
        for signer in &self.csr_signers {
            let at = |key: &str| format!("csr_signers.{}.{key}", signer.name);
            profile(&at("profile"), &signer.profile)?;
            for name in &signer.clusters {
                known(&at("clusters"), name)?;
            }
        }
        for signer in &self.pod_signers {
            let at = |key: &str| format!("pod_signers.{}.{key}", signer.name);
            if profile(&at("profile"), &signer.profile)?.backdate() > MAX_POD_BACKDATE {
                return Err(ConfigError::new(
                    at("profile"),
                    format_args!(
                        "API servers take pod certificates that begin within 5m of their own clock; \
                         write a `backdate` of at most 4m in [profiles.{}]",
                        signer.profile
                    ),
                ));
            }
            for name in &signer.clusters {
                known(&at("clusters"), name)?;
            }
        }
        for istiod in &self.istiod_tls {
            let at = |key: &str| format!("istiod_tls.{}.{key}", istiod.name);
            let cluster = known(&at("cluster"), &istiod.cluster)?;
            if !cluster.allows_namespace(&istiod.namespace) {
                return Err(ConfigError::new(
                    at("namespace"),
                    format_args!(
                        "the cluster {0} may not speak for it; add it to clusters.{0}.namespaces",
                        istiod.cluster
                    ),
                ));
            }
        }
        for issuer in &self.linkerd_issuers {
            let at = |key: &str| format!("linkerd_issuers.{}.{key}", issuer.name);
            let cluster = known(&at("cluster"), &issuer.cluster)?;
            issuer.agrees(cluster)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
