//! `dev`, then what its screen says to do next.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Home, read};

const ID: &str = "spiffe://cluster.local/ns/foo/sa/bar";

#[test]
fn two_commands_to_a_certificate() {
    let home = Home::new();
    let dev = home.dev();
    assert!(
        dev.screen
            .contains("rootbridge sign spiffe://cluster.local/ns/foo/sa/bar --out bar/")
    );
    for secret in ["pin", "operator.token", "ledger.db"] {
        let mode = std::fs::metadata(home.state(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{secret}");
    }

    home.run(&["sign", ID, "--out", "bar/"]).ok();
    let mode = std::fs::metadata(home.path("bar/key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let verify = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "bar/bundle.pem",
        "-untrusted",
    ];
    let verify = [&verify[..], &["bar/cert.pem", "bar/cert.pem"]].concat();
    assert_eq!(home.openssl(&verify).ok(), "bar/cert.pem: OK\n");
    let key = home
        .openssl(&["pkey", "-in", "bar/key.pem", "-pubout"])
        .ok();
    assert_eq!(
        key,
        home.openssl(&["x509", "-in", "bar/cert.pem", "-noout", "-pubkey"])
            .ok()
    );

    // Nothing is replaced unasked, and a refusal leaves nothing behind.
    let before = read(&home.path("bar/cert.pem"));
    assert!(
        home.run(&["sign", ID, "--out", "bar/"])
            .fails(1)
            .contains("--force")
    );
    assert_eq!(before, read(&home.path("bar/cert.pem")));
    home.run(&["sign", ID, "--out", "bar/", "--force"]).ok();
    assert_ne!(before, read(&home.path("bar/cert.pem")));
    let refused = home
        .run(&["sign", "spiffe://cluster.local/other", "--out", "no/"])
        .fails(6);
    assert!(refused.contains("[[policy.rules]]"), "{refused}");
    assert!(!home.path("no").exists());

    for kind in ["ecdsa-p384", "rsa-2048", "ed25519"] {
        let signed = home.run(&[
            "sign", ID, "--out", kind, "--key", kind, "--ttl", "1h", "-o", "json",
        ]);
        assert_eq!(signed.json()["spiffe_id"], ID);
    }

    // Nobody is trusted for being local.
    home.write(
        "forged",
        "rb_op_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    );
    let forged = home
        .run(&["sign", ID, "--out", "no/", "--credential-file", "forged"])
        .fails(6);
    assert!(forged.contains("--credential-file"), "{forged}");
    assert!(!forged.contains("rb_op_AAAA"), "{forged}");

    on_record(&home);
    first_bundle(&home);
    dev.stop();
    assert!(
        home.run(&["bundle", "show"])
            .fails(7)
            .contains("is the server running?")
    );
    restarted(&home);
}

fn on_record(home: &Home) {
    let rows = home
        .run(&["cert", "list", "--subject", ID, "-o", "json"])
        .json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 5, "{rows:?}");
    let serial = rows[0]["serial_number"].as_str().unwrap();
    let shown = home.run(&["cert", "show", serial, "-o", "json"]).json();
    assert_eq!(shown["caller"]["identity"], "operator:admin");
    assert_eq!(shown["state"], "issued");
    assert!(
        home.run(&["cert", "show", serial])
            .ok()
            .contains("BEGIN CERTIFICATE")
    );
    home.run(&["cert", "show", "00ff"]).fails(5);
    assert_eq!(home.run(&["cert", "list", "--state", "failed"]).ok(), "");
    let page = home.run(&["cert", "list", "--limit", "2"]);
    assert!(page.err.contains("--after"), "{}", page.err);

    let keys = home.run(&["key", "list", "-o", "json"]).json();
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_eq!(keys[0]["never_extractable"], true);
    let authorities = home.run(&["ca", "list", "-o", "json"]).json();
    assert!(
        authorities[0]["created_by"].as_str().unwrap().contains('@'),
        "{authorities}"
    );
    home.run(&["check"]).ok();
}

/// Chicken and egg: with a fingerprint and nothing else.
fn first_bundle(home: &Home) {
    let bundle = home.run(&["bundle", "show", "-o", "json"]).json();
    let print = bundle["anchors"][0]["sha256"].as_str().unwrap().to_owned();
    let client = read(&home.state("client.toml"));
    let endpoint = client
        .lines()
        .find_map(|line| line.strip_prefix("endpoint = "))
        .unwrap();
    let url = format!(
        "{}/v1/trust-bundles/cluster.local",
        endpoint.trim_matches('"')
    );
    let fetch = |print: &str, out: &str| {
        home.run(&[
            "bundle",
            "fetch",
            &url,
            "--fingerprint",
            print,
            "--out",
            out,
        ])
    };
    fetch(&format!("sha256:{print}"), "first.pem").ok();
    assert_eq!(
        read(&home.path("first.pem")),
        home.run(&["bundle", "show", "-o", "pem"]).ok()
    );
    let other = print.replace(['0', '1', '2', '3'], "4");
    assert!(
        fetch(&other, "other.pem")
            .fails(6)
            .contains("nothing was saved")
    );
    assert!(!home.path("other.pem").exists());
}

fn restarted(home: &Home) {
    let (pin, anchor) = (read(&home.state("pin")), read(&home.state("bundle.pem")));
    let dev = home.dev();
    assert_eq!(pin, read(&home.state("pin")));
    assert_eq!(anchor, read(&home.state("bundle.pem")));
    home.run(&["sign", ID, "--out", "again/"]).ok();
    assert!(
        home.run(&["dev"])
            .fails(1)
            .contains("another `rootbridge dev` is running there")
    );
    dev.stop();
}
