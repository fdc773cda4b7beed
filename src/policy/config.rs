//! `[profiles.*]` and `[[policy.rules]]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::decide::Policy;
use super::pattern::{Pattern, PatternError};
use super::profile::{CsrNames, Profile};
use super::rule::{NamePattern, Rule};
use crate::x509::ExtendedKeyUsage;
use crate::x509::KeyKind;
use crate::x509::San;

/// The profile that is there without being configured, and the default of every API.
const WORKLOAD: &str = "workload";
/// The profile of Linkerd's proxies, there without being configured too.
pub const LINKERD_PROFILE: &str = "linkerd";
/// How far Linkerd allows clocks to be off.
const LINKERD_SKEW: Duration = Duration::from_secs(20);
/// The shortest `default_ttl`, in seconds: below it clients do little but renew.
const MIN_TTL: u64 = 10;
const DAY: Duration = Duration::from_secs(86_400);

/// `[profiles.NAME]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProfile {
    /// Lifetime when none is asked for. Default 24h.
    #[serde(with = "humantime_serde")]
    pub default_ttl: Duration,
    /// Longest lifetime that may be asked for. Default 90d.
    #[serde(with = "humantime_serde")]
    pub max_ttl: Duration,
    /// How far notBefore lies in the past. Default 2m.
    #[serde(with = "humantime_serde")]
    pub backdate: Duration,
    /// What names in a CSR mean. Default `match`.
    pub csr_names: CsrNames,
    /// `server`, `client` or both. Default both.
    pub usages: Vec<Usage>,
    /// Kinds of key, such as `ecdsa-p256`. Default: every kind.
    pub keys: Vec<String>,
}

/// An extended key usage (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// id-kp-serverAuth.
    Server,
    /// id-kp-clientAuth.
    Client,
}

impl Usage {
    const fn to_x509(self) -> ExtendedKeyUsage {
        match self {
            Self::Server => ExtendedKeyUsage::SERVER_AUTH,
            Self::Client => ExtendedKeyUsage::CLIENT_AUTH,
        }
    }
}

impl Default for RawProfile {
    fn default() -> Self {
        Self {
            default_ttl: DAY,
            max_ttl: DAY * 90,
            backdate: Duration::from_secs(120),
            csr_names: CsrNames::Match,
            usages: vec![Usage::Server, Usage::Client],
            keys: Vec::new(),
        }
    }
}

/// `[[policy.rules]]` as it is written: these callers may use these profiles for these names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Patterns over callers: `spiffe://…`, `operator:NAME`, `subject:VERIFIER:SUB`.
    pub callers: Vec<String>,
    /// Names of profiles.
    pub profiles: Vec<String>,
    /// Patterns over names: `spiffe://…`, `dns:…`, `ip:…`, or `self` for the caller's own name.
    pub names: Vec<String>,
}

/// `[policy]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicy {
    /// The profile of a request that names none. Default `workload`.
    pub default_profile: Option<String>,
    /// What is allowed; everything else is denied.
    pub rules: Vec<RawRule>,
}

/// `[profiles]` and `[policy]` together.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    /// `[profiles.*]`.
    pub profiles: BTreeMap<String, RawProfile>,
    /// `[policy]`.
    pub policy: RawPolicy,
}

/// What is wrong with the profiles or the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value of a profile.
    #[error("profiles.{profile}.{key}: {why}")]
    Profile {
        /// The profile's name.
        profile: String,
        /// The key in it.
        key: &'static str,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// A name that no request could give.
    #[error("profiles.{name}: a profile's name is 1 to 253 ASCII characters without blanks")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// A pattern of a rule.
    #[error("policy.rules[{at}].{key}: {source}")]
    Pattern {
        /// Index of the rule, from 0.
        at: usize,
        /// `callers` or `names`.
        key: &'static str,
        /// What is wrong with it.
        source: PatternError,
    },
    /// A list that may not be empty.
    #[error("policy.rules[{at}].{key}: an empty list allows nothing; leave the rule out instead")]
    Empty {
        /// Index of the rule, from 0.
        at: usize,
        /// The key in it.
        key: &'static str,
    },
    /// A rule or a default that names a profile that is not there.
    #[error("{at}: no profile is called `{profile}`; known: {known}")]
    NoProfile {
        /// Where it is named.
        at: String,
        /// The name.
        profile: String,
        /// The names there are.
        known: String,
    },
}

/// A checked policy.
#[derive(Debug, Clone)]
pub struct Config {
    policy: Policy,
}

