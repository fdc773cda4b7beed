//! The bounds of what may be configured: each value at its limit is taken, and one past it is not.

use crate::requests::config;

#[test]
fn lifetimes_and_backdating() {
    for (profile, refused_for) in [
        ("default_ttl = '10s'\nbackdate = '5s'", ""),
        (
            "default_ttl = '9s'\nbackdate = '4s'",
            "default_ttl: must be",
        ),
        (
            "default_ttl = '10s'\nbackdate = '6s'",
            "default_ttl: must be",
        ),
        ("default_ttl = '4m'\nbackdate = '2m'", ""),
        (
            "default_ttl = '239s'\nbackdate = '2m'",
            "default_ttl: must be",
        ),
        ("default_ttl = '2h'\nbackdate = '1h'", ""),
        (
            "default_ttl = '3h'\nbackdate = '3601s'",
            "backdate: at most",
        ),
        ("default_ttl = '2h'\nmax_ttl = '2h'", ""),
        (
            "default_ttl = '2h'\nmax_ttl = '7199s'",
            "default_ttl: is longer",
        ),
        (
            "default_ttl = '2h'\nmax_ttl = '7200s 1ms'",
            "max_ttl: must be whole",
        ),
        ("default_ttl = '2h 1ms'", "default_ttl: must be whole"),
        ("backdate = '1ms'", "backdate: must be whole"),
        ("usages = ['server']", ""),
        ("usages = []", "usages: give"),
        ("keys = ['ecdsa-p256', 'rsa-2048']", ""),
        ("keys = ['ecdsa-p255']", "keys: "),
    ] {
        let outcome = config(&format!("[profiles.web]\n{profile}")).map(drop);
        match (refused_for, outcome) {
            ("", outcome) => assert_eq!(outcome, Ok(()), "{profile}"),
            (why, Ok(())) => panic!("{profile} is accepted, in spite of {why}"),
            (why, Err(error)) => {
                let whole = format!("profiles.web.{why}");
                assert!(error.contains(&whole), "{profile}: {error}");
                assert_eq!(error.matches("profiles.web.").count(), 1, "{error}");
            }
        }
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
    let error = config("[policy]\ndefault_profile = 'none'").unwrap_err();
    assert!(
        error.contains("policy.default_profile") && error.contains("linkerd, workload"),
        "{error}"
    );
}

#[test]
fn the_name_of_a_profile_is_short_and_printable() {
    for (name, accepted) in [
        ("a".repeat(253), true),
        ("a".repeat(254), false),
        (String::new(), false),
        ("a b".to_owned(), false),
        ("a\u{e4}".to_owned(), false),
        ("web/1.x".to_owned(), true),
    ] {
        match config(&format!("[profiles.{name:?}]")) {
            Ok(_) => assert!(accepted, "{name:?}"),
            Err(error) => assert!(!accepted && error.contains("a profile's name"), "{error}"),
        }
    }
}
