//! `[publisher]`: the write rate and the Lease.

use std::num::NonZeroU32;
use std::time::Duration;

use super::raw::RawPublisher;
use crate::cluster::is_subdomain;
use crate::config_issue::{ConfigIssue, ConfigIssues};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherConfig {
    writes_per_second: NonZeroU32,
    lease_namespace: String,
    lease_name: String,
    lease_duration: Duration,
}

impl PublisherConfig {
    /// The shortest time between two writes to one cluster.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs(1) / self.writes_per_second.get()
    }

    pub fn lease_namespace(&self) -> &str {
        &self.lease_namespace
    }

    pub fn lease_name(&self) -> &str {
        &self.lease_name
    }

    /// How long another server waits for the holder to renew; whole seconds.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }
}

impl TryFrom<RawPublisher> for PublisherConfig {
    type Error = ConfigIssues;

    fn try_from(raw: RawPublisher) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let writes_per_second = NonZeroU32::new(raw.writes_per_second)
            .filter(|writes| writes.get() <= 1000)
            .ok_or_else(|| ConfigIssue::new("publisher.writes_per_second", "must be 1 to 1000"));
        let writes_per_second = issues.collect(writes_per_second);
        if !is_subdomain(&raw.lease_namespace) || raw.lease_namespace.contains('.') {
            let problem = "is not the name of a namespace";
            let issue = ConfigIssue::new("publisher.lease_namespace", problem);
            issues.push(issue.with_fix("write one such as rootbridge"));
        }
        issues.require(
            is_subdomain(&raw.lease_name),
            "publisher.lease_name",
            "must be lower-case letters, digits, `-` and `.`, such as rootbridge-publisher",
        );
        let whole = raw.lease_duration.subsec_nanos() == 0;
        issues.require(
            whole && (5..=300).contains(&raw.lease_duration.as_secs()),
            "publisher.lease_duration",
            "must be 5s to 5m, in whole seconds",
        );
        issues.into_result(writes_per_second.map(|writes_per_second| Self {
            writes_per_second,
            lease_namespace: raw.lease_namespace,
            lease_name: raw.lease_name,
            lease_duration: raw.lease_duration,
        }))
    }
}
