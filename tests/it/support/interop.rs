//! The driver of Istio's own client, which `make setup` builds from `tests/interop`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use rootbridge_test_support::command::run;
use rootbridge_test_support::files::repository;
use rootbridge_test_support::openssl::{self, Material};
use rootbridge_test_support::{TD, TestServer};

use super::ledger;

/// One call; the fields are described in `tests/interop/istio/calls.go`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Call {
    pub name: String,
    pub client: String,
    pub token_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub key: String,
    pub identity: String,
    pub csr: String,
    pub expected: String,
    pub ttl: i64,
    pub signer: String,
    pub fields: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub name: String,
    pub code: String,
    pub message: String,
    pub chain: Option<Vec<String>>,
    pub key: String,
    pub facts: Option<Facts>,
    pub problem: String,
}

/// The leaf, as Go parsed it.
#[derive(Debug, Deserialize)]
pub(crate) struct Facts {
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
    pub intermediates: usize,
    pub roots: usize,
}

/// The driver in one of its modes, pointed at a CA.
pub(crate) fn driver(mode: &str, setup: &TestServer) -> Command {
    let mut command = Command::new(repository("build/interop/istio"));
    command
        .arg(mode)
        .arg("-address")
        .arg(format!("127.0.0.1:{}", setup.port))
        .arg("-roots")
        .arg(ledger::anchors(setup));
    command
}

/// Makes the calls in order.
pub(crate) fn calls(setup: &TestServer, list: &[Call]) -> Vec<Answer> {
    let mut child = driver("calls", setup)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`make setup` builds build/interop/istio");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(json!(list).to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers: Vec<Answer> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), list.len());
    answers
}

/// A key and a CSR of the workload's own process (openssl), certified over Istio's API.
pub(crate) fn certify(
    setup: &TestServer,
    name: &str,
    namespace: &str,
    account: &str,
    kind: &str,
) -> Material {
    let key = openssl::key(&setup.path(""), name, kind);
    let identity = format!("spiffe://{TD}/ns/{namespace}/sa/{account}");
    let csr = openssl::csr(&key, &format!("URI:{identity}"));
    let call = Call {
        name: name.to_owned(),
        token_file: setup.issuer.token_file(namespace, account, "istio-ca"),
        identity,
        csr: fs::read_to_string(csr).unwrap(),
        ttl: 3600,
        ..Call::default()
    };
    let answer = calls(setup, &[call]).remove(0);
    assert_eq!(
        (answer.code.as_str(), answer.problem.as_str()),
        ("OK", ""),
        "{answer:?}"
    );
    let elements = answer.chain.unwrap();
    let (roots, chain) = elements.split_last().unwrap();
    let (chain_file, roots_file) = (key.with_extension("pem"), key.with_extension("roots"));
    fs::write(&chain_file, chain.concat()).unwrap();
    fs::write(&roots_file, roots).unwrap();
    Material {
        chain: chain_file,
        key,
        roots: roots_file,
    }
}

/// Writes the list of callers that `issue` works for: `count` accounts in one namespace.
pub(crate) fn workloads(setup: &TestServer, count: usize) -> PathBuf {
    let entry = |n: usize| {
        let account = format!("load-{n}");
        json!({
            "identity": format!("spiffe://cluster.local/ns/load/sa/{account}"),
            "token_file": setup.issuer.token_file("load", &account, "istio-ca"),
        })
    };
    let path = setup.path("workloads.json");
    fs::write(&path, Value::from_iter((0..count).map(entry)).to_string()).unwrap();
    path
}

/// The `issue` mode to its end: its tally.
pub(crate) fn issue(setup: &TestServer, workloads: &Path, arguments: &[&str]) -> Value {
    let text = run(driver("issue", setup)
        .arg("-workloads")
        .arg(workloads)
        .args(arguments));
    serde_json::from_str(&text).unwrap()
}
