//! `[authority."TRUST_DOMAIN"]`.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::in_words;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::issuance::UpstreamOptions;
use crate::policy::Profile;
use crate::upstream::schedule::{JITTER_PERCENT, RenewAt};
use crate::x509::{KeyKind, TrustDomain, ca_name};

const DEFAULT_TTL: Duration = Duration::from_secs(90 * 86_400);
const DEFAULT_PUBLISH_FIRST: Duration = Duration::from_secs(86_400);

/// `[authority."TRUST_DOMAIN"]` of the configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAuthority {
    /// The name in `[upstream.NAME]` of the CA that certifies the issuing key.
    pub upstream: String,
    /// The token of new keys, by its name in `[hsm.tokens.NAME]`. Default: the only one.
    #[serde(default)]
    pub token: Option<String>,
    /// The kind of new keys. Default `ecdsa-p256`.
    #[serde(default)]
    pub key: Option<String>,
    /// commonName of the subject. Default `TRUST_DOMAIN issuing CA`.
    #[serde(default)]
    pub subject: Option<String>,
    /// organizationName of the subject. Default none.
    #[serde(default)]
    pub organization: Option<String>,
    /// How many CAs may follow the issuing CA in a certification path. Default 0.
    #[serde(default)]
    pub path_len: u8,
    /// The lifetime to ask for. Default 90d.
    #[serde(default, with = "humantime_serde")]
    pub ttl: Option<Duration>,
    /// After which part of its life the issuing CA is renewed. Default `50%`.
    #[serde(default)]
    pub renew_at: Option<String>,
    /// Certify the same key again. Default false: a new key each time.
    #[serde(default)]
    pub reuse_key: bool,
    /// How long a root that was approved is published before certificates below it are used, in an
    /// authority that is in use. Default 24h.
    #[serde(default, with = "humantime_serde")]
    pub publish_first: Option<Duration>,
}

/// A checked `[authority."TRUST_DOMAIN"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityConfig {
    pub(in crate::upstream) upstream: String,
    pub(in crate::upstream) options: UpstreamOptions,
    pub(in crate::upstream) ttl: Duration,
    pub(in crate::upstream) renew_at: RenewAt,
}

impl AuthorityConfig {
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.options.trust_domain
    }

    /// What its requests ask for.
    pub fn options(&self) -> &UpstreamOptions {
        &self.options
    }

    pub(super) fn check(
        domain: &str,
        raw: RawAuthority,
        tokens: &[&str],
    ) -> Result<Self, ConfigIssues> {
        let table = format!("authority.{domain}");
        let mut issues = ConfigIssues::default();
        let trust_domain = TrustDomain::parse(domain);
        let trust_domain =
            issues.collect(trust_domain.map_err(|error| ConfigIssue::new(table.clone(), error)));
        let mut inner = ConfigIssues::default();
        let token = inner.collect(token(raw.token, tokens));
        let kind = inner.collect(kind(raw.key.as_deref().unwrap_or("ecdsa-p256")));
        let common_name = raw
            .subject
            .unwrap_or_else(|| format!("{domain} issuing CA"));
        if let Err(error) = ca_name(&common_name, raw.organization.as_deref()) {
            let issue = ConfigIssue::new("subject", error);
            inner.push(
                issue.with_fix("write subject and organization with 1 to 64 characters each"),
            );
        }
        let ttl = raw.ttl.unwrap_or(DEFAULT_TTL);
        inner.require(
            ttl >= Duration::from_secs(20),
            "ttl",
            "must be at least 20s: an issuing CA that is renewed all the time signs nothing",
        );
        let renew_at = raw
            .renew_at
            .as_deref()
            .map_or(Ok(RenewAt::HALF), str::parse);
        let renew_at = inner.collect(renew_at.map_err(|error: String| {
            ConfigIssue::new("renew_at", error)
                .with_fix("write a part of its life, such as \"50%\"")
        }));
        issues.collect(
            inner
                .into_result(Some(()))
                .map_err(|inner| inner.under(&table)),
        );
        let value = || {
            Some(Self {
                upstream: raw.upstream.clone(),
                ttl,
                renew_at: renew_at?,
                options: UpstreamOptions {
                    trust_domain: trust_domain?,
                    upstream: raw.upstream,
                    token: token?,
                    kind: kind?,
                    path_len: raw.path_len,
                    common_name,
                    organization: raw.organization,
                    reuse_key: raw.reuse_key,
                    least_life: Duration::ZERO,
                    publish_first: raw.publish_first.unwrap_or(DEFAULT_PUBLISH_FIRST),
                },
            })
        };
        issues.into_result(value())
    }

    /// A certificate never outlives its issuer, so the issuing CA must have the longest one's lifetime
    /// left when it is renewed at the latest.
    pub(super) fn check_lifetime(&mut self, longest: &Profile) -> Result<(), ConfigIssue> {
        let needed = longest.default_ttl();
        self.options.least_life = needed;
        let latest = self.renew_at.percent() + JITTER_PERCENT;
        let left = self.ttl / 100 * u32::from(100 - latest.min(100));
        if left >= needed {
            return Ok(());
        }
        let show = in_words;
        let problem = format_args!(
            "an issuing CA of {} that is renewed at {}% of its life, and up to {JITTER_PERCENT}% later, \
             has {} left then, but certificates of [profiles.{}] live {}",
            show(self.ttl),
            self.renew_at.percent(),
            show(Duration::from_secs(left.as_secs())),
            longest.name(),
            show(needed),
        );
        let enough = needed.as_secs() * 100 / u64::from(100 - latest.min(99)) + 100;
        let fix = format_args!(
            "raise ttl to {} or more, lower renew_at, or lower profiles.{}.default_ttl",
            show(Duration::from_secs(enough)),
            longest.name()
        );
        let key = format!("authority.{}.ttl", self.options.trust_domain);
        Err(ConfigIssue::new(key, problem).with_fix(fix))
    }
}

