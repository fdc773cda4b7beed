//! `[upstream.NAME]` and `[authority."TRUST_DOMAIN"]`.

mod authority;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use authority::{AuthorityConfig, RawAuthority};

use super::UpstreamCa;
use super::kinds::Kind;
use super::raw::RawUpstream;
use crate::clock::in_words;
use crate::cluster::{ClusterConfig, Permission};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::policy::Profile;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_POLL: Duration = Duration::from_secs(30);
const DEFAULT_LONGEST_POLL: Duration = Duration::from_secs(6 * 3600);
const DEFAULT_AFTER_REFUSAL: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Both sections.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    pub upstream: BTreeMap<String, RawUpstream>,
    pub authority: BTreeMap<String, RawAuthority>,
}

/// A checked `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) timeout: Duration,
    pub(super) poll: Duration,
    pub(super) longest_poll: Duration,
    pub(super) after_refusal: Duration,
}

impl UpstreamConfig {
    /// As `[upstream.NAME]` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The CA that this describes. Nothing is sent yet.
    pub fn connect(&self) -> Arc<dyn UpstreamCa> {
        self.kind.connect()
    }

    fn check(name: String, mut raw: RawUpstream) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        issues.require(
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()),
            format!("upstream.{}", name.escape_default()),
            "a name is 1 to 64 ASCII characters without blanks",
        );
        let table = format!("upstream.{name}");
        let mut inner = ConfigIssues::default();
        let timeout = raw.timeout.take().unwrap_or(DEFAULT_TIMEOUT);
        let poll = raw.poll.take().unwrap_or(DEFAULT_POLL);
        let longest_poll = raw
            .longest_poll
            .take()
            .unwrap_or(DEFAULT_LONGEST_POLL.max(poll));
        let after_refusal = raw.after_refusal.take().unwrap_or(DEFAULT_AFTER_REFUSAL);
        let second = Duration::from_secs(1);
        for (key, value, most) in [
            ("timeout", timeout, Duration::from_secs(600)),
            ("poll", poll, DAY),
            ("longest_poll", longest_poll, 7 * DAY),
            ("after_refusal", after_refusal, 30 * DAY),
        ] {
            let most_text = in_words(most);
            let range = second..=most;
            inner.require(
                range.contains(&value),
                key,
                format_args!("must be 1 second to {most_text}"),
            );
        }
        inner.require(poll <= longest_poll, "poll", "is longer than longest_poll");
        let kind = inner.collect(Kind::from_raw(&mut raw, timeout));
        for key in raw.left() {
            let issue = ConfigIssue::new(key, "is no key of this kind of upstream");
            inner.push(issue.with_fix("remove it, or correct `kind`"));
        }
        let value = issues.collect(inner.into_result(kind).map_err(|inner| inner.under(&table)));
        issues.into_result(value.map(|kind| Self {
            name,
            kind,
            timeout,
            poll,
            longest_poll,
            after_refusal,
        }))
    }
}

/// Both sections, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    upstreams: BTreeMap<String, UpstreamConfig>,
    authorities: Vec<AuthorityConfig>,
}

impl Config {
    /// The valid sections; what is wrong with the others is added to `issues`. `tokens` are those that
    /// are configured.
    pub fn check(raw: RawConfig, tokens: &[&str], issues: &mut ConfigIssues) -> Self {
        let mut upstreams = BTreeMap::new();
        for (name, raw) in raw.upstream {
            if let Some(upstream) = issues.collect(UpstreamConfig::check(name.clone(), raw)) {
                upstreams.insert(name, upstream);
            }
        }
        let mut authorities = Vec::new();
        for (domain, raw) in raw.authority {
            let checked = AuthorityConfig::check(&domain, raw, tokens);
            let Some(authority) = issues.collect(checked) else {
                continue;
            };
            if !upstreams.contains_key(&authority.upstream) {
                let key = format!("authority.{domain}.upstream");
                issues.push(ConfigIssue::undefined(key, "upstream", &authority.upstream));
            }
            authorities.push(authority);
        }
        Self {
            upstreams,
            authorities,
        }
    }

    /// Finds the clusters that upstream CAs are in.
    pub fn find_clusters(
        &mut self,
        clusters: &BTreeMap<String, ClusterConfig>,
        issues: &mut ConfigIssues,
    ) {
        for (name, upstream) in &mut self.upstreams {
            if let Kind::CertManager(config) = &mut upstream.kind {
                match clusters.get(config.cluster()) {
                    Some(cluster) => config.set_target(cluster),
                    None => {
                        let key = format!("upstream.{name}.cluster");
                        issues.push(ConfigIssue::undefined(key, "clusters", config.cluster()));
                    }
                }
            }
        }
    }

    /// The permissions that upstream CAs in a cluster need there.
    pub fn permissions(&self, cluster: &str) -> Vec<Permission> {
        let needed = self.upstreams.iter().filter_map(|(name, upstream)| {
            let Kind::CertManager(config) = &upstream.kind else {
                return None;
            };
            let why = format!("upstream.{name}.cluster");
            (config.cluster() == cluster).then(|| config.permissions(&why))
        });
        needed.flatten().collect()
    }

