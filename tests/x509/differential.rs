//! The same certificates and paths verified by Go, OpenSSL, BoringSSL, webpki, Python's `cryptography` and
//! us: what all of them take, we take; what one of them refuses, we name, and nothing else.
//!
//! A few hundred seeded variants; ROOTBRIDGE_DIFFERENTIAL=5000 makes so many.

use rootbridge::x509::{Certificate, KeyKind, Objection, Position, Verifier, verify_ca_path};
use rootbridge_test_support::random::SplitMix64;
use serde_json::json;

use crate::differential_variants::{CHANGES, Change, Parts};
use crate::support::{Ca, CaTerms, SoftKey, now};
use crate::verifiers::{self, Refusals, base64, openssl_accepts, python};

pub(crate) struct Random(pub(crate) SplitMix64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next() % limit as u64).unwrap()
    }
}

pub(crate) fn variants(default: usize) -> usize {
    let given = std::env::var("ROOTBRIDGE_DIFFERENTIAL").ok();
    given.map_or(default, |given| given.parse().unwrap())
}

/// A certificate with one or two of the changes, and what the verifiers say of it.
struct Case {
    name: String,
    der: Vec<u8>,
    position: Position,
    refusals: Refusals,
    openssl: bool,
    python: bool,
}

/// None, each alone, and pairs.
fn cases(usual: impl Fn() -> Parts, count: usize) -> Vec<(String, Parts)> {
    let mut random = Random(SplitMix64(14));
    let case = |index: usize| {
        let mut parts = usual();
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
        (names.join(" + "), parts)
    };
    (0..count.max(CHANGES.len() + 1)).map(case).collect()
}

/// Whether it is about versions that are not tried here.
fn is_of_old_versions(objection: &Objection) -> bool {
    objection.why.contains("versions before")
}

/// Where we and the verifiers differ. `path` leads from the certificate to the anchor.
fn compare(all: &[Case], path: impl Fn(Certificate) -> Vec<Certificate>) -> (usize, Vec<String>) {
    let mut findings = Vec::new();
    let mut accepted = 0;
    for case in all {
        let name = &case.name;
        let ours = Certificate::parse(case.der.as_slice());
        let (objections, unusable) = match &ours {
            Ok(certificate) => {
                let path = path(certificate.clone());
                let anchors = path.last().cloned();
                (
                    certificate.objections(case.position),
                    verify_ca_path(&path, anchors.as_slice(), now()).err(),
                )
            }
            Err(_) => (Vec::new(), None),
        };
        let unusable = ours.is_err() || unusable.is_some();
        let (old, objections): (Vec<_>, Vec<_>) =
            objections.into_iter().partition(is_of_old_versions);
        let named = |verifier| objections.iter().any(|each| each.verifier == verifier);
        let refusals = &case.refusals;
        let openssl = if case.openssl {
            ""
        } else {
            "verification failed"
        };
        let mut all_accept = case.python;
        for (verifier, why) in [
            (Verifier::Go, refusals.go.as_str()),
            (Verifier::BoringSsl, &refusals.boringssl),
            (Verifier::Rustls, &refusals.rustls),
            (Verifier::OpensslStrict, openssl),
        ] {
            all_accept &= why.is_empty();
            if !why.is_empty() && !unusable && !named(verifier) {
                findings.push(format!("{name}: not named: {verifier:?} says {why}"));
            }
            // What is no CA certificate, OpenSSL verified as an end entity's.
            let as_ca = verifier != Verifier::OpensslStrict || !unusable;
            if why.is_empty() && as_ca && named(verifier) {
                findings.push(format!("{name}: {verifier:?} accepts it: {objections:?}"));
            }
        }
        match (all_accept, unusable || !objections.is_empty()) {
            (true, true) if old.is_empty() => findings.push(format!(
                "{name}: all accept, we refuse: {:?} {objections:?}",
                ours.err().map(|error| error.to_string())
            )),
            (true, false) => accepted += 1,
            _ => {}
        }
    }
    (accepted, findings)
}

fn examine(
    position: Position,
    named: Vec<String>,
    paths: &[Vec<Vec<u8>>],
    openssl: Vec<bool>,
) -> Vec<Case> {
    let ders: Vec<Vec<u8>> = paths.iter().map(|path| path[1].clone()).collect();
    let of_python = python(&json!({ "certificates": base64(&ders), "files": [] }));
    let refusals = verifiers::refusals(paths);
    let all = named.into_iter().zip(ders).zip(refusals).zip(openssl);
    all.enumerate()
        .map(|(index, (((name, der), refusals), openssl))| Case {
            name,
            der,
            position,
            refusals,
            openssl,
            python: of_python["certificates"][index] == "",
        })
        .collect()
}

#[test]
fn what_a_verifier_refuses_in_a_ca_certificate_is_named() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, None));
    let key = SoftKey::p256();
    let (names, parts): (Vec<_>, Vec<_>) = cases(|| Parts::usual(&root.key, &key), variants(400))
        .into_iter()
        .unzip();
    let root_name = root.certificate.subject_der();
    let ders: Vec<_> = parts
        .iter()
        .map(|parts| parts.below(root_name, &root.key, &key))
        .collect();
    let anchor = root.certificate.der();
    let openssl = openssl_accepts(anchor, &ders);
    let paths: Vec<_> = parts
        .iter()
        .zip(ders)
        .map(|(parts, der)| vec![parts.leaf(&key), der, anchor.to_vec()])
        .collect();
    let all = examine(Position::Intermediate, names, &paths, openssl);
    let (accepted, findings) = compare(&all, |one| vec![one, root.certificate.clone()]);
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(accepted > 20, "{accepted}");
}

#[test]
fn what_a_verifier_refuses_in_an_anchor_is_named() {
    let key = SoftKey::p256();
    let (names, parts): (Vec<_>, Vec<_>) = cases(|| Parts::usual(&key, &key), variants(0))
        .into_iter()
        .unzip();
    let paths: Vec<_> = parts
        .iter()
        .map(|parts| vec![parts.leaf(&key), parts.self_signed(&key)])
        .collect();
    let openssl = parts
        .iter()
        .zip(&paths)
        .map(|(parts, path)| openssl_accepts(&path[1], &[parts.leaf_with_aki(&key)])[0])
        .collect();
    let all = examine(Position::Anchor, names, &paths, openssl);
    let (accepted, findings) = compare(&all, |one| vec![one]);
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(accepted > 10, "{accepted}");
}
