//! Real Envoys take their roots from Rootbridge by SDS, and refuse a peer whose root goes.

use std::fs;

use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

use crate::support::envoy::{Discovery, Envoy, client, client_with, fixed, server, server_with};
use crate::support::http::get;
use crate::support::interop::certify;
use crate::support::{fingerprint, ledger};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

async fn accepted(server: &RunningServer, count: f64) {
    let name = "rootbridge_sds_streams{listener=\"mesh\",state=\"accepted\"}";
    eventually(
        PATIENCE,
        "Envoys that have accepted their roots",
        async || server.metric(name).await == Some(count),
    )
    .await;
}

/// Each request is a handshake.
async fn is_served(through: &Envoy, status: u16) {
    eventually(PATIENCE, &format!("status {status}"), async || {
        get(through.port, "/").is_ok_and(|answer| answer.status == status)
    })
    .await;
}

#[tokio::test]
async fn an_envoy_refuses_a_peer_whose_root_goes() {
    let setup = TestServer::on_fixed_ports();
    setup.edit("\"bundles\"]", "\"bundles\", \"sds\"]");
    setup.edit(
        "certificates = \"rootbridge\" }",
        "certificates = \"rootbridge\", sds = \"envoy\" }",
    );
    let old = OpensslCa::new(&setup.path(""), "old");
    let root = old.pem_file();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "old"];
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
    let running = setup.serve().await;
    let roots = ledger::anchors(&setup);
    let directory = setup.path("");

    // A server takes ROOTCA with its certificate as the credential; its client has one of the old CA.
    let own = certify(&setup, "server", "shop", "server", "ecdsa-p256");
    let by_certificate = Discovery {
        protocol: "GRPC",
        port: setup.port,
        roots: &roots,
        identity: Some(&own),
        token: None,
    };
    let to = server_with(
        &directory,
        "server",
        &by_certificate.tls(&own, "ROOTCA", CLIENT),
        vec![by_certificate.cluster()],
    );
    let mut old_client = old.workload("old-client", CLIENT);
    old_client.roots.clone_from(&own.roots);
    let old_from = client(&directory, "old-client", &fixed(&old_client, SERVER), &to);
    is_served(&old_from, 200).await;

    // A client takes ALL with a token, by the other protocol; its server has one of the old CA.
    let token = setup.issuer.token_file("shop", "client", "envoy");
    let token = fs::read_to_string(token).unwrap();
    let by_token = Discovery {
        protocol: "DELTA_GRPC",
        identity: None,
        token: Some(&token),
        ..by_certificate
    };
    let mut old_server = old.workload("old-server", SERVER);
    old_server.roots.clone_from(&own.roots);
    let old_to = server(&directory, "old-server", &fixed(&old_server, CLIENT));
    let mine = certify(&setup, "client", "shop", "client", "ecdsa-p256");
    let tls = by_token.tls(&mine, "ALL", SERVER);
    let cluster = || vec![by_token.cluster()];
    let from = client_with(&directory, "client", &tls, &old_to, cluster());
    is_served(&from, 200).await;
    accepted(&running, 2.0).await;

    // The root goes. Both take what is pushed, and refuse who has nothing else.
    for envoy in [&to, &from] {
        assert_eq!(envoy.counter(".ssl.fail_verify_error"), 0);
    }
    setup.cli(&["anchors", "remove", &fingerprint(&root)]);
    is_served(&old_from, 503).await;
    is_served(&from, 503).await;
    for envoy in [&to, &from] {
        let refused = envoy.counter(".ssl.fail_verify_error");
        assert!(refused > 0, "{}", envoy.process.log());
    }
    // Between the two of them all is as before.
    let between = client_with(&directory, "between", &tls, &to, cluster());
    is_served(&between, 200).await;
    accepted(&running, 3.0).await;
    running.stop_in_order().await;
}
