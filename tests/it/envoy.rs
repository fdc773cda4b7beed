//! Two real Envoys talk mTLS, each with a certificate for a key of its own; a third, from another
//! CA, is refused.

use std::path::Path;

use crate::support::envoy::{client, fixed, server};
use crate::support::http::get;
use crate::support::interop::certify;
use crate::support::mesh::Mesh;
use crate::support::openssl::{Material, ScratchCa};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// The story, whoever made the certificates: `own` for an ID of this mesh, `foreign` for the same
/// ID from another CA that itself trusts this mesh.
fn story(directory: &Path, own: &dyn Fn(&str, &str) -> Material, foreign: &Material) {
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

    // The client's ID, but another CA's word for it.
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

    // This CA's word, but for another ID; in both directions.
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
#[test]
fn with_certificates_from_the_token() {
    let mesh = Mesh::new();
    let _server = mesh.serve();
    let own = |name: &str, id: &str| {
        let account = id.rsplit('/').next().unwrap();
        certify(&mesh, name, "shop", account, "ecdsa-p256")
    };
    let roots = certify(&mesh, "roots", "shop", "other", "ecdsa-p256").roots;
    let other = ScratchCa::new(&mesh.path("other"));
    let foreign = Material {
        roots,
        ..other.workload("foreign", CLIENT)
    };
    story(&mesh.path(""), &own, &foreign);
}

/// The control: with certificates that openssl made, so that a failure below is Rootbridge's.
#[test]
fn with_a_scratch_ca() {
    let directory = tempfile::tempdir().unwrap();
    let ca = ScratchCa::new(&directory.path().join("ca"));
    let other = ScratchCa::new(&directory.path().join("other"));
    let foreign = Material {
        roots: ca.roots(),
        ..other.workload("foreign", CLIENT)
    };
    story(
        directory.path(),
        &|name, id| ca.workload(name, id),
        &foreign,
    );
}
