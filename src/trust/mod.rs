//! The trust bundles that this server publishes, and the status of their distribution.

mod distribution;
mod published;
pub mod rotation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use distribution::{Distribution, TargetStatus, TargetWriter, Version};
pub use published::PublishedBundles;
use tokio::sync::watch;

use crate::digest::hex;
use crate::ledger::{
    AuthorityRecord, BundleRecord, CertificateState, IssuerId, IssuerState, Role, Snapshot,
};
use crate::x509::{TrustBundle, TrustDomain};

/// How often SPIFFE clients are to fetch the bundle (SPIFFE Trust Domain and Bundle §4.1.2): short,
/// because a rotation waits for the slowest of them.
const REFRESH_HINT: Duration = Duration::from_secs(300);

/// A bundle version in its published encodings.
#[derive(Debug)]
pub struct PublishedBundle {
    pub bundle: TrustBundle,
    /// PEM, one block for each anchor.
    pub pem: String,
    /// The SPIFFE bundle format (JWK set).
    pub spiffe_json: String,
    /// SHA-256 of the anchors, lower-case hex.
    pub digest: String,
}

type BundleMap = BTreeMap<TrustDomain, Arc<PublishedBundle>>;

/// The bundles that are published now, and their subscriptions.
#[derive(Debug)]
pub struct Bundles {
    sender: watch::Sender<Arc<BundleMap>>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(Arc::default()),
        }
    }
}

impl Bundles {
    /// Publishes the newest bundles of `records`. A missing or invalid bundle, or one with which no
    /// certificate of an active issuer would verify, never replaces a valid one.
    pub fn refresh(&self, records: &Snapshot) {
        let last = self.sender.borrow().clone();
        let mut next = BundleMap::clone(&last);
        let mut changed = false;
        for removed in &records.removed {
            let domain = &removed.trust_domain;
            if next.remove(domain).is_some() {
                tracing::info!(trust_domain = %domain, "the authority was removed, and its trust bundle is published no more");
                changed = true;
            }
        }
        for authority in &records.authorities {
            let Some(record) = &authority.bundle else {
                continue;
            };
            let published = last.get(&authority.trust_domain);
            if published.is_some_and(|published| published.bundle.sequence() == record.sequence) {
                continue;
            }
            let domain = authority.trust_domain.clone();
            if let Some(issuer) = issuer_without_anchor(authority, record) {
                tracing::error!(
                    trust_domain = %domain, sequence = record.sequence, %issuer,
                    "a bundle without the anchor of an active issuer is not published"
                );
                continue;
            }
            match TrustBundle::new(domain.clone(), record.sequence, record.anchors.clone()) {
                Ok(bundle) => {
                    tracing::info!(
                        trust_domain = %domain, sequence = record.sequence,
                        anchors = record.anchors.len(), "trust bundle published"
                    );
                    next.insert(domain, Arc::new(PublishedBundle::new(bundle)));
                    changed = true;
                }
                Err(error) => {
                    tracing::error!(trust_domain = %domain, %error, "an invalid bundle is not published");
                }
            }
        }
        if changed {
            self.sender.send_replace(Arc::new(next));
        }
    }

    /// Publishes a bundle of another server, unless it is older than what is published.
    pub fn publish(&self, bundle: TrustBundle) {
        let domain = bundle.trust_domain().clone();
        self.sender.send_if_modified(|map| {
            let published = map.get(&domain);
            if published.is_some_and(|known| known.bundle.sequence() >= bundle.sequence()) {
                return false;
            }
            let mut next = BundleMap::clone(map);
            next.insert(domain, Arc::new(PublishedBundle::new(bundle)));
            *map = Arc::new(next);
            true
        });
    }

    /// Publishes a bundle of another trust domain, whatever its number.
    fn replace(&self, bundle: TrustBundle) {
        let domain = bundle.trust_domain().clone();
        self.sender.send_modify(|map| {
            let mut next = BundleMap::clone(map);
            next.insert(domain, Arc::new(PublishedBundle::new(bundle)));
            *map = Arc::new(next);
        });
    }

    /// The published bundle of `trust_domain`.
    pub fn current(&self, trust_domain: &TrustDomain) -> Option<Arc<PublishedBundle>> {
        self.sender.borrow().get(trust_domain).cloned()
    }

    /// The trust domain, if there is exactly one.
    pub fn only_trust_domain(&self) -> Option<TrustDomain> {
        let map = self.sender.borrow();
        let mut domains = map.keys();
        match (domains.next(), domains.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// Every published bundle, in the order of their trust domains.
    pub fn all(&self) -> Vec<Arc<PublishedBundle>> {
        self.sender.borrow().values().cloned().collect()
    }

    /// The changes from now on.
    pub fn changes(&self) -> BundleChanges {
        BundleChanges(vec![self.sender.subscribe()])
    }

    pub fn is_empty(&self) -> bool {
        self.sender.borrow().is_empty()
    }

    pub fn subscribe(&self, trust_domain: TrustDomain) -> BundleSubscription {
        BundleSubscription {
            trust_domain,
            seen: None,
            receiver: self.sender.subscribe(),
        }
    }
}

/// An active issuer none of whose paths ends in an anchor of the bundle. The ledger never retires
/// such an anchor, but if a record is wrong, workloads must not lose the anchor that they verify each
/// other with.
fn issuer_without_anchor<'a>(
    authority: &'a AuthorityRecord,
    bundle: &BundleRecord,
) -> Option<&'a IssuerId> {
    let is_in_bundle = |sha256: &[u8; 32]| {
        let mut anchors = authority.anchors.iter();
        anchors.any(|anchor| anchor.sha256 == *sha256 && bundle.anchors.contains(&anchor.der))
    };
    let mut issuers = authority.issuers.iter();
    issuers
        .find(|issuer| {
            let active = |state| state == CertificateState::Active;
            let mut paths = issuer.certificates.iter().filter(|row| active(row.state));
            issuer.role == Role::Issuing
                && issuer.state == IssuerState::Active
                && !issuer.certificates.is_empty()
                && !paths.any(|row| is_in_bundle(&row.anchor))
        })
        .map(|issuer| &issuer.id)
}

impl PublishedBundle {
    pub fn new(bundle: TrustBundle) -> Self {
        let digest = hex(&bundle.digest());
        Self {
            pem: bundle.to_pem(),
            spiffe_json: bundle.to_spiffe_json(REFRESH_HINT),
            digest,
            bundle,
        }
    }
}

/// Yields once after one or more changes of the published bundles.
#[derive(Debug)]
pub struct BundleChanges(Vec<watch::Receiver<Arc<BundleMap>>>);

impl BundleChanges {
    /// Waits for a change; `None` once the publisher is gone.
    pub async fn next(&mut self) -> Option<()> {
        let each = self.0.iter_mut().map(|one| Box::pin(one.changed()));
        let (changed, ..) = futures_util::future::select_all(each).await;
        changed.ok()
    }

    fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// Yields the current bundle, then each later version.
#[derive(Debug)]
pub struct BundleSubscription {
    trust_domain: TrustDomain,
    seen: Option<u64>,
    receiver: watch::Receiver<Arc<BundleMap>>,
}

impl BundleSubscription {
    /// The next version; `None` once the publisher is gone.
    pub async fn next(&mut self) -> Option<Arc<PublishedBundle>> {
        loop {
            let current = self
                .receiver
                .borrow_and_update()
                .get(&self.trust_domain)
                .cloned();
            if let Some(current) = current
                && self.seen != Some(current.bundle.sequence())
            {
                self.seen = Some(current.bundle.sequence());
                return Some(current);
            }
            self.receiver.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
