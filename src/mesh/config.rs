//! `[listeners.*]` and `[istio]`: where the APIs are spoken, by whom, and under which name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Deserialize;

use super::limits::{Limits, RawLimits};
use super::linkerd::{LinkerdConfig, RawLinkerd, listener as for_linkerd};
use super::tls_config::{RawTls, TlsConfig};
use crate::authn;
use crate::cluster::{ClusterConfig, ListenerClusters};

/// An API that a listener may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `istio.v1.auth.IstioCertificateService`.
    Istio,
    /// `rootbridge.v1.CertificateService`.
    Certificates,
    /// `io.linkerd.proxy.identity.Identity`, on a listener of its own.
    Linkerd,
    /// `rootbridge.v1.TrustBundleService` and `/v1/trust-bundles/`; both without a credential.
    Bundles,
}

/// `[listeners.NAME]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// IP address and port, such as `0.0.0.0:8443`.
    pub address: String,
    /// The APIs served here.
    pub apis: Vec<Api>,
    /// The `[jwt.*]` verifiers that may vouch for callers here.
    #[serde(default)]
    pub jwt: Vec<String>,
    /// The `[operators.*]` whose credentials count here.
    #[serde(default)]
    pub operators: Vec<String>,
    /// The `[clusters.*]` whose tokens count here.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// Which of them judges a call that names none (`clusterid`).
    pub default_cluster: Option<String>,
    /// Whether, and for which trust domains, a client certificate authenticates. Default: not.
    pub client_certificates: Option<authn::RawClientCertificates>,
    /// The server's own certificate; absent for plaintext, which only Linkerd's own proxies may
    /// speak, from this host.
    pub tls: Option<RawTls>,
    /// Whether plaintext is taken on other addresses than loopback, from this host's own: a proxy
    /// in the same pod ends TLS. Default: not.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Whose identity service it is, where `linkerd` is among `apis`.
    pub linkerd: Option<RawLinkerd>,
    /// What the listener takes on at most.
    #[serde(default)]
    pub limits: RawLimits,
}

/// `[istio]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawIstio {
    /// The profile of a request that names none. Default: `policy.default_profile`.
    pub profile: Option<String>,
}

/// A value of a listener that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value of the listener's own.
    #[error("listeners.{listener}.{key}: {why}")]
    Value {
        /// The listener's name.
        listener: String,
        /// The key in it.
        key: String,
        /// What is wrong and what to write.
        why: String,
    },
    /// A name that is not plain.
    #[error("listeners.{listener}: a listener's name is 1 to 63 letters, digits, - and _")]
    Name {
        /// The name, escaped.
        listener: String,
    },
    /// Who may vouch there.
    #[error(transparent)]
    Callers(#[from] authn::ConfigError),
}

/// A checked listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    name: String,
    address: SocketAddr,
    apis: BTreeSet<Api>,
    callers: authn::Callers,
    clusters: ListenerClusters,
    tls: TlsConfig,
    linkerd: Option<LinkerdConfig>,
    limits: Limits,
}

impl ListenerConfig {
    /// Checks what is written under `[listeners.NAME]`, with the callers that `authn` knows.
    ///
    /// # Errors
    /// The first key whose value cannot be used, and what to write.
    pub fn new(
        name: &str,
        mut raw: RawListener,
        authn: &authn::Config,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Result<Self, ConfigError> {
        let wrong = |key: &str, why: String| ConfigError::Value {
            listener: name.to_owned(),
            key: key.to_owned(),
            why,
        };
        // Logs and metrics show it.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(ConfigError::Name {
                listener: name.escape_default().to_string(),
            });
        }
        let address: SocketAddr = raw.address.parse().map_err(|_| {
            let why = format!(
                "`{}` is not an IP address and port; write 0.0.0.0:8443",
                raw.address
            );
            wrong("address", why)
        })?;
        let apis: BTreeSet<Api> = raw.apis.iter().copied().collect();
        if apis.is_empty() {
            return Err(wrong(
                "apis",
                "name at least one of istio, certificates, bundles, linkerd".into(),
            ));
        }
        let linkerd = for_linkerd::settings(&mut raw, &apis, clusters)
            .map_err(|(key, why)| wrong(&key, why))?;
        let tls = for_linkerd::tls(
            raw.tls.take(),
            raw.behind_proxy,
            &address,
            linkerd.is_some(),
        )
        .map_err(|(key, why)| wrong(&key, why))?;
        let taken = listener_clusters(raw.clusters, raw.default_cluster, clusters)
            .map_err(|(key, why)| wrong(key, why))?;
        let nobody = raw.jwt.is_empty() && raw.operators.is_empty() && taken.is_empty();
        if nobody
            && raw.client_certificates.is_none()
            && apis.iter().any(|api| *api != Api::Bundles)
        {
            let why = "nobody can call the APIs for certificates here: name a cluster of \
                       [clusters.*] in `clusters`, a verifier of [jwt.*] in `jwt`, an operator in \
                       `operators`, or turn on `client_certificates`";
            return Err(wrong("jwt", why.into()));
        }
        let callers = authn::RawCallers {
            jwt: raw.jwt,
            operators: raw.operators,
            client_certificates: raw.client_certificates,
        };
        Ok(Self {
            name: name.to_owned(),
            address,
            apis,
            callers: authn.callers(&format!("listeners.{name}"), callers)?,
            clusters: taken,
            tls,
            linkerd,
            limits: Limits::try_from(raw.limits).map_err(|(key, why)| wrong(key, why))?,
        })
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

    /// Who may vouch here.
    pub fn callers(&self) -> &authn::Callers {
        &self.callers
    }

    /// The clusters whose tokens count here.
    pub fn clusters(&self) -> &ListenerClusters {
        &self.clusters
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
}

/// Checks the keys `clusters` and `default_cluster`; the error names which, and says why.
fn listener_clusters(
    names: Vec<String>,
    default: Option<String>,
    known: &BTreeMap<String, ClusterConfig>,
) -> Result<ListenerClusters, (&'static str, String)> {
    for name in &names {
        let Some(cluster) = known.get(name) else {
            return Err(("clusters", format!("there is no [clusters.{name}]")));
        };
        if !cluster.callers().any() {
            let why =
                format!("the tokens of {name} count for no API; write clusters.{name}.audiences");
            return Err(("clusters", why));
        }
    }
    if let Some(default) = &default
        && !names.contains(default)
    {
        let why = format!("`{default}` is not among the listener's `clusters`");
        return Err(("default_cluster", why));
    }
    Ok(ListenerClusters::new(names, default))
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
            (format!("{nobody}{TLS}"), "mesh.jwt: nobody can call"),
            (format!("{nobody}jwt = ['x']\n{TLS}"), "mesh.jwt"),
            (
                format!("{nobody}clusters = ['west']\n{TLS}"),
                "mesh.clusters: there is no [clusters.west]",
            ),
            (
                format!("{nobody}clusters = ['mute']\n{TLS}"),
                "mesh.clusters: the tokens of mute",
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
                "mesh.tls.sni[0].dns: `localhost` stands twice",
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
