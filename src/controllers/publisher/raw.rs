//! `[publisher]` and `[bundle_targets.NAME]` as in the file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// `[publisher]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPublisher {
    /// Maximum of writes to one cluster per second. Default 50.
    pub writes_per_second: u32,
    /// The namespace of the Lease, in every cluster. Default `rootbridge`.
    pub lease_namespace: String,
    /// The name of the Lease. Default `rootbridge-publisher`.
    pub lease_name: String,
    /// How long another server waits for the holder to renew. Default 15s.
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

/// The object that a mesh expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// ConfigMap `istio-ca-root-cert` in every namespace.
    Istio,
    /// ConfigMap `linkerd-identity-trust-roots` in the namespace `linkerd`.
    Linkerd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// In each selected namespace.
    ConfigMap,
    /// One for the cluster.
    ClusterTrustBundle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PEM, one block for each anchor.
    Pem,
    /// A PKCS#12 truststore for Java.
    Pkcs12,
    /// A truststore in Java's older format.
    Jks,
}

/// `[bundle_targets.NAME]` as in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    pub trust_domain: String,
    pub clusters: Vec<String>,
    /// Defaults for the other keys.
    pub preset: Option<Preset>,
    /// Default: a ConfigMap.
    pub kind: Option<Kind>,
    /// The object's name.
    pub name: Option<String>,
    /// The ConfigMap's key for the bundle.
    pub key: Option<String>,
    /// Label selector of the namespaces. Default: all.
    pub namespaces: Option<String>,
    /// Labels for the object.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Default PEM.
    pub format: Option<Format>,
    /// A truststore's password. Default `changeit`.
    pub password: Option<String>,
    /// A ClusterTrustBundle's signerName. Default: none.
    pub signer_name: Option<String>,
}
