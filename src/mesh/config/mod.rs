//! `[listeners.*]`: the addresses, APIs, callers and certificates of listeners.

mod admins;
mod linkerd;
mod raw;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::linkerd::LinkerdConfig;
use crate::authn;
use crate::cluster::{ClusterConfig, ListenerClusters};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::net::Limits;

pub use raw::{Api, RawIstio, RawListener};
pub use tls::{OwnCertificate, RawSni, RawTls, TlsConfig};

/// A checked listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    name: String,
    address: SocketAddr,
    apis: BTreeSet<Api>,
    callers: authn::Callers,
    clusters: ListenerClusters,
    admins: BTreeSet<String>,
    tls: TlsConfig,
    linkerd: Option<LinkerdConfig>,
    limits: Limits,
}

impl ListenerConfig {
    /// Checks `[listeners.NAME]`.
    pub fn new(
        name: &str,
        mut raw: RawListener,
        authn: &authn::Config,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Result<Self, ConfigIssues> {
        let table = format!("listeners.{name}");
        let at = |key: &str| format!("{table}.{key}");
        let mut issues = ConfigIssues::default();
        // Logs and metrics show it.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        issues.require(
            (1..=63).contains(&name.len()) && name.bytes().all(plain),
            format!("listeners.{}", name.escape_default()),
            "a listener's name is 1 to 63 letters, digits, - and _",
        );
        let address = raw.address.parse::<SocketAddr>().map_err(|_| {
            let problem = format_args!("`{}` is not an IP address and port", raw.address);
            ConfigIssue::new(at("address"), problem).with_fix("write 0.0.0.0:8443")
        });
        let address = issues.collect(address);
        let apis: BTreeSet<Api> = raw.apis.iter().copied().collect();
        issues.require(
            !apis.is_empty(),
            at("apis"),
            "name at least one of istio, certificates, bundles, linkerd, vault, sds, admin",
        );
        issues.require(
            apis.len() <= 1 || !apis.contains(&Api::Vault),
            at("apis"),
            "`vault` needs a listener of its own: its mounts may have any path",
        );
        issues.require(
            apis.len() <= 1 || !apis.contains(&Api::Admin),
            at("apis"),
            "`admin` needs a listener of its own: its callers are other people",
        );
        let admins = admins::check(&raw, apis.contains(&Api::Admin));
        let admins = issues.collect(admins.map_err(|issues| issues.under(&table)));
        let linkerd = linkerd::settings(&mut raw, &apis, clusters);
        let linkerd = issues.collect(linkerd.map_err(|issues| issues.under(&table)));
        let tls = linkerd::tls(
            raw.tls.take(),
            raw.behind_proxy,
            address.as_ref(),
            apis.contains(&Api::Linkerd),
        );
        let tls = issues.collect(tls.map_err(|issues| issues.under(&table)));
        let has_callers = !raw.jwt.is_empty()
            || !raw.operators.is_empty()
            || !raw.clusters.is_empty()
            || raw.client_certificates.is_some();
        if !has_callers && apis.iter().any(|api| *api != Api::Bundles) {
            let problem = "no caller can use the APIs that need a credential here";
            let fix = "name a cluster of [clusters.*] in `clusters`, a verifier of [jwt.*] in \
                       `jwt`, an operator in `operators`, or turn on `client_certificates`";
            issues.push(ConfigIssue::new(at("jwt"), problem).with_fix(fix));
        }
        let accepted = accepted_clusters(raw.clusters, raw.default_cluster, clusters);
        let accepted = issues.collect(accepted.map_err(|issues| issues.under(&table)));
        let callers = authn::RawCallers {
            jwt: raw.jwt,
            operators: raw.operators,
            client_certificates: raw.client_certificates,
        };
        let callers = issues.collect(authn.callers(&table, callers));
        let limits = issues.collect(raw.limits.check(|key| at(&format!("limits.{key}"))));
        let config = || {
            Some(Self {
                name: name.to_owned(),
                address: address?,
                apis,
                callers: callers?,
                clusters: accepted?,
                admins: admins?,
                tls: tls?,
                linkerd: linkerd?,
                limits: limits?,
            })
        };
        issues.into_result(config())
    }

    /// The name in `[listeners.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves `api`.
    pub fn serves(&self, api: Api) -> bool {
        self.apis.contains(&api)
    }

