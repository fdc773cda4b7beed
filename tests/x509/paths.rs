//! Chains as an operator brings them: good ones, and each fault by itself.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use der::{Decode, Encode};
use rootbridge::clock::UnixTime;
use rootbridge::x509::{
    CaPath, Certificate, CertificateSpec, KeyKind, PathError, PathFault, Serial, SubjectSpec,
    ca_name, find_ca_path, remaining_path_len, verify_ca_path,
};

use crate::support::{BOTH, Ca, CaTerms, DAY, SoftKey, extension, now, oid, sans, tlv};

fn terms(path_len: Option<u8>) -> CaTerms {
    CaTerms::usual(KeyKind::EcdsaP256, path_len)
}

pub(crate) fn fault(
    chain: &[Certificate],
    anchors: &[Certificate],
    at: UnixTime,
) -> (usize, PathFault) {
    match verify_ca_path(chain, anchors, at).unwrap_err() {
        PathError::Certificate { index, fault, .. } => (index, fault),
        other => panic!("{other}"),
    }
}

struct Three {
    root: Certificate,
    middle: Certificate,
    issuing: Certificate,
}

fn three(root: CaTerms, middle: CaTerms, issuing: CaTerms) -> Three {
    let root = Ca::root("Root", root);
    let middle = root.below("Middle", middle);
    let issuing = middle.below("Issuing", issuing);
    Three {
        root: root.certificate,
        middle: middle.certificate,
        issuing: issuing.certificate,
    }
}

#[test]
fn good_paths_with_the_root_last_or_absent() {
    for kind in [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::Rsa { bits: 2048 },
    ] {
        let usual = |path_len| CaTerms::usual(kind, path_len);
        let Three {
            root,
            middle,
            issuing,
        } = three(usual(None), usual(Some(1)), usual(Some(0)));
        let other = Ca::root("Other", terms(None)).certificate;
        let anchors = [other.clone(), root.clone()];
        let found = CaPath {
            intermediates: 1,
            anchor: 1,
        };
        let whole = [issuing.clone(), middle.clone(), root.clone()];
        assert_eq!(verify_ca_path(&whole, &anchors, now()).unwrap(), found);
        assert_eq!(verify_ca_path(&whole[..2], &anchors, now()).unwrap(), found);
        // A root that issues by itself, and one between other names.
        let alone = CaPath {
            intermediates: 0,
            anchor: 0,
        };
        assert_eq!(
            verify_ca_path(from_ref(&root), from_ref(&root), now()).unwrap(),
            alone
        );
        let short = [middle.clone(), root.clone()];
        assert_eq!(
            verify_ca_path(&short, from_ref(&root), now()).unwrap(),
            alone
        );
    }
}

#[test]
fn not_valid_at_the_time() {
    let early = CaTerms {
        not_after: now().plus(DAY),
        ..terms(None)
    };
    let Three {
        root,
        middle,
        issuing,
    } = three(terms(None), early, terms(Some(0)));
    let chain = [issuing, middle, root.clone()];
    let anchors = [root];
    let (index, expired) = fault(&chain, &anchors, now().plus(DAY * 2));
    // The one below it ends no later, so it is reported first.
    assert_eq!(index, 1);
    assert!(matches!(expired, PathFault::Expired { .. }), "{expired}");
    let (index, early) = fault(&chain, &anchors, now().minus(DAY * 9));
    assert_eq!(index, 1);
    assert!(matches!(early, PathFault::NotYetValid { .. }), "{early}");
    // The anchor counts too, when it does not stand in the chain.
    let ended = CaTerms {
        not_after: now().minus(Duration::from_secs(60)),
        ..terms(None)
    };
    let root = Ca::root("Root", ended);
    let key = root.below("Issuing", terms(Some(0)));
    let (_, why) = fault(&[key.certificate], &[root.certificate], now());
    assert!(
        matches!(
            why,
            PathFault::Expired { .. } | PathFault::NotIssuedByAnchor(_)
        ),
        "{why}"
    );
}

#[test]
fn an_end_entity_is_no_ca() {
    let root = Ca::root("Root", terms(None));
    let key = SoftKey::p256().public_key();
    let leaf = root.leaf(&sans(&["spiffe://td/a"]), &key, BOTH);
    let (index, why) = fault(
        &[leaf, root.certificate.clone()],
        &[root.certificate],
        now(),
    );
    assert_eq!((index, why), (1, PathFault::NotCa));
}

