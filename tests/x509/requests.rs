//! Requests as real clients make them: rcgen, and the openssl command, with every kind of key.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rootbridge::x509::{Csr, CsrError, CsrSubject, KeyError, KeyKind};

use crate::support::{Request, SoftKey, attribute, oid, openssl, sans, tlv, uri_san};

const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names
        .iter()
        .map(|name| SanType::URI((*name).try_into().unwrap()))
        .collect();
    params
}

#[test]
fn rcgen_with_every_kind_of_key() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::EcdsaP256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::EcdsaP384),
        (&rcgen::PKCS_ECDSA_P521_SHA256, KeyKind::EcdsaP521),
        (&rcgen::PKCS_ECDSA_P521_SHA384, KeyKind::EcdsaP521),
        (&rcgen::PKCS_ECDSA_P521_SHA512, KeyKind::EcdsaP521),
        (&rcgen::PKCS_RSA_SHA256, KeyKind::Rsa { bits: 2048 }),
        (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = params(&[ID]).serialize_request(&key).unwrap();
        let csr = Csr::from_der(request.der()).unwrap();
        assert_eq!(csr.public_key().kind(), kind);
        assert_eq!(csr.names(), sans(&[ID]));
        assert_eq!(csr.subject(), &CsrSubject::Empty);
        assert_eq!(csr.der(), request.der().as_ref());
        let pem = request.pem().unwrap();
        assert_eq!(
            Csr::from_pem(pem.as_bytes()).unwrap().der(),
            request.der().as_ref()
        );
    }
}

#[test]
fn a_named_subject_and_several_names_are_reported() {
    let key = KeyPair::generate().unwrap();
    let mut params = params(&[ID]);
    params.distinguished_name.push(DnType::CommonName, "bar");
    params
        .subject_alt_names
        .push(SanType::DnsName("Bar.foo.svc".try_into().unwrap()));
    params
        .subject_alt_names
        .push(SanType::IpAddress("10.0.0.1".parse().unwrap()));
    params
        .subject_alt_names
        .push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
    let csr = Csr::from_der(params.serialize_request(&key).unwrap().der()).unwrap();
    assert_eq!(csr.subject(), &CsrSubject::Named("CN=bar".into()));
    assert_eq!(
        csr.names(),
        sans(&[ID, "dns:bar.foo.svc", "ip:10.0.0.1", "ip:2001:db8::1"])
    );
}

/// Istio's Go client: one RDN, `O` with an empty string, and one critical URI.
#[test]
fn istios_empty_organization_is_an_empty_subject() {
    let key = SoftKey::p256();
    let mut request = Request::of(&key, &[uri_san(ID)]);
    request.subject = tlv(
        0x30,
        &[&tlv(
            0x31,
            &[&tlv(0x30, &[b"\x06\x03\x55\x04\x0a\x13\x00"])],
        )],
    );
    let csr = Csr::from_der(&request.signed(&key)).unwrap();
    assert_eq!(csr.subject(), &CsrSubject::Empty);
    assert_eq!(csr.names(), sans(&[ID]));
}

