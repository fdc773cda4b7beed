//! SIGHUP reloads the configuration; an invalid one changes nothing and is logged.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::core::Core;
use super::listen::Callers;
use super::policy::effective_policy;
use crate::admin::Admin;
use crate::authn::{JwtVerifiers, Operators};
use crate::config::Config;
use crate::issuance::Authorities;
use crate::mesh::CallerAuthenticator;

/// What a reload changes: policy, profiles, and who may call.
pub(super) struct Reload {
    pub(super) file: PathBuf,
    pub(super) core: Core,
    pub(super) callers: Callers,
    /// What the metrics of token issuers' keys show.
    pub(super) verifiers: Arc<ArcSwap<JwtVerifiers>>,
    pub(super) authenticators: Vec<(String, CallerAuthenticator)>,
    pub(super) authorities: Arc<Authorities>,
    pub(super) admin: Arc<Admin>,
    /// The configuration at the start, which sections that need a restart still have.
    pub(super) started: Config,
}

impl Reload {
    pub(super) fn run(&mut self) {
        match Config::load(&self.file) {
            Ok(next) => self.apply(&next),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "the old configuration stays active");
            }
        }
    }

    fn apply(&mut self, next: &Config) {
        self.callers = Callers {
            jwt: Arc::new(self.callers.jwt.reconfigured(next.authn())),
            operators: Arc::new(Operators::new(next.authn())),
            clusters: Arc::clone(&self.callers.clusters),
        };
        self.verifiers.store(Arc::clone(&self.callers.jwt));
        for (name, authenticator) in &self.authenticators {
            // A listener that the file no longer has ends with the next restart; until then its
            // callers do not change.
            let listener = next
                .listeners()
                .iter()
                .find(|listener| listener.name() == name);
            if let Some(listener) = listener {
                authenticator.replace(self.callers.verifiers(&self.core, listener));
            }
        }
        self.admin
            .operators
            .store(Arc::clone(&self.callers.operators));
        self.authorities
            .set_policy(effective_policy(next, &self.started));
        self.authorities.set_admission(next.admission());
        for section in self.started.needs_restart(next) {
            tracing::warn!(section, "changed; the change needs a restart");
        }
        tracing::info!(file = %self.file.display(), "configuration reloaded");
    }
}
