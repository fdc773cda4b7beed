//! Names of sections and of accounts, and DNS names made from them.

use crate::cluster::{is_label, is_subdomain};
use crate::config_issue::ConfigIssue;
use crate::x509::{DnsName, NameError};

/// The key `table.name` of a section with a valid name.
pub(super) fn section(table: &str, name: &str) -> Result<String, ConfigIssue> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if (1..=63).contains(&name.len()) && name.chars().all(plain) {
        return Ok(format!("{table}.{name}"));
    }
    Err(ConfigIssue::new(
        format!("{table}.{}", name.escape_default()),
        "a name must be 1 to 63 lower-case letters, digits, `-` or `_`",
    ))
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Account {
    /// Parses `namespace/name`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        Self::new(namespace, name)
    }

    /// Parses a Kubernetes user name, `system:serviceaccount:NAMESPACE:NAME`.
    pub(crate) fn of_user(username: &str) -> Option<Self> {
        let (namespace, name) = username
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')?;
        Self::new(namespace, name)
    }

    fn new(namespace: &str, name: &str) -> Option<Self> {
        (is_label(namespace) && is_subdomain(name)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A DNS name with the placeholders `{account}` and `{namespace}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameTemplate(String);

impl NameTemplate {
    pub(super) fn parse(key: &str, text: &str) -> Result<Self, ConfigIssue> {
        let issue = |problem| ConfigIssue::new(key, format_args!("`{text}` {problem}"));
        let literal = text.replace("{account}", "").replace("{namespace}", "");
        if literal.contains(['{', '}']) {
            return Err(
                issue("has an unknown placeholder").with_fix("write {account} or {namespace}")
            );
        }
        let template = Self(text.to_owned());
        match template.fill("a", "a") {
            Ok(_) => Ok(template),
            Err(_) => {
                Err(issue("makes no DNS name").with_fix("write such as {account}.{namespace}.svc"))
            }
        }
    }

    /// The DNS name for an account; it may be too long.
    pub(crate) fn fill(&self, namespace: &str, account: &str) -> Result<DnsName, NameError> {
        let text = self.0.replace("{account}", account);
        DnsName::parse(&text.replace("{namespace}", namespace))
    }
}