impl Config {
    /// The policy in force.
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Lets the server itself, as `caller`, have `names` under a profile of its own: what
    /// listeners are configured to be called. A profile of that name in the file stays as it is.
    #[must_use]
    pub fn with_own_names(
        mut self,
        caller: &str,
        name: &str,
        ttl: Duration,
        names: &[San],
    ) -> Self {
        let raw = RawProfile {
            default_ttl: ttl,
            usages: vec![Usage::Server],
            ..RawProfile::default()
        };
        if !self.policy.profiles.contains_key(name)
            && let Ok(profile) = profile(name.to_owned(), &raw)
        {
            self.policy
                .profiles
                .insert(name.to_owned(), Arc::new(profile));
        }
        self.policy.rules.push(Rule {
            callers: vec![Pattern::literal(caller)],
            profiles: vec![name.to_owned()],
            names: names
                .iter()
                .map(|name| NamePattern::Like(Pattern::literal(&name.to_string())))
                .collect(),
        });
        self
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut profiles = BTreeMap::new();
        for (name, written) in raw.profiles {
            // Requests name a profile and logs show it; an empty name means the default one.
            if !(1..=253).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(ConfigError::Name {
                    name: name.escape_default().to_string(),
                });
            }
            profiles.insert(name.clone(), Arc::new(profile(name, &written)?));
        }
        if !profiles.contains_key(WORKLOAD) {
            let built_in = profile(WORKLOAD.to_owned(), &RawProfile::default())?;
            profiles.insert(WORKLOAD.to_owned(), Arc::new(built_in));
        }
        if !profiles.contains_key(LINKERD_PROFILE) {
            let raw = RawProfile {
                backdate: LINKERD_SKEW,
                ..RawProfile::default()
            };
            let built_in = profile(LINKERD_PROFILE.to_owned(), &raw)?;
            profiles.insert(LINKERD_PROFILE.to_owned(), Arc::new(built_in));
        }
        let named = |at: String, profile: &str| match profiles.contains_key(profile) {
            true => Ok(()),
            false => Err(ConfigError::NoProfile {
                at,
                profile: profile.to_owned(),
                known: profiles.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        };
        let default_profile = raw
            .policy
            .default_profile
            .unwrap_or_else(|| WORKLOAD.to_owned());
        named("policy.default_profile".to_owned(), &default_profile)?;
        let mut rules = Vec::with_capacity(raw.policy.rules.len());
        for (at, written) in raw.policy.rules.into_iter().enumerate() {
            for profile in &written.profiles {
                named(format!("policy.rules[{at}].profiles"), profile)?;
            }
            rules.push(rule(at, written)?);
        }
        Ok(Self {
            policy: Policy {
                profiles,
                default_profile,
                rules,
            },
        })
    }
}

fn profile(name: String, raw: &RawProfile) -> Result<Profile, ConfigError> {
    let wrong = |key, why: &str| ConfigError::Profile {
        profile: name.clone(),
        key,
        why: why.to_owned(),
    };
    if raw.default_ttl > raw.max_ttl {
        return Err(wrong("default_ttl", "is longer than max_ttl"));
    }
    if raw.backdate > Duration::from_secs(3600) {
        return Err(wrong(
            "backdate",
            "at most 1h: a certificate is not dated far into the past",
        ));
    }
    // Clients renew at the middle of a certificate's life, backdating included: with less than
    // this the middle lies in the past and they would renew without a pause.
    if raw.default_ttl < raw.backdate * 2 || raw.default_ttl.as_secs() < MIN_TTL {
        return Err(wrong(
            "default_ttl",
            "must be at least 10s and twice the backdate",
        ));
    }
    for (key, span) in [
        ("default_ttl", raw.default_ttl),
        ("max_ttl", raw.max_ttl),
        ("backdate", raw.backdate),
    ] {
        if span.subsec_nanos() != 0 {
            return Err(wrong(
                key,
                "must be whole seconds: certificates know no others",
            ));
        }
    }
    if raw.usages.is_empty() {
        return Err(wrong("usages", "give `server`, `client` or both"));
    }
    let mut keys = Vec::with_capacity(raw.keys.len());
    for kind in &raw.keys {
        keys.push(
            kind.parse::<KeyKind>()
                .map_err(|e| wrong("keys", &e.to_string()))?,
        );
    }
    let usage = raw
        .usages
        .iter()
        .fold(ExtendedKeyUsage::NONE, |all, usage| {
            all.with(usage.to_x509())
        });
    Ok(Profile {
        default_ttl: raw.default_ttl,
        max_ttl: raw.max_ttl,
        backdate: raw.backdate,
        csr_names: raw.csr_names,
        usage,
        keys,
        name,
    })
}

fn rule(at: usize, raw: RawRule) -> Result<Rule, ConfigError> {
    for (key, empty) in [
        ("callers", raw.callers.is_empty()),
        ("profiles", raw.profiles.is_empty()),
        ("names", raw.names.is_empty()),
    ] {
        if empty {
            return Err(ConfigError::Empty { at, key });
        }
    }
    let pattern = |key, text: &str| {
        Pattern::parse(text).map_err(|source| ConfigError::Pattern { at, key, source })
    };
    let callers = raw.callers.iter().map(|text| pattern("callers", text));
    let names = raw.names.iter().map(|text| match text.as_str() {
        "self" => Ok(NamePattern::Own),
        text => pattern("names", text).map(NamePattern::Like),
    });
    Ok(Rule {
        callers: callers.collect::<Result<_, _>>()?,
        names: names.collect::<Result<_, _>>()?,
        profiles: raw.profiles,
    })
}
