//! Each condition of a rotation, forced while it alone is not met: a handshake fails that succeeds once
//! it is met. Authorities of one server have a rotation each; the workloads are rustls clients and
//! servers, each with the roots that it would have.

pub(crate) mod mesh;

use std::fs;
use std::process::Command;
use std::time::Duration;

use rcgen::KeyPair;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::grpc::https;
use rootbridge_test_support::mutual_tls::Peer;
use rootbridge_test_support::postgres::PostgresServer;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};
use serde_json::{Value, json};

use crate::postgres::{another_with, with_database};
use mesh::{HELD, Mesh, add, fails, with_roots};

const FOLLOWERS: &str = r#"
[watchers.target]
trust_domain = "target.test"
identity = "spiffe://target.test/ns/shop/sa/follower"
cluster = "west"

[watchers.settling]
trust_domain = "settling.test"
identity = "spiffe://settling.test/ns/shop/sa/follower"
cluster = "west"

[watchers.billing]
trust_domain = "watcher.test"
identity = "spiffe://watcher.test/ns/shop/sa/follower"

[listeners.vault]
address = "127.0.0.1:0"
apis = ["vault"]
operators = ["below"]

[listeners.vault.tls]
trust_domain = "cluster.local"
dns = ["localhost"]

[vault.mount.pki]
authority = "subordinate.test"
ca_profile = "below"

[profiles.below]
ca = true
default_ttl = "24h"

[[policy.rules]]
callers = ["operator:below"]
profiles = ["below"]
names = ["spiffe://subordinate.test"]

[operators.below]
trust_domain = "subordinate.test"
"#;

/// A CA of somebody else below the issuing CA, and a workload that it has certified.
async fn subordinate(mesh: &Mesh<'_>) -> Peer {
    let (setup, server) = (mesh.setup, mesh.server);
    let key = KeyPair::generate().unwrap();
    let (ca, leaf, request) = (
        setup.path("below.pem"),
        setup.path("below.key"),
        setup.path("leaf.csr"),
    );
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let url = format!(
        "https://localhost:{}/v1/pki/root/sign-intermediate",
        server.port_of("vault")
    );
    let body = json!({ "csr": csr, "uri_sans": "spiffe://subordinate.test" });
    let client = https(&setup.roots(TD));
    let mut answer = Value::Null;
    eventually(PATIENCE, "the CA is certified", async || {
        let request = client
            .put(&url)
            .header("x-vault-token", &setup.other_operator)
            .body(body.to_string());
        let Ok(response) = request.send().await else {
            return false;
        };
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{text}");
        answer = serde_json::from_str(&text).unwrap();
        true
    })
    .await;
    let data = &answer["data"];
    let certificate = data["certificate"].as_str().unwrap();
    fs::write(&ca, certificate).unwrap();
    fs::write(&leaf, key.serialize_pem()).unwrap();
    let workload = KeyAndCsr::new(&["spiffe://subordinate.test/ns/shop/sa/below"]);
    fs::write(&request, &workload.pem).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "1", "-copy_extensions", "copy"]);
    openssl.arg("-in").arg(&request);
    openssl.arg("-CA").arg(&ca).arg("-CAkey").arg(&leaf);
    let signed = run(&mut openssl);
    let chain = format!(
        "{signed}\n{certificate}\n{}",
        data["issuing_ca"].as_str().unwrap()
    );
    let key = workload.key.serialize_der();
    Peer::new(&chain, key, std::slice::from_ref(&mesh.old))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_gate_a_handshake_fails() {
    let setup = TestServer::new();
    let domains = [
        "target",
        "settling",
        "watcher",
        "holder",
        "alive",
        "subordinate",
    ];
    let domains = domains.map(|gate| format!("{gate}.test"));
    let credential = setup.path("below.token");
    write_secret(&credential, &setup.other_operator);
    let followers = format!("{FOLLOWERS}credential_file = {credential:?}\n");
    add(&setup, &domains.each_ref().map(String::as_str), &followers);
    let server = setup.serve().await;
    let mut meshes = Vec::new();
    for domain in &domains {
        meshes.push(Mesh::new(&setup, &server, domain).await);
    }
    let [target, settling, watcher, holder, alive, below] = &meshes[..] else {
        unreachable!()
    };

    // What is there before the rotations: the holder's certificate came with the old bundle.
    let sidecar = holder.issue("sidecar").await;
    let certified = subordinate(below).await;
    target.report(&target.bundle().await, Some(HELD)).await;
    settling.report(&settling.bundle().await, Some(HELD)).await;
    watcher.report(&watcher.bundle().await, None).await;
    for mesh in &meshes {
        mesh.start().await;
    }
    for mesh in &meshes {
        mesh.reach(&["publish", "converge"]).await;
    }

    // They have a certificate since, and verify with the roots that their object, their file or their
    // memory holds: the old ones.
    let newest = settling.bundle().await;
    settling.report(&newest, Some(Duration::ZERO)).await;
    for (condition, mesh) in [
        ("target", target),
        ("settling", settling),
        ("watcher", watcher),
    ] {
        let verifier = mesh.issue("verifier").await;
        let verifier = with_roots(&verifier, std::slice::from_ref(&mesh.old));
        mesh.activate_too_early(condition, &verifier).await;
    }
    holder.activate_too_early("holder", &sidecar).await;

    // Nobody lacks the new root, and a certificate below the old one is alive when that leaves.
    let late = alive.issue("late").await;
    for (condition, mesh, late) in [("alive", alive, &late), ("subordinate", below, &certified)] {
        mesh.reach(&["activate", "drain"]).await;
        mesh.force(condition, "retire").await;
        let mut fresh = Peer::default();
        eventually(PATIENCE, "the bundle without the old root", async || {
            fresh = mesh.issue("fresh").await;
            fresh.roots.len() == 1
        })
        .await;
        fails(condition, &fresh, late).await;
        // With the root that its issuer still has.
        let mut roots = fresh.roots.clone();
        roots.push(mesh.old.clone());
        let late = with_roots(late, &roots);
        with_roots(&fresh, &roots).connect(&late).await.unwrap();
    }
    let renewed = alive.issue("late").await;
    let fresh = alive.issue("fresh").await;
    fresh.connect(&renewed).await.unwrap();
    server.stop().await;
}

