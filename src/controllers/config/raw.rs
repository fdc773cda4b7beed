//! The sections as they are written, and what each value must be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::linkerd::{self, RawLinkerdIssuer};
use super::names::{Account, NameTemplate, section};
use super::{Config, ConfigError, CsrSigner, IstiodTls, PodSigner};
use crate::cluster::{is_label, is_subdomain};

/// `[csr_signers.NAME]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCsrSigner {
    /// The `spec.signerName` that is answered: `domain/name`.
    pub signer_name: String,
    /// The clusters whose requests are signed.
    pub clusters: Vec<String>,
    /// The profile of the certificates.
    pub profile: String,
    /// The service accounts whose requests are signed: `namespace/name`.
    pub requesters: Vec<String>,
}

/// `[pod_signers.NAME]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPodSigner {
    /// The `spec.signerName` that is answered: `domain/name`.
    pub signer_name: String,
    /// The clusters whose requests are signed.
    pub clusters: Vec<String>,
    /// The profile of the certificates.
    pub profile: String,
    /// DNS names beside the SPIFFE ID, with `{account}` and `{namespace}`.
    #[serde(default)]
    pub dns_names: Vec<String>,
}

/// `[istiod_tls.NAME]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIstiodTls {
    /// The cluster that istiod runs in.
    pub cluster: String,
    /// Its namespace. Default `istio-system`.
    pub namespace: Option<String>,
    /// Its revision, where it has one.
    pub revision: Option<String>,
    /// The secret's name. Default `istiod-tls`.
    pub secret: Option<String>,
}

/// The sections together.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// `[csr_signers.*]`.
    pub csr_signers: BTreeMap<String, RawCsrSigner>,
    /// `[pod_signers.*]`.
    pub pod_signers: BTreeMap<String, RawPodSigner>,
    /// `[istiod_tls.*]`.
    pub istiod_tls: BTreeMap<String, RawIstiodTls>,
    /// `[linkerd_issuers.*]`.
    pub linkerd_issuers: BTreeMap<String, RawLinkerdIssuer>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut taken = BTreeSet::new();
        for (name, raw) in raw.csr_signers {
            let key = section("csr_signers", &name)?;
            signer(&key, &raw.signer_name, &raw.clusters, &mut taken)?;
            config.csr_signers.push(CsrSigner {
                requesters: accounts(&format!("{key}.requesters"), &raw.requesters)?,
                signer_name: raw.signer_name,
                clusters: raw.clusters,
                profile: raw.profile,
                name,
            });
        }
        let mut taken = BTreeSet::new();
        for (name, raw) in raw.pod_signers {
            let key = section("pod_signers", &name)?;
            signer(&key, &raw.signer_name, &raw.clusters, &mut taken)?;
            let templates = raw.dns_names.iter().map(|text| NameTemplate::parse(text));
            let templates = templates
                .collect::<Result<_, _>>()
                .map_err(|why| ConfigError::new(format!("{key}.dns_names"), why))?;
            config.pod_signers.push(PodSigner {
                dns_names: templates,
                signer_name: raw.signer_name,
                clusters: raw.clusters,
                profile: raw.profile,
                name,
            });
        }
        let mut taken = BTreeSet::new();
        for (name, raw) in raw.istiod_tls {
            let istiod = istiod(name, raw)?;
            let key = (
                istiod.cluster.clone(),
                istiod.namespace.clone(),
                istiod.secret.clone(),
            );
            if !taken.insert(key) {
                return Err(ConfigError::new(
                    format!("istiod_tls.{}.secret", istiod.name),
                    "another [istiod_tls.*] writes the same secret",
                ));
            }
            config.istiod_tls.push(istiod);
        }
        for (name, raw) in raw.linkerd_issuers {
            let issuer = linkerd::issuer(name, raw)?;
            let (cluster, namespace, secret) = issuer.secret_key();
            let key = (cluster.clone(), namespace.clone(), secret.clone());
            if !taken.insert(key) {
                return Err(ConfigError::new(
                    format!("linkerd_issuers.{}.secret", issuer.name),
                    "another section writes the same secret",
                ));
            }
            config.linkerd_issuers.push(issuer);
        }
        Ok(config)
    }
}

fn istiod(name: String, raw: RawIstiodTls) -> Result<IstiodTls, ConfigError> {
    let key = section("istiod_tls", &name)?;
    let namespace = raw.namespace.unwrap_or_else(|| "istio-system".to_owned());
    if !is_label(&namespace) {
        let what = "is not the name of a namespace";
        return Err(ConfigError::new(format!("{key}.namespace"), what));
    }
    // Within the first label of a DNS name, after `istiod-`.
    if raw
        .revision
        .as_ref()
        .is_some_and(|r| !is_label(&format!("istiod-{r}")))
    {
        return Err(ConfigError::new(
            format!("{key}.revision"),
            "is not a revision's name; write lower-case letters, digits and `-`, such as 1-28-0",
        ));
    }
    let secret = raw.secret.unwrap_or_else(|| "istiod-tls".to_owned());
    if !is_subdomain(&secret) {
        let what = "is not the name of a secret";
        return Err(ConfigError::new(format!("{key}.secret"), what));
    }
    Ok(IstiodTls {
        name,
        cluster: raw.cluster,
        namespace,
        revision: raw.revision,
        secret,
    })
}

/// Two that answer the same requests would race.
fn signer(
    key: &str,
    signer_name: &str,
    clusters: &[String],
    taken: &mut BTreeSet<(String, String)>,
) -> Result<(), ConfigError> {
    let at = |part: &str| format!("{key}.{part}");
    let fits = signer_name
        .split_once('/')
        .is_some_and(|(domain, name)| is_subdomain(domain) && is_path(name));
    if !fits {
        return Err(ConfigError::new(
            at("signer_name"),
            "is not a signer's name; write `domain/name`, such as rootbridge.example/mesh",
        ));
    }
    if signer_name.starts_with("kubernetes.io/") {
        return Err(ConfigError::new(
            at("signer_name"),
            "kubernetes.io is Kubernetes' own; write a domain of yours",
        ));
    }
    if clusters.is_empty() {
        let what = "an empty list answers nobody; leave the section out instead";
        return Err(ConfigError::new(at("clusters"), what));
    }
    for cluster in clusters {
        if !taken.insert((cluster.clone(), signer_name.to_owned())) {
            return Err(ConfigError::new(
                at("signer_name"),
                format_args!("`{signer_name}` is answered twice in the cluster {cluster}"),
            ));
        }
    }
    Ok(())
}

fn is_path(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.split('.').all(is_label)
}

fn accounts(key: &str, written: &[String]) -> Result<BTreeSet<Account>, ConfigError> {
    if written.is_empty() {
        let what = "an empty list trusts nobody; write accounts such as istio-system/istiod";
        return Err(ConfigError::new(key, what));
    }
    let parse = |text: &String| {
        Account::parse(text).ok_or_else(|| {
            let what = "is not an account; write `namespace/name`, such as istio-system/istiod";
            ConfigError::new(key, format_args!("\"{}\" {what}", text.escape_default()))
        })
    };
    written.iter().map(parse).collect()
}
