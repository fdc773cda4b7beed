//! `[bundle_targets.NAME]`: an object that holds a trust bundle in clusters.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Selector, SelectorExt as _};

use super::raw::{Format, Kind, Preset, RawTarget};
use super::selector::{self, is_label_key, is_label_value};
use super::truststore::TruststoreKind;
use crate::cluster::is_subdomain;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::TrustDomain;

/// The ConfigMap from which Linkerd's injector and control plane read their roots.
pub(in crate::controllers) const LINKERD_ROOTS: &str = "linkerd-identity-trust-roots";
pub(in crate::controllers) const LINKERD_KEY: &str = "ca-bundle.crt";
/// The ConfigMap from which Istio's proxies read theirs; istiod writes it too, unless its CA is off.
const ISTIO_ROOTS: &str = "istio-ca-root-cert";
const ISTIO_KEY: &str = "root-cert.pem";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    name: String,
    trust_domain: TrustDomain,
    clusters: BTreeSet<String>,
    kind: TargetKind,
    object: String,
    labels: BTreeMap<String, String>,
}

/// The kind of object, with the settings of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    ConfigMap {
        key: String,
        namespaces: Selector,
        format: BundleFormat,
    },
    ClusterTrustBundle {
        signer_name: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BundleFormat {
    Pem,
    Truststore {
        kind: TruststoreKind,
        password: String,
    },
}

impl TargetConfig {
    /// The section's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(String::as_str)
    }

    pub fn is_for(&self, cluster: &str) -> bool {
        self.clusters.contains(cluster)
    }

    /// Whether it is the ConfigMap from which Linkerd reads its roots.
    pub fn holds_linkerd_roots(&self) -> bool {
        self.is_entry(LINKERD_ROOTS, LINKERD_KEY)
    }

    /// Whether it is the ConfigMap from which Istio's proxies read their roots.
    pub fn holds_istio_roots(&self) -> bool {
        self.is_entry(ISTIO_ROOTS, ISTIO_KEY)
    }

    fn is_entry(&self, object: &str, entry: &str) -> bool {
        let has_key = matches!(&self.kind, TargetKind::ConfigMap { key, .. } if key == entry);
        has_key && self.object == object
    }

    pub(super) fn kind(&self) -> &TargetKind {
        &self.kind
    }

    /// The object's name.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Kind and name, for messages.
    pub(super) fn described(&self) -> String {
        match self.kind {
            TargetKind::ConfigMap { .. } => format!("ConfigMap {}", self.object),
            TargetKind::ClusterTrustBundle { .. } => format!("ClusterTrustBundle {}", self.object),
        }
    }

    /// Whether a namespace with these labels is selected.
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match &self.kind {
            TargetKind::ConfigMap { namespaces, .. } => namespaces.matches(labels),
            TargetKind::ClusterTrustBundle { .. } => false,
        }
    }

    fn from_raw(name: &str, raw: RawTarget) -> Result<Self, ConfigIssues> {
        let at = |key: &str| format!("bundle_targets.{name}.{key}");
        let mut issues = ConfigIssues::default();
        issues.require(
            is_subdomain(name) && name.len() <= 63,
            format!("bundle_targets.{}", name.escape_default()),
            "a name must be 1 to 63 lower-case letters, digits, `-` or `.`",
        );
        let raw = raw.with_preset();
        let trust_domain = TrustDomain::parse(&raw.trust_domain)
            .map_err(|error| ConfigIssue::new(at("trust_domain"), error));
        let trust_domain = issues.collect(trust_domain);
        if raw.clusters.is_empty() {
            let issue = ConfigIssue::new(at("clusters"), "names no cluster");
            issues.push(issue.with_fix("write those of [clusters.*] that get the bundle"));
        }
        for (label, value) in &raw.labels {
            issues.require(
                is_label_key(label) && is_label_value(value),
                at("labels"),
                format_args!("`{}` is not a label", label.escape_default()),
            );
        }
        let object = raw.name.clone().ok_or_else(|| {
            let issue = ConfigIssue::new(at("name"), "is missing");
            issue.with_fix("write the object's name, or a preset")
        });
        let object = issues.collect(object);
        let kind = object.as_deref().and_then(|object| {
            issues.collect(match raw.kind.unwrap_or(Kind::ConfigMap) {
                Kind::ConfigMap => config_map(&raw, object, at),
                Kind::ClusterTrustBundle => cluster_trust_bundle(&raw, object, at),
            })
        });
        let target = || {
            Some(Self {
                name: name.to_owned(),
                trust_domain: trust_domain?,
                clusters: raw.clusters.into_iter().collect(),
                kind: kind?,
                object: object?,
                labels: raw.labels,
            })
        };
        issues.into_result(target())
    }
}

impl RawTarget {
    /// Fills in the preset's values where a key is not set.
    fn with_preset(mut self) -> Self {
        let set = |to: &mut Option<String>, value: &str| {
            to.get_or_insert_with(|| value.to_owned());
        };
        match self.preset {
            Some(Preset::Istio) => {
                set(&mut self.name, ISTIO_ROOTS);
                set(&mut self.key, ISTIO_KEY);
                let label = self.labels.entry("istio.io/config".to_owned());
                label.or_insert_with(|| "true".to_owned());
            }
            Some(Preset::Linkerd) => {
                set(&mut self.name, LINKERD_ROOTS);
                set(&mut self.key, LINKERD_KEY);
                let linkerd = "kubernetes.io/metadata.name=linkerd";
                set(&mut self.namespaces, linkerd);
            }
            None => {}
        }
        self
    }
}

