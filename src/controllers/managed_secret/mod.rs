//! Secrets of type `kubernetes.io/tls` that this server manages: it creates them, renews them in time
//! and restores them after others edited or deleted them.

mod secret;
mod spec;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::dependencies::Dependencies;
use super::metrics::Metrics;
use super::watch::{WatchHandler, watch};
use crate::backoff::{self, Backoff};
use crate::clock::{Clock, UnixTime};
use crate::cluster::{ApiClient, ApiError, Cluster, Collection};
use crate::issuance::{
    Authorities, NO_REMAINING_PATH_LEN, OwnKeyRequest, WorkLeases, path_len_remedy,
};
use crate::ledger::{Claim, LedgerError, WorkLease};
use crate::log_limit::OnChange;
use secret::Material;
pub(super) use spec::{CertificateRole, SecretSpec};

/// An HSM that is unavailable for hours must not fill the ledger with attempts; one that is available
/// again must be used soon.
const RETRY: Backoff = Backoff::new(MIN_WAIT, Duration::from_secs(8));
const MIN_WAIT: Duration = Duration::from_secs(1);
/// How often the secret is read although its watch reports no change.
const RESYNC: Duration = Duration::from_secs(60);
/// For one reconciliation.
const DEADLINE: Duration = Duration::from_secs(30);
/// So many certificates may follow one another at once within [`BURST_WINDOW`]; each further one
/// waits: another writer that keeps changing the secret must not use up the HSM.
const BURST: usize = 4;
const BURST_WINDOW: Duration = Duration::from_secs(600);
const FIRST_ISSUE_DELAY: Duration = Duration::from_secs(1);
const MAX_ISSUE_DELAY: Duration = Duration::from_secs(60);

/// Is notified of what happens to a secret.
pub(super) trait Observer: Send + Sync {
    fn before_write(&self, client: &ApiClient) -> impl Future<Output = ()> + Send;

    fn on_written(&self);

    /// The secret is up to date; its certificate ends at `not_after`.
    fn on_valid(&self, not_after: UnixTime);
}

impl Observer for () {
    async fn before_write(&self, _: &ApiClient) {}

    fn on_written(&self) {}

    fn on_valid(&self, _: UnixTime) {}
}

#[derive(Debug)]
pub(super) struct ManagedSecret<W> {
    spec: SecretSpec,
    observer: W,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
    leases: WorkLeases,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The watch reported a change of the secret.
    changed: Notify,
}

impl<W: Observer> ManagedSecret<W> {
    pub(super) fn new(
        spec: SecretSpec,
        observer: W,
        cluster: Arc<Cluster>,
        dependencies: &Dependencies,
    ) -> Self {
        Self {
            spec,
            observer,
            cluster,
            authorities: Arc::clone(&dependencies.authorities),
            leases: dependencies.leases.clone(),
            clock: Arc::clone(&dependencies.clock),
            metrics: dependencies.metrics.clone(),
            changed: Notify::new(),
        }
    }

