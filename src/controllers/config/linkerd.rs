//! `[linkerd_issuers.NAME]`: an issuer for Linkerd's own identity controller.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::names::section;
use crate::cluster::{ClusterConfig, is_label, is_subdomain};
use crate::x509::{DnsName, TrustDomain};

const HOUR: Duration = Duration::from_secs(3600);

/// `[linkerd_issuers.NAME]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLinkerdIssuer {
    /// The cluster that Linkerd's control plane runs in.
    pub cluster: String,
    /// Its namespace. Default `linkerd`.
    pub control_namespace: Option<String>,
    /// Life of the issuer's certificate. Default 48h.
    #[serde(default, with = "humantime_serde")]
    pub lifetime: Option<Duration>,
    /// The secret's name. Default `linkerd-identity-issuer`.
    pub secret: Option<String>,
    /// How long the controller may take to say that it took it. Default 5m.
    #[serde(default, with = "humantime_serde")]
    pub acceptance_timeout: Option<Duration>,
}

/// `[linkerd_issuers.NAME]`: one issuer for one identity controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerdIssuer {
    /// Its name in the configuration.
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) control_namespace: String,
    pub(super) secret: String,
    lifetime: Duration,
    acceptance_timeout: Duration,
}

impl LinkerdIssuer {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that the secret is in.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The control plane's namespace.
    pub fn control_namespace(&self) -> &str {
        &self.control_namespace
    }

    /// The secret's name.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Life of the issuer's certificate; what is above it may shorten it.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How long the controller may take to say that it took it.
    pub fn acceptance_timeout(&self) -> Duration {
        self.acceptance_timeout
    }

    /// The name that the controller verifies its issuer by; `None` when the trust domain makes no
    /// DNS name.
    pub fn dns_name(&self, trust_domain: &TrustDomain) -> Option<DnsName> {
        DnsName::parse(&format!(
            "identity.{}.{trust_domain}",
            self.control_namespace
        ))
        .ok()
    }

    pub(super) fn secret_key(&self) -> (&String, &String, &String) {
        (&self.cluster, &self.control_namespace, &self.secret)
    }

    /// What its cluster must be like.
    pub(super) fn agrees(&self, cluster: &ClusterConfig) -> Result<(), ConfigError> {
        let at = |key: &str| format!("linkerd_issuers.{}.{key}", self.name);
        if !cluster.allows_namespace(&self.control_namespace) {
            return Err(ConfigError::new(
                at("control_namespace"),
                format_args!(
                    "the cluster {0} may not speak for it; add it to clusters.{0}.namespaces",
                    self.cluster
                ),
            ));
        }
        match self.dns_name(cluster.trust_domain()) {
            Some(_) => Ok(()),
            None => Err(ConfigError::new(
                at("cluster"),
                format_args!(
                    "identity.{}.{} is no DNS name; Linkerd needs a trust domain that makes one",
                    self.control_namespace,
                    cluster.trust_domain()
                ),
            )),
        }
    }
}

pub(super) fn issuer(name: String, raw: RawLinkerdIssuer) -> Result<LinkerdIssuer, ConfigError> {
    let key = section("linkerd_issuers", &name)?;
    let at = |part: &str| format!("{key}.{part}");
    let control_namespace = raw
        .control_namespace
        .unwrap_or_else(|| "linkerd".to_owned());
    if !is_label(&control_namespace) {
        let what = "is not the name of a namespace; write one such as linkerd";
        return Err(ConfigError::new(at("control_namespace"), what));
    }
    let secret = raw
        .secret
        .unwrap_or_else(|| "linkerd-identity-issuer".to_owned());
    if !is_subdomain(&secret) {
        let what = "is not the name of a secret; Linkerd's is linkerd-identity-issuer";
        return Err(ConfigError::new(at("secret"), what));
    }
    let lifetime = raw.lifetime.unwrap_or(48 * HOUR);
    if !(HOUR..=30 * 24 * HOUR).contains(&lifetime) {
        let what = "must be 1h to 30d: it is renewed at half of it";
        return Err(ConfigError::new(at("lifetime"), what));
    }
    let acceptance_timeout = raw.acceptance_timeout.unwrap_or(HOUR / 12);
    if !(Duration::from_secs(5)..=HOUR).contains(&acceptance_timeout) {
        let what = "must be 5s to 1h; a kubelet brings a changed secret within 2m or so";
        return Err(ConfigError::new(at("acceptance_timeout"), what));
    }
    Ok(LinkerdIssuer {
        name,
        cluster: raw.cluster,
        control_namespace,
        secret,
        lifetime,
        acceptance_timeout,
    })
}
