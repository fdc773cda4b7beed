//! The one result of authentication.

use std::fmt;

use super::error::AuthnError;
use crate::clock::UnixTime;
use crate::x509::{Serial, SpiffeId, TrustDomain};

/// Who is calling, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The trust domain of the verifier that accepted the caller; never from the request.
    pub trust_domain: TrustDomain,
    /// Who it is.
    pub identity: Identity,
    /// How that was proved.
    pub method: Method,
    /// The cluster that vouched, where the verifier is bound to one.
    pub cluster: Option<String>,
    /// The pod that the token is bound to.
    pub pod: Option<Pod>,
    /// The name of the node that the token's pod runs on.
    pub node: Option<String>,
    /// When this caller last proved itself by a token: now for a JWT; for a certificate, what the
    /// ledger holds, because each renewal hands it on. Operators have none, so that certificates
    /// they ask for do not renew themselves.
    pub token_authenticated_at: Option<UnixTime>,
}

impl Caller {
    /// This server, asking itself for `purpose` in one of its trust domains.
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

/// An authenticated name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A workload of the caller's trust domain.
    Workload(SpiffeId),
    /// An operator, by its name in the configuration.
    Operator(String),
    /// The opaque `sub` of a JWT, as `verifier:sub`. No verifier's name holds a colon.
    Subject(String),
    /// This server itself, for its own needs.
    Local(&'static str),
}

impl fmt::Display for Identity {
    /// `spiffe://…`, `operator:name`, `subject:verifier:sub` or `local:purpose`: no kind can be taken for another,
    /// whatever a verifier is called.
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
    /// A JWT.
    Jwt {
        /// The verifier's name in the configuration.
        verifier: String,
        /// The token's `iss`.
        issuer: String,
        /// The `kid` of the key that verified it, where the key has one.
        key_id: Option<String>,
    },
    /// A TLS client certificate of this trust domain's own authority.
    Certificate {
        /// Its serial number.
        serial: Serial,
        /// Its authority key identifier, where it has one.
        issuer_key_id: Option<Vec<u8>>,
    },
    /// A service account's token that the API server of [`Caller::cluster`] accepted (TokenReview).
    TokenReview,
    /// A service account's token that the keys of the API server of [`Caller::cluster`] verified
    /// here, and whose pod and account stood in that cluster.
    ClusterKeys {
        /// The token's `iss`.
        issuer: String,
        /// The `kid` of the key that verified it, where the key has one.
        key_id: Option<String>,
    },
    /// An operator's credential.
    Operator,
    /// No credential: the server asks itself.
    Local,
    /// An object of Kubernetes, on which a cluster's API server has written who made it.
    Object {
        /// Its kind, such as `CertificateSigningRequest`.
        kind: &'static str,
        /// Its UID.
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

    /// Whether a cluster vouched at this very call, by name `Caller::cluster`. A `[jwt.*]` verifier
    /// may have a cluster's name too, for the record, but nothing of that cluster was asked.
    pub fn is_by_cluster(&self) -> bool {
        matches!(self, Self::TokenReview | Self::ClusterKeys { .. })
    }
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
}

/// The API that is called; a verifier may want another audience for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Istio's certificate service.
    Istio,
    /// Our own gRPC.
    Certificates,
    /// Linkerd's identity service.
    Linkerd,
    /// The operators' HTTP.
    Admin,
}

impl fmt::Display for Api {
    /// The API's name in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Istio => "istio",
            Self::Certificates => "certificates",
            Self::Linkerd => "linkerd",
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
