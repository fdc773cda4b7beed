//! istiod's own certificate: the secret that it must find before it starts, when it has no CA of
//! its own.

mod secret;

use std::convert::Infallible;
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
use zeroize::{Zeroize as _, Zeroizing};

use super::config::IstiodTls;
use super::csr::chain;
use super::http::told;
use super::metrics::Metrics;
use super::start::Parts;
use super::watch::{self, Watched};
use crate::authn::Caller;
use crate::clock::{Clock, UnixTime};
use crate::cluster::Cluster;
use crate::issuance::{Authorities, Issued, LeafRequest, Naming};
use crate::policy::Scope;
use crate::x509::{Csr, San, Serial};
use secret::Material;

/// The profile of these certificates; policy has a rule for the names that the configuration gives.
pub const ISTIOD_PROFILE: &str = "istiod";
/// What the caller is called in rules and in the ledger.
pub const ISTIOD_CALLER: &str = "local:istiod";
/// Life of the certificate: long enough to outlast a long week-end without an HSM.
pub const ISTIOD_TTL: Duration = Duration::from_secs(7 * 86_400);

const PURPOSE: &str = "istiod";
/// How soon a step that failed is tried again.
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

/// One `[istiod_tls.*]`.
#[derive(Debug)]
pub(super) struct IstiodCertificate {
    config: IstiodTls,
    cluster: Arc<Cluster>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    names: Vec<San>,
    /// The secret has changed.
    changed: Notify,
}

impl IstiodCertificate {
    pub(super) fn new(config: IstiodTls, cluster: Arc<Cluster>, parts: &Parts) -> Self {
        Self {
            names: config.names(cluster.config().trust_domain()),
            config,
            cluster,
            authorities: Arc::clone(&parts.authorities),
            clock: Arc::clone(&parts.clock),
            metrics: parts.metrics.clone(),
            changed: Notify::new(),
        }
    }

    /// Keeps the secret right until `stop`.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let cluster = Arc::clone(&self.cluster);
        tokio::select! {
            () = watch::follow(&self, &cluster, &self.config.name, &stop) => {}
            never = self.mend() => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn mend(&self) -> Infallible {
        let mut refreshed = self.authorities.watch();
        let mut made: Vec<Instant> = Vec::new();
        let mut last = String::new();
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
                    RETRY
                }
            };
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
        let client = self.cluster.link().client().map_err(|e| e.to_string())?;
        let (namespace, name) = (&self.config.namespace, &self.config.secret);
        let now = self.clock.now();
        let found = secret::read(&client, namespace, name).await.map_err(down)?;
        let (issuer, bundle) = self
            .authorities
            .in_force(cluster.trust_domain())
            .ok_or("the authority cannot sign")?;
        let anchors = bundle.to_pem();
        let why = match &found {
            None => "it is not there",
            Some(found) => match found.standing(&self.names, &issuer, &anchors, now) {
                Ok(standing) => {
                    self.authorities.claim_key(&standing.key);
                    let left = standing.renew_at.since(now).max(RETRY);
                    return Ok(Looked::Right(left));
                }
                Err(why) => why,
            },
        };
        if !may_issue {
            return Ok(Looked::Wrong);
        }
        // What the API server would refuse is not signed first.
        secret::rehearse(&client, namespace, name)
            .await
            .map_err(down)?;
        made.push(Instant::now());
        let material = self.issue(now).await?;
        secret::apply(&client, namespace, name, &material)
            .await
            .map_err(down)?;
        self.metrics
            .count(&self.config.name, cluster.name(), "issued");
        tracing::info!(
            cluster = cluster.name(),
            istiod = self.config.name,
            namespace,
            secret = name,
            why,
            "istiod's certificate written"
        );
        Ok(Looked::Written)
    }

    async fn issue(&self, now: UnixTime) -> Result<Material, String> {
        let mut key = KeyPair::generate().map_err(|error| error.to_string())?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .map_err(|error| error.to_string())?;
        let cluster = self.cluster.config();
        let mut caller = Caller::local(cluster.trust_domain().clone(), PURPOSE);
        caller.cluster = Some(cluster.name().to_owned());
        let request = LeafRequest {
            caller,
            csr: Csr::from_der(csr.der()).map_err(|error| error.to_string())?,
            profile: ISTIOD_PROFILE.to_owned(),
            names: self.names.clone(),
            ttl: None,
            naming: Naming::Spiffe,
            scope: Scope::Asked,
            delegation: None,
            origin: None,
            request_id: format!("istiod-{}", Serial::new(now)),
        };
        let issued: Issued = self
            .authorities
            .issue(request)
            .await
            .map_err(|error| error.to_string())?;
        // From here on nobody else may have a certificate for this key.
        self.authorities
            .claim_key(issued.certificate().public_key());
        let made = Material {
            chain: chain(&issued),
            key: Zeroizing::new(key.serialize_pem()),
            anchors: issued.bundle().to_pem(),
        };
        key.zeroize();
        Ok(made)
    }

    /// One line for each new reason, not one for each try.
    fn say_once(&self, last: &mut String, why: String) {
        let cluster = self.cluster.config().name();
        self.metrics.count(&self.config.name, cluster, "retried");
        if *last != why {
            let istiod = &self.config.name;
            tracing::warn!(cluster, istiod, why, "istiod's certificate not written");
            *last = why;
        }
    }
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

impl Watched for IstiodCertificate {
    /// Its metadata is enough to know that it changed; the key stays where it is.
    type Object = PartialObjectMeta<Secret>;

    async fn api(&self, client: Client) -> Result<Api<Self::Object>, kube::Error> {
        Ok(Api::namespaced(client, &self.config.namespace))
    }

    fn selector(&self) -> watcher::Config {
        watcher::Config::default().fields(&format!("metadata.name={}", self.config.secret))
    }

    async fn seen(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    async fn gone(&self, _: Self::Object) {
        self.changed.notify_one();
    }

    fn up(&self, up: bool) {
        let cluster = self.cluster.config().name();
        self.metrics.watch(&self.config.name, cluster, up);
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
}
