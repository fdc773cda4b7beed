//! Reads the configuration file and the environment into checked component configurations.
//!
//! Each component owns the types of its section and checks them; this module reads them, checks the
//! references between them, and reports every issue with its place. The file holds no certificate
//! and no secret, only where they are and what is allowed.

mod agent_file;
mod check;
mod error;
mod file;
mod log;
mod memory;
mod placeholder;
mod probe;
mod raw;
mod references;
mod schema;
mod sections;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use agent_file::{AgentFile, RawAgentFile};
pub use error::{ConfigError, Finding};
use file::ConfigSource;
pub(crate) use file::read;
pub use log::{LogConfig, LogFormat, RawLog};
pub use memory::Memory;
pub use raw::RawConfig;
use references::{
    check_addresses, check_linkerd_profile, check_target_clusters, check_vault_listeners,
};
pub use schema::Shape;
pub use sections::{Instance, LedgerConfig, RawInstance, RawLedger};

use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::controllers::publisher;
use crate::{
    admin, authn, cluster, controllers, federation, hsm, issuance, mesh, policy, rotation, upstream,
};

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    file: PathBuf,
    instance: Instance,
    ledger: LedgerConfig,
    hsm: hsm::Config,
    authn: authn::Config,
    clusters: BTreeMap<String, cluster::ClusterConfig>,
    bundle_targets: Vec<publisher::TargetConfig>,
    publisher: publisher::PublisherConfig,
    controllers: controllers::Config,
    listeners: Vec<mesh::ListenerConfig>,
    admission: issuance::AdmissionConfig,
    policy: policy::Config,
    rotation: rotation::Config,
    watchers: Vec<rotation::WatcherConfig>,
    upstream: upstream::Config,
    istio_profile: Option<String>,
    federation: Vec<federation::FederationConfig>,
    vault: mesh::VaultConfig,
    admin: admin::Config,
    log: LogConfig,
}