    /// Holds the lifetimes of issuing CAs against those of the certificates that the profiles in use
    /// issue below them.
    pub fn check_lifetimes<'p>(
        &mut self,
        profiles: impl Iterator<Item = &'p Profile>,
        issues: &mut ConfigIssues,
    ) {
        let Some(longest) = profiles.max_by_key(|profile| profile.default_ttl()) else {
            return;
        };
        for authority in &mut self.authorities {
            issues.collect(authority.check_lifetime(longest));
        }
    }

    /// `[upstream.*]`, by name.
    pub fn upstreams(&self) -> &BTreeMap<String, UpstreamConfig> {
        &self.upstreams
    }

    /// `[authority.*]`, by trust domain.
    pub fn authorities(&self) -> &[AuthorityConfig] {
        &self.authorities
    }

    /// The authority's section with its upstream's.
    pub fn pairs(&self) -> impl Iterator<Item = (&AuthorityConfig, &UpstreamConfig)> {
        let authorities = self.authorities.iter();
        authorities.filter_map(|each| Some((each, self.upstreams.get(&each.upstream)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> Result<UpstreamConfig, String> {
        let raw = toml::from_str(text).unwrap();
        UpstreamConfig::check("corp".to_owned(), raw).map_err(|issues| issues.to_string())
    }

    #[test]
    fn an_upstream_in_a_cluster_needs_that_cluster() {
        let text = "kind = 'cert-manager'\ncluster = 'east'\nnamespace = 'pki'\nissuer = 'ca'";
        let mut config = Config::default();
        config
            .upstreams
            .insert("corp".to_owned(), check(text).unwrap());
        let mut issues = ConfigIssues::default();
        config.find_clusters(&BTreeMap::new(), &mut issues);
        let error = issues.into_result(None::<()>).unwrap_err().to_string();
        let says = "upstream.corp.cluster: there is no [clusters.east]";
        assert!(error.contains(says), "{error}");
        let needed = config.permissions("east");
        let needed: Vec<_> = needed.iter().map(ToString::to_string).collect();
        assert_eq!(
            needed,
            [
                "create certificaterequests.cert-manager.io in pki",
                "get certificaterequests.cert-manager.io in pki"
            ]
        );
        assert!(config.permissions("west").is_empty());
    }

    /// A key of another kind would be believed to do something.
    #[test]
    fn each_kind_has_its_own_keys() {
        let vault = |more: &str| format!("kind = 'vault'\naddress = 'https://bao'\n{more}");
        check("kind = 'command'\nprogram = '/ask'").unwrap();
        check(&vault("token_env = 'T'")).unwrap();
        check("kind = 'vault'\naddress = 'http://[::1]:8200'\ntoken_file = '/t'").unwrap();
        for (text, says) in [
            ("kind = 'command'".to_owned(), "corp.program: is missing"),
            (
                "kind = 'command'\nprogram = 'ask'".to_owned(),
                "corp.program: ask is not an absolute",
            ),
            (
                "kind = 'command'\nprogram = '/ask'\nmount = 'pki'".to_owned(),
                "corp.mount: is no key of this kind",
            ),
            (
                "kind = 'command'\nprogram = '/ask'\nenvironment = ['LD_PRELOAD']".to_owned(),
                "corp.environment: LD_PRELOAD would load code",
            ),
            (
                "kind = 'command'\nprogram = '/ask'\npoll = '2h'\nlongest_poll = '1h'".to_owned(),
                "corp.poll: is longer",
            ),
            (
                "kind = 'vault'\ntoken_env = 'T'".to_owned(),
                "corp.address: is missing",
            ),
            (
                "kind = 'vault'\naddress = 'http://bao'\ntoken_env = 'T'".to_owned(),
                "corp.address: is not https",
            ),
            (
                "kind = 'vault'\naddress = 'https://me:pass@bao'\ntoken_env = 'T'".to_owned(),
                "corp.address: holds a credential",
            ),
            (vault(""), "corp.token_file: is missing"),
            (
                vault("token_env = 'T'\ntoken_file = '/t'"),
                "corp.token_env: is given beside",
            ),
            (vault("token_env = 'T'\nmount = '../sys'"), "corp.mount:"),
            (
                vault("login = 'approle'\nrole_id = 'r'"),
                "corp.secret_id_file: is missing",
            ),
            (vault("login = 'kubernetes'"), "corp.role: is missing"),
            (
                vault("login = 'cert'"),
                "corp.client_certificate_file: is missing",
            ),
            (
                "kind = 'cert-manager'\ncluster = 'c'\nnamespace = 'P'\nissuer = 'i'".to_owned(),
                "corp.namespace: \"P\" is no name",
            ),
            (
                "kind = 'adcs'\naddress = 'https://ca/certsrv'\npassword_env = 'P'".to_owned(),
                "corp.username: is missing",
            ),
            (
                "kind = 'ejbca'\naddress = 'https://ca'\npassword_env = 'P'".to_owned(),
                "corp.end_entity_profile: is missing",
            ),
            (
                vault("token_env = 'T'\nrole_id = 'r'"),
                "corp.role_id: is no key",
            ),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
            assert!(!error.contains("pass@"), "{error}");
        }
    }
}