    /// The APIs whose callers are authenticated.
    pub fn authenticated_apis(&self) -> Vec<authn::Api> {
        let names = self.apis.iter().filter_map(|api| match api {
            Api::Istio => Some(authn::Api::Istio),
            Api::Certificates => Some(authn::Api::Certificates),
            Api::Linkerd => Some(authn::Api::Linkerd),
            Api::Vault => Some(authn::Api::Vault),
            Api::Admin => Some(authn::Api::Admin),
            Api::Sds => Some(authn::Api::Sds),
            Api::Bundles => None,
        });
        names.collect()
    }

    /// Who may vouch here.
    pub fn callers(&self) -> &authn::Callers {
        &self.callers
    }

    /// The clusters whose tokens count here.
    pub fn clusters(&self) -> &ListenerClusters {
        &self.clusters
    }

    /// The identities that may use the API `admin` beside the operators.
    pub fn admins(&self) -> &BTreeSet<String> {
        &self.admins
    }

    /// The server's own certificate.
    pub fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    /// Whose identity service it is, if it is Linkerd's.
    pub fn linkerd(&self) -> Option<&LinkerdConfig> {
        self.linkerd.as_ref()
    }

    /// The cluster in which events about issued certificates are written, if any.
    pub fn events_cluster(&self) -> Option<&str> {
        let enabled = self.linkerd.as_ref()?.writes_events();
        self.clusters.default_name().filter(|_| enabled)
    }

    /// What it takes on at most.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether `next` differs in what is read at the start only. Every field is named here, so that
    /// a new one is either replaced by a reload or counts.
    pub fn needs_restart(&self, next: &Self) -> bool {
        let Self {
            name,
            address,
            apis,
            // Replaced by a reload, but for whether the TLS handshake asks for a certificate.
            callers,
            // Replaced by a reload.
            clusters: _,
            admins,
            tls,
            linkerd,
            limits,
        } = self;
        let asks = |callers: &authn::Callers| callers.client_certificates().is_some();
        *name != next.name
            || *address != next.address
            || *apis != next.apis
            || *admins != next.admins
            || asks(callers) != asks(&next.callers)
            || *tls != next.tls
            || *linkerd != next.linkerd
            || *limits != next.limits
    }
}

