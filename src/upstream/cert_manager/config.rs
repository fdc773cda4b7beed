//! The section of a cert-manager.

use std::time::Duration;

use super::object::{GROUP, IssuerRef};
use crate::cluster::{ClusterConfig, Permission, is_label, is_subdomain};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::upstream::raw::{RawUpstream, required};

/// `kind = "cert-manager"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct CertManagerConfig {
    pub(super) cluster: String,
    /// Once it is known that there is one of that name.
    pub(super) target: Option<ClusterConfig>,
    pub(super) namespace: String,
    pub(super) issuer: IssuerRef,
    pub(super) timeout: Duration,
}

impl CertManagerConfig {
    pub(in crate::upstream) fn from_raw(
        raw: &mut RawUpstream,
        timeout: Duration,
    ) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let cluster = issues.collect(required(raw.cluster.take(), "cluster"));
        let namespace = issues.collect(required(raw.namespace.take(), "namespace"));
        let name = issues.collect(required(raw.issuer.take(), "issuer"));
        let kind = raw
            .issuer_kind
            .take()
            .unwrap_or_else(|| "Issuer".to_owned());
        let group = raw.issuer_group.take().unwrap_or_else(|| GROUP.to_owned());
        for (key, value, fits) in [
            ("namespace", &namespace, is_label as fn(&str) -> bool),
            ("issuer", &name, is_subdomain),
            ("issuer_group", &Some(group.clone()), is_subdomain),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !fits(value)) {
                let problem = format_args!("{value:?} is no name in a cluster");
                issues.push(ConfigIssue::new(key, problem));
            }
        }
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.chars().all(|c| c.is_ascii_alphanumeric());
        issues.require(
            is_kind,
            "issuer_kind",
            "is no kind, such as Issuer or ClusterIssuer",
        );
        let value = || {
            Some(Self {
                cluster: cluster?,
                target: None,
                namespace: namespace?,
                issuer: IssuerRef {
                    name: name?,
                    kind,
                    group,
                },
                timeout,
            })
        };
        issues.into_result(value())
    }

    pub(in crate::upstream) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(in crate::upstream) fn set_target(&mut self, target: &ClusterConfig) {
        self.target = Some(target.clone());
    }

    pub(in crate::upstream) fn permissions(&self, why: &str) -> [Permission; 2] {
        ["create", "get"].map(|verb| {
            Permission::new(verb, GROUP, "certificaterequests", why).within(&self.namespace)
        })
    }

    /// Of the collection of requests.
    pub(super) fn path(&self) -> String {
        format!(
            "/apis/{GROUP}/v1/namespaces/{}/certificaterequests",
            self.namespace
        )
    }
}
