//! `[listeners.NAME.linkerd]`: settings of Linkerd's identity service.

use std::time::Duration;

use serde::Deserialize;

use super::schedule::Schedule;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::policy::LINKERD_PROFILE;
use crate::policy::Profile;
use crate::x509::{LinkerdMesh, NameError, TrustDomain};

const CONTROL_NAMESPACE: &str = "linkerd";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `[listeners.NAME.linkerd]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLinkerd {
    /// The namespace of Linkerd's control plane; part of every name. Default `linkerd`.
    pub control_namespace: Option<String>,
    /// The profile of the certificates. Default `linkerd`.
    pub profile: Option<String>,
    /// The least remaining lifetime of a certificate when a proxy must have renewed it. Default: a
    /// sixth of the profile's `default_ttl`.
    #[serde(with = "humantime_serde")]
    pub outage_margin: Option<Duration>,
    /// The span over which proxies' refreshes are spread. Default: a third of `default_ttl`.
    #[serde(with = "humantime_serde")]
    pub jitter: Option<Duration>,
    /// The deadline of each call. Default 10s.
    #[serde(with = "humantime_serde")]
    pub answer_within: Option<Duration>,
    /// Write an event on the service account for each certificate. Default: false.
    pub events: bool,
}

/// Checked settings of a Linkerd listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkerdConfig {
    control_namespace: String,
    trust_domain: Option<TrustDomain>,
    profile: String,
    outage_margin: Option<Duration>,
    jitter: Option<Duration>,
    answer_within: Duration,
    events: bool,
}

impl LinkerdConfig {
    /// The mesh of the callers of `trust_domain`.
    ///
    /// # Errors
    /// [`NameError`] when the trust domain is no DNS name.
    pub fn mesh(&self, trust_domain: &TrustDomain) -> Result<LinkerdMesh, NameError> {
        LinkerdMesh::new(&self.control_namespace, trust_domain)
    }

    /// The trust domain of the listener's one cluster.
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    /// Sets the trust domain of the listener's cluster.
    pub(in crate::mesh) fn for_trust_domain(self, trust_domain: &TrustDomain) -> Self {
        Self {
            trust_domain: Some(trust_domain.clone()),
            ..self
        }
    }

    /// The profile of the certificates.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// Margin and jitter of that profile's certificates.
    pub fn schedule(&self, profile: &Profile) -> Schedule {
        let by_lifetime = Schedule::of_lifetime(profile.default_ttl());
        Schedule {
            outage_margin: self.outage_margin.unwrap_or(by_lifetime.outage_margin),
            jitter: self.jitter.unwrap_or(by_lifetime.jitter),
        }
    }

    /// The deadline of each call.
    pub fn answer_within(&self) -> Duration {
        self.answer_within
    }

    pub fn writes_events(&self) -> bool {
        self.events
    }

    /// Checks margin and jitter against the profile's lifetime; the issue's key is below
    /// `[listeners.NAME]`.
    pub(crate) fn check_schedule(&self, profile: &Profile) -> Result<(), ConfigIssue> {
        if self.schedule(profile).fits(profile.default_ttl()) {
            return Ok(());
        }
        let name = &self.profile;
        let problem = format_args!(
            "together with `outage_margin` it takes more than three quarters of \
             profiles.{name}.default_ttl"
        );
        let issue = ConfigIssue::new("linkerd.jitter", problem);
        Err(issue.with_fix("write less, or leave both out"))
    }
}

impl TryFrom<RawLinkerd> for LinkerdConfig {
    type Error = ConfigIssues;

    fn try_from(raw: RawLinkerd) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let control_namespace = raw
            .control_namespace
            .unwrap_or_else(|| CONTROL_NAMESPACE.to_owned());
        let example = TrustDomain::parse("example")
            .and_then(|domain| LinkerdMesh::new(&control_namespace, &domain))
            .map_err(|error| ConfigIssue::new("linkerd.control_namespace", error));
        issues.collect(example);
        let answer_within = raw.answer_within.unwrap_or(ANSWER_WITHIN);
        issues.require(
            (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&answer_within),
            "linkerd.answer_within",
            "must be 1s to 1m",
        );
        for (key, span) in [
            ("linkerd.outage_margin", raw.outage_margin),
            ("linkerd.jitter", raw.jitter),
        ] {
            let whole = span.is_none_or(|span| span.subsec_nanos() == 0);
            issues.require(whole, key, "must be whole seconds");
        }
        issues.into_result(Some(Self {
            control_namespace,
            trust_domain: None,
            profile: raw.profile.unwrap_or_else(|| LINKERD_PROFILE.to_owned()),
            outage_margin: raw.outage_margin,
            jitter: raw.jitter,
            answer_within,
            events: raw.events,
        }))
    }
}
