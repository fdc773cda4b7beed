//! Permissions (RBAC) that this server's account needs in a cluster.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `sign` or `attest`.
    pub verb: &'static str,
    /// Empty for the core group.
    pub group: &'static str,
    /// With its subresource: `certificatesigningrequests/status`.
    pub resource: &'static str,
    /// `None`: every object.
    pub name: Option<String>,
    /// `None`: every namespace.
    pub namespace: Option<String>,
    /// The configuration key that needs it.
    pub why: String,
}

impl Permission {
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

    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

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
