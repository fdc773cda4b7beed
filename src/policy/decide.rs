//! The decision itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Denial;
use super::profile::{CsrNames, Profile};
use super::rule::Rule;
use crate::x509::{Csr, San, TrustDomain};

/// The most names that one certificate carries.
const MAX_NAMES: usize = 8;

/// Who asks, in the words of policy.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The trust domain of the verifier that accepted the caller.
    pub trust_domain: &'a TrustDomain,
    /// The identity as rules name it: `spiffe://…`, `operator:…`, `subject:…`.
    pub identity: &'a str,
    /// The name that is the caller's own, which the mesh APIs certify.
    pub own_name: Option<&'a San>,
}

/// What is asked for, whichever API it came by.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The profile by name; empty means the default one.
    pub profile: &'a str,
    /// The names stated beside the CSR; empty where the API has no such field or none was given.
    pub names: &'a [San],
    /// The lifetime wished for.
    pub ttl: Option<Duration>,
    /// Which names can be meant.
    pub scope: Scope,
}

/// Which names an API lets its callers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any; each name needs a rule.
    Asked,
    /// The caller's own name only, and no rule is needed: this is what a mesh's CA is for.
    Own,
    /// The caller's own name only, by rule: the caller chose another profile than the API's own.
    OwnByRule,
}

/// A permission to certify `names` under a profile, for so long. Made only by [`Policy::decide`].
#[derive(Debug)]
pub struct Grant {
    profile: Arc<Profile>,
    names: Vec<San>,
    ttl: Duration,
}

impl Grant {
    /// The profile that fills in the rest of the certificate.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What is certified; the primary name comes first.
    pub fn names(&self) -> &[San] {
        &self.names
    }

    /// From the moment of issuance to notAfter.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// The profiles and rules in force.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) profiles: BTreeMap<String, Arc<Profile>>,
    pub(super) default_profile: String,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// Decides whether `applicant` gets what `ask` and `csr` say.
    ///
    /// # Errors
    /// A [`Denial`] that names the first thing that is not allowed.
    pub fn decide(
        &self,
        applicant: Applicant<'_>,
        ask: &Ask<'_>,
        csr: &Csr,
    ) -> Result<Grant, Denial> {
        let name = if ask.profile.is_empty() {
            &self.default_profile
        } else {
            ask.profile
        };
        let profile = self
            .profiles
            .get(name)
            .ok_or_else(|| Denial::UnknownProfile(name.to_owned()))?;
        let ttl = lifetime(profile, ask.ttl)?;
        if !profile.certifies(csr.public_key().kind()) {
            return Err(Denial::KeyKind {
                profile: profile.name.clone(),
                kind: csr.public_key().kind().to_string(),
            });
        }
        let names = asked_names(applicant, ask, csr, profile.csr_names)?;
        for name in &names {
            self.may_have(applicant, profile, name, ask.scope)?;
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

    /// Whether a profile of this name exists and some rule, or the caller's own name, may use it.
    pub fn has_profile(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    fn may_have(
        &self,
        applicant: Applicant<'_>,
        profile: &Profile,
        name: &San,
        scope: Scope,
    ) -> Result<(), Denial> {
        if let San::Spiffe(id) = name
            && !id.in_domain(applicant.trust_domain)
        {
            return Err(Denial::ForeignTrustDomain {
                name: id.to_string(),
                trust_domain: applicant.trust_domain.to_string(),
            });
        }
        let own = Some(name) == applicant.own_name;
        if scope == Scope::Own && own {
            return Ok(());
        }
        if self
            .rules
            .iter()
            .any(|rule| rule.allows(applicant.identity, &profile.name, name, own))
        {
            return Ok(());
        }
        Err(Denial::NoRule {
            caller: applicant.identity.to_owned(),
            name: name.to_string(),
            profile: profile.name.clone(),
        })
    }
}

fn lifetime(profile: &Profile, asked: Option<Duration>) -> Result<Duration, Denial> {
    match asked {
        None => Ok(profile.default_ttl),
        Some(asked) if asked > profile.max_ttl => Err(Denial::TtlTooLong {
            asked,
            limit: profile.max_ttl,
        }),
        Some(asked) => Ok(asked),
    }
}

/// The names that are to be certified, the same whether they came by field or in the CSR.
fn asked_names(
    applicant: Applicant<'_>,
    ask: &Ask<'_>,
    csr: &Csr,
    csr_names: CsrNames,
) -> Result<Vec<San>, Denial> {
    let own = || applicant.own_name.cloned();
    let names = if ask.scope != Scope::Asked {
        own().into_iter().collect()
    } else if !ask.names.is_empty() {
        ask.names.to_vec()
    } else if csr_names == CsrNames::Match && !csr.names().is_empty() {
        csr.names().to_vec()
    } else {
        own().into_iter().collect::<Vec<_>>()
    };
    if names.is_empty() {
        return Err(Denial::NoNames);
    }
    if names.len() > MAX_NAMES {
        return Err(Denial::TooManyNames(names.len(), MAX_NAMES));
    }
    let mut names: Vec<San> = names;
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if csr_names == CsrNames::Match && !csr.names().is_empty() {
        let in_csr: std::collections::BTreeSet<San> = csr.names().iter().cloned().collect();
        if in_csr != seen {
            return Err(Denial::CsrNamesDiffer {
                csr: list(&in_csr),
                asked: list(&seen),
            });
        }
    }
    Ok(names)
}

fn list<'a>(names: impl IntoIterator<Item = &'a San>) -> String {
    names
        .into_iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}
