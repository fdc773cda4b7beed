//! From file and environment to validated component configurations.
//!
//! Each room owns the types of its section and checks them; here they are only read, named and
//! checked against each other. Nothing in the file is a certificate or a secret: it says where
//! things are and what is allowed.

mod check;
mod error;
mod file;
mod log;
mod schema;
mod sections;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use error::{ConfigError, Finding};
pub(crate) use file::read;
pub use log::{LogConfig, LogError, LogFormat, RawLog};
pub use schema::Shape;
pub use sections::{Instance, LedgerConfig, RawInstance, RawLedger, SectionError};

use crate::controllers::publisher;
use crate::{admin, authn, cluster, controllers, hsm, mesh, policy};

/// The whole file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// `[instance]`.
    #[serde(default)]
    pub instance: RawInstance,
    /// `[ledger]`.
    pub ledger: RawLedger,
    /// `[hsm]`.
    pub hsm: hsm::RawConfig,
    /// `[listeners.*]`.
    #[serde(default)]
    pub listeners: BTreeMap<String, mesh::RawListener>,
    /// `[jwt.*]`.
    #[serde(default)]
    pub jwt: BTreeMap<String, authn::RawJwtConfig>,
    /// `[clusters.*]`.
    #[serde(default)]
    pub clusters: BTreeMap<String, cluster::RawCluster>,
    /// `[bundle_targets.*]`.
    #[serde(default)]
    pub bundle_targets: BTreeMap<String, publisher::RawTarget>,
    /// `[publisher]`.
    #[serde(default)]
    pub publisher: publisher::RawPublisher,
    /// `[csr_signers.*]`.
    #[serde(default)]
    pub csr_signers: BTreeMap<String, controllers::RawCsrSigner>,
    /// `[pod_signers.*]`.
    #[serde(default)]
    pub pod_signers: BTreeMap<String, controllers::RawPodSigner>,
    /// `[istiod_tls.*]`.
    #[serde(default)]
    pub istiod_tls: BTreeMap<String, controllers::RawIstiodTls>,
    /// `[linkerd_issuers.*]`.
    #[serde(default)]
    pub linkerd_issuers: BTreeMap<String, controllers::RawLinkerdIssuer>,
    /// `[operators.*]`.
    #[serde(default)]
    pub operators: BTreeMap<String, authn::RawOperatorConfig>,
    /// `[profiles.*]`.
    #[serde(default)]
    pub profiles: BTreeMap<String, policy::RawProfile>,
    /// `[policy]`.
    #[serde(default)]
    pub policy: policy::RawPolicy,
    /// `[istio]`.
    #[serde(default)]
    pub istio: mesh::RawIstio,
    /// `[admin]`.
    #[serde(default)]
    pub admin: admin::RawConfig,
    /// `[log]`.
    #[serde(default)]
    pub log: RawLog,
}

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
    policy: policy::Config,
    istio_profile: Option<String>,
    admin: admin::Config,
    log: LogConfig,
}

