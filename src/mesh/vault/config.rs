//! `[vault]`: the mounts of Vault's API and the tokens that its logins return.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::policy::Policy;
use crate::x509::TrustDomain;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `[vault]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawVault {
    /// How long a login's token is valid without a renewal. Default 1h.
    #[serde(with = "humantime_serde")]
    pub token_ttl: Option<Duration>,
    /// How long it is valid with renewals. Default 24h.
    #[serde(with = "humantime_serde")]
    pub token_max_ttl: Option<Duration>,
    /// A file of 32 bytes or more, the same for every replica: they then accept each other's tokens, and
    /// those of before a restart. Default: a key of this process.
    pub token_key_file: Option<PathBuf>,
    /// `[vault.mount.NAME]`.
    pub mount: BTreeMap<String, RawMount>,
}

/// `[vault.mount.NAME]`: a PKI secrets engine, as clients see it at `/v1/NAME/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMount {
    /// The trust domain whose authority signs.
    pub authority: String,
    /// The value of `X-Vault-Namespace` with which it is seen. Default: the root namespace.
    pub namespace: Option<String>,
    /// The profile of `sign/ROLE`. Default: `policy.default_profile`.
    pub profile: Option<String>,
    /// The profiles of single roles.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// The profile of `root/sign-intermediate` for other keys than the issuing one. Default: none is
    /// certified.
    pub ca_profile: Option<String>,
    #[serde(default)]
    pub presents: Presents,
}

/// Which certificate is a mount's own (`ca/pem`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presents {
    /// That of the issuing CA, which signs.
    #[default]
    Issuing,
    /// That above it: for Consul's root, whose intermediate mount presents the issuing CA.
    Parent,
}

/// A checked `[vault]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultConfig {
    token_ttl: Duration,
    token_max_ttl: Duration,
    token_key_file: Option<PathBuf>,
    mounts: Vec<Mount>,
}

/// A checked `[vault.mount.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub(super) name: String,
    pub(super) authority: TrustDomain,
    pub(super) namespace: String,
    /// Empty for the policy's default.
    profile: String,
    pub(super) roles: BTreeMap<String, String>,
    pub(super) ca_profile: Option<String>,
    pub(super) presents: Presents,
}

impl Mount {
    /// The profile of a role.
    pub(super) fn profile(&self, role: &str) -> &str {
        self.roles.get(role).unwrap_or(&self.profile)
    }
}

impl VaultConfig {
    pub fn token_ttl(&self) -> Duration {
        self.token_ttl
    }

    pub fn token_max_ttl(&self) -> Duration {
        self.token_max_ttl
    }

    pub fn token_key_file(&self) -> Option<&Path> {
        self.token_key_file.as_deref()
    }

    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount of `namespace` that `path` is below, with the rest of the path.
    pub(super) fn find<'a, 'p>(
        &'a self,
        namespace: &str,
        path: &'p str,
    ) -> Option<(&'a Mount, &'p str)> {
        self.mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(&*mount.name)?;
            let is_here = mount.namespace == namespace;
            let rest = match rest.strip_prefix('/') {
                Some(rest) => Some(rest),
                None => rest.is_empty().then_some(rest),
            };
            rest.filter(|_| is_here).map(|rest| (mount, rest))
        })
    }

    /// Whether a mount, or a login for one, is in `namespace`.
    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        namespace.is_empty() || self.mounts.iter().any(|each| each.namespace == namespace)
    }

    /// Checks the profiles that mounts name.
    pub fn check_profiles(&self, policy: &Policy, issues: &mut ConfigIssues) {
        for mount in &self.mounts {
            let at = |key: &str| format!("vault.mount.{}.{key}", mount.name);
            let own = std::iter::once(("profile".to_owned(), &mount.profile));
            let roles = mount.roles.iter();
            let roles = roles.map(|(role, profile)| (format!("roles.{role}"), profile));
            for (key, name) in own.chain(roles) {
                match policy.profile(name) {
                    None => issues.push(ConfigIssue::undefined(at(&key), "profiles", name)),
                    Some(profile) if profile.ca_path_len().is_some() => {
                        let problem = format_args!("`{name}` is for CAs");
                        let issue = ConfigIssue::new(at(&key), problem);
                        issues.push(issue.with_fix("name it in `ca_profile`"));
                    }
                    Some(_) => {}
                }
            }
            match mount
                .ca_profile
                .as_ref()
                .map(|name| (name, policy.profile(name)))
            {
                None => {}
                Some((name, None)) => {
                    issues.push(ConfigIssue::undefined(at("ca_profile"), "profiles", name));
                }
                Some((name, Some(profile))) => issues.require(
                    profile.ca_path_len().is_some() && !name.is_empty(),
                    at("ca_profile"),
                    format_args!("`{name}` is not for CAs: write `ca = true` in [profiles.{name}]"),
                ),
            }
        }
    }

    /// The valid part; what is wrong with the rest is added to `issues`.
    pub fn check(raw: RawVault, issues: &mut ConfigIssues) -> Self {
        let token_ttl = raw.token_ttl.unwrap_or(HOUR);
        issues.require(
            (MINUTE..=DAY).contains(&token_ttl),
            "vault.token_ttl",
            "must be 1m to 24h",
        );
        let token_max_ttl = raw.token_max_ttl.unwrap_or(DAY);
        issues.require(
            (token_ttl..=32 * DAY).contains(&token_max_ttl),
            "vault.token_max_ttl",
            "must be between token_ttl and 32 days",
        );
        let mut mounts = Vec::with_capacity(raw.mount.len());
        for (name, mount) in raw.mount {
            mounts.extend(issues.collect(check_mount(&name, mount)));
        }
        for (index, one) in mounts.iter().enumerate() {
            let mut others = mounts
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let below = others.find(|(_, other): &(usize, &Mount)| {
                let prefix = format!("{}/", other.name);
                other.namespace == one.namespace && one.name.starts_with(&prefix)
            });
            if let Some((_, other)) = below {
                let problem = format_args!("it is below the mount `{}`", other.name);
                issues.push(ConfigIssue::new(
                    format!("vault.mount.{}", one.name),
                    problem,
                ));
            }
        }
        Self {
            token_ttl,
            token_max_ttl,
            token_key_file: raw.token_key_file,
            mounts,
        }
    }
}

