//! How the callers of a cluster are authenticated.

use std::collections::BTreeSet;
use std::time::Duration;

use super::names::{is_label, is_subdomain};
use super::raw::{RawCluster, RawClusterAudiences, VerificationMode};
use crate::authn::{Api, service_account};
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// The defaults of the configuration.
const DEFAULT_REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_REVIEW_CONCURRENCY: u32 = 32;
const DEFAULT_WATCH_SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallersConfig {
    audiences: RawClusterAudiences,
    mode: VerificationMode,
    node_accounts: BTreeSet<(String, String)>,
    issuers: Vec<String>,
    review_timeout: Duration,
    review_concurrency: u32,
    watch_silence: Duration,
}

impl CallersConfig {
    /// `at` returns the full path of a configuration key, for messages.
    pub(super) fn from_raw(
        raw: &RawCluster,
        at: &impl Fn(&str) -> String,
    ) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let audiences = [
            &raw.audiences.istio,
            &raw.audiences.certificates,
            &raw.audiences.linkerd,
            &raw.audiences.vault,
            &raw.audiences.admin,
            &raw.audiences.sds,
        ];
        let is_valid = |text: &String| (1..=253).contains(&text.len()) && !text.contains(' ');
        if !audiences.into_iter().flatten().all(is_valid) {
            let problem = "an audience must be 1 to 253 characters without blanks";
            issues.push(ConfigIssue::new(at("audiences"), problem).with_fix("write istio-ca"));
        }
        let mut node_accounts = BTreeSet::new();
        for written in &raw.node_accounts {
            let account = account(written).ok_or_else(|| {
                let written = written.escape_default();
                let problem = format_args!("\"{written}\" is not NAMESPACE/ACCOUNT");
                ConfigIssue::new(at("node_accounts"), problem)
                    .with_fix("write istio-system/ztunnel")
            });
            node_accounts.extend(issues.collect(account));
        }
        let concurrency = raw.review_concurrency.unwrap_or(DEFAULT_REVIEW_CONCURRENCY);
        issues.require(
            (1..=1024).contains(&concurrency),
            at("review_concurrency"),
            "must be 1 to 1024",
        );
        let review_timeout = raw.review_timeout.unwrap_or(DEFAULT_REVIEW_TIMEOUT);
        issues.require(
            (Duration::from_millis(100)..=DEFAULT_REVIEW_TIMEOUT * 6).contains(&review_timeout),
            at("review_timeout"),
            "must be 100ms to 30s",
        );
        let watch_silence = raw.watch_silence.unwrap_or(DEFAULT_WATCH_SILENCE);
        issues.require(
            (Duration::from_secs(10)..=DEFAULT_WATCH_SILENCE * 10).contains(&watch_silence),
            at("watch_silence"),
            "must be 10s to 10m",
        );
        issues.require(
            !raw.issuers.iter().any(String::is_empty),
            at("issuers"),
            "an issuer must not be empty",
        );
        issues.into_result(Some(Self {
            audiences: raw.audiences.clone(),
            mode: raw.authenticate,
            node_accounts,
            issuers: raw.issuers.clone(),
            review_timeout,
            review_concurrency: concurrency,
            watch_silence,
        }))
    }

    /// The audience that a token must have to call `api`; `None` when the API accepts no token of the
    /// cluster.
    pub fn audience(&self, api: Api) -> Option<&str> {
        match api {
            Api::Istio => self.audiences.istio.as_deref(),
            Api::Certificates => self.audiences.certificates.as_deref(),
            Api::Linkerd => self.audiences.linkerd.as_deref(),
            Api::Vault => self.audiences.vault.as_deref(),
            Api::Sds => self.audiences.sds.as_deref(),
            Api::Admin => self.audiences.admin.as_deref(),
        }
    }

    /// Whether any API accepts the cluster's tokens.
    pub fn accepts_tokens(&self) -> bool {
        self.audiences != RawClusterAudiences::default()
    }

    pub fn mode(&self) -> VerificationMode {
        self.mode
    }

    /// Whether a service account is that of a node proxy.
    pub fn is_node_account(&self, namespace: &str, account: &str) -> bool {
        let mut accounts = self.node_accounts.iter();
        accounts.any(|(ns, name)| ns == namespace && name == account)
    }

    /// Whether pods and accounts must be watched.
    pub fn needs_index(&self) -> bool {
        self.accepts_tokens()
            && (self.mode == VerificationMode::Offline || !self.node_accounts.is_empty())
    }

    /// Issuers of its tokens, for an API server with several: it publishes only the first.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// For one TokenReview, including the wait while too many others run.
    pub fn review_timeout(&self) -> Duration {
        self.review_timeout
    }

    /// TokenReviews at a time.
    pub fn review_concurrency(&self) -> u32 {
        self.review_concurrency
    }

    /// How long after the last contact a watch counts as up to date.
    pub fn watch_silence(&self) -> Duration {
        self.watch_silence
    }
}

/// Parses `NAMESPACE/ACCOUNT`.
fn account(written: &str) -> Option<(String, String)> {
    let user = format!("system:serviceaccount:{}", written.replacen('/', ":", 1));
    let (namespace, account) = service_account(&user)?;
    (written.contains('/') && is_label(namespace) && is_subdomain(account))
        .then(|| (namespace.to_owned(), account.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cluster::clusters;

    fn read(text: &str) -> Result<CallersConfig, String> {
        let text = format!("[a]\ntrust_domain = 'td'\n{text}");
        let all = clusters(toml::from_str(&text).unwrap()).map_err(|e| e.to_string())?;
        Ok(all.get("a").unwrap().callers().clone())
    }

    #[test]
    fn no_audience_means_no_callers_and_no_watch() {
        let none =
            read("authenticate = 'offline'\nnode_accounts = ['istio-system/ztunnel']").unwrap();
        assert!(!none.accepts_tokens() && !none.needs_index());
        let istio = read("audiences = { istio = 'istio-ca' }").unwrap();
        assert_eq!(istio.audience(Api::Istio), Some("istio-ca"));
        assert_eq!(istio.audience(Api::Certificates), None);
        assert_eq!(istio.audience(Api::Admin), None);
        assert!(istio.accepts_tokens() && !istio.needs_index());
        assert_eq!(istio.mode(), VerificationMode::TokenReview);
    }

    #[test]
    fn node_accounts_are_whole_names() {
        let config = read("node_accounts = ['istio-system/ztunnel']").unwrap();
        assert!(config.is_node_account("istio-system", "ztunnel"));
        for (namespace, account) in [("istio-system", "z"), ("istio", "ztunnel"), ("", "")] {
            assert!(!config.is_node_account(namespace, account));
        }
        for wrong in ["ztunnel", "a/b/c", "a:b/c", "/b", "a/", "A/b", "a/b:c", ""] {
            let error = read(&format!("node_accounts = ['{wrong}']")).unwrap_err();
            assert!(error.starts_with("clusters.a.node_accounts: "), "{error}");
        }
    }

    #[test]
    fn bounds_are_bounded() {
        for (text, key) in [
            ("review_timeout = '1ms'", "review_timeout"),
            ("review_timeout = '1h'", "review_timeout"),
            ("review_concurrency = 0", "review_concurrency"),
            ("watch_silence = '1s'", "watch_silence"),
            ("audiences = { istio = '' }", "audiences"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(&format!("clusters.a.{key}: ")), "{error}");
        }
    }
}
