//! The trust bundles that this server publishes, and the status of their distribution.

mod distribution;
pub mod rotation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use distribution::{Distribution, TargetStatus, TargetWriter, Version};
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::clock::UnixTime;
    use crate::ledger::{
        AnchorOrigin, AnchorRecord, CaCertificateId, CaCertificateRecord, IssuerRecord,
    };
    use crate::x509::Certificate;

    const AT: UnixTime = UnixTime::from_secs(0);

    fn anchor() -> AnchorRecord {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        AnchorRecord {
            sha256: Certificate::parse(der.as_slice()).unwrap().fingerprint(),
            der,
            origin: AnchorOrigin::Own,
            source: String::new(),
            state: IssuerState::Active,
            expires_at: None,
            added_at: AT,
            added_by: String::new(),
            retired_at: None,
        }
    }

    /// An issuer whose path ends in the first anchor, and a bundle of `published`.
    fn records(
        state: IssuerState,
        anchors: &[AnchorRecord],
        sequence: u64,
        published: &[&AnchorRecord],
    ) -> Snapshot {
        let path = CaCertificateRecord {
            id: CaCertificateId::new(1),
            der: Vec::new(),
            sha256: [0; 32],
            state: IssuerState::Active,
            path: Vec::new(),
            anchor: anchors.first().unwrap().sha256,
            not_before: AT,
            not_after: AT,
            added_at: AT,
            added_by: String::new(),
        };
        let issuer = IssuerRecord {
            id: IssuerId::of_spki(b"key"),
            role: Role::Issuing,
            state,
            public_key: Vec::new(),
            locations: Vec::new(),
            path_len: None,
            certificates: vec![path],
            created_at: AT,
            created_by: String::new(),
        };
        Snapshot {
            revision: sequence,
            authorities: vec![AuthorityRecord {
                id: 1,
                trust_domain: TrustDomain::parse("td").unwrap(),
                created_at: AT,
                created_by: String::new(),
                issuers: vec![issuer],
                anchors: anchors.to_vec(),
                requests: Vec::new(),
                planned_keys: Vec::new(),
                bundle: Some(BundleRecord {
                    sequence,
                    digest: [0; 32],
                    anchors: published.iter().map(|each| each.der.clone()).collect(),
                    created_at: AT,
                }),
            }],
        }
    }

    fn sequence(bundles: &Bundles) -> Option<u64> {
        let domain = TrustDomain::parse("td").unwrap();
        bundles.current(&domain).map(|now| now.bundle.sequence())
    }

    #[test]
    fn a_bundle_without_the_anchor_of_an_active_issuer_is_not_published() {
        let (all, bundles) = ([anchor(), anchor()], Bundles::default());
        let [own, other] = &all;
        bundles.refresh(&records(IssuerState::Active, &all, 1, &[own]));
        bundles.refresh(&records(IssuerState::Active, &all, 2, &[other]));
        assert_eq!(sequence(&bundles), Some(1));
        bundles.refresh(&records(IssuerState::Active, &all, 3, &[own, other]));
        assert_eq!(sequence(&bundles), Some(3));
        bundles.refresh(&records(IssuerState::Retired, &all, 4, &[other]));
        assert_eq!(sequence(&bundles), Some(4));
    }

    /// Only a path that is in use counts, and only with its anchor's own bytes.
    #[test]
    fn the_anchor_of_a_path_in_use_must_be_in_the_bundle() {
        let all = [anchor(), anchor()];
        let [own, other] = &all;
        type Change = fn(&mut AuthorityRecord);
        let rows: [(&str, Change, bool); 8] = [
            ("unchanged", |_| {}, true),
            (
                "a retired path",
                |td| td.issuers[0].certificates[0].state = IssuerState::Retired,
                false,
            ),
            (
                "a pending path",
                |td| td.issuers[0].certificates[0].state = IssuerState::Pending,
                false,
            ),
            (
                "a path to an anchor that is not recorded",
                |td| td.issuers[0].certificates[0].anchor = [7; 32],
                false,
            ),
            (
                "another certificate recorded as the anchor",
                |td| td.anchors[0].der.push(0),
                false,
            ),
            ("no path yet", |td| td.issuers[0].certificates.clear(), true),
            (
                "a root without a use",
                |td| {
                    td.issuers[0].role = Role::Root;
                    td.issuers[0].certificates[0].state = IssuerState::Retired;
                },
                true,
            ),
            (
                "a pending issuer",
                |td| {
                    td.issuers[0].state = IssuerState::Pending;
                    td.issuers[0].certificates[0].state = IssuerState::Retired;
                },
                true,
            ),
        ];
        for (what, change, is_published) in rows {
            let bundles = Bundles::default();
            let mut records = records(IssuerState::Active, &all, 1, &[own, other]);
            change(&mut records.authorities[0]);
            bundles.refresh(&records);
            assert_eq!(sequence(&bundles), is_published.then_some(1), "{what}");
            assert_eq!(bundles.is_empty(), !is_published, "{what}");
        }
        // One of two paths is enough.
        let bundles = Bundles::default();
        let mut records = records(IssuerState::Active, &all, 1, &[other]);
        let rows = &mut records.authorities[0].issuers[0].certificates;
        rows.push(CaCertificateRecord {
            anchor: other.sha256,
            ..rows[0].clone()
        });
        bundles.refresh(&records);
        assert_eq!(sequence(&bundles), Some(1));
    }

    #[test]
    fn the_only_trust_domain_is_named() {
        let (all, bundles) = ([anchor()], Bundles::default());
        let [own] = &all;
        assert_eq!(bundles.only_trust_domain(), None);
        let mut both = records(IssuerState::Active, &all, 1, &[own]);
        bundles.refresh(&both);
        assert_eq!(bundles.only_trust_domain(), TrustDomain::parse("td").ok());
        let mut second = both.authorities[0].clone();
        second.trust_domain = TrustDomain::parse("other").unwrap();
        both.authorities.push(second);
        bundles.refresh(&both);
        assert_eq!(bundles.only_trust_domain(), None);
        assert!(!bundles.is_empty());
    }

    /// A subscriber sees each version once, from the current one on, and those of its own domain alone.
    #[tokio::test]
    async fn a_subscription_yields_each_version_once() {
        let (all, bundles) = ([anchor(), anchor()], Bundles::default());
        let [own, other] = &all;
        let mut versions = bundles.subscribe(TrustDomain::parse("td").unwrap());
        bundles.refresh(&records(IssuerState::Active, &all, 1, &[own]));
        let first = versions.next().await.unwrap();
        assert_eq!(first.bundle.sequence(), 1);
        assert_eq!(first.digest, hex(&first.bundle.digest()));
        // The same version again, and another domain's: nothing to see.
        let mut foreign = records(IssuerState::Active, &all, 2, &[own]);
        foreign.authorities[0].trust_domain = TrustDomain::parse("other").unwrap();
        bundles.refresh(&records(IssuerState::Active, &all, 1, &[own]));
        bundles.refresh(&foreign);
        bundles.refresh(&records(IssuerState::Active, &all, 3, &[own, other]));
        assert_eq!(versions.next().await.unwrap().bundle.sequence(), 3);
        drop(bundles);
        assert!(versions.next().await.is_none());
    }

    #[test]
    fn an_empty_or_invalid_bundle_never_replaces_a_good_one() {
        let (all, bundles) = ([anchor()], Bundles::default());
        let [own] = &all;
        bundles.refresh(&records(IssuerState::Retired, &all, 1, &[]));
        assert_eq!(sequence(&bundles), None);
        bundles.refresh(&records(IssuerState::Retired, &all, 2, &[own]));
        bundles.refresh(&records(IssuerState::Retired, &all, 3, &[]));
        bundles.refresh(&records(IssuerState::Retired, &all, 4, &[own, own]));
        assert_eq!(sequence(&bundles), Some(2));
    }
}