impl Config {
    /// Reads `file` and the overrides in this process's environment.
    ///
    /// # Errors
    /// Every issue of the file: the place, the key, and what to write.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::load_with(file, &variables)
    }

    /// Reads `file` and the overrides among `variables`.
    ///
    /// # Errors
    /// Every issue of the file: the place, the key, and what to write.
    pub fn load_with(
        file: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut source = ConfigSource::open(file, variables)?;
        let raw = source.deserialize();
        source.finish(raw.map(|raw| Self::check(file, raw)))
    }

    fn check(file: &Path, raw: RawConfig) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let authn = authn::RawConfig {
            jwt: raw.jwt,
            operators: raw.operators,
        };
        let authn = authn::Config::check(authn, &mut issues);
        let clusters = cluster::check_clusters(raw.clusters, &mut issues);
        let mut listeners = Vec::with_capacity(raw.listeners.len());
        for (name, raw) in raw.listeners {
            let listener = mesh::ListenerConfig::new(&name, raw, &authn, &clusters);
            listeners.extend(issues.collect(listener));
        }
        let policy = policy::RawConfig {
            profiles: raw.profiles,
            policy: raw.policy,
        };
        let policy = policy::Config::check(policy, &mut issues);
        let controllers = controllers::RawConfig {
            csr_signers: raw.csr_signers,
            pod_signers: raw.pod_signers,
            istiod_tls: raw.istiod_tls,
            linkerd_issuers: raw.linkerd_issuers,
        };
        let controllers = controllers::Config::check(controllers, &mut issues);
        let bundle_targets = publisher::check_targets(raw.bundle_targets, &mut issues);
        let admission = issues.collect(issuance::AdmissionConfig::try_from(raw.admission));
        let admin = issues.collect(admin::Config::try_from(raw.admin));
        let instance = issues.collect(Instance::try_from(raw.instance));
        let ledger = issues.collect(LedgerConfig::try_from(raw.ledger));
        let hsm = issues.collect(hsm::Config::try_from(raw.hsm));
        let upstream = upstream::RawConfig {
            upstream: raw.upstream,
            authority: raw.authority,
        };
        let tokens: Vec<&str> = hsm.iter().flat_map(hsm::Config::token_names).collect();
        let mut upstream = upstream::Config::check(upstream, &tokens, &mut issues);
        upstream.find_clusters(&clusters, &mut issues);
        upstream.check_lifetimes(policy.policy().profiles_in_use(), &mut issues);
        let publisher = issues.collect(publisher::PublisherConfig::try_from(raw.publisher));
        let rotation = issues.collect(rotation::Config::try_from(raw.rotation));
        let is_cluster = |name: &str| clusters.contains_key(name);
        let watchers = rotation::WatcherConfig::check(raw.watchers, is_cluster, &mut issues);
        let log = issues.collect(LogConfig::try_from(raw.log));
        let federation = federation::FederationConfig::check(raw.federation, &mut issues);
        let vault = mesh::VaultConfig::check(raw.vault, &mut issues);
        vault.check_profiles(policy.policy(), &mut issues);
        check_vault_listeners(&listeners, &vault, &mut issues);

        if let Some(name) = &raw.istio.profile
            && !policy.policy().has_profile(name)
        {
            issues.push(ConfigIssue::undefined("istio.profile", "profiles", name));
        }
        for listener in &listeners {
            issues.collect(check_linkerd_profile(listener, policy.policy()));
        }
        for name in admin.iter().flat_map(admin::Config::operators) {
            if !authn.operators().contains_key(name) {
                let key = "admin.operators";
                issues.push(ConfigIssue::undefined(key, "operators", name));
            }
        }
        check_target_clusters(&bundle_targets, &clusters, &mut issues);
        controllers.check_references(&clusters, policy.policy(), &mut issues);
        check_addresses(&listeners, admin.as_ref(), &mut issues);

        let config = || {
            let ledger = ledger?;
            Some(Self {
                file: file.to_owned(),
                instance: instance?,
                hsm: hsm?.with_state_directory(ledger.high_water_directory()),
                ledger,
                authn,
                clusters,
                bundle_targets,
                publisher: publisher?,
                controllers,
                listeners,
                admission: admission?,
                policy,
                rotation: rotation?,
                watchers,
                upstream,
                istio_profile: raw.istio.profile,
                federation,
                vault,
                admin: admin?,
                log: log?,
            })
        };
        issues.into_result(config())
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// `[instance]`.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What the limits allow in memory.
    pub fn memory(&self) -> Memory {
        Memory::new(self)
    }

    /// Limits that do not fit each other, or the memory that there is.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::from_iter(self.memory().warning());
        warnings.extend(self.admission.beyond_queue(self.hsm.queue()));
        warnings
    }

    /// `[ledger]`.
    pub fn ledger(&self) -> &LedgerConfig {
        &self.ledger
    }

    /// `[hsm]`.
    pub fn hsm(&self) -> &hsm::Config {
        &self.hsm
    }

    /// `[jwt.*]` and `[operators.*]`.
    pub fn authn(&self) -> &authn::Config {
        &self.authn
    }

    /// `[clusters.*]`, by name.
    pub fn clusters(&self) -> &BTreeMap<String, cluster::ClusterConfig> {
        &self.clusters
    }

    /// `[bundle_targets.*]`, by name.
    pub fn bundle_targets(&self) -> &[publisher::TargetConfig] {
        &self.bundle_targets
    }

    /// `[publisher]`.
    pub fn publisher(&self) -> &publisher::PublisherConfig {
        &self.publisher
    }

    /// Controllers in clusters: `[csr_signers.*]`, `[pod_signers.*]`, `[istiod_tls.*]`,
    /// `[linkerd_issuers.*]`.
    pub fn controllers(&self) -> &controllers::Config {
        &self.controllers
    }

    /// `[listeners.*]`, by name.
    pub fn listeners(&self) -> &[mesh::ListenerConfig] {
        &self.listeners
    }

    /// `[admission]`.
    pub fn admission(&self) -> &issuance::AdmissionConfig {
        &self.admission
    }

    /// `[profiles.*]` and `[policy]`.
    pub fn policy(&self) -> &policy::Config {
        &self.policy
    }

    /// `[rotation]`.
    pub fn rotation(&self) -> &rotation::Config {
        &self.rotation
    }

    /// `[watchers.*]`, by name.
    pub fn watchers(&self) -> &[rotation::WatcherConfig] {
        &self.watchers
    }

    /// `[upstream.*]` and `[authority.*]`.
    pub fn upstream(&self) -> &upstream::Config {
        &self.upstream
    }

    /// Sections that differ in `next` and are read at the start only. Every field is named here, so
    /// that a new one is either replaced by a reload or counts.
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            file: _,
            instance,
            ledger,
            hsm,
            // Replaced by a reload.
            authn: _,
            clusters,
            bundle_targets,
            publisher,
            controllers,
            listeners,
            // Replaced by a reload.
            admission: _,
            policy: _,
            rotation,
            watchers,
            upstream,
            istio_profile,
            federation,
            vault,
            admin,
            log,
        } = self;
        let pairs = || listeners.iter().zip(&next.listeners);
        let listeners_differ = listeners.len() != next.listeners.len()
            || pairs().any(|(running, next)| running.needs_restart(next));
        let controllers_key = "csr_signers, pod_signers, istiod_tls or linkerd_issuers";
        [
            ("instance", *instance != next.instance),
            ("ledger", *ledger != next.ledger),
            ("hsm", *hsm != next.hsm),
            ("clusters", *clusters != next.clusters),
            ("listeners", listeners_differ),
            ("bundle_targets", *bundle_targets != next.bundle_targets),
            ("publisher", *publisher != next.publisher),
            ("rotation", *rotation != next.rotation),
            ("watchers", *watchers != next.watchers),
            ("upstream or authority", *upstream != next.upstream),
            ("istio", *istio_profile != next.istio_profile),
            ("federation", *federation != next.federation),
            ("vault", *vault != next.vault),
            (controllers_key, *controllers != next.controllers),
            ("admin", *admin != next.admin),
            ("log", *log != next.log),
        ]
        .into_iter()
        .filter_map(|(section, differs)| differs.then_some(section))
        .collect()
    }

    /// `istio.profile`: the profile of an Istio request that names none.
    pub fn istio_profile(&self) -> Option<&str> {
        self.istio_profile.as_deref()
    }

    /// `[federation.*]`, by name.
    pub fn federation(&self) -> &[federation::FederationConfig] {
        &self.federation
    }

    /// `[vault]`.
    pub fn vault(&self) -> &mesh::VaultConfig {
        &self.vault
    }

    /// `[admin]`.
    pub fn admin(&self) -> &admin::Config {
        &self.admin
    }

    /// `[log]`.
    pub fn log(&self) -> &LogConfig {
        &self.log
    }

    /// Allows one login although a wrong PIN would lock the token (`--final-try`).
    pub fn allow_final_try(&mut self) {
        self.hsm.allow_final_try();
    }
}

#[cfg(test)]
mod tests;
