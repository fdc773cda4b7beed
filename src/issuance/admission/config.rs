//! `[admission]`: how much a caller and a cluster may request.

use serde::Deserialize;

use crate::config_issue::ConfigIssues;
use crate::hsm::{most_of_one_caller, queue_for};
use crate::rate_limit::Rate;

/// `[admission]` in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAdmission {
    /// Callers whose pod is known.
    pub pod: RawLimit,
    /// Pods that request certificates for the workloads of their node.
    pub node_proxy: RawLimit,
    /// Callers that are known by their identity only, which many processes may have.
    pub identity: RawLimit,
    /// All callers of a cluster, or of a trust domain without clusters.
    pub cluster: RawLimit,
}

/// `[admission.KIND]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimit {
    /// Requests a second, once the burst is used up.
    pub per_second: Option<u32>,
    /// Requests at once after a pause.
    pub burst: Option<u32>,
    /// Requests that are in progress.
    pub concurrency: Option<u32>,
}

/// The limit of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) rate: Rate,
    pub(super) concurrency: u32,
}

/// A checked `[admission]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionConfig {
    pub(super) pod: Limit,
    pub(super) node_proxy: Limit,
    pub(super) identity: Limit,
    pub(super) cluster: Limit,
}

impl Limit {
    const fn new(per_second: u32, burst: u32, concurrency: u32) -> Self {
        Self {
            rate: Rate { per_second, burst },
            concurrency,
        }
    }

    fn with(self, raw: &RawLimit) -> Self {
        Self::new(
            raw.per_second.unwrap_or(self.rate.per_second),
            raw.burst.unwrap_or(self.rate.burst),
            raw.concurrency.unwrap_or(self.concurrency),
        )
    }
}

impl AdmissionConfig {
    /// Where one caller may have more requests in progress than the HSM's queue has places for it, or than
    /// its cluster may.
    pub fn beyond_queue(&self, queue: usize) -> Vec<String> {
        let places = most_of_one_caller(queue);
        let kinds = [
            ("pod", self.pod),
            ("node_proxy", self.node_proxy),
            ("identity", self.identity),
        ];
        let mut found = Vec::new();
        for (kind, limit) in kinds {
            let wanted = usize::try_from(limit.concurrency).unwrap_or(usize::MAX);
            if wanted > places {
                found.push(format!(
                    "admission.{kind}.concurrency = {wanted} is more than the {places} places that one caller \
                     can have of hsm.queue = {queue}: beyond them requests get RESOURCE_EXHAUSTED for the queue; \
                     lower the one, or set hsm.queue to {} or more",
                    queue_for(wanted)
                ));
            }
            if limit.concurrency > self.cluster.concurrency {
                found.push(format!(
                    "admission.{kind}.concurrency = {wanted} is more than admission.cluster.concurrency = {}: one \
                     caller can use up its cluster's",
                    self.cluster.concurrency
                ));
            }
        }
        found
    }
}

/// A pod needs one certificate at its start and one in hours. A thousand pods of one account, which may
/// be known by that account only, can start at once; so can a node with a thousand workloads.
impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            pod: Limit::new(5, 200, 64),
            node_proxy: Limit::new(50, 1000, 512),
            identity: Limit::new(100, 2000, 1200),
            cluster: Limit::new(1000, 20_000, 4000),
        }
    }
}

impl TryFrom<RawAdmission> for AdmissionConfig {
    type Error = ConfigIssues;

    fn try_from(raw: RawAdmission) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        for (name, limit) in [
            ("pod", &raw.pod),
            ("node_proxy", &raw.node_proxy),
            ("identity", &raw.identity),
            ("cluster", &raw.cluster),
        ] {
            for (key, value) in [
                ("per_second", limit.per_second),
                ("burst", limit.burst),
                ("concurrency", limit.concurrency),
            ] {
                let fits = value.is_none_or(|value| (1..=1_000_000).contains(&value));
                let key = format!("admission.{name}.{key}");
                issues.require(fits, key, "must be 1 to 1000000");
            }
        }
        let default = Self::default();
        issues.into_result(Some(Self {
            pod: default.pod.with(&raw.pod),
            node_proxy: default.node_proxy.with(&raw.node_proxy),
            identity: default.identity.with(&raw.identity),
            cluster: default.cluster.with(&raw.cluster),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<AdmissionConfig, String> {
        let raw: RawAdmission = toml::from_str(text).unwrap();
        AdmissionConfig::try_from(raw).map_err(|issues| issues.to_string())
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let read = |text| read(text).unwrap();
        assert_eq!(read(""), AdmissionConfig::default());
        let config = read("pod = { burst = 7 }");
        assert_eq!(config.pod, Limit::new(5, 7, 64));
        assert_eq!(config.cluster, AdmissionConfig::default().cluster);
    }

    #[test]
    fn callers_are_held_against_the_queue_and_their_cluster() {
        let found = |text, queue| read(text).unwrap().beyond_queue(queue);
        let none: Vec<String> = Vec::new();
        assert_eq!(found("", crate::hsm::DEFAULT_QUEUE), none);
        // Two thirds of 1800, and one less.
        assert_eq!(found("", 1800), none);
        let warned = found("", 1798);
        let begins = "admission.identity.concurrency = 1200 is more than the 1199 places";
        assert!(warned.len() == 1, "{warned:?}");
        assert!(
            warned.iter().all(|text| text.starts_with(begins)),
            "{warned:?}"
        );
        assert!(
            warned
                .iter()
                .all(|text| text.contains("set hsm.queue to 1799 or more")),
            "{warned:?}"
        );
        let warned = found("cluster = { concurrency = 63 }", 2048);
        assert_eq!(warned.len(), 3, "{warned:?}");
    }

    #[test]
    fn limits_are_numbers_from_one() {
        for key in ["per_second", "burst", "concurrency"] {
            let error = read(&format!("node_proxy = {{ {key} = 0 }}")).unwrap_err();
            let expected = format!("admission.node_proxy.{key}: must be 1 to 1000000");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
