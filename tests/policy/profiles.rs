//! What a profile decides: lifetimes, kinds of key, the default.

use std::time::Duration;

use rootbridge::policy::{Denial, PolicyInput, Scope};
use rootbridge::x509::TrustDomain;

use crate::decisions::{HOUR, OWN, POLICY, Request, decide, own};
use crate::requests::{csr_with, policy, san};

#[test]
fn the_profile_bounds_the_lifetime() {
    let ttl = |ttl| decide(&Request { ttl, ..own() }).map(|grant| grant.ttl());
    let second = Duration::from_secs(1);
    assert_eq!(ttl(None), Ok(HOUR));
    assert_eq!(ttl(Some(second)), Ok(second));
    assert_eq!(ttl(Some(2 * HOUR)), Ok(2 * HOUR));
    let long = 2 * HOUR + second;
    assert_eq!(
        ttl(Some(long)),
        Err(Denial::TtlTooLong {
            requested: long,
            limit: 2 * HOUR
        })
    );
}

#[test]
fn the_profile_chooses_the_kinds_of_key() {
    let decide = |profile: &str, algorithm| {
        let trust_domain = TrustDomain::parse("td").unwrap();
        let name = san(OWN);
        let input = PolicyInput {
            trust_domain: &trust_domain,
            identity: OWN,
            caller_name: Some(&name),
            profile,
            names: &[],
            ttl: None,
            scope: Scope::CallerName,
        };
        policy(POLICY)
            .decide(&input, &csr_with(&[], algorithm))
            .map(drop)
    };
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ];
    let allowed = |profile| kinds.map(|kind| decide(profile, kind).is_ok());
    assert_eq!(allowed("web"), [true; 3]);
    assert_eq!(allowed("p256"), [true, false, false]);
    let denial = decide("p256", &rcgen::PKCS_ED25519).unwrap_err();
    assert!(matches!(denial, Denial::KeyKind { .. }), "{denial}");
}

#[test]
fn an_empty_profile_is_the_default_one() {
    let profile = |profile| {
        decide(&Request { profile, ..own() })
            .unwrap()
            .profile()
            .name()
            .to_owned()
    };
    assert_eq!(
        [profile(""), profile("web"), profile("workload")],
        ["web", "web", "workload"]
    );
}
