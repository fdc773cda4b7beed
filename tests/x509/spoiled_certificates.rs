//! The check before a release, field by field: each certificate differs from its grant in one field,
//! is signed as the grant was, and is refused for that field. The encoder makes no such certificate, so
//! they are made by hand.

use std::sync::Arc;

use rootbridge::x509::{
    Certificate, CertificateSpec, ExtendedKeyUsage, IssuedError, KeyKind, Serial, SubjectSpec,
    ca_name, check_issued,
};

use crate::support::{BOTH, Ca, CaTerms, DAY, ID, SoftKey, extension, now, oid, sans, tlv};

const AKI: &[u8] = b"\x55\x1d\x23";
/// Of an extension that nothing reads.
const UNKNOWN: &[u8] = b"\x2a\x03\x04";
const SERVER: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x02";

/// A TBSCertificate in its parts.
#[derive(Clone)]
struct Parts {
    /// Up to the subjectPublicKeyInfo.
    fields: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

impl Parts {
    fn of(tbs: &[u8]) -> Self {
        let mut fields = elements(contents(tbs));
        let list = fields.pop().unwrap();
        Self {
            fields,
            extensions: elements(contents(contents(&list))),
        }
    }

    fn tbs(&self) -> Vec<u8> {
        let list = tlv(0xa3, &[&tlv(0x30, &[&self.extensions.concat()])]);
        tlv(0x30, &[&self.fields.concat(), &list])
    }

    /// Replaces the extension of this OID.
    fn replace(&mut self, oid: &[u8], with: Vec<u8>) {
        let head = tlv(0x06, &[oid]);
        let is_it = |each: &&mut Vec<u8>| contents(each).starts_with(&head);
        *self.extensions.iter_mut().find(is_it).unwrap() = with;
    }

    /// Replaces the extension of this OID by one that nothing reads: the number stays.
    fn remove(&mut self, oid: &[u8]) {
        self.replace(oid, extension(UNKNOWN, false, b""));
    }
}

/// The contents of the first element.
fn contents(der: &[u8]) -> &[u8] {
    let (head, length) = lengths(der);
    &der[head..head + length]
}

fn elements(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (head, length) = lengths(der);
        let (one, rest) = der.split_at(head + length);
        all.push(one.to_vec());
        der = rest;
    }
    all
}

/// The lengths of the first element's head and of its contents.
fn lengths(der: &[u8]) -> (usize, usize) {
    match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        short => (2, usize::from(short)),
    }
}

/// The verdict on the certificate of `good` after `change`, with a valid signature over its bytes.
fn verdict(
    root: &Ca,
    good: &CertificateSpec,
    change: impl FnOnce(&mut Parts),
) -> Result<(), IssuedError> {
    let mut parts = Parts::of(&good.to_tbs().unwrap());
    change(&mut parts);
    let tbs = parts.tbs();
    let certificate = Certificate::parse(root.key.seal(&tbs)).unwrap();
    check_issued(&certificate, &tbs, good)
}

type Change = fn(&mut Parts);

fn each_is_refused(root: &Ca, good: &CertificateSpec, changes: &[(&'static str, Change)]) {
    assert_eq!(verdict(root, good, |_| {}), Ok(()), "unchanged");
    for (index, (field, change)) in changes.iter().enumerate() {
        assert_eq!(
            verdict(root, good, change),
            Err(IssuedError::Differs { field }),
            "row {index}"
        );
    }
}

fn leaf(root: &Ca, key: &SoftKey) -> CertificateSpec {
    CertificateSpec {
        serial: Serial::new(now()),
        issuer: Arc::new(root.identity()),
        not_before: now(),
        not_after: now().plus(DAY),
        names: sans(&[ID]),
        public_key: key.public_key(),
        subject: SubjectSpec::EndEntity(BOTH),
    }
}

fn root() -> Ca {
    Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, Some(1)))
}

fn uri() -> Vec<u8> {
    tlv(0x86, &[ID.as_bytes()])
}

fn purposes(all: &[&[u8]]) -> Vec<u8> {
    let all: Vec<_> = all.iter().map(|purpose| tlv(0x06, &[purpose])).collect();
    extension(oid::EKU, false, &tlv(0x30, &[&all.concat()]))
}

const SERIAL: usize = 1;
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const KEY: usize = 6;

