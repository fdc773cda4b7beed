//! JSON Web Tokens (RFC 7519): `iss` names the one verifier that judges.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::caller::{Api, Caller};
use super::claims::{Claims, Parts};
use super::config::{Config, JwtConfig};
use super::error::{AuthnError, Quoted};
use super::key::Algorithm;
use super::keys::{KeysReport, LiveKeys};
use crate::clock::{Clock, UnixTime};

/// The longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Every verifier of JWTs, by name.
#[derive(Debug)]
pub struct JwtVerifiers {
    verifiers: BTreeMap<String, Verifier>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) name: String,
    pub(super) config: JwtConfig,
    keys: Arc<LiveKeys>,
}

impl JwtVerifiers {
    /// Starts reading each verifier's keys. To be called inside a tokio runtime: the tasks that
    /// keep the keys fresh end when the last of their owners is dropped.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            verifiers: BTreeMap::new(),
            clock,
        }
        .reconfigured(config)
    }

    /// Verifiers for a new configuration that go on with the keys of those whose source is the
    /// same, so that a reload during an issuer's outage forgets nothing.
    #[must_use]
    pub fn reconfigured(&self, config: &Config) -> Self {
        let verifiers = config.jwt().iter().map(|(name, config)| {
            let same = |before: &&Verifier| before.keys.config() == config.keys();
            let keys = self.verifiers.get(name).filter(same).map_or_else(
                || {
                    Arc::new(LiveKeys::start(
                        name,
                        config.keys().clone(),
                        Arc::clone(&self.clock),
                    ))
                },
                |before| Arc::clone(&before.keys),
            );
            (
                name.clone(),
                Verifier {
                    name: name.clone(),
                    config: config.clone(),
                    keys,
                },
            )
        });
        Self {
            verifiers: verifiers.collect(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Whether `token` says that it is from the issuer of one of the verifiers in `allowed`, so that
    /// this verifier alone judges it. Nothing about the token is believed by that.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when it is no token that names its issuer.
    pub fn claims_issuer_of(&self, token: &str, allowed: &[String]) -> Result<bool, AuthnError> {
        let parts = split(token)?;
        let issuer = parts.issuer().map_err(AuthnError::rejected)?;
        let mut verifiers = allowed.iter().filter_map(|name| self.verifiers.get(name));
        Ok(verifiers.any(|verifier| verifier.config.issuer() == issuer))
    }

    /// Who presents `token` to `api`, as judged by the one verifier among `allowed` whose issuer
    /// the token names.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when that verifier says no or there is none;
    /// [`AuthnError::Unavailable`] when its keys are not to be had.
    pub async fn authenticate(
        &self,
        token: &str,
        api: Api,
        allowed: &[String],
    ) -> Result<Caller, AuthnError> {
        let parts = split(token)?;
        let header = parts.header().map_err(AuthnError::rejected)?;
        let claims = parts.claims().map_err(AuthnError::rejected)?;
        let verifier = self.choose(&claims.iss, allowed)?;
        let now = self.clock.now();
        // All that costs nothing comes before the signature; nothing is believed before it.
        verifier.check_claims(&claims, api, now)?;
        let algorithm = Algorithm::parse(&header.alg).ok_or_else(|| {
            verifier.rejected(format_args!(
                "algorithm {} is not accepted",
                Quoted(&header.alg)
            ))
        })?;
        let key_id = verifier
            .check_signature(&parts, header.kid.as_deref(), algorithm)
            .await?;
        verifier.caller(&claims, key_id, now)
    }

    /// How each verifier's keys stand.
    pub fn reports(&self) -> impl Iterator<Item = (&str, KeysReport)> {
        self.verifiers
            .iter()
            .map(|(name, verifier)| (name.as_str(), verifier.keys.report()))
    }

    /// The configuration refuses two verifiers for one issuer on a listener; should two be named
    /// here all the same, neither is taken.
    fn choose(&self, issuer: &str, allowed: &[String]) -> Result<&Verifier, AuthnError> {
        let mut fitting = allowed
            .iter()
            .filter_map(|name| self.verifiers.get(name))
            .filter(|verifier| verifier.config.issuer() == issuer);
        match (fitting.next(), fitting.next()) {
            (Some(verifier), None) => Ok(verifier),
            (None, _) => Err(AuthnError::rejected(format_args!(
                "the issuer {} may not vouch here",
                Quoted(issuer)
            ))),
            (Some(_), Some(_)) => Err(AuthnError::rejected(format_args!(
                "more than one verifier is for the issuer {}",
                Quoted(issuer)
            ))),
        }
    }
}

/// The parts of a token that is not too long to be looked at.
pub(super) fn split(token: &str) -> Result<Parts<'_>, AuthnError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthnError::rejected(format_args!(
            "the token has {} bytes, and {MAX_TOKEN_BYTES} are the most",
            token.len()
        )));
    }
    Parts::split(token).map_err(AuthnError::rejected)
}

impl Verifier {
    pub(super) fn rejected(&self, why: impl std::fmt::Display) -> AuthnError {
        AuthnError::rejected(format_args!("by verifier {}: {why}", self.name))
    }

    fn check_claims(&self, claims: &Claims<'_>, api: Api, now: UnixTime) -> Result<(), AuthnError> {
        let leeway = self.config.leeway();
        let (earliest, latest) = (now.minus(leeway), now.plus(leeway));
        let at = UnixTime::from_secs;
        if at(claims.exp) <= earliest {
            return Err(self.rejected(format_args!("the token expired at {}", at(claims.exp))));
        }
        if let Some(nbf) = claims.nbf.map(at).filter(|nbf| *nbf > latest) {
            return Err(self.rejected(format_args!("the token is not valid before {nbf}")));
        }
        if let Some(iat) = claims.iat.map(at).filter(|iat| *iat > latest) {
            return Err(self.rejected(format_args!("the token was issued in the future, at {iat}")));
        }
        match self.config.audience(api) {
            None => Err(self.rejected(format_args!("its tokens do not count for the API {api}"))),
            Some(audience) if !claims.aud.include(audience) => {
                Err(self.rejected(format_args!("the token is not for the audience {audience}")))
            }
            Some(_) => Ok(()),
        }
    }

    /// The id of the key that signed, where it has one.
    async fn check_signature(
        &self,
        parts: &Parts<'_>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<String>, AuthnError> {
        let verdict = self
            .keys
            .ask(|set| {
                let verdict = set.verify(kid, algorithm, parts.signed, &parts.signature)?;
                Some(verdict.map(|id| id.map(str::to_owned)))
            })
            .await
            .map_err(|why| AuthnError::Unavailable(format!("verifier {}: {why}", self.name)))?;
        match verdict {
            Some(Ok(key_id)) => Ok(key_id),
            Some(Err(refused)) => Err(self.rejected(refused)),
            None => Err(self.rejected(format_args!(
                "the issuer has no key {}",
                Quoted(kid.unwrap_or_default())
            ))),
        }
    }
}
