//! Issued certificates, verified by others: `openssl verify -x509_strict`, webpki, x509-cert.

use std::path::Path;
use std::time::Duration;

use der::{Decode, Encode};
use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    CertError, Certificate, ExtendedKeyUsage, KeyKind, KeyUsage, PublicKey, San,
    SignatureAlgorithm, TrustBundle, TrustDomain, assemble, ca_name, check_request,
    parse_pem_chain, request_info,
};
use rustls_pki_types::{CertificateDer, UnixTime as PkiTime};

use crate::support::{BOTH, Ca, CaTerms, SoftKey, now, openssl, sans, tlv};

const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";
const KINDS: [KeyKind; 3] = [
    KeyKind::EcdsaP256,
    KeyKind::EcdsaP384,
    KeyKind::Rsa { bits: 2048 },
];

#[test]
fn openssl_strict_and_webpki_accept_every_shape() {
    let home = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let root = Ca::root("Root", CaTerms::usual(kind, Some(1)));
        let issuing = root.below("Issuing", CaTerms::usual(kind, Some(0)));
        let longer = Ca::root("Root without a limit", CaTerms::usual(kind, None));
        for leaf_kind in KINDS {
            let key = SoftKey::generate(leaf_kind).public_key();
            let names = [ID, "dns:bar.foo.svc", "ip:127.0.0.1", "ip:::1"];
            for count in 1..=names.len() {
                let leaf = issuing.leaf(&sans(&names[..count]), &key, BOTH);
                let chain = [&issuing.certificate];
                openssl_accepts(home.path(), &leaf, &chain, &root.certificate);
                webpki_accepts(&leaf, &chain, &root.certificate, true, true);
            }
            // A leaf directly below a root that signs leaves itself.
            let leaf = longer.leaf(&sans(&[ID]), &key, BOTH);
            openssl_accepts(home.path(), &leaf, &[], &longer.certificate);
            webpki_accepts(&leaf, &[], &longer.certificate, true, true);
        }
    }
}

#[test]
fn each_usage_alone_is_that_usage_alone() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let key = SoftKey::p256().public_key();
    for usage in [ExtendedKeyUsage::SERVER_AUTH, ExtendedKeyUsage::CLIENT_AUTH] {
        let server_auth = usage == ExtendedKeyUsage::SERVER_AUTH;
        let leaf = root.leaf(&sans(&[ID]), &key, usage);
        webpki_accepts(&leaf, &[], &root.certificate, server_auth, !server_auth);
    }
}

fn openssl_accepts(home: &Path, leaf: &Certificate, chain: &[&Certificate], root: &Certificate) {
    std::fs::write(home.join("leaf.pem"), leaf.to_pem()).unwrap();
    std::fs::write(home.join("root.pem"), root.to_pem()).unwrap();
    let between: String = chain
        .iter()
        .map(|certificate| certificate.to_pem())
        .collect();
    std::fs::write(home.join("chain.pem"), between).unwrap();
    for purpose in ["sslserver", "sslclient"] {
        let mut arguments = vec!["verify", "-x509_strict", "-purpose", purpose];
        arguments.extend(["-CAfile", "root.pem", "-no-CApath", "-no-CAstore"]);
        if !chain.is_empty() {
            arguments.extend(["-untrusted", "chain.pem"]);
        }
        arguments.push("leaf.pem");
        let message = openssl(&arguments, home).unwrap();
        assert!(message.contains("leaf.pem: OK"), "{message}");
    }
    let mut arguments = vec![
        "verify",
        "-x509_strict",
        "-check_ss_sig",
        "-CAfile",
        "root.pem",
    ];
    arguments.extend(["-no-CApath", "-no-CAstore", "root.pem"]);
    openssl(&arguments, home).unwrap();
}

fn webpki_accepts(
    leaf: &Certificate,
    chain: &[&Certificate],
    root: &Certificate,
    server: bool,
    client: bool,
) {
    let root_der = CertificateDer::from(root.der());
    let anchors = [webpki::anchor_from_trusted_cert(&root_der).unwrap()];
    let chain: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|certificate| CertificateDer::from(certificate.der()))
        .collect();
    let leaf_der = CertificateDer::from(leaf.der());
    let end = webpki::EndEntityCert::try_from(&leaf_der).unwrap();
    let at = PkiTime::since_unix_epoch(Duration::from_secs(now().secs() as u64));
    let verify = |usage| {
        end.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain,
            at,
            usage,
            None,
            None,
        )
        .map(drop)
    };
    let verified = verify(webpki::KeyUsage::server_auth());
    assert_eq!(verified.is_ok(), server, "server: {verified:?}");
    let verified = verify(webpki::KeyUsage::client_auth());
    assert_eq!(verified.is_ok(), client, "client: {verified:?}");
}