#[test]
fn a_spoiled_leaf_is_not_released() {
    let root = root();
    let good = leaf(&root, &SoftKey::p256());
    each_is_refused(
        &root,
        &good,
        &[
            ("serialNumber", |parts| {
                *parts.fields[SERIAL].last_mut().unwrap() ^= 1;
            }),
            ("issuer", |parts| {
                parts.fields[ISSUER] = ca_name("x", None).unwrap()
            }),
            ("notBefore", |parts| {
                one_digit_more(&mut parts.fields[VALIDITY], 0)
            }),
            ("notAfter", |parts| {
                one_digit_more(&mut parts.fields[VALIDITY], 1)
            }),
            ("subject", |parts| {
                parts.fields[SUBJECT] = ca_name("x", None).unwrap()
            }),
            ("subjectPublicKeyInfo", |parts| {
                parts.fields[KEY] = SoftKey::p256().public_key().spki_der().to_vec();
            }),
            // subjectAltName: another, more, none, and kinds that are no name of ours.
            ("subjectAltName", |parts| {
                parts.replace(oid::SAN, names(true, &[tlv(0x86, &[b"spiffe://td/x"])]));
            }),
            ("subjectAltName", |parts| {
                parts.replace(oid::SAN, names(true, &[uri(), tlv(0x82, &[b"a.example"])]));
            }),
            ("subjectAltName", |parts| {
                parts.replace(
                    oid::SAN,
                    names(true, &[uri(), tlv(0x81, &[b"a@a.example"])]),
                );
            }),
            ("subjectAltName", |parts| {
                parts.replace(oid::SAN, names(true, &[uri(), tlv(0x82, &[b"*.example"])]));
            }),
            ("subjectAltName", |parts| {
                parts.replace(oid::SAN, names(true, &[uri(), tlv(0x86, &[b"https://a"])]));
            }),
            ("subjectAltName", |parts| parts.remove(oid::SAN)),
            ("subjectAltName's criticality", |parts| {
                parts.replace(oid::SAN, names(false, &[uri()]));
            }),
            ("subjectKeyIdentifier", |parts| {
                parts.replace(
                    oid::SKI,
                    extension(oid::SKI, false, &tlv(0x04, &[&[7; 20]])),
                );
            }),
            ("subjectKeyIdentifier", |parts| parts.remove(oid::SKI)),
            ("authorityKeyIdentifier", |parts| {
                let id = tlv(0x30, &[&tlv(0x80, &[&[7; 20]])]);
                parts.replace(AKI, extension(AKI, false, &id));
            }),
            ("authorityKeyIdentifier", |parts| parts.remove(AKI)),
            ("basicConstraints", |parts| {
                let ca = tlv(0x30, &[b"\x01\x01\xff"]);
                parts.replace(oid::BASIC, extension(oid::BASIC, true, &ca));
            }),
            ("basicConstraints", |parts| parts.remove(oid::BASIC)),
            // keyUsage with keyEncipherment, with keyCertSign, with another bit, and none.
            ("keyUsage", |parts| key_usage(parts, b"\x05\xa0")),
            ("keyUsage", |parts| key_usage(parts, b"\x02\x84")),
            ("keyUsage", |parts| key_usage(parts, b"\x06\x40")),
            ("keyUsage", |parts| parts.remove(oid::KEY_USAGE)),
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[SERVER]))
            }),
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[CLIENT]))
            }),
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[SERVER, CLIENT, b"\x55\x1d\x25\x00"]));
            }),
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[SERVER, CLIENT, UNKNOWN]));
            }),
            ("extKeyUsage", |parts| parts.remove(oid::EKU)),
            ("number of extensions", |parts| {
                parts.extensions.push(extension(UNKNOWN, false, b""));
            }),
        ],
    );
}

/// keyEncipherment is for RSA keys (RFC 8813 §3), and with them it is expected.
#[test]
fn the_key_usage_is_that_of_the_kind_of_key() {
    let root = root();
    let good = leaf(&root, &SoftKey::generate(KeyKind::Rsa { bits: 2048 }));
    each_is_refused(
        &root,
        &good,
        &[
            ("keyUsage", |parts| key_usage(parts, b"\x07\x80")),
            ("keyUsage", |parts| key_usage(parts, b"\x05\x20")),
        ],
    );
}

