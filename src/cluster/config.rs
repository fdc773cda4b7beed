//! The checked configuration of clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::callers::CallersConfig;
use super::exec::ExecConfig;
use super::names::is_label;
use super::permission::Permission;
use super::raw::{RawCluster, VerificationMode};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::TrustDomain;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    name: String,
    trust_domain: TrustDomain,
    aliases: Vec<String>,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    exec: Option<ExecConfig>,
    namespaces: BTreeSet<String>,
    callers: CallersConfig,
}

impl ClusterConfig {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the cluster's workloads.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// The name and the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.aliases.iter().map(String::as_str);
        std::iter::once(self.name.as_str()).chain(aliases)
    }

    /// Whether `name` is the cluster's name or an alias.
    pub fn is_called(&self, name: &str) -> bool {
        self.names().any(|each| each == name)
    }

    /// `None` for the cluster that this process runs in.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What the kubeconfig may run; `None`: nothing.
    pub fn exec(&self) -> Option<&ExecConfig> {
        self.exec.as_ref()
    }

    /// Whether the cluster may authenticate identities of a namespace.
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    pub fn callers(&self) -> &CallersConfig {
        &self.callers
    }

    /// The permissions that authenticating its callers needs.
    pub fn permissions(&self) -> Vec<Permission> {
        let at = |key: &str| format!("clusters.{}.{key}", self.name());
        let callers = self.callers();
        let mut permissions = Vec::new();
        if callers.accepts_tokens() {
            let (group, resource) = ("authentication.k8s.io", "tokenreviews");
            permissions.push(Permission::new("create", group, resource, at("audiences")));
        }
        if callers.needs_index() {
            let why = match callers.mode() {
                VerificationMode::Offline => at("authenticate"),
                VerificationMode::TokenReview => at("node_accounts"),
            };
            for resource in ["pods", "serviceaccounts"] {
                for verb in ["list", "watch"] {
                    permissions.push(Permission::new(verb, "", resource, why.clone()));
                }
            }
        }
        permissions
    }

    fn from_raw(name: &str, raw: RawCluster) -> Result<Self, ConfigIssues> {
        let at = |key: &str| format!("clusters.{name}.{key}");
        let mut issues = ConfigIssues::default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            let key = format!("clusters.{}", name.escape_default());
            let problem = "a name must be 1 to 63 lower-case letters, digits, `-` or `_`";
            let fix = "write other names that callers use in `aliases`";
            issues.push(ConfigIssue::new(key, problem).with_fix(fix));
        }
        let trust_domain = TrustDomain::parse(&raw.trust_domain)
            .map_err(|error| ConfigIssue::new(at("trust_domain"), error));
        let trust_domain = issues.collect(trust_domain);
        let graphic = |text: &String| {
            (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        issues.require(
            raw.aliases.iter().all(graphic),
            at("aliases"),
            "an alias must be 1 to 253 visible ASCII characters",
        );
        let kubeconfig = raw.kubeconfig.as_deref();
        issues.require(
            kubeconfig.is_none_or(|path| !path.as_os_str().is_empty()),
            at("kubeconfig"),
            "must name a file",
        );
        if raw.context.is_some() && raw.kubeconfig.is_none() {
            let issue = ConfigIssue::new(at("context"), "is a context of a kubeconfig");
            issues.push(issue.with_fix("write `kubeconfig` too"));
        }
        let exec = raw
            .exec
            .clone()
            .map(|exec| ExecConfig::from_raw(exec, &at("exec")));
        let exec = exec.map(|exec| issues.collect(exec));
        if exec.is_some() && raw.kubeconfig.is_none() {
            let issue = ConfigIssue::new(at("exec"), "is for the programs of a kubeconfig");
            issues.push(issue.with_fix("write `kubeconfig` too"));
        }
        for namespace in &raw.namespaces {
            issues.require(
                is_label(namespace),
                at("namespaces"),
                format_args!(
                    "\"{}\" is not the name of a namespace",
                    namespace.escape_default()
                ),
            );
        }
        let callers = issues.collect(CallersConfig::from_raw(&raw, &at));
        let config = || {
            Some(Self {
                callers: callers?,
                name: name.to_owned(),
                trust_domain: trust_domain?,
                aliases: raw.aliases,
                kubeconfig: raw.kubeconfig,
                context: raw.context,
                exec: exec.flatten(),
                namespaces: raw.namespaces.into_iter().collect(),
            })
        };
        issues.into_result(config())
    }
}

