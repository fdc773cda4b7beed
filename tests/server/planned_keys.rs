//! A command that dies once the token has generated a key: the key is on record, and the next one uses it.

use std::os::unix::process::ExitStatusExt as _;

use rootbridge_test_support::{TD, TestServer};
use serde_json::Value;

/// The uses of the keys in the token, sorted.
fn uses(setup: &TestServer) -> Vec<String> {
    let keys: Vec<Value> =
        serde_json::from_str(&setup.cli(&["key", "list", "-o", "json"])).unwrap();
    let mut uses: Vec<_> = keys.iter().map(|key| key["use"].to_string()).collect();
    uses.sort();
    uses
}

#[test]
fn a_key_is_on_record_before_it_is_generated() {
    let setup = TestServer::bare();
    let command = setup.use_faulty_module();
    let dies = |arguments: &[&str]| {
        command("generate_kill 1\n");
        let output = setup.try_cli(arguments);
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
        command("");
    };

    let request = ["ca", "request", "--trust-domain", TD];
    dies(&request);
    assert_eq!(uses(&setup), [format!("\"issuing of {TD}, planned\"")]);
    // A key of another kind is wanted: the planned one waits for its own.
    setup.cli(&[&request[..], &["--key", "ecdsa-p384"]].concat());
    setup.cli(&request);
    let pending = format!("\"issuing of {TD}, pending\"");
    assert_eq!(uses(&setup), [&*pending, &*pending]);

    // The root's key, then the issuing key.
    let other = "other.example";
    let init = ["ca", "init", "--trust-domain", other];
    dies(&init);
    assert!(uses(&setup).contains(&format!("\"root of {other}, planned\"")));
    dies(&init);
    let found = uses(&setup);
    assert!(found.contains(&format!("\"root of {other}, pending\"")));
    assert!(found.contains(&format!("\"issuing of {other}, planned\"")));
    setup.cli(&init);
    let found = uses(&setup);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.contains(&format!("\"root of {other}, active\"")));
    assert!(found.contains(&format!("\"issuing of {other}, active\"")));

    // What nobody continues is an operator's to destroy.
    let third = ["ca", "request", "--trust-domain", "third.example"];
    dies(&third);
    let asked = setup.refused(&["key", "prune"]);
    let says = "for the issuing key of third.example, and has not recorded it";
    assert!(asked.contains(says), "{asked}");
    assert!(asked.contains("Destroy 1 of them?"), "{asked}");
    setup.cli(&["key", "prune", "--yes"]);
    assert_eq!(uses(&setup), found);
    setup.cli(&third);
    assert_eq!(uses(&setup).len(), 5);
}