#[test]
fn no_names_at_all_and_harmless_attributes_pass() {
    let key = SoftKey::p256();
    let mut request = Request::of(&key, &[uri_san(ID)]);
    request.attributes.clear();
    assert!(
        Csr::from_der(&request.signed(&key))
            .unwrap()
            .names()
            .is_empty()
    );
    // challengePassword, which sorts before extensionRequest.
    let with_password = |values: &[&[u8]]| {
        let challenge = attribute(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07", values);
        let mut request = Request::of(&key, &[uri_san(ID)]);
        request.attributes.insert(0, challenge);
        Csr::from_der(&request.signed(&key))
    };
    for password in [&b"\x0c\x02\xc3\xa4"[..], b"\x13\x01x", b"\x14\x01x"] {
        assert_eq!(with_password(&[password]).unwrap().names(), sans(&[ID]));
    }
    // What is not one string is no password; other parsers refuse the whole request for it.
    for values in [
        &[&b"\x0c\x01\xff"[..]][..],
        &[b"\x13\x01*"],
        &[b"\x7f\x20\x00"],
        &[b"\x05\x00"],
        &[b"\x0c\x01x", b"\x0c\x01y"],
    ] {
        let error = with_password(values).unwrap_err().to_string();
        assert!(error.contains("challengePassword"), "{error}");
    }
}

#[test]
fn every_extension_that_may_be_asked_for() {
    use crate::support::extension;
    let key = SoftKey::p256();
    let list = [
        uri_san(ID),
        extension(oid::KEY_USAGE, true, b"\x03\x02\x05\xa0"),
        extension(
            oid::EKU,
            false,
            &tlv(0x30, &[b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"]),
        ),
        extension(oid::BASIC, true, b"\x30\x00"),
        extension(oid::SKI, false, &tlv(0x04, &[&[7; 20]])),
    ];
    assert_eq!(
        Csr::from_der(&Request::of(&key, &list).signed(&key))
            .unwrap()
            .names(),
        sans(&[ID])
    );
}

#[test]
fn the_openssl_command_with_every_kind_of_key_and_hash() {
    let home = tempfile::tempdir().unwrap();
    let curve = |name: &'static str| ["-newkey", "ec", "-pkeyopt", name];
    let p256 = curve("ec_paramgen_curve:P-256");
    let p384 = curve("ec_paramgen_curve:P-384");
    let p521 = curve("ec_paramgen_curve:P-521");
    let cases: Vec<(&[&str], KeyKind)> = vec![
        (&p256, KeyKind::EcdsaP256),
        (&p384, KeyKind::EcdsaP384),
        (&p521, KeyKind::EcdsaP521),
        (&["-newkey", "rsa:2048"], KeyKind::Rsa { bits: 2048 }),
        (&["-newkey", "rsa:3072"], KeyKind::Rsa { bits: 3072 }),
        (&["-newkey", "rsa:4096"], KeyKind::Rsa { bits: 4096 }),
        (&["-newkey", "ed25519"], KeyKind::Ed25519),
    ];
    for (key, kind) in cases {
        // The key is made once, with the first request.
        openssl_request(home.path(), key, &[]).unwrap();
        let key = &["-key", "key.pem"][..];
        for hash in ["-sha256", "-sha384", "-sha512"] {
            let csr = openssl_request(home.path(), key, &[hash]).unwrap();
            assert_eq!(csr.public_key().kind(), kind);
            assert_eq!(csr.names(), sans(&[ID]));
        }
        if kind != KeyKind::Ed25519 {
            let error = openssl_request(home.path(), key, &["-sha1"]).unwrap_err();
            assert!(matches!(error, CsrError::Algorithm(_)), "{error}");
            assert!(error.to_string().contains("SHA-1"), "{error}");
        }
    }
}

#[test]
fn the_openssl_command_with_keys_that_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path();
    let refused = |key: &[&str], more: &[&str]| openssl_request(path, key, more).unwrap_err();
    for (key, part) in [
        (&["-newkey", "rsa:1024"][..], "1024 bits"),
        (&["-newkey", "rsa:4104"], "4104 bits"),
        (
            &["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
            "exponent 3",
        ),
        (
            &["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:257"],
            "exponent 257",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-224"],
            "curve 1.3.132.0.33",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            "curve 1.3.132.0.10",
        ),
        (
            &[
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:brainpoolP256r1",
            ],
            "curve 1.3.36.3.3.2.8.1.1.7",
        ),
        (
            &[
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-pkeyopt",
                "ec_param_enc:explicit",
            ],
            "unnamed curve",
        ),
        (&["-newkey", "ed448"], "Ed448"),
        (&["-newkey", "rsa-pss"], "PSS"),
    ] {
        let error = refused(key, &[]);
        assert!(matches!(error, CsrError::Key(_)), "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let pss = refused(
        &["-newkey", "rsa:2048"],
        &["-sigopt", "rsa_padding_mode:pss"],
    );
    assert!(pss.to_string().contains("RSA-PSS"), "{pss}");

    openssl(
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "ec.pem",
        ],
        path,
    )
    .unwrap();
    openssl(
        &[
            "ec",
            "-in",
            "ec.pem",
            "-conv_form",
            "compressed",
            "-out",
            "short.pem",
        ],
        path,
    )
    .unwrap();
    let error = refused(&["-key", "short.pem"], &[]);
    assert_eq!(error, CsrError::Key(KeyError::CompressedPoint));

    openssl(
        &["dsaparam", "-genkey", "-noout", "-out", "dsa.pem", "1024"],
        path,
    )
    .unwrap();
    let error = refused(&["-key", "dsa.pem"], &[]);
    assert!(error.to_string().contains("DSA"), "{error}");
}

fn openssl_request(home: &std::path::Path, key: &[&str], more: &[&str]) -> Result<Csr, CsrError> {
    let san = format!("subjectAltName=critical,URI:{ID}");
    let mut arguments = vec!["req", "-new", "-subj", "/"];
    if key[0] != "-key" {
        arguments.extend(["-nodes", "-keyout", "key.pem"]);
    }
    arguments.extend(["-addext", &san, "-out", "csr.pem"]);
    arguments.extend(key);
    arguments.extend(more);
    openssl(&arguments, home).unwrap();
    Csr::from_pem(&std::fs::read(home.join("csr.pem")).unwrap())
}
