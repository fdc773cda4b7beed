//! Certificates that are not encoded, and differences that are caught before a release.

use std::sync::Arc;

use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    Certificate, CertificateSpec, ExtendedKeyUsage, IssuedError, IssuerIdentity, KeyKind, Serial,
    SignatureAlgorithm, SubjectSpec, TbsError, assemble, ca_name, check_issued, request_info,
};

use crate::support::{BOTH, Ca, CaTerms, DAY, SoftKey, now, sans};

const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";

pub(crate) fn leaf_spec(issuer: IssuerIdentity) -> CertificateSpec {
    CertificateSpec {
        serial: Serial::new(now()),
        issuer: Arc::new(issuer),
        not_before: now(),
        not_after: now().plus(DAY),
        names: sans(&[ID]),
        public_key: SoftKey::p256().public_key(),
        subject: SubjectSpec::EndEntity(BOTH),
    }
}

#[test]
fn specs_that_cannot_be_certified() {
    let key = SoftKey::p256().public_key();
    let algorithm = SignatureAlgorithm::EcdsaSha256;
    let issuer = IssuerIdentity::root(ca_name("Root", None).unwrap(), &key, algorithm);
    let good = leaf_spec(issuer);
    good.to_tbs().unwrap();
    let error = |change: &dyn Fn(&mut CertificateSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        spec.to_tbs().unwrap_err()
    };
    assert_eq!(error(&|spec| spec.names.clear()), TbsError::NoNames);
    let two = error(&|spec| spec.names = sans(&[ID, "spiffe://cluster.local/ns/foo/sa/other"]));
    assert_eq!(two, TbsError::SeveralIds);
    let domain = error(&|spec| spec.names = sans(&["spiffe://cluster.local"]));
    assert!(matches!(domain, TbsError::Name(_)));
    let none = SubjectSpec::EndEntity(ExtendedKeyUsage::NONE);
    assert_eq!(
        error(&|spec| spec.subject = none.clone()),
        TbsError::NoUsage
    );
    let ended = error(&|spec| spec.not_after = spec.not_before);
    assert!(matches!(ended, TbsError::Validity { .. }));
    let early = error(&|spec| spec.not_before = UnixTime::from_secs(-1));
    assert!(matches!(early, TbsError::Time { .. }));
    let late = error(&|spec| spec.not_after = UnixTime::from_secs(i64::MAX));
    assert!(matches!(late, TbsError::Time { .. }));
    let nameless = SubjectSpec::Ca {
        name_der: b"\x30\x00".to_vec(),
        path_len: None,
    };
    let ca = error(&|spec| spec.subject = nameless.clone());
    assert_eq!(ca, TbsError::CaSubject);
    assert_eq!(
        request_info(b"", &key, None).unwrap_err(),
        TbsError::CaSubject
    );
}

