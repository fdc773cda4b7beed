//! What clients get while the HSM is away or has no room, and tokens whose time is over.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer, configured};
use crate::leaves::verified;

/// How long a request waits for room.
const WAIT: Duration = Duration::from_secs(3);

fn csr() -> Value {
    json!({ "csr": KeyAndCsr::workload("shop", "cart").pem })
}

async fn signs_again(client: &Vault) {
    let mut data = Value::Null;
    eventually(PATIENCE, "it signs again", async || {
        let answer = client.put("pki/sign/any", csr()).await;
        if answer.status == 200 {
            data = answer.data();
        }
        !data.is_null()
    })
    .await;
    assert_eq!(verified(&data).names()[0].to_string(), id("shop", "cart"));
}

/// 503 in Vault's form, the health of a sealed Vault, and all that needs no key answers on.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_hsm_is_away_clients_are_told_to_come_back() {
    let setup = configured();
    let command = setup.use_faulty_module();
    let world = VaultServer::of(setup).await;
    let workload = world.workload("shop", "cart").await;
    signs_again(&workload).await;
    command("sign_rv 48\ninit_rv 48\nopen_rv 48\nlogin_rv 48\n"); // CKR_DEVICE_ERROR
    let answer = workload.put("pki/sign/any", csr()).await;
    let error = answer.error(503);
    assert!(error.contains("[request "), "{error}");
    eventually(PATIENCE, "a sealed Vault", async || {
        world.client.get("sys/health").await.status == 503
    })
    .await;
    let health = world.client.get("sys/health").await;
    assert_eq!(health.json()["sealed"], true, "{health:?}");
    let asked = world.client.get("sys/health?sealedcode=299").await;
    assert_eq!(asked.status, 299, "{asked:?}");
    let status = world.client.get("sys/seal-status").await;
    assert_eq!(
        (status.status, &status.json()["sealed"]),
        (200, &json!(true))
    );
    let again = world.workload("shop", "other").await;
    assert_eq!(again.get("auth/token/lookup-self").await.status, 200);
    command("");
    signs_again(&workload).await;
    eventually(PATIENCE, "an unsealed Vault", async || {
        world.client.get("sys/health").await.status == 200
    })
    .await;
    world.server.stop().await;
}

/// A full queue is waited for, and then 503 lets clients try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for_and_then_503() {
    let setup: TestServer = configured();
    for (from, to) in [
        ("workers = 2\nqueue = 256", "workers = 1\nqueue = 3"),
        ("probe_interval = \"500ms\"", "probe_interval = \"1h\""),
        ("deadline = \"5s\"", "deadline = \"50s\""),
    ] {
        setup.edit(from, to);
    }
    setup.lift_limits();
    let command = setup.use_faulty_module();
    let world = VaultServer::of(setup).await;
    let workload = world.workload("shop", "cart").await;
    signs_again(&workload).await;
    command("sign_ms 600000\n");
    let calls = (0..8).map(|_| {
        let client = workload.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            (client.put("pki/sign/any", csr()).await, began.elapsed())
        })
    });
    // One is being signed and some wait. The first to be answered is one for which there was no room.
    let (first, _, others) = select_all(calls).await;
    let (answer, took) = first.unwrap();
    let error = answer.error(503);
    assert!(took >= WAIT, "{took:?}: {error}");
    assert!(answer.retry_after.is_some(), "{error}");
    command("");
    let statuses = join_all(others).await;
    let statuses: Vec<u16> = statuses
        .into_iter()
        .map(|each| each.unwrap().0.status)
        .collect();
    assert!(
        statuses.contains(&200),
        "what waited is signed: {statuses:?}"
    );
    let known = statuses.iter().all(|status| [200, 503].contains(status));
    assert!(known, "{statuses:?}");
    signs_again(&workload).await;
    world.server.stop().await;
}

/// A token ends when its time is over, and a renewal ends with the longest life.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time() {
    let setup = configured();
    let clock = FakeClock::new(&setup, "+0");
    let server = setup.start_with(clock.serve(&setup)).await;
    server.ready().await;
    let client = Vault::connect(&setup, &server, None).await;
    let role = json!({ "role_id": "admin", "secret_id": setup.operator });
    let session = client.login("approle", role).await;
    clock.move_to("+50m").await;
    assert_eq!(session.get("auth/token/lookup-self").await.status, 200);
    let renewed = session.put("auth/token/renew-self", json!({})).await;
    assert_eq!(
        renewed.json()["auth"]["lease_duration"],
        3600,
        "{renewed:?}"
    );
    clock.move_to("+100m").await;
    assert_eq!(session.get("auth/token/lookup-self").await.status, 200);
    clock.move_to("+120m").await;
    for path in ["auth/token/lookup-self", "pki/roles/web"] {
        assert_eq!(session.get(path).await.error(403), "permission denied");
    }
    let late = session.put("auth/token/renew-self", json!({})).await;
    assert_eq!(late.error(403), "permission denied");
    server.wait_for_log("has expired or is revoked").await;
    server.stop().await;
}
