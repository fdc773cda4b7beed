//! The sections as in the file, and the checks of their values.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::linkerd::{self, RawLinkerdIssuer};
use super::names::{Account, NameTemplate, section};
use super::{Config, CsrSigner, IstiodTls, PodSigner};
use crate::cluster::{is_label, is_subdomain};
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[csr_signers.NAME]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCsrSigner {
    /// The `spec.signerName` to answer: `domain/name`.
    pub signer_name: String,
    pub clusters: Vec<String>,
    pub profile: String,
    /// The service accounts whose requests to sign: `namespace/name`.
    pub requesters: Vec<String>,
}

/// `[pod_signers.NAME]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPodSigner {
    /// The `spec.signerName` to answer: `domain/name`.
    pub signer_name: String,
    pub clusters: Vec<String>,
    pub profile: String,
    /// DNS names besides the SPIFFE ID, with `{account}` and `{namespace}`.
    #[serde(default)]
    pub dns_names: Vec<String>,
}

/// `[istiod_tls.NAME]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIstiodTls {
    pub cluster: String,
    /// istiod's namespace. Default `istio-system`.
    pub namespace: Option<String>,
    /// istiod's revision. Default: none.
    pub revision: Option<String>,
    /// The secret's name. Default `istiod-tls`.
    pub secret: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    pub csr_signers: BTreeMap<String, RawCsrSigner>,
    pub pod_signers: BTreeMap<String, RawPodSigner>,
    pub istiod_tls: BTreeMap<String, RawIstiodTls>,
    pub linkerd_issuers: BTreeMap<String, RawLinkerdIssuer>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let config = Self::check(raw, &mut issues);
        issues.into_result(Some(config))
    }
}

impl Config {
    /// The valid sections; what is wrong with the others is added to `issues`.
    pub fn check(raw: RawConfig, issues: &mut ConfigIssues) -> Self {
        let mut config = Self::default();
        let mut signed = BTreeSet::new();
        for (name, raw) in raw.csr_signers {
            let signer = csr_signer(name, raw, &mut signed);
            config.csr_signers.extend(issues.collect(signer));
        }
        let mut signed = BTreeSet::new();
        for (name, raw) in raw.pod_signers {
            let signer = pod_signer(name, raw, &mut signed);
            config.pod_signers.extend(issues.collect(signer));
        }
        let mut secrets = BTreeSet::new();
        for (name, raw) in raw.istiod_tls {
            let Some(istiod) = issues.collect(istiod(name, raw)) else {
                continue;
            };
            let secret = (
                istiod.cluster.clone(),
                istiod.namespace.clone(),
                istiod.secret.clone(),
            );
            issues.require(
                secrets.insert(secret),
                format!("istiod_tls.{}.secret", istiod.name),
                "another [istiod_tls.*] writes the same secret",
            );
            config.istiod_tls.push(istiod);
        }
        for (name, raw) in raw.linkerd_issuers {
            let Some(issuer) = issues.collect(linkerd::issuer(name, raw)) else {
                continue;
            };
            let (cluster, namespace, secret) = issuer.secret_key();
            let secret = (cluster.clone(), namespace.clone(), secret.clone());
            issues.require(
                secrets.insert(secret),
                format!("linkerd_issuers.{}.secret", issuer.name),
                "another section writes the same secret",
            );
            config.linkerd_issuers.push(issuer);
        }
        config
    }
}

/// Signer names that a section has in a cluster: two sections for the same requests would race.
type SignedIn = BTreeSet<(String, String)>;

fn csr_signer(
    name: String,
    raw: RawCsrSigner,
    signed: &mut SignedIn,
) -> Result<CsrSigner, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let key = section("csr_signers", &name)?;
    issues.collect(check_signer(&key, &raw.signer_name, &raw.clusters, signed));
    let requesters = accounts(&format!("{key}.requesters"), &raw.requesters);
    let requesters = issues.collect(requesters);
    issues.into_result(requesters.map(|requesters| CsrSigner {
        requesters,
        signer_name: raw.signer_name,
        clusters: raw.clusters,
        profile: raw.profile,
        name,
    }))
}

