//! What can be refused of a service account's token before an API server is asked about it.
//!
//! Nothing here accepts a token. It is refused only for what no API server accepts: who can reach this
//! server must not be able to make it ask.

use super::claims::Parts;
use super::error::{AuthnError, Quoted};
use super::jwt::split;
use super::subject::service_account;
use crate::clock::{Clock, UnixTime};

/// Kubernetes signs with RSA or ECDSA keys. Not `none`, and no symmetric algorithm, whose key would be one
/// that others know.
const ALGORITHMS: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];
/// Kubernetes accepts a token for that long after its end.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);

/// What a token says of itself. Anyone can have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedToken {
    pub issuer: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
}

impl UnverifiedToken {
    /// Tokens of the kind that Secrets hold have neither an end nor an audience: whether such a token is
    /// for `audience`, only the API server knows.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`].
    pub fn read(token: &str, audience: &str, clock: &dyn Clock) -> Result<Self, AuthnError> {
        let parts = split(token)?;
        let header = parts.header().map_err(AuthnError::rejected)?;
        if !ALGORITHMS.contains(&&*header.alg) {
            return Err(AuthnError::rejected(format_args!(
                "no cluster signs with the algorithm {}",
                Quoted(&header.alg)
            )));
        }
        if parts.signature.is_empty() {
            return Err(AuthnError::rejected("the token is not signed"));
        }
        let claims = parts.reviewable().map_err(AuthnError::rejected)?;
        if service_account(&claims.sub).is_none() {
            return Err(AuthnError::rejected("it is no service account's token"));
        }
        let end = claims.exp.map(UnixTime::from_secs);
        if let Some(end) = end.filter(|end| end.plus(LEEWAY) <= clock.now()) {
            return Err(AuthnError::rejected(format_args!(
                "the token expired at {end}"
            )));
        }
        let audiences = claims.aud.filter(|audiences| !audiences.is_empty());
        if audiences.is_some_and(|audiences| !audiences.include(audience)) {
            return Err(AuthnError::rejected(format_args!(
                "the token is not for the audience {audience}"
            )));
        }
        Ok(Self {
            issuer: claims.iss.into_owned(),
            subject: claims.sub.into_owned(),
        })
    }
}

/// The issuer that a service account's token names, of a token that this process holds itself.
pub fn issuer_of_own(token: &str) -> Option<String> {
    let parts = Parts::split(token).ok()?;
    let claims = parts.reviewable().ok()?;
    service_account(&claims.sub)?;
    Some(claims.iss.into_owned())
}