/// With a database, of which another server reads an old revision, and so does not hear of changes; and
/// where it can be written that a proxy was started with the old roots.
#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_for_servers_and_proxies_a_handshake_fails() {
    let database = PostgresServer::shared();
    let name = database.database();
    let setup = with_database(database, &name);
    add(&setup, &["server.test", "proxy.test"], "");
    database.psql(
        &name,
        "CREATE SCHEMA lags; CREATE TABLE lags.revision AS SELECT * FROM public.revision",
    );
    let one = setup.serve().await;
    let url = database.tls_url(&name) + "&options=-c%20search_path%3Dlags,public";
    let environment = [
        ("ROOTBRIDGE_INSTANCE__LEASE", "1h"),
        ("ROOTBRIDGE_LEDGER__URL", &url),
    ];
    let two = another_with(&setup, "test-1", &environment).await;
    let catch_up = "UPDATE lags.revision SET value = (SELECT value FROM public.revision)";

    let mesh = Mesh::new(&setup, &one, "server.test").await;
    mesh.start().await;
    mesh.reach(&["publish"]).await;
    mesh.force("server", "converge").await;
    mesh.force("server", "activate").await;
    let peer = mesh.issue_below_new("web").await;
    let client = two.client(TD).await;
    let verifier = mesh.issue_by(&client, "verifier").await;
    assert_eq!(verifier.roots, std::slice::from_ref(&mesh.old));
    fails("server", &verifier, &peer).await;
    database.psql(&name, catch_up);
    eventually(PATIENCE, "the other server has heard of it", async || {
        let verifier = mesh.issue_by(&client, "verifier").await;
        verifier.roots.len() == 2 && verifier.connect(&peer).await.is_ok()
    })
    .await;

    let mesh = Mesh::new(&setup, &one, "proxy.test").await;
    mesh.start().await;
    for phase in ["publish", "converge"] {
        eventually(PATIENCE, phase, async || {
            database.psql(&name, catch_up);
            mesh.advance(None)
                .await
                .is_ok_and(|reached| reached == phase)
        })
        .await;
    }
    let proxies = json!({ "newest": 2, "targets": [], "proxies": [
        { "cluster": "east", "outdated": 1, "examples": ["shop/web-0"] },
    ] });
    let counted = format!(
        "INSERT INTO instance (name, boot, lease, lease_until)
            VALUES ('counts', 1, 3600, extract(epoch FROM now())::bigint + 3600)
            ON CONFLICT DO NOTHING;
         DELETE FROM server_report WHERE instance = 'counts';
         INSERT INTO server_report
            (instance, authority, boot, sequence, digest, issuer, details, reported_at)
            SELECT 'counts', authority, 1, sequence, digest, issuer, '{proxies}', reported_at
            FROM server_report JOIN authority ON authority.id = authority
            WHERE instance = 'test-0' AND trust_domain = 'proxy.test'"
    );
    eventually(PATIENCE, "only proxies are waited for", async || {
        database.psql(&name, catch_up);
        database.psql(&name, &counted);
        mesh.held().await == ["proxy"]
    })
    .await;
    let verifier = mesh.issue("verifier").await;
    let verifier = with_roots(&verifier, std::slice::from_ref(&mesh.old));
    mesh.activate_too_early("proxy", &verifier).await;
    one.stop().await;
    two.stop().await;
}