#[test]
fn path_lengths_that_do_not_suffice() {
    let Three {
        root,
        middle,
        issuing,
    } = three(terms(Some(1)), terms(Some(0)), terms(Some(0)));
    let chain = [issuing, middle.clone(), root.clone()];
    let (index, why) = fault(&chain, from_ref(&root), now());
    assert_eq!(
        (index, why),
        (
            2,
            PathFault::PathLength {
                allowed: 0,
                needed: 1
            }
        )
    );
    let Three {
        root,
        middle,
        issuing,
    } = three(terms(Some(0)), terms(None), terms(Some(0)));
    let (index, why) = fault(
        &[issuing.clone(), middle.clone(), root.clone()],
        from_ref(&root),
        now(),
    );
    assert_eq!(
        (index, why),
        (
            3,
            PathFault::PathLength {
                allowed: 0,
                needed: 2
            }
        )
    );
    let (_, why) = fault(&[issuing, middle], &[root], now());
    assert!(matches!(why, PathFault::NotIssuedByAnchor(_)), "{why}");
}

/// The narrowest of all above counts, less those that stand below it already.
#[test]
fn how_many_cas_may_be_below() {
    for (root, middle, issuing, remaining) in [
        (None, None, None, None),
        (None, None, Some(0), Some(0)),
        (None, None, Some(1), Some(1)),
        (None, Some(1), Some(1), Some(0)),
        (None, Some(2), None, Some(1)),
        (Some(2), None, None, Some(0)),
        (Some(3), Some(9), None, Some(1)),
        (Some(0), None, None, Some(0)),
    ] {
        let all = three(terms(root), terms(middle), terms(issuing));
        let path = [&all.issuing, &all.middle, &all.root];
        assert_eq!(
            remaining_path_len(path),
            remaining,
            "{root:?} {middle:?} {issuing:?}"
        );
    }
}

#[test]
fn order_and_completeness() {
    let Three {
        root,
        middle,
        issuing,
    } = three(terms(None), terms(None), terms(Some(0)));
    let anchors = [root.clone()];
    let (index, why) = fault(
        &[issuing.clone(), root.clone(), middle.clone()],
        &anchors,
        now(),
    );
    assert_eq!((index, why), (1, PathFault::WrongOrder { issuer: 3 }));
    let (index, why) = fault(&[issuing.clone(), root.clone()], &anchors, now());
    assert_eq!(index, 1);
    assert!(matches!(why, PathFault::NotIssuedByNext { .. }), "{why}");
    let (index, why) = fault(from_ref(&issuing), &anchors, now());
    assert_eq!(index, 1);
    assert!(matches!(why, PathFault::NoAnchor { .. }), "{why}");
    assert!(matches!(
        fault(&[issuing.clone(), middle], &[], now()).1,
        PathFault::NoAnchor { .. }
    ));
    assert_eq!(
        verify_ca_path(&[], &anchors, now()).unwrap_err(),
        PathError::Empty
    );
    let many = vec![issuing; 11];
    assert_eq!(
        verify_ca_path(&many, &anchors, now()).unwrap_err(),
        PathError::TooLong
    );
}

/// `find_ca_path` orders what an operator supplies in any order, and ends at the first anchor.
#[test]
fn a_path_among_certificates_in_any_order() {
    let Three {
        root,
        middle,
        issuing,
    } = three(terms(None), terms(Some(1)), terms(Some(0)));
    let stranger = Ca::root("Stranger", terms(None)).certificate;
    let path = [issuing.clone(), middle.clone(), root.clone()];
    let anchors = [stranger.clone(), root.clone()];
    let all = [
        root.clone(),
        stranger.clone(),
        issuing.clone(),
        middle.clone(),
        root.clone(),
    ];
    for others in [&all[..], &all[1..4], &all[3..]] {
        let found = find_ca_path(&issuing, others, &anchors, now()).unwrap();
        assert_eq!(found, path);
    }
    let found = find_ca_path(&issuing, &all, from_ref(&middle), now()).unwrap();
    assert_eq!(found, path[..2]);
    // Without its issuer.
    let missing = find_ca_path(&issuing, &all[..2], &anchors, now()).unwrap_err();
    let PathError::Certificate { index, fault, .. } = missing else {
        panic!("{missing}")
    };
    assert_eq!(index, 1);
    assert!(matches!(fault, PathFault::NoAnchor { .. }), "{fault}");
}

