//! The matrix of malformed requests: each is refused, and the error says what is wrong.

use rootbridge::x509::{Csr, CsrError, PemError, to_pem};

use crate::support::{
    ID, Request, SoftKey, asking, attribute, extension, good, oid, says, tlv, uri_san,
};

#[test]
fn a_valid_one_passes_so_that_the_others_fail_for_their_own_fault() {
    let key = SoftKey::p256();
    Csr::from_der(&good(&key).signed(&key)).unwrap();
}

#[test]
fn bytes_before_after_and_within() {
    let key = SoftKey::p256();
    let der = good(&key).signed(&key);
    for spoiled in [
        [der.as_slice(), &[0]].concat(),
        [der.as_slice(), &der].concat(),
        [&[0x30], der.as_slice()].concat(),
        der[..der.len() - 1].to_vec(),
        Vec::new(),
        vec![0x30, 0x80],
    ] {
        assert!(matches!(
            Csr::from_der(&spoiled).unwrap_err(),
            CsrError::Malformed(_)
        ));
    }
    for cut in 0..der.len() {
        assert!(Csr::from_der(&der[..cut]).is_err());
    }
}

#[test]
fn bytes_after_each_inner_structure() {
    let key = SoftKey::p256();
    let request = good(&key);
    // After the attributes, and after the signature: signed like that.
    let info = tlv(
        0x30,
        &[
            &request.version,
            &request.subject,
            &request.spki,
            &tlv(0xa0, &[&request.attributes[0]]),
            b"\x05\x00",
        ],
    );
    says(
        &Csr::from_der(&key.seal(&info)).unwrap_err(),
        "CertificationRequestInfo",
    );
    let info = request.info();
    let signature = tlv(0x03, &[&[0], &key.sign(&info)]);
    let outer = tlv(
        0x30,
        &[&info, key.algorithm().der(), &signature, b"\x05\x00"],
    );
    says(&Csr::from_der(&outer).unwrap_err(), "certification request");
    // After the SAN's SEQUENCE, inside its OCTET STRING.
    let names = tlv(0x30, &[&tlv(0x86, &[ID.as_bytes()])]);
    says(
        &asking(&[extension(oid::SAN, true, &[names, vec![0]].concat())]),
        "subjectAltName",
    );
    // A BIT STRING that is not whole octets.
    let outer = tlv(
        0x30,
        &[
            &info,
            key.algorithm().der(),
            &tlv(0x03, &[&[1], &[0x30, 0]]),
        ],
    );
    says(&Csr::from_der(&outer).unwrap_err(), "whole octets");
}

#[test]
fn a_field_that_is_missing_or_another_is_named() {
    let key = SoftKey::p256();
    let request = good(&key);
    let attributes = tlv(0xa0, &[&request.attributes[0]]);
    let fields: [(&str, &[u8]); 4] = [
        ("version", &request.version),
        ("subject", &request.subject),
        ("subjectPKInfo", &request.spki),
        ("attributes", &attributes),
    ];
    for (at, (name, _)) in fields.iter().enumerate() {
        let before: Vec<&[u8]> = fields[..at].iter().map(|(_, field)| *field).collect();
        let info = tlv(0x30, &before);
        let missing = format!("{name} is missing");
        says(&Csr::from_der(&key.seal(&info)).unwrap_err(), &missing);
        let other = [&before[..], &[b"\x05\x00"]].concat();
        let other = Csr::from_der(&key.seal(&tlv(0x30, &other))).unwrap_err();
        says(&other, &format!("{name}: expected"));
        says(&other, "found NULL");
    }
    let info = request.info();
    let outer: [(&str, &[u8]); 2] = [
        ("signatureAlgorithm", &info),
        ("signature", key.algorithm().der()),
    ];
    let mut before: Vec<&[u8]> = Vec::new();
    for (name, field) in outer {
        before.push(field);
        let error = Csr::from_der(&tlv(0x30, &before)).unwrap_err();
        says(&error, &format!("{name} is missing"));
    }
}

#[test]
fn too_large_in_der_and_in_pem() {
    let key = SoftKey::p256();
    let names: Vec<Vec<u8>> = (0..20_000)
        .map(|n| tlv(0x86, &[format!("{ID}{n}").as_bytes()]))
        .collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let list = [extension(oid::SAN, true, &tlv(0x30, &names))];
    let der = Request::of(&key, &list).signed(&key);
    assert!(der.len() > 769_000);
    assert!(matches!(
        Csr::from_der(&der).unwrap_err(),
        CsrError::TooLarge { .. }
    ));
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    assert!(matches!(
        Csr::from_pem(pem.as_bytes()).unwrap_err(),
        CsrError::TooLarge { .. }
    ));
}

