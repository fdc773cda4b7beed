//! A bundle that has no room for another root: a rotation is not prepared, and says so.

use std::fmt::Write as _;
use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rootbridge::digest::hex;
use rootbridge::x509::{MAX_CERTIFICATES, parse_pem_chain};
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

use crate::rotation_servers::{advance, rotate};

/// That many roots of other CAs.
fn roots(count: usize) -> String {
    let key = KeyPair::generate().unwrap();
    let mut all = String::new();
    for number in 0..count {
        let mut params = CertificateParams::default();
        let name = format!("partner {number}");
        params
            .distinguished_name
            .push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        let root = params.self_signed(&key).unwrap();
        all.write_str(&root.pem()).unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_until_the_bundle_has_room() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let file = setup.path("partners.pem");
    let partners = roots(MAX_CERTIFICATES - 1);
    fs::write(&file, &partners).unwrap();
    setup.cli(&[
        "anchors",
        "add",
        file.to_str().unwrap(),
        "--trust-domain",
        TD,
        "--source",
        "partners",
    ]);
    let server = setup.serve().await;
    rotate(&setup, &server, &["start"]).unwrap();
    eventually(PATIENCE, "why it is not prepared", async || {
        let explained = rotate(&setup, &server, &["explain"]).unwrap();
        let held = explained["held"].as_array().unwrap();
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0]["condition"], "preparation");
        let why = held[0]["why"].as_str().unwrap();
        why.contains("with the new root the trust bundle of cluster.local would have 501")
    })
    .await;
    let force = ["advance", "--force", "--reason", "there is no room"];
    let refused = rotate(&setup, &server, &force).unwrap_err();
    assert!(refused.contains("cannot be forced"), "{refused}");

    // It goes on by itself once there is.
    let partner = parse_pem_chain(partners.as_bytes()).unwrap().remove(0);
    setup.cli(&["anchors", "remove", &hex(&partner.fingerprint())]);
    assert_eq!(advance(&setup, &server).await, "publish");
    server.stop().await;
}
