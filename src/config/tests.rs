#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;

const REFERENCE_FILE: &str = include_str!("../../docs/reference/rootbridge.toml");
const REFERENCE_PAGE: &str = include_str!("../../docs/reference/config.md");

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rootbridge.toml");
    std::fs::write(&file, text).unwrap();
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Config::load_with(&file, &variables)
}

fn findings(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    load(text, variables)
        .unwrap_err()
        .findings()
        .iter()
        .map(ToString::to_string)
        .collect()
}

const MINIMAL: &str = "[ledger]\npath = '/l'\n[hsm]\nmodule = '/m.so'\n";

#[test]
fn the_reference_file_is_a_valid_configuration() {
    let config = load(REFERENCE_FILE, &[]).unwrap();
    assert_eq!(config.listeners().len(), 6);
    assert_eq!(config.admin().address().port(), 9901);
    // What is said there to be a default is one: without it nothing changes.
    assert_eq!(load(MINIMAL, &[]).unwrap().log(), config.log());
}

/// The reference file and the page have exactly the keys that are accepted.
#[test]
fn every_key_is_documented() {
    let accepted: BTreeSet<String> = Shape::of::<RawConfig>().keys().into_iter().collect();
    let on_page: BTreeSet<String> = REFERENCE_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(
        accepted, on_page,
        "docs/reference/config.md (right) against the code (left)"
    );

    let mut in_file = BTreeSet::new();
    // Keys of which only one can be given, or that have no example worth showing, are commented.
    let file = REFERENCE_FILE.replace("\n#: ", "\n");
    keys(
        &toml::from_str::<toml::Value>(&file).unwrap(),
        "",
        &Shape::of::<RawConfig>(),
        &mut in_file,
    );
    assert_eq!(
        accepted, in_file,
        "docs/reference/rootbridge.toml (right) against the code (left)"
    );
}

fn keys(value: &toml::Value, at: &str, shape: &Shape, found: &mut BTreeSet<String>) {
    match (value, shape) {
        (toml::Value::Table(table), Shape::Table(fields)) => {
            for (key, inner) in table {
                let field = fields.iter().find(|field| field.name == key);
                let at = schema::join(at, key);
                match field {
                    Some(field) => keys(inner, &at, &field.shape, found),
                    None => drop(found.insert(at)),
                }
            }
        }
        (toml::Value::Table(table), Shape::Named(shape)) => {
            for inner in table.values() {
                keys(inner, &schema::join(at, "NAME"), shape, found);
            }
        }
        (toml::Value::Array(items), Shape::List(shape)) if matches!(**shape, Shape::Table(_)) => {
            for inner in items {
                keys(inner, &format!("{at}[]"), shape, found);
            }
        }
        _ => drop(found.insert(at.to_owned())),
    }
}

#[test]
fn unknown_keys_are_all_named_with_the_nearest_known_one() {
    let found = findings(
        "[ledger]\npath = '/l'\n[hsm]\nmodule = '/m.so'\nworkres = 3\n[hsm.tokens.main]\npin = '1234'\n[listners.mesh]\n",
        &[],
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found
            .iter()
            .any(|f| f
                .contains("rootbridge.toml:5: hsm.workres: unknown key (did you mean `workers`?)")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|f| f.contains("hsm.tokens.main.pin: unknown key (known here: uri, label")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|f| f.contains("listners: unknown key (did you mean `listeners`?)")),
        "{found:?}"
    );
    // A value that could be a secret is never repeated.
    assert!(found.iter().all(|f| !f.contains("1234")));
}

#[test]
fn a_renamed_key_is_refused_with_its_new_name() {
    let text = format!("{MINIMAL}[linkerd_issuers.main]\ncluster = 'east'\ntaken_within = '5m'\n");
    let found = findings(&text, &[]);
    let expected = "linkerd_issuers.main.taken_within: unknown key \
                    (it is now called `acceptance_timeout`)";
    assert!(found.iter().any(|f| f.contains(expected)), "{found:?}");
}

#[test]
fn findings_are_ordered_and_without_control_characters() {
    let tokens: String = (0..20)
        .map(|n| format!("[hsm.tokens.t{n:02}]\nworkers = 'x'\nlabel = 1.5\n"))
        .collect();
    let found = findings(&format!("{MINIMAL}{tokens}"), &[]);
    assert_eq!(found.len(), 40);
    for (n, one) in found.iter().enumerate() {
        let key = if n % 2 == 0 {
            "workers: unknown"
        } else {
            "label: is a fraction"
        };
        let wanted = format!("hsm.tokens.t{:02}.{key}", n / 2);
        assert!(one.contains(&wanted), "{one}");
    }
    let wrong: String = (0..20)
        .map(|n| format!("[profiles.p{n:02}]\nmax_ttl = 'x'\n"))
        .collect();
    let found = findings(&format!("{MINIMAL}{wrong}"), &[]);
    assert!(found.join("").contains("profiles.p00.max_ttl"), "{found:?}");
    let key = format!("\"\\u001b[31m{}\" = 1\n", "x".repeat(1000));
    let found = findings(&format!("{MINIMAL}{key}"), &[]).join("\n");
    assert!(
        found.contains("\\u{1b}[31mxxx") && found.contains("xxx…"),
        "{found}"
    );
    assert!(!found.contains('\x1b'));
}

