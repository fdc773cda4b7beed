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
        removed: Vec::new(),
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

fn bundle_of(domain: &str, sequence: u64) -> TrustBundle {
    let domain = TrustDomain::parse(domain).unwrap();
    TrustBundle::new(domain, sequence, vec![anchor().der]).unwrap()
}

#[tokio::test]
async fn bundles_from_elsewhere_stay_apart() {
    let domain = |name: &str| TrustDomain::parse(name).unwrap();
    let own = Arc::new(Bundles::default());
    own.publish(bundle_of("own.example", 1));
    let federated = [domain("other.example"), domain("own.example")].into();
    let published = PublishedBundles::new(Arc::clone(&own), federated);
    let mut other = published.subscribe(domain("other.example"));
    let mut changes = published.changes();
    published.set_foreign(bundle_of("other.example", 7));
    assert!(changes.next().await.is_some());
    let first = other.next().await.unwrap();
    assert_eq!(first.bundle.sequence(), 7);

    // This server's own trust domain has its own bundle, whatever others say.
    let before = published
        .current(&domain("own.example"))
        .unwrap()
        .digest
        .clone();
    published.set_foreign(bundle_of("own.example", 99));
    assert_eq!(
        published.current(&domain("own.example")).unwrap().digest,
        before
    );

    // What is published here as the server's own has nothing of it.
    assert!(own.current(&domain("other.example")).is_none());
    let all = published.all();
    let domains: Vec<_> = all
        .iter()
        .map(|each| each.bundle.trust_domain().as_str())
        .collect();
    assert_eq!(domains, ["other.example", "own.example"]);
    assert!(all.iter().all(|each| each.bundle.anchors().len() == 1));

    // A change of either is one.
    own.publish(bundle_of("own.example", 2));
    assert!(changes.next().await.is_some());
    published.set_foreign(bundle_of("other.example", 8));
    assert_eq!(other.next().await.unwrap().bundle.sequence(), 8);
}
