//! Consul's calls, in its order: set-up, root, intermediate, leaf, the election of a leader, and the end.

use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::{TD, campaign::rounds};
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer, text};
use crate::leaves::verified;

const ROOT: &str = "connect-root";
const INTERMEDIATE: &str = "connect-inter";

/// What a leader does when it is elected; returns the intermediate in PEM.
async fn election(consul: &Vault) -> String {
    // Set-up: a mount that answers 404 would be made.
    let own = consul.get(&format!("{INTERMEDIATE}/ca/pem")).await;
    assert_eq!(own.status, 200, "{own:?}");
    let tune = json!({ "max_lease_ttl": "8760h", "type": "pki" });
    let tuned = consul
        .post(&format!("sys/mounts/{INTERMEDIATE}/tune"), tune)
        .await;
    assert_eq!(tuned.status, 204, "{tuned:?}");
    let role = json!({
        "allow_any_name": true, "allowed_uri_sans": "spiffe://*", "key_type": "any",
        "max_ttl": "72h0m0s", "no_store": true, "require_cn": false,
    });
    let role = consul
        .put(&format!("{INTERMEDIATE}/roles/leaf-cert"), role)
        .await;
    assert_eq!(role.status, 200, "{role:?}");
    let tidy = json!({ "enabled": true, "tidy_expired_issuers": true });
    assert_eq!(
        consul
            .put(&format!("{INTERMEDIATE}/config/auto-tidy"), tidy)
            .await
            .status,
        200
    );
    // The root, which is there.
    let root = consul.get(&format!("{ROOT}/ca/pem")).await;
    let chain = consul.get(&format!("{ROOT}/ca_chain")).await;
    assert_eq!((root.status, chain.status), (200, 200));
    let first = parse_pem_chain(chain.text.as_bytes()).unwrap().remove(0);
    assert_eq!(first, parse_pem_chain(root.text.as_bytes()).unwrap()[0]);
    // The intermediate.
    let body = json!({
        "common_name": "pri-abc.vault.ca.cluster.local", "key_type": "ec", "key_bits": 256,
        "uri_sans": format!("spiffe://{TD}"),
    });
    let path = format!("{INTERMEDIATE}/intermediate/generate/internal");
    let generated = consul.put(&path, body).await.data();
    assert!(!text(&generated, "key_id").is_empty());
    let body = json!({
        "csr": text(&generated, "csr"), "use_csr_values": true, "format": "pem_bundle",
        "ttl": "8760h0m0s",
    });
    let signed = consul
        .put(&format!("{ROOT}/root/sign-intermediate"), body)
        .await
        .data();
    let intermediate = text(&signed, "certificate").to_owned();
    let body = json!({ "certificate": intermediate });
    let set = consul
        .put(&format!("{INTERMEDIATE}/intermediate/set-signed"), body)
        .await;
    assert_eq!((set.status, set.text.as_str()), (204, ""));
    intermediate
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_of_a_leader_make_one_issuer() {
    let world = VaultServer::start().await;
    let role = json!({ "role_id": "admin", "secret_id": world.setup.operator });
    let consul = world.client.login("approle", role).await;
    // Its watcher of the token.
    let lookup = consul.get("auth/token/lookup-self").await.data();
    assert!(
        lookup["renewable"].is_boolean() && lookup["ttl"].is_u64(),
        "{lookup}"
    );
    let renewed = consul
        .put("auth/token/renew-self", json!({ "increment": 3600 }))
        .await
        .json();
    assert!(renewed["auth"]["lease_duration"].as_u64().unwrap() > 0);

    let issuers = || world.setup.cli(&["ca", "list", "-o", "json"]);
    let (before, keys) = (issuers(), world.setup.certificates(&["--kind", "ca"]).len());
    let first = election(&consul).await;
    for _ in 1..rounds(50, 500) {
        assert_eq!(election(&consul).await, first);
    }
    assert_eq!(issuers(), before);
    assert_eq!(world.setup.certificates(&["--kind", "ca"]).len(), keys);
    // One request for the key was made, and it is on record.
    assert_eq!(world.setup.certificates(&["--kind", "request"]).len(), 1);

    // A leaf: its issuer is what `ca/pem` shows, below the root.
    let body = json!({ "csr": KeyAndCsr::workload("default", "web").pem, "ttl": "72h0m0s" });
    let data = consul
        .put(&format!("{INTERMEDIATE}/sign/leaf-cert"), body)
        .await
        .data();
    let leaf = verified(&data);
    assert_eq!(leaf.names()[0].to_string(), id("default", "web"));
    assert_eq!(
        parse_pem_chain(text(&data, "certificate").as_bytes())
            .unwrap()
            .len(),
        1
    );
    let own = consul.get(&format!("{INTERMEDIATE}/ca/pem")).await.text;
    let own = parse_pem_chain(own.as_bytes()).unwrap().remove(0);
    assert_eq!(leaf.authority_key_id(), own.subject_key_id());
    assert_eq!(own, parse_pem_chain(first.as_bytes()).unwrap()[0]);
    let root = consul.get(&format!("{ROOT}/ca/pem")).await.text;
    let root = parse_pem_chain(root.as_bytes()).unwrap().remove(0);
    own.verify_signed_by(root.public_key()).unwrap();

    rotation(&world, &consul).await;
    // The key is where it was.
    let body = json!({ "csr": KeyAndCsr::workload("default", "web").pem });
    verified(
        &consul
            .put(&format!("{INTERMEDIATE}/sign/leaf-cert"), body)
            .await
            .data(),
    );
    world.server.stop().await;
}

/// Consul leaves: it asks for a cross-signature, then removes its mounts, issuers and keys.
async fn rotation(world: &VaultServer, consul: &Vault) {
    let root = world.setup.roots(TD);
    let body = json!({ "certificate": root });
    let answer = consul
        .put(&format!("{ROOT}/root/sign-self-issued"), body)
        .await;
    assert!(answer.error(400).contains("ForceWithoutCrossSigning"));
    for path in ["key/default", "issuer/default"] {
        let answer = consul.delete(&format!("{INTERMEDIATE}/{path}")).await;
        assert!(
            answer.warnings().contains("nothing is deleted"),
            "{answer:?}"
        );
    }
    for mount in [ROOT, INTERMEDIATE] {
        assert_eq!(
            consul.delete(&format!("sys/mounts/{mount}")).await.status,
            204
        );
    }
    world
        .server
        .wait_for_log("a client asked to remove a mount: it stays")
        .await;
    let missing = consul
        .post("sys/mounts/another", json!({ "type": "pki" }))
        .await;
    assert!(missing.error(400).contains("[vault.mount.another]"));
    assert_eq!(consul.get("another/ca/pem").await.status, 404);
    let generate = consul
        .put(&format!("{ROOT}/root/generate/internal"), json!({}))
        .await;
    assert!(generate.error(400).contains("`rootbridge ca init`"));
}

/// Before the operator's ceremony: an engine without a CA, which is what 204 says.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_without_a_ca_is_not_initialised() {
    let setup = crate::harness::configured();
    setup.edit(
        "[vault.mount.connect-inter]\n",
        "[vault.mount.empty]\nauthority = \"empty.example\"\n\n[vault.mount.connect-inter]\n",
    );
    let world = VaultServer::of(setup).await;
    for path in ["empty/ca/pem", "empty/ca_chain", "empty/ca"] {
        let answer = world.client.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}");
    }
    let health: Value = world.client.get("sys/health").await.json();
    assert_eq!(health["sealed"], false);
    for name in [
        "initialized",
        "sealed",
        "standby",
        "performance_standby",
        "replication_performance_mode",
        "replication_dr_mode",
        "server_time_utc",
        "version",
        "cluster_name",
        "cluster_id",
    ] {
        assert!(!health[name].is_null(), "{name}");
    }
    world.server.stop().await;
}
