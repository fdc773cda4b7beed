//! `[listeners.*]` and `[istio]` as the file has them.

use serde::Deserialize;

use super::tls::RawTls;
use crate::authn;
use crate::mesh::linkerd::RawLinkerd;
use crate::net::Limits;

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
    /// Vault's HTTP API, on a listener of its own.
    Vault,
    /// `envoy.service.secret.v3.SecretDiscoveryService`: validation contexts.
    Sds,
    /// `rootbridge.v1.TrustBundleService` and `/v1/trust-bundles/`; both without a credential.
    Bundles,
    /// The operators' HTTP API, on a listener of its own.
    Admin,
}

/// `[listeners.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// IP address and port, such as `0.0.0.0:8443`.
    pub address: String,
    pub apis: Vec<Api>,
    /// The `[jwt.*]` verifiers whose tokens are accepted here.
    #[serde(default)]
    pub jwt: Vec<String>,
    /// The `[operators.*]` whose credentials are accepted here.
    #[serde(default)]
    pub operators: Vec<String>,
    /// The `[clusters.*]` whose tokens are accepted here.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// The cluster that verifies the tokens of calls without a `clusterid`.
    pub default_cluster: Option<String>,
    /// The trust domains whose client certificates authenticate. Default: none.
    pub client_certificates: Option<authn::RawClientCertificates>,
    /// The callers that may use the API `admin` beside `operators`: SPIFFE IDs, and `subject:VERIFIER:SUB`.
    #[serde(default)]
    pub admins: Vec<String>,
    /// The server's certificate; absent for plaintext, which only Linkerd's proxies may use, from this
    /// host.
    pub tls: Option<RawTls>,
    /// Accepts plaintext from this host on other addresses than loopback: a proxy in the same pod
    /// terminates TLS. Default: false.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Settings of Linkerd's identity service, where `linkerd` is among `apis`.
    pub linkerd: Option<RawLinkerd>,
    #[serde(default)]
    pub limits: Limits,
}

/// `[istio]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawIstio {
    /// The profile of a request that names none. Default: `policy.default_profile`.
    pub profile: Option<String>,
}
