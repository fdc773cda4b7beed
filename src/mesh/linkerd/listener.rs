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
    let mut config = LinkerdConfig::try_from(raw.linkerd.take().unwrap_or_default())
        .map_err(|(key, why)| (key.to_owned(), why))?;
    if config.writes_events() && raw.clusters.is_empty() {
        let why = "are written to the listener's cluster: name it in `clusters`";
        return Err(wrong("linkerd.events", why));
    }
    if let Some(name) = raw.clusters.first() {
        if raw.clusters.len() > 1 {
            let why = "name one: a proxy does not say which cluster it is in; each further one \
                       needs a listener of its own";
            return Err(wrong("clusters", why));
        }
        if let Some(cluster) = clusters.get(name) {
            speaks_for_mesh(&config, cluster)?;
            config = config.for_trust_domain(cluster.trust_domain());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::mesh::config::{ListenerConfig, RawListener};
    use crate::mesh::tls_config::TlsConfig;
    use crate::{authn, cluster};

    const CLUSTERS: &str = "[east]\ntrust_domain = 'td.example'\n\
        audiences = { linkerd = 'identity.l5d.io' }\n\
        [west]\ntrust_domain = 'td.example'\naudiences = { linkerd = 'identity.l5d.io' }\n\
        [istio]\ntrust_domain = 'td.example'\naudiences = { istio = 'istio-ca' }\n\
        [odd]\ntrust_domain = 'td_x'\naudiences = { linkerd = 'identity.l5d.io' }\n";

    fn parse(text: &str) -> Result<ListenerConfig, String> {
        let raw: RawListener = toml::from_str(text).map_err(|error| error.to_string())?;
        let authn = authn::Config::try_from(authn::RawConfig::default()).unwrap();
        let clusters = cluster::clusters(toml::from_str(CLUSTERS).unwrap()).unwrap();
        ListenerConfig::new("l", raw, &authn, &clusters).map_err(|error| error.to_string())
    }

    const GOOD: &str = "address = '0.0.0.0:8080'\napis = ['linkerd']\nclusters = ['east']\n";
    const TLS: &str = "tls = { trust_domain = 'td.example' }\n";

    #[test]
    fn its_certificate_has_the_services_name() {
        let listener = parse(&format!("{GOOD}{TLS}")).unwrap();
        let own = listener.tls().own().first().unwrap();
        let name = "dns:linkerd-identity.linkerd.serviceaccount.identity.linkerd.td.example";
        assert_eq!(own.names.first().unwrap().to_string(), name);
        let other = "[linkerd]\ncontrol_namespace = 'mesh'\n";
        let listener = parse(&format!("{GOOD}{TLS}{other}")).unwrap();
        let own = listener.tls().own().first().unwrap();
        let name = "dns:linkerd-identity.mesh.serviceaccount.identity.mesh.td.example";
        assert_eq!(own.names.first().unwrap().to_string(), name);
    }

    #[test]
    fn plaintext_is_chosen_in_words() {
        let loopback = GOOD.replace("0.0.0.0", "127.0.0.1");
        for text in [loopback, format!("{GOOD}behind_proxy = true\n")] {
            assert_eq!(parse(&text).unwrap().tls(), &TlsConfig::Plaintext);
        }
    }

    #[test]
    fn what_proxies_could_not_use_is_refused() {
        for (text, key) in [
            (GOOD.to_owned(), "tls"),
            (format!("{GOOD}{TLS}behind_proxy = true"), "behind_proxy"),
            (format!("{GOOD}{TLS}operators = ['a']"), "operators"),
            (
                format!("{GOOD}{TLS}client_certificates = {{ trust_domains = ['td.example'] }}"),
                "client_certificates",
            ),
            (
                format!("{GOOD}{TLS}").replace("'linkerd'", "'linkerd', 'istio'"),
                "apis",
            ),
            (
                format!("{GOOD}{TLS}").replace("'east'", "'east', 'west'"),
                "clusters",
            ),
            (format!("{GOOD}{TLS}").replace("east", "istio"), "clusters"),
            (format!("{GOOD}{TLS}").replace("east", "odd"), "clusters"),
            (format!("{GOOD}{TLS}").replace("['east']", "[]"), "jwt"),
            (
                format!("{GOOD}{TLS}[linkerd]\ncontrol_namespace = 'a.b'"),
                "linkerd.control_namespace",
            ),
            (
                format!("{GOOD}{TLS}[linkerd]\nanswer_within = '1ms'"),
                "linkerd.answer_within",
            ),
            (
                format!("{GOOD}{TLS}jwt = ['a']\n[linkerd]\nevents = true")
                    .replace("['east']", "[]"),
                "linkerd.events",
            ),
            (
                format!("{GOOD}{TLS}[linkerd]\n").replace("'linkerd'", "'istio'"),
                "linkerd",
            ),
            (
                GOOD.replace("'linkerd'", "'istio'")
                    .replace("east", "istio"),
                "tls",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(
                error.starts_with(&format!("listeners.l.{key}: ")),
                "{error}"
            );
        }
    }
}
