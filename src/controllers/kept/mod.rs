//! Secrets of type `kubernetes.io/tls` that this server keeps right: made, renewed in time, put back
//! when somebody edits or deletes them.

mod secret;
mod terms;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::csr::chain;
use super::dependencies::Dependencies;
use super::http::told;
use super::metrics::Metrics;
use super::watch::{self, Watched};
use crate::authn::Caller;
use crate::clock::{Clock, UnixTime};
use crate::cluster::Cluster;
use crate::issuance::{
    Authorities, IssuanceRequest, NO_REMAINING_PATH_LEN, Naming, path_len_remedy,
};
use crate::policy::Scope;
use crate::x509::{Csr, Serial};
use secret::Material;
pub(super) use terms::{Sort, Terms};

/// How soon a step that failed is tried again; twice as long each further time, up to eight times.
const RETRY: Duration = Duration::from_secs(1);
/// How often the secret is looked at although nothing was said of it.
const LOOK: Duration = Duration::from_secs(60);
/// For one look, from the first request to the last.
const DEADLINE: Duration = Duration::from_secs(30);
/// So many certificates may follow each other at once, in [`WINDOW`]; then they are spaced, by a
/// second and by twice as much each time: somebody else writes the secret too, and a fight must not
/// take the HSM.
const AT_ONCE: usize = 4;
const WINDOW: Duration = Duration::from_secs(600);
const SPACED: Duration = Duration::from_secs(60);

/// Who looks what becomes of a secret.
pub(super) trait Witness: Send + Sync {
    /// It is about to be written.
    fn before(&self, client: &Client) -> impl Future<Output = ()> + Send;

    /// It was written.
    fn written(&self);

    /// It is as it should be, and its certificate ends then.
    fn stands(&self, not_after: UnixTime);
}

/// Nobody looks.
impl Witness for () {
    async fn before(&self, _: &Client) {}

    fn written(&self) {}

    fn stands(&self, _: UnixTime) {}
}

/// Keeps one secret.
#[derive(Debug)]
pub(super) struct Keeper<W> {
    terms: Terms,
    witness: W,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The secret has changed.
    changed: Notify,
}

impl<W: Witness> Keeper<W> {
    pub(super) fn new(
        terms: Terms,
        witness: W,
        cluster: Arc<Cluster>,
        dependencies: &Dependencies,
    ) -> Self {
        Self {
            terms,
            witness,
            cluster,
            authorities: Arc::clone(&dependencies.authorities),
            clock: Arc::clone(&dependencies.clock),
            metrics: dependencies.metrics.clone(),
            changed: Notify::new(),
        }
    }

