//! The status of an authority, for status pages and readiness.

use super::authority::{Authority, NoIssuer};
use super::issuer::{Issuer, shortest_ttl};
use crate::clock::{UnixTime, in_words};
use crate::policy::Profile;

/// The status of an authority.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AuthorityStatus {
    pub trust_domain: String,
    /// The active issuer's id; absent when none can sign.
    pub issuer: Option<String>,
    /// Whether the token of its key takes requests now. It is no part of `issuer`: bundles are served, and
    /// the server is ready, while the token is away.
    pub token_ready: bool,
    /// Why none can sign. Only for operators: it may name tokens and files.
    pub why: Option<String>,
    /// Why none can sign, for everybody.
    #[serde(skip)]
    pub public_why: Option<&'static str>,
    /// It signs, but not for as long as the default profile says.
    pub warning: Option<String>,
    /// The earliest notAfter of the issuer's certification path, RFC 3339: no certificate is valid
    /// for longer.
    pub issuer_not_after: Option<String>,
    /// The same, seconds since the epoch.
    #[serde(skip)]
    pub issuer_not_after_secs: Option<i64>,
    pub bundle_sequence: Option<u64>,
}

impl AuthorityStatus {
    /// Whether `authority` could issue a certificate of the shortest life under `profile` at `now`,
    /// by the rule that a request meets.
    pub(super) fn of(authority: &Authority, profile: Option<&Profile>, now: UnixTime) -> Self {
        let issuer = authority.issuer.as_ref();
        let not_after = issuer.ok().map(|issuer| issuer.not_after());
        let (why, public_why) = cannot_sign(authority, profile, now).unzip();
        let signs = issuer.ok().filter(|_| why.is_none());
        Self {
            trust_domain: authority.trust_domain.to_string(),
            issuer: signs.map(|issuer| issuer.id().to_string()),
            token_ready: issuer.is_ok_and(|issuer| issuer.key().is_ready()),
            why,
            public_why,
            warning: signs.and_then(|issuer| shortened(issuer, profile?, now)),
            issuer_not_after: not_after.map(|at| at.to_string()),
            issuer_not_after_secs: not_after.map(UnixTime::secs),
            bundle_sequence: authority.bundle.as_ref().map(|bundle| bundle.sequence()),
        }
    }
}

/// Why no certificate could be issued, for operators and for everybody.
fn cannot_sign(
    authority: &Authority,
    profile: Option<&Profile>,
    now: UnixTime,
) -> Option<(String, &'static str)> {
    let issuer = match &authority.issuer {
        Ok(issuer) => issuer,
        Err(why) => return Some((why.to_string(), public_reason(why))),
    };
    if authority.bundle.is_none() {
        return Some((
            "it has no trust anchor".to_owned(),
            "it publishes no trust anchor: see the log, or `rootbridge check`",
        ));
    }
    let backdate = profile?.backdate();
    let error = issuer
        .validity(now, shortest_ttl(backdate), backdate)
        .err()?;
    Some((
        error.to_string(),
        "its issuing CA has expired or is about to: renew it by `rootbridge ca request` and \
         `ca import`",
    ))
}

/// Set when a certificate of the profile's default lifetime would be cut short.
fn shortened(issuer: &Issuer, profile: &Profile, now: UnixTime) -> Option<String> {
    let ttl = profile.default_ttl();
    (now.plus(ttl) > issuer.not_after()).then(|| {
        format!(
            "certificates end with its certification path at {}, before the default lifetime of \
             {} is over: renew the issuing CA",
            issuer.not_after(),
            in_words(ttl)
        )
    })
}

fn public_reason(why: &NoIssuer) -> &'static str {
    match why {
        NoIssuer::NotRecorded => {
            "no active issuing CA: run `rootbridge ca init`, or `ca request` and `ca import`; \
             `authority remove` if its name is wrong"
        }
        NoIssuer::KeyUnavailable(_) => {
            "the token of the issuing key is unavailable: see the log, or `rootbridge check`"
        }
        NoIssuer::InvalidRecords(_) => {
            "its records cannot be used: see the log, or `rootbridge check`"
        }
    }
}
