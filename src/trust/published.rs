//! This server's own bundles and, apart from them, those of other trust domains.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BundleChanges, BundleSubscription, Bundles, PublishedBundle};
use crate::x509::{TrustBundle, TrustDomain};

/// Every bundle by its trust domain. None is ever part of another.
#[derive(Debug, Default)]
pub struct PublishedBundles {
    own: Arc<Bundles>,
    foreign: Bundles,
    /// The trust domains whose bundles come from elsewhere.
    federated: BTreeSet<TrustDomain>,
}

impl PublishedBundles {
    pub fn new(own: Arc<Bundles>, federated: BTreeSet<TrustDomain>) -> Self {
        Self {
            own,
            foreign: Bundles::default(),
            federated,
        }
    }

    /// Replaces the bundle of another trust domain. One of which this server has an authority is its own,
    /// whatever others say.
    pub fn set_foreign(&self, bundle: TrustBundle) {
        let trust_domain = bundle.trust_domain();
        if self.own.current(trust_domain).is_some() {
            tracing::error!(
                %trust_domain,
                "a bundle from elsewhere is not used: this server has an authority of that trust domain"
            );
            return;
        }
        self.foreign.replace(bundle);
    }

    /// The bundle of `trust_domain`; this server's own before any other.
    pub fn current(&self, trust_domain: &TrustDomain) -> Option<Arc<PublishedBundle>> {
        let own = self.own.current(trust_domain);
        own.or_else(|| self.foreign.current(trust_domain))
    }

    /// Every bundle, in the order of their trust domains.
    pub fn all(&self) -> Vec<Arc<PublishedBundle>> {
        let mut all = BTreeMap::new();
        for published in self.foreign.all().into_iter().chain(self.own.all()) {
            all.insert(published.bundle.trust_domain().clone(), published);
        }
        all.into_values().collect()
    }

    /// The changes from now on.
    pub fn changes(&self) -> BundleChanges {
        self.own.changes().or(self.foreign.changes())
    }

    /// Whether the bundle of `trust_domain` comes from elsewhere.
    pub fn is_federated(&self, trust_domain: &TrustDomain) -> bool {
        self.federated.contains(trust_domain)
    }

    /// The versions of the bundle of `trust_domain`.
    pub fn subscribe(&self, trust_domain: TrustDomain) -> BundleSubscription {
        match self.is_federated(&trust_domain) {
            true => self.foreign.subscribe(trust_domain),
            false => self.own.subscribe(trust_domain),
        }
    }
}
