//! The trust bundle's life: what is published for a trust domain, and who is told of a change.

mod distribution;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use distribution::{Distribution, TargetStatus, Version, Writer};
use tokio::sync::watch;

use crate::ledger::{
    AuthorityRecord, BundleRecord, CertificateState, IssuerId, IssuerState, Role, Snapshot,
};
use crate::x509::{TrustBundle, TrustDomain};

/// How often SPIFFE clients are told to look for a newer bundle (SPIFFE Trust Domain and Bundle
/// §4.1.2): short, because a rotation waits for the slowest of them.
const REFRESH_HINT: Duration = Duration::from_secs(300);

/// One version of a bundle in the forms in which it is downloaded.
#[derive(Debug)]
pub struct Published {
    /// The bundle.
    pub bundle: TrustBundle,
    /// PEM, one block for each anchor.
    pub pem: String,
    /// The SPIFFE bundle format (JWK set).
    pub spiffe_json: String,
    /// SHA-256 of the anchors, lower-case hexadecimal.
    pub digest: String,
}

type Map = BTreeMap<TrustDomain, Arc<Published>>;

/// What is published now, for every trust domain; a change wakes the watchers at once.
#[derive(Debug)]
pub struct Bundles {
    sender: watch::Sender<Arc<Map>>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(Arc::default()),
        }
    }
}

impl Bundles {
    /// Publishes what the records say. A bundle that the records do not have, that is invalid, or
    /// with which nothing would verify that an active issuer signs, never replaces a good one.
    pub fn refresh(&self, records: &Snapshot) {
        let last = self.sender.borrow().clone();
        let mut next = Map::clone(&last);
        let mut changed = false;
        for authority in &records.authorities {
            let Some(record) = &authority.bundle else {
                continue;
            };
            let known = last.get(&authority.trust_domain);
            if known.is_some_and(|known| known.bundle.sequence() == record.sequence) {
                continue;
            }
            let domain = authority.trust_domain.clone();
            if let Some(issuer) = left_without_anchor(authority, record) {
                tracing::error!(
                    trust_domain = %domain, sequence = record.sequence, %issuer,
                    "a bundle that has lost the anchor of an active issuer is not published"
                );
                continue;
            }
            match TrustBundle::new(domain.clone(), record.sequence, record.anchors.clone()) {
                Ok(bundle) => {
                    tracing::info!(
                        trust_domain = %domain, sequence = record.sequence,
                        anchors = record.anchors.len(), "trust bundle published"
                    );
                    next.insert(domain, Arc::new(Published::new(bundle)));
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

    /// The bundle of `trust_domain` as it is published now.
    pub fn current(&self, trust_domain: &TrustDomain) -> Option<Arc<Published>> {
        self.sender.borrow().get(trust_domain).cloned()
    }

    /// The trust domain, where there is exactly one.
    pub fn only(&self) -> Option<TrustDomain> {
        let map = self.sender.borrow();
        let mut domains = map.keys();
        match (domains.next(), domains.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// Whether anything is published.
    pub fn is_empty(&self) -> bool {
        self.sender.borrow().is_empty()
    }

    /// Follows one trust domain's bundle.
    pub fn follow(&self, trust_domain: TrustDomain) -> Follower {
        Follower {
            trust_domain,
            seen: None,
            receiver: self.sender.subscribe(),
        }
    }
}

/// An active issuer of which no path ends in an anchor of the bundle. The ledger retires no such
/// anchor; that a record says so all the same is no reason to break a mesh.
fn left_without_anchor<'a>(
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

impl Published {
    fn new(bundle: TrustBundle) -> Self {
        let digest = bundle
            .digest()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            pem: bundle.to_pem(),
            spiffe_json: bundle.to_spiffe_json(REFRESH_HINT),
            digest,
            bundle,
        }
    }
}

/// Yields the bundle now, then each later version.
#[derive(Debug)]
pub struct Follower {
    trust_domain: TrustDomain,
    seen: Option<u64>,
    receiver: watch::Receiver<Arc<Map>>,
}

impl Follower {
    /// The next version that this follower has not seen; `None` when nothing will ever come.
    pub async fn next(&mut self) -> Option<Arc<Published>> {
        loop {
            let now = self
                .receiver
                .borrow_and_update()
                .get(&self.trust_domain)
                .cloned();
            if let Some(now) = now
                && self.seen != Some(now.bundle.sequence())
            {
                self.seen = Some(now.bundle.sequence());
                return Some(now);
            }
            self.receiver.changed().await.ok()?;
        }
    }
}
