//! Why policy says no.

use std::time::Duration;

/// A refusal. `Display` is for the log and names what was requested; what the caller may be told is
/// decided where APIs map causes to codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No profile of that name is configured.
    #[error("no profile is called `{0}`")]
    UnknownProfile(String),
    /// The lifetime is not one that the profile allows.
    #[error("a lifetime of {}s is over the profile's limit of {}s", requested.as_secs(), limit.as_secs())]
    TtlTooLong {
        /// What was requested for.
        requested: Duration,
        /// The profile's `max_ttl`.
        limit: Duration,
    },
    /// Neither the request, nor the CSR, nor the caller's own identity says what to certify.
    #[error("no name was requested for: put one in the request or in the CSR")]
    NoNames,
    /// More names than a certificate of ours carries.
    #[error("{0} names were requested for; at most {1} are certified")]
    TooManyNames(usize, usize),
    /// The CSR names something else than what was requested for or authenticated.
    #[error("the CSR names `{csr}`, the request is for `{requested}`")]
    CsrNamesDiffer {
        /// The names in the CSR.
        csr: String,
        /// The names of the request.
        requested: String,
    },
    /// A SPIFFE ID of another trust domain than the caller's verifier vouches for.
    #[error("`{name}` is not in the trust domain `{trust_domain}`")]
    ForeignTrustDomain {
        /// The name requested for.
        name: String,
        /// The trust domain of the caller's verifier.
        trust_domain: String,
    },
    /// No rule lets this caller have this name under this profile.
    #[error("no rule lets `{caller}` have `{name}` under the profile `{profile}`")]
    NoRule {
        /// The caller's identity.
        caller: String,
        /// The name requested for.
        name: String,
        /// The profile requested for.
        profile: String,
    },
    /// The key of the CSR is of a kind that the profile does not certify.
    #[error("the profile `{profile}` does not certify {kind} keys")]
    KeyKind {
        /// The profile requested for.
        profile: String,
        /// The kind of the CSR's key.
        kind: String,
    },
}
