//! Requirements of a listener that is Linkerd's identity service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::raw::{Api, RawListener};
use super::tls::{RawTls, TlsConfig};
use crate::authn;
use crate::cluster::ClusterConfig;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::mesh::linkerd::LinkerdConfig;
use crate::x509::TrustDomain;

/// The settings of a listener that serves Linkerd; `None` for others. Adds to `raw` what follows
/// from them: the one cluster, and the name that proxies call.
pub(super) fn settings(
    raw: &mut RawListener,
    apis: &BTreeSet<Api>,
    clusters: &BTreeMap<String, ClusterConfig>,
) -> Result<Option<LinkerdConfig>, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    if !apis.contains(&Api::Linkerd) {
        issues.require(
            raw.linkerd.is_none(),
            "linkerd",
            "is for a listener with `linkerd` in its `apis`",
        );
        return issues.into_result(Some(None));
    }
    issues.require(
        apis.len() == 1,
        "apis",
        "`linkerd` needs a listener of its own: proxies speak TLS 1.3 without ALPN there, and are \
         never asked for a certificate",
    );
    if raw.client_certificates.is_some() {
        let problem = "a proxy whose certificate has expired could not come back (linkerd2 #13136)";
        let issue = ConfigIssue::new("client_certificates", problem);
        issues.push(issue.with_fix("leave it out: the proxy's token authenticates it"));
    }
    if !raw.operators.is_empty() {
        let issue = ConfigIssue::new("operators", "only service accounts have a name in Linkerd");
        issues.push(issue.with_fix("leave it out"));
    }
    let mut config = issues.collect(LinkerdConfig::try_from(
        raw.linkerd.take().unwrap_or_default(),
    ));
    let writes_events = config.as_ref().is_some_and(LinkerdConfig::writes_events);
    if writes_events && raw.clusters.is_empty() {
        let problem = "events are written to the listener's cluster";
        let issue = ConfigIssue::new("linkerd.events", problem);
        issues.push(issue.with_fix("name it in `clusters`"));
    }
    if let Some(name) = raw.clusters.first() {
        if raw.clusters.len() > 1 {
            let problem = "a proxy does not say which cluster it is in";
            let fix = "name one; each further one needs a listener of its own";
            issues.push(ConfigIssue::new("clusters", problem).with_fix(fix));
        }
        if let (Some(cluster), Some(checked)) = (clusters.get(name), config.take()) {
            issues.collect(check_cluster(&checked, cluster));
            config = Some(checked.for_trust_domain(cluster.trust_domain()));
        }
        raw.default_cluster.get_or_insert_with(|| name.clone());
    }
    if let (Some(config), Some(tls)) = (&config, &mut raw.tls) {
        issues.collect(add_service_name(config, tls));
    }
    issues.into_result(config.map(Some))
}

fn check_cluster(config: &LinkerdConfig, cluster: &ClusterConfig) -> Result<(), ConfigIssue> {
    let name = cluster.name();
    config
        .mesh(cluster.trust_domain())
        .map_err(|error| ConfigIssue::new("clusters", format_args!("{name}: {error}")))?;
    match cluster.callers().audience(authn::Api::Linkerd) {
        Some(_) => Ok(()),
        None => {
            let problem = format_args!("the tokens of {name} are not accepted for linkerd");
            let fix = format_args!(
                "write clusters.{name}.audiences = {{ linkerd = \"identity.l5d.io\" }}"
            );
            Err(ConfigIssue::new("clusters", problem).with_fix(fix))
        }
    }
}

/// Proxies require the identity service's name in the certificate, whatever address they use.
fn add_service_name(config: &LinkerdConfig, tls: &mut RawTls) -> Result<(), ConfigIssue> {
    let Some(Ok(domain)) = tls.trust_domain.as_deref().map(TrustDomain::parse) else {
        return Ok(());
    };
    let name = config
        .mesh(&domain)
        .and_then(|mesh| mesh.identity_service())
        .map_err(|error| ConfigIssue::new("tls.trust_domain", error))?
        .to_string();
    if !tls.dns.contains(&name) {
        tls.dns.push(name);
    }
    Ok(())
}

/// The listener's certificate, which only a listener for Linkerd may lack. `address` is `None` if it
/// is invalid.
pub(super) fn tls(
    raw: Option<RawTls>,
    behind_proxy: bool,
    address: Option<&SocketAddr>,
    is_linkerd: bool,
) -> Result<TlsConfig, ConfigIssues> {
    match raw {
        Some(_) if behind_proxy => {
            let problem = "is for a listener without `tls`: the proxy in the pod terminates it";
            Err(ConfigIssue::new("behind_proxy", problem).into())
        }
        Some(raw) => TlsConfig::new(raw),
        None if !is_linkerd => Err(TlsConfig::incomplete().into()),
        None if behind_proxy || address.is_none_or(|address| address.ip().is_loopback()) => {
            Ok(TlsConfig::Plaintext)
        }
        None => {
            let fix = "write `tls = { trust_domain = \"…\" }`; or, where Linkerd's own proxy is in \
                       the same pod, `behind_proxy = true`";
            Err(ConfigIssue::new("tls", "is missing").with_fix(fix).into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{ListenerConfig, RawListener, TlsConfig};
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