fn config_map(
    raw: &RawTarget,
    object: &str,
    at: impl Fn(&str) -> String,
) -> Result<TargetKind, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    issues.require(
        is_subdomain(object),
        at("name"),
        "a ConfigMap's name is lower-case letters, digits, `-` and `.`",
    );
    if raw.signer_name.is_some() {
        let issue = ConfigIssue::new(at("signer_name"), "belongs to a ClusterTrustBundle");
        issues.push(issue.with_fix("write kind = \"cluster-trust-bundle\""));
    }
    let key = raw.key.clone().ok_or_else(|| {
        ConfigIssue::new(at("key"), "is missing").with_fix("write one such as ca-bundle.crt")
    });
    let key = issues.collect(key);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_key = |key: &String| {
        (1..=253).contains(&key.len())
            && key.bytes().all(plain)
            && key != "."
            && !key.starts_with("..")
    };
    issues.require(
        key.iter().all(is_key),
        at("key"),
        "a key is letters, digits, `-`, `_` and `.`, such as ca-bundle.crt",
    );
    let namespaces = selector::parse(raw.namespaces.as_deref().unwrap_or_default())
        .map_err(|error| ConfigIssue::new(at("namespaces"), error));
    let namespaces = issues.collect(namespaces);
    let truststore = |kind, password: Option<String>| BundleFormat::Truststore {
        kind,
        password: password.unwrap_or_else(|| "changeit".to_owned()),
    };
    let format = match (raw.format.unwrap_or(Format::Pem), raw.password.clone()) {
        (Format::Pem, None) => BundleFormat::Pem,
        (Format::Pem, Some(_)) => {
            let issue = ConfigIssue::new(at("password"), "belongs to a truststore");
            issues.push(issue.with_fix("write format = \"pkcs12\""));
            BundleFormat::Pem
        }
        (Format::Pkcs12, password) => truststore(TruststoreKind::Pkcs12, password),
        (Format::Jks, password) => truststore(TruststoreKind::Jks, password),
    };
    // Java needs six characters; other than ASCII, programs encode them differently.
    if let BundleFormat::Truststore { password, .. } = &format {
        issues.require(
            (6..=128).contains(&password.len()) && password.bytes().all(|b| b.is_ascii_graphic()),
            at("password"),
            "must be 6 to 128 visible ASCII characters, such as Java's usual changeit",
        );
    }
    let target = || {
        Some(TargetKind::ConfigMap {
            key: key?,
            namespaces: namespaces?,
            format,
        })
    };
    issues.into_result(target())
}

fn cluster_trust_bundle(
    raw: &RawTarget,
    object: &str,
    at: impl Fn(&str) -> String,
) -> Result<TargetKind, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    for (key, written) in [
        ("key", raw.key.is_some()),
        ("namespaces", raw.namespaces.is_some()),
        ("format", raw.format.is_some()),
        ("password", raw.password.is_some()),
    ] {
        issues.require(
            !written,
            at(key),
            "belongs to a ConfigMap: a ClusterTrustBundle has none",
        );
    }
    match &raw.signer_name {
        None => issues.require(
            is_subdomain(object),
            at("name"),
            "without a signer_name it is lower-case letters, digits, `-` and `.`",
        ),
        Some(signer) => {
            issues.collect(check_signer(signer, object, at));
        }
    }
    issues.into_result(Some(TargetKind::ClusterTrustBundle {
        signer_name: raw.signer_name.clone(),
    }))
}

fn check_signer(
    signer: &str,
    object: &str,
    at: impl Fn(&str) -> String,
) -> Result<(), ConfigIssue> {
    let is_signer = signer.len() <= 571
        && signer.split_once('/').is_some_and(|(domain, path)| {
            domain.contains('.') && is_subdomain(domain) && is_subdomain(path)
        });
    if !is_signer {
        let issue = ConfigIssue::new(at("signer_name"), "is not a signer's name");
        return Err(issue.with_fix("write domain/path, such as example.com/mesh"));
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match object.strip_prefix(&prefix).is_some_and(is_subdomain) {
        true => Ok(()),
        false => {
            let issue = ConfigIssue::new(at("name"), "must begin with the signer's name");
            Err(issue.with_fix(format_args!("write {prefix}bundle")))
        }
    }
}

/// Checks every target, and that no two write the same object of a cluster.
pub fn targets(raw: BTreeMap<String, RawTarget>) -> Result<Vec<TargetConfig>, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let all = check_targets(raw, &mut issues);
    issues.into_result(Some(all))
}

/// The valid targets; what is wrong with the others is added to `issues`.
pub fn check_targets(
    raw: BTreeMap<String, RawTarget>,
    issues: &mut ConfigIssues,
) -> Vec<TargetConfig> {
    let mut all = Vec::with_capacity(raw.len());
    for (name, raw) in raw {
        all.extend(issues.collect(TargetConfig::from_raw(&name, raw)));
    }
    let mut writers = BTreeMap::new();
    for target in &all {
        for cluster in target.clusters() {
            let object = target.described();
            if let Some(other) = writers.insert((cluster, object.clone()), &target.name) {
                issues.push(ConfigIssue::new(
                    format!("bundle_targets.{}.name", target.name),
                    format_args!(
                        "bundle_targets.{other} writes the {object} of cluster {cluster} too"
                    ),
                ));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
