//! `[publisher]` and `[bundle_targets.NAME]` as they stand in the file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// `[publisher]` as it stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPublisher {
    /// The most writes to one cluster in a second. Default 50.
    pub writes_per_second: u32,
    /// The namespace of the Lease, in every cluster. Default `rootbridge`.
    pub lease_namespace: String,
    /// The Lease's name. Default `rootbridge-publisher`.
    pub lease_name: String,
    /// How long another writer waits for the holder's next sign of life. Default 15s.
    #[serde(with = "humantime_serde")]
    pub lease_duration: Duration,
}

impl Default for RawPublisher {
    fn default() -> Self {
        Self {
            writes_per_second: 50,
            lease_namespace: "rootbridge".to_owned(),
            lease_name: "rootbridge-publisher".to_owned(),
            lease_duration: Duration::from_secs(15),
        }
    }
}

/// What a mesh expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// ConfigMap `istio-ca-root-cert` in every namespace.
    Istio,
    /// ConfigMap `linkerd-identity-trust-roots` in the namespace `linkerd`.
    Linkerd,
}

/// Which object holds the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A ConfigMap in each chosen namespace.
    ConfigMap,
    /// A ClusterTrustBundle, one for the cluster.
    ClusterTrustBundle,
}

/// How the bundle is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PEM, one block for each anchor.
    Pem,
    /// A PKCS#12 truststore, as Java reads it.
    Pkcs12,
    /// A truststore in Java's own older format.
    Jks,
}

/// `[bundle_targets.NAME]` as it stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// Whose bundle.
    pub trust_domain: String,
    /// Where to.
    pub clusters: Vec<String>,
    /// What a mesh expects; the other keys then say what is to be different.
    pub preset: Option<Preset>,
    /// Which object holds the bundle. Default: a ConfigMap.
    pub kind: Option<Kind>,
    /// The object's name.
    pub name: Option<String>,
    /// The key in the ConfigMap.
    pub key: Option<String>,
    /// Label selector of the namespaces. Default: all.
    pub namespaces: Option<String>,
    /// Labels that the object is to have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How the bundle is written. Default PEM.
    pub format: Option<Format>,
    /// A truststore's password. Default `changeit`.
    pub password: Option<String>,
    /// A ClusterTrustBundle's signerName. Default: none.
    pub signer_name: Option<String>,
}
