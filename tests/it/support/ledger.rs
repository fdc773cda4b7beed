//! A server's ledger, read by a program that shares no code with it.

use std::fs;
use std::path::PathBuf;

use rootbridge_test_support::TestServer;
use rootbridge_test_support::verifiers::{read_ledger, verify_ledger};
use serde::Deserialize;
use serde_json::Value;

/// What was signed, as the HSM sees it. Lower hex, empty where there is none.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    pub digest: String,
    pub serial: String,
    pub signature: String,
    pub kind: u8,
}

fn read(setup: &TestServer, option: &str) -> String {
    read_ledger(&[option.as_ref(), setup.path("ledger.db").as_ref()])
}

/// The CA certificates of active issuers with the path above them, and their roles.
pub(crate) fn ca_chains(setup: &TestServer) -> Vec<(String, PathBuf)> {
    let chains: Vec<(String, String)> = serde_json::from_str(&read(setup, "--chains")).unwrap();
    let write = |(at, (role, pem)): (usize, (String, String))| {
        let path = setup.path(&format!("{role}-{at}.pem"));
        fs::write(&path, pem).unwrap();
        (role, path)
    };
    chains.into_iter().enumerate().map(write).collect()
}

/// The active trust anchors.
pub(crate) fn anchors(setup: &TestServer) -> PathBuf {
    let path = setup.path("anchors.pem");
    fs::write(&path, read(setup, "--anchors")).unwrap();
    path
}

/// Asserts the invariants; returns the counts by state. The witnesses hold what clients received.
pub(crate) fn verify(setup: &TestServer, witnesses: &[PathBuf]) -> Value {
    verify_ledger(&setup.path("ledger.db"), witnesses)
}

/// Each intent's digest, serial, signature and kind.
pub(crate) fn signed(setup: &TestServer) -> Vec<Signed> {
    serde_json::from_str(&read(setup, "--signed")).unwrap()
}
