//! The decision whether a certificate may be issued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::Denial;
use super::profile::{CsrNames, Profile};
use super::rule::Rule;
use crate::x509::{Csr, San, TrustDomain};

/// The most names that one certificate carries.
const MAX_NAMES: usize = 8;

/// Everything that a decision depends on, apart from the CSR.
#[derive(Debug, Clone)]
pub struct PolicyInput<'a> {
    /// The trust domain of the verifier that accepted the caller.
    pub trust_domain: &'a TrustDomain,
    /// The identity as rules name it: `spiffe://…`, `operator:…`, `subject:…`.
    pub identity: &'a str,
    /// The caller's own name, which the mesh APIs certify.
    pub caller_name: Option<&'a San>,
    /// The profile by name; empty means the default one.
    pub profile: &'a str,
    /// The names given beside the CSR; empty where the API has no such field.
    pub names: &'a [San],
    /// The requested lifetime.
    pub ttl: Option<Duration>,
    pub scope: Scope,
}

/// Which names an API lets its callers request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any; each name needs a rule.
    Requested,
    /// The caller's own name only. No rule is needed: this is what a mesh's CA is for.
    CallerName,
    /// The caller's own name only, and by rule: the caller chose a profile other than the API's.
    CallerNameByRule,
}

/// The permission to issue a certificate. Made only by [`Policy::decide`].
#[derive(Debug)]
pub struct Grant {
    profile: Arc<Profile>,
    names: Vec<San>,
    ttl: Duration,
}

impl Grant {
    /// Defines the rest of the certificate.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The names to certify, the primary one first.
    pub fn names(&self) -> &[San] {
        &self.names
    }

    /// From issuance to notAfter.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// Profiles and rules.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) profiles: BTreeMap<String, Arc<Profile>>,
    pub(super) default_profile: String,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// # Errors
    /// A [`Denial`] that names the first thing that is not allowed.
    pub fn decide(&self, input: &PolicyInput<'_>, csr: &Csr) -> Result<Grant, Denial> {
        let profile = self
            .profile(input.profile)
            .ok_or_else(|| Denial::UnknownProfile(input.profile.to_owned()))?;
        let ttl = lifetime(profile, input.ttl)?;
        let kind = csr.public_key().kind();
        if !profile.certifies(kind) {
            return Err(Denial::KeyKind {
                profile: profile.name.clone(),
                kind: kind.to_string(),
            });
        }
        let names = names(input, csr, profile.csr_names)?;
        for name in &names {
            self.check_name(input, profile, name)?;
        }
        Ok(Grant {
            profile: Arc::clone(profile),
            names,
            ttl,
        })
    }

    /// The profile of this name; the default one for an empty name.
    pub fn profile(&self, name: &str) -> Option<&Arc<Profile>> {
        let name = match name {
            "" => &self.default_profile,
            name => name,
        };
        self.profiles.get(name)
    }

    /// The profiles that rules allow, and the default one.
    pub fn profiles_in_use(&self) -> impl Iterator<Item = &Profile> {
        let names = self.rules.iter().flat_map(|rule| &rule.profiles);
        let names = names.chain([&self.default_profile]);
        names.filter_map(|name| self.profiles.get(name).map(Arc::as_ref))
    }

    pub fn has_profile(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    fn check_name(
        &self,
        input: &PolicyInput<'_>,
        profile: &Profile,
        name: &San,
    ) -> Result<(), Denial> {
        if let San::Spiffe(id) = name
            && !id.in_domain(input.trust_domain)
        {
            return Err(Denial::ForeignTrustDomain {
                name: id.to_string(),
                trust_domain: input.trust_domain.to_string(),
            });
        }
        let is_callers_own_name = Some(name) == input.caller_name;
        let allows =
            |rule: &Rule| rule.allows(input.identity, &profile.name, name, is_callers_own_name);
        if (input.scope == Scope::CallerName && is_callers_own_name)
            || self.rules.iter().any(allows)
        {
            return Ok(());
        }
        Err(Denial::NoRule {
            caller: input.identity.to_owned(),
            name: name.to_string(),
            profile: profile.name.clone(),
        })
    }
}

fn lifetime(profile: &Profile, requested: Option<Duration>) -> Result<Duration, Denial> {
    match requested {
        None => Ok(profile.default_ttl),
        Some(requested) if requested > profile.max_ttl => Err(Denial::TtlTooLong {
            requested,
            limit: profile.max_ttl,
        }),
        Some(requested) => Ok(requested),
    }
}

/// The names to certify: the caller's own, those of the request, or those of the CSR.
fn names(input: &PolicyInput<'_>, csr: &Csr, csr_names: CsrNames) -> Result<Vec<San>, Denial> {
    let check_csr = csr_names == CsrNames::Match && !csr.names().is_empty();
    let mut names = if input.scope != Scope::Requested {
        input.caller_name.cloned().into_iter().collect()
    } else if !input.names.is_empty() {
        input.names.to_vec()
    } else if check_csr {
        csr.names().to_vec()
    } else {
        input.caller_name.cloned().into_iter().collect()
    };
    if names.is_empty() {
        return Err(Denial::NoNames);
    }
    if names.len() > MAX_NAMES {
        return Err(Denial::TooManyNames {
            requested: names.len(),
            limit: MAX_NAMES,
        });
    }
    let mut distinct = BTreeSet::new();
    names.retain(|name| distinct.insert(name.clone()));
    // With two, verifiers disagree about whose certificate it is (X509-SVID section 2).
    let ids = names.iter().filter(|name| matches!(name, San::Spiffe(_)));
    if ids.clone().count() > 1 {
        return Err(Denial::SeveralIds(list(&ids.cloned().collect())));
    }
    if check_csr {
        let in_csr: BTreeSet<San> = csr.names().iter().cloned().collect();
        if in_csr != distinct {
            return Err(Denial::CsrNamesDiffer {
                csr: list(&in_csr),
                requested: list(&distinct),
            });
        }
    }
    Ok(names)
}

fn list(names: &BTreeSet<San>) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}
