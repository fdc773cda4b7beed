//! What is not made, and what is caught between the signature and the answer.

use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    CaTemplate, Certificate, Expected, ExpectedRole, ExtendedKeyUsage, IssuedError, IssuerIdentity,
    KeyKind, LeafTemplate, Serial, SignatureAlgorithm, TbsError, assemble, ca_name, check_issued,
    request_info,
};

use crate::support::{BOTH, Ca, CaTerms, DAY, SoftKey, now, sans};

const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";

#[test]
fn templates_that_cannot_be_certified() {
    let key = SoftKey::p256().public_key();
    let issuer = IssuerIdentity {
        name_der: ca_name("Root", None).unwrap(),
        key_id: key.key_id().to_vec(),
        algorithm: SignatureAlgorithm::EcdsaSha256,
    };
    let serial = Serial::new(now());
    let names = sans(&[ID]);
    let good = LeafTemplate {
        serial: &serial,
        issuer: &issuer,
        not_before: now(),
        not_after: now().plus(DAY),
        names: &names,
        public_key: &key,
        usage: BOTH,
    };
    good.to_tbs().unwrap();
    let fault = |template: LeafTemplate<'_>| template.to_tbs().unwrap_err();
    assert_eq!(
        fault(LeafTemplate { names: &[], ..good }),
        TbsError::NoNames
    );
    let domain = sans(&["spiffe://cluster.local"]);
    assert!(matches!(
        fault(LeafTemplate {
            names: &domain,
            ..good
        }),
        TbsError::Name(_)
    ));
    let none = ExtendedKeyUsage {
        server_auth: false,
        client_auth: false,
    };
    assert_eq!(
        fault(LeafTemplate {
            usage: none,
            ..good
        }),
        TbsError::NoUsage
    );
    let ended = LeafTemplate {
        not_after: good.not_before,
        ..good
    };
    assert!(matches!(fault(ended), TbsError::Validity { .. }));
    let early = LeafTemplate {
        not_before: UnixTime::from_secs(-1),
        ..good
    };
    assert!(matches!(fault(early), TbsError::Time { .. }));
    let late = LeafTemplate {
        not_after: UnixTime::from_secs(i64::MAX),
        ..good
    };
    assert!(matches!(fault(late), TbsError::Time { .. }));
    let ca = CaTemplate {
        serial: &serial,
        issuer: &issuer,
        subject_der: b"\x30\x00",
        not_before: now(),
        not_after: now().plus(DAY),
        public_key: &key,
        path_len: None,
        names: &[],
    };
    assert_eq!(ca.to_tbs().unwrap_err(), TbsError::CaSubject);
    assert_eq!(
        request_info(b"", &key, None).unwrap_err(),
        TbsError::CaSubject
    );
}

/// Each field of what was granted, changed by itself: the check names it.
#[test]
fn whatever_differs_from_the_grant_is_caught() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let issuer = root.identity();
    let (serial, names) = (Serial::new(now()), sans(&[ID]));
    let key = SoftKey::p256().public_key();
    let template = LeafTemplate {
        serial: &serial,
        issuer: &issuer,
        not_before: now(),
        not_after: now().plus(DAY),
        names: &names,
        public_key: &key,
        usage: BOTH,
    };
    let tbs = template.to_tbs().unwrap();
    let leaf = Certificate::parse(root.key.seal(&tbs)).unwrap();
    let ca_key = root.key.public_key();
    let end = root.certificate.not_after();
    let good = Expected::leaf(&template, end);
    check_issued(&leaf, &tbs, &ca_key, &good).unwrap();
    let differs = |expected: Expected<'_>| match check_issued(&leaf, &tbs, &ca_key, &expected) {
        Err(IssuedError::Differs { field }) => field,
        other => panic!("{other:?}"),
    };

    let other_serial = Serial::new(now());
    assert_eq!(
        differs(Expected {
            serial: &other_serial,
            ..good
        }),
        "serialNumber"
    );
    let other_name = IssuerIdentity {
        name_der: ca_name("x", None).unwrap(),
        ..issuer.clone()
    };
    assert_eq!(
        differs(Expected {
            issuer: &other_name,
            ..good
        }),
        "issuer"
    );
    let other_id = IssuerIdentity {
        key_id: vec![0; 20],
        ..issuer.clone()
    };
    assert_eq!(
        differs(Expected {
            issuer: &other_id,
            ..good
        }),
        "authorityKeyIdentifier"
    );
    let other_algorithm = IssuerIdentity {
        algorithm: SignatureAlgorithm::RsaSha256,
        ..issuer.clone()
    };
    assert_eq!(
        differs(Expected {
            issuer: &other_algorithm,
            ..good
        }),
        "signatureAlgorithm"
    );
    let subject = ca_name("x", None).unwrap();
    assert_eq!(
        differs(Expected {
            subject_der: &subject,
            ..good
        }),
        "subject"
    );
    for other in [
        &[][..],
        &sans(&[ID, "dns:a.example"]),
        &sans(&["spiffe://cluster.local/x"]),
    ] {
        assert_eq!(
            differs(Expected {
                names: other,
                ..good
            }),
            "subjectAltName"
        );
    }
    let other_key = SoftKey::p256().public_key();
    assert_eq!(
        differs(Expected {
            public_key: &other_key,
            ..good
        }),
        "subjectPublicKeyInfo"
    );
    let early = now().minus(DAY);
    assert_eq!(
        differs(Expected {
            not_before: early,
            ..good
        }),
        "notBefore"
    );
    assert_eq!(
        differs(Expected {
            not_after: early,
            ..good
        }),
        "notAfter"
    );
    let one = ExtendedKeyUsage {
        client_auth: false,
        ..BOTH
    };
    let role = ExpectedRole::Leaf(one);
    assert_eq!(differs(Expected { role, ..good }), "extKeyUsage");
    let role = ExpectedRole::Ca { path_len: None };
    assert_eq!(differs(Expected { role, ..good }), "basicConstraints");

    let outlives = Expected {
        issuer_not_after: Some(now()),
        ..good
    };
    assert_eq!(
        check_issued(&leaf, &tbs, &ca_key, &outlives).unwrap_err(),
        IssuedError::OutlivesIssuer
    );
    let another_tbs = LeafTemplate {
        serial: &other_serial,
        ..template
    }
    .to_tbs()
    .unwrap();
    assert_eq!(
        check_issued(&leaf, &another_tbs, &ca_key, &good).unwrap_err(),
        IssuedError::Differs {
            field: "TBSCertificate"
        }
    );
    // A flipped bit anywhere in the signature, and another key's signature.
    let mut signature = leaf.signature().to_vec();
    *signature.last_mut().unwrap() ^= 1;
    for signature in [signature, SoftKey::p256().sign(&tbs)] {
        let der = assemble(&tbs, issuer.algorithm, &signature).unwrap();
        let spoiled = Certificate::parse(der).unwrap();
        assert!(matches!(
            check_issued(&spoiled, &tbs, &ca_key, &good).unwrap_err(),
            IssuedError::Signature(_)
        ));
    }
}