/// Checks the keys `clusters` and `default_cluster`.
fn accepted_clusters(
    names: Vec<String>,
    default: Option<String>,
    clusters: &BTreeMap<String, ClusterConfig>,
) -> Result<ListenerClusters, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    for name in &names {
        match clusters.get(name) {
            None => issues.push(ConfigIssue::undefined("clusters", "clusters", name)),
            Some(cluster) if !cluster.callers().accepts_tokens() => {
                let problem = format_args!("no API accepts the tokens of {name}");
                let fix = format_args!("write clusters.{name}.audiences");
                issues.push(ConfigIssue::new("clusters", problem).with_fix(fix));
            }
            Some(_) => {}
        }
    }
    if let Some(default) = &default {
        issues.require(
            names.contains(default),
            "default_cluster",
            format_args!("`{default}` is not among the listener's `clusters`"),
        );
    }
    issues.into_result(Some(ListenerClusters::new(names, default)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "address = '127.0.0.1:8443'\napis = ['istio']\n\
                        client_certificates = { trust_domains = ['td.example'] }\n";
    const TLS: &str = "[tls]\ntrust_domain = 'td.example'\ndns = ['localhost']\n";

    fn parse(text: &str) -> Result<ListenerConfig, String> {
        let raw: RawListener = toml::from_str(text).map_err(|error| error.to_string())?;
        let authn = authn::Config::try_from(authn::RawConfig::default()).unwrap();
        let clusters = "[east]\ntrust_domain = 'td.example'\naudiences = { istio = 'istio-ca' }\n\
                        [mute]\ntrust_domain = 'td.example'\n";
        let clusters = crate::cluster::clusters(toml::from_str(clusters).unwrap()).unwrap();
        ListenerConfig::new("mesh", raw, &authn, &clusters).map_err(|error| error.to_string())
    }

    #[test]
    fn clusters_alone_are_callers() {
        let east = "address = '127.0.0.1:8443'\napis = ['istio']\nclusters = ['east']\n";
        let listener = parse(&format!("{east}default_cluster = 'east'\n{TLS}")).unwrap();
        let taken = ListenerClusters::new(vec!["east".into()], Some("east".into()));
        assert_eq!(listener.clusters(), &taken);
    }

    #[test]
    fn a_listener_of_its_own_authority() {
        let listener = parse(&format!("{GOOD}{TLS}")).unwrap();
        assert!(listener.serves(Api::Istio) && !listener.serves(Api::Bundles));
        assert!(listener.callers().client_certificates().is_some());
        assert_eq!(listener.tls().files(), None);
        let sni = "[[tls.sni]]\ntrust_domain = 'other.example'\ndns = ['other']\n";
        let listener = parse(&format!("{GOOD}{TLS}{sni}")).unwrap();
        let own = listener.tls().own();
        let domains: Vec<_> = own.iter().map(|each| each.trust_domain.as_str()).collect();
        assert_eq!(domains, ["td.example", "other.example"]);
    }

    #[test]
    fn each_bad_value_is_named() {
        let nobody = "address = '127.0.0.1:8443'\napis = ['certificates']\n";
        for (text, says) in [
            (
                format!("{}{TLS}", GOOD.replace("127.0.0.1:8443", "localhost")),
                "mesh.address: `lo",
            ),
            (
                format!("{}{TLS}", GOOD.replace("'istio'", "")),
                "mesh.apis: name at least one",
            ),
            (format!("{nobody}{TLS}"), "mesh.jwt: no caller can use"),
            (format!("{nobody}jwt = ['x']\n{TLS}"), "mesh.jwt"),
            (
                format!("{GOOD}admins = ['spiffe://td.example/ns/a/sa/b']\n{TLS}"),
                "mesh.admins: is for the API `admin`",
            ),
            (
                format!("{}{TLS}", GOOD.replace("'istio'", "'istio', 'admin'")),
                "mesh.apis: `admin` needs a listener of its own",
            ),
            (
                format!("{}{TLS}", GOOD.replace("'istio'", "'admin'")),
                "mesh.admins: nobody may use the API `admin`",
            ),
            (
                format!(
                    "{}admins = ['spiffe://td.example']\n{TLS}",
                    GOOD.replace("'istio'", "'admin'")
                ),
                "mesh.admins: `spiffe://td.example` is no caller",
            ),
            (
                format!(
                    "{}admins = ['subject:people:alice']\n{TLS}",
                    GOOD.replace("'istio'", "'admin'")
                ),
                "mesh.admins: `subject:people:alice` is no caller",
            ),
            (
                format!("{nobody}clusters = ['west']\n{TLS}"),
                "mesh.clusters: there is no [clusters.west]",
            ),
            (
                format!("{nobody}clusters = ['mute']\n{TLS}"),
                "mesh.clusters: no API accepts the tokens of mute",
            ),
            (
                format!("{nobody}clusters = ['east']\ndefault_cluster = 'mute'\n{TLS}"),
                "mesh.default_cluster: `mute` is not",
            ),
            (
                format!("{GOOD}[tls]\ntrust_domain = 'td.example'"),
                "mesh.tls.dns: give the names",
            ),
            (
                format!("{GOOD}[tls]\ntrust_domain = 'TD'\nip = ['::1']"),
                "mesh.tls.trust_domain: `TD`",
            ),
            (
                format!("{GOOD}{TLS}[[tls.sni]]\ntrust_domain = 'other.example'"),
                "mesh.tls.sni[0].dns: give the names",
            ),
            (
                format!(
                    "{GOOD}{TLS}[[tls.sni]]\ntrust_domain = 'other.example'\ndns = ['LOCALHOST']"
                ),
                "mesh.tls.sni[0].dns: `localhost` is listed twice",
            ),
            (
                format!(
                    "{GOOD}[tls]\ncertificate_file = '/c'\nkey_file = '/k'\n\
                     [[tls.sni]]\ntrust_domain = 'other.example'\ndns = ['a']"
                ),
                "mesh.tls.sni: is for certificates",
            ),
            (
                format!("{GOOD}[tls]\ncertificate_file = '/c'"),
                "mesh.tls: write `trust_domain`",
            ),
            (
                format!("{GOOD}[limits]\nmax_streams = 0\n{TLS}"),
                "limits.max_streams",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