fn token(given: Option<String>, tokens: &[&str]) -> Result<String, ConfigIssue> {
    match (given, tokens) {
        (Some(name), tokens) if tokens.contains(&name.as_str()) => Ok(name),
        (Some(name), _) => Err(ConfigIssue::undefined("token", "hsm.tokens", &name)),
        (None, [only]) => Ok((*only).to_owned()),
        (None, tokens) => {
            let known = tokens.join(", ");
            let issue = ConfigIssue::new("token", "is missing, and there is not exactly one token");
            Err(issue.with_fix(format_args!("name one of [hsm.tokens]: {known}")))
        }
    }
}

fn kind(name: &str) -> Result<KeyKind, ConfigIssue> {
    KeyKind::for_ca(name).map_err(|error| ConfigIssue::new("key", error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy;

    fn check(text: &str, tokens: &[&str]) -> Result<AuthorityConfig, String> {
        let raw = toml::from_str(text).unwrap();
        AuthorityConfig::check("td", raw, tokens).map_err(|issues| issues.to_string())
    }

    /// Against profiles of a day.
    fn lifetime(text: &str) -> Result<(), String> {
        let policy = policy::Config::try_from(policy::RawConfig::default()).unwrap();
        let day = policy.policy().profile("workload").unwrap().clone();
        let mut config = check(text, &["main"]).unwrap();
        config
            .check_lifetime(&day)
            .map_err(|issue| issue.to_string())
    }

    /// 45 percent are left at the latest: 24h of 53h 20m.
    #[test]
    fn a_life_that_is_too_short_for_the_profiles_is_refused_with_the_arithmetic() {
        assert_eq!(lifetime("upstream = 'corp'"), Ok(()));
        assert_eq!(lifetime("upstream = 'corp'\nttl = '53h 20m'"), Ok(()));
        let error = lifetime("upstream = 'corp'\nttl = '53h 19m'").unwrap_err();
        for says in [
            "authority.td.ttl: an issuing CA of 2 days 5 hours 19 minutes",
            "renewed at 50% of its life, and up to 5% later, has 23 hours 59 minutes",
            "[profiles.workload] live 1 day",
            "raise ttl to 2 days 5 hours 21 minutes",
        ] {
            assert!(error.contains(says), "{says}: {error}");
        }
        let earlier = "upstream = 'corp'\nttl = '53h'\nrenew_at = '40%'";
        assert_eq!(lifetime(earlier), Ok(()));
        let error = lifetime("upstream = 'corp'\nrenew_at = '90%'\nttl = '18d'").unwrap_err();
        assert!(
            error.contains("has 21 hours 36 minutes left then"),
            "{error}"
        );
    }

    #[test]
    fn what_no_request_could_be_made_of_is_refused() {
        let both = &["a", "b"][..];
        let one = &["a"][..];
        for (text, tokens, says) in [
            ("upstream = 'corp'", both, "td.token: is missing"),
            (
                "upstream = 'corp'\ntoken = 'c'",
                one,
                "td.token: there is no [hsm.tokens.c]",
            ),
            (
                "upstream = 'corp'\nkey = 'ed25519'",
                one,
                "td.key: a CA's key cannot be of kind \"ed25519\"",
            ),
            (
                "upstream = 'corp'\nkey = 'dsa'",
                one,
                "td.key: a CA's key cannot be of kind \"dsa\"",
            ),
            ("upstream = 'corp'\nsubject = ''", one, "td.subject"),
            ("upstream = 'corp'\nttl = '5s'", one, "td.ttl: must be"),
            ("upstream = 'corp'\nrenew_at = '0.5'", one, "td.renew_at"),
        ] {
            let error = check(text, tokens).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
