//! `[profiles.*]` and `[[policy.rules]]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::decide::Policy;
use super::pattern::{Pattern, PatternError};
use super::profile::{CsrNames, Profile};
use super::rule::{NamePattern, Rule};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::{ExtendedKeyUsage, KeyKind, San};

/// The built-in profile, and the default of every API.
const WORKLOAD: &str = "workload";
/// The built-in profile of Linkerd's proxies.
pub const LINKERD_PROFILE: &str = "linkerd";
/// The clock skew that Linkerd allows.
const LINKERD_SKEW: Duration = Duration::from_secs(20);
/// The shortest `default_ttl`, in seconds. With less, clients renew all the time.
const MIN_TTL: u64 = 10;
const DAY: Duration = Duration::from_secs(86_400);

/// `[profiles.NAME]` of the configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawProfile {
    /// Lifetime when none is requested. Default 24h.
    #[serde(with = "humantime_serde")]
    pub default_ttl: Duration,
    /// Longest lifetime that may be requested. Default 24h.
    #[serde(with = "humantime_serde")]
    pub max_ttl: Duration,
    /// How far notBefore is in the past. Default 2m.
    #[serde(with = "humantime_serde")]
    pub backdate: Duration,
    /// Default `match`.
    pub csr_names: CsrNames,
    /// `server`, `client` or both. Default both.
    pub usages: Vec<Usage>,
    /// Kinds of key, such as `ecdsa-p256`. Default: every kind.
    pub keys: Vec<String>,
    /// Whether it is for CAs below the issuing CA, and for nothing else. Default false.
    pub ca: bool,
    /// With `ca`: how many CAs may be below such a CA. Default 0.
    pub path_len: Option<u8>,
}

/// An extended key usage (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    Server,
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
            max_ttl: DAY,
            backdate: Duration::from_secs(120),
            csr_names: CsrNames::Match,
            usages: vec![Usage::Server, Usage::Client],
            keys: Vec::new(),
            ca: false,
            path_len: None,
        }
    }
}

/// `[[policy.rules]]`: these callers may use these profiles for these names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Patterns over callers: `spiffe://…`, `operator:NAME`, `subject:VERIFIER:SUB`.
    pub callers: Vec<String>,
    pub profiles: Vec<String>,
    /// Patterns over names: `spiffe://…`, `dns:…`, `ip:…`, or `self` for the caller's own name.
    pub names: Vec<String>,
}

/// `[policy]` of the configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicy {
    /// The profile of a request that names none. Default `workload`.
    pub default_profile: Option<String>,
    pub rules: Vec<RawRule>,
}

/// `[profiles]` and `[policy]` together.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    pub profiles: BTreeMap<String, RawProfile>,
    pub policy: RawPolicy,
}

/// A valid policy.
#[derive(Debug, Clone)]
pub struct Config {
    policy: Policy,
}

impl Config {
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Lets the server itself, as `caller`, have `names` (those of its listeners) under the profile
    /// `name`. A profile of that name in the file is left unchanged.
    #[must_use]
    pub fn with_rule_for_own_names(
        mut self,
        caller: &str,
        name: &str,
        ttl: Duration,
        names: &[San],
    ) -> Self {
        let raw = RawProfile {
            default_ttl: ttl,
            max_ttl: ttl.max(DAY),
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
                .map(|name| NamePattern::Matching(Pattern::literal(&name.to_string())))
                .collect(),
        });
        self
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigIssues;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let config = Self::check(raw, &mut issues);
        issues.into_result(Some(config))
    }
}