#[test]
fn variables_override_and_are_named_when_they_are_wrong() {
    let config = load(
        MINIMAL,
        &[
            ("ROOTBRIDGE_HSM__WORKERS", "7"),
            ("ROOTBRIDGE_LOG__LEVEL", "debug"),
        ],
    );
    let config = config.unwrap();
    assert_eq!((config.hsm().workers(), config.log().level()), (7, "debug"));
    for (variable, value, expected_text) in [
        ("ROOTBRIDGE_HSM__WORKERS", "many", "hsm.workers"),
        ("ROOTBRIDGE_HSM__WORKERS", "0", "hsm.workers: must be"),
        (
            "ROOTBRIDGE_HSM__WRKERS",
            "2",
            "hsm.wrkers: unknown key (did you mean `workers`?)",
        ),
        (
            "ROOTBRIDGE_LOG__FORMAT",
            "jsn",
            "log.format: `jsn` is not a possible value (write `json`",
        ),
    ] {
        let found = findings(MINIMAL, &[(variable, value)]);
        let found = found.first().unwrap();
        assert!(
            found.starts_with(&format!("environment variable {variable}: ")),
            "{found}"
        );
        assert!(found.contains(expected_text), "{found}");
    }
}

#[test]
fn each_bad_value_has_a_place_and_a_fix() {
    for (text, expected_text) in [
        ("[ledger\n".to_owned(), "rootbridge.toml:1: not TOML"),
        (
            MINIMAL.replace("path = '/l'\n", ""),
            "ledger.path: is missing",
        ),
        (
            MINIMAL.replace("'/l'", "'l.db'"),
            "rootbridge.toml:2: ledger.path: is not absolute (write a path",
        ),
        (
            format!("{MINIMAL}deadline = 'soon'\n"),
            "rootbridge.toml:5: hsm.deadline",
        ),
        (
            format!("{MINIMAL}deadline = 'soon'\n"),
            "write a duration such as",
        ),
        (
            format!("{MINIMAL}workers = 'x'\n"),
            "rootbridge.toml:5: hsm.workers",
        ),
        (
            format!("{MINIMAL}[[policy.rules]]\ncallers = ['operator:x']\nnames = ['self']\n"),
            "policy.rules[0].profiles: is missing",
        ),
        (
            format!("{MINIMAL}workers = 1.5\n"),
            "hsm.workers: is a fraction (write a whole number",
        ),
        (
            format!("{MINIMAL}[profiles.'']\n"),
            "profiles.: a profile's name is",
        ),
        (
            format!(
                "{MINIMAL}[listeners.'a b']\naddress='[::]:1'\napis=['bundles']\n[listeners.'a b'.tls]\n"
            ),
            "listeners.a b: a listener's name is",
        ),
        (
            format!("{MINIMAL}workers = []\n"),
            "hsm.workers: is of the wrong type (write a single value",
        ),
        (
            format!("{MINIMAL}[istio]\nprofile = 'gone'\n"),
            "rootbridge.toml:6: istio.profile: there is no [profiles.gone]",
        ),
        (
            format!("{MINIMAL}[admin]\noperators = ['x']\n"),
            "admin.operators: there is no [operators.x]",
        ),
        (
            format!("{MINIMAL}[instance]\nlease = '1s'\n"),
            "instance.lease: must be 5s to 1h",
        ),
        (
            format!("{MINIMAL}[[policy.rules]]\ncallers = []\nprofiles = []\nnames = []\n"),
            "policy.rules[0].callers",
        ),
    ] {
        let found = findings(&text, &[]).join("\n");
        assert!(found.contains(expected_text), "{text}: {found}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load_with(Path::new("/nowhere/rb.toml"), &BTreeMap::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/rb.toml: the file cannot be read"),
        "{error}"
    );
}