/// Two roots of one name, and an issuer that both have certified: the path that verifies is found.
#[test]
fn a_path_among_cross_signed_certificates() {
    let (old, new) = (Ca::root("Root", terms(None)), Ca::root("Root", terms(None)));
    let issuing = new.below("Issuing", terms(Some(0))).certificate;
    let ended = CaTerms {
        not_after: now().minus(Duration::from_secs(60)),
        ..terms(None)
    };
    let middle_key = new.below("Middle", terms(None));
    let spec = |issuer: &Ca, terms: CaTerms| CertificateSpec {
        serial: Serial::new(now()),
        issuer: Arc::new(issuer.identity()),
        not_before: terms.not_before,
        not_after: terms.not_after,
        names: Vec::new(),
        public_key: middle_key.key.public_key(),
        subject: SubjectSpec::Ca {
            name_der: ca_name("Middle", None).unwrap(),
            path_len: terms.path_len,
        },
    };
    let expired = old.key.issue(&spec(&old, ended));
    let below = middle_key.below("Below", terms(Some(0))).certificate;
    let anchors = [old.certificate.clone(), new.certificate.clone()];
    let found = find_ca_path(&issuing, &[], &anchors, now()).unwrap();
    assert_eq!(found, [issuing, new.certificate.clone()]);
    let others = [expired, middle_key.certificate.clone()];
    let found = find_ca_path(&below, &others, &anchors, now()).unwrap();
    assert_eq!(found, [below, middle_key.certificate, new.certificate]);
}

/// A root of the same name and another key, as after a root was replaced.
#[test]
fn the_same_name_with_another_key() {
    let (old, new) = (Ca::root("Root", terms(None)), Ca::root("Root", terms(None)));
    let issuing = old.below("Issuing", terms(Some(0))).certificate;
    let (_, why) = fault(from_ref(&issuing), from_ref(&new.certificate), now());
    assert_eq!(
        why,
        PathFault::NotIssuedByAnchor(Box::new(PathFault::KeyIdMismatch))
    );
    let (_, why) = fault(
        &[issuing.clone(), new.certificate.clone()],
        &[new.certificate],
        now(),
    );
    assert_eq!(why, PathFault::KeyIdMismatch);
    // A damaged signature.
    let mut der = issuing.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let spoiled = Certificate::parse(der).unwrap();
    let (_, why) = fault(
        &[spoiled, old.certificate.clone()],
        &[old.certificate],
        now(),
    );
    assert!(matches!(why, PathFault::Signature(_)), "{why}");
}

/// Extensions that no tool writes, on a certificate that is otherwise good.
#[test]
fn extensions_made_by_hand() {
    let root = Ca::root("Root", terms(None));
    let with = |list: &[Vec<u8>]| {
        // Everything before the extensions, whose length says where they begin: a key's
        // random bytes may hold any tag.
        let inner = &root.certificate.tbs_der()[4..];
        let parsed = x509_cert::Certificate::from_der(root.certificate.der()).unwrap();
        let own = parsed
            .tbs_certificate()
            .extensions()
            .unwrap()
            .to_der()
            .unwrap();
        let at = inner.len() - tlv(0xa3, &[&own]).len();
        let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        let tbs = tlv(0x30, &[&inner[..at], &tlv(0xa3, &[&tlv(0x30, &list)])]);
        Certificate::parse(root.key.seal(&tbs))
    };
    let ca = extension(oid::BASIC, true, b"\x30\x03\x01\x01\xff");
    with(from_ref(&ca)).unwrap();
    let twice = with(&[ca.clone(), ca.clone()]).unwrap_err().to_string();
    assert!(twice.contains("2.5.29.19 twice"), "{twice}");
    let none = with(&[]).unwrap_err().to_string();
    assert!(none.contains("it is empty"), "{none}");
    let many: Vec<Vec<u8>> = (0..65)
        .map(|n| extension(&[0x2a, n], false, b"\x05\x00"))
        .collect();
    assert!(
        with(&many)
            .unwrap_err()
            .to_string()
            .contains("more than 64")
    );
    let names: Vec<Vec<u8>> = (0..257)
        .map(|n| tlv(0x82, &[format!("a{n}.example").as_bytes()]))
        .collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let san = extension(oid::SAN, false, &tlv(0x30, &names));
    assert!(
        with(&[san])
            .unwrap_err()
            .to_string()
            .contains("more than 256")
    );
    // Names of other kinds are reported, not returned.
    let wildcard = tlv(
        0x30,
        &[&tlv(0x82, &[b"*.example"]), &tlv(0x81, &[b"a@b.example"])],
    );
    let odd = with(&[ca, extension(oid::SAN, false, &wildcard)]).unwrap();
    assert!(odd.names().is_empty() && odd.has_other_names());
}
