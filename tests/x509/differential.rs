//! The same certificates and files read by Go, OpenSSL, webpki, Python's `cryptography` and us: what
//! all of them take, we take; what one of them refuses, we name.
//!
//! A few hundred seeded variants; ROOTBRIDGE_DIFFERENTIAL=5000 makes so many.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::x509::{Certificate, KeyKind, Position, Verifier, to_pem, verify_ca_path};
use rootbridge_test_support::files::repository;
use rootbridge_test_support::random::SplitMix64;
use serde_json::{Value, json};

use crate::support::{Ca, CaTerms, SoftKey, extension, now, oid, openssl, tlv};

const AKI: &[u8] = b"\x55\x1d\x23";
const POLICIES: &[u8] = b"\x55\x1d\x20";
const AIA: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x01\x01";

/// The parts of a CA certificate below the root.
struct Parts {
    serial: Vec<u8>,
    name: Vec<u8>,
    not_after: Vec<u8>,
    unique_id: Vec<u8>,
    extensions: Vec<(&'static str, Vec<u8>)>,
}

impl Parts {
    fn usual(root: &Ca, key: &SoftKey) -> Self {
        let id = key.public_key().key_id();
        let above = root.certificate.subject_key_id().unwrap().to_vec();
        Self {
            serial: vec![5],
            name: string(0x0c, b"Issuing"),
            not_after: tlv(0x17, &[b"491231235959Z"]),
            unique_id: Vec::new(),
            extensions: vec![
                (
                    "BC",
                    extension(oid::BASIC, true, b"\x30\x06\x01\x01\xff\x02\x01\x00"),
                ),
                ("KU", extension(oid::KEY_USAGE, true, b"\x03\x02\x01\x06")),
                ("SKI", extension(oid::SKI, false, &tlv(0x04, &[&id]))),
                (
                    "AKI",
                    extension(AKI, false, &tlv(0x30, &[&tlv(0x80, &[&above])])),
                ),
            ],
        }
    }

    fn set(&mut self, name: &'static str, value: Option<Vec<u8>>) {
        self.extensions.retain(|(known, _)| *known != name);
        self.extensions.extend(value.map(|value| (name, value)));
    }

    fn der(&self, root: &Ca, key: &SoftKey) -> Vec<u8> {
        const ECDSA: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        let list: Vec<&[u8]> = self.extensions.iter().map(|(_, each)| &**each).collect();
        let validity = tlv(0x30, &[&tlv(0x17, &[b"250101000000Z"]), &self.not_after]);
        root.key.seal(&tlv(
            0x30,
            &[
                &tlv(0xa0, &[b"\x02\x01\x02"]),
                &tlv(0x02, &[&self.serial]),
                ECDSA,
                root.certificate.subject_der(),
                &validity,
                &self.name,
                key.public_key().spki_der(),
                &self.unique_id,
                &tlv(0xa3, &[&tlv(0x30, &list)]),
            ],
        ))
    }
}

fn string(tag: u8, value: &[u8]) -> Vec<u8> {
    let attribute = tlv(0x30, &[&tlv(0x06, &[b"\x55\x04\x03"]), &tlv(tag, &[value])]);
    tlv(0x30, &[&tlv(0x31, &[&attribute])])
}

pub(crate) struct Random(pub(crate) SplitMix64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next() % limit as u64).unwrap()
    }
}

