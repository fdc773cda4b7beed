//! The bounds of what may be configured: each value at its limit is taken, and one past it is not.

use crate::requests::config;

#[test]
fn lifetimes_and_backdating() {
    for (profile, accepted) in [
        ("default_ttl = '10s'\nbackdate = '5s'", true),
        ("default_ttl = '9s'\nbackdate = '4s'", false),
        ("default_ttl = '10s'\nbackdate = '6s'", false),
        ("default_ttl = '4m'\nbackdate = '2m'", true),
        ("default_ttl = '239s'\nbackdate = '2m'", false),
        ("default_ttl = '2h'\nbackdate = '1h'", true),
        ("default_ttl = '3h'\nbackdate = '3601s'", false),
        ("default_ttl = '2h'\nmax_ttl = '2h'", true),
        ("default_ttl = '2h'\nmax_ttl = '7199s'", false),
        ("default_ttl = '2h'\nmax_ttl = '7200s 1ms'", false),
        ("default_ttl = '2h 1ms'", false),
        ("backdate = '1ms'", false),
        ("usages = ['server']", true),
        ("usages = []", false),
        ("keys = ['ecdsa-p256', 'rsa-2048']", true),
        ("keys = ['ecdsa-p255']", false),
    ] {
        let outcome = config(&format!("[profiles.web]\n{profile}"));
        assert_eq!(outcome.is_ok(), accepted, "{profile}: {:?}", outcome.err());
    }
}

#[test]
fn rules_name_callers_profiles_and_names_that_can_exist() {
    let rule = |callers: &str, profiles: &str, names: &str| {
        config(&format!(
            "[[policy.rules]]\ncallers = {callers}\nprofiles = {profiles}\nnames = {names}"
        ))
        .map(drop)
    };
    assert_eq!(rule("['operator:ci']", "['workload']", "['self']"), Ok(()));
    for (callers, profiles, names, key) in [
        ("[]", "['workload']", "['self']", "callers"),
        ("['operator:ci']", "[]", "['self']", "profiles"),
        ("['operator:ci']", "['workload']", "[]", "names"),
        ("['operator:ci']", "['none']", "['self']", "profiles"),
        ("['*']", "['workload']", "['self']", "callers"),
        (
            "['operator:ci']",
            "['workload']",
            "['spiffe://*/ns/a/sa/b']",
            "names",
        ),
    ] {
        let error = rule(callers, profiles, names).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
    assert!(config("[policy]\ndefault_profile = 'none'").is_err());
}
