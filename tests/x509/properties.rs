//! Properties: names go round, and no request parses into something else than its bytes say.

use std::sync::LazyLock;

use der::{Decode, Encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rootbridge::x509::{
    Certificate, Csr, CsrSubject, DnsName, PublicKey, San, Serial, SpiffeId, TrustDomain,
    parse_pem_chain,
};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::request::{CertReq, ExtensionReq};

use crate::support::{Ca, CaTerms, Request, SoftKey, attribute, extension, oid, tlv, uri_san};

static KEY: LazyLock<SoftKey> = LazyLock::new(SoftKey::p256);

fn base() -> Request {
    let list = [
        uri_san("spiffe://cluster.local/ns/foo/sa/bar"),
        extension(oid::KEY_USAGE, true, b"\x03\x02\x05\xa0"),
        extension(oid::BASIC, true, b"\x30\x00"),
    ];
    let mut request = Request::of(&KEY, &list);
    request.subject = tlv(
        0x30,
        &[&tlv(
            0x31,
            &[&tlv(0x30, &[b"\x06\x03\x55\x04\x0a\x13\x01A"])],
        )],
    );
    request
}

/// What was accepted is what another parser reads, byte for byte and name for name.
fn agrees_with_x509_cert(der: &[u8], csr: &Csr) {
    let reparsed = CertReq::from_der(der).unwrap();
    assert_eq!(reparsed.to_der().unwrap(), der);
    assert_eq!(csr.der(), der);
    assert_eq!(
        reparsed.info.public_key.to_der().unwrap(),
        csr.public_key().spki_der()
    );
    let mut names = Vec::new();
    for attribute in reparsed.info.attributes.iter() {
        if attribute.oid.as_bytes() != oid::EXTENSION_REQUEST {
            continue;
        }
        let list = ExtensionReq::from_der(&attribute.values.get(0).unwrap().to_der().unwrap());
        for one in list.unwrap().0 {
            if one.extn_id.as_bytes() == oid::SAN {
                let san = SubjectAltName::from_der(one.extn_value.as_bytes()).unwrap();
                assert_eq!(san.to_der().unwrap(), one.extn_value.as_bytes());
                names.extend(san.0);
            }
        }
    }
    let texts: Vec<String> = names
        .iter()
        .map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
            GeneralName::DnsName(name) => format!("dns:{}", name.as_str().to_ascii_lowercase()),
            GeneralName::IpAddress(octets) => match octets.as_bytes().len() {
                4 => format!(
                    "ip:{}",
                    std::net::Ipv4Addr::from(<[u8; 4]>::try_from(octets.as_bytes()).unwrap())
                ),
                _ => format!(
                    "ip:{}",
                    std::net::Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_bytes()).unwrap())
                ),
            },
            other => panic!("{other:?} was let through"),
        })
        .collect();
    let ours: Vec<String> = csr.names().iter().map(San::to_string).collect();
    assert_eq!(texts, ours);
    let empty = reparsed
        .info
        .subject
        .iter()
        .all(|one| one.value.value().is_empty());
    assert_eq!(empty, csr.subject() == &CsrSubject::Empty);
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    let leaf = (any::<u8>(), vec(any::<u8>(), 0..20)).prop_map(|(tag, value)| tlv(tag, &[&value]));
    leaf.prop_recursive(4, 24, 4, |inner| {
        (
            prop_oneof![Just(0x30u8), Just(0x31), Just(0xa0), Just(0xa3), Just(0x04)],
            vec(inner, 0..4),
        )
            .prop_map(|(tag, parts)| {
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                tlv(tag, &parts)
            })
    })
}

fn general_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "spiffe://[a-z.]{1,8}(/[a-zA-Z0-9._*,%-]{0,6}){0,3}"
            .prop_map(|uri| tlv(0x86, &[uri.as_bytes()])),
        "[a-zA-Z0-9*.-]{1,12}".prop_map(|name| tlv(0x82, &[name.as_bytes()])),
        (
            vec(any::<u8>(), 16),
            prop_oneof![Just(4usize), Just(16), Just(8)]
        )
            .prop_map(|(octets, length)| tlv(0x87, &[&octets[..length]])),
        (0x80u8..0xaf, vec(any::<u8>(), 0..8)).prop_map(|(tag, value)| tlv(tag, &[&value])),
    ]
}

