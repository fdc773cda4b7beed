//! Authorities, issuers, anchors and bundles: what every ledger promises.

use rootbridge::clock::UnixTime;
use rootbridge::ledger::{
    AnchorOrigin, AnchorState, Applied, AuthorityRecord, CertificateState, Change, IssuerState,
    Ledger, LedgerError, Role,
};
use rootbridge::x509::TrustBundle;

use crate::support::{
    DAY, Fixture, Key, NOW, Store, add_certificate, add_issuer, domain, operator, place, sha256,
};

pub async fn authority(fixture: &Fixture) -> AuthorityRecord {
    let ledger = &fixture.ledger;
    let snapshot = ledger.snapshot().await.unwrap();
    let found = snapshot.authority(&fixture.domain).unwrap().clone();
    let alone = ledger.authority(&fixture.domain).await.unwrap();
    assert_eq!(alone, Some(found.clone()), "read alone, it is the same");
    found
}

pub async fn apply(fixture: &Fixture, change: Change) -> Result<Applied, LedgerError> {
    fixture.ledger.apply(change, &operator()).await
}

pub fn foreign(fixture: &Fixture, der: &[u8], expires_at: Option<UnixTime>) -> Change {
    Change::AddAnchors {
        trust_domain: fixture.domain.clone(),
        ders: vec![der.to_vec()],
        source: "old mesh".into(),
        expires_at,
    }
}

pub fn retire_anchor(fixture: &Fixture, der: &[u8]) -> Change {
    Change::RetireAnchor {
        trust_domain: fixture.domain.clone(),
        sha256: sha256(der),
    }
}

pub fn set(key: &Key, state: IssuerState) -> Change {
    Change::SetIssuerState {
        issuer: key.id(),
        state,
    }
}

/// The published anchors, after a look at whether the bundle is in itself right.
pub async fn published(ledger: &dyn Ledger, fixture: &Fixture) -> (u64, Vec<Vec<u8>>) {
    let bundle = ledger.bundle(&fixture.domain, None).await.unwrap().unwrap();
    let made = TrustBundle::new(
        fixture.domain.clone(),
        bundle.sequence,
        bundle.anchors.clone(),
    );
    assert_eq!(made.unwrap().digest(), bundle.digest);
    (bundle.sequence, bundle.anchors)
}

pub async fn an_authority_is_created(store: &dyn Store) {
    let ledger = store.server().await;
    assert_eq!(ledger.revision().await.unwrap(), 0);
    assert!(ledger.snapshot().await.unwrap().authorities.is_empty());
    let fixture = Fixture::build(ledger).await;
    let other = Fixture::build_for(store.other().await, "other.example").await;

    let snapshot = fixture.ledger.snapshot().await.unwrap();
    assert_eq!(snapshot.revision, 10);
    assert_eq!(fixture.ledger.revision().await.unwrap(), 10);
    assert_eq!(snapshot.authorities.len(), 2);
    let authority = snapshot.authority(&fixture.domain).unwrap();
    assert_eq!(
        (authority.created_at, authority.created_by.as_str()),
        (NOW, "alice")
    );
    let [root, issuing] = authority.issuers.as_slice() else {
        panic!("{authority:?}")
    };
    assert_eq!((root.role, root.state), (Role::Root, IssuerState::Active));
    assert_eq!(
        (issuing.role, issuing.state),
        (Role::Issuing, IssuerState::Active)
    );
    assert_eq!((root.path_len, issuing.path_len), (None, Some(0)));
    assert_eq!(issuing.public_key, fixture.issuing.public.spki_der());
    assert_eq!(issuing.locations, [place("first")]);
    let [certificate] = issuing.certificates.as_slice() else {
        panic!("{issuing:?}")
    };
    assert_eq!(
        (certificate.id, &certificate.der),
        (fixture.certificate, &fixture.issuing_der)
    );
    assert_eq!(certificate.anchor, sha256(&fixture.root_der));
    assert_eq!(certificate.not_after, NOW.plus(365 * DAY));
    let [anchor] = authority.anchors.as_slice() else {
        panic!("{authority:?}")
    };
    assert_eq!(
        (anchor.origin, anchor.state),
        (AnchorOrigin::Own, AnchorState::Active)
    );
    assert_eq!(
        authority.bundle.as_ref().unwrap().anchors,
        std::slice::from_ref(&fixture.root_der)
    );
    assert_eq!(authority.bundle.as_ref().unwrap().sequence, 1);
    let (owner, found) = snapshot.issuer(&other.issuing.id()).unwrap();
    assert_eq!(
        (&owner.trust_domain, found.state),
        (&other.domain, IssuerState::Active)
    );
}