impl Config {
    /// The valid profiles and rules; what is wrong with the others is added to `issues`.
    pub fn check(raw: RawConfig, issues: &mut ConfigIssues) -> Self {
        let mut profiles = BTreeMap::new();
        for (name, raw_profile) in raw.profiles {
            // Names appear in requests and logs. An empty one means the default profile.
            issues.require(
                (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()),
                format!("profiles.{}", name.escape_default()),
                "a profile's name is 1 to 253 ASCII characters without blanks",
            );
            if let Some(profile) = issues.collect(profile(name.clone(), &raw_profile)) {
                profiles.insert(name, Arc::new(profile));
            }
        }
        let linkerd = RawProfile {
            backdate: LINKERD_SKEW,
            // The skew is allowed for at both ends.
            max_ttl: DAY + LINKERD_SKEW,
            ..RawProfile::default()
        };
        for (name, raw) in [
            (WORKLOAD, RawProfile::default()),
            (LINKERD_PROFILE, linkerd),
        ] {
            if !profiles.contains_key(name)
                && let Some(built_in) = issues.collect(profile(name.to_owned(), &raw))
            {
                profiles.insert(name.to_owned(), Arc::new(built_in));
            }
        }
        let default_profile = raw
            .policy
            .default_profile
            .unwrap_or_else(|| WORKLOAD.to_owned());
        let require_profile = |issues: &mut ConfigIssues, key: String, profile: &str| {
            if !profiles.contains_key(profile) {
                let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
                let issue = ConfigIssue::undefined(key, "profiles", profile);
                issues.push(issue.with_fix(format_args!("known: {known}")));
            }
        };
        let key = "policy.default_profile".to_owned();
        require_profile(issues, key, &default_profile);
        let mut rules = Vec::with_capacity(raw.policy.rules.len());
        for (index, raw_rule) in raw.policy.rules.into_iter().enumerate() {
            let table = format!("policy.rules[{index}]");
            for profile in &raw_rule.profiles {
                require_profile(issues, format!("{table}.profiles"), profile);
            }
            rules.extend(issues.collect(rule(&table, raw_rule)));
        }
        Self {
            policy: Policy {
                profiles,
                default_profile,
                rules,
            },
        }
    }
}

fn profile(name: String, raw: &RawProfile) -> Result<Profile, ConfigIssues> {
    let at = |key: &str| format!("profiles.{name}.{key}");
    let mut issues = ConfigIssues::default();
    issues.require(
        raw.default_ttl <= raw.max_ttl,
        at("default_ttl"),
        "is longer than max_ttl (24h unless it is configured)",
    );
    issues.require(
        raw.backdate <= Duration::from_secs(3600),
        at("backdate"),
        "at most 1h: a certificate is not dated far into the past",
    );
    // Clients renew at the middle of notBefore..notAfter. If it were in the past, they would renew
    // without a pause.
    issues.require(
        raw.default_ttl >= raw.backdate * 2 && raw.default_ttl.as_secs() >= MIN_TTL,
        at("default_ttl"),
        "must be at least 10s and twice the backdate",
    );
    for (key, span) in [
        ("default_ttl", raw.default_ttl),
        ("max_ttl", raw.max_ttl),
        ("backdate", raw.backdate),
    ] {
        issues.require(
            span.subsec_nanos() == 0,
            at(key),
            "must be whole seconds: certificates have no fractions",
        );
    }
    issues.require(
        !raw.usages.is_empty(),
        at("usages"),
        "give `server`, `client` or both",
    );
    issues.require(
        raw.ca || raw.path_len.is_none(),
        at("path_len"),
        "is for a profile of CAs: write `ca = true` too",
    );
    let mut keys = Vec::with_capacity(raw.keys.len());
    for kind in &raw.keys {
        let kind = kind.parse::<KeyKind>();
        keys.extend(issues.collect(kind.map_err(|error| ConfigIssue::new(at("keys"), error))));
    }
    let usage = raw
        .usages
        .iter()
        .fold(ExtendedKeyUsage::NONE, |all, usage| {
            all.with(usage.to_x509())
        });
    issues.into_result(Some(Profile {
        default_ttl: raw.default_ttl,
        max_ttl: raw.max_ttl,
        backdate: raw.backdate,
        csr_names: raw.csr_names,
        usage,
        keys,
        ca_path_len: raw.ca.then(|| raw.path_len.unwrap_or_default()),
        name,
    }))
}

fn rule(table: &str, raw: RawRule) -> Result<Rule, ConfigIssues> {
    let at = |key: &str| format!("{table}.{key}");
    let mut issues = ConfigIssues::default();
    for (key, empty) in [
        ("callers", raw.callers.is_empty()),
        ("profiles", raw.profiles.is_empty()),
        ("names", raw.names.is_empty()),
    ] {
        if empty {
            let issue = ConfigIssue::new(at(key), "an empty list allows nothing");
            issues.push(issue.with_fix("leave the rule out instead"));
        }
    }
    let pattern = |key, text: &str| {
        Pattern::parse(text).map_err(|error: PatternError| ConfigIssue::new(at(key), error))
    };
    let mut callers = Vec::with_capacity(raw.callers.len());
    for text in &raw.callers {
        callers.extend(issues.collect(pattern("callers", text)));
    }
    let mut names = Vec::with_capacity(raw.names.len());
    for text in &raw.names {
        names.extend(match text.as_str() {
            "self" => Some(NamePattern::Caller),
            text => issues.collect(pattern("names", text).map(NamePattern::Matching)),
        });
    }
    issues.into_result(Some(Rule {
        callers,
        names,
        profiles: raw.profiles,
    }))
}