fn one_extension() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (vec(general_name(), 0..4), any::<bool>()).prop_map(|(names, critical)| {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            extension(oid::SAN, critical, &tlv(0x30, &names))
        }),
        2 => (0u8..8, any::<u8>()).prop_map(|(unused, bits)| {
            extension(oid::KEY_USAGE, true, &[3, 2, unused, bits])
        }),
        1 => prop_oneof![
            Just(&b"\x30\x00"[..]),
            Just(&b"\x30\x03\x01\x01\xff"[..]),
            Just(&b"\x30\x03\x01\x01\x00"[..]),
        ]
        .prop_map(|value| extension(oid::BASIC, true, value)),
        1 => vec(any::<u8>(), 0..6).prop_map(|oid| {
            extension(oid::EKU, false, &tlv(0x30, &[&tlv(0x06, &[&oid])]))
        }),
        1 => element().prop_map(|value| extension(oid::SKI, false, &value)),
        1 => (vec(any::<u8>(), 1..5), element()).prop_map(|(oid, value)| extension(&oid, false, &value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn a_spiffe_id_goes_to_text_and_back(
        domain in "[a-z0-9._-]{1,40}",
        segments in vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..6),
    ) {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let text = format!("spiffe://{domain}{path}");
        let id = SpiffeId::parse(&text).unwrap();
        prop_assert_eq!(id.as_str(), &text);
        prop_assert_eq!(id.path(), &path);
        prop_assert_eq!(id.trust_domain().as_str(), &domain);
        prop_assert_eq!(&text.parse::<SpiffeId>().unwrap(), &id);
        prop_assert!(id.in_domain(&TrustDomain::parse(&domain).unwrap()));
    }

    #[test]
    fn only_names_parse_as_names(text in "(spiffe://)?\\PC{0,30}|spiffe://[a-z]{1,3}[\\x00-\\x7f]{0,20}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            let rest = text.strip_prefix("spiffe://").unwrap();
            prop_assert!(rest.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)));
            prop_assert!(!rest.contains("//") && !rest.ends_with('/'));
        }
        if let Ok(name) = DnsName::parse(&text) {
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'));
        }
        if let Ok(san) = text.parse::<San>() {
            prop_assert_eq!(&san.to_string().parse::<San>().unwrap(), &san);
        }
        let _ = TrustDomain::parse(&text);
        let _ = text.parse::<Serial>();
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(Csr::from_der(&bytes).is_err());
        prop_assert!(Csr::from_pem(&bytes).is_err());
        prop_assert!(Certificate::parse(bytes.as_slice()).is_err());
        prop_assert!(parse_pem_chain(&bytes).is_err());
        prop_assert!(PublicKey::from_spki_der(&bytes).is_err());
    }

    #[test]
    fn random_structures_never_panic(der in element()) {
        let _ = Csr::from_der(&der);
        let _ = Certificate::parse(der.as_slice());
        let _ = PublicKey::from_spki_der(&der);
    }

    /// Bytes of a request are changed, and it is then signed again by its own key, so that what
    /// decides is the parser and not the signature.
    #[test]
    fn a_changed_request_is_refused_or_read_as_another_parser_reads_it(
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        let mut info = base().info();
        for (at, byte, how) in changes {
            let at = at.index(info.len());
            match how {
                0 => info[at] = byte,
                1 => info[at] ^= 1 << (byte % 8),
                _ => info.insert(at, byte),
            }
        }
        let signed = tlv(0x30, &[
            &info,
            KEY.algorithm().der(),
            &tlv(0x03, &[&[0], &KEY.sign(&info)]),
        ]);
        if let Ok(csr) = Csr::from_der(&signed) {
            agrees_with_x509_cert(&signed, &csr);
        }
    }

    #[test]
    fn made_up_extensions_are_refused_or_read_as_another_parser_reads_them(
        list in vec(one_extension(), 0..4),
        extra in proptest::option::of((vec(any::<u8>(), 1..4), vec(element(), 0..3))),
    ) {
        let mut request = Request::of(&KEY, &list);
        if let Some((oid, values)) = extra {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            request.attributes.push(attribute(&oid, &values));
            request.attributes.sort();
        }
        let signed = request.signed(&KEY);
        if let Ok(csr) = Csr::from_der(&signed) {
            agrees_with_x509_cert(&signed, &csr);
        }
    }

    #[test]
    fn a_changed_certificate_is_refused_or_read_as_another_parser_reads_it(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        static DER: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let terms = CaTerms::usual(rootbridge::x509::KeyKind::EcdsaP256, Some(3));
            Ca::root("Root", terms).certificate.der().to_vec()
        });
        let mut der = DER.clone();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if let Ok(certificate) = Certificate::parse(der.as_slice()) {
            prop_assert_eq!(certificate.der(), &der);
            if let Ok(reparsed) = x509_cert::Certificate::from_der(&der) {
                let tbs = reparsed.tbs_certificate();
                let serial = Serial::from_bytes(tbs.serial_number().as_bytes()).unwrap();
                prop_assert_eq!(&serial, certificate.serial());
                let end = tbs.validity().not_after.to_unix_duration().as_secs();
                prop_assert_eq!(end as i64, certificate.not_after().secs());
            }
        }
    }
}

#[test]
fn the_request_that_is_changed_is_a_good_one() {
    let der = base().signed(&KEY);
    agrees_with_x509_cert(&der, &Csr::from_der(&der).unwrap());
}
