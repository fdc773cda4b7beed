//! Verifiers of others, each of which says of certification paths why it refuses them. A path begins
//! with an end entity's certificate and ends with the trust anchor, all in DER.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::x509::to_pem;
use rootbridge_test_support::files::repository;
use rustls_pki_types::{CertificateDer, UnixTime as PkiTime};
use serde_json::{Value, json};

use crate::support::{now, openssl};

/// Each verifier's reason, empty where it accepts the path for a server and for a client.
pub(crate) struct Refusals {
    pub(crate) go: String,
    pub(crate) boringssl: String,
    pub(crate) rustls: String,
}

pub(crate) fn refusals(paths: &[Vec<Vec<u8>>]) -> Vec<Refusals> {
    let encoded: Vec<_> = paths.iter().map(|path| base64(path)).collect();
    let of_go = go(&json!({ "paths": encoded, "files": [] }));
    let of_boringssl = ask(
        Command::new(repository("build/boringssl/boringssl-certificates")),
        &json!({ "paths": encoded }),
    );
    let text = |value: &Value, index: usize| value["verify"][index].as_str().unwrap().to_owned();
    let each = |(index, path): (usize, &Vec<Vec<u8>>)| Refusals {
        go: text(&of_go, index),
        boringssl: text(&of_boringssl, index),
        rustls: webpki(path)
            .err()
            .map_or(String::new(), |error| error.to_string()),
    };
    paths.iter().enumerate().map(each).collect()
}

fn webpki(path: &[Vec<u8>]) -> Result<(), webpki::Error> {
    let ders: Vec<CertificateDer<'_>> = path
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let (leaf, rest) = ders.split_first().unwrap();
    let (anchor, intermediates) = rest.split_last().unwrap();
    // It would only say that no path was found.
    for intermediate in intermediates {
        webpki::EndEntityCert::try_from(intermediate)?;
    }
    let anchors = [webpki::anchor_from_trusted_cert(anchor)?];
    let at = PkiTime::since_unix_epoch(Duration::from_secs(now().secs().try_into().unwrap()));
    let leaf = webpki::EndEntityCert::try_from(leaf)?;
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    for usage in [
        webpki::KeyUsage::server_auth(),
        webpki::KeyUsage::client_auth(),
    ] {
        leaf.verify_for_usage(algorithms, &anchors, intermediates, at, usage, None, None)?;
    }
    Ok(())
}

/// Whether `openssl verify -x509_strict` accepts each certificate below that anchor.
pub(crate) fn openssl_accepts(anchor: &[u8], certificates: &[Vec<u8>]) -> Vec<bool> {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &Path, der: &[u8]| {
        std::fs::write(home.path().join(name), to_pem("CERTIFICATE", der)).unwrap();
    };
    write(Path::new("anchor.pem"), anchor);
    let names: Vec<String> = (0..certificates.len())
        .map(|index| format!("{index}.pem"))
        .collect();
    for (name, der) in names.iter().zip(certificates) {
        write(Path::new(name), der);
    }
    let mut arguments = vec!["verify", "-x509_strict", "-trusted", "anchor.pem"];
    arguments.extend(names.iter().map(String::as_str));
    let (Ok(text) | Err(text)) = openssl(&arguments, home.path());
    let accepts = |name: &String| text.lines().any(|line| line == format!("{name}: OK"));
    names.iter().map(accepts).collect()
}

pub(crate) fn go(input: &Value) -> Value {
    ask(
        Command::new(repository("build/interop/certificates")),
        input,
    )
}

pub(crate) fn python(input: &Value) -> Value {
    let mut command = Command::new(repository("build/venv/bin/python"));
    command.arg(repository("tests/verifiers/chain_files.py"));
    ask(command, input)
}

pub(crate) fn base64(all: &[Vec<u8>]) -> Vec<String> {
    all.iter().map(|each| STANDARD.encode(each)).collect()
}

/// What runs `program` with `input` on its standard input prints, as JSON.
fn ask(mut program: Command, input: &Value) -> Value {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make setup` builds it");
    let mut stdin = child.stdin.take().unwrap();
    let text = input.to_string();
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
