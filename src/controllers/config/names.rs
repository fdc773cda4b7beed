//! Names of sections and of accounts, and DNS names made from them.

use crate::cluster::{is_label, is_subdomain};
use crate::config_issue::ConfigIssue;
use crate::x509::{DnsName, NameError};

/// The key `room.name` of a section, for messages, once its name is found to be good.
pub(super) fn section(room: &str, name: &str) -> Result<String, ConfigIssue> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if (1..=63).contains(&name.len()) && name.chars().all(plain) {
        return Ok(format!("{room}.{name}"));
    }
    Err(ConfigIssue::new(
        format!("{room}.{}", name.escape_default()),
        "a name must be 1 to 63 lower-case letters, digits, `-` or `_`",
    ))
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Account {
    /// Reads `namespace/name`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        Self::new(namespace, name)
    }

    /// The account that a user of Kubernetes is, if it is one.
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

/// A DNS name in which `{account}` and `{namespace}` stand for a pod's.
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

    /// The name for one account.
    ///
    /// # Errors
    /// [`NameError`] when it is too long, say.
    pub(crate) fn fill(&self, namespace: &str, account: &str) -> Result<DnsName, NameError> {
        let text = self.0.replace("{account}", account);
        DnsName::parse(&text.replace("{namespace}", namespace))
    }
}
