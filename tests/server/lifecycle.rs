//! From start to end: no authority yet, SIGHUP, SIGTERM.

use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::Code;

use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::grpc::{refusal, sign_request};
use rootbridge_test_support::jwk::{JwtKey, jwks};
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{Client, PATIENCE, TD, TestServer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_an_authority_waits_for_one() {
    let setup = TestServer::bare();
    let server = setup.start().await;
    server
        .wait_for_log("no authority yet: run `rootbridge ca init`")
        .await;
    eventually(PATIENCE, "the reason", async || {
        server.get("/readyz").await.1.contains("rootbridge ca init")
    })
    .await;
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(server.get("/livez").await.0, 200);
    setup.init(TD, &[]);
    server.ready().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_policy_and_callers_or_changes_nothing() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let ask = async || {
        client
            .sign(&setup.operator, sign_request(&csr, "gold", &[]))
            .await
    };
    refusal(ask().await, Code::PermissionDenied);

    // Invalid: logged, and the old configuration stays active.
    let good = std::fs::read_to_string(setup.config()).unwrap();
    for (wrong, why) in [
        (
            good.replace(
                "\"workload\", \"short\", \"ignore\"",
                "\"workload\", \"nosuch\"",
            ),
            "nosuch",
        ),
        (good.replace("[policy", "[polcy"), "polcy"),
        ("nonsense".to_owned(), "rootbridge.toml"),
    ] {
        std::fs::write(setup.config(), wrong).unwrap();
        let before = server
            .log()
            .matches("the old configuration stays active")
            .count();
        server.signal(Signal::SIGHUP);
        eventually(PATIENCE, why, async || {
            let log = server.log();
            log.matches("the old configuration stays active").count() > before && log.contains(why)
        })
        .await;
        refusal(ask().await, Code::PermissionDenied);
        client
            .sign(&setup.operator, sign_request(&csr, "workload", &[]))
            .await
            .unwrap();
    }
    std::fs::write(setup.config(), &good).unwrap();
    setup.edit(
        "\"workload\", \"short\", \"ignore\"",
        "\"workload\", \"gold\"",
    );
    setup.edit(
        "operators = [\"admin\"]",
        "operators = [\"admin\", \"other\"]",
    );
    setup.edit("max_ttl = \"90d\"", "max_ttl = \"30d\"");
    server.signal(Signal::SIGHUP);
    server.wait_for_log("configuration reloaded").await;
    ask().await.unwrap();
    let token = setup.issuer.istio("foo", "bar");
    refusal(
        client.istio_for(&token, &csr, 31 * 86_400).await,
        Code::InvalidArgument,
    );
    // On this very connection another operator is known now, though no rule names him.
    refusal(
        client
            .sign(&setup.other_operator, sign_request(&csr, "workload", &[]))
            .await,
        Code::PermissionDenied,
    );
    // A caller that is removed from the list is refused at the next call.
    setup.edit("jwt = [\"cluster\", \"people\"]", "jwt = [\"people\"]");
    server.signal(Signal::SIGHUP);
    eventually(PATIENCE, "no JWT of the cluster", async || {
        client
            .istio(&token, &csr)
            .await
            .is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    // What needs a restart is logged each time, whatever of a section it is. An API that is withdrawn
    // is still served until then, and a certificate that is to be taken is not asked for.
    let listeners = || server.log().matches("\"section\":\"listeners\"").count();
    assert_eq!(listeners(), 0, "no restart was needed until now");
    let certificates = format!(
        "client_certificates = {{ trust_domains = [\"{TD}\"], reauthenticate_after = \"30d\" }}\n"
    );
    for (n, (from, to)) in [
        ("apis = [\"istio\", ", "apis = ["),
        (certificates.as_str(), ""),
    ]
    .into_iter()
    .enumerate()
    {
        let before = std::fs::read_to_string(setup.config()).unwrap();
        let after = before.replace(from, to);
        assert_ne!(before, after);
        std::fs::write(setup.config(), after).unwrap();
        server.signal(Signal::SIGHUP);
        eventually(PATIENCE, from, async || listeners() > n).await;
        std::fs::write(setup.config(), before).unwrap();
    }
    setup.edit("workers = 2", "workers = 3");
    for n in 1..3 {
        server.signal(Signal::SIGHUP);
        eventually(PATIENCE, "a restart is needed", async || {
            server.log().matches("\"section\":\"hsm\"").count() >= n
        })
        .await;
    }
    server.stop().await;
}

/// Another key set, whether the same file holds it or another: tokens that the old keys signed are
/// refused, those of the new are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_to_another_key_set_ends_the_old_keys() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let before = setup.issuer.istio("foo", "bar");
    client.istio(&before, &csr).await.unwrap();

    let next = JwtKey::p256("next");
    let file = setup.path("next.json");
    std::fs::write(&file, jwks(&[&next])).unwrap();
    let after = next.token(&claims("foo", "bar", "istio-ca"));
    refusal(client.istio(&after, &csr).await, Code::Unauthenticated);
    setup.edit(
        &format!("jwks_file = \"{}\"", setup.path("jwks.json").display()),
        &format!("jwks_file = \"{}\"", file.display()),
    );
    server.signal(Signal::SIGHUP);
    server.wait_for_log("configuration reloaded").await;
    // On the same connection, and while the old file is still there.
    client.istio(&after, &csr).await.unwrap();
    refusal(client.istio(&before, &csr).await, Code::Unauthenticated);
    server.stop().await;
}

/// SIGTERM: calls in flight end, answered or not, and are on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_leaves_nothing_open() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    for round in 0..3 {
        let mut server = setup.serve().await;
        let client = server.client(TD).await;
        let token = setup.issuer.istio("foo", "bar");
        let csr = std::sync::Arc::new(KeyAndCsr::workload("foo", "bar"));
        let calls: Vec<_> = (0..16)
            .map(|_| tokio::spawn(until_it_ends(client.clone(), token.clone(), csr.clone())))
            .collect();
        // The moment is what is tried: wherever the calls have come to.
        tokio::time::sleep(Duration::from_millis(300 + round * 217)).await;
        server.signal(Signal::SIGTERM);
        let status = server.wait_exit(PATIENCE).await;
        assert!(status.success());
        let log = server.log();
        assert!(!log.contains("still open at the end"), "{log}");
        let mut answered = 0;
        for call in calls {
            answered += call.await.unwrap();
        }
        assert!(answered > 0);
        let states = setup.certificates(&["--state", "pending"]);
        assert!(states.is_empty(), "{states:#?}");
    }
    let unknown = setup.certificates(&["--state", "unknown"]);
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// How many calls were answered before the server was gone.
async fn until_it_ends(client: Client, token: String, csr: std::sync::Arc<KeyAndCsr>) -> u32 {
    let mut answered = 0;
    loop {
        match client.istio(&token, &csr).await {
            Ok(chain) => assert_eq!(chain.names(), [id("foo", "bar")]),
            Err(_) => return answered,
        }
        answered += 1;
    }
}

/// Health changes before the exit, and its watchers do not delay it.
#[tokio::test(flavor = "multi_thread")]
async fn health_by_service() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let setup = TestServer::new();
    let server = setup.serve().await;
    let mut health = HealthClient::new(server.client(TD).await.0);
    let check = async |health: &mut HealthClient<_>, service: &str| {
        let service = service.to_owned();
        health
            .check(HealthCheckRequest { service })
            .await
            .map(|answer| answer.into_inner().status())
    };
    for service in [
        "istio.v1.auth.IstioCertificateService",
        "rootbridge.v1.CertificateService",
        "rootbridge.v1.TrustBundleService",
        "",
    ] {
        eventually(PATIENCE, service, async || {
            check(&mut health, service).await.unwrap() == ServingStatus::Serving
        })
        .await;
    }
    assert_eq!(
        check(&mut health, "other").await.unwrap_err().code(),
        Code::NotFound
    );
    let service = "rootbridge.v1.CertificateService".to_owned();
    let mut watch = health
        .watch(HealthCheckRequest { service })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let last = tokio::spawn(async move {
        let mut last = None;
        while let Ok(Some(status)) = watch.message().await {
            last = Some(status.status());
        }
        last
    });
    server.stop_in_order().await;
    assert_eq!(last.await.unwrap(), Some(ServingStatus::NotServing));
}
