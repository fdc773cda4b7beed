//! `[listeners.NAME.linkerd]`: whose identity service a listener is.

use std::time::Duration;

use serde::Deserialize;

use super::schedule::Schedule;
use crate::policy::LINKERD_PROFILE;
use crate::policy::Profile;
use crate::x509::{LinkerdMesh, NameError, TrustDomain};

const CONTROL_NAMESPACE: &str = "linkerd";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `[listeners.NAME.linkerd]` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLinkerd {
    /// The namespace of Linkerd's control plane; part of every name. Default `linkerd`.
    pub control_namespace: Option<String>,
    /// The profile of the certificates. Default `linkerd`.
    pub profile: Option<String>,
    /// What is left of a certificate when a proxy must have another, at least. Default: a sixth of
    /// the profile's `default_ttl`.
    #[serde(with = "humantime_serde")]
    pub outage_margin: Option<Duration>,
    /// The span over which proxies' refreshes are spread. Default: a third of `default_ttl`.
    #[serde(with = "humantime_serde")]
    pub jitter: Option<Duration>,
    /// Each call is answered within this. Default 10s.
    #[serde(with = "humantime_serde")]
    pub answer_within: Option<Duration>,
    /// Whether each certificate is told in an event on its service account. Default: not.
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
    /// The mesh whose names the callers of `trust_domain` have.
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

    /// The same for the callers of `trust_domain`.
    pub(super) fn for_trust_domain(self, trust_domain: &TrustDomain) -> Self {
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

    /// Each call is answered within this.
    pub fn answer_within(&self) -> Duration {
        self.answer_within
    }

    /// Whether each certificate is told in an event on its service account.
    pub fn writes_events(&self) -> bool {
        self.events
    }

    /// What is wrong with margin and jitter under the profile: the key, and what to write.
    pub(crate) fn agrees(&self, profile: &Profile) -> Result<(), (&'static str, String)> {
        match self.schedule(profile).fits(profile.default_ttl()) {
            true => Ok(()),
            false => Err((
                "jitter",
                format!(
                    "together with `outage_margin` it takes more than three quarters of \
                     profiles.{}.default_ttl; write less, or leave both out",
                    self.profile
                ),
            )),
        }
    }
}

impl TryFrom<RawLinkerd> for LinkerdConfig {
    type Error = (&'static str, String);

    fn try_from(raw: RawLinkerd) -> Result<Self, Self::Error> {
        let control_namespace = raw
            .control_namespace
            .unwrap_or_else(|| CONTROL_NAMESPACE.to_owned());
        let any =
            TrustDomain::parse("any").and_then(|any| LinkerdMesh::new(&control_namespace, &any));
        any.map_err(|error| ("linkerd.control_namespace", error.to_string()))?;
        let answer_within = raw.answer_within.unwrap_or(ANSWER_WITHIN);
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&answer_within) {
            return Err(("linkerd.answer_within", "must be 1s to 1m".to_owned()));
        }
        for (key, span) in [
            ("linkerd.outage_margin", raw.outage_margin),
            ("linkerd.jitter", raw.jitter),
        ] {
            if span.is_some_and(|span| span.subsec_nanos() != 0) {
                return Err((key, "must be whole seconds".to_owned()));
            }
        }
        Ok(Self {
            control_namespace,
            trust_domain: None,
            profile: raw.profile.unwrap_or_else(|| LINKERD_PROFILE.to_owned()),
            outage_margin: raw.outage_margin,
            jitter: raw.jitter,
            answer_within,
            events: raw.events,
        })
    }
}