/// Each field of the grant, changed by itself: the check names it.
#[test]
fn each_difference_from_the_grant_is_caught() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let good = leaf_spec(root.identity());
    let tbs = good.to_tbs().unwrap();
    let leaf = Certificate::parse(root.key.seal(&tbs)).unwrap();
    check_issued(&leaf, &tbs, &good).unwrap();
    let changed = |change: &dyn Fn(&mut CertificateSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        check_issued(&leaf, &tbs, &spec).unwrap_err()
    };
    let differs = |change: &dyn Fn(&mut CertificateSpec)| match changed(change) {
        IssuedError::Differs { field } => field,
        other => panic!("{other:?}"),
    };
    let issuer = |change: &dyn Fn(&mut IssuerIdentity)| {
        changed(&|spec| change(Arc::make_mut(&mut spec.issuer)))
    };
    let issuer_differs = |change: &dyn Fn(&mut IssuerIdentity)| match issuer(change) {
        IssuedError::Differs { field } => field,
        other => panic!("{other:?}"),
    };

    let other_serial = Serial::new(now());
    assert_eq!(differs(&|spec| spec.serial = other_serial), "serialNumber");
    let other_name = ca_name("x", None).unwrap();
    assert_eq!(
        issuer_differs(&|issuer| issuer.name_der.clone_from(&other_name)),
        "issuer"
    );
    assert_eq!(
        issuer_differs(&|issuer| issuer.key_id = vec![0; 20]),
        "authorityKeyIdentifier"
    );
    assert_eq!(
        issuer_differs(&|issuer| issuer.algorithm = SignatureAlgorithm::RsaSha256),
        "signatureAlgorithm"
    );
    let ca = |name_der: &[u8]| SubjectSpec::Ca {
        name_der: name_der.to_vec(),
        path_len: None,
    };
    assert_eq!(differs(&|spec| spec.subject = ca(&other_name)), "subject");
    for other in [
        &[][..],
        &[ID, "dns:a.example"],
        &["spiffe://cluster.local/x"],
    ] {
        assert_eq!(differs(&|spec| spec.names = sans(other)), "subjectAltName");
    }
    let other_key = SoftKey::p256().public_key();
    assert_eq!(
        differs(&|spec| spec.public_key = other_key.clone()),
        "subjectPublicKeyInfo"
    );
    let early = now().minus(DAY);
    assert_eq!(differs(&|spec| spec.not_before = early), "notBefore");
    assert_eq!(differs(&|spec| spec.not_after = early), "notAfter");
    let one = SubjectSpec::EndEntity(ExtendedKeyUsage::SERVER_AUTH);
    assert_eq!(differs(&|spec| spec.subject = one.clone()), "extKeyUsage");
    assert_eq!(
        differs(&|spec| spec.subject = ca(b"\x30\x00")),
        "basicConstraints"
    );
    assert_eq!(
        issuer(&|issuer| issuer.not_after = Some(now())),
        IssuedError::OutlivesIssuer
    );
    assert!(matches!(
        issuer(&|issuer| issuer.public_key = other_key.clone()),
        IssuedError::Signature(_)
    ));

    let mut other_tbs = good.clone();
    other_tbs.serial = other_serial;
    assert_eq!(
        check_issued(&leaf, &other_tbs.to_tbs().unwrap(), &good).unwrap_err(),
        IssuedError::Differs {
            field: "TBSCertificate"
        }
    );
    // A flipped bit in the signature, and another key's signature.
    let mut signature = leaf.signature().to_vec();
    *signature.last_mut().unwrap() ^= 1;
    for signature in [signature, SoftKey::p256().sign(&tbs)] {
        let der = assemble(&tbs, good.issuer.algorithm, &signature).unwrap();
        let spoiled = Certificate::parse(der).unwrap();
        assert!(matches!(
            check_issued(&spoiled, &tbs, &good).unwrap_err(),
            IssuedError::Signature(_)
        ));
    }
}

/// Every bit of a certificate, flipped: it does not parse, or is not what was granted.
#[test]
fn a_flipped_bit_is_never_released() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let spec = leaf_spec(root.identity());
    let tbs = spec.to_tbs().unwrap();
    let der = root.key.seal(&tbs);
    let mut parsed = 0;
    for bit in 0..der.len() * 8 {
        let mut spoiled = der.clone();
        spoiled[bit / 8] ^= 1 << (bit % 8);
        if let Ok(certificate) = Certificate::parse_with_key(spoiled, Some(&spec.public_key)) {
            parsed += 1;
            assert!(
                check_issued(&certificate, &tbs, &spec).is_err(),
                "bit {bit}"
            );
        }
    }
    assert!(parsed > 100, "{parsed}");
}

/// A CA with names: its contents, and that each of its names is checked.
#[test]
fn a_ca_with_names() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(2)));
    let good = CertificateSpec {
        names: sans(&["dns:identity.linkerd.td"]),
        subject: SubjectSpec::Ca {
            name_der: ca_name("identity.linkerd.td", None).unwrap(),
            path_len: Some(0),
        },
        ..leaf_spec(root.identity())
    };
    let tbs = good.to_tbs().unwrap();
    let ca = Certificate::parse(root.key.seal(&tbs)).unwrap();
    assert!(ca.is_ca() && ca.path_len() == Some(0));
    assert_eq!(ca.names(), good.names);
    check_issued(&ca, &tbs, &good).unwrap();
    let with_names = |names: &[&str]| CertificateSpec {
        names: sans(names),
        ..good.clone()
    };
    for other in [&[][..], &["dns:identity.linkerd.other"]] {
        let field = "subjectAltName";
        assert_eq!(
            check_issued(&ca, &tbs, &with_names(other)),
            Err(IssuedError::Differs { field })
        );
    }
    let tbs = with_names(&[]).to_tbs().unwrap();
    let bare = Certificate::parse(root.key.seal(&tbs)).unwrap();
    let field = "subjectAltName";
    assert_eq!(
        check_issued(&bare, &tbs, &good),
        Err(IssuedError::Differs { field })
    );
}