/// Checks every cluster, and that no two have a name in common.
pub fn clusters(
    raw: BTreeMap<String, RawCluster>,
) -> Result<BTreeMap<String, ClusterConfig>, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    let all = check_clusters(raw, &mut issues);
    issues.into_result(Some(all))
}

/// The valid clusters; what is wrong with the others is added to `issues`.
pub fn check_clusters(
    raw: BTreeMap<String, RawCluster>,
    issues: &mut ConfigIssues,
) -> BTreeMap<String, ClusterConfig> {
    let mut all = BTreeMap::new();
    for (name, raw) in raw {
        if let Some(config) = issues.collect(ClusterConfig::from_raw(&name, raw)) {
            all.insert(name, config);
        }
    }
    let mut owners: BTreeMap<&str, &str> = all.keys().map(|n| (n.as_str(), n.as_str())).collect();
    for config in all.values() {
        for alias in &config.aliases {
            if let Some(other) = owners.insert(alias, &config.name)
                && other != config.name
            {
                issues.push(ConfigIssue::new(
                    format!("clusters.{}.aliases", config.name),
                    format_args!("`{alias}` is a name of the cluster {other} too"),
                ));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, ClusterConfig>, ConfigIssues> {
        clusters(toml::from_str(text).unwrap())
    }

    #[test]
    fn a_cluster_and_its_names() {
        let all = read(
            "[east]\ntrust_domain = 'td'\naliases = ['Kubernetes']\nnamespaces = ['a', 'b']\n",
        )
        .unwrap();
        let east = all.get("east").unwrap();
        assert!(east.allows_namespace("a") && !east.allows_namespace("c"));
        assert_eq!(east.aliases(), ["Kubernetes"]);
    }

    #[test]
    fn names_with_odd_characters_are_refused() {
        let long = "x".repeat(254);
        for odd in [
            "", "*", "a b", "a,b", "a/b", "..", "a\\n", "\\u0000", "\\u00e4", "A ", &long,
        ] {
            for (key, more) in [("namespaces", ""), ("aliases", ""), ("node_accounts", "x/")] {
                // A cluster may well be called `*` or `a,b` elsewhere: an alias means itself alone.
                if key == "aliases" && ["*", "a,b", "a/b", ".."].contains(&odd) {
                    continue;
                }
                let text = format!("[a]\ntrust_domain = 't'\n{key} = [\"{more}{odd}\"]");
                let error = read(&text).unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("clusters.a.{key}: ")),
                    "{odd}: {error}"
                );
                assert!(!error.chars().any(char::is_control), "{error:?}");
            }
        }
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_key() {
        for (text, key) in [
            ("[A]\ntrust_domain = 'td'", "clusters.A"),
            ("[a]\ntrust_domain = 'T D'", "clusters.a.trust_domain"),
            (
                "[a]\ntrust_domain = 't'\naliases = ['']",
                "clusters.a.aliases",
            ),
            (
                "[a]\ntrust_domain = 't'\nkubeconfig = ''",
                "clusters.a.kubeconfig",
            ),
            (
                "[a]\ntrust_domain = 't'\ncontext = 'x'",
                "clusters.a.context",
            ),
            (
                "[a]\ntrust_domain = 't'\nnamespaces = ['-x']",
                "clusters.a.namespaces",
            ),
            (
                "[a]\ntrust_domain = 't'\nexec = { programs = ['/x'] }",
                "clusters.a.exec",
            ),
            (
                "[a]\ntrust_domain = 't'\n[b]\ntrust_domain = 't'\naliases = ['a']",
                "clusters.b.aliases",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{text}: {error}");
        }
    }
}
