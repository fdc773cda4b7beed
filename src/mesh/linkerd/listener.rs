//! What a listener must be like to be Linkerd's identity service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::LinkerdConfig;
use crate::authn;
use crate::cluster::ClusterConfig;
use crate::mesh::config::{Api, RawListener};
use crate::mesh::tls_config::{RawTls, TlsConfig};
use crate::x509::TrustDomain;

/// The key that is wrong, and what to write.
type Wrong = (String, String);

/// The settings of a listener that serves Linkerd; nothing for others. Fills in what follows from
/// them: the one cluster, and the name that proxies call.
pub(in crate::mesh) fn settings(
    raw: &mut RawListener,
    apis: &BTreeSet<Api>,
    clusters: &BTreeMap<String, ClusterConfig>,
) -> Result<Option<LinkerdConfig>, Wrong> {
    if !apis.contains(&Api::Linkerd) {
        return match raw.linkerd {
            Some(_) => Err(wrong(
                "linkerd",
                "is for a listener with `linkerd` in its `apis`",
            )),
            None => Ok(None),
        };
    }
    if apis.len() > 1 {
        let why = "`linkerd` needs a listener of its own: proxies speak TLS 1.3 without ALPN there, \
                   and are never asked for a certificate";
        return Err(wrong("apis", why));
    }
    if raw.client_certificates.is_some() {
        let why = "leave it out: a proxy whose certificate has expired could not come back \
                   (linkerd2 #13136); its token says who it is";
        return Err(wrong("client_certificates", why));
    }
    if !raw.operators.is_empty() {
        let why = "leave it out: only service accounts have a name in Linkerd";
        return Err(wrong("operators", why));
    }
    let config = LinkerdConfig::try_from(raw.linkerd.take().unwrap_or_default())
        .map_err(|(key, why)| (key.to_owned(), why))?;
    if let Some(name) = raw.clusters.first() {
        if raw.clusters.len() > 1 {
            let why = "name one: a proxy does not say which cluster it is in; each further one \
                       needs a listener of its own";
            return Err(wrong("clusters", why));
        }
        if let Some(cluster) = clusters.get(name) {
            speaks_for_mesh(&config, cluster)?;
        }
        raw.default_cluster.get_or_insert_with(|| name.clone());
    }
    if let Some(tls) = &mut raw.tls {
        add_service_name(&config, tls)?;
    }
    Ok(Some(config))
}

fn speaks_for_mesh(config: &LinkerdConfig, cluster: &ClusterConfig) -> Result<(), Wrong> {
    config
        .mesh(cluster.trust_domain())
        .map_err(|error| wrong("clusters", &format!("{}: {error}", cluster.name())))?;
    match cluster.callers().audience(authn::Api::Linkerd) {
        Some(_) => Ok(()),
        None => Err(wrong(
            "clusters",
            &format!(
                "the tokens of {0} do not count for linkerd; write clusters.{0}.audiences = \
                 {{ linkerd = \"identity.l5d.io\" }}",
                cluster.name()
            ),
        )),
    }
}

/// Proxies want the identity service's own name in the certificate, by whatever address they come.
fn add_service_name(config: &LinkerdConfig, tls: &mut RawTls) -> Result<(), Wrong> {
    let Some(Ok(domain)) = tls.trust_domain.as_deref().map(TrustDomain::parse) else {
        return Ok(());
    };
    let name = config
        .mesh(&domain)
        .and_then(|mesh| mesh.identity_service())
        .map_err(|error| wrong("tls.trust_domain", &error.to_string()))?
        .to_string();
    if !tls.dns.contains(&name) {
        tls.dns.push(name);
    }
    Ok(())
}

/// The listener's certificate, which only Linkerd's proxies may do without.
pub(in crate::mesh) fn tls(
    raw: Option<RawTls>,
    behind_proxy: bool,
    address: &SocketAddr,
    is_linkerd: bool,
) -> Result<TlsConfig, Wrong> {
    match raw {
        Some(_) if behind_proxy => Err(wrong(
            "behind_proxy",
            "is for a listener without `tls`: the proxy in the pod ends it",
        )),
        Some(raw) => TlsConfig::new(raw),
        None if !is_linkerd => Err(wrong(
            "tls",
            "write `trust_domain` with `dns` or `ip`, or else `certificate_file` and `key_file`",
        )),
        None if behind_proxy || address.ip().is_loopback() => Ok(TlsConfig::Plaintext),
        None => Err(wrong(
            "tls",
            "write `tls = { trust_domain = \"…\" }`; or, where Linkerd's own proxy stands before \
             this listener in the same pod, `behind_proxy = true`",
        )),
    }
}

fn wrong(key: &str, why: &str) -> Wrong {
    (key.to_owned(), why.to_owned())
}
