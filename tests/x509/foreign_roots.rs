//! Roots of enterprises that some verifier takes otherwise than others do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::x509::{
    Certificate, KeyKind, PathFault, Position, Verifier, find_ca_path, parse_pem_chain,
    read_certificates,
};
use rootbridge_test_support::files::repository;

use crate::differential_variants::{Parts, string};
use crate::paths::fault;
use crate::support::{SoftKey, now};
use crate::verifiers::{self, openssl_accepts};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(repository("tests/fixtures/certificates").join(name)).unwrap()
}

/// The contents of a file's blocks, which we do not parse.
fn blocks(pem: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(pem).unwrap();
    let bodies = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let body = |each: &str| each.split("-----").next().unwrap().replace('\n', "");
    bodies
        .map(|each| STANDARD.decode(body(each)).unwrap())
        .collect()
}

/// The tool that writes a CA's name into the certificates below it is not the one that wrote its own.
#[test]
fn the_same_name_in_another_form_is_told_apart_from_another_name() {
    let (root_key, key) = (SoftKey::p256(), SoftKey::p256());
    let mut parts = Parts::usual(&root_key, &root_key);
    parts.rename(0x0c, b"Acme Root");
    let root = Certificate::parse(parts.self_signed(&root_key)).unwrap();
    let below = Parts::usual(&root_key, &key);
    for (issuer, difference) in [
        (
            string(0x13, b"Acme Root"),
            Some("CN is a PrintableString here, a UTF8String there"),
        ),
        (
            string(0x0c, b"ACME Root"),
            Some("CN is `ACME Root` here, `Acme Root` there"),
        ),
        (
            string(0x0c, b"Acme  Root"),
            Some("CN is `Acme  Root` here, `Acme Root` there"),
        ),
        (string(0x0c, b"Acme Roof"), None),
    ] {
        let der = below.below(&issuer, &root_key, &key);
        let path = [below.leaf(&key), der.clone(), root.der().to_vec()];
        let refusals = verifiers::refusals(&[path.to_vec()]).remove(0);
        assert!(!refusals.go.is_empty() && !refusals.rustls.is_empty());
        let issuing = Certificate::parse(der).unwrap();
        let anchors = [root.clone()];
        // In a given order, and where the order is ours to find.
        let (_, in_order) = fault(&[issuing.clone(), root.clone()], &anchors, now());
        let found = find_ca_path(&issuing, &anchors, &anchors, now()).unwrap_err();
        match difference {
            Some(difference) => {
                assert!(
                    matches!(&in_order, PathFault::NameEncoding { difference: told, .. } if told == difference),
                    "{in_order}"
                );
                assert!(found.to_string().contains(difference), "{found}");
            }
            None => {
                assert!(
                    matches!(in_order, PathFault::NotIssuedByNext { .. }),
                    "{in_order}"
                );
                assert!(!found.to_string().contains("another form"), "{found}");
            }
        }
    }
}

#[test]
fn a_root_of_8192_bits_is_used_and_a_longer_one_is_refused_with_its_size() {
    let pem = fixture("rsa-8192.pem");
    let chain = parse_pem_chain(&pem).unwrap();
    assert_eq!(chain[2].public_key().kind(), KeyKind::Rsa { bits: 8192 });
    find_ca_path(&chain[1], &chain[2..], &chain[2..], now()).unwrap();
    assert!(chain[2].objections(Position::Anchor).is_empty());
    let ders: Vec<Vec<u8>> = chain.iter().map(|each| each.der().to_vec()).collect();
    assert_eq!(openssl_accepts(&ders[2], &ders[1..2]), [true]);
    let refusals = verifiers::refusals(&[ders]).remove(0);
    assert_eq!(
        [refusals.go, refusals.boringssl, refusals.rustls],
        [""; 3],
        "all verify with 8192 bits"
    );

    let pem = fixture("rsa-8200.pem");
    let error = read_certificates(&pem).unwrap_err().to_string();
    assert!(error.contains("8200 bits"), "{error}");
    let blocks = blocks(&pem);
    let refusals = verifiers::refusals(&[blocks]).remove(0);
    assert!(!refusals.rustls.is_empty(), "what not all verify with");
}

#[test]
fn a_root_that_go_cannot_parse_is_named_for_go() {
    let root = parse_pem_chain(&fixture("printable-underscore.pem")).unwrap();
    let root = root.first().unwrap();
    let path = vec![root.der().to_vec(), root.der().to_vec()];
    let refusals = verifiers::refusals(&[path]).remove(0);
    assert!(refusals.go.contains("PrintableString"), "{}", refusals.go);
    let objections = root.objections(Position::Anchor);
    let of_go = objections
        .iter()
        .find(|each| each.verifier == Verifier::Go)
        .unwrap();
    assert!(
        of_go
            .why
            .contains("O is no valid PrintableString: O=Acme_Mesh"),
        "{}",
        of_go.why
    );
}
