//! What Linkerd's controller gets, verified by programs that share no code with Rootbridge.

use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use rootbridge_test_support::verifiers::{self, go_verify, verify_certificates};
use rootbridge_test_support::{TestServer, command};
use serde_json::json;

use super::issuer::{chain, data};

/// A leaf for a proxy, signed with the secret's key as the controller would, and its verification.
pub(super) fn sign_and_verify(setup: &TestServer, secret: &Secret) {
    let file = |name: &str, text: &str| {
        let path = setup.path(&format!("feed-{name}"));
        fs::write(&path, text).unwrap();
        path
    };
    let issuer = file("issuer.pem", &chain(secret)[0].to_pem());
    let key = file("issuer.key", &data(secret, "tls.key"));
    let path = file("path.pem", &data(secret, "tls.crt"));
    let roots = file("roots.pem", &data(secret, "ca.crt"));
    let (csr, leaf) = (setup.path("feed-leaf.csr"), setup.path("feed-leaf.pem"));
    let name = "web.shop.serviceaccount.identity.linkerd.cluster.local";
    command::run(
        Command::new("openssl")
            .args([
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-subj", "/"])
            .arg("-keyout")
            .arg(setup.path("feed-leaf.key"))
            .arg("-out")
            .arg(&csr),
    );
    let extensions = file(
        "leaf.ext",
        &format!(
            "subjectAltName=critical,DNS:{name}\nbasicConstraints=critical,CA:FALSE\n\
             keyUsage=critical,digitalSignature,keyEncipherment\n\
             extendedKeyUsage=serverAuth,clientAuth\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        ),
    );
    command::run(
        Command::new("openssl")
            .args(["x509", "-req", "-days", "1", "-in"])
            .arg(&csr)
            .arg("-CA")
            .arg(&issuer)
            .arg("-CAkey")
            .arg(&key)
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&leaf),
    );
    let verify = |host: &str, what: &std::path::Path| {
        command::run(
            Command::new("openssl")
                .args([
                    "verify",
                    "-x509_strict",
                    "-verify_hostname",
                    host,
                    "-CAfile",
                ])
                .arg(&roots)
                .arg("-untrusted")
                .arg(&path)
                .arg(what),
        );
    };
    verify(name, &leaf);
    // The controller verifies its own issuer so before it takes it.
    let own = chain(secret)[0].names()[0].to_string();
    verify(own.strip_prefix("dns:").unwrap(), &issuer);
    // In the controller's own language, which has a mind of its own about such names.
    let whole = file(
        "whole.pem",
        &(fs::read_to_string(&leaf).unwrap() + &data(secret, "tls.crt")),
    );
    go_verify(&whole, &roots, "both", name).unwrap();
    go_verify(&path, &roots, "server", own.strip_prefix("dns:").unwrap()).unwrap();
}

/// Verifies the issuer with pkilint and openssl.
pub(super) fn verify_issuer(setup: &TestServer, secret: &Secret) {
    let file = |key: &str| {
        let path = setup.path(&format!("issuer-{key}"));
        fs::write(&path, data(secret, key)).unwrap();
        path
    };
    let case = json!({
        "name": "linkerd issuer", "shape": "issuing",
        "chain": file("tls.crt"), "roots": file("ca.crt"),
    });
    assert_eq!(verify_certificates(&[case]), Vec::<String>::new());
}

/// Verifies the ledger's invariants.
pub(super) fn verify_ledger(setup: &TestServer) {
    verifiers::verify_ledger::<&Path>(&setup.path("ledger.db"), &[]);
}