#[test]
fn a_leaf_says_exactly_what_rfc_5280_wants() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let names = sans(&[ID, "dns:bar.foo.svc", "ip:10.0.0.1"]);
    for kind in KINDS {
        let key = SoftKey::generate(kind).public_key();
        let leaf = root.leaf(&names, &key, BOTH);
        assert_eq!(leaf.subject_der(), b"\x30\x00");
        assert_eq!(leaf.subject(), "");
        assert_eq!(leaf.issuer(), "CN=Root,O=Rootbridge test");
        assert_eq!(leaf.names(), names);
        assert!(!leaf.has_other_names() && !leaf.is_ca() && leaf.path_len().is_none());
        assert_eq!(leaf.public_key(), &key);
        assert_eq!(leaf.subject_key_id(), Some(&key.key_id()[..]));
        assert_eq!(leaf.authority_key_id(), root.certificate.subject_key_id());
        assert_eq!(
            leaf.signature_algorithm(),
            Some(SignatureAlgorithm::EcdsaSha256)
        );
        let usage = leaf.key_usage().unwrap();
        assert!(usage.contains(KeyUsage::DIGITAL_SIGNATURE));
        let rsa = matches!(kind, KeyKind::Rsa { .. });
        assert_eq!(usage.contains(KeyUsage::KEY_ENCIPHERMENT), rsa);

        let reparsed = x509_cert::Certificate::from_der(leaf.der()).unwrap();
        assert_eq!(reparsed.to_der().unwrap(), leaf.der());
        let tbs = reparsed.tbs_certificate();
        assert_eq!(tbs.to_der().unwrap(), leaf.tbs_der());
        assert_eq!(tbs.serial_number().as_bytes(), leaf.serial().as_bytes());
        assert_eq!(leaf.serial().as_bytes().len(), 20);
        let critical: Vec<(String, bool)> = tbs
            .extensions()
            .unwrap()
            .iter()
            .map(|one| (one.extn_id.to_string(), one.critical))
            .collect();
        assert_eq!(
            critical,
            [
                ("2.5.29.15".into(), true),
                ("2.5.29.37".into(), false),
                ("2.5.29.19".into(), true),
                ("2.5.29.14".into(), false),
                ("2.5.29.35".into(), false),
                ("2.5.29.17".into(), true),
            ]
        );
    }
}

#[test]
fn times_after_2049_are_read_back() {
    let far = UnixTime::from_secs(2_600_000_000);
    let terms = CaTerms {
        not_after: far,
        ..CaTerms::usual(KeyKind::EcdsaP256, Some(0))
    };
    let root = Ca::root("Root", terms);
    assert_eq!(root.certificate.not_after(), far);
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("root.pem"), root.certificate.to_pem()).unwrap();
    let message = openssl(
        &["x509", "-in", "root.pem", "-noout", "-enddate"],
        home.path(),
    )
    .unwrap();
    assert!(message.contains(" 2052 GMT"), "{message}");
}

#[test]
fn a_request_for_the_enterprise_is_accepted_by_openssl() {
    let home = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let key = SoftKey::generate(kind);
        let subject = ca_name("Issuing", Some("Example")).unwrap();
        for path_len in [None, Some(0), Some(3)] {
            let info = request_info(&subject, &key.public_key(), path_len).unwrap();
            let signature = key.sign(&info);
            let der = assemble(&info, key.algorithm(), &signature).unwrap();
            let public = key.public_key();
            check_request(&der, &info, key.algorithm(), &signature, &public).unwrap();
            let other = SoftKey::p256().public_key();
            let error =
                check_request(&der, &info, key.algorithm(), &signature, &other).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("the token's signature does not verify"),
                "{error}"
            );
            std::fs::write(home.path().join("ca.csr"), &der).unwrap();
            let arguments = [
                "req", "-inform", "DER", "-in", "ca.csr", "-noout", "-verify", "-text",
            ];
            let message = openssl(&arguments, home.path()).unwrap();
            assert!(
                message.contains("verify OK") && message.contains("CA:TRUE"),
                "{message}"
            );
            assert!(message.contains("Certificate Sign, CRL Sign"), "{message}");
            if let Some(path_len) = path_len {
                assert!(
                    message.contains(&format!("pathlen:{path_len}")),
                    "{message}"
                );
            }
            let reparsed = x509_cert::request::CertReq::from_der(&der).unwrap();
            assert_eq!(reparsed.to_der().unwrap(), der);
        }
    }
}

