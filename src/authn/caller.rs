//! The result of authentication.

use std::fmt;

use super::error::AuthnError;
use crate::clock::UnixTime;
use crate::x509::{Serial, SpiffeId, TrustDomain};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// That of the verifier that accepted the caller; never from the request.
    pub trust_domain: TrustDomain,
    pub identity: Identity,
    pub method: Method,
    /// The cluster that the verifier is bound to.
    pub cluster: Option<String>,
    /// The pod that the token is bound to.
    pub pod: Option<Pod>,
    /// The name of the node that the token's pod runs on.
    pub node: Option<String>,
    /// When the caller last presented a token: now for a JWT; for a certificate, what the ledger
    /// holds, because each renewal inherits it. Operators have none, so that the certificates that
    /// they request cannot be renewed by certificate.
    pub token_authenticated_at: Option<UnixTime>,
}

impl Caller {
    /// This server itself, for `purpose`.
    pub fn local(trust_domain: TrustDomain, purpose: &'static str) -> Self {
        Self {
            trust_domain,
            identity: Identity::Local(purpose),
            method: Method::Local,
            cluster: None,
            pod: None,
            node: None,
            token_authenticated_at: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    Workload(SpiffeId),
    /// An operator, by its name in the configuration.
    Operator(String),
    /// The opaque `sub` of a JWT, as `verifier:sub`. No verifier's name holds a colon.
    Subject(String),
    /// This server itself, by purpose.
    Local(&'static str),
}

impl fmt::Display for Identity {
    /// `spiffe://…`, `operator:name`, `subject:verifier:sub` or `local:purpose`. The kinds cannot be
    /// confused, whatever a verifier is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => id.fmt(f),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Subject(name) => write!(f, "subject:{name}"),
            Self::Local(name) => write!(f, "local:{name}"),
        }
    }
}

/// How a caller was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Jwt {
        /// The verifier's name in the configuration.
        verifier: String,
        /// The token's `iss`.
        issuer: String,
        /// The `kid` of the key that verified it.
        key_id: Option<String>,
    },
    /// A TLS client certificate of this trust domain's own authority.
    Certificate {
        serial: Serial,
        /// Its authority key identifier.
        issuer_key_id: Option<Vec<u8>>,
    },
    /// A service account's token that the API server of [`Caller::cluster`] accepted (TokenReview).
    TokenReview,
    /// A service account's token that was verified here with the keys of the API server of
    /// [`Caller::cluster`], and whose pod and account existed in that cluster.
    ClusterKeys {
        /// The token's `iss`.
        issuer: String,
        /// The `kid` of the key that verified it.
        key_id: Option<String>,
    },
    Operator,
    /// No credential: this server itself.
    Local,
    /// A Kubernetes object, on which the API server recorded who created it.
    Object {
        /// Its kind, such as `CertificateSigningRequest`.
        kind: &'static str,
        uid: String,
    },
}

impl Method {
    /// `jwt`, `certificate`, `token_review`, `cluster_keys`, `operator`, `local` or `object`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Jwt { .. } => "jwt",
            Self::Certificate { .. } => "certificate",
            Self::TokenReview => "token_review",
            Self::ClusterKeys { .. } => "cluster_keys",
            Self::Operator => "operator",
            Self::Local => "local",
            Self::Object { .. } => "object",
        }
    }

    /// Whether `Caller::cluster` itself authenticated this call. A `[jwt.*]` verifier may also have a
    /// cluster's name, which is only recorded, without any request to that cluster.
    pub fn is_by_cluster(&self) -> bool {
        matches!(self, Self::TokenReview | Self::ClusterKeys { .. })
    }
}

/// For the log: the name, and what tells this credential's verifier from others.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Jwt { verifier, .. } => write!(f, "{name} {verifier}"),
            Self::Certificate { serial, .. } => write!(f, "{name} {serial}"),
            Self::Object { kind, .. } => write!(f, "{name} {kind}"),
            Self::TokenReview | Self::ClusterKeys { .. } | Self::Operator | Self::Local => {
                f.write_str(name)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub namespace: String,
}

/// The called API. A verifier may require another audience for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Istio,
    /// `rootbridge.v1` over gRPC.
    Certificates,
    Linkerd,
    /// Vault's HTTP API.
    Vault,
    /// Envoy's secret discovery service.
    Sds,
    /// The operators' HTTP API.
    Admin,
}

impl fmt::Display for Api {
    /// The API's name in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Istio => "istio",
            Self::Certificates => "certificates",
            Self::Linkerd => "linkerd",
            Self::Vault => "vault",
            Self::Sds => "sds",
            Self::Admin => "admin",
        })
    }
}

/// The token of an `Authorization` header (RFC 6750 §2.1).
///
/// # Errors
/// [`AuthnError::Missing`] for an empty header, [`AuthnError::Rejected`] for another scheme or a
/// malformed one.
pub fn bearer(authorization: &str) -> Result<&str, AuthnError> {
    let authorization = authorization.trim_matches(' ');
    if authorization.is_empty() {
        return Err(AuthnError::Missing);
    }
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            let token = token.trim_start_matches(' ');
            if token.contains(|c: char| c.is_ascii_whitespace() || c == ',') {
                return Err(AuthnError::rejected(
                    "the authorization header holds more than one token",
                ));
            }
            Ok(token)
        }
        _ => Err(AuthnError::rejected(
            "the authorization header is not `Bearer TOKEN`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels of metrics, and who may be asked about a caller.
    #[test]
    fn each_method_has_its_name_and_its_origin() {
        let jwt = Method::Jwt {
            verifier: "v".to_owned(),
            issuer: "i".to_owned(),
            key_id: None,
        };
        let keys = Method::ClusterKeys {
            issuer: "i".to_owned(),
            key_id: None,
        };
        let object = Method::Object {
            kind: "CertificateSigningRequest",
            uid: "u".to_owned(),
        };
        for (method, name, by_cluster) in [
            (jwt, "jwt", false),
            (Method::TokenReview, "token_review", true),
            (keys, "cluster_keys", true),
            (Method::Operator, "operator", false),
            (Method::Local, "local", false),
            (object, "object", false),
        ] {
            assert_eq!((method.name(), method.is_by_cluster()), (name, by_cluster));
        }
        let apis = [
            Api::Istio,
            Api::Certificates,
            Api::Linkerd,
            Api::Vault,
            Api::Sds,
            Api::Admin,
        ];
        let names = apis.map(|api| api.to_string());
        assert_eq!(
            names,
            ["istio", "certificates", "linkerd", "vault", "sds", "admin"]
        );
    }
}
