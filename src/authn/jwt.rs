//! JSON Web Tokens (RFC 7519). `iss` selects the verifier.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::caller::{Api, Caller};
use super::claims::{Claims, Parts};
use super::config::{Config, JwtConfig};
use super::error::{AuthnError, Quoted};
use super::key::Algorithm;
use super::key_cache::{KeyCache, KeyCacheReport};
use crate::clock::{Clock, UnixTime};

/// The longest token that is parsed, in bytes.
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
    keys: Arc<KeyCache>,
}

impl JwtVerifiers {
    /// Starts reading each verifier's keys, inside a tokio runtime. The tasks that refresh the keys
    /// end when their last owner is dropped.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            verifiers: BTreeMap::new(),
            clock,
        }
        .reconfigured(config)
    }

    /// Verifiers for a new configuration. Those with an unchanged source keep their keys, so that a
    /// reload during an issuer's outage loses none.
    #[must_use]
    pub fn reconfigured(&self, config: &Config) -> Self {
        let verifiers = config.jwt().iter().map(|(name, config)| {
            let is_same = |before: &&Verifier| before.keys.config() == config.keys();
            let keys = self.verifiers.get(name).filter(is_same).map_or_else(
                || {
                    Arc::new(KeyCache::start(
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

    /// Whether `token` claims the issuer of one of the verifiers in `allowed`, so that this verifier
    /// decides on it. The claim is not verified.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when it is no token that names its issuer.
    pub fn claims_issuer_of(&self, token: &str, allowed: &[String]) -> Result<bool, AuthnError> {
        let parts = split(token)?;
        let issuer = parts.issuer().map_err(AuthnError::rejected)?;
        let mut verifiers = allowed.iter().filter_map(|name| self.verifiers.get(name));
        Ok(verifiers.any(|verifier| verifier.config.issuer() == issuer))
    }

    /// The caller that presents `token` to `api`. The verifier among `allowed` whose issuer the token
    /// names decides.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when that verifier rejects it or there is none,
    /// [`AuthnError::Unavailable`] when its keys are.
    pub async fn authenticate(
        &self,
        token: &str,
        api: Api,
        allowed: &[String],
    ) -> Result<Caller, AuthnError> {
        let parts = split(token)?;
        let header = parts.header().map_err(AuthnError::rejected)?;
        let claims = parts.claims().map_err(AuthnError::rejected)?;
        let verifier = self.select(&claims.iss, allowed)?;
        let now = self.clock.now();
        // The cheap checks come first. Nothing is trusted before the signature is verified.
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
        verifier.caller(&parts, &claims, key_id, now)
    }

    /// The state of each verifier's keys.
    pub fn reports(&self) -> impl Iterator<Item = (&str, KeyCacheReport)> {
        self.verifiers
            .iter()
            .map(|(name, verifier)| (name.as_str(), verifier.keys.report()))
    }

    /// For the log of a refusal.
    fn accepted_issuers(&self, allowed: &[String]) -> String {
        let verifiers = allowed.iter().filter_map(|name| self.verifiers.get(name));
        let issuers: Vec<_> = verifiers
            .map(|each| format!("{} by verifier {}", each.config.issuer(), each.name))
            .collect();
        match issuers.is_empty() {
            true => String::new(),
            false => format!("; accepted are {}", issuers.join(", ")),
        }
    }

    /// The configuration refuses two verifiers for one issuer on a listener. If there are two all the
    /// same, neither is used.
    fn select(&self, issuer: &str, allowed: &[String]) -> Result<&Verifier, AuthnError> {
        let mut matching = allowed
            .iter()
            .filter_map(|name| self.verifiers.get(name))
            .filter(|verifier| verifier.config.issuer() == issuer);
        match (matching.next(), matching.next()) {
            (Some(verifier), None) => Ok(verifier),
            (None, _) => Err(AuthnError::rejected(format_args!(
                "the issuer {} is not accepted here{}",
                Quoted(issuer),
                self.accepted_issuers(allowed)
            ))),
            (Some(_), Some(_)) => Err(AuthnError::rejected(format_args!(
                "more than one verifier is for the issuer {}",
                Quoted(issuer)
            ))),
        }
    }
}

/// Splits a token that is not too long.
pub(super) fn split(token: &str) -> Result<Parts<'_>, AuthnError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthnError::rejected(format_args!(
            "the token has {} bytes, more than {MAX_TOKEN_BYTES}",
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
            None => {
                Err(self.rejected(format_args!("its tokens are not accepted by the API {api}")))
            }
            Some(audience) if !claims.aud.include(audience) => {
                Err(self.rejected(format_args!(
                    "the token is not for the audience {audience}, which the API {api} requires; it is for {}",
                    claims.aud
                )))
            }
            Some(_) => Ok(()),
        }
    }

    /// Returns the id of the key that signed.
    async fn check_signature(
        &self,
        parts: &Parts<'_>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<String>, AuthnError> {
        let verdict = self
            .keys
            .query(|set| {
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
