//! Well-formed requests that ask for too much, or are not their sender's.

use rootbridge::x509::{Csr, CsrError};

use crate::support::{ID, SoftKey, asking, attribute, extension, good, oid, says, tlv, uri_san};

#[test]
fn names_that_would_widen_or_hide_something() {
    let uri = |uri: &[u8]| extension(oid::SAN, true, &tlv(0x30, &[&tlv(0x86, &[uri])]));
    for bad in [
        &b"spiffe://a,evil.example,b/ns/x/sa/y"[..],
        b"spiffe://td/ns/*/sa/y",
        b"spiffe://td/ns/x/sa/y\0.evil",
        b"spiffe://td/ns/x/sa/y/../admin",
        b"spiffe://td/ns/x/sa/y?z",
        b"spiffe://TD/ns/x/sa/y",
        b"spiffe://td/ns/x/sa/\xc3\xa4",
        b"spiffe://td/ns/x/sa/\xff",
        b"spiffe://td",
        b"spiffe://td/",
        b"https://td/ns/x/sa/y",
        b"",
    ] {
        assert!(matches!(asking(&[uri(bad)]), CsrError::Name(_)), "{bad:?}");
    }
    let general = |tag, value: &[u8]| extension(oid::SAN, true, &tlv(0x30, &[&tlv(tag, &[value])]));
    for bad in [
        &b"*.example"[..],
        b"a.example\0",
        b"a,b",
        b"",
        b"10.0.0.1",
        b".",
        b"a_b",
    ] {
        assert!(
            matches!(asking(&[general(0x82, bad)]), CsrError::Name(_)),
            "{bad:?}"
        );
    }
    for bad in [&[10, 0, 0][..], &[10, 0, 0, 0, 255, 0, 0, 0], &[]] {
        assert!(
            matches!(asking(&[general(0x87, bad)]), CsrError::Name(_)),
            "{bad:?}"
        );
    }
    for (tag, part) in [
        (0x81, "rfc822Name"),
        (0xa0, "otherName"),
        (0xa4, "directoryName"),
        (0xa5, "ediPartyName"),
        (0x88, "registeredID"),
        (0x80, "otherName"),
        (0x16, "unknown kind"),
        (0xa6, "unknown kind"),
    ] {
        says(&asking(&[general(tag, b"")]), part);
    }
    // A good name does not carry a bad one in.
    let both = tlv(
        0x30,
        &[&tlv(0x86, &[ID.as_bytes()]), &tlv(0x82, &[b"*.example"])],
    );
    assert!(matches!(
        asking(&[extension(oid::SAN, true, &both)]),
        CsrError::Name(_)
    ));
}

#[test]
fn a_ca_certificate_is_not_asked_for() {
    for list in [
        extension(oid::BASIC, true, b"\x30\x03\x01\x01\xff"),
        extension(oid::BASIC, false, b"\x30\x06\x01\x01\xff\x02\x01\x00"),
        extension(oid::KEY_USAGE, true, b"\x03\x02\x02\x04"),
        extension(oid::KEY_USAGE, true, b"\x03\x02\x01\x02"),
        extension(oid::KEY_USAGE, false, b"\x03\x02\x01\x86"),
    ] {
        assert!(matches!(
            asking(&[uri_san(ID), list]),
            CsrError::CaCertificateRequested { .. }
        ));
    }
    says(
        &asking(&[extension(oid::BASIC, true, b"\x30\x03\x02\x01\x00")]),
        "path length",
    );
    let constraints = extension(oid::NAME_CONSTRAINTS, true, b"\x30\x00");
    says(
        &asking(&[constraints]),
        "extension 2.5.29.30 is not allowed",
    );
    let key = SoftKey::p256();
    let mut request = good(&key);
    request.attributes = vec![attribute(
        b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0e",
        &[b"\x30\x00"],
    )];
    says(
        &Csr::from_der(&request.signed(&key)).unwrap_err(),
        "1.3.6.1.4.1.311.2.1.14",
    );
}

#[test]
fn proof_of_possession() {
    let (key, other) = (SoftKey::p256(), SoftKey::p256());
    let request = good(&key);
    let error = Csr::from_der(&request.signed(&other)).unwrap_err();
    assert!(matches!(error, CsrError::ProofOfPossession(_)));
    says(&error, "sign the request with the key in it");

    // A byte of the signed part changed: the name of another.
    let der = request.signed(&key);
    let at = der.windows(3).position(|window| window == b"foo").unwrap();
    let mut changed = der.clone();
    changed[at] = b'g';
    assert!(matches!(
        Csr::from_der(&changed).unwrap_err(),
        CsrError::ProofOfPossession(_)
    ));

    // The algorithm of another kind of key, and one without its NULL.
    let info = request.info();
    let signature = tlv(0x03, &[&[0], &key.sign(&info)]);
    let rsa = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
    let error = Csr::from_der(&tlv(0x30, &[&info, rsa, &signature])).unwrap_err();
    assert!(matches!(error, CsrError::ProofOfPossession(_)), "{error}");
    let null = b"\x30\x0c\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x05\x00";
    let error = Csr::from_der(&tlv(0x30, &[&info, null, &signature])).unwrap_err();
    assert!(matches!(error, CsrError::Algorithm(_)), "{error}");
    // No signature; r and s of zero.
    for signature in [&b"\x00"[..], b"\x00\x30\x06\x02\x01\x00\x02\x01\x00"] {
        let bits = tlv(0x03, &[signature]);
        let outer = tlv(0x30, &[&info, key.algorithm().der(), &bits]);
        assert!(matches!(
            Csr::from_der(&outer).unwrap_err(),
            CsrError::ProofOfPossession(_)
        ));
    }
}

#[test]
fn points_that_are_not_on_their_curve() {
    let key = SoftKey::p256();
    let mut request = good(&key);
    for change in [(90, 1u8), (40, 0x80)] {
        request.spki = key.public_key().spki_der().to_vec();
        request.spki[change.0] ^= change.1;
        says(
            &Csr::from_der(&request.signed(&key)).unwrap_err(),
            "must lie on its curve",
        );
    }
    // The point at infinity, a point too short, and one with a hybrid form.
    let spki = key.public_key().spki_der().to_vec();
    let algorithm = &spki[2..23];
    for point in [&b"\x00"[..], &spki[26..90]] {
        request.spki = tlv(0x30, &[algorithm, &tlv(0x03, &[&[0], point])]);
        says(
            &Csr::from_der(&request.signed(&key)).unwrap_err(),
            "form and length",
        );
    }
    let mut hybrid = spki.clone();
    hybrid[26] = 6;
    request.spki = hybrid;
    says(
        &Csr::from_der(&request.signed(&key)).unwrap_err(),
        "form and length",
    );
}