type Change = (&'static str, fn(&mut Parts));

fn constraint(critical: bool, kind: u8, base: &[u8]) -> Option<Vec<u8>> {
    let subtree = tlv(0x30, &[&tlv(kind, &[base])]);
    let value = tlv(0x30, &[&tlv(0xa0, &[&subtree])]);
    Some(extension(oid::NAME_CONSTRAINTS, critical, &value))
}

/// Each alone and in pairs.
const CHANGES: &[Change] = &[
    ("serial 0", |p| p.serial = vec![0]),
    ("negative serial", |p| p.serial = vec![0x9e, 1]),
    ("serial of 20 octets", |p| p.serial = vec![0x61; 20]),
    ("serial with a redundant zero", |p| p.serial = vec![0, 5]),
    ("printable", |p| p.name = string(0x13, b"Issuing CA (1)")),
    ("printable _", |p| p.name = string(0x13, b"Issuing_CA")),
    ("UTF-8", |p| {
        p.name = string(0x0c, "Ausstellende Stelle Ä".as_bytes())
    }),
    ("bad UTF-8", |p| p.name = string(0x0c, b"a\xff")),
    ("IA5", |p| p.name = string(0x16, b"ca@example")),
    ("IA5 not ASCII", |p| p.name = string(0x16, b"a\xe9")),
    ("BMP", |p| p.name = string(0x1e, b"\0A\0B")),
    ("odd BMP", |p| p.name = string(0x1e, b"\0A\0")),
    ("BMP surrogate", |p| p.name = string(0x1e, b"\xd8\0\0A")),
    ("numeric with letters", |p| p.name = string(0x12, b"a1")),
    ("universal", |p| p.name = string(0x1c, b"\0\0\0A")),
    ("visible", |p| p.name = string(0x1a, b"A")),
    ("empty subject", |p| p.name = tlv(0x30, &[])),
    ("unique id", |p| p.unique_id = tlv(0x82, &[b"\0\x01"])),
    ("GeneralizedTime", |p| {
        p.not_after = tlv(0x18, &[b"20480101000000Z"])
    }),
    ("year 9999", |p| {
        p.not_after = tlv(0x18, &[b"99991231235959Z"])
    }),
    ("time with an offset", |p| {
        p.not_after = tlv(0x17, &[b"491231235959+0100"])
    }),
    ("time without seconds", |p| {
        p.not_after = tlv(0x17, &[b"4912312359Z"])
    }),
    ("BC not critical", |p| {
        p.set(
            "BC",
            Some(extension(oid::BASIC, false, b"\x30\x03\x01\x01\xff")),
        );
    }),
    ("no BC", |p| p.set("BC", None)),
    ("BC false", |p| {
        p.set("BC", Some(extension(oid::BASIC, true, b"\x30\x00")))
    }),
    ("no path length", |p| {
        p.set(
            "BC",
            Some(extension(oid::BASIC, true, b"\x30\x03\x01\x01\xff")),
        );
    }),
    ("negative path length", |p| {
        p.set(
            "BC",
            Some(extension(
                oid::BASIC,
                true,
                b"\x30\x06\x01\x01\xff\x02\x01\xff",
            )),
        );
    }),
    ("no KU", |p| p.set("KU", None)),
    ("KU not critical", |p| {
        p.set(
            "KU",
            Some(extension(oid::KEY_USAGE, false, b"\x03\x02\x01\x86")),
        );
    }),
    ("KU without keyCertSign", |p| {
        p.set(
            "KU",
            Some(extension(oid::KEY_USAGE, true, b"\x03\x02\x07\x80")),
        );
    }),
    ("no SKI", |p| p.set("SKI", None)),
    ("SKI critical", |p| {
        p.set("SKI", Some(extension(oid::SKI, true, b"\x04\x01\x01")))
    }),
    ("no AKI", |p| p.set("AKI", None)),
    ("AKI critical", |p| {
        p.set("AKI", Some(extension(AKI, true, b"\x30\x00")))
    }),
    ("EKU server", |p| {
        let eku = tlv(0x30, &[&tlv(0x06, &[b"\x2b\x06\x01\x05\x05\x07\x03\x01"])]);
        p.set("EKU", Some(extension(oid::EKU, false, &eku)));
    }),
    ("EKU any", |p| {
        let eku = tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x25\x00"])]);
        p.set("EKU", Some(extension(oid::EKU, false, &eku)));
    }),
    ("policies", |p| {
        let any = tlv(0x30, &[&tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x20\x00"])])]);
        p.set("CP", Some(extension(POLICIES, false, &any)));
    }),
    ("policies critical", |p| {
        let any = tlv(0x30, &[&tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x20\x00"])])]);
        p.set("CP", Some(extension(POLICIES, true, &any)));
    }),
    ("policies malformed", |p| {
        p.set("CP", Some(extension(POLICIES, false, b"\x30\x02\x05\x00")))
    }),
    ("AIA critical", |p| {
        let uri = tlv(0x86, &[b"http://ca.example/ca.cer"]);
        let method = tlv(0x06, &[b"\x2b\x06\x01\x05\x05\x07\x30\x02"]);
        let list = tlv(0x30, &[&tlv(0x30, &[&method, &uri])]);
        p.set("AIA", Some(extension(AIA, true, &list)));
    }),
    ("AIA malformed", |p| {
        p.set("AIA", Some(extension(AIA, false, b"\x05\x00")))
    }),
    ("unknown", |p| {
        p.set("X", Some(extension(b"\x2a\x03\x04", false, b"\x05\x00")))
    }),
    ("unknown critical", |p| {
        p.set("X", Some(extension(b"\x2a\x03\x04", true, b"\x05\x00")))
    }),
    ("twice", |p| {
        let ku = extension(oid::KEY_USAGE, true, b"\x03\x02\x01\x06");
        p.extensions.push(("KU 2", ku));
    }),
    ("NC DNS", |p| {
        p.set("NC", constraint(true, 0x82, b"corp.example"))
    }),
    ("NC bad DNS", |p| {
        p.set("NC", constraint(true, 0x82, b"corp..example"))
    }),
    ("NC bad mask", |p| {
        p.set("NC", constraint(true, 0x87, &[10, 0, 0, 0, 255, 0, 255, 0]))
    }),
    ("NC directory", |p| {
        p.set("NC", constraint(true, 0xa4, &tlv(0x30, &[])))
    }),
    ("NC URI", |p| {
        p.set("NC", constraint(true, 0x86, b"corp.example"))
    }),
    ("NC empty", |p| {
        p.set(
            "NC",
            Some(extension(oid::NAME_CONSTRAINTS, true, b"\x30\x00")),
        )
    }),
    ("SAN not ASCII", |p| {
        let san = tlv(0x30, &[&tlv(0x81, &[b"a\xe9@b.example"])]);
        p.set("SAN", Some(extension(oid::SAN, false, &san)));
    }),
    ("SAN short IP", |p| {
        let san = tlv(0x30, &[&tlv(0x87, &[&[1, 2, 3]])]);
        p.set("SAN", Some(extension(oid::SAN, false, &san)));
    }),
];

/// What runs `program` with `input` on its standard input prints, as JSON.
fn ask(mut program: Command, input: &Value) -> Value {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make setup` builds it");
    let mut stdin = child.stdin.take().unwrap();
    let text = input.to_string();
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn go(input: &Value) -> Value {
    ask(
        Command::new(repository("build/interop/certificates")),
        input,
    )
}

pub(crate) fn python(input: &Value) -> Value {
    let mut command = Command::new(repository("build/venv/bin/python"));
    command.arg(repository("tests/verifiers/chain_files.py"));
    ask(command, input)
}

pub(crate) fn base64(all: &[Vec<u8>]) -> Vec<String> {
    all.iter().map(|each| STANDARD.encode(each)).collect()
}

pub(crate) fn variants(default: usize) -> usize {
    let given = std::env::var("ROOTBRIDGE_DIFFERENTIAL").ok();
    given.map_or(default, |given| given.parse().unwrap())
}

/// Refused for what is below them, which is not verified here, or because they are no CA's.
const OTHERWISE_UNUSABLE: [&str; 5] = [
    "EKU server",
    "NC URI",
    "BC false",
    "no BC",
    "KU without keyCertSign",
];

#[test]
fn what_a_verifier_refuses_in_a_ca_certificate_is_named() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, None));
    let key = SoftKey::p256();
    let mut random = Random(SplitMix64(14));
    let count = variants(400).max(CHANGES.len() + 1);
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for index in 0..count {
        let mut parts = Parts::usual(&root, &key);
        let mut names = Vec::new();
        let mut apply = |(name, change): &Change| {
            names.push(*name);
            change(&mut parts);
        };
        match index.checked_sub(1) {
            None => {}
            Some(index) if index < CHANGES.len() => apply(&CHANGES[index]),
            Some(_) => {
                apply(&CHANGES[random.below(CHANGES.len())]);
                apply(&CHANGES[random.below(CHANGES.len())]);
            }
        }
        cases.push((names.join(" + "), parts.der(&root, &key)));
    }
    let ders: Vec<Vec<u8>> = cases.iter().map(|(_, der)| der.clone()).collect();
    let root_der = STANDARD.encode(root.certificate.der());
    let of_go = go(&json!({ "root": root_der, "certificates": base64(&ders) }));
    let of_python = python(&json!({ "certificates": base64(&ders), "files": [] }));

    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("root.pem"), root.certificate.to_pem()).unwrap();
    let mut arguments = vec!["verify", "-x509_strict", "-trusted", "root.pem"];
    let names: Vec<String> = (0..count).map(|index| format!("{index}.pem")).collect();
    for (name, der) in names.iter().zip(&ders) {
        std::fs::write(home.path().join(name), to_pem("CERTIFICATE", der)).unwrap();
    }
    arguments.extend(names.iter().map(String::as_str));
    let (Ok(text) | Err(text)) = openssl(&arguments, home.path());
    let verified: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(": OK"))
        .collect();

    let mut findings = Vec::new();
    let mut accepted = 0;
    for (index, (case, der)) in cases.iter().enumerate() {
        let ours = Certificate::parse(der.as_slice());
        let objections = match &ours {
            Ok(certificate) => certificate.objections(Position::Intermediate),
            Err(_) => Vec::new(),
        };
        let chain = ours
            .as_ref()
            .ok()
            .map(|one| [one.clone(), root.certificate.clone()]);
        let path = chain.map(|chain| verify_ca_path(&chain, &chain[1..], now()));
        let unusable = path.is_none_or(|path| path.is_err());
        let names = |verifier| objections.iter().any(|each| each.verifier == verifier);
        let error = |value: &Value| value[index].as_str().unwrap().to_owned();
        let for_webpki = rustls_pki_types::CertificateDer::from(der.as_slice());
        let webpki = webpki::EndEntityCert::try_from(&for_webpki).err();
        let refusals = [
            (Verifier::Go, error(&of_go["verify"])),
            (
                Verifier::Rustls,
                webpki.map_or(String::new(), |error| error.to_string()),
            ),
            (
                Verifier::OpensslStrict,
                match verified.contains(format!("{index}.pem").as_str()) {
                    true => String::new(),
                    false => "verification failed".into(),
                },
            ),
        ];
        let mut all_accept = error(&of_python["certificates"]).is_empty();
        for (verifier, why) in refusals {
            all_accept &= why.is_empty();
            if !why.is_empty() && !unusable && !names(verifier) {
                findings.push(format!("{case}: not named: {verifier:?} says {why}"));
            }
        }
        all_accept &= !OTHERWISE_UNUSABLE.iter().any(|each| case.contains(each));
        match (all_accept, unusable || !objections.is_empty()) {
            (true, true) => findings.push(format!(
                "{case}: all accept, we refuse: {:?} {objections:?}",
                ours.err().map(|error| error.to_string())
            )),
            (true, false) => accepted += 1,
            _ => {}
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(accepted > 20, "{accepted}");
}
