//! `[jwt.NAME]`: an issuer of tokens, bound to one trust domain.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::{file, require_between, trust_domain};
use crate::authn::caller::Api;
use crate::authn::key_cache::KeyCacheConfig;
use crate::authn::source::Source;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::TrustDomain;

const REFRESH: Duration = Duration::from_secs(5 * 60);
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
const LEEWAY: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `[jwt.NAME]` of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJwtConfig {
    /// The tokens' `iss`, exactly.
    pub issuer: String,
    /// The trust domain of the callers.
    pub trust_domain: String,
    pub subject: SubjectForm,
    /// The tokens' `aud`, for each API.
    pub audiences: RawAudiences,
    /// The cluster whose API server this is, for the record.
    pub cluster: Option<String>,
    /// The issuer's keys, as a file.
    pub jwks_file: Option<PathBuf>,
    /// The issuer's keys, as an https URL.
    pub jwks_url: Option<String>,
    /// The roots of that URL's server; the system's when absent.
    pub jwks_ca_file: Option<PathBuf>,
    /// A token that is presented to it, read for each fetch.
    pub jwks_token_file: Option<PathBuf>,
    /// How often the keys are fetched. Default 5 minutes.
    #[serde(default, with = "humantime_serde")]
    pub refresh: Option<Duration>,
    /// How long cached keys may be used. Default 24 hours.
    #[serde(default, with = "humantime_serde")]
    pub keep: Option<Duration>,
    /// The allowed skew of the issuer's clock. Default 30 seconds.
    #[serde(default, with = "humantime_serde")]
    pub leeway: Option<Duration>,
}

/// `audiences` of `[jwt.NAME]`. An API without one does not accept the issuer's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAudiences {
    pub istio: Option<String>,
    pub certificates: Option<String>,
    pub linkerd: Option<String>,
    pub vault: Option<String>,
    pub sds: Option<String>,
    pub admin: Option<String>,
}

/// The form of `sub` in an issuer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectForm {
    /// `system:serviceaccount:NAMESPACE:NAME`
    Kubernetes,
    /// A SPIFFE ID of the verifier's trust domain.
    Spiffe,
    /// Any printable text. The caller is a subject, not a workload.
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    issuer: String,
    trust_domain: TrustDomain,
    subject: SubjectForm,
    audiences: RawAudiences,
    cluster: Option<String>,
    keys: KeyCacheConfig,
    leeway: Duration,
}

impl JwtConfig {
    /// Checks the table at `key`.
    pub(super) fn from_raw(key: &str, raw: RawJwtConfig) -> Result<Self, ConfigIssues> {
        let at = |name: &str| format!("{key}.{name}");
        let mut issues = ConfigIssues::default();
        issues.require(!raw.issuer.is_empty(), at("issuer"), "must not be empty");
        let audiences = [
            &raw.audiences.istio,
            &raw.audiences.certificates,
            &raw.audiences.linkerd,
            &raw.audiences.vault,
            &raw.audiences.sds,
            &raw.audiences.admin,
        ];
        issues.require(
            audiences.iter().any(|each| each.is_some()),
            at("audiences"),
            "must name an audience for at least one of istio, certificates, linkerd, vault, sds, \
             admin",
        );
        issues.require(
            !audiences.into_iter().flatten().any(String::is_empty),
            at("audiences"),
            "an audience must not be empty",
        );
        issues.require(
            !raw.cluster.as_deref().is_some_and(str::is_empty),
            at("cluster"),
            "must not be empty",
        );
        let for_url = (raw.jwks_ca_file, raw.jwks_token_file);
        let source = source(&at, raw.jwks_file, raw.jwks_url, for_url);
        let source = issues.collect(source);
        let refresh = raw.refresh.unwrap_or(REFRESH);
        let refresh = issues.collect(require_between(
            at("refresh"),
            refresh,
            Duration::from_secs(1),
            DAY,
        ));
        let keep = refresh.map(|refresh| raw.keep.unwrap_or(KEEP.max(refresh)));
        issues.require(
            keep >= refresh,
            at("keep"),
            "must not be shorter than refresh",
        );
        let trust_domain = issues.collect(trust_domain(at("trust_domain"), &raw.trust_domain));
        let leeway = raw.leeway.unwrap_or(LEEWAY);
        let most = Duration::from_secs(300);
        let leeway = issues.collect(require_between(at("leeway"), leeway, Duration::ZERO, most));
        let config = || {
            Some(Self {
                trust_domain: trust_domain?,
                leeway: leeway?,
                issuer: raw.issuer,
                subject: raw.subject,
                audiences: raw.audiences,
                cluster: raw.cluster,
                keys: KeyCacheConfig {
                    source: source?,
                    refresh: refresh?,
                    keep: keep?,
                },
            })
        };
        issues.into_result(config())
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn subject(&self) -> SubjectForm {
        self.subject
    }

    /// The audience that `api` requires of a token.
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

    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    pub(in crate::authn) fn keys(&self) -> &KeyCacheConfig {
        &self.keys
    }
}

/// `for_url` is jwks_ca_file and jwks_token_file.
fn source(
    at: &impl Fn(&str) -> String,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    (ca_file, token_file): (Option<PathBuf>, Option<PathBuf>),
) -> Result<Source, ConfigIssue> {
    let checked = |name: &str, path: Option<PathBuf>| {
        let path = path.map(|path| file(at(name), path));
        path.transpose()
    };
    match (jwks_file, jwks_url) {
        (Some(_), Some(_)) => {
            let issue = ConfigIssue::new(at("jwks_url"), "excludes jwks_file");
            Err(issue.with_fix("remove one"))
        }
        (None, Some(text)) => {
            let key = at("jwks_url");
            let url = Url::parse(&text).map_err(|error| ConfigIssue::new(&key, error))?;
            if url.scheme() != "https" {
                return Err(ConfigIssue::new(key, "must be https"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                let problem = "must hold no user name and no password";
                return Err(ConfigIssue::new(key, problem));
            }
            Ok(Source::Https {
                url,
                ca_file: checked("jwks_ca_file", ca_file)?,
                token_file: checked("jwks_token_file", token_file)?,
            })
        }
        (jwks_file, None) => {
            for (name, path) in [("jwks_ca_file", ca_file), ("jwks_token_file", token_file)] {
                if path.is_some() {
                    let problem = "is for jwks_url, which is not set";
                    return Err(ConfigIssue::new(at(name), problem));
                }
            }
            match jwks_file {
                Some(path) => Ok(Source::File(file(at("jwks_file"), path)?)),
                None => {
                    let problem = "one of jwks_file and jwks_url must be set";
                    Err(ConfigIssue::new(at("jwks_file"), problem))
                }
            }
        }
    }
}
