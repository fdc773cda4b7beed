//! The status of an authority, for status pages and readiness.

use super::authority::{Authority, NoIssuer};
use crate::clock::UnixTime;

/// The status of an authority.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AuthorityStatus {
    pub trust_domain: String,
    /// The active issuer's id; absent when none can sign.
    pub issuer: Option<String>,
    /// Why none can sign. Only for operators: it may name tokens and files.
    pub why: Option<String>,
    /// Why none can sign, for everybody.
    #[serde(skip)]
    pub public_why: Option<&'static str>,
    /// notAfter of the issuing certificate, RFC 3339.
    pub issuer_not_after: Option<String>,
    /// notAfter of the issuing certificate, seconds since the epoch.
    #[serde(skip)]
    pub issuer_not_after_secs: Option<i64>,
    pub bundle_sequence: Option<u64>,
}

impl AuthorityStatus {
    pub(super) fn of(authority: &Authority) -> Self {
        let issuer = authority.issuer.as_ref();
        let not_after = issuer.ok().map(|issuer| issuer.certificate().not_after());
        Self {
            trust_domain: authority.trust_domain.to_string(),
            issuer: issuer.ok().map(|issuer| issuer.id().to_string()),
            why: issuer.err().map(ToString::to_string),
            public_why: issuer.err().map(public_reason),
            issuer_not_after: not_after.map(|at| at.to_string()),
            issuer_not_after_secs: not_after.map(UnixTime::secs),
            bundle_sequence: authority.bundle.as_ref().map(|bundle| bundle.sequence()),
        }
    }
}

fn public_reason(why: &NoIssuer) -> &'static str {
    match why {
        NoIssuer::NotRecorded => {
            "no active issuing CA: run `rootbridge ca init`, or `ca request` and `ca import`"
        }
        NoIssuer::KeyUnavailable(_) => {
            "the token of the issuing key is unavailable: see the log, or `rootbridge check`"
        }
        NoIssuer::InvalidRecords(_) => {
            "its records cannot be used: see the log, or `rootbridge check`"
        }
    }
}
