//! `[linkerd_issuers.NAME]`: an issuer for Linkerd's identity controller.

use std::time::Duration;

use serde::Deserialize;

use super::names::section;
use super::require_namespace;
use crate::cluster::{ClusterConfig, is_label, is_subdomain};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::{DnsName, TrustDomain};

const HOUR: Duration = Duration::from_secs(3600);

/// `[linkerd_issuers.NAME]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLinkerdIssuer {
    /// The cluster that Linkerd's control plane runs in.
    pub cluster: String,
    /// Its namespace. Default `linkerd`.
    pub control_namespace: Option<String>,
    /// Lifetime of the issuer's certificate. Default 48h.
    #[serde(default, with = "humantime_serde")]
    pub lifetime: Option<Duration>,
    /// The secret's name. Default `linkerd-identity-issuer`.
    pub secret: Option<String>,
    /// How long the controller may take to report that it accepted a new issuer. Default 5m.
    #[serde(default, with = "humantime_serde")]
    pub acceptance_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerdIssuer {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) control_namespace: String,
    pub(super) secret: String,
    lifetime: Duration,
    acceptance_timeout: Duration,
}

impl LinkerdIssuer {
    /// The section's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The namespace of Linkerd's control plane, which has the secret.
    pub fn control_namespace(&self) -> &str {
        &self.control_namespace
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Lifetime of the issuer's certificate, which its profile and the path above it may shorten.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub fn acceptance_timeout(&self) -> Duration {
        self.acceptance_timeout
    }

    /// The name that the controller expects in its issuer; `None` when the trust domain makes no DNS
    /// name.
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

    /// The cluster must allow the namespace, and its trust domain must make a DNS name.
    pub(super) fn check_cluster(&self, cluster: &ClusterConfig) -> Result<(), ConfigIssue> {
        let at = |key: &str| format!("linkerd_issuers.{}.{key}", self.name);
        let namespace = &self.control_namespace;
        require_namespace(cluster, namespace, at("control_namespace"))?;
        let trust_domain = cluster.trust_domain();
        match self.dns_name(trust_domain) {
            Some(_) => Ok(()),
            None => {
                let problem = format_args!("identity.{namespace}.{trust_domain} is not a DNS name");
                let issue = ConfigIssue::new(at("cluster"), problem);
                Err(issue.with_fix("Linkerd needs a trust domain that makes one"))
            }
        }
    }
}

pub(super) fn issuer(name: String, raw: RawLinkerdIssuer) -> Result<LinkerdIssuer, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let key = section("linkerd_issuers", &name)?;
    let at = |part: &str| format!("{key}.{part}");
    let control_namespace = raw
        .control_namespace
        .unwrap_or_else(|| "linkerd".to_owned());
    if !is_label(&control_namespace) {
        let issue = ConfigIssue::new(at("control_namespace"), "is not the name of a namespace");
        issues.push(issue.with_fix("write one such as linkerd"));
    }
    let secret = raw
        .secret
        .unwrap_or_else(|| "linkerd-identity-issuer".to_owned());
    if !is_subdomain(&secret) {
        let issue = ConfigIssue::new(at("secret"), "is not the name of a secret");
        issues.push(issue.with_fix("Linkerd's is linkerd-identity-issuer"));
    }
    let lifetime = raw.lifetime.unwrap_or(48 * HOUR);
    issues.require(
        (HOUR..=30 * 24 * HOUR).contains(&lifetime),
        at("lifetime"),
        "must be 1h to 30d: it is renewed at half of it",
    );
    let acceptance_timeout = raw.acceptance_timeout.unwrap_or(HOUR / 12);
    issues.require(
        (Duration::from_secs(5)..=HOUR).contains(&acceptance_timeout),
        at("acceptance_timeout"),
        "must be 5s to 1h: a kubelet updates a mounted secret within about 2m",
    );
    issues.into_result(Some(LinkerdIssuer {
        name,
        cluster: raw.cluster,
        control_namespace,
        secret,
        lifetime,
        acceptance_timeout,
    }))
}
