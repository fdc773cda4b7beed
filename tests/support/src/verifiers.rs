//! Programs that share no code with Rootbridge and verify what it made: pkilint, openssl, the
//! SPIFFE library and cryptography behind Python, and Go's crypto/x509.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::{output, run};
use crate::files::repository;

fn python(script: &str) -> Command {
    let mut command = Command::new(repository("build/venv/bin/python"));
    command.arg(repository("tests/verifiers").join(script));
    command
}

/// The findings about certificates; `tests/verifiers/certificates.py` describes cases and findings.
pub fn verify_certificates(cases: &[Value]) -> Vec<String> {
    let mut child = python("certificates.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make setup` makes build/venv");
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(json!(cases).to_string().as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["cases"], cases.len());
    let findings = report["findings"].as_array().unwrap();
    let text = |finding: &Value| finding.as_str().unwrap().to_owned();
    findings.iter().map(text).collect()
}

/// `tests/verifiers/ledger.py`, which reads a ledger with its own SQLite and its own parser.
pub fn read_ledger(arguments: &[&OsStr]) -> String {
    run(python("ledger.py").args(arguments))
}

/// `tests/verifiers/adcs.py`, another client of AD CS's web enrolment pages.
pub fn ask_as_certsrv(arguments: &[&str]) -> String {
    run(python("adcs.py").args(arguments))
}

/// Asserts the ledger's invariants I1 to I4 and I6; returns the report. `witnesses` are files with
/// the certificates that clients received.
pub fn verify_ledger<P: AsRef<Path>>(ledger: &Path, witnesses: &[P]) -> Value {
    let mut arguments = vec![ledger.as_os_str()];
    arguments.extend(witnesses.iter().map(|path| path.as_ref().as_os_str()));
    let report: Value = serde_json::from_str(&read_ledger(&arguments)).unwrap();
    assert_eq!(report["findings"], json!([]), "{report:#}");
    report
}

/// Go's crypto/x509 on any chain.
pub fn go_verify(chain: &Path, roots: &Path, usage: &str, dns: &str) -> Result<(), String> {
    let mut command = Command::new(repository("build/interop/istio"));
    command
        .args(["verify", "-usage", usage, "-dns", dns, "-chain"])
        .arg(chain)
        .arg("-roots")
        .arg(roots);
    let output = output(&mut command);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
