//! The configuration that the chart writes is one that the server takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{RELEASE, only, render, set, value_sets, values};

pub(super) fn configuration(values: &[String]) -> String {
    configuration_in(RELEASE, values)
}

/// The configuration of a release in a namespace.
pub(crate) fn configuration_in(namespace: &str, values: &[String]) -> String {
    let objects = render(namespace, values);
    let maps = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap");
    maps.filter_map(|map| map["data"]["rootbridge.toml"].as_str())
        .next()
        .unwrap()
        .to_owned()
}

/// `rootbridge config validate`; what it said, when it refused.
pub(super) fn validate(text: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rootbridge.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rootbridge"))
        .args(["config", "validate", "--config"])
        .arg(&file)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_server_takes_the_configuration() {
    for name in value_sets() {
        if name == "remote" {
            continue;
        }
        let values = values(&name);
        let text = configuration(&values);
        if let Err(message) = validate(&text) {
            panic!("{name}: {message}\n{text}");
        }
    }
}

/// The container's memory limit follows from the limits that the server has in that configuration.
#[test]
fn the_memory_limit_holds_what_the_limits_allow() {
    for name in value_sets() {
        let values = values(&name);
        let objects = render(RELEASE, &values);
        let Some(server) = objects
            .iter()
            .find(|object| object["kind"] == "StatefulSet")
        else {
            continue;
        };
        let container = &server["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
        let environment = container["env"].as_array().unwrap();
        let stated = environment
            .iter()
            .find(|each| each["name"] == "ROOTBRIDGE_INSTANCE__MEMORY_MIB")
            .unwrap();
        let reference = &stated["valueFrom"]["resourceFieldRef"];
        assert_eq!(reference["resource"], "limits.memory");
        assert_eq!(reference["divisor"], "1Mi");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rootbridge.toml");
        let text = configuration(&values);
        fs::write(&file, &text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_rootbridge"))
            .args(["config", "validate", "-o", "json", "--config"])
            .arg(&file)
            .env("ROOTBRIDGE_INSTANCE__MEMORY_MIB", "1024")
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // This machine has none of the Secrets.
        let about_limits =
            |warning: &&serde_json::Value| !warning.as_str().unwrap().starts_with("operators.");
        let warnings = said["warnings"].as_array().unwrap();
        let warnings: Vec<_> = warnings.iter().filter(about_limits).collect();
        match text.contains("max_connections = 1000000") {
            false => assert!(warnings.is_empty(), "{name}: {said}"),
            true => {
                let warning = warnings[0].as_str().unwrap();
                assert!(
                    warning.contains("1000000 connections of 96 KiB"),
                    "{warning}"
                );
            }
        }
    }
}

/// Values under `config` are written unchanged, whatever characters they have, and `null` removes.
#[test]
fn free_tables_are_written_as_they_are() {
    let odd = r#"spiffe://td/ns/"x"\y/sa/<&>'"#;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.yaml");
    let free = serde_json::json!({
        "hsm": { "mode": "softhsm" },
        "config": {
            "hsm": { "workers": 16, "environment": { "A.B C": odd } },
            "listeners": { "mesh": { "limits": { "max_connections": 2_000_000 }, "clusters": null } },
            "policy": { "rules": [
                { "callers": [odd], "profiles": [], "names": [] },
                { "callers": ["é\n"], "profiles": [], "names": ["self"] },
            ]},
            "log": { "level": "debug" },
        },
    });
    fs::write(&file, free.to_string()).unwrap();
    let text = configuration(&["-f".to_owned(), file.display().to_string()]);
    let read: toml::Table = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    let hsm = read["hsm"].as_table().unwrap();
    assert_eq!(hsm["workers"].as_integer(), Some(16));
    assert_eq!(hsm["environment"]["A.B C"].as_str(), Some(odd));
    let mesh = read["listeners"]["mesh"].as_table().unwrap();
    assert_eq!(
        mesh["limits"]["max_connections"].as_integer(),
        Some(2_000_000)
    );
    assert!(!mesh.contains_key("clusters"), "{text}");
    let rules = read["policy"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["callers"][0].as_str(), Some(odd));
    assert_eq!(rules[1]["callers"][0].as_str(), Some("é\n"));
    assert_eq!(read["log"]["level"].as_str(), Some("debug"));
    assert_eq!(read["log"]["format"].as_str(), Some("json"));
}

/// A certificate renews a certificate only where the operator has said so.
#[test]
fn renewal_by_certificate_is_chosen() {
    let trusted = |values: &[String]| {
        let read: toml::Table = configuration(values).parse().unwrap();
        let mesh = read["listeners"]["mesh"].as_table().unwrap();
        let certificates = mesh.get("client_certificates");
        certificates.map(|section| section["trust_domains"].as_array().unwrap().clone())
    };
    assert_eq!(trusted(&set(&[])), None);
    let chosen = set(&[
        "authentication.renewByCertificate=true",
        "trustDomain=td.example",
    ]);
    assert_eq!(trusted(&chosen), Some(vec!["td.example".into()]));
}

/// Rotations and watchers are written under the configuration's own keys.
#[test]
fn rotations_and_watchers_are_written() {
    let text = configuration(&values("module"));
    let read: toml::Table = text.parse().unwrap();
    let rotation = read["rotation"].as_table().unwrap();
    assert_eq!(rotation["auto"].as_bool(), Some(true));
    assert_eq!(rotation["windows"][0].as_str(), Some("22:00-04:00"));
    assert_eq!(rotation["settle"].as_str(), Some("3m"));
    let west = read["watchers"]["west"].as_table().unwrap();
    assert_eq!(west["cluster"].as_str(), Some("west"));
    let plain: toml::Table = configuration(&set(&[])).parse().unwrap();
    assert!(!plain.contains_key("rotation") && !plain.contains_key("watchers"));
}

/// A changed configuration is a changed pod.
#[test]
fn the_pod_follows_its_configuration() {
    let sum = |values: &[String]| {
        let objects = render(RELEASE, values);
        let template = &only(&objects, "StatefulSet")["spec"]["template"];
        template["metadata"]["annotations"]["checksum/config"].clone()
    };
    let before = sum(&set(&[]));
    assert_eq!(before, sum(&set(&["podLabels.a=b"])));
    assert_ne!(before, sum(&set(&["trustDomain=other.example"])));
}

/// What the init container does, done here: a token that is made once.
#[test]
fn the_evaluation_token_is_made_once() {
    let objects = render(RELEASE, &set(&[]));
    let init = &only(&objects, "StatefulSet")["spec"]["template"]["spec"]["initContainers"][0];
    let script = init["args"][0].as_str().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("softhsm/new-token");
    let there = "/usr/share/rootbridge/softhsm/new-token";
    assert!(script.contains(there), "{script}");
    let script = script.replace(there, here.to_str().unwrap());
    let state = tempfile::tempdir().unwrap();
    let token = state.path().join("softhsm");
    let run = || {
        let status = Command::new("/bin/sh")
            .args(["-ec", &script, "softhsm"])
            .arg(&token)
            .arg("rootbridge")
            .status()
            .unwrap();
        assert!(status.success());
        fs::read(token.join("pin")).unwrap()
    };
    let pin = run();
    assert_eq!(run(), pin, "the second start keeps the token");

    // A start that ended half way through leaves a directory without its mark.
    fs::remove_file(token.join("made")).unwrap();
    assert_ne!(run(), pin);
    let kept = fs::read_dir(state.path()).unwrap().count();
    assert_eq!(kept, 2, "what was there is put aside");
}
