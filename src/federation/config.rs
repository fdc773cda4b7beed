//! `[federation.NAME]`: another trust domain and its bundle endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::{SpiffeId, TrustDomain};

/// How the endpoint's server is authenticated (SPIFFE Federation §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// By its host's name, below the anchors of `ca_file` or the system's.
    HttpsWeb,
    /// By its SPIFFE ID, below the roots of its own trust domain.
    HttpsSpiffe,
}

/// `[federation.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFederation {
    /// The other trust domain.
    pub trust_domain: String,
    /// Of its bundle endpoint: https.
    pub url: String,
    pub profile: Profile,
    /// `https_spiffe`: the exact SPIFFE ID of the endpoint's server, in that trust domain.
    pub endpoint_spiffe_id: Option<String>,
    /// `https_spiffe`: a file with the first bundle, in PEM or SPIFFE's JSON, for the first fetch.
    pub bundle_file: Option<PathBuf>,
    /// `https_web`: the only trusted anchors, PEM. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

/// A checked `[federation.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationConfig {
    name: String,
    trust_domain: TrustDomain,
    url: Url,
    server: Server,
}

/// What the endpoint's server must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    Web { ca_file: Option<PathBuf> },
    Spiffe { id: SpiffeId, bundle_file: PathBuf },
}

impl FederationConfig {
    /// Checks all of them.
    pub fn check(raw: BTreeMap<String, RawFederation>, issues: &mut ConfigIssues) -> Vec<Self> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::with_capacity(raw.len());
        for (name, raw) in raw {
            let table = format!("federation.{}", name.escape_default());
            let checked = Self::new(name, &raw);
            let checked = checked.map_err(|issues| issues.under(&table));
            if let Some(config) = issues.collect(checked) {
                if !seen.insert(config.trust_domain.clone()) {
                    let problem = "is the trust domain of another one of [federation.*]";
                    issues.push(ConfigIssue::new(format!("{table}.trust_domain"), problem));
                }
                all.push(config);
            }
        }
        all
    }

    fn new(name: String, raw: &RawFederation) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        issues.require(
            (1..=63).contains(&name.len()) && name.bytes().all(plain),
            "trust_domain",
            "is in a section whose name is not 1 to 63 letters, digits, - and _",
        );
        let trust_domain = TrustDomain::parse(&raw.trust_domain).map_err(|error| {
            let problem = format_args!("`{}`: {error}", raw.trust_domain.escape_default());
            ConfigIssue::new("trust_domain", problem)
        });
        let trust_domain = issues.collect(trust_domain);
        let url = issues.collect(url(&raw.url));
        let server = issues.collect(server(raw, trust_domain.as_ref()));
        let config = || {
            Some(Self {
                name,
                trust_domain: trust_domain?,
                url: url?,
                server: server?,
            })
        };
        issues.into_result(config())
    }

    /// The name in `[federation.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }
}

fn url(text: &str) -> Result<Url, ConfigIssue> {
    let wrong = |why: &dyn std::fmt::Display| {
        ConfigIssue::new("url", why).with_fix("write https://spire.example:8443/")
    };
    let url = Url::parse(text).map_err(|error| wrong(&error))?;
    if url.scheme() != "https" {
        return Err(wrong(&"is not https"));
    }
    // SPIFFE Federation §5.2.1.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            &"holds a credential, which a bundle endpoint never needs",
        ));
    }
    Ok(url)
}

