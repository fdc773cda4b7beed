//! The requests and certificates of Python's `cryptography`, among them many that are odd. They come
//! with PyPI's `cryptography_vectors`; without them these tests fail, they are never skipped:
//!
//!     python3 -m venv build/venv && build/venv/bin/pip install cryptography_vectors==50.0.2
//!
//! or ROOTBRIDGE_VECTORS names the installed package's directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use der::{Decode, Encode};
use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    Certificate, Csr, CsrError, PathError, PathFault, Serial, parse_pem_chain, verify_ca_path,
};

fn vectors() -> PathBuf {
    if let Some(given) = std::env::var_os("ROOTBRIDGE_VECTORS") {
        return given.into();
    }
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/venv/lib");
    std::fs::read_dir(&lib)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("site-packages/cryptography_vectors"))
        .find(|directory| directory.is_dir())
        .unwrap_or_else(|| {
            panic!(
                "no {}/python3*/site-packages/cryptography_vectors: run `python3 -m venv build/venv \
                 && build/venv/bin/pip install cryptography_vectors`, or name the package's \
                 directory in ROOTBRIDGE_VECTORS",
                lib.display()
            )
        })
}

fn files(directory: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = vectors().join(directory);
    std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

fn request(bytes: &[u8]) -> Result<Csr, CsrError> {
    if bytes[0] == 0x30 {
        Csr::from_der(bytes)
    } else {
        Csr::from_pem(bytes)
    }
}

/// What each request must come to: accepted, or refused with these words.
const REQUESTS: [(&str, Result<(), &str>); 26] = [
    ("bad-version.pem", Err("the version is not 0")),
    ("basic_constraints.pem", Err("text before or after")),
    (
        "challenge-invalid.der",
        Err("its value is not a text string"),
    ),
    (
        "challenge-multi-valued.der",
        Err("an attribute's values are empty or not sorted"),
    ),
    ("challenge-unstructured.pem", Ok(())),
    ("challenge.pem", Ok(())),
    ("dsa_sha1.der", Err("DSA is not supported")),
    ("dsa_sha1.pem", Err("DSA is not supported")),
    ("ec_sha256.der", Ok(())),
    ("ec_sha256.pem", Ok(())),
    ("ec_sha256_old_header.pem", Ok(())),
    ("freeipa-bad-critical.pem", Err("not canonical DER")),
    ("invalid_signature.pem", Err("RSA with 1024 bits")),
    (
        "long-form-attribute.pem",
        Err("its value is not a text string"),
    ),
    ("rsa_md4.der", Err("RSA with MD4")),
    ("rsa_md4.pem", Err("RSA with MD4")),
    ("rsa_sha1.der", Err("RSA with SHA-1")),
    ("rsa_sha1.pem", Err("RSA with SHA-1")),
    ("rsa_sha256.der", Ok(())),
    ("rsa_sha256.pem", Ok(())),
    ("san_rsa_sha1.der", Err("RSA with SHA-1")),
    ("san_rsa_sha1.pem", Err("RSA with SHA-1")),
    ("two_basic_constraints.pem", Err("text before or after")),
    ("unsupported_extension.pem", Err("text before or after")),
    (
        "unsupported_extension_critical.pem",
        Err("text before or after"),
    ),
    (
        "zero-element-attribute.pem",
        Err("an attribute's values are empty or not sorted"),
    ),
];

/// The same without the text that openssl writes before the block.
const BLOCKS: [(&str, &str); 4] = [
    ("basic_constraints.pem", "requests a CA certificate"),
    (
        "two_basic_constraints.pem",
        "extension 2.5.29.19 is requested twice",
    ),
    (
        "unsupported_extension.pem",
        "extension 1.2.3.4 is not allowed",
    ),
    (
        "unsupported_extension_critical.pem",
        "extension 1.2.3.4 is not allowed",
    ),
];

#[test]
fn every_request_comes_to_what_it_must() {
    let found = files("x509/requests");
    assert!(found.len() >= REQUESTS.len(), "{}", found.len());
    for (name, wanted) in REQUESTS {
        match (request(&found[name]), wanted) {
            (Ok(csr), Ok(())) => {
                let reparsed = x509_cert::request::CertReq::from_der(csr.der()).unwrap();
                assert_eq!(reparsed.to_der().unwrap(), csr.der());
            }
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{name}: {error}");
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
    for (name, words) in BLOCKS {
        let text = std::str::from_utf8(&found[name]).unwrap();
        let block = &text[text.find("-----BEGIN").unwrap()..];
        let error = request(block.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}

/// Some of the certificates that are refused, and with which words.
const REFUSED: [(&str, &str); 21] = [
    ("x509/badasn1time.pem", "UTCTime"),
    (
        "x509/cryptography.io.with_garbage.pem",
        "block \"PRIVATE KEY\"",
    ),
    ("x509/e-trust.ru.der", "1.2.643.2.2.19 is not supported"),
    (
        "x509/v1_cert.pem",
        "one signature algorithm inside and another outside",
    ),
    ("x509/verisign_md2_root.pem", "RSA with 1024 bits"),
    ("x509/wosign-bc-invalid.pem", "path length with CA:FALSE"),
    ("x509/custom/crl_all_reasons.pem", "block \"X509 CRL\""),
    (
        "x509/custom/crl_empty_no_sequence.der",
        "not well-formed DER",
    ),
    ("x509/custom/dsa_selfsigned_ca.pem", "DSA is not supported"),
    ("x509/custom/ec_no_named_curve.pem", "unnamed curve"),
    ("x509/custom/empty-eku.pem", "extKeyUsage extension"),
    ("x509/custom/invalid_version.pem", "not version 3"),
    (
        "x509/custom/mismatch_inner_outer_sig_algorithm.der",
        "one signature algorithm inside and another outside",
    ),
    (
        "x509/custom/negative_serial.pem",
        "serial number is negative",
    ),
    ("x509/custom/rsa_pss_cert.pem", "RSA restricted to PSS"),
    (
        "x509/custom/two_basic_constraints.pem",
        "extension 2.5.29.19 twice",
    ),
    (
        "x509/custom/unsupported_subject_public_key_info.pem",
        "is not supported",
    ),
    ("x509/custom/ca/rsa_key.pem", "block \"PRIVATE KEY\""),
    (
        "x509/PKITS_data/certs/InvalidNegativeSerialNumberTest15EE.crt",
        "negative",
    ),
    (
        "x509/PKITS_data/certs/DSACACert.crt",
        "DSA is not supported",
    ),
    ("x509/PKITS_data/certs/BadSignedCACert.crt", "whole octets"),
];

#[test]
fn every_certificate_is_parsed_as_by_another_parser_or_refused_for_a_reason() {
    let mut read = 0;
    let mut refused = BTreeMap::new();
    for directory in [
        "x509",
        "x509/custom",
        "x509/custom/ca",
        "x509/PKITS_data/certs",
    ] {
        for (name, bytes) in files(directory) {
            let parsed = if name.ends_with(".pem") {
                parse_pem_chain(&bytes)
            } else {
                Certificate::parse(bytes).map(|one| vec![one])
            };
            match parsed {
                Ok(certificates) => {
                    read += certificates.len();
                    certificates.iter().for_each(agrees);
                }
                Err(error) => {
                    refused.insert(format!("{directory}/{name}"), error.to_string());
                }
            }
        }
    }
    for (name, words) in REFUSED {
        let message = refused
            .get(name)
            .unwrap_or_else(|| panic!("{name} was read"));
        assert!(message.contains(words), "{name}: {message}");
    }
    assert!(read >= 490, "{read}");
    assert!(refused.len() <= 75, "{refused:#?}");
}

fn agrees(certificate: &Certificate) {
    let subject = certificate.subject();
    assert!(!subject.chars().any(char::is_control), "{subject}");
    let Ok(reparsed) = x509_cert::Certificate::from_der(certificate.der()) else {
        return;
    };
    let tbs = reparsed.tbs_certificate();
    let serial = Serial::from_bytes(tbs.serial_number().as_bytes()).unwrap();
    assert_eq!(&serial, certificate.serial());
    assert_eq!(tbs.subject().to_der().unwrap(), certificate.subject_der());
    assert_eq!(tbs.issuer().to_der().unwrap(), certificate.issuer_der());
    let end = tbs.validity().not_after.to_unix_duration().as_secs();
    assert_eq!(i64::try_from(end).unwrap(), certificate.not_after().secs());
}

/// NIST's path tests (PKITS), as far as they are about CAs, at a time when they are valid.
#[test]
fn nists_paths_of_cas() {
    let certificates = files("x509/PKITS_data/certs");
    let named = |name: &str| Certificate::parse(certificates[name].as_slice()).unwrap();
    let anchor = [named("TrustAnchorRootCertificate.crt")];
    let verify = |names: &[&str]| {
        let chain: Vec<Certificate> = names
            .iter()
            .map(|name| named(&format!("{name}Cert.crt")))
            .chain(anchor.clone())
            .collect();
        let at = UnixTime::from_secs(1_790_000_000);
        let verified = verify_ca_path(&chain, &anchor, at);
        // The anchor may be left out.
        assert_eq!(
            verify_ca_path(&chain[..names.len()], &anchor, at).is_ok(),
            verified.is_ok()
        );
        verified
    };
    for good in [
        &["GoodCA"][..],
        &["basicConstraintsNotCriticalCA"],
        &["keyUsageNotCriticalCA"],
        &["keyUsageCriticalcRLSignFalseCA"],
        &["pathLenConstraint0CA"],
        &["pathLenConstraint0SelfIssuedCA", "pathLenConstraint0CA"],
        &[
            "pathLenConstraint1SelfIssuedsubCA",
            "pathLenConstraint1subCA",
            "pathLenConstraint1SelfIssuedCA",
            "pathLenConstraint1CA",
        ],
        &[
            "pathLenConstraint6subsubsubCA41X",
            "pathLenConstraint6subsubCA41",
            "pathLenConstraint6subCA4",
            "pathLenConstraint6CA",
        ],
    ] {
        verify(good).unwrap_or_else(|error| panic!("{good:?}: {error}"));
    }
    let fault = |names: &[&str]| match verify(names) {
        Err(PathError::Certificate { index, fault, .. }) => (index, fault),
        other => panic!("{names:?}: {other:?}"),
    };
    assert!(matches!(
        fault(&["BadnotAfterDateCA"]),
        (1, PathFault::Expired { .. })
    ));
    assert!(matches!(
        fault(&["BadnotBeforeDateCA"]),
        (1, PathFault::NotYetValid { .. })
    ));
    for name in [
        "MissingbasicConstraintsCA",
        "basicConstraintsCriticalcAFalseCA",
        "basicConstraintsNotCriticalcAFalseCA",
    ] {
        assert_eq!(fault(&[name]), (1, PathFault::NotCa));
    }
    for name in [
        "keyUsageCriticalkeyCertSignFalseCA",
        "keyUsageNotCriticalkeyCertSignFalseCA",
    ] {
        assert_eq!(fault(&[name]), (1, PathFault::NoKeyCertSign));
    }
    for name in ["nameConstraintsURI1CA", "nameConstraintsURI2CA"] {
        assert_eq!(fault(&[name]), (1, PathFault::UriNameConstraint));
    }
    let too_small = (
        2,
        PathFault::PathLength {
            allowed: 0,
            needed: 1,
        },
    );
    assert_eq!(
        fault(&["pathLenConstraint0subCA", "pathLenConstraint0CA"]),
        too_small
    );
    let below_zero = [
        "pathLenConstraint6subsubCA00",
        "pathLenConstraint6subCA0",
        "pathLenConstraint6CA",
    ];
    assert_eq!(fault(&below_zero), too_small);
    let below_one = [
        "pathLenConstraint6subsubsubCA11X",
        "pathLenConstraint6subsubCA11",
        "pathLenConstraint6subCA1",
        "pathLenConstraint6CA",
    ];
    assert_eq!(
        fault(&below_one),
        (
            3,
            PathFault::PathLength {
                allowed: 1,
                needed: 2
            }
        )
    );
    // The right CAs in the wrong order.
    let turned = ["pathLenConstraint0CA", "pathLenConstraint0SelfIssuedCA"];
    assert_eq!(fault(&turned), (1, PathFault::WrongOrder { issuer: 3 }));
}