#[test]
fn what_is_not_a_certificate() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, None));
    let der = root.certificate.der();
    let fault = |der: Vec<u8>| Certificate::parse(der).unwrap_err();
    assert!(matches!(
        fault([der, &[0]].concat()),
        CertError::Malformed(_)
    ));
    for cut in 0..der.len() {
        assert!(Certificate::parse(&der[..cut]).is_err());
    }
    assert!(assemble(b"\x30\x00\x00", SignatureAlgorithm::RsaSha256, b"x").is_err());
    assert!(assemble(b"\x30\x00", SignatureAlgorithm::RsaSha256, b"").is_err());
    // One signature algorithm inside, another outside.
    let outer = tlv(
        0x30,
        &[
            root.certificate.tbs_der(),
            SignatureAlgorithm::EcdsaSha384.der(),
            &tlv(0x03, &[&[0], root.certificate.signature()]),
        ],
    );
    assert_eq!(fault(outer), CertError::AlgorithmsDiffer);
    let chain = format!(
        "{}{}",
        root.certificate.to_pem(),
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    );
    let error = parse_pem_chain(chain.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("certificate 2 of the chain"), "{error}");
}

#[test]
fn a_bundle_in_each_of_its_forms() {
    let roots: Vec<Ca> = KINDS
        .iter()
        .map(|kind| Ca::root(&format!("Root {kind}"), CaTerms::usual(*kind, None)))
        .collect();
    let ders: Vec<Vec<u8>> = roots
        .iter()
        .map(|root| root.certificate.der().to_vec())
        .collect();
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let bundle = TrustBundle::new(domain.clone(), 7, ders.clone()).unwrap();
    let read = parse_pem_chain(bundle.to_pem().as_bytes()).unwrap();
    assert_eq!(read, bundle.anchors());

    let json: serde_json::Value =
        serde_json::from_str(&bundle.to_spiffe_json(Duration::from_secs(300))).unwrap();
    assert_eq!(json["spiffe_sequence"], 7);
    assert_eq!(json["spiffe_refresh_hint"], 300);
    let keys = json["keys"].as_array().unwrap();
    for (key, kty) in keys.iter().zip(["EC", "EC", "RSA"]) {
        assert_eq!(
            (&key["use"], &key["kty"]),
            (&"x509-svid".into(), &kty.into())
        );
        assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
    }
    assert_eq!(
        (&keys[0]["crv"], &keys[1]["crv"]),
        (&"P-256".into(), &"P-384".into())
    );
    assert_eq!(keys[0]["x"].as_str().unwrap().len(), 43);
    assert_eq!(keys[1]["y"].as_str().unwrap().len(), 64);
    assert_eq!(keys[2]["e"], "AQAB");
    // 256 octets: no leading zero.
    assert_eq!(keys[2]["n"].as_str().unwrap().len(), 342);

    let mut turned = ders.clone();
    turned.reverse();
    let turned = TrustBundle::new(domain.clone(), 7, turned).unwrap();
    assert_ne!(bundle.digest(), turned.digest());
    let later = TrustBundle::new(domain.clone(), 8, ders.clone()).unwrap();
    assert_eq!(bundle.digest(), later.digest());
    let error = TrustBundle::new(domain.clone(), 1, vec![]).unwrap_err();
    assert!(error.to_string().contains("would be empty"), "{error}");
    let twice = vec![ders[0].clone(), ders[1].clone(), ders[0].clone()];
    let error = TrustBundle::new(domain.clone(), 1, twice)
        .unwrap_err()
        .to_string();
    assert!(error.contains("anchor 3"), "{error}");
    let error = TrustBundle::new(domain, 1, vec![vec![0x30, 0]]).unwrap_err();
    assert!(
        error.to_string().contains("anchor 1 of the trust bundle"),
        "{error}"
    );
}

#[test]
fn the_key_identifier_is_rfc_7093s() {
    let key: PublicKey = SoftKey::p256().public_key();
    let point = &key.spki_der()[26..];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, point);
    assert_eq!(key.key_id(), hash.as_ref()[..20]);
    let names: Vec<San> = sans(&[ID]);
    assert_eq!(names[0].to_string(), ID);
}