impl Config {
    /// Reads `file` under the overrides in this process's environment.
    ///
    /// # Errors
    /// Everything that is wrong: the place, the key, and what to write.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::load_with(file, &variables)
    }

    /// Reads `file` under the overrides among `variables`.
    ///
    /// # Errors
    /// Everything that is wrong: the place, the key, and what to write.
    pub fn load_with(
        file: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let (raw, written) = read::<RawConfig>(file, variables)?;
        Self::check(file, raw).map_err(|what| ConfigError::one(written.finding(&what)))
    }

    /// The first thing that a room, or the rooms together, find wrong; begins with its key.
    fn check(file: &Path, raw: RawConfig) -> Result<Self, String> {
        fn say(error: impl std::fmt::Display) -> String {
            error.to_string()
        }
        let authn = authn::RawConfig {
            jwt: raw.jwt,
            operators: raw.operators,
        };
        let authn = authn::Config::try_from(authn).map_err(say)?;
        let clusters = cluster::clusters(raw.clusters).map_err(say)?;
        let listeners = raw.listeners.into_iter();
        let listeners: Vec<_> = listeners
            .map(|(name, raw)| {
                mesh::ListenerConfig::new(&name, raw, &authn, &clusters).map_err(say)
            })
            .collect::<Result<_, _>>()?;
        let policy = policy::RawConfig {
            profiles: raw.profiles,
            policy: raw.policy,
        };
        let controllers = controllers::RawConfig {
            csr_signers: raw.csr_signers,
            pod_signers: raw.pod_signers,
            istiod_tls: raw.istiod_tls,
            linkerd_issuers: raw.linkerd_issuers,
        };
        let config = Self {
            file: file.to_owned(),
            instance: raw.instance.try_into().map_err(say)?,
            ledger: raw.ledger.try_into().map_err(say)?,
            hsm: raw.hsm.try_into().map_err(say)?,
            authn,
            bundle_targets: publisher::targets(raw.bundle_targets).map_err(say)?,
            publisher: raw.publisher.try_into().map_err(say)?,
            clusters,
            controllers: controllers.try_into().map_err(say)?,
            listeners,
            policy: policy.try_into().map_err(say)?,
            istio_profile: raw.istio.profile,
            admin: raw.admin.try_into().map_err(say)?,
            log: raw.log.try_into().map_err(say)?,
        };
        config.agrees()?;
        Ok(config)
    }

    /// What no room can see alone.
    fn agrees(&self) -> Result<(), String> {
        if let Some(profile) = &self.istio_profile
            && !self.policy.policy().has_profile(profile)
        {
            return Err(format!(
                "istio.profile: no profile is called `{profile}`; add [profiles.{profile}]"
            ));
        }
        for listener in &self.listeners {
            self.linkerd_agrees(listener)?;
        }
        for name in self.admin.operators() {
            if !self.authn.operators().contains_key(name) {
                return Err(format!("admin.operators: there is no [operators.{name}]"));
            }
        }
        for target in &self.bundle_targets {
            let unknown = |name: &&str| !self.clusters.contains_key(*name);
            if let Some(cluster) = target.clusters().find(unknown) {
                return Err(format!(
                    "bundle_targets.{}.clusters: there is no [clusters.{cluster}]",
                    target.name()
                ));
            }
        }
        self.controllers
            .agrees(&self.clusters, self.policy.policy())
            .map_err(|error| error.to_string())?;
        let mut taken = BTreeMap::from([(self.admin.address(), "admin".to_owned())]);
        for listener in &self.listeners {
            let key = format!("listeners.{}", listener.name());
            // Port 0 is a new port each time.
            if listener.address().port() != 0
                && let Some(other) = taken.insert(listener.address(), key.clone())
            {
                return Err(format!(
                    "{key}.address: {} is taken by {other}",
                    listener.address()
                ));
            }
        }
        Ok(())
    }

    fn linkerd_agrees(&self, listener: &mesh::ListenerConfig) -> Result<(), String> {
        let Some(linkerd) = listener.linkerd() else {
            return Ok(());
        };
        let at = |key: &str, why: &str| {
            Err(format!(
                "listeners.{}.linkerd.{key}: {why}",
                listener.name()
            ))
        };
        let name = linkerd.profile();
        if name.is_empty() || !self.policy.policy().has_profile(name) {
            let why = format!("no profile is called `{name}`; add [profiles.{name}]");
            return at("profile", &why);
        }
        match self.policy.policy().profile(name) {
            Some(profile) => linkerd.agrees(profile).or_else(|(key, why)| at(key, &why)),
            None => Ok(()),
        }
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// `[instance]`.
    pub fn instance(&self) -> &Instance {
        &self.instance
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

    /// What is done in clusters: `[csr_signers.*]`, `[pod_signers.*]`, `[istiod_tls.*]`,
    /// `[linkerd_issuers.*]`.
    pub fn controllers(&self) -> &controllers::Config {
        &self.controllers
    }

    /// `[listeners.*]`, by name.
    pub fn listeners(&self) -> &[mesh::ListenerConfig] {
        &self.listeners
    }

    /// `[profiles.*]` and `[policy]`.
    pub fn policy(&self) -> &policy::Config {
        &self.policy
    }

    /// `istio.profile`: the profile of an Istio request that names none.
    pub fn istio_profile(&self) -> Option<&str> {
        self.istio_profile.as_deref()
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
