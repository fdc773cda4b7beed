//! `/metrics`: the components' counters, and gauges that are set at each request.
//! docs/reference/metrics.md lists every name.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::bundle_targets::BundleTargets;
use super::health_state::HealthState;
use crate::clock::UnixTime;
use crate::issuance::AuthorityStatus;
use crate::net::Certificates;
use crate::trust::TargetStatus;
use crate::x509::Certificate;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DomainLabels {
    trust_domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabels {
    work: String,
}

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    hsm_up: Family<TokenLabels, Gauge>,
    hsm_queue: Family<TokenLabels, Gauge>,
    hsm_signatures: Family<TokenLabels, Counter>,
    hsm_test_signatures: Family<TokenLabels, Counter>,
    hsm_module_restarts: Family<TokenLabels, Counter>,
    hsm_hanging_threads: Family<TokenLabels, Gauge>,
    hsm_probe_duration: Family<TokenLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    ledger_up: Gauge,
    ledger_queued: Gauge,
    work_held: Family<WorkLabels, Gauge>,
    issuer_ready: Family<DomainLabels, Gauge>,
    issuer_not_after: Family<DomainLabels, Gauge>,
    issuer_expires_in: Family<DomainLabels, Gauge>,
    issuer_shortens_certificates: Family<DomainLabels, Gauge>,
    bundle_sequence: Family<DomainLabels, Gauge>,
    listener_not_after: Family<ListenerLabels, Gauge>,
    bundle_targets: BundleTargets,
    /// The authorities that have labels.
    shown: Mutex<BTreeSet<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("rootbridge"),
            hsm_up: Family::default(),
            hsm_queue: Family::default(),
            hsm_signatures: Family::default(),
            hsm_test_signatures: Family::default(),
            hsm_module_restarts: Family::default(),
            hsm_hanging_threads: Family::default(),
            hsm_probe_duration: Family::default(),
            ledger_up: Gauge::default(),
            ledger_queued: Gauge::default(),
            work_held: Family::default(),
            issuer_ready: Family::default(),
            issuer_not_after: Family::default(),
            issuer_expires_in: Family::default(),
            issuer_shortens_certificates: Family::default(),
            bundle_sequence: Family::default(),
            listener_not_after: Family::default(),
            bundle_targets: BundleTargets::default(),
            shown: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        registry.register(
            "hsm_up",
            "1 when the last probe of the token succeeded",
            self.hsm_up.clone(),
        );
        registry.register(
            "hsm_queue",
            "Requests that wait for the token or are being signed",
            self.hsm_queue.clone(),
        );
        registry.register(
            "hsm_signatures",
            "Signatures by the token since the start",
            self.hsm_signatures.clone(),
        );
        registry.register(
            "hsm_test_signatures",
            "Test signatures by the token since the start, over a constant that is no certificate",
            self.hsm_test_signatures.clone(),
        );
        registry.register(
            "hsm_module_restarts",
            "How often the PKCS#11 module was finalized and initialized again for the token",
            self.hsm_module_restarts.clone(),
        );
        registry.register(
            "hsm_hanging_threads",
            "Threads that have been inside the PKCS#11 module for more than twice their time limit",
            self.hsm_hanging_threads.clone(),
        );
        registry.register(
            "hsm_probe_duration_seconds",
            "How long the last test signature took",
            self.hsm_probe_duration.clone(),
        );
        registry.register(
            "ledger_up",
            "1 when the ledger answered the last probe",
            self.ledger_up.clone(),
        );
        registry.register(
            "ledger_queued_outcomes",
            "Outcomes that wait to be written to the ledger",
            self.ledger_queued.clone(),
        );
        registry.register(
            "work_held",
            "1 for each work that this server alone does among those of the ledger",
            self.work_held.clone(),
        );
        registry.register(
            "issuer_ready",
            "1 when the authority can sign, with its token",
            self.issuer_ready.clone(),
        );
        registry.register(
            "issuer_not_after_timestamp_seconds",
            "Earliest notAfter of the issuing CA's certification path, seconds since 1970",
            self.issuer_not_after.clone(),
        );
        registry.register(
            "issuer_expires_in_seconds",
            "Seconds until the issuing CA's certification path ends",
            self.issuer_expires_in.clone(),
        );
        registry.register(
            "issuer_shortens_certificates",
            "1 when the issuing CA ends before a certificate of the default lifetime would",
            self.issuer_shortens_certificates.clone(),
        );
        registry.register(
            "bundle_sequence",
            "Sequence of the published trust bundle",
            self.bundle_sequence.clone(),
        );
        registry.register(
            "listener_certificate_not_after_timestamp_seconds",
            "Earliest notAfter of the certificates that a listener serves, seconds since 1970",
            self.listener_not_after.clone(),
        );
        self.bundle_targets.register(registry);
    }

    /// For the components' own metrics.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Drops the labels of authorities that are no more.
    fn forget_others(&self, authorities: &[AuthorityStatus]) {
        let names = authorities.iter().map(|each| each.trust_domain.clone());
        let now: BTreeSet<String> = names.collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&now) {
            let labels = DomainLabels {
                trust_domain: gone.clone(),
            };
            for family in [
                &self.issuer_ready,
                &self.issuer_not_after,
                &self.issuer_expires_in,
                &self.issuer_shortens_certificates,
                &self.bundle_sequence,
            ] {
                family.remove(&labels);
            }
        }
        *shown = now;
    }

    /// Sets the gauges and writes everything in the OpenMetrics text format.
    pub(super) fn scrape(
        &self,
        health_state: &HealthState,
        authorities: &[AuthorityStatus],
        (queued_outcomes, works): (usize, &[String]),
        targets: &[TargetStatus],
        listeners: &[(String, Arc<Certificates>)],
        now: UnixTime,
    ) -> String {
        for (token, token_health) in health_state.tokens() {
            let labels = TokenLabels { token };
            self.hsm_up
                .get_or_create(&labels)
                .set(i64::from(token_health.up));
            self.hsm_queue
                .get_or_create(&labels)
                .set(to_i64(token_health.queued as u64));
            self.hsm_hanging_threads
                .get_or_create(&labels)
                .set(to_i64(token_health.hanging as u64));
            // The tokens count their signatures; these counters get the same values.
            for (family, count) in [
                (&self.hsm_signatures, token_health.signatures),
                (&self.hsm_test_signatures, token_health.test_signatures),
                (&self.hsm_module_restarts, token_health.module_restarts),
            ] {
                let counter = family.get_or_create(&labels);
                counter.inner().store(count, Ordering::Relaxed);
            }
            if let Some(took) = token_health.signing_time {
                self.hsm_probe_duration
                    .get_or_create(&labels)
                    .set(took.as_secs_f64());
            }
        }
        self.ledger_up
            .set(i64::from(health_state.ledger_error().is_none()));
        self.ledger_queued.set(to_i64(queued_outcomes as u64));
        self.work_held.clear();
        for work in works {
            let work = work.clone();
            self.work_held.get_or_create(&WorkLabels { work }).set(1);
        }
        self.forget_others(authorities);
        for authority in authorities {
            let labels = DomainLabels {
                trust_domain: authority.trust_domain.clone(),
            };
            self.issuer_ready.get_or_create(&labels).set(i64::from(
                authority.issuer.is_some() && authority.token_ready,
            ));
            self.issuer_shortens_certificates
                .get_or_create(&labels)
                .set(i64::from(authority.warning.is_some()));
            if let Some(not_after) = authority.issuer_not_after_secs {
                self.issuer_not_after.get_or_create(&labels).set(not_after);
                self.issuer_expires_in
                    .get_or_create(&labels)
                    .set(not_after.saturating_sub(now.secs()));
            }
            if let Some(sequence) = authority.bundle_sequence {
                self.bundle_sequence
                    .get_or_create(&labels)
                    .set(to_i64(sequence));
            }
        }
        for (listener, certificates) in listeners {
            if let Some(not_after) = earliest_end(certificates) {
                let listener = listener.clone();
                self.listener_not_after
                    .get_or_create(&ListenerLabels { listener })
                    .set(not_after.secs());
            }
        }
        self.bundle_targets.set(targets);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn earliest_end(certificates: &Certificates) -> Option<UnixTime> {
    let entries = certificates.entries();
    let leaves = entries.iter().filter_map(|entry| entry.key.cert.first());
    leaves
        .filter_map(|leaf| Certificate::parse(leaf.as_ref()).ok())
        .map(|leaf| leaf.not_after())
        .min()
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