    pub(super) async fn run(&self, stop: &CancellationToken) {
        let cluster = Arc::clone(&self.cluster);
        tokio::select! {
            () = watch(self, &cluster, &self.spec.name, stop) => {}
            never = self.reconcile_loop() => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn reconcile_loop(&self) -> Infallible {
        let mut refreshed = self.authorities.watch();
        let mut issued_at: Vec<Instant> = Vec::new();
        let mut reasons = OnChange::default();
        let mut backoff = RETRY;
        loop {
            refreshed.mark_unchanged();
            issued_at.retain(|at| at.elapsed() < BURST_WINDOW);
            let since_last = issued_at.last().map_or(BURST_WINDOW, Instant::elapsed);
            let issue_delay = issue_delay(issued_at.len()).saturating_sub(since_last);
            let step = self.reconcile(issue_delay.is_zero(), &mut issued_at);
            let step = tokio::time::timeout(DEADLINE, step).await;
            let step = step.unwrap_or_else(|_| Err("it took too long".to_owned()));
            if matches!(step, Ok(Outcome::UpToDate(_) | Outcome::Written)) {
                reasons.clear();
                backoff.reset();
            }
            let wait = match step {
                Ok(Outcome::UpToDate(renew_in)) => renew_in.min(RESYNC),
                // Read it back at once.
                Ok(Outcome::Written) => Duration::ZERO,
                Ok(Outcome::Elsewhere) => MIN_WAIT,
                Ok(Outcome::Deferred) => issue_delay.max(MIN_WAIT),
                Err(why) => {
                    self.report(&mut reasons, &why);
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                _ = refreshed.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Reads the secret and writes it where it differs; without `may_issue` it only reads.
    async fn reconcile(
        &self,
        may_issue: bool,
        issued_at: &mut Vec<Instant>,
    ) -> Result<Outcome, String> {
        let down = |error: ApiError| error.to_string();
        let cluster = self.cluster.config();
        let client = self
            .cluster
            .connection()
            .client()
            .await
            .map_err(|e| e.to_string())?;
        let (namespace, name) = (&self.spec.namespace, &self.spec.secret);
        let now = self.clock.now();
        let found = secret::read(&client, namespace, name).await.map_err(down)?;
        let (issuer, bundle) = self
            .authorities
            .active_issuer(cluster.trust_domain())
            .ok_or("the authority cannot sign")?;
        let anchors = bundle.to_pem();
        let why = match &found {
            None => "it does not exist",
            Some(found) => match found.status(&self.spec, &issuer, &anchors, now) {
                Ok(status) => {
                    self.authorities.reserve_key(&status.key);
                    self.observer.on_valid(status.not_after);
                    let left = status.renew_at.since(now).max(MIN_WAIT);
                    return Ok(Outcome::UpToDate(left));
                }
                Err(why) => why,
            },
        };
        if !may_issue {
            return Ok(Outcome::Deferred);
        }
        let work = format!("secret/{}/{namespace}/{name}", cluster.name());
        let lease = match self.leases.claim(&work).await {
            Ok(Claim::Held(lease)) => lease,
            Ok(Claim::HeldBy(_)) => return Ok(Outcome::Elsewhere),
            Err(error) => return Err(error.to_string()),
        };
        let trust_domain = cluster.trust_domain();
        if self.spec.role != CertificateRole::Leaf && issuer.remaining_path_len() == Some(0) {
            return Err(format!(
                "{NO_REMAINING_PATH_LEN}: {}",
                path_len_remedy(trust_domain)
            ));
        }
        // Nothing is signed that the API server would refuse.
        secret::dry_run(&client, namespace, name)
            .await
            .map_err(down)?;
        let material = self.issue(&lease).await?;
        issued_at.push(Instant::now());
        // Another server may have written it while this one was stopped.
        let lost = |error: LedgerError| error.to_string();
        self.leases.require(&lease).await.map_err(lost)?;
        self.observer.before_write(&client).await;
        secret::apply(&client, namespace, name, &material)
            .await
            .map_err(down)?;
        self.observer.on_written();
        self.metrics
            .count(&self.spec.name, cluster.name(), "issued");
        tracing::info!(
            cluster = cluster.name(),
            section = self.spec.name,
            namespace,
            secret = name,
            why,
            "{} written",
            self.spec.what
        );
        Ok(Outcome::Written)
    }

    async fn issue(&self, lease: &WorkLease) -> Result<Material, String> {
        let (cluster, spec) = (self.cluster.config(), &self.spec);
        let request = OwnKeyRequest {
            trust_domain: cluster.trust_domain(),
            purpose: spec.purpose,
            cluster: Some(cluster.name()),
            profile: spec.profile,
            names: &spec.names,
            ttl: spec.role.lifetime(),
            is_ca: spec.role != CertificateRole::Leaf,
            lease: Some(lease.clone()),
        };
        let issued = self.authorities.issue_own_key(request).await;
        let (key, issued) = issued.map_err(|error| error.to_string())?;
        Ok(Material {
            chain: issued.chain_pem(),
            key: Zeroizing::new(key.serialize_pem()),
            anchors: issued.bundle().to_pem(),
        })
    }

    fn report(&self, reasons: &mut OnChange, why: &str) {
        let cluster = self.cluster.config().name();
        let section = &self.spec.name;
        self.metrics.count(section, cluster, "retried");
        if reasons.is_new(why) {
            tracing::warn!(cluster, section, why, "{} not written", self.spec.what);
        }
    }
}

/// How long after the last of so many recent certificates the next may follow.
fn issue_delay(recent: usize) -> Duration {
    match recent.checked_sub(BURST) {
        None => Duration::ZERO,
        Some(beyond) => {
            let beyond = u32::try_from(beyond).unwrap_or(u32::MAX).saturating_add(1);
            backoff::doubled(beyond, FIRST_ISSUE_DELAY, MAX_ISSUE_DELAY)
        }
    }
}

/// What came of a reconciliation.
enum Outcome {
    /// Until it is to be renewed, after this time.
    UpToDate(Duration),
    Written,
    /// It differs, and another server writes it.
    Elsewhere,
    /// It differs, but issuance is delayed.
    Deferred,
}

impl<W: Observer> WatchHandler for ManagedSecret<W> {
    /// Metadata shows that a secret has changed; its key is not sent.
    type Object = PartialObjectMeta<Secret>;

    async fn collection(&self, _: &ApiClient) -> Result<Collection, ApiError> {
        let name = format!("metadata.name={}", self.spec.secret);
        Ok(Collection::new(secret::path(&self.spec.namespace))
            .fields(name)
            .metadata_only())
    }

    async fn on_object(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    async fn on_deleted(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    fn set_up(&self, up: bool) {
        let cluster = self.cluster.config().name();
        self.metrics.watch(&self.spec.name, cluster, up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_beyond_a_burst_are_delayed() {
        let seconds: Vec<u64> = (0..13).map(|n| issue_delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(issue_delay(usize::MAX), MAX_ISSUE_DELAY);
    }
}
