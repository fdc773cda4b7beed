//! How much one caller and one cluster may request: decided before anything of the request is verified,
//! recorded or signed. That the rest is shared fairly is the HSM queue's part ([`Share`]).

mod config;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::authn::{Caller, Identity, Method};
use crate::fair_queue::{Share, key_of};
use crate::rate_limit::KeyedRates;
use config::Limit;
pub use config::{AdmissionConfig, RawAdmission, RawLimit};

/// Callers and clusters whose rate is known at a time.
const MOST_CALLERS: usize = 65_536;
/// For requests that would be admitted once others have ended.
const RETRY: Duration = Duration::from_secs(1);

/// Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ArcSwap<AdmissionConfig>,
    rates: KeyedRates,
    /// Of each key, the requests in progress: no more entries than there are requests.
    in_progress: Mutex<HashMap<u64, u32>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            config: ArcSwap::default(),
            rates: KeyedRates::new(MOST_CALLERS),
            in_progress: Mutex::default(),
        }
    }
}

/// Why a request is not admitted now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} requests more than admission.{}.{} allows; admitted again in {} ms",
    .whose.subject(), .whose.key(), .what.key(), .retry_after.as_millis())]
pub struct Limited {
    pub whose: Whose,
    pub what: What,
    pub retry_after: Duration,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    Pod,
    NodeProxy,
    Identity,
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    Rate,
    Concurrency,
}

impl Whose {
    /// The key of `[admission]`, and the label `limit` of a metric.
    pub fn key(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::NodeProxy => "node_proxy",
            Self::Identity => "identity",
            Self::Cluster => "cluster",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Pod => "the caller's pod",
            Self::NodeProxy => "the proxy of the node",
            Self::Identity => "the caller",
            Self::Cluster => "the caller's cluster",
        }
    }
}

impl What {
    fn key(self) -> &'static str {
        match self {
            Self::Rate => "per_second",
            Self::Concurrency => "concurrency",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

/// An admitted request: it counts as in progress until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    keys: Vec<u64>,
}

impl Admission {
    pub(super) fn configure(&self, config: &AdmissionConfig) {
        self.0.config.store(Arc::new(config.clone()));
    }

    /// `for_another`: a proxy of a node requests it for a workload there.
    pub(super) fn admit(&self, caller: &Caller, for_another: bool) -> Result<Admitted, Limited> {
        let mut admitted = Admitted {
            admission: self.clone(),
            keys: Vec::with_capacity(2),
        };
        for (key, whose, limit) in self.limits(caller, for_another) {
            self.start(key, limit).map_err(|what| Limited {
                whose,
                what,
                retry_after: RETRY,
            })?;
            admitted.keys.push(key);
            let rate = self.0.rates.take(key, limit.rate);
            rate.map_err(|retry_after| Limited {
                whose,
                what: What::Rate,
                retry_after,
            })?;
        }
        Ok(admitted)
    }

    /// Whether a request could be admitted now; it does not count.
    pub(super) fn look(&self, caller: &Caller, for_another: bool) -> Result<(), Limited> {
        for (key, whose, limit) in self.limits(caller, for_another) {
            let limited = |what, retry_after| Limited {
                whose,
                what,
                retry_after,
            };
            let in_progress = self.in_progress().get(&key).copied();
            if in_progress.unwrap_or_default() >= limit.concurrency {
                return Err(limited(What::Concurrency, RETRY));
            }
            let rate = self.0.rates.look(key, limit.rate);
            rate.map_err(|after| limited(What::Rate, after))?;
        }
        Ok(())
    }

    /// The caller's limit first: what it may not have must not count against its cluster.
    fn limits(
        &self,
        caller: &Caller,
        for_another: bool,
    ) -> impl Iterator<Item = (u64, Whose, Limit)> {
        let config = self.0.config.load();
        let [_, cluster, one] = share_of(caller).levels();
        let (whose, limit) = match (&caller.pod, for_another) {
            (_, true) => (Whose::NodeProxy, config.node_proxy),
            (Some(_), false) => (Whose::Pod, config.pod),
            (None, false) => (Whose::Identity, config.identity),
        };
        let limits = [
            (key_of(&(whose, one)), whose, limit),
            (cluster, Whose::Cluster, config.cluster),
        ];
        // This server's own certificates are few, and the mesh's callers depend on them.
        let is_limited = caller.method != Method::Local;
        limits.into_iter().filter(move |_| is_limited)
    }

    fn start(&self, key: u64, limit: Limit) -> Result<(), What> {
        let mut all = self.in_progress();
        let of_key = all.entry(key).or_default();
        if *of_key >= limit.concurrency {
            return Err(What::Concurrency);
        }
        *of_key += 1;
        Ok(())
    }

    fn in_progress(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u32>> {
        self.0
            .in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut all = self.admission.in_progress();
        for key in &self.keys {
            if let Some(of_key) = all.get_mut(key) {
                *of_key = of_key.saturating_sub(1);
                if *of_key == 0 {
                    all.remove(key);
                }
            }
        }
    }
}

/// The turns of a caller in the HSM's queue.
pub(super) fn share_of(caller: &Caller) -> Share {
    let domain = caller.trust_domain.as_str();
    let cluster = caller.cluster.as_deref().unwrap_or_default();
    let pod = caller.pod.as_ref().map(|pod| pod.uid.as_str());
    match &caller.identity {
        Identity::Workload(id) => Share::new(domain, cluster, &("w", id.as_str(), pod)),
        Identity::Operator(name) => Share::new(domain, cluster, &("o", name.as_str(), pod)),
        Identity::Subject(name) => Share::new(domain, cluster, &("s", name.as_str(), pod)),
        Identity::Local(name) => Share::new(domain, cluster, &("l", *name, pod)),
    }
}

#[cfg(test)]
mod tests;
