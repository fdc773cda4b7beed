//! What the tests with third-party clients share.

pub(crate) mod envoy;
pub(crate) mod http;
pub(crate) mod interop;
pub(crate) mod ledger;
pub(crate) mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rootbridge_test_support::command::{output, run};

/// A name of the listener's certificate.
pub(crate) const NAME: &str = "rootbridge.rootbridge.svc";

fn s_client(port: u16) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-servername", NAME, "-alpn", "h2", "-showcerts"])
        .arg("-connect")
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null());
    command
}

/// Whether a TLS handshake with a server on this machine succeeds now.
pub(crate) fn handshake(port: u16) -> bool {
    output(&mut s_client(port)).status.success()
}

/// The chain that a TLS server on this machine presents, in a file.
pub(crate) fn presented_chain(port: u16, directory: &Path) -> PathBuf {
    let text = run(&mut s_client(port));
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----\n";
    let blocks = text
        .split(begin)
        .skip(1)
        .filter_map(|rest| rest.split_once(end));
    let chain: Vec<String> = blocks
        .map(|(body, _)| format!("{begin}{body}{end}"))
        .collect();
    let path = directory.join(format!("presented-{port}.pem"));
    std::fs::write(&path, chain.concat()).unwrap();
    path
}

/// `sha256:…` of a certificate.
pub(crate) fn fingerprint(certificate: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let text = run(command.arg(certificate));
    let digits = text.trim().rsplit('=').next().unwrap().replace(':', "");
    format!("sha256:{}", digits.to_lowercase())
}