/// Every bit of a certificate, flipped: it does not parse, or is not what was granted.
#[test]
fn a_flipped_bit_is_never_released() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let issuer = root.identity();
    let (serial, names) = (Serial::new(now()), sans(&[ID]));
    let key = SoftKey::p256().public_key();
    let template = LeafTemplate {
        serial: &serial,
        issuer: &issuer,
        not_before: now(),
        not_after: now().plus(DAY),
        names: &names,
        public_key: &key,
        usage: BOTH,
    };
    let tbs = template.to_tbs().unwrap();
    let der = root.key.seal(&tbs);
    let ca_key = root.key.public_key();
    let expected = Expected::leaf(&template, root.certificate.not_after());
    let mut parsed = 0;
    for bit in 0..der.len() * 8 {
        let mut spoiled = der.clone();
        spoiled[bit / 8] ^= 1 << (bit % 8);
        if let Ok(certificate) = Certificate::parse_with_key(spoiled, Some(&key)) {
            parsed += 1;
            assert!(
                check_issued(&certificate, &tbs, &ca_key, &expected).is_err(),
                "bit {bit}"
            );
        }
    }
    assert!(parsed > 100, "{parsed}");
}

/// A CA with names: what it says, and that each of its names counts when it is checked.
#[test]
fn a_ca_with_names() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(2)));
    let issuer = root.identity();
    let key = SoftKey::p256().public_key();
    let (serial, names) = (Serial::new(now()), sans(&["dns:identity.linkerd.td"]));
    let subject = ca_name("identity.linkerd.td", None).unwrap();
    let template = CaTemplate {
        serial: &serial,
        issuer: &issuer,
        subject_der: &subject,
        not_before: now(),
        not_after: now().plus(DAY),
        public_key: &key,
        path_len: Some(0),
        names: &names,
    };
    let tbs = template.to_tbs().unwrap();
    let made = Certificate::parse(root.key.seal(&tbs)).unwrap();
    assert!(made.is_ca() && made.path_len() == Some(0));
    assert_eq!(made.names(), names);
    let end = Some(root.certificate.not_after());
    let good = Expected::ca(&template, end);
    let check = |of: &Certificate, tbs: &[u8], expected: &Expected<'_>| {
        check_issued(of, tbs, &root.key.public_key(), expected)
    };
    check(&made, &tbs, &good).unwrap();
    for other in [&[][..], &sans(&["dns:identity.linkerd.other"])] {
        let expected = Expected {
            names: other,
            ..good
        };
        let field = "subjectAltName";
        assert_eq!(
            check(&made, &tbs, &expected),
            Err(IssuedError::Differs { field })
        );
    }
    let bare = CaTemplate {
        names: &[],
        ..template
    };
    let tbs = bare.to_tbs().unwrap();
    let bare = Certificate::parse(root.key.seal(&tbs)).unwrap();
    assert!(check(&bare, &tbs, &good).is_err());
}