#[test]
fn linkerds_times_must_fit_its_profile() {
    let listener = "[listeners.l]\naddress = '127.0.0.1:0'\napis = ['linkerd']\n\
        clusters = ['east']\n[clusters.east]\ntrust_domain = 'td'\n\
        audiences = { linkerd = 'identity.l5d.io' }\n";
    let with = |more: &str| format!("{MINIMAL}{listener}{more}");
    assert!(load(&with(""), &[]).is_ok());
    let hour = "[profiles.linkerd]\ndefault_ttl = '1h'\nbackdate = '20s'\n";
    assert!(load(&with(hour), &[]).is_ok(), "the defaults follow it");
    for (more, expected_text) in [
        (
            "[listeners.l.linkerd]\njitter = '20h'\n",
            "listeners.l.linkerd.jitter: together",
        ),
        (
            "[listeners.l.linkerd]\nprofile = 'gold'\n",
            "listeners.l.linkerd.profile: there is no [profiles.gold]",
        ),
    ] {
        let found = findings(&with(more), &[]).join("\n");
        assert!(found.contains(expected_text), "{found}");
    }
    let late = "[listeners.l.linkerd]\noutage_margin = '50m'\n";
    assert!(!findings(&with(&format!("{late}{hour}")), &[]).is_empty());
}

#[test]
fn every_issue_is_reported_once_in_the_order_of_the_file() {
    let found = findings(
        "[log]\nlevel = 'loud'\n[ledger]\npath = 'l'\n[hsm]\nmodule = 'm'\nworkers = 0\n\
         [clusters.east]\ntrust_domain = 'T D'\n\
         [listeners.mesh]\naddress = 'here'\napis = ['istio']\nclusters = ['east', 'west']\n\
         tls = { trust_domain = 'T D', dns = ['a', 'a'] }\n\
         [profiles.short]\ndefault_ttl = '1s'\nusages = []\n\
         [istio]\nprofile = 'short'\n\
         [[policy.rules]]\ncallers = []\nprofiles = ['short', 'gone']\nnames = ['spiffe://*/x']\n",
        &[("ROOTBRIDGE_INSTANCE__LEASE", "1s")],
    );
    let keys: Vec<_> = found
        .iter()
        .map(|finding| {
            let mut parts = finding.split(": ");
            let place = parts.next().unwrap();
            let line = place.rsplit_once(':').map_or(place, |(_, line)| line);
            (line, parts.next().unwrap())
        })
        .collect();
    let expected = [
        (
            "environment variable ROOTBRIDGE_INSTANCE__LEASE",
            "instance.lease",
        ),
        ("2", "log.level"),
        ("4", "ledger.path"),
        ("6", "hsm.module"),
        ("7", "hsm.workers"),
        ("9", "clusters.east.trust_domain"),
        ("11", "listeners.mesh.address"),
        ("13", "listeners.mesh.clusters"),
        ("14", "listeners.mesh.tls.trust_domain"),
        ("14", "listeners.mesh.tls.dns"),
        ("16", "profiles.short.default_ttl"),
        ("17", "profiles.short.usages"),
        ("21", "policy.rules[0].callers"),
        ("22", "policy.rules[0].profiles"),
        ("23", "policy.rules[0].names"),
    ];
    assert_eq!(keys, expected, "{found:#?}");
}

#[test]
fn every_missing_key_and_wrong_type_is_reported_beside_the_values() {
    let found = findings(
        "[ledger]\n[hsm]\nmodule = '/m.so'\nworkers = 'x'\nqueue = 0\n\
         [listeners.mesh]\napis = 'istio'\nclusters = ['east']\n\
         [profiles.gold]\nmax_ttl = 'x'\nbackdate = 'y'\n\
         [profiles.short]\ndefault_ttl = '1s'\n\
         [[policy.rules]]\nnames = []\n",
        &[],
    );
    for expected_text in [
        ":1: ledger.path: is missing",
        ":4: hsm.workers: string \"x\" is not an integer",
        ":6: listeners.mesh.address: is missing",
        ":7: listeners.mesh.apis: invalid type: string \"istio\"",
        ":10: profiles.gold.max_ttl: invalid value: string \"x\"",
        ":11: profiles.gold.backdate: invalid value: string \"y\"",
        ":14: policy.rules[0].callers: is missing",
        ":14: policy.rules[0].profiles: is missing",
    ] {
        assert!(
            found.iter().any(|f| f.contains(expected_text)),
            "{expected_text}: {found:#?}"
        );
    }
    // Without the ledger's path the values cannot be checked; with it they are.
    let text = "[ledger]\npath = '/l'\n[hsm]\nmodule = '/m.so'\nworkers = 'x'\nqueue = 0\n\
                [profiles.gold]\nmax_ttl = 'x'\n[profiles.short]\ndefault_ttl = '1s'\n";
    let found = findings(text, &[]);
    let keys: Vec<_> = found.iter().filter_map(|f| f.split(": ").nth(1)).collect();
    let expected = [
        "hsm.workers",
        "hsm.queue",
        "profiles.gold.max_ttl",
        "profiles.short.default_ttl",
    ];
    assert_eq!(keys, expected, "{found:#?}");
}