fn server(raw: &RawFederation, trust_domain: Option<&TrustDomain>) -> Result<Server, ConfigIssue> {
    let absolute = |path: &Option<PathBuf>, key: &str| match path {
        Some(path) if !path.is_absolute() => Err(ConfigIssue::new(key, "must be an absolute path")),
        path => Ok(path.clone()),
    };
    let other = |key: &str, profile: &str| {
        let problem = format_args!("is for `profile = \"{profile}\"`");
        ConfigIssue::new(key, problem).with_fix("leave it out")
    };
    match raw.profile {
        Profile::HttpsWeb if raw.endpoint_spiffe_id.is_some() => {
            Err(other("endpoint_spiffe_id", "https_spiffe"))
        }
        Profile::HttpsWeb if raw.bundle_file.is_some() => Err(other("bundle_file", "https_spiffe")),
        Profile::HttpsWeb => Ok(Server::Web {
            ca_file: absolute(&raw.ca_file, "ca_file")?,
        }),
        Profile::HttpsSpiffe if raw.ca_file.is_some() => Err(other("ca_file", "https_web")),
        Profile::HttpsSpiffe => {
            let missing = |key: &str, fix: &str| {
                ConfigIssue::new(key, "is required with `https_spiffe`").with_fix(fix)
            };
            let key = "endpoint_spiffe_id";
            let text = raw.endpoint_spiffe_id.as_deref();
            let text =
                text.ok_or_else(|| missing(key, "write spiffe://other.example/spire/server"))?;
            let id = SpiffeId::parse(text)
                .map_err(|error| ConfigIssue::new(key, format_args!("`{text}`: {error}")))?;
            if trust_domain.is_some_and(|domain| !id.in_domain(domain)) {
                return Err(ConfigIssue::new(
                    key,
                    "is of another trust domain: only an endpoint in the trust domain whose bundle it \
                     serves can be verified here",
                ));
            }
            let file = absolute(&raw.bundle_file, "bundle_file")?;
            let file = file.ok_or_else(|| {
                missing(
                    "bundle_file",
                    "name a file with the first bundle, PEM or JSON",
                )
            })?;
            Ok(Server::Spiffe {
                id,
                bundle_file: file,
            })
        }
    }
}

impl Server {
    /// The file with the first bundle.
    pub(super) fn bundle_file(&self) -> Option<&Path> {
        match self {
            Self::Web { .. } => None,
            Self::Spiffe { bundle_file, .. } => Some(bundle_file),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> Result<Vec<FederationConfig>, String> {
        let raw: BTreeMap<String, RawFederation> = toml::from_str(text).unwrap();
        let mut issues = ConfigIssues::default();
        let all = FederationConfig::check(raw, &mut issues);
        issues
            .into_result(Some(all))
            .map_err(|issues| issues.to_string())
    }

    const WEB: &str = "[a]\ntrust_domain = 'a.example'\nurl = 'https://a.example/b'\nprofile = \
                       'https_web'\n";
    const SPIFFE: &str = "[b]\ntrust_domain = 'b.example'\nurl = 'https://b.example/b'\nprofile = \
                          'https_spiffe'\nendpoint_spiffe_id = 'spiffe://b.example/s'\nbundle_file \
                          = '/b.pem'\n";

    #[test]
    fn both_profiles() {
        let all = check(&format!("{WEB}{SPIFFE}")).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            all.iter().map(|each| each.name()).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let with = |text: &str, from: &str, to: &str| text.replacen(from, to, 1);
        for (text, says) in [
            (
                with(WEB, "https://", "http://"),
                "federation.a.url: is not https",
            ),
            (
                with(WEB, "https://", "https://x:y@"),
                "a.url: holds a credential",
            ),
            (
                with(WEB, "a.example'", "A_ example'"),
                "a.trust_domain: `A_ example`",
            ),
            (format!("{WEB}bundle_file = '/x'"), "a.bundle_file: is for"),
            (
                format!("{WEB}ca_file = 'x'"),
                "a.ca_file: must be an absolute",
            ),
            (format!("{SPIFFE}ca_file = '/x'"), "b.ca_file: is for"),
            (
                with(SPIFFE, "spiffe://b.", "spiffe://a."),
                "b.endpoint_spiffe_id: is of another trust domain",
            ),
            (
                with(SPIFFE, "bundle_file = '/b.pem'", ""),
                "b.bundle_file: is required",
            ),
            (
                format!("{WEB}{}", with(WEB, "[a]", "[c]")),
                "federation.c.trust_domain: is the trust domain of another",
            ),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
