//! Why policy denies a request.

use std::time::Duration;

use crate::clock::in_words;

/// Why policy denies a request. The text is for the log and names what was requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("no profile is called `{0}`")]
    UnknownProfile(String),
    #[error(
        "a lifetime of {} is over the profile's limit of {}",
        in_words(*requested), in_words(*limit)
    )]
    TtlTooLong {
        requested: Duration,
        limit: Duration,
    },
    #[error("no name was requested: put one in the request or in the CSR")]
    NoNames,
    #[error("{requested} names were requested; at most {limit} are certified")]
    TooManyNames { requested: usize, limit: usize },
    #[error("a certificate has one SPIFFE ID; these were requested: {0}")]
    SeveralIds(String),
    #[error("the CSR names `{csr}`, the request is for `{requested}`")]
    CsrNamesDiffer { csr: String, requested: String },
    /// The trust domain is that of the verifier that accepted the caller.
    #[error("`{name}` is not in the trust domain `{trust_domain}`")]
    ForeignTrustDomain { name: String, trust_domain: String },
    #[error("no rule lets `{caller}` have `{name}` under the profile `{profile}`")]
    NoRule {
        caller: String,
        name: String,
        profile: String,
    },
    #[error("the profile `{0}` is for CAs, not for end entities")]
    OnlyForCas(String),
    #[error("the profile `{0}` is for end entities, not for CAs")]
    NotForCas(String),
    #[error("the profile `{profile}` does not certify {kind} keys")]
    KeyKind { profile: String, kind: String },
}
