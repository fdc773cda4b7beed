//! The configuration file of `rootbridge agent`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::ConfigError;
use super::file::ConfigSource;
use super::log::{LogConfig, RawLog};
use super::references::check_target_clusters;
use crate::cluster::{self, ClusterConfig};
use crate::config_issue::ConfigIssues;
use crate::controllers::agent::{AgentConfig, RawAgent};
use crate::controllers::publisher;

/// The whole file of an agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAgentFile {
    /// `[agent]`.
    pub agent: RawAgent,
    /// `[clusters.*]`: one.
    pub clusters: BTreeMap<String, cluster::RawCluster>,
    /// `[bundle_targets.*]`.
    pub bundle_targets: BTreeMap<String, publisher::RawTarget>,
    /// `[publisher]`.
    #[serde(default)]
    pub publisher: publisher::RawPublisher,
    /// `[log]`.
    #[serde(default)]
    pub log: RawLog,
}

/// A checked configuration of an agent.
#[derive(Debug, Clone)]
pub struct AgentFile {
    agent: AgentConfig,
    clusters: BTreeMap<String, ClusterConfig>,
    bundle_targets: Vec<publisher::TargetConfig>,
    publisher: publisher::PublisherConfig,
    log: LogConfig,
}

impl AgentFile {
    /// Reads `file` and the overrides in this process's environment.
    ///
    /// # Errors
    /// Every issue of the file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut source = ConfigSource::open(file, &variables)?;
        let raw = source.deserialize();
        source.finish(raw.map(Self::check))
    }

    fn check(raw: RawAgentFile) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let agent = issues.collect(AgentConfig::try_from(raw.agent));
        let clusters = cluster::check_clusters(raw.clusters, &mut issues);
        issues.require(
            clusters.len() == 1,
            "clusters",
            "must be one: an agent runs in the cluster that it publishes to",
        );
        let bundle_targets = publisher::check_targets(raw.bundle_targets, &mut issues);
        check_target_clusters(&bundle_targets, &clusters, &mut issues);
        if let Some(agent) = &agent {
            for target in &bundle_targets {
                issues.require(
                    target.trust_domain() == agent.trust_domain(),
                    format!("bundle_targets.{}.trust_domain", target.name()),
                    "must be that of [agent], whose bundle is followed",
                );
            }
        }
        issues.require(
            !bundle_targets.is_empty(),
            "bundle_targets",
            "must name at least one object to write",
        );
        let publisher = issues.collect(publisher::PublisherConfig::try_from(raw.publisher));
        let log = issues.collect(LogConfig::try_from(raw.log));
        let config = || {
            Some(Self {
                agent: agent?,
                clusters,
                bundle_targets,
                publisher: publisher?,
                log: log?,
            })
        };
        issues.into_result(config())
    }

    pub fn agent(&self) -> &AgentConfig {
        &self.agent
    }

    pub fn clusters(&self) -> &BTreeMap<String, ClusterConfig> {
        &self.clusters
    }

    pub fn bundle_targets(&self) -> &[publisher::TargetConfig] {
        &self.bundle_targets
    }

    pub fn publisher(&self) -> &publisher::PublisherConfig {
        &self.publisher
    }

    pub fn log(&self) -> &LogConfig {
        &self.log
    }
}