pub async fn states_only_move_forward(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    use IssuerState::{Active, Pending, Retired};
    let stays = |from: IssuerState, to: IssuerState| {
        let id = fixture.issuing.id();
        LedgerError::Refused(format!("issuer {id} is {from} and cannot become {to}"))
    };
    for state in [Pending, Active] {
        let error = apply(&fixture, set(&fixture.issuing, state)).await;
        assert_eq!(error.unwrap_err(), stays(Active, state));
    }
    let bare = Key::new();
    apply(&fixture, add_issuer(&fixture.domain, &bare, Role::Issuing))
        .await
        .unwrap();
    let error = apply(&fixture, set(&bare, Active)).await.unwrap_err();
    assert!(
        error.to_string().contains("would have no certificate"),
        "{error}"
    );
    apply(&fixture, set(&fixture.issuing, Retired))
        .await
        .unwrap();
    for state in [Pending, Active, Retired] {
        let error = apply(&fixture, set(&fixture.issuing, state)).await;
        assert_eq!(error.unwrap_err(), stays(Retired, state));
    }
    let late = add_certificate(&fixture.issuing, &fixture.issuing_der, &fixture.root_der);
    let error = apply(&fixture, late).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::IssuerNotActive { state: Retired, .. }),
        "{error}"
    );
    let issuing = &authority(&fixture).await.issuers[1];
    assert_eq!(issuing.certificates[0].state, CertificateState::Retired);
    let stranger = Key::new();
    let error = apply(&fixture, set(&stranger, Active)).await.unwrap_err();
    assert_eq!(error, LedgerError::UnknownIssuer(stranger.id()));
}

