//! Two real Envoys talk mTLS, each with a certificate for a key of its own; a third, from another
//! CA, is refused.

use std::path::Path;

use rootbridge_test_support::TestServer;
use rootbridge_test_support::openssl::{Material, OpensslCa};

use crate::support::envoy::{client, fixed, server};
use crate::support::http::get;
use crate::support::interop::certify;

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// Who may talk to whom, whichever CA made the certificates: `own` makes one for an ID of this mesh,
/// `foreign` is one for the same ID from another CA, which trusts this mesh.
fn check_mtls(directory: &Path, own: &dyn Fn(&str, &str) -> Material, foreign: &Material) {
    let server_side = server(directory, "server", &fixed(&own("server", SERVER), CLIENT));
    let client_side = client(
        directory,
        "client",
        &fixed(&own("client", CLIENT), SERVER),
        &server_side,
    );
    let answer = get(client_side.port, "/").unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "served over mTLS"),
        "{answer:?}"
    );
    assert!(
        answer.headers.contains(&format!("x-peer: {CLIENT}")),
        "{}",
        answer.headers
    );
    assert_eq!(server_side.counter(".ssl.fail_verify_error"), 0);

    // The client's ID, certified by another CA.
    let stranger = client(directory, "stranger", &fixed(foreign, SERVER), &server_side);
    assert_eq!(
        get(stranger.port, "/").unwrap().status,
        503,
        "a foreign certificate got through"
    );
    assert!(
        server_side.counter(".ssl.fail_verify_error") > 0,
        "{}",
        server_side.process.log()
    );

    // Another ID, certified by this CA; in both directions.
    let material = own("other", OTHER);
    let other = client(
        directory,
        "other-client",
        &fixed(&material, SERVER),
        &server_side,
    );
    assert_eq!(
        get(other.port, "/").unwrap().status,
        503,
        "another workload got through"
    );
    assert!(server_side.counter(".ssl.fail_verify_san") > 0);
    let impostor = server(directory, "other-server", &fixed(&material, CLIENT));
    let careful = client(
        directory,
        "careful",
        &fixed(&own("careful", CLIENT), SERVER),
        &impostor,
    );
    assert_eq!(
        get(careful.port, "/").unwrap().status,
        503,
        "another workload served"
    );
    assert!(careful.counter(".ssl.fail_verify_san") > 0);
}

/// Each workload's key and CSR are its own process's; the certificates come over Istio's API.
#[tokio::test]
async fn with_certificates_from_the_token() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let own = |name: &str, id: &str| {
        let account = id.rsplit('/').next().unwrap();
        certify(&setup, name, "shop", account, "ecdsa-p256")
    };
    let roots = certify(&setup, "roots", "shop", "other", "ecdsa-p256").roots;
    let other = OpensslCa::new(&setup.path(""), "other");
    let foreign = Material {
        roots,
        ..other.workload("foreign", CLIENT)
    };
    check_mtls(&setup.path(""), &own, &foreign);
}

/// The control: with certificates that openssl made, so that a failure below is Rootbridge's.
#[test]
fn with_certificates_from_openssl() {
    let directory = tempfile::tempdir().unwrap();
    let ca = OpensslCa::new(directory.path(), "ca");
    let other = OpensslCa::new(directory.path(), "other");
    let foreign = Material {
        roots: ca.pem_file(),
        ..other.workload("foreign", CLIENT)
    };
    check_mtls(
        directory.path(),
        &|name, id| ca.workload(name, id),
        &foreign,
    );
}