#[test]
fn a_spoiled_ca_is_not_released() {
    let root = root();
    let plain = CertificateSpec {
        names: Vec::new(),
        subject: SubjectSpec::Ca {
            name_der: ca_name("below", None).unwrap(),
            path_len: Some(0),
        },
        ..leaf(&root, &SoftKey::p256())
    };
    let changes: &[(&str, Change)] = &[
        ("subject", |parts| {
            parts.fields[SUBJECT] = ca_name("x", None).unwrap()
        }),
        ("subject", |parts| parts.fields[SUBJECT] = tlv(0x30, &[])),
        ("keyUsage", |parts| key_usage(parts, b"\x02\x04")),
        ("keyUsage", |parts| key_usage(parts, b"\x01\x02")),
        ("keyUsage", |parts| key_usage(parts, b"\x01\x86")),
        ("keyUsage", |parts| parts.remove(oid::KEY_USAGE)),
        ("basicConstraints", |parts| basic(parts, b"\x01\x01\xff")),
        ("basicConstraints", |parts| {
            basic(parts, b"\x01\x01\xff\x02\x01\x01")
        }),
        ("basicConstraints", |parts| basic(parts, b"")),
        ("basicConstraints", |parts| parts.remove(oid::BASIC)),
        ("extKeyUsage", |parts| {
            parts.extensions.push(purposes(&[SERVER]))
        }),
        ("number of extensions", |parts| {
            parts.extensions.push(extension(UNKNOWN, false, b""));
        }),
        ("number of extensions", |parts| {
            let subtree = tlv(0x30, &[&tlv(0x82, &[b"a.example"])]);
            let permitted = tlv(0x30, &[&tlv(0xa0, &[&subtree])]);
            parts
                .extensions
                .push(extension(oid::NAME_CONSTRAINTS, true, &permitted));
        }),
    ];
    each_is_refused(&root, &plain, changes);
    each_is_refused(
        &root,
        &plain,
        &[("subjectAltName", |parts| {
            parts
                .extensions
                .push(names(false, &[tlv(0x82, &[b"a.example"])]));
        })],
    );
    let unlimited = CertificateSpec {
        subject: SubjectSpec::Ca {
            name_der: ca_name("below", None).unwrap(),
            path_len: None,
        },
        ..plain.clone()
    };
    each_is_refused(
        &root,
        &unlimited,
        &[("basicConstraints", |parts| {
            basic(parts, b"\x01\x01\xff\x02\x01\x00")
        })],
    );

    let named = CertificateSpec {
        names: sans(&["dns:a.example"]),
        ..plain
    };
    each_is_refused(&root, &named, changes);
    let dns = || tlv(0x82, &[b"a.example"]);
    assert_eq!(
        verdict(&root, &named, |parts| parts
            .replace(oid::SAN, names(true, &[dns()]))),
        Err(IssuedError::Differs {
            field: "subjectAltName's criticality"
        })
    );
}

/// The last second of the issuer's path is the last that a certificate may have.
#[test]
fn a_certificate_may_end_with_its_issuer_and_not_after() {
    let root = root();
    let mut good = leaf(&root, &SoftKey::p256());
    let end = good.not_after;
    Arc::make_mut(&mut good.issuer).not_after = Some(end);
    assert_eq!(verdict(&root, &good, |_| {}), Ok(()));
    Arc::make_mut(&mut good.issuer).not_after = Some(end.minus(std::time::Duration::from_secs(1)));
    assert_eq!(
        verdict(&root, &good, |_| {}),
        Err(IssuedError::OutlivesIssuer)
    );
    Arc::make_mut(&mut good.issuer).not_after = None;
    assert_eq!(verdict(&root, &good, |_| {}), Ok(()));
}

/// A server's certificate with only one purpose.
#[test]
fn one_purpose_is_not_both() {
    let root = root();
    let good = CertificateSpec {
        subject: SubjectSpec::EndEntity(ExtendedKeyUsage::SERVER_AUTH),
        ..leaf(&root, &SoftKey::p256())
    };
    each_is_refused(
        &root,
        &good,
        &[
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[SERVER, CLIENT]))
            }),
            ("extKeyUsage", |parts| {
                parts.replace(oid::EKU, purposes(&[CLIENT]))
            }),
        ],
    );
}

fn names(critical: bool, all: &[Vec<u8>]) -> Vec<u8> {
    extension(oid::SAN, critical, &tlv(0x30, &[&all.concat()]))
}

fn key_usage(parts: &mut Parts, bits: &[u8]) {
    parts.replace(
        oid::KEY_USAGE,
        extension(oid::KEY_USAGE, true, &tlv(0x03, &[bits])),
    );
}

fn basic(parts: &mut Parts, fields: &[u8]) {
    parts.replace(
        oid::BASIC,
        extension(oid::BASIC, true, &tlv(0x30, &[fields])),
    );
}

/// Changes the minute of the first or second time (`YYMMDDHHMMSSZ`).
fn one_digit_more(validity: &mut [u8], which: usize) {
    // The sequence's head, then for each time a head and 13 characters.
    let digit = 2 + which * 15 + 2 + 9;
    validity[digit] = if validity[digit] == b'9' {
        b'8'
    } else {
        validity[digit] + 1
    };
}