    /// Keeps the secret right until `stop`.
    pub(super) async fn keep(&self, stop: &CancellationToken) {
        let cluster = Arc::clone(&self.cluster);
        tokio::select! {
            () = watch::follow(self, &cluster, &self.terms.name, stop) => {}
            never = self.mend() => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn mend(&self) -> Infallible {
        let mut refreshed = self.authorities.watch();
        let mut made: Vec<Instant> = Vec::new();
        let mut last = String::new();
        let mut failed = 0_u32;
        loop {
            refreshed.mark_unchanged();
            made.retain(|at| at.elapsed() < WINDOW);
            let last_made = made.last().map_or(WINDOW, Instant::elapsed);
            let pause = spaced(made.len()).saturating_sub(last_made);
            let step = self.look(pause.is_zero(), &mut made);
            let step = tokio::time::timeout(DEADLINE, step).await;
            let wait = match step.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                Ok(Looked::Right(until)) => {
                    last.clear();
                    until.min(LOOK)
                }
                Ok(Looked::Written) => {
                    last.clear();
                    // Read back at once: what stands there is what counts.
                    Duration::ZERO
                }
                Ok(Looked::Wrong) => pause.max(RETRY),
                Err(why) => {
                    self.say_once(&mut last, why);
                    failed = failed.saturating_add(1);
                    again(failed)
                }
            };
            if last.is_empty() {
                failed = 0;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                _ = refreshed.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at the secret, and puts it right if it may.
    async fn look(&self, may_issue: bool, made: &mut Vec<Instant>) -> Result<Looked, String> {
        let down = |error: kube::Error| told(&error);
        let cluster = self.cluster.config();
        let client = self
            .cluster
            .connection()
            .client()
            .map_err(|e| e.to_string())?;
        let (namespace, name) = (&self.terms.namespace, &self.terms.secret);
        let now = self.clock.now();
        let found = secret::read(&client, namespace, name).await.map_err(down)?;
        let (issuer, bundle) = self
            .authorities
            .active_issuer(cluster.trust_domain())
            .ok_or("the authority cannot sign")?;
        let anchors = bundle.to_pem();
        let why = match &found {
            None => "it is not there",
            Some(found) => match found.standing(&self.terms, &issuer, &anchors, now) {
                Ok(standing) => {
                    self.authorities.reserve_key(&standing.key);
                    self.witness.stands(standing.not_after);
                    let left = standing.renew_at.since(now).max(RETRY);
                    return Ok(Looked::Right(left));
                }
                Err(why) => why,
            },
        };
        if !may_issue {
            return Ok(Looked::Wrong);
        }
        let trust_domain = cluster.trust_domain();
        if self.terms.sort != Sort::Leaf && issuer.remaining_path_len() == Some(0) {
            return Err(format!(
                "{NO_REMAINING_PATH_LEN}: {}",
                path_len_remedy(trust_domain)
            ));
        }
        // What the API server would refuse is not signed first.
        secret::rehearse(&client, namespace, name)
            .await
            .map_err(down)?;
        let material = self.issue(now).await?;
        made.push(Instant::now());
        self.witness.before(&client).await;
        secret::apply(&client, namespace, name, &material)
            .await
            .map_err(down)?;
        self.witness.written();
        self.metrics
            .count(&self.terms.name, cluster.name(), "issued");
        tracing::info!(
            cluster = cluster.name(),
            section = self.terms.name,
            namespace,
            secret = name,
            why,
            "{} written",
            self.terms.what
        );
        Ok(Looked::Written)
    }

    async fn issue(&self, now: UnixTime) -> Result<Material, String> {
        // Gone from memory whatever becomes of the rest.
        let key = Zeroizing::new(KeyPair::generate().map_err(|error| error.to_string())?);
        self.certify(now, &key).await
    }

    async fn certify(&self, now: UnixTime, key: &KeyPair) -> Result<Material, String> {
        let csr = CertificateParams::default()
            .serialize_request(key)
            .map_err(|error| error.to_string())?;
        let cluster = self.cluster.config();
        let terms = &self.terms;
        let mut caller = Caller::local(cluster.trust_domain().clone(), terms.purpose);
        caller.cluster = Some(cluster.name().to_owned());
        let longest = self.authorities.profile(terms.profile);
        let longest = longest.map_or(Duration::MAX, |profile| profile.max_ttl());
        let request = IssuanceRequest {
            caller,
            csr: Csr::from_der(csr.der()).map_err(|error| error.to_string())?,
            profile: terms.profile.to_owned(),
            names: terms.names.clone(),
            ttl: terms.sort.lifetime().map(|life| life.min(longest)),
            naming: Naming::Spiffe,
            scope: Scope::Requested,
            node_authorization: None,
            idempotency_key: None,
            request_id: format!("{}-{}", terms.purpose, Serial::new(now)),
        };
        let issued = match terms.sort {
            Sort::Leaf => self.authorities.issue(request).await,
            Sort::Ca { .. } => self.authorities.certify_subordinate(request).await,
        };
        let issued = issued.map_err(|error| error.to_string())?;
        // From here on nobody else may have a certificate for this key.
        self.authorities
            .reserve_key(issued.certificate().public_key());
        Ok(Material {
            chain: chain(&issued),
            key: Zeroizing::new(key.serialize_pem()),
            anchors: issued.bundle().to_pem(),
        })
    }

    /// One line for each new reason, not one for each try.
    fn say_once(&self, last: &mut String, why: String) {
        let cluster = self.cluster.config().name();
        self.metrics.count(&self.terms.name, cluster, "retried");
        if *last != why {
            let section = &self.terms.name;
            tracing::warn!(cluster, section, why, "{} not written", self.terms.what);
            *last = why;
        }
    }
}

/// How long after so many failures in a row the next try follows. An HSM that is away for hours must
/// not fill the ledger with tries, and must not be waited for long once it is back.
fn again(failed: u32) -> Duration {
    RETRY * 2_u32.pow(failed.saturating_sub(1).min(3))
}

/// How long after the last of so many recent certificates the next may follow.
fn spaced(made: usize) -> Duration {
    let Some(beyond) = made.checked_sub(AT_ONCE) else {
        return Duration::ZERO;
    };
    let doubled = u32::try_from(beyond).ok().and_then(|n| 1u64.checked_shl(n));
    doubled.map_or(SPACED, Duration::from_secs).min(SPACED)
}

/// What a look at the secret came to.
enum Looked {
    /// It is as it should be, for so long.
    Right(Duration),
    /// It was written.
    Written,
    /// It is wrong, and may not be written yet.
    Wrong,
}

impl<W: Witness> Watched for Keeper<W> {
    /// Its metadata is enough to know that it changed; the key stays where it is.
    type Object = PartialObjectMeta<Secret>;

    async fn api(&self, client: Client) -> Result<Api<Self::Object>, kube::Error> {
        Ok(Api::namespaced(client, &self.terms.namespace))
    }

    fn selector(&self) -> watcher::Config {
        watcher::Config::default().fields(&format!("metadata.name={}", self.terms.secret))
    }

    async fn seen(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    async fn gone(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    fn up(&self, up: bool) {
        let cluster = self.cluster.config().name();
        self.metrics.watch(&self.terms.name, cluster, up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_slowed_down() {
        let seconds: Vec<u64> = (0..13).map(|made| spaced(made).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(spaced(usize::MAX), SPACED);
    }

    #[test]
    fn failures_are_spaced_a_little() {
        let seconds: Vec<u64> = (1..7).map(|failed| again(failed).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 8, 8]);
        assert_eq!(again(u32::MAX).as_secs(), 8);
    }
}