fn pod_signer(
    name: String,
    raw: RawPodSigner,
    signed: &mut SignedIn,
) -> Result<PodSigner, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let key = section("pod_signers", &name)?;
    issues.collect(check_signer(&key, &raw.signer_name, &raw.clusters, signed));
    let mut dns_names = Vec::with_capacity(raw.dns_names.len());
    for text in &raw.dns_names {
        let template = NameTemplate::parse(&format!("{key}.dns_names"), text);
        dns_names.extend(issues.collect(template));
    }
    issues.into_result(Some(PodSigner {
        dns_names,
        signer_name: raw.signer_name,
        clusters: raw.clusters,
        profile: raw.profile,
        name,
    }))
}

fn istiod(name: String, raw: RawIstiodTls) -> Result<IstiodTls, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let key = section("istiod_tls", &name)?;
    let namespace = raw.namespace.unwrap_or_else(|| "istio-system".to_owned());
    issues.require(
        is_label(&namespace),
        format!("{key}.namespace"),
        "is not the name of a namespace",
    );
    // Part of the first label of a DNS name, after `istiod-`.
    let is_revision = |revision: &String| is_label(&format!("istiod-{revision}"));
    if !raw.revision.iter().all(is_revision) {
        let fix = "write lower-case letters, digits and `-`, such as 1-28-0";
        let issue = ConfigIssue::new(format!("{key}.revision"), "is not a revision's name");
        issues.push(issue.with_fix(fix));
    }
    let secret = raw.secret.unwrap_or_else(|| "istiod-tls".to_owned());
    issues.require(
        is_subdomain(&secret),
        format!("{key}.secret"),
        "is not the name of a secret",
    );
    issues.into_result(Some(IstiodTls {
        name,
        cluster: raw.cluster,
        namespace,
        revision: raw.revision,
        secret,
    }))
}

fn check_signer(
    key: &str,
    signer_name: &str,
    clusters: &[String],
    signed: &mut SignedIn,
) -> Result<(), ConfigIssues> {
    let at = |part: &str| format!("{key}.{part}");
    let mut issues = ConfigIssues::default();
    let fits = signer_name
        .split_once('/')
        .is_some_and(|(domain, name)| is_subdomain(domain) && is_path(name));
    if !fits {
        let issue = ConfigIssue::new(at("signer_name"), "is not a signer's name");
        issues.push(issue.with_fix("write `domain/name`, such as rootbridge.example/mesh"));
    }
    if signer_name.starts_with("kubernetes.io/") {
        let issue = ConfigIssue::new(at("signer_name"), "kubernetes.io is Kubernetes' own");
        issues.push(issue.with_fix("write a domain of yours"));
    }
    if clusters.is_empty() {
        let issue = ConfigIssue::new(at("clusters"), "an empty list signs no requests");
        issues.push(issue.with_fix("leave the section out instead"));
    }
    for cluster in clusters {
        issues.require(
            signed.insert((cluster.clone(), signer_name.to_owned())),
            at("signer_name"),
            format_args!("two sections sign for `{signer_name}` in the cluster {cluster}"),
        );
    }
    issues.into_result(Some(()))
}

fn is_path(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.split('.').all(is_label)
}

fn accounts(key: &str, written: &[String]) -> Result<BTreeSet<Account>, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    if written.is_empty() {
        let issue = ConfigIssue::new(key, "an empty list trusts no account");
        issues.push(issue.with_fix("write accounts such as istio-system/istiod"));
    }
    let mut accounts = BTreeSet::new();
    for text in written {
        let account = Account::parse(text).ok_or_else(|| {
            let problem = format_args!("\"{}\" is not an account", text.escape_default());
            ConfigIssue::new(key, problem)
                .with_fix("write `namespace/name`, such as istio-system/istiod")
        });
        accounts.extend(issues.collect(account));
    }
    issues.into_result(Some(accounts))
}
