//! What Rootbridge's account must be allowed in a cluster (RBAC), said by the rooms that need it.

use std::fmt;

use super::callers::VerificationMode;
use super::config::ClusterConfig;

/// One verb on one kind of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `sign` or `attest`.
    pub verb: &'static str,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource: `certificatesigningrequests/status`.
    pub resource: &'static str,
    /// The object's name, where one name is enough.
    pub name: Option<String>,
    /// The namespace, where one is enough.
    pub namespace: Option<String>,
    /// What it is needed for, by the keys of the configuration.
    pub why: String,
}

impl Permission {
    /// A permission on every object of a kind.
    pub fn new(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        why: impl Into<String>,
    ) -> Self {
        Self {
            verb,
            group,
            resource,
            name: None,
            namespace: None,
            why: why.into(),
        }
    }

    /// Only on the object of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only in this namespace.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }
}

impl fmt::Display for Permission {
    /// `create tokenreviews.authentication.k8s.io`, as `kubectl auth can-i` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, sub) = match self.resource.split_once('/') {
            Some((kind, sub)) => (kind, Some(sub)),
            None => (self.resource, None),
        };
        write!(f, "{} {kind}", self.verb)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(sub) = sub {
            write!(f, "/{sub}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

impl ClusterConfig {
    /// What the judgement of its callers needs.
    pub fn permissions(&self) -> Vec<Permission> {
        let at = |key: &str| format!("clusters.{}.{key}", self.name());
        let callers = self.callers();
        let mut permissions = Vec::new();
        if callers.any() {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_read_as_kubectl_says_them() {
        let permission = Permission::new(
            "update",
            "certificates.k8s.io",
            "podcertificaterequests/status",
            "",
        );
        assert_eq!(
            permission.to_string(),
            "update podcertificaterequests.certificates.k8s.io/status"
        );
        let permission = Permission::new("get", "", "secrets", "")
            .named("istiod-tls")
            .within("istio-system");
        assert_eq!(
            permission.to_string(),
            "get secrets istiod-tls in istio-system"
        );
    }
}