pub async fn several_certificates_and_key_locations(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    // The same key, renewed, and crossed by another root over an intermediate.
    let renewed = fixture.root.certify(
        "mesh.example root",
        &fixture.issuing,
        "mesh.example issuing",
    );
    let add = add_certificate(&fixture.issuing, &renewed, &fixture.root_der);
    apply(&fixture, add.clone()).await.unwrap();
    let (enterprise, middle) = (Key::new(), Key::new());
    let enterprise_der = enterprise.root("enterprise");
    let middle_der = enterprise.certify("enterprise", &middle, "middle");
    let crossed = middle.certify("middle", &fixture.issuing, "mesh.example issuing");
    let cross = Change::AddCaCertificate {
        issuer: fixture.issuing.id(),
        der: crossed.clone(),
        path: vec![middle_der.clone()],
        anchor: enterprise_der.clone(),
        origin: AnchorOrigin::Upstream,
        source: "enterprise PKI".into(),
        activate: true,
        retire: false,
    };
    let id = apply(&fixture, cross).await.unwrap().certificate.unwrap();
    let moved = |token: &str, label: &str| Change::AddLocation {
        issuer: fixture.issuing.id(),
        location: rootbridge::ledger::KeyLocation {
            label: label.into(),
            ..place(token)
        },
    };
    apply(&fixture, moved("second", "copy")).await.unwrap();
    apply(&fixture, moved("first", "renamed")).await.unwrap();

    let issuing = &authority(&fixture).await.issuers[1];
    let ders: Vec<_> = issuing
        .certificates
        .iter()
        .map(|row| row.der.clone())
        .collect();
    assert_eq!(ders, [fixture.issuing_der.clone(), renewed, crossed]);
    let crossed = &issuing.certificates[2];
    assert_eq!((crossed.id, &crossed.path), (id, &vec![middle_der]));
    assert_eq!(crossed.anchor, sha256(&enterprise_der));
    let places: Vec<_> = issuing
        .locations
        .iter()
        .map(|at| (at.token.as_str(), at.label.as_str()))
        .collect();
    assert_eq!(places, [("first", "renamed"), ("second", "copy")]);
    let (sequence, anchors) = published(&*fixture.ledger, &fixture).await;
    assert_eq!(
        (sequence, anchors),
        (2, vec![fixture.root_der.clone(), enterprise_der])
    );

    apply(
        &fixture,
        Change::RetireCaCertificate {
            certificate: fixture.certificate,
        },
    )
    .await
    .unwrap();
    let issuing = &authority(&fixture).await.issuers[1];
    assert_eq!(issuing.certificates[0].state, CertificateState::Retired);
    let set_path = |certificate, path| Change::SetPath { certificate, path };
    apply(&fixture, set_path(id, vec![])).await.unwrap();
    let crossed = &authority(&fixture).await.issuers[1].certificates[2];
    assert_eq!((crossed.id, crossed.path.len()), (id, 0));
    let again = Change::RetireCaCertificate {
        certificate: fixture.certificate,
    };
    for (change, says) in [
        (again, "or is retired"),
        (set_path(fixture.certificate, vec![]), "or is retired"),
        (
            set_path(id, vec![b"no certificate".to_vec()]),
            "a certificate of the path",
        ),
        (add, "already is on record"),
    ] {
        let error = apply(&fixture, change).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

pub async fn refused_changes_change_nothing(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let before = fixture.ledger.snapshot().await.unwrap();
    let stranger = Key::new();
    let nobody = domain("nobody.example");
    let other_key = fixture.root.certify("mesh.example root", &stranger, "x");
    let fresh = fixture.root.certify(
        "mesh.example root",
        &fixture.issuing,
        "mesh.example issuing",
    );
    let foreign_above = match add_certificate(&fixture.issuing, &fresh, &fixture.root_der) {
        Change::AddCaCertificate {
            issuer,
            der,
            path,
            anchor,
            source,
            activate,
            retire,
            ..
        } => {
            let origin = AnchorOrigin::Foreign;
            Change::AddCaCertificate {
                issuer,
                der,
                path,
                anchor,
                origin,
                source,
                activate,
                retire,
            }
        }
        _ => unreachable!(),
    };
    let mut garbage_above = add_certificate(&fixture.issuing, &fresh, &fixture.root_der);
    if let Change::AddCaCertificate { path, .. } = &mut garbage_above {
        path.push(b"garbage".to_vec());
    }
    let issuing = &fixture.issuing;
    for (change, says) in [
        (
            Change::CreateAuthority {
                trust_domain: fixture.domain.clone(),
            },
            "already has an authority",
        ),
        (
            add_issuer(&fixture.domain, issuing, Role::Issuing),
            "already is an issuer",
        ),
        (
            add_issuer(&nobody, &stranger, Role::Issuing),
            "no authority for trust domain nobody.example",
        ),
        (
            add_certificate(&stranger, &other_key, &fixture.root_der),
            "is not on record",
        ),
        (
            add_certificate(issuing, &other_key, &fixture.root_der),
            "has another key than issuer",
        ),
        (
            add_certificate(issuing, b"garbage", &fixture.root_der),
            "the CA certificate cannot be used",
        ),
        (
            add_certificate(issuing, &fresh, b"garbage"),
            "the anchor cannot be used",
        ),
        (garbage_above, "a certificate of the path cannot be used"),
        (
            add_certificate(issuing, &fixture.issuing_der, &fixture.root_der),
            "with this anchor already is on record",
        ),
        (foreign_above, "a foreign anchor cannot be the anchor"),
        (
            foreign(&fixture, b"garbage", None),
            "the anchor cannot be used",
        ),
        (
            retire_anchor(&fixture, &fresh),
            "has no active or pending anchor",
        ),
    ] {
        let error = apply(&fixture, change.clone()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{change:?}: {error}");
    }
    assert_eq!(fixture.ledger.snapshot().await.unwrap(), before);
}

pub async fn one_issuer_succeeds_another(store: &dyn Store) {
    let fixture = Fixture::build(store.server().await).await;
    let next = Key::new();
    let der = fixture
        .root
        .certify("mesh.example root", &next, "mesh.example issuing 2");
    apply(&fixture, add_issuer(&fixture.domain, &next, Role::Issuing))
        .await
        .unwrap();
    let Change::AddCaCertificate {
        issuer,
        der,
        path,
        anchor,
        origin,
        source,
        ..
    } = add_certificate(&next, &der, &fixture.root_der)
    else {
        unreachable!()
    };
    let (activate, retire) = (true, true);
    let succeed = Change::AddCaCertificate {
        issuer,
        der,
        path,
        anchor,
        origin,
        source,
        activate,
        retire,
    };
    let applied = apply(&fixture, succeed).await.unwrap();
    assert!(applied.bundles.is_empty(), "the anchors are the same");
    let states: Vec<_> = authority(&fixture)
        .await
        .issuers
        .iter()
        .map(|issuer| (issuer.role, issuer.state))
        .collect();
    assert_eq!(
        states,
        [
            (Role::Root, IssuerState::Active),
            (Role::Issuing, IssuerState::Retired),
            (Role::Issuing, IssuerState::Active),
        ]
    );
}