/// Segments of letters, digits, `-`, `_` and `.`, with `/` between.
fn is_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_segment = |segment: &str| {
        !segment.is_empty() && segment.bytes().all(plain) && !segment.starts_with('.')
    };
    text.len() <= 253 && text.split('/').all(is_segment)
}

fn check_mount(name: &str, raw: RawMount) -> Result<Mount, ConfigIssues> {
    let shown = name.escape_default();
    let at = |key: &str| format!("vault.mount.{shown}.{key}");
    let mut issues = ConfigIssues::default();
    let first = name.split('/').next().unwrap_or_default();
    issues.require(
        is_path(name) && !matches!(first, "sys" | "auth" | "identity" | "cubbyhole"),
        format!("vault.mount.{shown}"),
        "a mount is a path such as `pki` or `connect/root`, and none of sys, auth, identity, cubbyhole",
    );
    let namespace = raw.namespace.unwrap_or_default();
    issues.require(
        namespace.is_empty() || is_path(&namespace),
        at("namespace"),
        "is a path such as `team-a`",
    );
    let authority = TrustDomain::parse(&raw.authority)
        .map_err(|error| ConfigIssue::new(at("authority"), error));
    let authority = issues.collect(authority);
    issues.into_result(authority.map(|authority| Mount {
        name: name.to_owned(),
        authority,
        namespace,
        profile: raw.profile.unwrap_or_default(),
        roles: raw.roles,
        ca_profile: raw.ca_profile,
        presents: raw.presents,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> (VaultConfig, String) {
        let mut issues = ConfigIssues::default();
        let config = VaultConfig::check(toml::from_str(text).unwrap(), &mut issues);
        let text = issues.into_result(Some(())).err();
        (
            config,
            text.map_or_else(String::new, |issues| issues.to_string()),
        )
    }

    #[test]
    fn a_path_leads_to_one_mount_of_its_namespace() {
        let (config, issues) = check(
            "[mount.pki]\nauthority = 'td'\n[mount.'connect/root']\nauthority = 'td'\n\
             [mount.pki2]\nauthority = 'td'\nnamespace = 'team'\n",
        );
        assert_eq!(issues, "");
        let find = |namespace, path| {
            let found = config.find(namespace, path);
            found.map(|(mount, rest)| (mount.name.as_str(), rest))
        };
        assert_eq!(find("", "pki/ca/pem"), Some(("pki", "ca/pem")));
        assert_eq!(find("", "connect/root/ca"), Some(("connect/root", "ca")));
        assert_eq!(find("", "pki"), Some(("pki", "")));
        assert_eq!(find("", "pkix/ca"), None);
        assert_eq!(find("", "pki2/ca"), None);
        assert_eq!(find("team", "pki2/ca"), Some(("pki2", "ca")));
        assert_eq!(find("team", "pki/ca"), None);
    }

    #[test]
    fn what_no_client_could_use_is_refused() {
        for (text, key) in [
            ("[mount.sys]\nauthority = 'td'", "vault.mount.sys"),
            ("[mount.'a//b']\nauthority = 'td'", "vault.mount.a//b"),
            ("[mount.'../b']\nauthority = 'td'", "vault.mount.../b"),
            ("[mount.a]\nauthority = 'T D'", "vault.mount.a.authority"),
            (
                "[mount.a]\nauthority = 'td'\nnamespace = ' '",
                "vault.mount.a.namespace",
            ),
            (
                "[mount.a]\nauthority = 'td'\n[mount.'a/b']\nauthority = 'td'",
                "vault.mount.a/b",
            ),
            ("token_ttl = '1s'", "vault.token_ttl"),
            ("token_max_ttl = '10m'", "vault.token_max_ttl"),
        ] {
            let (_, issues) = check(text);
            assert!(issues.starts_with(&format!("{key}: ")), "{text}: {issues}");
        }
    }
}
