//! Probes the HSM and the ledger in the background, so that no health check waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::core::Core;
use crate::admin::{HealthState, TokenHealth};
use crate::hsm::{Token, TokenState};
use crate::issuance::Authorities;
use crate::trust::Bundles;

const ISTIO: &str = "istio.v1.auth.IstioCertificateService";
const CERTIFICATES: &str = "rootbridge.v1.CertificateService";
const LINKERD: &str = "io.linkerd.proxy.identity.Identity";
const BUNDLES: &str = "rootbridge.v1.TrustBundleService";
const SDS: &str = "envoy.service.secret.v3.SecretDiscoveryService";
/// The interval of ledger probes; test signatures load the HSM and have an interval of their own.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Prober {
    pub(super) core: Core,
    pub(super) tokens: Vec<Arc<Token>>,
    pub(super) authorities: Arc<Authorities>,
    pub(super) bundles: Arc<Bundles>,
    pub(super) health_state: Arc<HealthState>,
    pub(super) health: HealthReporter,
    pub(super) test_interval: Duration,
}

impl Prober {
    /// Probes until `stop`, then reports NOT_SERVING to health watches.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.probe_loop() => {}
        }
        for service in [ISTIO, CERTIFICATES, LINKERD, BUNDLES] {
            let ending = ServingStatus::NotServing;
            self.health.set_service_status(service, ending).await;
            // Ends the health watches, for which a graceful shutdown would wait.
            self.health.clear_service_status(service).await;
        }
        self.health.clear_service_status("").await;
    }

    async fn probe_loop(&self) {
        let mut last_test = None;
        loop {
            let due =
                last_test.is_none_or(|at: tokio::time::Instant| at.elapsed() >= self.test_interval);
            if due {
                last_test = Some(tokio::time::Instant::now());
            }
            self.probe_all(due).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn probe_all(&self, test: bool) {
        let ledger = match self.core.ledger.revision().await {
            // Reads succeed, but the last write did not.
            Ok(_) if self.core.pipeline.ledger_unavailable() => {
                Err("it accepts no records".to_owned())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.health_state.set_ledger(ledger);
        for token in &self.tokens {
            self.probe_token(token, test).await;
        }
        let signs = self
            .authorities
            .status()
            .iter()
            .any(|authority| authority.issuer.is_some())
            && self.health_state.tokens().values().any(|token| token.up);
        for (service, up) in [
            (ISTIO, signs),
            (CERTIFICATES, signs),
            (LINKERD, signs),
            (BUNDLES, !self.bundles.is_empty()),
            (SDS, !self.bundles.is_empty()),
        ] {
            let status = if up {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            self.health.set_service_status(service, status).await;
        }
    }

    async fn probe_token(&self, token: &Arc<Token>, test: bool) {
        let before = self
            .health_state
            .tokens()
            .remove(token.name())
            .unwrap_or_default();
        let state = token.state();
        let ready = state == TokenState::Ready;
        // A token that has recovered is tested at once.
        let recovered = ready && !before.up && before.state != state.to_string();
        let (up, text, signing_time) = match ready && (test || recovered) {
            true => match token.probe().await {
                Ok(probe) => (true, state.to_string(), probe.signing_time),
                Err(error) => (false, error.to_string(), None),
            },
            // Between two test signatures the last result holds while the token is logged in.
            false => (ready && before.up, state.to_string(), before.signing_time),
        };
        if up != before.up {
            match up {
                true => tracing::info!(token = token.name(), "the token signs"),
                false => {
                    tracing::warn!(token = token.name(), state = %text, "the token does not sign")
                }
            }
        }
        self.health_state.set_token(
            token.name(),
            TokenHealth {
                up,
                state: text,
                signing_time,
                signatures: token.signatures(),
                test_signatures: token.test_signatures(),
                module_restarts: token.module_restarts(),
                hanging: token.hanging(),
                queued: token.queued(),
            },
        );
    }
}