#[test]
fn counts_of_names_extensions_and_attributes() {
    let name = |n| tlv(0x82, &[format!("a{n}.example").as_bytes()]);
    let san = |count| {
        let names: Vec<Vec<u8>> = (0..count).map(name).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        extension(oid::SAN, true, &tlv(0x30, &names))
    };
    let key = SoftKey::p256();
    let eight = Csr::from_der(&Request::of(&key, &[san(8)]).signed(&key)).unwrap();
    assert_eq!(eight.names().len(), 8);
    assert_eq!(asking(&[san(9)]), CsrError::TooManyNames);
    says(&asking(&[san(0)]), "empty");

    let some = |count: u8| -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| extension(&[0x2a, n], false, b"\x05\x00"))
            .collect()
    };
    assert_eq!(asking(&some(9)), CsrError::TooManyExtensions);
    says(&asking(&some(8)), "extension 1.2.0 is not allowed");
    says(&asking(&[]), "empty");

    let mut request = good(&key);
    request.attributes = (1..=9)
        .map(|n| attribute(&[0x2a, n], &[b"\x05\x00"]))
        .collect();
    let error = Csr::from_der(&request.signed(&key)).unwrap_err();
    assert_eq!(error, CsrError::TooManyAttributes);
}

/// What fits in 16 KiB is parsed in a moment, however it is arranged; without the caps, a parser that
/// sorts takes seconds.
#[test]
fn nothing_that_fits_is_slow() {
    let key = SoftKey::p256();
    let many = |turned: bool| {
        let mut parts: Vec<Vec<u8>> = (0..1400u16)
            .map(|n| tlv(0x30, &[b"\x06\x01\x2a", &tlv(0x04, &[&n.to_be_bytes()])]))
            .collect();
        if turned {
            parts.reverse();
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        tlv(0x31, &parts)
    };
    for turned in [false, true] {
        let mut request = good(&key);
        request.subject = tlv(0x30, &[&many(turned)]);
        let by_subject = request.signed(&key);
        request = good(&key);
        request.attributes = vec![tlv(0x30, &[b"\x06\x01\x2a", &many(turned)])];
        for der in [by_subject, request.signed(&key)] {
            let started = std::time::Instant::now();
            let _ = Csr::from_der(&der);
            assert!(
                started.elapsed().as_millis() < 2000,
                "{:?}",
                started.elapsed()
            );
        }
    }
}

#[test]
fn duplicates() {
    let error = asking(&[uri_san(ID), uri_san("spiffe://evil.example/x")]);
    assert_eq!(
        error,
        CsrError::DuplicateExtension {
            oid: "2.5.29.17".into()
        }
    );

    let key = SoftKey::p256();
    let mut request = good(&key);
    let other = Request::of(&key, &[uri_san("spiffe://evil.example/x")])
        .attributes
        .remove(0);
    request.attributes.push(other);
    request.attributes.sort();
    let error = Csr::from_der(&request.signed(&key)).unwrap_err();
    assert_eq!(
        error,
        CsrError::DuplicateAttribute {
            oid: "1.2.840.113549.1.9.14".into()
        }
    );
    // The same attribute again, byte for byte: a SET holds no value twice.
    let mut request = good(&key);
    request.attributes.push(request.attributes[0].clone());
    assert_eq!(
        Csr::from_der(&request.signed(&key)).unwrap_err(),
        CsrError::NotCanonical
    );
    // One attribute with two lists of extensions.
    let list = |id| tlv(0x30, &[&uri_san(id)]);
    let mut lists = [list(ID), list("spiffe://evil.example/x")];
    lists.sort();
    request.attributes = vec![attribute(oid::EXTENSION_REQUEST, &[&lists[0], &lists[1]])];
    assert!(matches!(
        Csr::from_der(&request.signed(&key)).unwrap_err(),
        CsrError::Malformed(_)
    ));
    // And with none.
    request.attributes = vec![attribute(oid::EXTENSION_REQUEST, &[])];
    let error = Csr::from_der(&request.signed(&key)).unwrap_err();
    assert!(
        matches!(error, CsrError::Malformed(_)) && error.to_string().contains("values are empty"),
        "{error}"
    );
}

#[test]
fn encodings_that_another_encoder_would_not_write() {
    let key = SoftKey::p256();
    // Attributes out of order.
    let mut request = good(&key);
    request
        .attributes
        .push(attribute(b"\x2a\x01", &[b"\x05\x00"]));
    assert_eq!(
        Csr::from_der(&request.signed(&key)).unwrap_err(),
        CsrError::NotCanonical
    );
    // A multi-valued RDN out of order.
    let mut request = good(&key);
    let organization = tlv(0x30, &[b"\x06\x03\x55\x04\x0a\x0c\x01A"]);
    let common_name = tlv(0x30, &[b"\x06\x03\x55\x04\x03\x0c\x01A"]);
    request.subject = tlv(0x30, &[&tlv(0x31, &[&organization, &common_name])]);
    assert_eq!(
        Csr::from_der(&request.signed(&key)).unwrap_err(),
        CsrError::NotCanonical
    );
    request.subject = tlv(0x30, &[&tlv(0x31, &[&common_name, &organization])]);
    Csr::from_der(&request.signed(&key)).unwrap();
    // `critical` and `cA` written out although FALSE is their default.
    let names = tlv(0x30, &[&tlv(0x86, &[ID.as_bytes()])]);
    let explicit = tlv(
        0x30,
        &[
            &tlv(0x06, &[oid::SAN]),
            b"\x01\x01\x00",
            &tlv(0x04, &[&names]),
        ],
    );
    assert_eq!(asking(&[explicit]), CsrError::NotCanonical);
    let not_a_ca = extension(oid::BASIC, true, b"\x30\x03\x01\x01\x00");
    assert_eq!(asking(&[not_a_ca]), CsrError::NotCanonical);
    // A key usage with trailing zero bits.
    let usage = extension(oid::KEY_USAGE, true, b"\x03\x02\x00\x80");
    assert_eq!(asking(&[usage]), CsrError::NotCanonical);
    // A BOOLEAN that is true in BER only; a length that is longer than needed.
    let ber = tlv(
        0x30,
        &[
            &tlv(0x06, &[oid::SAN]),
            b"\x01\x01\x01",
            &tlv(0x04, &[&names]),
        ],
    );
    says(&asking(&[ber]), "BOOLEAN");
    let long = [b"\x30\x81".as_slice(), &names[1..]].concat();
    says(
        &asking(&[extension(oid::SAN, true, &long)]),
        "not well-formed DER",
    );
    // A version of two octets, and another version.
    let mut request = good(&key);
    request.version = vec![2, 2, 0, 0];
    assert_eq!(
        Csr::from_der(&request.signed(&key)).unwrap_err(),
        CsrError::Version
    );
    for version in [1, 2, 0xff] {
        request.version = vec![2, 1, version];
        assert_eq!(
            Csr::from_der(&request.signed(&key)).unwrap_err(),
            CsrError::Version
        );
    }
}

#[test]
fn pem_must_be_one_block_and_nothing_else() {
    let key = SoftKey::p256();
    let der = good(&key).signed(&key);
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    let parse = |pem: &str| Csr::from_pem(pem.as_bytes());
    for fine in [
        pem.clone(),
        to_pem("NEW CERTIFICATE REQUEST", &der),
        pem.replace('\n', "\r\n"),
        format!("\n{pem}\n\n"),
        pem.trim_end().to_owned(),
    ] {
        assert_eq!(parse(&fine).unwrap().der(), der);
    }
    let fault = |pem: &str| match parse(pem).unwrap_err() {
        CsrError::Pem(fault) => fault,
        other => panic!("{other}"),
    };
    assert_eq!(
        fault(&format!("{pem}{pem}")),
        PemError::TooMany { limit: 1 }
    );
    let key_too = format!("{pem}{}", to_pem("EC PRIVATE KEY", b"secret"));
    assert_eq!(fault(&key_too), PemError::TooMany { limit: 1 });
    assert_eq!(fault(&format!("{pem}x")), PemError::OtherText);
    assert_eq!(fault(&format!("x\n{pem}")), PemError::OtherText);
    assert_eq!(fault(&format!("{pem}\0")), PemError::OtherText);
    assert!(matches!(
        fault(&to_pem("CERTIFICATE", &der)),
        PemError::Label { .. }
    ));
    assert!(matches!(
        fault(&to_pem("certificate request", &der)),
        PemError::Label { .. }
    ));
    assert!(matches!(fault(""), PemError::NoBlock { .. }));
    assert!(matches!(
        fault(&pem.replace("-----END", "----END")),
        PemError::Unterminated { .. }
    ));
    let headers = pem.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1);
    assert!(matches!(fault(&headers), PemError::Base64 { .. }));
    assert!(matches!(
        Csr::from_pem(&der).unwrap_err(),
        CsrError::Pem(PemError::NoBlock { .. })
    ));
    // Bytes after the DER, inside the block.
    let more = to_pem("CERTIFICATE REQUEST", &[der.as_slice(), &[0]].concat());
    assert!(matches!(parse(&more).unwrap_err(), CsrError::Malformed(_)));
}
