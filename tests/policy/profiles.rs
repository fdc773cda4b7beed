//! What a profile decides: lifetimes, kinds of key, the default.

use std::time::Duration;

use rootbridge::policy::{Denial, Policy, PolicyInput, Scope};
use rootbridge::x509::{ExtendedKeyUsage, TrustDomain};

use crate::decisions::{HOUR, OWN, POLICY, Request, decide, own};
use crate::requests::{config, csr, csr_with, policy, san};

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

/// What a profile says where the file says nothing, and what the built-in ones are.
#[test]
fn the_built_in_profiles() {
    let policy = policy("[profiles.linkerd]\nbackdate = '1m'\n[profiles.own]\nusages = ['client']");
    let of = |name: &str| {
        let profile = policy.profile(name).unwrap();
        assert_eq!(profile.name(), name);
        let seconds = [profile.default_ttl(), profile.max_ttl(), profile.backdate()];
        (seconds.map(|span| span.as_secs()), profile.usage())
    };
    let (day, both) = (86_400, ExtendedKeyUsage::SERVER_AND_CLIENT);
    assert_eq!(of("workload"), ([day, day, 120], both));
    assert_eq!(of("own"), ([day, day, 120], ExtendedKeyUsage::CLIENT_AUTH));
    // The file's profile of a built-in name is the file's.
    assert_eq!(of("linkerd"), ([day, day, 60], both));
    let built_in = config("").unwrap().into_policy();
    assert_eq!(
        built_in.profile("linkerd").unwrap().backdate(),
        Duration::from_secs(20)
    );
    assert!(policy.has_profile("own") && !built_in.has_profile("own"));
    assert!(policy.profile("none").is_none());
}

/// The server's own certificates: their names are its listeners', under a profile of servers.
#[test]
fn the_server_has_its_own_names_and_nobody_else() {
    let own = [san("dns:localhost"), san("dns:rootbridge.svc")];
    let day = 24 * HOUR;
    let made = |text: &str| {
        let config = config(text).unwrap();
        let policy = config.with_rule_for_own_names("local:serving", "serving", day, &own);
        policy.into_policy()
    };
    let decide = |policy: &Policy, identity: &str, profile: &str, name: &str| {
        let trust_domain = TrustDomain::parse("td").unwrap();
        let input = PolicyInput {
            trust_domain: &trust_domain,
            identity,
            caller_name: None,
            profile,
            names: &[san(name)],
            ttl: None,
            scope: Scope::Requested,
        };
        policy.decide(&input, &csr(&[]))
    };
    let policy = made("");
    let grant = decide(&policy, "local:serving", "serving", "dns:localhost").unwrap();
    assert_eq!(grant.ttl(), day);
    assert_eq!(grant.profile().usage(), ExtendedKeyUsage::SERVER_AUTH);
    decide(&policy, "local:serving", "serving", "dns:rootbridge.svc").unwrap();
    for (identity, profile, name) in [
        ("local:serving", "serving", "dns:other.svc"),
        ("local:serving", "workload", "dns:localhost"),
        ("local:other", "serving", "dns:localhost"),
        ("operator:serving", "serving", "dns:localhost"),
    ] {
        let denial = decide(&policy, identity, profile, name).unwrap_err();
        assert!(matches!(denial, Denial::NoRule { .. }), "{denial}");
    }
    // The file may have a profile of that name; it is the one that counts.
    let policy = made("[profiles.serving]\ndefault_ttl = '2h'");
    let grant = decide(&policy, "local:serving", "serving", "dns:localhost").unwrap();
    assert_eq!(grant.ttl(), 2 * HOUR);
}
